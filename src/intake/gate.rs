//! The gate: whether messages are taken at all.
//!
//! While it is shut every message is refused the only way that loses none: its connection is closed without an answer, and the sender sends again. Who
//! shuts it also opens it; the gate itself looks at nothing.

use std::fmt;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// What may shut the gate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bar {
    /// Too many events wait.
    Outbox,
    /// The volume of the store is nearly full.
    Disk,
}

impl Bar {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Outbox, Self::Disk];

    /// One word, for metrics and `/readyz`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Outbox => "outbox",
            Self::Disk => "disk",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Whether messages are taken, and if not, why.
#[derive(Default)]
pub struct Gate {
    bars: AtomicU8,
    words: Mutex<[String; 2]>,
    /// How many answers in a row came too late.
    n_late: AtomicU64,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("is_shut", &self.is_shut()).finish_non_exhaustive()
    }
}

impl Gate {
    /// Whether anything bars the way.
    pub fn is_shut(&self) -> bool {
        self.bars.load(Ordering::Relaxed) != 0
    }

    /// Whether this does.
    pub fn is_barred_by(&self, bar: Bar) -> bool {
        self.bars.load(Ordering::Relaxed) & bar.bit() != 0
    }

    /// Notes that a message was not committed in time; nothing is barred, since the next one may be.
    pub fn was_late(&self) {
        self.n_late.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a message was committed in time.
    pub fn was_in_time(&self) {
        if self.n_late.load(Ordering::Relaxed) > 0 {
            self.n_late.store(0, Ordering::Relaxed);
        }
    }

    /// How many messages in a row were not committed in time.
    pub fn n_late(&self) -> u64 {
        self.n_late.load(Ordering::Relaxed)
    }

    /// Shuts it, and says why.
    pub fn shut(&self, bar: Bar, why: &str) {
        if let Some(words) = self.words.lock().unwrap_or_else(PoisonError::into_inner).get_mut(bar as usize) {
            why.clone_into(words);
        }
        if self.bars.fetch_or(bar.bit(), Ordering::Relaxed) & bar.bit() == 0 {
            tracing::error!(bar = bar.as_str(), "messages are not taken any more: {why}; senders keep them and send again");
        }
        metrics::gauge!("wardroom_intake_shut", "reason" => bar.as_str()).set(1.0);
    }

    /// Opens it as far as this is concerned.
    pub fn open(&self, bar: Bar) {
        if self.bars.fetch_and(!bar.bit(), Ordering::Relaxed) & bar.bit() != 0 {
            tracing::info!(bar = bar.as_str(), "messages are taken again");
        }
        metrics::gauge!("wardroom_intake_shut", "reason" => bar.as_str()).set(0.0);
    }

    /// What bars the way now, in words.
    pub fn reasons(&self) -> Vec<(Bar, String)> {
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        let barred = Bar::ALL.into_iter().filter(|bar| self.is_barred_by(*bar));
        barred.filter_map(|bar| Some((bar, words.get(bar as usize)?.clone()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Bar;
    use super::Gate;

    #[test]
    fn it_is_open_again_when_nothing_bars_it_any_more() {
        let gate = Gate::default();
        assert!(!gate.is_shut());
        gate.shut(Bar::Outbox, "many");
        gate.shut(Bar::Disk, "full");
        gate.shut(Bar::Disk, "fuller");
        assert_eq!(gate.reasons(), [(Bar::Outbox, "many".to_owned()), (Bar::Disk, "fuller".to_owned())]);
        gate.open(Bar::Outbox);
        assert!(gate.is_shut() && !gate.is_barred_by(Bar::Outbox));
        gate.open(Bar::Disk);
        assert!(!gate.is_shut() && gate.reasons().is_empty());
        gate.was_late();
        gate.was_late();
        assert!(!gate.is_shut() && gate.n_late() == 2);
        gate.was_in_time();
        assert_eq!(gate.n_late(), 0);
    }
}
