//! The schemas under `schemas/`: fresh, valid, and true of what is published.
//!
//! `WARDROOM_BLESS=1` writes them anew.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use uuid::Uuid;
use wardroom::care::change::Cause;
use wardroom::care::change::CauseKind;
use wardroom::care::change::Change;
use wardroom::care::change::EventType;
use wardroom::care::change::RoomNotice;
use wardroom::care::change::RoomNoticeCode;
use wardroom::care::fact::BedLocation;
use wardroom::care::fact::Confidentiality;
use wardroom::care::fact::FieldRef;
use wardroom::care::fact::PersonName;
use wardroom::care::room::CareRoom;
use wardroom::care::room::Coverage;
use wardroom::care::room::Flag;
use wardroom::care::room::Ground;
use wardroom::care::room::Member;
use wardroom::care::room::Permission;
use wardroom::care::room::RoomState;
use wardroom::care::room::RoomStatus;
use wardroom::care::room::ShownLocation;
use wardroom::care::room::ShownPatient;
use wardroom::care::room::ShownVisit;
use wardroom::care::room::Unresolved;
use wardroom::cli;
use wardroom::ids::CareRoomId;
use wardroom::ids::Identifier;
use wardroom::ids::JournalId;
use wardroom::ids::PatientId;
use wardroom::ids::StaffId;
use wardroom::ids::TriggerEvent;
use wardroom::ids::VisitId;
use wardroom::outbox::envelope::About;
use wardroom::outbox::envelope::event;
use wardroom::outbox::schema;
use wardroom::phi::Phi;
use wardroom::time::Timestamp;

/// Every generated file and what should stand in it.
fn generated() -> Vec<(String, String)> {
    let text = |name| cli::schema::text(&cli::schema::schema(name).unwrap()).unwrap();
    let mut files: Vec<(String, String)> = cli::schema::names().map(|name| (format!("{name}.json"), text(name))).collect();
    files.push(("asyncapi.yaml".to_owned(), schema::asyncapi()));
    files
}

#[test]
fn the_files_are_what_the_types_say() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("schemas");
    #[expect(clippy::disallowed_methods, reason = "a test's switch, no configuration")]
    let bless = std::env::var("WARDROOM_BLESS").is_ok_and(|value| value == "1");
    for (name, text) in generated() {
        let path = folder.join(&name);
        if bless {
            fs::write(&path, &text).unwrap();
        }
        let stands = fs::read_to_string(&path).unwrap_or_default();
        assert!(stands == text, "schemas/{name} is stale: run the tests with WARDROOM_BLESS=1 and look at the difference");
    }
}

#[test]
fn every_schema_is_a_valid_schema_under_its_name() {
    for name in cli::schema::names() {
        let schema = cli::schema::schema(name).unwrap();
        assert!(jsonschema::meta::is_valid(&schema), "{name}");
        assert!(schema["$id"].as_str().unwrap().starts_with("urn:wardroom:schema:"), "{name}");
    }
    assert_eq!(schema::schema("nothing"), None);
}

#[test]
fn whatever_is_published_is_valid() {
    let validator = jsonschema::options().should_validate_formats(true).build(&schema::schema("room-event").unwrap()).unwrap();
    let rooms = jsonschema::options().should_validate_formats(true).build(&schema::schema("room").unwrap()).unwrap();
    for published in [full(), bare()] {
        let errors: Vec<String> = validator.iter_errors(&published).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?} in {published}");
        assert!(rooms.is_valid(&published["data"]["room"]));
    }
}

#[test]
fn what_lacks_a_field_or_has_an_unknown_word_is_not_valid() {
    let validator = jsonschema::validator_for(&schema::schema("room-event").unwrap()).unwrap();
    for (at, value) in [
        ("/type", Value::from("room.exploded")),
        ("/specversion", Value::from("0.3")),
        ("/data/room/status", Value::from("lost")),
        ("/data/version", Value::from(0)),
        ("/data/room/members/0", Value::from("lgarcia")),
        ("/data/changes/0", serde_json::json!({"kind": "unheard_of"})),
    ] {
        let mut published = full();
        *published.pointer_mut(at).unwrap() = value;
        assert!(!validator.is_valid(&published), "{at}");
    }
    for field in ["id", "subject", "data", "time"] {
        let mut published = full();
        published.as_object_mut().unwrap().remove(field);
        assert!(!validator.is_valid(&published), "{field}");
    }
}

#[test]
fn what_is_added_later_is_valid_for_a_consumer_of_today() {
    let validator = jsonschema::validator_for(&schema::schema("room-event").unwrap()).unwrap();
    let mut published = full();
    published["data"]["room"]["added_later"] = Value::from(1);
    published["data"]["notices"][0]["code"] = Value::from("added_later");
    assert!(validator.is_valid(&published));
}

#[test]
fn asyncapi_names_every_routing_key_and_header() {
    let text = schema::asyncapi();
    for event_type in EventType::ALL {
        let key = event_type.as_str().strip_prefix("room.").unwrap();
        assert!(text.contains(&format!("- \"{key}\"")), "{key}");
    }
    for word in ["wardroom.events", "wardroom.backend", "room_id", "room_version", "facility", "traceparent"] {
        assert!(text.contains(word), "{word}");
    }
}

