//! The pulse of a feed: when it last spoke, how far its clock is off, and whether it has gone quiet.
//!
//! A feed is quiet when it says nothing for much longer than it usually does. What is usual is learned from the feed itself, so a clinic's feed may be
//! silent at night where a hospital's may not for an hour.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use crate::time::Timestamp;

/// No feed is called quiet sooner.
const AT_LEAST: Duration = Duration::from_mins(15);
/// Nor before this many of its usual gaps.
const GAPS: u32 = 30;
/// Nor before it has sent so many messages that a usual gap is known.
const MESSAGES: u64 = 50;

/// The pulse of one feed.
#[derive(Debug, Default)]
pub struct Pulse(Mutex<Beats>);

#[derive(Clone, Copy, Debug, Default)]
struct Beats {
    last: Option<Timestamp>,
    /// The usual gap: the mean of the last few hundred, in microseconds.
    gap_us: f64,
    n_messages: u64,
    skew_us: i64,
}

impl Pulse {
    /// Notes a message: when it came, and when its sender says it was recorded.
    #[expect(clippy::cast_precision_loss, reason = "a mean of gaps needs no more than a float has")]
    pub fn beat(&self, at: Timestamp, recorded: Option<Timestamp>) {
        let mut beats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = beats.last {
            let gap = at.since(last).as_micros() as f64;
            let weight = (1.0 / (beats.n_messages.max(1) as f64)).max(1.0 / 256.0);
            beats.gap_us += (gap - beats.gap_us) * weight;
        }
        beats.last = Some(at);
        beats.n_messages += 1;
        if let Some(recorded) = recorded {
            beats.skew_us = recorded.as_micros().saturating_sub(at.as_micros());
        }
    }

    /// Notes that the feed spoke to another daemon on the same store by this time. What is usual is learned only from what this one hears.
    pub fn heard_elsewhere(&self, at: Timestamp) {
        let mut beats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        beats.last = beats.last.map(|last| last.max(at));
    }

    /// How long ago the last message came; `None` before the first.
    pub fn idle(&self, now: Timestamp) -> Option<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last.map(|last| now.since(last))
    }

    /// How far the feed's clock was ahead of ours at the last message, in seconds; negative when behind.
    #[expect(clippy::cast_precision_loss, reason = "seconds of skew")]
    pub fn skew_seconds(&self) -> f64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).skew_us as f64 / 1e6
    }

    /// How long the feed has been quiet, when that is longer than it ever usually is.
    pub fn quiet(&self, now: Timestamp) -> Option<Duration> {
        self.quiet_since(now).and_then(|_| self.idle(now))
    }

    /// When the feed's silence became longer than it ever usually is, if it has.
    pub fn quiet_since(&self, now: Timestamp) -> Option<Timestamp> {
        let beats = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = beats.last.filter(|_| beats.n_messages >= MESSAGES)?;
        let usual = Duration::from_secs_f64((beats.gap_us / 1e6).clamp(0.0, 86_400.0));
        Some(last.plus(AT_LEAST.max(usual * GAPS))).filter(|since| now > *since)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Pulse;
    use crate::time::Timestamp;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_feed_that_speaks_to_another_daemon_is_not_quiet() {
        let pulse = Pulse::default();
        pulse.heard_elsewhere(at(1));
        assert_eq!(pulse.idle(at(2)), None, "one that never spoke to this daemon has no pulse here");
        for n in 0..100 {
            pulse.beat(at(n * 60), None);
        }
        assert!(pulse.quiet(at(100_000)).is_some());
        pulse.heard_elsewhere(at(99_000));
        assert_eq!(pulse.quiet(at(100_000)), None);
        pulse.heard_elsewhere(at(98_000));
        assert!(pulse.quiet(at(99_000 + 1_801)).is_some(), "it is the last that counts");
    }

    #[test]
    fn a_feed_is_quiet_when_it_is_silent_for_much_longer_than_usual() {
        let pulse = Pulse::default();
        assert_eq!(pulse.quiet(at(1_000_000)), None, "a feed that never spoke is not quiet");
        for n in 0..100 {
            pulse.beat(at(n * 60), Some(at(n * 60 - 5)));
        }
        let last = 99 * 60;
        assert_eq!(pulse.quiet(at(last + 20 * 60)), None, "twenty minutes are not long for a feed that speaks each minute");
        assert_eq!(pulse.quiet(at(last + 40 * 60)), Some(Duration::from_mins(40)));
        assert_eq!(pulse.idle(at(last + 60)), Some(Duration::from_mins(1)));
        assert!((pulse.skew_seconds() + 5.0).abs() < 0.001);
    }
}
