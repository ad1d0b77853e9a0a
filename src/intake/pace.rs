//! How many messages go into one batch.
//!
//! A batch is planned while the one before it is committed. Where each sender waits for its answer before it sends again, a batch of all of them would
//! leave nobody to be planned for during its commit, and nothing to commit during its planning: two batches of half of them keep both at work. Where a
//! commit costs much and planning little, as behind a slow disk with few senders, one batch of all is better. So this looks at what both have cost. It
//! decides nothing about what is in a batch.

use std::time::Duration;

/// How many messages one batch has at the most.
pub(crate) const BATCH: usize = 256;
/// How long a batch waits at the most for more messages.
const PATIENCE: Duration = Duration::from_micros(300);
/// What counts of the past: seven parts of eight.
const PART: u32 = 8;

/// What the last batches have shown.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// How many messages are on their way at once, about: waiting, planned and being committed.
    n_senders: usize,
    /// What planning one message takes.
    planning: Duration,
    /// What a commit takes.
    commit: Duration,
}

impl Pace {
    /// How many messages the next batch should have.
    pub(crate) fn n_wanted(&self) -> usize {
        let all_at_once = self.planning.saturating_mul(u32::try_from(self.n_senders).unwrap_or(u32::MAX));
        let is_divided = all_at_once.saturating_mul(2) > self.commit;
        let n_wanted = if is_divided { self.n_senders.div_ceil(2) } else { self.n_senders };
        n_wanted.clamp(1, BATCH)
    }

    /// How long a batch may wait until it has as many: never longer than a part of what a commit costs.
    pub(crate) fn patience(&self) -> Duration {
        (self.commit / 4).min(PATIENCE)
    }

    /// So many messages were on their way when a batch was taken.
    pub(crate) fn saw(&mut self, n_messages: usize) {
        self.n_senders = n_messages.max(self.n_senders - self.n_senders.div_ceil(PART as usize));
    }

    /// So many messages were planned in this time.
    pub(crate) fn planned(&mut self, n_messages: usize, took: Duration) {
        let each = took / u32::try_from(n_messages).unwrap_or(u32::MAX).max(1);
        self.planning = mean(self.planning, each);
    }

    /// A commit took this long.
    pub(crate) fn committed(&mut self, took: Duration) {
        self.commit = mean(self.commit, took);
    }
}

fn mean(before: Duration, now: Duration) -> Duration {
    if before.is_zero() { now } else { (before * (PART - 1) + now) / PART }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::BATCH;
    use super::Pace;

    fn pace(n_senders: usize, planning_us: u64, commit_us: u64) -> Pace {
        Pace { n_senders, planning: Duration::from_micros(planning_us), commit: Duration::from_micros(commit_us) }
    }

    #[test]
    fn senders_are_divided_where_planning_for_them_costs_as_much_as_a_commit() {
        assert_eq!(pace(64, 60, 2_000).n_wanted(), 32);
        assert_eq!(pace(63, 60, 2_000).n_wanted(), 32);
        assert_eq!(pace(16, 60, 4_500).n_wanted(), 16, "behind a slow disk");
        assert_eq!(pace(1, 60, 300).n_wanted(), 1);
        assert_eq!(Pace::default().n_wanted(), 1, "the first batch waits for nobody");
        assert_eq!(pace(100_000, 60, 300).n_wanted(), BATCH);
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
        let mut pace = pace(64, 60, 2_000);
        pace.committed(Duration::from_millis(6));
        assert_eq!(pace.commit, Duration::from_micros(2_500));
        pace.planned(10, Duration::from_micros(1_400));
        assert_eq!(pace.planning, Duration::from_micros(70));
    }
}
