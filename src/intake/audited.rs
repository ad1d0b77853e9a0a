//! What the audit trail keeps of a change of a room: what kind it was, what caused it, and who was in the room after it, on what and until when.
//!
//! It names nobody but members, and nothing of the patient. Rows are chained and sealed by the store.

use serde::Serialize;

use crate::care::change::Cause;
use crate::care::change::EventType;
use crate::care::room::CareRoom;
use crate::care::room::Permission;
use crate::ids::FeedName;
use crate::ids::TriggerEvent;
use crate::store::sealing::Document;
use crate::time::Timestamp;

/// What an audit row tells of a change of a room, sealed.
#[derive(Serialize)]
struct AuditBody<'a> {
    event_type: &'a str,
    cause: &'a str,
    trigger: Option<&'a str>,
    feed: Option<&'a str>,
    /// Who is in the room after it, and on what.
    members: Vec<(&'a str, Vec<&'a str>)>,
    /// Of what they are in it on, that which has an end: who, on what, and until when, in microseconds since 1970.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ends: Vec<(&'a str, &'a str, Timestamp)>,
    /// Who may do more or less than a member. Rows that an older program wrote do not have it.
    permissions: Vec<(&'a str, Permission)>,
}

/// What an audit row tells of a change of a room.
pub(super) fn audited(event_type: EventType, cause: &Cause, room: &CareRoom) -> Document {
    let members = room.state.members.iter().map(|member| {
        let grounds = member.grounds.iter().map(|ground| ground.from.as_str()).collect();
        (member.user.as_str(), grounds)
    });
    let members_now = || room.state.members.iter();
    let ends =
        members_now().flat_map(|member| member.grounds.iter().filter_map(|ground| Some((member.user.as_str(), ground.from.as_str(), ground.until?))));
    let permissions = members_now().filter(|member| member.permission != Permission::Member).map(|member| (member.user.as_str(), member.permission));
    let body = AuditBody {
        event_type: event_type.as_str(),
        cause: cause.kind.as_str(),
        trigger: cause.trigger.as_ref().map(TriggerEvent::as_str),
        feed: cause.feed.as_ref().map(FeedName::as_str),
        members: members.collect(),
        ends: ends.collect(),
        permissions: permissions.collect(),
    };
    Document::new(1, serde_json::to_vec(&body).unwrap_or_default())
}
