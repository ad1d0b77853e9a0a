//! The guard: what says to the plan that leaves and ends wait.
//!
//! It counts rooms that end, listens to the pulse of every feed, and knows nothing of patients. When more than a tenth of the open rooms (and more than a
//! few) would end within ten minutes it stops the rest until an operator says go on; the store remembers that, so that a restart changes nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::care::brake::Brake;
use crate::care::change::CauseKind;
use crate::ids::FeedName;
use crate::intake::background;
use crate::intake::daemon::Intake;
use crate::intake::pulse::Pulse;
use crate::store::Store;
use crate::store::error::StoreError;
use crate::time::Timestamp;

/// Rooms that end are counted over this span.
const SPAN: Duration = Duration::from_mins(10);
/// So many rooms may end in it whatever the size of the hospital.
const AT_LEAST: usize = 10;
/// And this part of the open ones: one in so many.
const PART: usize = 10;
/// How many rooms of so many open ones may end within ten minutes.
pub(crate) fn at_most(n_open: usize) -> usize {
    AT_LEAST.max(n_open / PART)
}

/// How long leaves wait for a silent feed at the most.
const SILENCE: Duration = Duration::from_hours(2);
/// Under this name the store remembers whether leaves and ends wait.
const SETTING: &str = "guard";
/// How often the store is asked whether somebody said go on.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Whether leaves and ends wait, as the store remembers it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Word {
    /// They do not.
    #[default]
    Off,
    /// They have waited since then.
    On(Timestamp),
    /// An operator says go on; nobody did yet.
    GoOn,
}

impl Word {
    /// Reads it from the store.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn read(store: &Store) -> Result<Self, StoreError> {
        let bytes = store.setting(SETTING).await?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let since = text.strip_prefix("on ").and_then(|since| since.parse().ok());
        Ok(match (since, &*text) {
            (Some(since), _) => Self::On(Timestamp::from_micros(since)),
            (None, "go on") => Self::GoOn,
            (None, _) => Self::Off,
        })
    }

    /// Writes it into the store.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn write(self, store: &Store) -> Result<(), StoreError> {
        let text = match self {
            Self::Off => "off".to_owned(),
            Self::On(since) => format!("on {}", since.as_micros()),
            Self::GoOn => "go on".to_owned(),
        };
        store.put_setting(SETTING, text.into_bytes()).await
    }
}

/// The guard of one daemon.
#[derive(Debug, Default)]
pub struct Guard(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Whether rooms that end are counted at all.
    counts: bool,
    since: Option<Timestamp>,
    n_open: usize,
    ended: VecDeque<(Timestamp, usize)>,
    pulses: Vec<(FeedName, Arc<Pulse>)>,
}

