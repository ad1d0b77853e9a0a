//! How many messages go into one batch.
//!
//! A batch is planned while the one before it is committed. Where each sender waits for its answer before it sends again, a batch of all of them would
//! leave nobody to be planned for during its commit, and nothing to commit during its planning: two batches of half of them keep both at work. Where
//! most of a commit costs the same for few messages and for many, one batch of all is better: with a server, which is asked for each table, and behind a
//! disk so slow that planning does not count. So this looks at what both have cost. It decides nothing about what is in a batch.

use std::time::Duration;

/// How many messages one batch has at the most.
pub(crate) const BATCH: usize = 256;
/// How long a batch waits at the most for more messages, where another may be committed meanwhile.
const PATIENCE: Duration = Duration::from_micros(300);
/// The same where none is.
const LONG_PATIENCE: Duration = Duration::from_millis(2);
/// What counts of the past: seven parts of eight.
const PART: u32 = 8;

/// What the last batches have shown.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Whether commits are work of this process.
    is_ours_alone: bool,
    /// How many messages are on their way at once, about: waiting, planned and being committed.
    n_senders: usize,
    /// What planning one message takes.
    planning: Duration,
    /// What a commit takes, of one message and of all that are in it.
    committing: Duration,
    commit: Duration,
}

impl Pace {
    /// `is_ours_alone` says whether commits are work of this process, and not of a server.
    pub(crate) fn new(is_ours_alone: bool) -> Self {
        Self { is_ours_alone, ..Self::default() }
    }

    /// Whether a batch is to be planned while another is committed.
    pub(crate) fn is_divided(&self) -> bool {
        self.is_ours_alone && self.planning.saturating_mul(4) > self.committing
    }

    /// How many messages the next batch should have.
    pub(crate) fn n_wanted(&self) -> usize {
        let n_wanted = if self.is_divided() { self.n_senders.div_ceil(2) } else { self.n_senders };
        n_wanted.clamp(1, BATCH)
    }

    /// How long a batch may wait until it has as many: never longer than a part of what a commit costs.
    pub(crate) fn patience(&self) -> Duration {
        (self.commit / 4).min(if self.is_divided() { PATIENCE } else { LONG_PATIENCE })
    }

    /// So many messages were on their way when a batch was taken.
    pub(crate) fn saw(&mut self, n_messages: usize) {
        self.n_senders = n_messages.max(self.n_senders - self.n_senders.div_ceil(PART as usize));
    }

    /// So many messages were planned in this time.
    pub(crate) fn planned(&mut self, n_messages: usize, took: Duration) {
        self.planning = mean(self.planning, each(n_messages, took));
    }

    /// A commit of so many messages took this long.
    pub(crate) fn committed(&mut self, n_messages: usize, took: Duration) {
        self.committing = mean(self.committing, each(n_messages, took));
        self.commit = mean(self.commit, took);
    }
}

fn each(n_messages: usize, took: Duration) -> Duration {
    took / u32::try_from(n_messages).unwrap_or(u32::MAX).max(1)
}

/// The mean with what was seen now, of which no more than twice the mean counts: a disk that hesitates once has not become slow.
fn mean(before: Duration, now: Duration) -> Duration {
    if before.is_zero() { now } else { (before * (PART - 1) + now.min(before * 2)) / PART }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::BATCH;
    use super::Pace;

    fn pace(n_senders: usize, planning_us: u64, committing_us: u64) -> Pace {
        let (planning, committing) = (Duration::from_micros(planning_us), Duration::from_micros(committing_us));
        Pace { n_senders, planning, committing, ..Pace::new(true) }
    }

    #[test]
    fn senders_are_divided_where_planning_counts() {
        assert_eq!(pace(64, 60, 70).n_wanted(), 32);
        assert_eq!(pace(63, 60, 70).n_wanted(), 32);
        assert_eq!(pace(64, 60, 300).n_wanted(), 64, "behind a slow disk");
        assert_eq!(Pace { is_ours_alone: false, ..pace(64, 60, 70) }.n_wanted(), 64, "with a server");
        assert_eq!(pace(1, 60, 300).n_wanted(), 1);
        assert_eq!(Pace::default().n_wanted(), 1, "the first batch waits for nobody");
        assert_eq!(pace(100_000, 60, 70).n_wanted(), BATCH);
    }

    #[test]
    fn whoever_has_gone_is_forgotten_and_whoever_comes_counts_at_once() {
        let mut pace = Pace::default();
        pace.saw(64);
        assert_eq!(pace.n_senders, 64);
        for _ in 0..64 {
            pace.saw(1);
        }
        assert_eq!(pace.n_senders, 1);
        pace.saw(0);
        assert_eq!(pace.n_wanted(), 1);
    }

    #[test]
    fn one_slow_commit_changes_little() {
        let mut pace = pace(64, 60, 80);
        pace.committed(32, Duration::from_millis(2));
        assert_eq!(pace.patience(), Duration::from_micros(300));
        pace.committed(32, Duration::from_millis(100));
        assert_eq!((pace.commit, pace.is_divided()), (Duration::from_micros(2_250), true));
        pace.planned(10, Duration::from_millis(1));
        assert_eq!(pace.planning, Duration::from_micros(65));
    }
}
