//! What the tests need around the daemon.

#![expect(clippy::panic, reason = "helpers of tests")]

use std::time::Duration;

pub(crate) mod daemon;
pub(crate) mod peer;
pub(crate) mod postgres;
pub(crate) mod rabbit;

/// Looks again and again until there is something, and gives it; fails when that takes too long.
pub(crate) async fn eventually<T>(what: &str, within: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        loop {
            ticks.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    let Ok(found) = tokio::time::timeout(within, looking).await else { panic!("{what}: not within {within:?}") };
    found
}
