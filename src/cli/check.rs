//! `wardroom check`: everything that is wrong with the configuration, at once; then whether what it needs can be reached.
//!
//! It changes nothing, and it shows no secret.

mod lint;
mod probe;
mod report;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io::IsTerminal as _;
use std::io::Write as _;
use std::path::Path;
use std::pin::Pin;
use std::process::ExitCode;

use crate::cli::check::report::Finding;
use crate::cli::check::report::Report;
use crate::cli::check::report::State;
use crate::cli::console::OutputError;
use crate::cli::words::counted;
use crate::cli::words::counted_as;
use crate::config::Config;
use crate::config::environment::Environment;
use crate::directory;
use crate::directory::Contents;
use crate::directory::Sources;
use crate::mllp::tls::ServerTls;
use crate::mllp::tls::ServerTlsFiles;
use crate::time::Clock;
use crate::time::Timestamp;

/// Say everything that is wrong with the configuration, then reach what it needs.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct CheckArgs {
    /// Look at the files only, and reach nothing
    #[arg(long)]
    pub offline: bool,
}

/// Something to reach: what it is, and the attempt. It says what it found, or why it failed; neither may hold a secret.
pub type Probe = (String, Attempt);

/// An attempt to reach something.
pub type Attempt = Pin<Box<dyn Future<Output = Result<String, Failed>> + Send>>;

/// Why an attempt failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Failed {
    /// It cannot be reached, as far as can be told from here.
    Unreachable(String),
    /// The configuration names something else than what is there.
    Wrong(String),
    /// It may be as it should be.
    Doubtful(String),
}

impl From<String> for Failed {
    fn from(text: String) -> Self {
        Self::Unreachable(text)
    }
}

/// What the command exits with when the configuration is wrong.
pub const EXIT_CONFIGURATION: u8 = 64;
/// What it exits with when something cannot be reached.
pub const EXIT_UNREACHABLE: u8 = 69;

/// Runs the command. `more_probes` are those of parts that know better than a TCP connection how to be reached.
///
/// # Errors
/// When standard output cannot be written.
pub async fn run(
    args: &CheckArgs,
    file: Option<&Path>,
    json: bool,
    environment: &Environment,
    clock: &dyn Clock,
    more_probes: impl FnOnce(&Config) -> Vec<Probe>,
) -> anyhow::Result<ExitCode> {
    let report = examine(args, file, environment, clock.now(), more_probes).await;
    let mut out = std::io::stdout();
    let text = if json {
        serde_json::to_string_pretty(&report)? + "\n"
    } else {
        report.table(out.is_terminal() && environment.value("NO_COLOR").is_none_or(str::is_empty))
    };
    out.write_all(text.as_bytes()).map_err(OutputError::from)?;
    Ok(ExitCode::from(report.exit_code()))
}

async fn examine(
    args: &CheckArgs,
    file: Option<&Path>,
    environment: &Environment,
    now: Timestamp,
    more_probes: impl FnOnce(&Config) -> Vec<Probe>,
) -> Report {
    let mut report = Report::default();
    let config = match Config::load(file, environment) {
        Ok(config) => config,
        Err(errors) => {
            for problem in errors.0 {
                report.add(Finding::of_problem(State::Wrong, problem));
            }
            return report;
        }
    };
    let name = config.file.as_ref().map_or_else(|| "built-in defaults".to_owned(), |file| file.display().to_string());
    let feeds: Vec<String> = config.feeds.iter().map(|feed| format!("{} on {}", feed.name, feed.listen)).collect();
    report.add(Finding::new(State::Ok, "configuration", format!("{name}: {}", feeds.join(", "))));
    for warning in config.warnings.clone() {
        report.add(Finding::of_problem(State::Warning, warning));
    }
    for feed in &config.feeds {
        if let Some(files) = &feed.tls {
            tls(&format!("TLS of feed {}", feed.name), files, now, &mut report);
        }
    }
    if let Some(files) = &config.admin.tls {
        tls("TLS of admin", files, now, &mut report);
    }
    directory(&config, &mut report);
    if !args.offline {
        let probes = probe::standard(&config).into_iter().chain(more_probes(&config));
        let outcomes = futures_util::future::join_all(probes.map(|(subject, attempt)| async move { (subject, probe::in_time(attempt).await) }));
        for (subject, outcome) in outcomes.await {
            report.add(match outcome {
                Ok(text) => Finding::new(State::Ok, subject, text),
                Err(Failed::Unreachable(text)) => Finding::new(State::Unreachable, subject, text),
                Err(Failed::Wrong(text)) => Finding::new(State::Wrong, subject, text),
                Err(Failed::Doubtful(text)) => Finding::new(State::Warning, subject, text),
            });
        }
    }
    report
}

