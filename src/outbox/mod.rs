//! The outbox: from committed changes to the backend.
//!
//! A change is rendered once as a `CloudEvents` object ([`envelope`]), committed with what caused it, and carried by the [`relay`] to a
//! [`Publisher`]: JSON Lines ([`jsonl`]) or AMQP ([`amqp`]). Per room strictly in order, at least once, and done only when the publisher says that
//! what it sent has arrived. The outbox never decides what an event says, and never puts anything of its body into a log, a metric, a routing key
//! or a header.

use std::fmt;
use std::future::Future;

use bytes::Bytes;
use uuid::Uuid;

use crate::care::change::EventType;
use crate::ids::CareRoomId;
use crate::ids::Facility;
use crate::store::lease::Share;
use crate::time::Timestamp;

pub mod envelope;
pub(crate) mod form;
pub mod schema;
mod backlog;
#[cfg(test)]
pub(crate) mod sample;
mod stored;
pub mod relay;
pub mod status;
mod trace;
pub mod jsonl;
pub mod amqp;

/// An event that is committed and not yet settled.
#[derive(Clone, Eq, PartialEq)]
pub struct OutboxRow {
    /// Its place in the outbox. Of two events of one room, the later has the greater one.
    pub seq: i64,
    /// The room.
    pub room_id: CareRoomId,
    /// The room's version with this event.
    pub room_version: u64,
    /// The event's id.
    pub event_id: Uuid,
    /// The kind.
    pub event_type: EventType,
    /// The facility; may be empty.
    pub facility: Facility,
    /// The W3C trace context of what caused it.
    pub traceparent: Option<String>,
    /// When the change was made.
    pub time: Timestamp,
    /// The event as JSON, one line without its end. PHI.
    pub body: Bytes,
}

impl fmt::Debug for OutboxRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboxRow")
            .field("seq", &self.seq)
            .field("room_id", &self.room_id)
            .field("room_version", &self.room_version)
            .field("event_type", &self.event_type)
            .finish_non_exhaustive()
    }
}

/// Where committed events wait: the store.
pub trait Outbox: Send + Sync {
    /// What goes wrong in it. Its text is logged.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Asks for the share of the events that is this relay's to publish, or renews it.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn share(&self) -> impl Future<Output = Result<Share, Self::Error>> + Send;

    /// Gives the share up: another relay may do better.
    ///
    /// # Errors
    /// When the store cannot be written. The share runs out then.
    fn give_up(&self) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// The first `limit` pending events of this share, by `seq`, as one consistent view.
    ///
    /// Invariant the relay stands on: when an event of a room is in the view, so is every earlier pending event of that room.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn pending(&self, limit: usize, share: &Share) -> impl Future<Output = Result<Vec<OutboxRow>, Self::Error>> + Send;

    /// Marks events as published.
    ///
    /// # Errors
    /// When the store cannot be written; the relay tries again.
    fn settle(&self, seqs: &[i64]) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Takes an event out of the way that can never be published, for an operator to look at.
    ///
    /// # Errors
    /// When the store cannot be written; the relay tries again.
    fn park(&self, seq: i64, reason: &'static str) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// What became of one event of a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It is safe with the backend.
    Confirmed,
    /// The broker knows no queue for it. It is nowhere.
    Returned,
    /// The broker would not take it.
    Refused,
    /// No broker will ever take it; the words say why.
    Unpublishable(&'static str),
}

/// Where events go.
pub trait Publisher: Send {
    /// Sends a batch, in order, and waits until it is known what became of each event. With an empty batch it only makes itself ready: connects,
    /// opens, checks.
    ///
    /// # Errors
    /// When it is not known what became of the batch. All of it has to be sent again.
    fn publish(&mut self, batch: &[OutboxRow]) -> impl Future<Output = Result<Vec<Outcome>, PublishError>> + Send;

    /// Says goodbye. Nothing is in flight any more.
    fn close(&mut self) -> impl Future<Output = ()> + Send;
}

/// Why a batch could not be published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The file of the JSON Lines publisher.
    #[error(transparent)]
    Jsonl(#[from] jsonl::JsonlError),
    /// The broker.
    #[error(transparent)]
    Amqp(#[from] amqp::AmqpError),
}

impl PublishError {
    /// The kind, as a metric label and for readiness.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Jsonl(error) => error.kind(),
            Self::Amqp(error) => error.kind(),
        }
    }

    /// What an operator can do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Jsonl(error) => error.hint(),
            Self::Amqp(error) => error.hint(),
        }
    }

    /// Whether it may pass by itself. What is not transient is tried again all the same, since somebody may mend it.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Jsonl(_) => true,
            Self::Amqp(error) => error.is_transient(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use uuid::Uuid;

    use super::OutboxRow;
    use crate::care::change::EventType;
    use crate::ids::CareRoomId;
    use crate::ids::Facility;
    use crate::outbox::envelope::event_id;
    use crate::time::Timestamp;

    /// A row of this room (by number) and version.
    pub(crate) fn row(seq: i64, room: u128, room_version: u64) -> OutboxRow {
        let room_id = CareRoomId(Uuid::from_u128(room));
        OutboxRow {
            seq,
            room_id,
            room_version,
            event_id: event_id(room_id, 1, room_version),
            event_type: EventType::Updated,
            facility: Facility::from("GHH"),
            traceparent: None,
            time: Timestamp::from_micros(1_790_000_000_000_000),
            body: Bytes::from(format!("{{\"seq\":{seq}}}")),
        }
    }

    #[test]
    fn what_is_shown_of_a_row_is_no_body() {
        assert!(!format!("{:?}", row(7, 1, 1)).contains("{\\\"seq"));
        assert!(!format!("{:?}", row(7, 1, 1)).contains("body"));
    }
}
