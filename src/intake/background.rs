//! What is taken again in the background, page by page and through the same way as everything: rooms whose policy or directory have changed, and messages
//! in quarantine after a start.
//!
//! It plans and commits nothing itself; the intake does, between the batches of messages.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::care::change::Cause;
use crate::care::change::CauseKind;
use crate::ids::JournalId;
use crate::intake::daemon::Intake;
use crate::store::Store;

/// How many visits are planned again in one batch of the background.
const PAGE: i64 = 64;
/// How long the background waits after the store failed it.
const RETRY: Duration = Duration::from_secs(1);

/// Tries every message in quarantine once: a daemon that was killed between a merge and what it explains left some behind.
pub async fn retry_quarantined(store: &Store, intake: &Intake, stop: &CancellationToken) {
    let mut after = JournalId(i64::MIN);
    while !stop.is_cancelled() {
        match store.quarantine_page(after, PAGE).await {
            Ok(page) => {
                let Some(last) = page.last() else { return };
                after = last.journal_id;
                if !intake.retry(page.iter().map(|row| row.journal_id).collect()).await {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the quarantine cannot be read yet");
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    () = stop.cancelled() => return,
                }
            }
        }
    }
}

/// Plans every open visit again, page by page, in the background: policy or directory have changed.
pub async fn replan_all(store: &Store, intake: &Intake, kind: CauseKind, stop: &CancellationToken) {
    let mut after = i64::MIN;
    while !stop.is_cancelled() {
        let page = match store.open_visits_page(after, PAGE).await {
            Ok(page) => page,
            Err(error) => {
                tracing::warn!(%error, "open rooms cannot be planned again yet");
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => continue,
                    () = stop.cancelled() => return,
                }
            }
        };
        let Some(last) = page.visits.last().copied() else { return };
        after = last;
        let visits = page.visits.into_iter().map(|row| (row, Cause::of(kind))).collect();
        if !intake.replan(visits).await {
            return;
        }
    }
}
