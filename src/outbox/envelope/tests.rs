//! An event against the contract: fields, ids, bytes, and what a level hides.

use serde_json::Value;
use serde_json::json;
use uuid::Uuid;

use super::About;
use super::event;
use super::event_id;
use crate::care::change::Cause;
use crate::care::change::CauseKind;
use crate::care::change::Change;
use crate::care::change::EventType;
use crate::care::change::RoomNotice;
use crate::care::change::RoomNoticeCode;
use crate::care::fact::Confidentiality;
use crate::care::room::RoomStatus;
use crate::care::room::ShownLocation;
use crate::ids::CareRoomId;
use crate::ids::JournalId;
use crate::ids::TriggerEvent;
use crate::ids::UserId;
use crate::outbox::sample;
use crate::phi::Phi;

fn cause() -> Cause {
    Cause {
        kind: CauseKind::Message,
        message: Some(JournalId(1_864_243_802_123_456_789)),
        trigger: TriggerEvent::parse("A01"),
        feed: Some("main".into()),
    }
}

fn about<'a>(cause: &'a Cause, changes: &'a [Change]) -> About<'a> {
    About {
        changes,
        event_type: EventType::Opened,
        cause,
        notify: true,
        notices: &[],
        source: "wardroom/main",
        time: sample::at("2026-11-21T14:30:02.123Z"),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    }
}

fn parsed(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

#[test]
fn an_event_has_the_fields_of_the_contract() {
    let changes = [Change::Status { from: None, to: RoomStatus::Active }, Change::Joined { user: UserId::from("lgarcia"), rule: "attending".into() }];
    let room = sample::room();
    let event = event(&room, &about(&cause(), &changes));
    let expected = r#"{
        "specversion": "1.0", "id": "<event>", "source": "wardroom/main", "type": "room.opened", "subject": "<room>",
        "time": "2026-11-21T14:30:02.123Z", "datacontenttype": "application/json", "dataschema": "urn:wardroom:schema:room-event:1",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "data": {
            "version": 1, "epoch": 1,
            "cause": {"kind": "message", "message": "1864243802123456789", "trigger": "A01", "feed": "main"},
            "changes": [{"kind": "status", "from": null, "to": "active"}, {"kind": "joined", "user": "lgarcia", "rule": "attending"}],
            "room": {
                "id": "<room>", "version": 1, "status": "active", "name": "4N 12-A KXQT", "confidentiality": "normal",
                "writable": true, "notify": true, "coverage": "full", "flags": ["pending_transfer"], "whereabouts": null,
                "facility": "GHH",
                "location": {"facility": "GHH", "point_of_care": "4N", "unit_name": "4 North", "room": "12", "bed": "A"},
                "patient": {"id": {"authority": "GHH", "type": "MR", "value": "0012345"}, "display": "SMITH, Jane Ann", "family": "SMITH",
                            "given": "JANE", "middle": "ANN", "birth_date": "1980-01-31", "sex": "F"},
                "visit": {"id": {"authority": "GHH", "type": "VN", "value": "V1001"}, "class": "I", "service": "CAR",
                          "admitted_at": "2026-11-21T14:00:00Z", "discharged_at": null},
                "members": [{"user": "lgarcia", "permission": "owner", "roles": ["attending"],
                             "grounds": [{"rule": "attending", "from": "PV1-7", "message": "7", "since": "2026-11-21T14:00:00Z", "until": null}]},
                            {"user": "nurse.4n.1", "permission": "member", "roles": ["unit"], "grounds": []}],
                "unresolved": [{"role": "consulting", "from": "PV1-9", "ids": [{"authority": "GHH", "type": "EI", "value": "D999"}],
                                "family": "LOW", "given": null}],
                "merged_into": null, "continues": null, "closes_at": null},
            "notices": []}
    }"#;
    let expected: Value = serde_json::from_str(&expected.replace("<room>", &room.id.to_string()).replace("<event>", &event.id.to_string())).unwrap();
    assert_eq!(parsed(&event.body), expected);
    assert!(!event.body.contains(&b'\n'));
}

#[test]
fn the_same_change_has_the_same_id_and_the_same_bytes() {
    let room = sample::room();
    assert_eq!(event(&room, &about(&cause(), &[])), event(&room, &about(&cause(), &[])));
    // Never to change: consumers have seen such ids.
    let id = event_id(CareRoomId(Uuid::from_u128(1)), 1, 1);
    assert_eq!(id.get_version_num(), 5);
    assert_eq!(id.to_string(), "dcf8d9d8-0cd8-576c-ad0a-6d88a9de6346");
    for other in [
        event_id(CareRoomId(Uuid::from_u128(2)), 1, 1),
        event_id(CareRoomId(Uuid::from_u128(1)), 2, 1),
        event_id(CareRoomId(Uuid::from_u128(1)), 1, 2),
    ] {
        assert_ne!(id, other);
    }
}

#[test]
fn a_trace_that_is_not_there_is_no_attribute() {
    let event = event(&sample::room(), &About { traceparent: None, ..about(&cause(), &[]) });
    assert_eq!(parsed(&event.body).get("traceparent"), None);
}

#[test]
fn members_are_sorted_by_user_whatever_comes() {
    let mut room = sample::room();
    room.state.members.reverse();
    assert_eq!(event(&room, &about(&cause(), &[])), event(&sample::room(), &about(&cause(), &[])));
}

#[test]
fn a_change_does_not_tell_what_the_level_hides_now() {
    let mut room = sample::room();
    let before = room.state.location.take().map(Box::new);
    room.state.confidentiality = Confidentiality::VeryRestricted;
    let changes = [
        Change::Location { from: before, to: None },
        Change::Name { from: Some(Phi::from("4N 12-A KXQT")), to: Phi::from("KXQT") },
        Change::Confidentiality { from: Confidentiality::Normal, to: Confidentiality::VeryRestricted },
    ];
    room.state.name = Phi::from("KXQT");
    let body = parsed(&event(&room, &about(&cause(), &changes)).body);
    assert_eq!(
        body["data"]["changes"],
        json!([
            {"kind": "location", "from": null, "to": null},
            {"kind": "name", "from": null, "to": "KXQT"},
            {"kind": "confidentiality", "from": "normal", "to": "very_restricted"},
        ])
    );
    assert!(!body.to_string().contains("4N 12-A"));
}

#[test]
fn a_move_tells_both_places() {
    let room = sample::room();
    let now = room.state.location.clone().map(Box::new);
    let before = room.state.location.clone().map(|shown| Box::new(ShownLocation { unit_name: None, ..shown }));
    let changes = [Change::Location { from: before, to: now }];
    let body = parsed(&event(&room, &about(&cause(), &changes)).body);
    assert_eq!(body["data"]["changes"][0]["from"]["bed"], "A");
    assert_eq!(body["data"]["changes"][0]["to"]["unit_name"], "4 North");
}

#[test]
fn a_notice_has_a_code_and_parameters() {
    let mut notice = RoomNotice::of(RoomNoticeCode::PossibleDuplicate);
    notice.parameters.insert("room", Phi::from("other"));
    let body = parsed(&event(&sample::room(), &About { notices: &[notice], ..about(&cause(), &[]) }).body);
    assert_eq!(body["data"]["notices"], json!([{"code": "possible_duplicate", "parameters": {"room": "other"}}]));
}

#[test]
fn nothing_of_the_body_is_shown_for_debugging() {
    let event = event(&sample::room(), &about(&cause(), &[]));
    assert!(!format!("{event:?}").contains("SMITH"));
}
