//! What follows a batch that was committed, or was not: counts, log lines, and those who are told that there is work for them.
//!
//! It answers nobody and changes nothing that the batch wrote.

use std::time::Duration;

use crate::ids::FeedName;
use crate::ids::TriggerEvent;
use crate::intake::batch;
use crate::intake::batch::BatchError;
use crate::intake::batch::Done;
use crate::intake::batch::Work;
use crate::intake::daemon::IntakeParts;
use crate::intake::guard::Word;
use crate::intake::staff;
use crate::intake::world::Ends;
use crate::store::rows::Disposition;
use crate::time::Clock;

/// Says that a batch was not kept, and why.
pub(super) fn tell(error: &BatchError) {
    metrics::counter!("wardroom_commit_failures_total").increment(1);
    tracing::error!(%error, "nothing of this batch was kept; its connections are closed without an answer, so that their senders send again");
}

/// Counts the rooms that ended. Where they were too many, that is in the store before anybody is answered.
pub(super) async fn look_at_ends<C: Clock>(parts: &IntakeParts<C>, ends: Ends, is_stopped: bool) {
    metrics::counter!("wardroom_held_changes_total").increment(u64::try_from(ends.n_held).unwrap_or(0));
    if ends.n_kept_out > 0 {
        metrics::counter!("wardroom_rooms_kept_out_total").increment(u64::try_from(ends.n_kept_out).unwrap_or(0));
        tracing::warn!(
            n_visits = ends.n_kept_out,
            "patients are in a unit that a master file says is in use no more: they get no room until it is in use again, or they are moved"
        );
    }
    let Some(since) = parts.guard.since().filter(|_| is_stopped) else { return };
    tracing::error!(
        "more than a tenth of the open rooms would end within ten minutes: leaves and ends wait, joins go on; find out why, then say `wardroom guard release`"
    );
    if let Err(error) = Word::On(since).write(&parts.store).await {
        tracing::error!(%error, "the store could not note that leaves and ends wait; a restart would let them go on");
    }
}

/// Counts a commit.
pub(super) fn count_commit(n_messages: usize, elapsed: Duration) {
    #[expect(clippy::cast_precision_loss, reason = "a commit has at most a few hundred messages")]
    metrics::histogram!("wardroom_commit_messages").record(n_messages as f64);
    metrics::histogram!("wardroom_commit_seconds").record(elapsed.as_secs_f64());
}

/// Counts what a batch did, and tells those who wait for it.
pub(super) fn account<C: Clock>(parts: &IntakeParts<C>, work: &Work, done: &mut Done) {
    if let Some(said) = done.said.take() {
        parts.directory.hear(said, parts.clock.now());
    }
    if done.n_events > 0 {
        parts.outbox.notify_one();
    }
    if let Some(at) = done.wake_at {
        parts.wake.note(at);
    }
    // A batch holds few kinds of messages, and each costs a search for its counter.
    let mut kinds: Vec<((&FeedName, Option<Option<TriggerEvent>>, Disposition), u64)> = Vec::new();
    for (message, verdict) in work.messages.iter().zip(&done.verdicts).filter(|(message, _)| !message.is_retry) {
        let known = message.decided.as_ref().is_none_or(|verdict| verdict.reason != Some("unknown_event"));
        let kind = (&message.feed, known.then_some(message.trigger), verdict.disposition);
        match kinds.iter_mut().find(|(counted, _)| *counted == kind) {
            Some((_, n)) => *n += 1,
            None => kinds.push((kind, 1)),
        }
        if verdict.reason == Some(staff::TOO_FEW) {
            tracing::error!(
                journal = %message.journal, feed = %message.feed,
                "a replacement of all staff leaves out more than a fifth of them; it waits in quarantine, and nobody was removed"
            );
        }
        tracing::debug!(
            journal = %message.journal, feed = %message.feed, disposition = verdict.disposition.as_str(), reason = verdict.reason,
            "message committed"
        );
    }
    for ((feed, trigger, disposition), n) in kinds {
        let trigger = trigger.map_or_else(|| "other".to_owned(), |trigger| trigger.map_or_else(|| "none".to_owned(), |trigger| trigger.to_string()));
        let labels = [("feed", feed.as_str().to_owned()), ("trigger", trigger), ("disposition", disposition.as_str().to_owned())];
        metrics::counter!("wardroom_messages_total", &labels).increment(n);
    }
    for notice in batch::notices(work) {
        metrics::counter!("wardroom_notices_total", "code" => notice.code.as_str()).increment(1);
    }
}
