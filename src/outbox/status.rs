//! What readiness and metrics say of publishing: one small shared record, written by the relay and its publisher, read by the admin endpoint.

use std::sync::Mutex;
use std::sync::PoisonError;

use crate::outbox::PublishError;
use crate::time::Timestamp;

/// How publishing stands, shared.
#[derive(Debug, Default)]
pub struct RelayStatus(Mutex<Publishing>);

/// How publishing stands at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Publishing {
    /// Whether the publisher is ready to take events.
    pub connected: bool,
    /// Whether the broker has stopped taking events (memory or disk alarm); publishing waits.
    pub blocked: bool,
    /// How many rooms wait because their next event was returned or refused.
    pub n_held_rooms: usize,
    /// What went wrong last, until something is confirmed again.
    pub last_error: Option<Trouble>,
    /// When the last event was confirmed.
    pub last_confirm_at: Option<Timestamp>,
}

/// Something that went wrong, and what an operator can do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Trouble {
    /// The kind: `unreachable`, `topology`, `unroutable`, …
    pub kind: &'static str,
    /// What to do.
    pub hint: &'static str,
}

impl RelayStatus {
    /// How publishing stands now.
    pub fn now(&self) -> Publishing {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut Publishing)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn connected(&self, connected: bool) {
        metrics::gauge!("wardroom_broker_connected").set(f64::from(u8::from(connected)));
        self.change(|publishing| {
            publishing.connected = connected;
            publishing.blocked &= connected;
        });
        if !connected {
            metrics::gauge!("wardroom_broker_blocked").set(0.0);
        }
    }

    pub(crate) fn blocked(&self, blocked: bool) {
        metrics::gauge!("wardroom_broker_blocked").set(f64::from(u8::from(blocked)));
        self.change(|publishing| publishing.blocked = blocked);
    }

    pub(crate) fn failed(&self, error: &PublishError) {
        self.trouble(Trouble { kind: error.kind(), hint: error.hint() });
    }

    pub(crate) fn trouble(&self, trouble: Trouble) {
        self.change(|publishing| publishing.last_error = Some(trouble));
    }

    pub(crate) fn held(&self, n_held_rooms: usize) {
        metrics::gauge!("wardroom_publish_held_rooms").set(u32::try_from(n_held_rooms).map_or(f64::INFINITY, f64::from));
        self.change(|publishing| publishing.n_held_rooms = n_held_rooms);
    }

    /// Something works: all is well unless rooms are still held.
    pub(crate) fn works(&self) {
        self.change(|publishing| {
            if publishing.n_held_rooms == 0 {
                publishing.last_error = None;
            }
        });
    }

    pub(crate) fn confirmed(&self, now: Timestamp) {
        self.change(|publishing| publishing.last_confirm_at = Some(now));
    }
}
