//! The intake: from frames to committed facts, and back to answers.
//!
//! It is the one place that knows all parts of the message's way. Messages from all connections are gathered into a commit batch; an answer is released
//! by the commit of its batch and by nothing else. A store that cannot commit means no answer and a closed connection.

mod accounts;
mod aftermath;
pub mod answer;
mod audited;
pub mod background;
pub mod batch;
pub mod daemon;
pub mod foresee;
pub mod gate;
pub mod grants;
pub mod guard;
pub mod ledger;
mod line;
pub(crate) mod look_ups;
pub mod orders;
mod pace;
pub mod pulse;
pub mod read;
pub(crate) mod recent;
pub mod rehearsal;
mod relate;
mod renumbered;
pub mod retention;
pub(crate) mod room_ids;
mod rooms;
pub(crate) mod route;
pub(crate) mod staff;
mod trace;
pub mod wake_at;
pub(crate) mod world;

#[cfg(test)]
mod law;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::care::fact::Fact;
use crate::care::notice::Notice;
use crate::directory::change::Changes;
use crate::ids::FeedName;
use crate::ids::JournalId;
use crate::ids::TriggerEvent;
use crate::store::look_up::LookUpHash;
use crate::store::rows::Disposition;
use crate::time::Timestamp;

/// A message that was read and waits to be committed.
#[derive(Debug)]
pub struct Incoming {
    /// Its place in the journal, which is its number of arrival.
    pub journal: JournalId,
    /// The feed it came by.
    pub feed: FeedName,
    /// When it came.
    pub received_at: Timestamp,
    /// Its trigger event, where it has one.
    pub trigger: Option<TriggerEvent>,
    /// What it says.
    pub facts: Vec<Arc<Fact>>,
    /// Every look-up that its facts may lead through.
    pub(crate) named: Vec<LookUpHash>,
    /// What it says of staff and units.
    pub(crate) directory: Option<Changes>,
    /// What makes it this message; absent when it cannot be told from another.
    pub(crate) dedupe: Option<LookUpHash>,
    /// How long it is known again.
    pub(crate) known_for: Duration,
    /// What became of it, where reading it already decided that.
    pub(crate) decided: Option<Verdict>,
    /// What is worth telling.
    pub notices: Vec<Notice>,
    /// The bytes as they came.
    pub(crate) raw: RawMessage,
    /// The trace it belongs to.
    pub(crate) traceparent: Option<String>,
    /// Whether it comes from quarantine, and is in the journal already.
    pub(crate) is_retry: bool,
}

/// The bytes of a message; `Debug` shows their number only.
#[derive(Clone)]
pub(crate) struct RawMessage(pub(crate) Bytes);

impl std::ops::Deref for RawMessage {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for RawMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RawMessage({} bytes)", self.0.len())
    }
}

/// What became of a message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// How it ended.
    pub disposition: Disposition,
    /// Why, as a fixed word.
    pub reason: Option<&'static str>,
    /// Which message it repeats.
    pub duplicate_of: Option<JournalId>,
    /// The patient's row.
    pub(crate) patient: Option<i64>,
    /// Which of its facts made it wait.
    pub(crate) waiting: Option<usize>,
}

impl Verdict {
    const fn of(disposition: Disposition, reason: Option<&'static str>) -> Self {
        Self { disposition, reason, duplicate_of: None, patient: None, waiting: None }
    }

    pub(crate) const fn duplicate(of: JournalId) -> Self {
        Self { duplicate_of: Some(of), ..Self::of(Disposition::Duplicate, None) }
    }

    pub(crate) const fn applied() -> Self {
        Self::of(Disposition::Applied, None)
    }

    pub(crate) const fn noop(reason: &'static str) -> Self {
        Self::of(Disposition::Noop, Some(reason))
    }

    pub(crate) const fn quarantined(reason: &'static str) -> Self {
        Self::of(Disposition::Quarantined, Some(reason))
    }

    pub(crate) const fn rejected(reason: &'static str) -> Self {
        Self::of(Disposition::Rejected, Some(reason))
    }
}
