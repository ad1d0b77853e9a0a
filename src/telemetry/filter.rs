//! What may be logged or exported at all, whatever `WARDROOM_LOG` asks for.
//!
//! Libraries below us handle whole messages and print them when asked to: lapin logs a message that the broker returned, in full, at WARN
//! (`lapin::returned_messages`); at TRACE it prints frames, and so do the HTTP crates, bearer tokens among them. So every crate but this one has a
//! ceiling, and the log filter can only lower it.

use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::FilterFn;

/// The ceiling of a crate that is not in [`CEILINGS`].
const FOREIGN: LevelFilter = LevelFilter::INFO;

/// Ceilings by target, the longer path before the shorter.
const CEILINGS: &[(&str, LevelFilter)] = &[
    ("wardroom", LevelFilter::TRACE),
    ("lapin::returned_messages", LevelFilter::OFF), // prints the body of the message
    ("lapin", LevelFilter::INFO),
    ("hl7_parser", LevelFilter::OFF),             // its errors quote the message
    ("sqlx::postgres::notice", LevelFilter::OFF), // the server's words, which may quote a row
    ("sqlx", LevelFilter::WARN),
    ("rustls", LevelFilter::DEBUG), // TLS trouble is worth reading, and handshakes hold no message
    ("tokio_rustls", LevelFilter::DEBUG),
];

/// The filter that goes before the log writer, in conjunction with what the operator asks for.
pub fn phi_filter() -> FilterFn<fn(&Metadata<'_>) -> bool> {
    let allowed: fn(&Metadata<'_>) -> bool = |metadata| *metadata.level() <= ceiling(metadata.target());
    FilterFn::new(allowed).with_max_level_hint(LevelFilter::TRACE)
}

/// The filter that goes before the exporter of spans: our own spans and events, from INFO up. The crates that carry the export (h2, hyper, tonic,
/// tower, opentelemetry) can then never export themselves.
pub fn own_spans() -> FilterFn<fn(&Metadata<'_>) -> bool> {
    let allowed: fn(&Metadata<'_>) -> bool = |metadata| *metadata.level() <= LevelFilter::INFO && is_under(metadata.target(), "wardroom");
    FilterFn::new(allowed).with_max_level_hint(LevelFilter::INFO)
}

fn ceiling(target: &str) -> LevelFilter {
    CEILINGS.iter().find(|(path, _)| is_under(target, path)).map_or(FOREIGN, |(_, level)| *level)
}

/// Whether a target is this module path or one below it.
fn is_under(target: &str, path: &str) -> bool {
    target.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use tracing::level_filters::LevelFilter;

    use super::CEILINGS;
    use super::ceiling;

    #[test]
    fn a_path_covers_what_is_below_it_and_nothing_that_only_starts_alike() {
        assert_eq!(ceiling("lapin::returned_messages"), LevelFilter::OFF);
        assert_eq!(ceiling("lapin::returned_messages::inner"), LevelFilter::OFF);
        assert_eq!(ceiling("lapin::channel"), LevelFilter::INFO);
        assert_eq!(ceiling("wardroom::mllp"), LevelFilter::TRACE);
        assert_eq!(ceiling("wardroomish"), LevelFilter::INFO);
        assert_eq!(ceiling("a_crate_added_tomorrow"), LevelFilter::INFO);
    }

    #[test]
    fn no_ceiling_is_hidden_by_a_shorter_path_before_it() {
        for (index, (path, level)) in CEILINGS.iter().enumerate() {
            assert_eq!(ceiling(path), *level, "entry {index} is never reached");
        }
    }
}
