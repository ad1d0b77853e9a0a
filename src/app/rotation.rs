//! A rotation of the master key that was interrupted goes on when the daemon starts: it gives the order that `wardroom keys rotate` gives, step by step and
//! at its own quiet pace.
//!
//! It begins none, and wraps nothing itself.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::intake::daemon::Intake;
use crate::intake::orders::Operator;
use crate::intake::orders::Order;
use crate::intake::orders::Outcome;
use crate::store::Store;

/// How long messages have the intake for themselves between two steps.
const REST: Duration = Duration::from_millis(100);

/// Goes on until nothing is wrapped by the old key any more, or it is told to stop.
pub(super) async fn go_on(store: Store, intake: Intake, stop: CancellationToken) {
    let by = Operator::of_this_process();
    while store.is_rotating() {
        // Why not stands in the log; the next start tries again, and so does the command.
        let outcome = intake.order(Order::RotateKeys { to: None, begins: false }, by.clone()).await;
        if !matches!(outcome, Some(Outcome::Rotating { is_done: false, .. })) {
            return;
        }
        if stop.run_until_cancelled(tokio::time::sleep(REST)).await.is_none() {
            return;
        }
    }
}
