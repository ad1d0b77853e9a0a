//! How many messages go into one batch.
//!
//! Each sender waits for its answer before it sends again: a batch of all of them would leave nobody to be planned for during its commit, and nothing to
//! commit during its planning. Where commits are work of this process, batches of half of them keep both at work; behind a slow disk several are committed
//! together. With a server, which is asked for each table, most of a commit costs the same for few messages and for many, and one batch of all is better.
//! It decides nothing about what is in a batch.

use std::time::Duration;

/// How many messages one batch has at the most.
pub(crate) const BATCH: usize = 256;
/// Among how many batches the senders are divided.
const TURNS: usize = 2;
/// How long a batch waits at the most for more messages, where another may be committed meanwhile.
const PATIENCE: Duration = Duration::from_micros(100);
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
    /// What a commit takes.
    commit: Duration,
}

impl Pace {
    /// `is_ours_alone` says whether commits are work of this process, and not of a server.
    pub(crate) fn new(is_ours_alone: bool) -> Self {
        Self { is_ours_alone, ..Self::default() }
    }

    /// Whether batches are to be planned while others are committed.
    pub(crate) const fn is_divided(&self) -> bool {
        self.is_ours_alone
    }

    /// How many messages the next batch should have.
    pub(crate) fn n_wanted(&self) -> usize {
        let n_wanted = if self.is_divided() { self.n_senders.div_ceil(TURNS) } else { self.n_senders };
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

    /// A commit took this long.
    pub(crate) fn committed(&mut self, took: Duration) {
        self.commit = mean(self.commit, took);
    }
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

    #[test]
    fn senders_are_divided_where_commits_are_work_of_this_process() {
        let n_wanted = |n_senders, is_ours_alone| Pace { n_senders, ..Pace::new(is_ours_alone) }.n_wanted();
        assert_eq!(n_wanted(64, true), 32);
        assert_eq!(n_wanted(64, false), 64, "with a server");
        assert_eq!(n_wanted(1, true), 1);
        assert_eq!(n_wanted(0, true), 1, "the first batch waits for nobody");
        assert_eq!(n_wanted(100_000, true), BATCH);
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
        let mut pace = Pace::new(true);
        pace.committed(Duration::from_millis(2));
        assert_eq!(pace.patience(), Duration::from_micros(100));
        pace.committed(Duration::from_millis(100));
        assert_eq!(pace.commit, Duration::from_micros(2_250));
        assert_eq!(Pace { is_ours_alone: false, ..pace }.patience(), Duration::from_micros(562) + Duration::from_nanos(500));
    }
}
