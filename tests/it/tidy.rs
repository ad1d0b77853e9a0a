//! The lines of the house, checked in the sources: who may import whom, where SQL, AMQP and the clock may stand, and what may stand nowhere.
//!
//! A failure names the file, the line and the rule. When a rule is in the way of good code, the rule is discussed; it is not worked around.

mod source;

use std::fs;
use std::io;

use wardroom::telemetry::names::METRICS;

use self::source::Source;
use self::source::files;
use self::source::is_rust;
use self::source::top;

/// What everybody stands on.
const VOCABULARY: &[&str] = &["phi", "ids", "time", "random"];

/// Who may import whom, beside the vocabulary and itself. A module that is not in the list may import nothing else.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("mllp", &[]),
    ("hl7", &["care::notice", "care::fact::FieldRef", "care::fact::FieldUpdate"]),
    ("adt", &["hl7", "care"]),
    ("care", &[]),
    ("directory", &["care", "hl7", "adt"]),
    ("store", &[]),
    ("store::form", &["care::fact", "care::grant", "care::identity", "care::visit", "care::room"]),
    ("outbox", &["store", "care"]),
    ("audit", &["store", "care"]),
    ("wake", &["intake", "store", "care", "directory"]),
    ("intake", &["mllp", "hl7", "adt", "care", "directory", "store", "outbox", "audit", "wake"]),
    ("admin", &["intake", "care", "directory", "store", "outbox", "audit", "wake"]),
    ("config", &["mllp", "hl7", "adt", "care", "directory", "intake", "store", "outbox", "audit", "wake", "admin"]),
    ("telemetry", &[]),
];

/// The modules that may import everything.
const DRIVERS: &[&str] = &["main", "lib", "app", "cli"];

/// Crates that belong to one part, so that replacing one touches one place.
const CRATE_OF: &[(&str, &[&str])] = &[
    ("lapin", &["src/outbox/amqp"]),
    ("sqlx", &["src/store/"]),
    ("hl7_parser", &["src/hl7/"]),
    ("axum", &["src/admin/"]),
    ("clap", &["src/cli/", "src/app.rs", "src/main.rs"]),
    ("anyhow", &["src/cli/", "src/app.rs", "src/main.rs"]),
    ("tracing_subscriber", &["src/telemetry/"]),
    ("opentelemetry_otlp", &["src/telemetry/"]),
    ("metrics_exporter_prometheus", &["src/telemetry/"]),
];

/// What the core never does: wait, ask for the time, draw at random, do I/O, log, count, print.
const NOT_IN_CORE: &[&str] = &[
    "async fn",
    "async move",
    ".await",
    "tokio::",
    "futures_util::",
    "tracing::",
    "metrics::",
    "log::",
    "std::fs",
    "std::io",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "std::time::SystemTime",
    "std::time::Instant",
    "Timestamp::now",
    "Zoned::now",
    "SystemClock",
    "crate::random",
    "new_v4",
    "now_v7",
    "println!",
    "eprintln!",
    "print!",
    "eprint!",
];

fn allowed(module: &[&str], path: &[String]) -> bool {
    let (Some(own), Some(target)) = (module.first(), path.first()) else { return true };
    // `super` inside of a module written in place leads to a name of the same file.
    if DRIVERS.contains(own) || own == target || !is_module(target) {
        return true;
    }
    if VOCABULARY.contains(&target.as_str()) {
        return *own == "ids" || !VOCABULARY.contains(own);
    }
    let name = module.join("::");
    let path = path.join("::");
    MAY_IMPORT.iter().filter(|(from, _)| is_at_or_below(&name, from)).flat_map(|(_, targets)| *targets).any(|target| is_at_or_below(&path, target))
}

fn is_module(name: &str) -> bool {
    VOCABULARY.contains(&name) || DRIVERS.contains(&name) || MAY_IMPORT.iter().any(|(module, _)| *module == name)
}

fn is_at_or_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn listing(what: &str, found: &[String]) -> String {
    format!("{what}\n  {}\n", found.join("\n  "))
}

