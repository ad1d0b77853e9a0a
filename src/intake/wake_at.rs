//! When the next visit is due, as far as this process knows: between those who plan visits and the one who wakes them.
//!
//! It keeps one instant and knows no visit; the store says what is due.

use tokio::sync::Notify;

use crate::time::Timestamp;

/// The earliest instant at which a visit must be planned again, as far as this process knows.
#[derive(Debug, Default)]
pub struct WakeAt {
    sleep: std::sync::Mutex<Sleep>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Sleep {
    /// The earliest that was noted while nobody slept.
    noted: Option<Timestamp>,
    /// Until when somebody sleeps.
    until: Option<Timestamp>,
}

impl WakeAt {
    fn sleep(&self) -> std::sync::MutexGuard<'_, Sleep> {
        self.sleep.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Notes an instant; whoever sleeps longer is told.
    pub fn note(&self, at: Timestamp) {
        let mut sleep = self.sleep();
        if sleep.until.is_some_and(|until| at < until) {
            sleep.until = Some(at);
            self.changed.notify_one();
        } else if sleep.until.is_none() && sleep.noted.is_none_or(|noted| at < noted) {
            sleep.noted = Some(at);
        }
    }

    /// Nobody sleeps: what is noted from now on is kept.
    pub fn woken(&self) {
        *self.sleep() = Sleep::default();
    }

    /// Until when to sleep: as long as is wanted, or until what was noted meanwhile.
    pub fn sleep_until(&self, wanted: Timestamp) -> Timestamp {
        let mut sleep = self.sleep();
        let until = sleep.noted.take().map_or(wanted, |noted| noted.min(wanted));
        sleep.until = Some(until);
        until
    }

    /// Waits until an earlier instant is noted.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::WakeAt;
    use crate::time::Timestamp;

    #[test]
    fn who_sleeps_is_told_of_what_comes_earlier_and_of_nothing_else() {
        let at = Timestamp::from_micros;
        let wake = WakeAt::default();
        let is_told = || wake.changed().now_or_never().is_some();
        wake.note(at(7));
        wake.note(at(5));
        assert!(!is_told(), "nobody sleeps");
        assert_eq!(wake.sleep_until(at(9)), at(5));
        wake.note(at(6));
        assert!(!is_told());
        wake.note(at(4));
        assert!(is_told());
        wake.note(at(4));
        assert!(!is_told());
        wake.woken();
        assert_eq!(wake.sleep_until(at(9)), at(9), "what was noted before is in the store's answer");
    }
}
