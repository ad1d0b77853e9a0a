//! The envelope: a change of a room as one CloudEvents 1.0 JSON object (structured mode).
//!
//! What stands in a [`RoomState`] is rendered as it is: the level's rules of display were applied when it was planned. The one thing decided here
//! is that a change never tells what stood before when the level hides it now. An event is serialised once, to bytes, and those bytes are what is
//! stored, published and published again. Nothing here is logged.
//!
//! [`RoomState`]: crate::care::room::RoomState

use serde::Serialize;
use uuid::Uuid;

use crate::care::change::Cause;
use crate::care::change::Change;
use crate::care::change::EventType;
use crate::care::change::RoomNotice;
use crate::care::room::CareRoom;
use crate::ids::CareRoomId;
use crate::ids::Facility;
use crate::outbox::form::CauseForm;
use crate::outbox::form::ChangeForm;
use crate::outbox::form::NoticeForm;
use crate::outbox::form::RoomForm;
use crate::outbox::form::Utc;
use crate::time::Timestamp;

/// The content type of an event in structured mode.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

/// The name of the schema of `data`, version 1.
pub const DATA_SCHEMA: &str = "urn:wardroom:schema:room-event:1";

/// How long a usual event is; only how much memory is taken at first.
const USUAL_BYTES: usize = 4096;

/// The namespace of event ids (RFC 9562 §5.5). It never changes: an event that is rendered again must have the same id.
const EVENT_NAMESPACE: Uuid = Uuid::from_u128(0x0f6e_1c1d_64a4_4d0e_9a3b_3d6f_2b0e_71c5);

/// An event, ready for the outbox.
#[derive(Clone, Eq, PartialEq)]
pub struct Event {
    /// Made from room id, epoch and version: the same change has the same id.
    pub id: Uuid,
    /// The kind.
    pub event_type: EventType,
    /// The room.
    pub room_id: CareRoomId,
    /// Its version with this event.
    pub room_version: u64,
    /// The facility; may be empty.
    pub facility: Facility,
    /// When the change was made.
    pub time: Timestamp,
    /// The W3C trace context of what caused it.
    pub traceparent: Option<String>,
    /// The event as JSON, one line without its end. PHI.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Event")
            .field("id", &self.id)
            .field("event_type", &self.event_type)
            .field("room_version", &self.room_version)
            .finish_non_exhaustive()
    }
}

/// The id of the event that took a room to this version.
pub fn event_id(room: CareRoomId, epoch: u32, version: u64) -> Uuid {
    let mut name = [0_u8; 28];
    for (slot, byte) in name.iter_mut().zip(room.0.into_bytes().into_iter().chain(epoch.to_be_bytes()).chain(version.to_be_bytes())) {
        *slot = byte;
    }
    Uuid::new_v5(&EVENT_NAMESPACE, &name)
}

/// What an event says besides the room.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// What changed.
    pub changes: &'a [Change],
    /// The kind of the event.
    pub event_type: EventType,
    /// What caused it.
    pub cause: &'a Cause,
    /// Whether people should be told; not for catch-up and initial load.
    pub notify: bool,
    /// What to say in the room.
    pub notices: &'a [RoomNotice],
    /// `wardroom/` and the feed, or `wardroom/main` where no feed caused it.
    pub source: &'a str,
    /// When the change was made.
    pub time: Timestamp,
    /// The W3C trace context of what caused it.
    pub traceparent: Option<&'a str>,
}

/// The event that takes the backend to this state of the room.
///
/// # Panics
/// Never: what is serialised always has a JSON form.
pub fn event(room: &CareRoom, about: &About<'_>) -> Event {
    let id = event_id(room.id, room.epoch, room.version);
    let form = RoomEvent {
        specversion: "1.0",
        id,
        source: about.source,
        event_type: about.event_type.as_str(),
        subject: room.id.0,
        time: Utc(about.time),
        datacontenttype: "application/json",
        dataschema: DATA_SCHEMA,
        traceparent: about.traceparent,
        data: EventData {
            version: room.version,
            epoch: room.epoch,
            cause: CauseForm::of(about.cause),
            changes: about.changes.iter().map(|change| ChangeForm::of(change, &room.state)).collect(),
            room: RoomForm::of(room, about.notify),
            notices: about.notices.iter().map(NoticeForm::of).collect(),
        },
    };
    let mut body = Vec::with_capacity(USUAL_BYTES);
    #[expect(clippy::expect_used, reason = "every key is a string and no serializer of ours fails, so JSON always has a form for it")]
    serde_json::to_writer(&mut body, &form).expect("an event has a JSON form");
    Event {
        id,
        event_type: about.event_type,
        room_id: room.id,
        room_version: room.version,
        facility: room.state.facility.clone(),
        time: about.time,
        traceparent: about.traceparent.map(ToOwned::to_owned),
        body,
    }
}

/// A room as an event would show it, as JSON.
///
/// # Panics
/// Never, as [`event`].
pub fn room_json(room: &CareRoom) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "every key is a string and no serializer of ours fails, so JSON always has a form for it")]
    serde_json::to_vec(&RoomForm::of(room, true)).expect("a room has a JSON form")
}

/// One change of a care room, as a CloudEvents 1.0 object in structured mode. Delivery is at least once: a repeated event has the same `id` and the
/// same bytes.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(rename = "RoomEvent")]
pub(crate) struct RoomEvent<'a> {
    /// The version of CloudEvents.
    #[schemars(extend("const" = "1.0"))]
    specversion: &'a str,
    /// Made from room id, epoch and version.
    id: Uuid,
    /// `wardroom/` and the feed that caused it.
    #[schemars(extend("format" = "uri-reference"))]
    source: &'a str,
    /// The kind of event; over AMQP also the routing key.
    #[serde(rename = "type")]
    #[schemars(schema_with = "event_types")]
    event_type: &'a str,
    /// The room's id.
    subject: Uuid,
    /// When the change was made.
    time: Utc,
    /// The content type of `data`.
    #[schemars(extend("const" = "application/json"))]
    datacontenttype: &'a str,
    /// The name and version of this schema.
    #[schemars(extend("const" = DATA_SCHEMA))]
    dataschema: &'a str,
    /// The W3C trace context of what caused the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    /// What changed, why, and the whole room after the change.
    data: EventData<'a>,
}

/// What changed, why, and the whole room after the change.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(rename = "RoomEventData")]
pub(crate) struct EventData<'a> {
    /// Counts what was published of the room: 1, 2, 3, …
    #[schemars(range(min = 1))]
    version: u64,
    /// Grows when an operator says that the store was restored from a backup. Consumers compare (epoch, version).
    #[schemars(range(min = 1))]
    epoch: u32,
    /// What caused the change.
    cause: CauseForm<'a>,
    /// What changed since the version before. A hint for what to say; `room` is what counts.
    changes: Vec<ChangeForm<'a>>,
    /// The whole room after the change.
    room: RoomForm<'a>,
    /// Things to say in the room.
    notices: Vec<NoticeForm<'a>>,
}

fn event_types(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let words: Vec<&str> = EventType::ALL.iter().map(|event_type| event_type.as_str()).collect();
    schemars::json_schema!({ "type": "string", "enum": words })
}

#[cfg(test)]
mod tests;
