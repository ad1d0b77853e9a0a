//! The ledger, drawn up now and then while the daemon runs: gauges, and a reason in `/readyz` when it does not balance.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::admin::readiness::Readiness;
use crate::admin::readiness::Reason;
use crate::ids::TriggerEvent;
use crate::intake::ledger::EventLedger;
use crate::intake::ledger::Fault;
use crate::intake::ledger::draw_up;
use crate::store::Store;
use crate::store::ledger::Look;
use crate::time::Clock;

/// How often the ledger is drawn up, and over how long a time.
const EVERY: Duration = Duration::from_mins(5);
const SPAN: Duration = Duration::from_hours(1);

/// What the ledger lacked when it was looked at last.
type Balance = Arc<Mutex<Vec<Fault>>>;

fn register(readiness: &Readiness, balance: Balance) {
    readiness.register(move || {
        let faults = balance.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = |fault: &Fault| {
            let feed = fault.feed.as_ref().map(|feed| format!("feed {feed}, ")).unwrap_or_default();
            Reason::new(
                "ledger",
                format!("{feed}{}: {}", fault.state, fault.what),
                "run `wardroom ledger`; the store may have been changed from outside",
            )
        };
        faults.iter().map(reason).collect()
    });
}

/// Draws up the ledger of the last hours until it is told to stop, without what would take reading whole tables.
#[expect(clippy::cast_precision_loss, reason = "gauges are floats; no count here comes near 2^53")]
pub(super) async fn watch(
    store: Store,
    meant: impl Fn(&str, TriggerEvent) -> TriggerEvent + Send,
    readiness: Readiness,
    clock: Arc<impl Clock>,
    stop: CancellationToken,
) {
    let balance = Balance::default();
    register(&readiness, Arc::clone(&balance));
    loop {
        match store.recount(Some(clock.now().minus(SPAN)), Look::Quick).await {
            Ok(recount) => {
                let ledger = draw_up(&recount, &meant);
                metrics::gauge!("wardroom_ledger_balanced").set(if ledger.balanced { 1.0 } else { 0.0 });
                for feed in &ledger.feeds {
                    metrics::gauge!("wardroom_ledger_accepted_messages", "feed" => feed.feed.clone()).set(feed.accepted as f64);
                    metrics::gauge!("wardroom_ledger_accounted_messages", "feed" => feed.feed.clone()).set(feed.in_a_state() as f64);
                }
                let EventLedger { made, confirmed, pending, parked, .. } = ledger.events;
                for (state, n) in [("made", made), ("confirmed", confirmed), ("pending", pending), ("parked", parked)] {
                    metrics::gauge!("wardroom_ledger_events", "state" => state).set(n as f64);
                }
                if !ledger.balanced {
                    tracing::error!(n_faults = ledger.faults.len(), "the ledger does not balance; `wardroom ledger` says where");
                }
                *balance.lock().unwrap_or_else(PoisonError::into_inner) = ledger.faults;
            }
            Err(error) => tracing::warn!(%error, "the ledger could not be drawn up"),
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}