/// The TLS files of a listener, and how long its certificate still holds.
fn tls(subject: &str, files: &ServerTlsFiles, now: Timestamp, report: &mut Report) {
    let named = [Some(&files.certificate), Some(&files.key), files.client_ca.as_ref()];
    let unreadable = named.into_iter().flatten().filter_map(|file| Some((file, std::fs::read(file).err()?)));
    let unreadable: Vec<Finding> =
        unreadable.map(|(file, error)| Finding::new(State::Wrong, subject, format!("{} cannot be read: {error}", file.display()))).collect();
    if unreadable.is_empty() {
        report.add(pair(subject, files, now));
    }
    for finding in unreadable {
        report.add(finding);
    }
}

/// Certificate and key together.
fn pair(subject: &str, files: &ServerTlsFiles, now: Timestamp) -> Finding {
    let expires_at = match ServerTls::load(files.clone()) {
        Ok(tls) => tls.expires_at(),
        Err(error) => return Finding::new(State::Wrong, subject, error.to_string()),
    };
    let Some(expires_at) = expires_at else {
        return Finding::new(State::Warning, subject, "the certificate can be used, but not when it ends could be read".to_owned());
    };
    let n_days = expires_at.since(now).as_secs() / 86_400;
    if expires_at <= now {
        Finding::new(State::Wrong, subject, format!("the certificate ended at {expires_at}"))
    } else if n_days < 30 {
        Finding::new(
            State::Warning,
            subject,
            format!("the certificate ends in {}, at {expires_at}", counted(usize::try_from(n_days).unwrap_or(0), "day")),
        )
    } else {
        Finding::new(State::Ok, subject, format!("certificate and key fit; it ends at {expires_at}"))
    }
}

fn directory(config: &Config, report: &mut Report) {
    let sources = &config.directory;
    let mut contents = Contents::default();
    let mut is_whole = true;
    // Each file by itself: what is wrong with one hides nothing of the other.
    for file in [Sources { units: None, ..sources.clone() }, Sources { staff: None, ..sources.clone() }] {
        match directory::read(&file) {
            Ok(read) => {
                contents.staff.extend(read.staff);
                contents.units.extend(read.units);
                contents.bad_lines.extend(read.bad_lines);
            }
            Err(error) => {
                let source = std::error::Error::source(&error).map_or_else(String::new, |source| format!(": {source}"));
                report.add(Finding::new(State::Wrong, "directory", format!("{error}{source}")));
                is_whole = false;
            }
        }
    }
    for bad_line in &contents.bad_lines {
        report.add(Finding::new(State::Wrong, "directory", bad_line.to_string()));
    }
    if !is_whole {
        return;
    }
    for (subject, text) in lint::directory(&contents, sources) {
        report.add(Finding::new(State::Warning, subject, text));
    }
    let text = match (&sources.staff, &sources.units) {
        (None, None) => "no staff and no units: everybody whom a message names joins as AUTHORITY:ID".to_owned(),
        _ => format!("{}, {}", counted_as(contents.staff.len(), "member of staff", "members of staff"), counted(contents.units.len(), "unit")),
    };
    report.add(Finding::new(State::Ok, "directory", text));
}