fn published(room: &CareRoom, changes: &[Change], cause: &Cause, notices: &[RoomNotice], traceparent: Option<&str>) -> Value {
    let time = Timestamp::from_micros(1_795_271_402_123_000);
    let about = About { changes, event_type: EventType::Rehomed, cause, notify: false, notices, source: "wardroom/main", time, traceparent };
    serde_json::from_slice(&event(room, &about).body).unwrap()
}

/// An event in which everything is said.
fn full() -> Value {
    let at = Timestamp::from_micros(1_795_271_402_000_000);
    let place = BedLocation { facility: "GHH".into(), point_of_care: "4N".into(), room: "12".into(), bed: "A".into(), building: "B".into() };
    let shown = ShownLocation { place: place.clone(), unit_name: Some("4 North".into()) };
    let name = PersonName { family: Phi::from("SMITH"), given: Phi::from("JANE"), middle: Phi::from("ANN") };
    let state = RoomState {
        status: RoomStatus::Grace,
        name: Phi::from("4N KXQT"),
        confidentiality: Confidentiality::Restricted,
        writable: true,
        coverage: Coverage::NamedOnly,
        flags: vec![Flag::OnLeave, Flag::PendingTransfer, Flag::PendingDischarge, Flag::Deceased, Flag::Employee],
        whereabouts: Some(place),
        facility: "GHH".into(),
        location: Some(shown.clone()),
        patient: ShownPatient {
            id: PatientId(Identifier::new("GHH", "MR", "0012345")),
            display: Phi::new(Some("J. S.".into())),
            name: Some(name),
            birth_date: Phi::new(Some("1980-01".into())),
            sex: Phi::new(Some("F".into())),
        },
        visit: ShownVisit {
            id: VisitId(Identifier::new("GHH", "VN", "V1001")),
            class: Some("I".into()),
            service: Some("CAR".into()),
            admitted_at: Some(at),
            discharged_at: Some(at),
        },
        members: vec![Member {
            user: "lgarcia".into(),
            permission: Permission::Owner,
            roles: vec!["attending".into()].into(),
            grounds: vec![Ground { rule: "attending".into(), from: "PV1-7".into(), message: JournalId(7), since: at, until: Some(at) }].into(),
        }],
        unresolved: vec![Unresolved {
            role: "consulting".into(),
            from: FieldRef::new("PV1-9"),
            ids: vec![StaffId::new("GHH", "EI", "D999")].into(),
            family: Phi::from("LOW"),
            given: Phi::from("KIM"),
        }],
        merged_into: Some(CareRoomId(Uuid::from_u128(2))),
        continues: Some(CareRoomId(Uuid::from_u128(3))),
        closes_at: Some(at),
        to_say: Phi::default(),
    };
    let changes = [
        Change::Status { from: Some(RoomStatus::Active), to: RoomStatus::Grace },
        Change::Location { from: Some(Box::new(shown.clone())), to: Some(Box::new(shown)) },
        Change::Name { from: Some(Phi::from("4N 12-A KXQT")), to: Phi::from("4N KXQT") },
        Change::Patient,
        Change::Class { from: Some("E".into()), to: Some("I".into()) },
        Change::Confidentiality { from: Confidentiality::Normal, to: Confidentiality::Restricted },
        Change::Visit,
        Change::Joined { user: "lgarcia".into(), rule: "attending".into() },
        Change::Left { user: "kim".into(), rule: "unit".into() },
        Change::MemberUpdated { user: "lgarcia".into() },
        Change::Merged,
        Change::Rehomed,
        Change::Unresolved,
    ];
    let cause = Cause { kind: CauseKind::Message, message: Some(JournalId(9)), trigger: TriggerEvent::parse("A44"), feed: Some("main".into()) };
    let mut notice = RoomNotice::of(RoomNoticeCode::Redisclosure);
    notice.parameters.insert("text", Phi::from("Do not pass on."));
    let room = CareRoom { id: CareRoomId(Uuid::from_u128(1)), epoch: 2, version: 17, state };
    published(&room, &changes, &cause, &[notice], Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
}

/// An event in which nothing is said that need not be.
fn bare() -> Value {
    let state = RoomState {
        status: RoomStatus::Active,
        name: Phi::from("KXQT"),
        confidentiality: Confidentiality::VeryRestricted,
        writable: false,
        coverage: Coverage::None,
        flags: Vec::new(),
        whereabouts: None,
        facility: "".into(),
        location: None,
        patient: ShownPatient {
            id: PatientId(Identifier::new("", "", "1")),
            display: Phi::new(None),
            name: None,
            birth_date: Phi::new(None),
            sex: Phi::new(None),
        },
        visit: ShownVisit { id: VisitId(Identifier::new("", "", "1")), class: None, service: None, admitted_at: None, discharged_at: None },
        members: Vec::new(),
        unresolved: Vec::new(),
        merged_into: None,
        continues: None,
        closes_at: None,
        to_say: Phi::default(),
    };
    let changes =
        [Change::Status { from: None, to: RoomStatus::Active }, Change::Location { from: None, to: None }, Change::Class { from: None, to: None }];
    let room = CareRoom { id: CareRoomId(Uuid::from_u128(1)), epoch: 1, version: 1, state };
    published(&room, &changes, &Cause::of(CauseKind::Wake), &[], None)
}
