//! A daemon under torture: a child that is killed, stopped, ended and started again, always on the same ports, in the same folder, with the same clock.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Signal;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::time::Instant;

use crate::cli::child;
use crate::cli::torture::proxy::Proxy;
use crate::outbox::relay;

const START_WITHIN: Duration = Duration::from_mins(2);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a daemon that is about to be killed may take to tell its figures.
const TELL_WITHIN: Duration = Duration::from_millis(300);
const CONFLICTS: &str = "wardroom_commit_conflicts_total";

/// What happened to a replica, and what it said that it did; what it did in its last moments before it was killed is not in it.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Tally {
    pub(super) clock_skew_ms: i64,
    pub(super) kills: u32,
    pub(super) stops: u32,
    pub(super) ends: u32,
    pub(super) cuts: u32,
    /// How often it ended although nobody asked it to: its store was not there when it started.
    pub(super) ended_by_itself: u32,
    pub(super) connections: u64,
    pub(super) published: u64,
    /// How often it planned again because another replica was first.
    pub(super) conflicts: u64,
}

/// The network between a replica and what it leans on, where that can be disturbed.
#[derive(Clone, Debug)]
pub(super) struct Links {
    pub(super) database: Option<Proxy>,
    pub(super) broker: Option<Proxy>,
}

/// One of the daemons.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) folder: PathBuf,
    pub(super) feed: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) links: Links,
    pub(super) tally: Tally,
    child: Option<Child>,
    stopped_until: Option<Instant>,
}

impl Replica {
    /// One that is not started yet; its configuration is in the folder.
    pub(super) fn new(folder: PathBuf, feed: SocketAddr, admin: SocketAddr, links: Links, clock_skew_ms: i64) -> Self {
        let tally = Tally { clock_skew_ms, ..Tally::default() };
        Self { folder, feed, admin, links, tally, child: None, stopped_until: None }
    }

    /// Starts it, and does not wait for anything.
    pub(super) fn start(&mut self) -> anyhow::Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.folder.join("log")).context("cannot write the log")?;
        self.child = Some(child::serve(&self.folder, "wardroom.toml", &["--clock-skew", &self.tally.clock_skew_ms.to_string()], log)?);
        self.stopped_until = None;
        Ok(())
    }

    /// Waits until it takes connections. One that ends instead, since its store or its port is not there yet, is started again.
    pub(super) async fn listens(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while TcpStream::connect(self.feed).await.is_err() {
            anyhow::ensure!(begun.elapsed() < START_WITHIN, "the daemon does not start; see `{}`", self.folder.join("log").display());
            if self.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None))) {
                self.tally.ended_by_itself += 1;
                tokio::time::sleep(Duration::from_millis(200)).await;
                self.start()?;
            }
            self.go_on_when_due();
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Stops it where it stands, for so long.
    pub(super) fn stop_for(&mut self, span: Duration) {
        self.signal(Signal::STOP);
        self.stopped_until = Some(Instant::now() + span);
        self.tally.stops += 1;
    }

    /// Whether it stands still.
    pub(super) const fn is_stopped(&self) -> bool {
        self.stopped_until.is_some()
    }

    /// Lets it go on when it stood still for as long as it was to.
    pub(super) fn go_on_when_due(&mut self) {
        if self.stopped_until.is_some_and(|until| until <= Instant::now()) {
            self.go_on();
        }
    }

    /// Lets it go on.
    pub(super) fn go_on(&mut self) {
        if self.stopped_until.take().is_some() {
            self.signal(Signal::CONT);
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            child::signal(child, signal);
        }
    }

    /// Ends it as a power cut would.
    pub(super) async fn kill(&mut self) {
        self.tell().await;
        self.signal(Signal::KILL);
        if let Some(mut child) = self.child.take() {
            drop(child.wait().await);
        }
    }

    /// Asks it to end, and waits for that; says what was wrong with its end.
    pub(super) async fn end(&mut self) -> anyhow::Result<Option<String>> {
        self.go_on();
        self.tell().await;
        let status = child::end(&mut self.child.take().context("the daemon does not run")?).await?;
        Ok((!status.success()).then(|| format!("the daemon in `{}` did not end in good order: {status}", self.folder.display())))
    }

    /// What it holds in memory now, in KiB.
    pub(super) fn resident_kib(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.as_ref()?.id()?)).ok()?;
        status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()
    }

    /// Takes its figures down before they are gone with it.
    async fn tell(&mut self) {
        if self.is_stopped() {
            return;
        }
        if let Ok(Ok(text)) = tokio::time::timeout(TELL_WITHIN, child::metrics(self.admin)).await {
            self.tally.conflicts += counter(&text, CONFLICTS);
            self.tally.published += counter(&text, relay::CONFIRMS);
        }
    }
}

/// The sum of a counter over all its labels.
fn counter(text: &str, name: &str) -> u64 {
    let of_it = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    text.lines().filter(|line| of_it(line)).filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}
