//! What a listener has seen, as numbers that health checks and metrics read while it runs.
//!
//! Counts and ages only; nothing of any message.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::codec::Tally;

/// Why a connection was refused: a key of the feed, and what it is set to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limit {
    /// The key.
    pub key: &'static str,
    /// So many may be open.
    pub limit: usize,
}

impl Limit {
    /// What to do about it.
    pub const HINT: &'static str = "find out which sender opens connections beside those it has open; where so many are meant, raise this key. \
        Senders behind a load balancer all have its address; what a sender has closed itself does not count for its address";
}

/// The numbers of one listener. Counters grow as long as the process lives.
#[derive(Debug, Default)]
pub struct ListenerStats {
    pub(super) n_connections: AtomicUsize,
    pub(super) n_accepted: AtomicU64,
    n_refused: AtomicU64,
    pub(super) n_failed_handshakes: AtomicU64,
    pub(super) n_frames: AtomicU64,
    last_refusal: Mutex<Option<(Instant, Limit)>>,
    n_skipped_bytes: AtomicU64,
    n_abandoned_frames: AtomicU64,
    n_heartbeats: AtomicU64,
    /// When the frame now begun on a connection began and how many bytes of it are here, by the number of the connection. Only frames that more than one
    /// read brings are among them.
    unfinished: Mutex<BTreeMap<u64, (Instant, usize)>>,
}

impl ListenerStats {
    /// Connections now open.
    pub fn n_connections(&self) -> usize {
        self.n_connections.load(Ordering::Relaxed)
    }

    /// Connections accepted so far.
    pub fn n_accepted(&self) -> u64 {
        self.n_accepted.load(Ordering::Relaxed)
    }

    /// Connections closed at once so far, because there were too many.
    pub fn n_refused(&self) -> u64 {
        self.n_refused.load(Ordering::Relaxed)
    }

    /// How long ago the last of them was refused, and why.
    pub fn last_refusal(&self) -> Option<(Duration, Limit)> {
        self.last_refusal.lock().unwrap_or_else(PoisonError::into_inner).map(|(at, limit)| (at.elapsed(), limit))
    }

    /// TLS handshakes that failed so far.
    pub fn n_failed_handshakes(&self) -> u64 {
        self.n_failed_handshakes.load(Ordering::Relaxed)
    }

    /// Frames handed on so far, refused ones included.
    pub fn n_frames(&self) -> u64 {
        self.n_frames.load(Ordering::Relaxed)
    }

    /// Bytes so far that were in no frame.
    pub fn n_skipped_bytes(&self) -> u64 {
        self.n_skipped_bytes.load(Ordering::Relaxed)
    }

    /// Frames so far that began and never ended.
    pub fn n_abandoned_frames(&self) -> u64 {
        self.n_abandoned_frames.load(Ordering::Relaxed)
    }

    /// Empty frames so far.
    pub fn n_heartbeats(&self) -> u64 {
        self.n_heartbeats.load(Ordering::Relaxed)
    }

    /// How many frames have begun and not ended yet.
    pub fn n_unfinished(&self) -> usize {
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// How long ago the oldest of them began.
    pub fn oldest_unfinished(&self) -> Option<Duration> {
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner).values().map(|(began, _)| began.elapsed()).max()
    }

    /// How many bytes of all of them are here.
    pub fn n_unfinished_bytes(&self) -> usize {
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner).values().map(|(_, n_bytes)| n_bytes).sum()
    }

    pub(super) fn refuse(&self, limit: Limit) {
        self.n_refused.fetch_add(1, Ordering::Relaxed);
        *self.last_refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), limit));
    }

    pub(super) fn add(&self, tally: Tally) {
        if tally != Tally::default() {
            self.n_skipped_bytes.fetch_add(tally.n_skipped_bytes, Ordering::Relaxed);
            self.n_abandoned_frames.fetch_add(tally.n_abandoned_frames, Ordering::Relaxed);
            self.n_heartbeats.fetch_add(tally.n_heartbeats, Ordering::Relaxed);
        }
    }

    pub(super) fn set_unfinished(&self, connection: u64, frame: Option<(Instant, usize)>) {
        let mut unfinished = self.unfinished.lock().unwrap_or_else(PoisonError::into_inner);
        match frame {
            Some(frame) => unfinished.insert(connection, frame),
            None => unfinished.remove(&connection),
        };
    }
}
