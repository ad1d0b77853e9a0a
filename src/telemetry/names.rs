//! Every metric, with its kind, unit, labels and help, in one place.
//!
//! The parts emit by these names through the `metrics` crate and do not import this module; a test holds the two against each other. A label has a
//! bounded set of values: configuration (`feed`), closed lists of the code (`disposition`, `status`, `code`), or what `metrics` bounds (`trigger`).
//! Never an id, an address, a unit or a user.

use metrics::Unit;

/// How a metric moves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only up.
    Counter,
    /// Up and down.
    Gauge,
    /// A distribution over these upper bounds.
    Histogram(&'static [f64]),
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// As Prometheus shows it.
    pub name: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// What it counts.
    pub unit: Unit,
    /// The labels it may carry, and no others.
    pub labels: &'static [&'static str],
    /// One line for people.
    pub help: &'static str,
}

/// Seconds from half a millisecond (a commit on a local disk) to ten seconds (the default `commit_timeout`).
const SECONDS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Messages in one commit.
const BATCH: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// All metrics, in the order of a message's way.
pub const METRICS: &[Metric] = &[
    gauge("wardroom_connections", Unit::Count, &["feed"], "MLLP connections now open"),
    counter("wardroom_connections_total", &["feed"], "MLLP connections accepted"),
    counter("wardroom_connections_refused_total", &["feed"], "MLLP connections closed at once because too many were open"),
    gauge("wardroom_frames_unfinished", Unit::Count, &["feed"], "Frames that have begun and not ended"),
    gauge("wardroom_frames_unfinished_bytes", Unit::Bytes, &["feed"], "Bytes that are here of frames that have not ended"),
    gauge("wardroom_frames_unfinished_seconds", Unit::Seconds, &["feed"], "Seconds since the oldest frame that has not ended began"),
    counter("wardroom_tls_reloads_total", &["outcome"], "Certificates of listeners read again after a change: loaded or refused"),
    gauge("wardroom_tls_certificate_seconds", Unit::Seconds, &["listener"], "Seconds until the certificate of a listener ends"),
    counter("wardroom_frames_refused_total", &["feed", "reason"], "Frames that held no message: too long, outside the block, empty"),
    gauge("wardroom_intake_shut", Unit::Count, &["reason"], "1 while no message is taken for this reason, else 0"),
    counter("wardroom_messages_total", &["feed", "trigger", "disposition"], "Messages that reached a terminal state"),
    counter("wardroom_acks_total", &["code"], "Acknowledgements sent"),
    counter("wardroom_inbound_acks_total", &["feed"], "Acknowledgements of our acknowledgements, swallowed"),
    histogram("wardroom_ack_seconds", Unit::Seconds, SECONDS, &[], "From the last byte of a message to its acknowledgement"),
    counter("wardroom_notices_total", &["code"], "Things worth telling about messages that were taken"),
    gauge("wardroom_feed_idle_seconds", Unit::Seconds, &["feed"], "Seconds since the last message of a feed"),
    gauge("wardroom_feed_clock_skew_seconds", Unit::Seconds, &["feed"], "How far the clock of a feed is ahead of ours; negative when behind"),
    gauge("wardroom_directory_refused", Unit::Count, &[], "1 while the files of staff and units are not in use as they are now, else 0"),
    histogram("wardroom_commit_messages", Unit::Count, BATCH, &[], "Messages in one commit"),
    histogram("wardroom_commit_seconds", Unit::Seconds, SECONDS, &[], "Time one commit takes, until it is on disk"),
    counter("wardroom_commit_conflicts_total", &[], "Commits planned again: another replica was first, or one of their messages was a repeat"),
    counter("wardroom_commit_failures_total", &[], "Commits the store refused; their messages were not acknowledged"),
    gauge(
        "wardroom_store_log_bytes",
        Unit::Bytes,
        &[],
        "Length of a SQLite store's write-ahead log; it grows while another process keeps it from being written back",
    ),
    gauge("wardroom_feed_silent", Unit::Count, &["feed"], "1 while leaves wait because the feed is silent beyond its rhythm"),
    gauge("wardroom_guard_on", Unit::Count, &[], "1 while leaves and ends wait for an operator because many rooms would end at once"),
    counter("wardroom_held_changes_total", &[], "Leaves and ends that were held back, each time a room was planned"),
    counter("wardroom_rooms_kept_out_total", &[], "Rooms not opened because their unit is in use no more, each time a room was planned"),
    gauge("wardroom_rooms", Unit::Count, &["status"], "Rooms by status"),
    counter("wardroom_purged_total", &["what"], "Visits, rooms, patients and messages deleted because their time was over"),
    gauge("wardroom_quarantine_messages", Unit::Count, &[], "Messages waiting in quarantine"),
    gauge("wardroom_ledger_balanced", Unit::Count, &[], "1 while every message and event of the last hours is accounted for, else 0"),
    gauge("wardroom_ledger_accepted_messages", Unit::Count, &["feed"], "Messages of the last hours, counted when they were kept"),
    gauge("wardroom_ledger_accounted_messages", Unit::Count, &["feed"], "Messages of the last hours that are in a terminal state, recounted"),
    gauge("wardroom_ledger_events", Unit::Count, &["state"], "Events ever made, confirmed, and now pending or parked, recounted"),
    gauge("wardroom_outbox_events", Unit::Count, &[], "Committed events not yet taken by the backend"),
    gauge("wardroom_outbox_oldest_seconds", Unit::Seconds, &[], "Age of the oldest of them"),
    counter("wardroom_publish_confirms_total", &[], "Events the broker confirmed and routed"),
    counter("wardroom_publish_returns_total", &[], "Events the broker could not route to any queue"),
    counter("wardroom_publish_refusals_total", &[], "Events the broker refused, or did not answer in time"),
    counter("wardroom_publish_failures_total", &["kind"], "Attempts to connect that failed, and batches of which nobody knows what became"),
    counter("wardroom_publish_parked_total", &[], "Events parked because no broker would ever take them"),
    gauge("wardroom_publish_held_rooms", Unit::Count, &[], "Rooms whose events wait behind one that was parked"),
    histogram("wardroom_publish_seconds", Unit::Seconds, SECONDS, &[], "From sending a batch of events to its last confirm"),
    gauge("wardroom_broker_connected", Unit::Count, &[], "1 while the connection to the broker is up"),
    gauge("wardroom_broker_blocked", Unit::Count, &[], "1 while the broker asks publishers to wait"),
    gauge("wardroom_ready", Unit::Count, &[], "1 while `/readyz` says ready"),
    gauge("wardroom_build_info", Unit::Count, &["version"], "Always 1; the version is the label"),
];

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, unit: Unit::Count, labels, help }
}

const fn gauge(name: &'static str, unit: Unit, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, unit, labels, help }
}

const fn histogram(name: &'static str, unit: Unit, buckets: &'static [f64], labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram(buckets), unit, labels, help }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use metrics::Unit;

    use super::Kind;
    use super::METRICS;

    #[test]
    fn names_are_unique_prefixed_and_end_as_prometheus_expects() {
        let mut seen = BTreeSet::new();
        for metric in METRICS {
            assert!(seen.insert(metric.name), "{} stands twice", metric.name);
            assert!(metric.name.starts_with("wardroom_"), "{}", metric.name);
            assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
            assert_eq!(metric.unit == Unit::Seconds, metric.name.ends_with("_seconds"), "{}", metric.name);
        }
    }

    #[test]
    fn buckets_grow() {
        for metric in METRICS {
            if let Kind::Histogram(buckets) = metric.kind {
                assert!(buckets.windows(2).all(|pair| pair[0] < pair[1]), "{}", metric.name);
            }
        }
    }
}
