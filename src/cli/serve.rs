//! `wardroom serve`: the daemon, until somebody stops it.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use rustix::fs::Mode;
use rustix::process::umask;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

use crate::app::Daemon;
use crate::cli::console::Console;
use crate::cli::setting::Setting;
use crate::config::environment::Environment;
use crate::telemetry;
use crate::telemetry::Guard;
use crate::telemetry::TelemetryOptions;
use crate::time::SystemClock;

/// Runs the daemon.
#[derive(clap::Args, Debug)]
pub struct ServeArgs {
    /// Let the clock go wrong by so many milliseconds: `torture` tells its replicas so
    #[arg(long, value_name = "MS", hide = true, default_value_t = 0, allow_negative_numbers = true)]
    clock_skew: i64,
}

/// Runs the command: until SIGTERM or SIGINT; a second signal ends it at once.
///
/// # Errors
/// When signals cannot be listened to.
pub async fn run(args: &ServeArgs, config: Option<&Path>, console: &Console) -> anyhow::Result<ExitCode> {
    SystemClock::goes_wrong_by(args.clock_skew);
    // What the daemon makes is for nobody else: events as JSON Lines are not sealed.
    umask(Mode::RWXG | Mode::RWXO);
    let setting = match Setting::load(config, console)? {
        Ok(setting) => setting,
        Err(code) => return Ok(code),
    };
    let environment = Environment::of_process();
    let options = TelemetryOptions::for_stderr(environment.log_filter().map(str::to_owned), setting.config.telemetry.otlp.clone());
    let guard = match telemetry::init(&options) {
        Ok(guard) => guard,
        Err(error) => return console.fail(64, &anyhow::Error::new(error)),
    };
    let metrics = telemetry::metrics::install()?;
    for warning in &setting.config.warnings {
        tracing::warn!("{warning}");
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // A store or a file that does not answer must not keep a daemon that is told to end. Nothing was taken yet.
    let started = tokio::select! {
        started = Daemon::start(&setting, &metrics) => started,
        _ = terminate.recv() => return stopped_while_starting(guard).await,
        _ = interrupt.recv() => return stopped_while_starting(guard).await,
    };
    let daemon = match started {
        Ok(daemon) => daemon,
        Err(not_started) => {
            guard.shutdown().await;
            return console.fail(not_started.code, &not_started.error);
        }
    };
    let died = tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
        () = daemon.failed() => true,
    };
    if died {
        tracing::error!("a part that must not end has ended; wardroom stops\nhint: this is a bug; please report what the log says above");
    } else {
        tracing::info!("stopping: frames in flight are finished first; a second signal ends it at once");
    }
    tokio::select! {
        () = daemon.stop() => {}
        _ = terminate.recv() => std::process::exit(1),
        _ = interrupt.recv() => std::process::exit(1),
        () = tokio::time::sleep(Duration::from_secs(19)) => tracing::warn!("stopped before everything had ended; what is left is taken up at the next start"),
    }
    guard.shutdown().await;
    Ok(if died { ExitCode::from(70) } else { ExitCode::SUCCESS })
}

async fn stopped_while_starting(guard: Guard) -> anyhow::Result<ExitCode> {
    tracing::info!("stopped before it was ready");
    guard.shutdown().await;
    Ok(ExitCode::SUCCESS)
}