impl Guard {
    /// A guard; `counts` is whether many rooms that end at once stop the rest.
    pub fn new(counts: bool) -> Self {
        Self(Mutex::new(State { counts, ..State::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the pulse of a feed listened to.
    pub fn listen(&self, feed: FeedName, pulse: Arc<Pulse>) {
        self.state().pulses.push((feed, pulse));
    }

    /// Notes how many rooms are open now.
    pub fn open_rooms(&self, n_open: usize) {
        self.state().n_open = n_open;
    }

    /// What is held back now.
    pub fn brake(&self, now: Timestamp) -> Brake {
        let mut state = self.state();
        while state.ended.front().is_some_and(|(at, _)| now.since(*at) >= SPAN) {
            state.ended.pop_front();
        }
        let n_ended: usize = state.ended.iter().map(|(_, n)| n).sum();
        let may_end = if state.counts { at_most(state.n_open).saturating_sub(n_ended) } else { usize::MAX };
        Brake { is_on: state.since.is_some(), may_end, silent: silent(&state.pulses, now).map(|(feed, _)| feed).collect() }
    }

    /// Notes what a batch did; `true` when leaves and ends wait from now on.
    pub fn note(&self, now: Timestamp, n_ended: usize, stopped: bool) -> bool {
        let mut state = self.state();
        if n_ended > 0 {
            state.ended.push_back((now, n_ended));
        }
        let is_new = stopped && state.since.is_none();
        if is_new {
            state.since = Some(now);
        }
        is_new
    }

    /// Takes what the store remembers; `true` when an operator's word is to be followed.
    pub fn hear(&self, word: Word) -> bool {
        let mut state = self.state();
        match word {
            Word::On(since) => state.since = Some(since),
            Word::Off => state.since = None,
            Word::GoOn => {
                state.since = None;
                state.ended.clear();
            }
        }
        word == Word::GoOn
    }

    /// Since when leaves and ends wait for an operator.
    pub fn since(&self) -> Option<Timestamp> {
        self.state().since
    }

    /// The feeds for which leaves wait, and until when at the most.
    pub fn waits(&self, now: Timestamp) -> Vec<(FeedName, Timestamp)> {
        silent(&self.state().pulses, now).collect()
    }
}

/// Follows what the store remembers: what other daemons stopped, and what an operator says. Ends when it is told to stop.
pub async fn follow(store: &Store, intake: &Intake, guard: &Guard, stop: &CancellationToken) {
    loop {
        match Word::read(store).await {
            Ok(word) => {
                if guard.hear(word) {
                    tracing::warn!("an operator says go on: leaves and ends that waited happen now");
                    background::replan_all(store, intake, CauseKind::Operator, stop).await;
                    if guard.since().is_none()
                        && !stop.is_cancelled()
                        && let Err(error) = Word::Off.write(store).await
                    {
                        tracing::warn!(%error, "the store could not note that leaves and ends go on; it is said again at once");
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "the store could not say whether leaves and ends wait"),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}

fn silent(pulses: &[(FeedName, Arc<Pulse>)], now: Timestamp) -> impl Iterator<Item = (FeedName, Timestamp)> {
    let until = move |pulse: &Pulse| pulse.quiet_since(now).map(|since| since.plus(SILENCE)).filter(|until| *until > now);
    pulses.iter().filter_map(move |(feed, pulse)| Some((feed.clone(), until(pulse)?)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::Guard;
    use super::Word;
    use crate::ids::FeedName;
    use crate::intake::pulse::Pulse;
    use crate::time::Timestamp;

    const START: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

    fn at(minutes: u64) -> Timestamp {
        START.plus(Duration::from_mins(minutes))
    }

    #[test]
    fn a_tenth_of_the_open_rooms_may_end_in_ten_minutes_and_ten_in_any_house() {
        let guard = Guard::new(true);
        assert_eq!(guard.brake(at(0)).may_end, 10);
        guard.open_rooms(400);
        assert_eq!(guard.brake(at(0)).may_end, 40);
        assert!(!guard.note(at(0), 15, false));
        assert!(!guard.note(at(5), 20, false));
        assert_eq!(guard.brake(at(9)).may_end, 5);
        assert_eq!(guard.brake(at(10)).may_end, 20, "the first fifteen are ten minutes ago");
        assert!(guard.note(at(11), 20, true) && !guard.note(at(11), 0, true), "it stops once");
        assert!(guard.brake(at(300)).is_on, "until somebody says go on");
        assert!(guard.hear(Word::GoOn));
        assert_eq!((guard.brake(at(12)).is_on, guard.brake(at(12)).may_end), (false, 40), "what was looked at counts no more");
        assert_eq!(Guard::new(false).brake(at(0)).may_end, usize::MAX);
    }

    #[test]
    fn leaves_wait_for_a_silent_feed_and_no_longer_than_two_hours() {
        let (guard, pulse) = (Guard::new(true), Arc::new(Pulse::default()));
        guard.listen(FeedName::from("main"), Arc::clone(&pulse));
        for minute in 0..100 {
            pulse.beat(at(minute), None);
        }
        // Each minute a message: half an hour without one is silence.
        let begins = 99 + 30;
        assert!(guard.waits(at(begins)).is_empty());
        assert_eq!(guard.waits(at(begins + 1)), [(FeedName::from("main"), at(begins + 120))]);
        assert_eq!(guard.brake(at(begins + 119)).silent, [FeedName::from("main")]);
        assert!(guard.brake(at(begins + 120)).silent.is_empty(), "two hours are the most");
        pulse.beat(at(begins + 60), None);
        assert!(guard.brake(at(begins + 61)).silent.is_empty(), "it speaks again");
    }
}
