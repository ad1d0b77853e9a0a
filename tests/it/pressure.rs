//! Back-pressure: the intake stops before the store is full, nothing is acknowledged that is not kept, and everything goes on by itself.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::support::daemon::Daemon;
use super::support::daemon::program;
use super::support::eventually;
use super::support::peer::Peer;
use super::support::peer::Plain;

const SOON: Duration = Duration::from_mins(1);

/// What `/readyz` says of a part.
async fn said_of(daemon: &Daemon, part: &str) -> Option<String> {
    let (_, body) = daemon.get("/readyz").await;
    let report: Value = serde_json::from_str(&body).unwrap();
    let reasons = report.get("reasons")?.as_array()?;
    let reason = reasons.iter().find(|reason| reason.get("part").and_then(Value::as_str) == Some(part))?;
    reason.get("what")?.as_str().map(str::to_owned)
}

/// Asks on a new connection.
async fn ask(daemon: &Daemon, number: u32) -> String {
    Peer::connect(daemon.mllp).await.ask(Plain::new(format!("P{number}"), "A01", number, "4N", 0).text()).await
}

async fn asks_until(daemon: &Daemon, number: u32, expected: &str) {
    eventually(expected, SOON, async || (ask(daemon, number).await == expected).then_some(())).await;
}

fn balances(daemon: &Daemon) {
    let ledger = program(&daemon.dir).arg("ledger").output().unwrap();
    assert!(ledger.status.success(), "{}", String::from_utf8_lossy(&ledger.stdout));
}

#[tokio::test]
async fn too_many_events_that_wait_stop_the_intake_until_they_are_published() {
    let daemon = Daemon::start("[publish]\nmax_pending = 3\n[publish.jsonl]\npath = \"nowhere/events.jsonl\"\n").await;
    for number in 540_001..=540_003 {
        assert_eq!(ask(&daemon, number).await, format!("AA P{number}"));
    }
    let what = eventually("the outbox is a reason", SOON, async || said_of(&daemon, "outbox").await).await;
    assert_eq!(what, "messages are not taken: 3 events wait, and `publish.max_pending` is 3");
    assert_eq!(ask(&daemon, 540_004).await, "closed");
    let (_, metrics) = daemon.get("/metrics").await;
    assert!(metrics.contains("wardroom_intake_shut{reason=\"outbox\"} 1"), "{metrics}");
    fs::create_dir(daemon.path("nowhere")).unwrap();
    asks_until(&daemon, 540_004, "AA P540004").await;
    assert_eq!(said_of(&daemon, "outbox").await, None);
    balances(&daemon);
}

/// A small volume; `None` where nobody may mount one.
struct Volume(TempDir);

impl Volume {
    fn mount(mib: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={mib}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        if mounted.is_ok_and(|mounted| mounted.status.success()) {
            return Some(Self(dir));
        }
        println!("skipped: this user may not mount a volume");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves this much free.
    fn fill(&self, total_mib: usize, free_kib: usize) {
        let used: u64 = fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        let n = (total_mib << 20) - usize::try_from(used).unwrap() - (free_kib << 10);
        fs::write(self.path().join("filler"), vec![1; n]).unwrap();
    }

    fn free(&self) {
        fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.0.path()).output());
    }
}

fn on(volume: &Volume, min_free: &str) -> String {
    format!("[store]\nurl = \"sqlite:{}/wardroom.db\"\nmin_free = \"{min_free}\"\n", volume.path().display())
}

#[tokio::test]
async fn on_a_full_disk_nothing_is_acknowledged_and_it_goes_on_by_itself() {
    let Some(volume) = Volume::mount(24) else { return };
    let daemon = Daemon::start(&on(&volume, "0B")).await;
    assert_eq!(ask(&daemon, 541_000).await, "AA P541000");
    volume.fill(24, 64);
    let mut kept = vec![541_000];
    let refused = loop {
        let number = 541_000 + u32::try_from(kept.len()).unwrap();
        match ask(&daemon, number).await.as_str() {
            "closed" => break number,
            answer => assert_eq!(answer, format!("AA P{number}")),
        }
        kept.push(number);
        assert!(kept.len() < 5000, "the disk is never full");
    };
    let what = said_of(&daemon, "store").await.unwrap();
    assert!(what.starts_with("no space is left for the store"), "{what}");
    let visits = |daemon: &Daemon| {
        let listed = program(&daemon.dir).args(["--json", "ledger"]).output().unwrap();
        let ledger: Value = serde_json::from_slice(&listed.stdout).unwrap();
        assert_eq!(ledger.get("balanced"), Some(&Value::from(true)), "{ledger:#}");
        ledger.pointer("/total/applied").and_then(Value::as_u64).unwrap()
    };
    assert_eq!(visits(&daemon), kept.len() as u64, "what was acknowledged is there, and nothing else");
    volume.free();
    eventually("the store is none any more", SOON, async || said_of(&daemon, "store").await.is_none().then_some(())).await;
    assert_eq!(ask(&daemon, refused).await, format!("AA P{refused}"));
    assert_eq!(visits(&daemon), kept.len() as u64 + 1);
    balances(&daemon);
}

#[tokio::test]
async fn the_intake_stops_before_the_disk_is_full_and_starts_again() {
    let Some(volume) = Volume::mount(24) else { return };
    let daemon = Daemon::start(&on(&volume, "8MiB")).await;
    assert_eq!(ask(&daemon, 542_000).await, "AA P542000");
    volume.fill(24, 4096);
    let what = eventually("the disk is a reason", SOON, async || said_of(&daemon, "disk").await).await;
    assert!(what.ends_with("are free, and `store.min_free` is 8 MiB"), "{what}");
    assert_eq!(ask(&daemon, 542_001).await, "closed");
    volume.free();
    asks_until(&daemon, 542_001, "AA P542001").await;
    assert_eq!(said_of(&daemon, "disk").await, None);
}

/// The log of a store that is not written back is larger than this volume long before the last message.
#[tokio::test]
async fn the_log_of_the_store_does_not_fill_its_volume() {
    let Some(volume) = Volume::mount(24) else { return };
    let daemon = Daemon::start(&on(&volume, "8MiB")).await;
    let last = 544_000 + 1000;
    for number in 544_000..=last {
        if ask(&daemon, number).await != format!("AA P{number}") {
            asks_until(&daemon, number, &format!("AA P{number}")).await;
        }
    }
    assert!(fs::metadata(volume.path().join("wardroom.db")).unwrap().len() > 1 << 20, "nothing was written back");
    balances(&daemon);
}

#[tokio::test]
async fn a_store_that_writes_in_time_again_is_no_reason_any_more_though_no_message_comes() {
    let daemon = Daemon::start("[[feeds]]\ncommit_timeout = \"1s\"\n").await;
    let other = rusqlite::Connection::open(daemon.path("wardroom.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(ask(&daemon, 543_000).await, "closed");
    assert!(said_of(&daemon, "commit").await.is_some());
    other.execute_batch("ROLLBACK").unwrap();
    eventually("the commit is no reason any more", SOON, async || said_of(&daemon, "commit").await.is_none().then_some(())).await;
}
