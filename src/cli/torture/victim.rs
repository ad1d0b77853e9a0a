//! The daemon under torture: a child that is killed, stopped, ended and started again, always on the same ports and the same store.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::process::Command;
use tokio::time::Instant;

const START_WITHIN: Duration = Duration::from_mins(1);
const END_WITHIN: Duration = Duration::from_secs(25);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The daemon.
#[derive(Debug)]
pub(super) struct Victim {
    folder: PathBuf,
    pub(super) feed: SocketAddr,
    child: Option<Child>,
    /// How often it ended although nobody asked it to.
    pub(super) n_ended_by_itself: u32,
}

/// An address that is free now.
pub(super) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

impl Victim {
    /// One that is not started yet; its configuration is in the folder.
    pub(super) fn new(folder: &Path, feed: SocketAddr) -> Self {
        Self { folder: folder.to_owned(), feed, child: None, n_ended_by_itself: 0 }
    }

    /// Starts it, and does not wait for anything.
    pub(super) fn start(&mut self) -> anyhow::Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.folder.join("log")).context("cannot write the log")?;
        let child = Command::new(std::env::current_exe()?)
            .args(["--config", "wardroom.toml", "serve"])
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the daemon")?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until it takes connections. One that ends instead, since its store or its port is not there yet, is started again.
    pub(super) async fn listens(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while TcpStream::connect(self.feed).await.is_err() {
            anyhow::ensure!(begun.elapsed() < START_WITHIN, "the daemon does not start; see `{}`", self.folder.join("log").display());
            if self.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None))) {
                self.n_ended_by_itself += 1;
                tokio::time::sleep(Duration::from_millis(200)).await;
                self.start()?;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Sends a signal.
    pub(super) fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().and_then(Child::id).and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(id) = id {
            // A process that has ended in between needs no signal.
            kill_process(id, signal).ok();
        }
    }

    /// Ends it as a power cut would.
    pub(super) async fn kill(&mut self) {
        self.signal(Signal::KILL);
        if let Some(mut child) = self.child.take() {
            drop(child.wait().await);
        }
    }

    /// Asks it to end, and waits for that.
    pub(super) async fn end(&mut self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM);
        let mut child = self.child.take().context("the daemon does not run")?;
        let ended = tokio::time::timeout(END_WITHIN, child.wait()).await;
        ended.map_err(|_| anyhow::anyhow!("the daemon did not end within {END_WITHIN:?} of SIGTERM"))?.context("cannot wait for the daemon")
    }
}
