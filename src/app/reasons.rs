//! Why a daemon is not ready, part by part: what stands still, and what somebody has to do about it.
//!
//! It looks at what the parts say of themselves and changes nothing.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::admin::readiness::Readiness;
use crate::admin::readiness::Reason;
use crate::cli::words::counted;
use crate::cli::words::counted_as;
use crate::directory::Directory;
use crate::ids::FeedName;
use crate::intake::guard::Guard;
use crate::intake::pulse::Pulse;
use crate::mllp::stats::Limit;
use crate::mllp::stats::ListenerStats;
use crate::outbox::status::RelayStatus;
use crate::time::Clock;
use crate::time::SystemClock;

/// When an unpublished event is old enough to be a reason not to be ready.
const OUTBOX_TOO_OLD: Duration = Duration::from_mins(5);
/// For how long a refused connection is a reason not to be ready; who is refused mostly tries again within seconds.
const REFUSED_LATELY: Duration = Duration::from_mins(1);

/// Until this is true, the daemon is not ready.
pub(super) fn start(readiness: &Readiness) -> Arc<AtomicBool> {
    let started = Arc::new(AtomicBool::new(false));
    let is_started = Arc::clone(&started);
    readiness.register(move || {
        let starting = || Reason::new("start", "the daemon is starting", "wait; if it takes long, read its log");
        if is_started.load(Ordering::SeqCst) { Vec::new() } else { vec![starting()] }
    });
    started
}

/// What cannot be published, and why.
pub(super) fn publishing(readiness: &Readiness, status: &Arc<RelayStatus>) {
    let status = Arc::clone(status);
    readiness.register(move || {
        let now = status.now();
        let mut reasons = Vec::new();
        if now.blocked {
            reasons.push(Reason::new("publish", "the broker blocks publishing", "look at the broker's memory and disk alarms"));
        }
        if let Some(trouble) = now.last_error {
            reasons.push(Reason::new("publish", trouble.kind, trouble.hint));
        }
        reasons
    });
}

/// Events that wait for long, whatever the reason.
pub(super) fn outbox(readiness: &Readiness, oldest_seconds: Arc<AtomicI64>) {
    readiness.register(move || {
        let age = oldest_seconds.load(Ordering::SeqCst);
        if Duration::from_secs(u64::try_from(age).unwrap_or(0)) < OUTBOX_TOO_OLD {
            return Vec::new();
        }
        let what = format!("the oldest unpublished event has waited {age} seconds");
        vec![Reason::new("outbox", what, "look at the broker and at the log; nothing is lost, events wait in the store")]
    });
}

/// A feed that has gone quiet is a reason to look, for whoever asks.
pub(super) fn feeds(readiness: &Readiness, pulses: Vec<(FeedName, Arc<Pulse>)>, guard: &Arc<Guard>, clock: &Arc<SystemClock>) {
    let (clock, guard) = (Arc::clone(clock), Arc::clone(guard));
    readiness.register(move || {
        let quiet = pulses.iter().filter_map(|(feed, pulse)| Some((feed, pulse.quiet(clock.now())?)));
        let waits = guard.waits(clock.now());
        let reason = |(feed, quiet): (&FeedName, Duration)| {
            let until = waits.iter().find(|(other, _)| other == feed).map(|(_, until)| format!("; leaves wait until {until} at the latest"));
            let minutes = counted(usize::try_from(quiet.as_secs() / 60).unwrap_or(usize::MAX), "minute");
            let what = format!("feed {feed} has said nothing for {minutes}, much longer than usual{}", until.unwrap_or_default());
            Reason::new("feed", what, "ask the interface team whether the sender runs; nothing is wrong with this daemon")
        };
        quiet.map(reason).collect()
    });
}

/// Connections that were refused of late are a reason: a sender may stand outside with its messages.
pub(super) fn connections(readiness: &Readiness, listeners: Vec<(FeedName, Arc<ListenerStats>)>) {
    readiness.register(move || {
        let reason = |(feed, stats): &(FeedName, Arc<ListenerStats>)| {
            let (ago, Limit { key, limit }) = stats.last_refusal().filter(|(ago, _)| *ago < REFUSED_LATELY)?;
            let n_refused = counted_as(usize::try_from(stats.n_refused()).unwrap_or(usize::MAX), "connection was", "connections were");
            let seconds = counted(usize::try_from(ago.as_secs()).unwrap_or(usize::MAX), "second");
            let what = format!("feed {feed}: {n_refused} refused since the start, the last {seconds} ago, because `{key}` of the feed is {limit}");
            Some(Reason::new("connections", what, Limit::HINT))
        };
        listeners.iter().filter_map(reason).collect()
    });
}

/// Files of staff or units that were refused are a reason: who is new joins no room, and who has gone stays in theirs.
pub(super) fn directory(readiness: &Readiness, directory: &Arc<Directory>) {
    let directory = Arc::clone(directory);
    readiness.register(move || {
        let reason = |trouble: String| {
            let (what, remedy) = trouble.split_once("\nhint: ").unwrap_or((&trouble, "put the file right; it is read again by itself"));
            Reason::new("directory", format!("staff and units were not read again, and those read before stand: {what}"), remedy.to_owned())
        };
        directory.trouble().map(reason).into_iter().collect()
    });
}

/// Leaves and ends that wait for an operator are a reason to come.
pub(super) fn guard(readiness: &Readiness, guard: &Arc<Guard>) {
    let guard = Arc::clone(guard);
    readiness.register(move || {
        let reason = |since| {
            let what = format!("too many rooms would have ended at once: since {since} leaves and ends wait, joins go on");
            Reason::new("guard", what, "find out what the feed did; then say `wardroom guard release`, and they happen")
        };
        guard.since().map(reason).into_iter().collect()
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::publishing;
    use crate::admin::readiness::Readiness;
    use crate::outbox::status::RelayStatus;
    use crate::outbox::status::Trouble;

    #[test]
    fn events_that_a_broker_returns_are_a_reason_while_rooms_wait_for_that() {
        let (readiness, status) = (Readiness::default(), Arc::<RelayStatus>::default());
        publishing(&readiness, &status);
        status.connected(true);
        status.trouble(Trouble { kind: "unroutable", hint: "bind a queue" });
        status.held(2);
        let reasons = readiness.report().reasons;
        assert!(reasons.iter().any(|reason| reason.what == "unroutable" && reason.remedy == "bind a queue"), "{reasons:?}");
        status.held(0);
        status.works();
        assert!(readiness.report().ready);
    }
}