#[test]
fn everybody_imports_only_whom_they_may() {
    let mut wrong = Vec::new();
    for source in Source::all().unwrap() {
        let module = source.module();
        for (line, path) in source.crate_paths() {
            if !allowed(&module, &path) {
                wrong.push(format!("{}:{line}: `{}` may not import `{}`", source.path, module.join("::"), path.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", listing("imports against the lines of the house (see MAY_IMPORT in this test):", &wrong));
}

#[test]
fn every_module_has_its_lines() {
    let strangers: Vec<String> = Source::all()
        .unwrap()
        .iter()
        .filter(|source| !source.module().first().is_some_and(|name| is_module(name)))
        .map(|source| source.path.clone())
        .collect();
    assert!(strangers.is_empty(), "{}", listing("modules that MAY_IMPORT does not know yet:", &strangers));
}

#[test]
fn a_crate_that_belongs_to_one_part_is_used_there_only() {
    let mut wrong = Vec::new();
    for source in Source::all().unwrap() {
        for (name, homes) in CRATE_OF {
            if !homes.iter().any(|home| source.path.starts_with(home)) {
                wrong.extend(source.lines_with(&[&format!("{name}::")]).into_iter().map(|hit| format!("{hit} belongs under {}", homes.join(", "))));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", listing("crates used outside of the part they belong to:", &wrong));
}

#[test]
fn the_core_is_plain_functions() {
    let core = |source: &Source| source.module().first().is_some_and(|own| ["hl7", "adt", "care"].contains(own));
    let wrong: Vec<String> = Source::all().unwrap().iter().filter(|source| core(source)).flat_map(|source| source.lines_with(NOT_IN_CORE)).collect();
    assert!(wrong.is_empty(), "{}", listing("the core takes time as an argument and hands out notices; it never waits, looks or logs:", &wrong));
}

#[test]
fn sql_stands_only_in_the_store() {
    let is_sql = |text: &str| {
        let text = text.trim_start_matches(|c: char| c.is_whitespace() || c == '\\');
        let starts = ["SELECT ", "INSERT INTO ", "DELETE FROM ", "CREATE TABLE", "CREATE UNIQUE", "CREATE INDEX", "ALTER TABLE", "PRAGMA ", "BEGIN "];
        starts.iter().any(|start| text.starts_with(start)) || (text.starts_with("UPDATE ") && text.contains(" SET ")) || text.starts_with("WITH ")
    };
    let mut wrong = Vec::new();
    for source in Source::all().unwrap().iter().filter(|source| !source.path.starts_with("src/store/")) {
        wrong.extend(source.literals.iter().filter(|(_, text)| is_sql(text)).map(|(line, _)| format!("{}:{line}", source.path)));
    }
    assert!(wrong.is_empty(), "{}", listing("SQL outside of `store`:", &wrong));
}

#[test]
fn errors_are_logged_as_they_display_and_spans_skip_their_arguments() {
    let mut wrong = Vec::new();
    for source in Source::all().unwrap() {
        // `?error` prints fields that hold values of a row or of a message.
        for (number, line) in (1..).zip(source.code.lines()) {
            if ["?error", "?err", "?source", "?e)", "?e,", "error:?", "err:?"].iter().any(|debug| line.contains(debug)) {
                wrong.push(format!("{}:{number}: an error is logged with %, never with ?", source.path));
            }
        }
        for (at, _) in source.code.match_indices("instrument") {
            let attribute = source.code.get(at..).and_then(|rest| rest.split_once(']')).map_or("", |(attribute, _)| attribute);
            let before = source.code.get(..at).unwrap_or_default();
            if (before.ends_with("#[") || before.ends_with("#[tracing::")) && !attribute.contains("skip_all") {
                let line = before.matches('\n').count() + 1;
                wrong.push(format!("{}:{line}: `instrument` without `skip_all` records every argument", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", listing("log lines and spans that may hold PHI:", &wrong));
}

#[test]
fn every_metric_that_is_emitted_is_in_the_list() {
    let mut wrong = Vec::new();
    for source in Source::all().unwrap() {
        let metric = |text: &str| {
            text.strip_prefix("wardroom_").is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        };
        // A histogram is rendered as a sum and a count too.
        let name = |text: &str| text.strip_suffix("_sum").or_else(|| text.strip_suffix("_count")).unwrap_or(text).to_owned();
        let stray = |text: &str| metric(text) && METRICS.iter().all(|known| known.name != text && known.name != name(text));
        wrong.extend(source.literals.iter().filter(|(_, text)| stray(text)).map(|(line, text)| format!("{}:{line}: {text}", source.path)));
    }
    assert!(wrong.is_empty(), "{}", listing("metrics that `telemetry/names.rs` does not describe:", &wrong));
}

#[test]
fn every_module_says_what_it_does() {
    let wrong: Vec<String> = Source::all().unwrap().into_iter().filter(|source| !source.text.starts_with("//!")).map(|source| source.path).collect();
    assert!(wrong.is_empty(), "{}", listing("modules without a `//!` at their head:", &wrong));
}

/// The needles are put together here, so that this file does not find itself.
fn needle(parts: &[&str]) -> String {
    parts.concat()
}

#[test]
fn no_test_is_switched_off_and_nothing_is_left_to_do() {
    let needles = [needle(&["#[ig", "nore"]), needle(&["#[should", "_panic"]), needle(&["to", "do!("]), needle(&["unimple", "mented!("])];
    let mut wrong = Vec::new();
    for path in ["src", "tests", "benches"].iter().flat_map(|folder| files(folder).unwrap()).filter(|path| is_rust(path)) {
        let text = fs::read_to_string(top().join(&path)).unwrap();
        for (number, line) in (1..).zip(text.lines()) {
            wrong.extend(needles.iter().filter(|needle| line.contains(*needle)).map(|needle| format!("{path}:{number}: `{needle}`")));
        }
    }
    assert!(wrong.is_empty(), "{}", listing("a test that cannot run here says so and ends; in CI it fails:", &wrong));
}

#[test]
fn no_file_names_a_path_of_somebodys_machine() {
    let needles = [
        needle(&["/wo", "rk/"]),
        needle(&["/fa", "rm/"]),
        needle(&["/ro", "ot/"]),
        needle(&["/ho", "me/"]),
        needle(&["/Use", "rs/"]),
        needle(&["../sha", "red"]),
    ];
    let mut wrong = Vec::new();
    for path in files("").unwrap() {
        let bytes = fs::read(top().join(&path)).unwrap();
        // Binary files hold no paths that anybody reads.
        let Ok(text) = String::from_utf8(bytes) else { continue };
        for (number, line) in (1..).zip(text.lines()) {
            wrong.extend(needles.iter().filter(|needle| line.contains(*needle)).map(|needle| format!("{path}:{number}: `{needle}`")));
        }
    }
    assert!(wrong.is_empty(), "{}", listing("paths that exist on one machine only:", &wrong));
}

#[test]
fn the_image_runs_as_a_user_without_rights() {
    let text = fs::read_to_string(top().join("Dockerfile")).unwrap();
    let users: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("USER ")).collect();
    let last = users.last().copied().unwrap_or("root");
    // A number, so that Kubernetes can check `runAsNonRoot` without looking into the image.
    let uid = last.split(':').next().and_then(|uid| uid.parse::<u32>().ok());
    assert!(uid.is_some_and(|uid| uid >= 10_000), "the Dockerfile ends as `USER {last}`; it takes a number of 10000 or more");
}

#[test]
fn chart_and_crate_have_one_version() -> io::Result<()> {
    let chart = fs::read_to_string(top().join("helm/wardroom/Chart.yaml"))?;
    let expected = format!("appVersion: \"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(chart.lines().any(|line| line == expected), "helm/wardroom/Chart.yaml does not say `{expected}`");
    Ok(())
}
