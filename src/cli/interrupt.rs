//! Commands that start something of their own, and are asked to end before it is over.
//!
//! It ends nothing itself: whatever the work holds ends when the work is dropped.

use std::process::ExitCode;

use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

/// As a shell has it for a program that ended by SIGINT.
const EXIT_INTERRUPTED: u8 = 130;

/// Does the work, until SIGINT, SIGTERM or SIGHUP: then it is dropped where it stands.
///
/// # Errors
/// Those of the work, or signals cannot be listened to.
pub(super) async fn until_asked(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::select! {
        outcome = work => outcome,
        _ = interrupt.recv() => Ok(ExitCode::from(EXIT_INTERRUPTED)),
        _ = terminate.recv() => Ok(ExitCode::from(EXIT_INTERRUPTED)),
        _ = hang_up.recv() => Ok(ExitCode::from(EXIT_INTERRUPTED)),
    }
}
