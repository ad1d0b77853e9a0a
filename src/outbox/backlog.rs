//! The backlog: which of the pending events may be sent now.
//!
//! At most one event of a room is in flight, and always its earliest, so that a later one can never overtake one that was returned or refused. It
//! does no I/O and is told the time. What it holds is a view of the outbox that can be thrown away at any moment.

use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::ids::CareRoomId;
use crate::outbox::OutboxRow;

/// How long to wait after failures: doubling from `first` to `last`, each time between half and all of it, so that daemons do not march in step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    pub(super) first: Duration,
    pub(super) last: Duration,
}

impl Backoff {
    /// The wait after this many failures in a row before; `chance` is from 0 to 255.
    pub(super) fn wait(self, n_failures: u32, chance: u8) -> Duration {
        let whole = self.first.saturating_mul(2_u32.saturating_pow(n_failures)).min(self.last);
        whole / 2 + (whole / 2).mul_f64(f64::from(chance) / 255.0)
    }
}

#[derive(Debug)]
struct Hold {
    until: Instant,
    n_failures: u32,
}

/// Pending events as last seen, and the rooms that have to wait.
#[derive(Debug)]
pub(super) struct Backlog {
    rows: VecDeque<OutboxRow>,
    holds: HashMap<CareRoomId, Hold>,
    backoff: Backoff,
}

impl Backlog {
    pub(super) fn new(backoff: Backoff) -> Self {
        Self { rows: VecDeque::new(), holds: HashMap::new(), backoff }
    }

    /// Takes a new view of the outbox; `complete` when nothing else is pending.
    pub(super) fn refill(&mut self, rows: Vec<OutboxRow>, complete: bool) {
        self.rows = rows.into();
        if complete {
            let rooms: HashSet<CareRoomId> = self.rows.iter().map(|row| row.room_id).collect();
            self.holds.retain(|room, _| rooms.contains(room));
        }
    }

    /// Forgets the view: nobody knows what became of what was sent.
    pub(super) fn forget(&mut self) {
        self.rows.clear();
    }

    /// Up to `window` events that may be sent now: of each room that need not wait, its earliest.
    pub(super) fn pick(&self, window: usize, now: Instant) -> Vec<OutboxRow> {
        let mut seen = HashSet::new();
        let may_go = |row: &&OutboxRow| seen.insert(row.room_id) && self.holds.get(&row.room_id).is_none_or(|hold| hold.until <= now);
        self.rows.iter().filter(may_go).take(window).cloned().collect()
    }

    /// These are done; their rooms need not wait any more.
    pub(super) fn done(&mut self, rows: &[&OutboxRow]) {
        let seqs: HashSet<i64> = rows.iter().map(|row| row.seq).collect();
        self.rows.retain(|row| !seqs.contains(&row.seq));
        for row in rows {
            self.holds.remove(&row.room_id);
        }
    }

    /// The room has to wait, longer each time.
    pub(super) fn hold(&mut self, room: CareRoomId, now: Instant, chance: u8) {
        let n_failures = self.holds.get(&room).map_or(0, |hold| hold.n_failures.saturating_add(1));
        self.holds.insert(room, Hold { until: now + self.backoff.wait(n_failures, chance), n_failures });
    }

    /// How many rooms wait.
    pub(super) fn n_held(&self) -> usize {
        self.holds.len()
    }

    /// When the first of the rooms that wait may be tried again.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.holds.values().map(|hold| hold.until).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Backlog;
    use super::Backoff;
    use crate::outbox::OutboxRow;
    use crate::outbox::tests::row;

    const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), last: Duration::from_secs(8) };

    fn seqs(rows: &[OutboxRow]) -> Vec<i64> {
        rows.iter().map(|row| row.seq).collect()
    }

    fn backlog() -> Backlog {
        let mut backlog = Backlog::new(BACKOFF);
        backlog.refill(vec![row(1, 1, 1), row(2, 1, 2), row(3, 2, 1), row(4, 1, 3), row(5, 3, 1)], true);
        backlog
    }

    #[test]
    fn the_earliest_of_each_room_goes_first() {
        let mut backlog = backlog();
        let now = Instant::now();
        let first = backlog.pick(10, now);
        assert_eq!(seqs(&first), [1, 3, 5]);
        assert_eq!(seqs(&backlog.pick(2, now)), [1, 3]);
        backlog.done(&first.iter().collect::<Vec<_>>());
        assert_eq!(seqs(&backlog.pick(10, now)), [2]);
    }

    #[test]
    fn a_room_that_waits_holds_back_its_later_events_and_no_other_room() {
        let mut backlog = backlog();
        let now = Instant::now();
        let first = backlog.pick(10, now);
        backlog.done(&[&first[1], &first[2]]);
        backlog.hold(first[0].room_id, now, 255);
        assert!(backlog.pick(10, now).is_empty());
        assert_eq!(backlog.next_due(), Some(now + Duration::from_secs(1)));
        assert_eq!(seqs(&backlog.pick(10, now + Duration::from_secs(1))), [1]);
        backlog.hold(first[0].room_id, now, 255);
        assert_eq!(backlog.next_due(), Some(now + Duration::from_secs(2)));
    }

    #[test]
    fn a_hold_ends_when_the_event_is_gone() {
        let mut backlog = backlog();
        backlog.hold(row(1, 1, 1).room_id, Instant::now(), 0);
        backlog.refill(vec![row(5, 3, 1)], true);
        assert_eq!(backlog.n_held(), 0);
    }

    #[test]
    fn waits_grow_to_the_last_and_stay_between_half_and_all_of_it() {
        let millis = |n, chance| BACKOFF.wait(n, chance).as_millis();
        assert_eq!([millis(0, 255), millis(1, 255), millis(3, 255), millis(40, 255)], [1000, 2000, 8000, 8000]);
        assert_eq!([millis(0, 0), millis(40, 0)], [500, 4000]);
    }
}
