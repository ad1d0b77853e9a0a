//! Many rooms that would end at once: the daemon stops, says so, remembers it, and goes on when an operator says so.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::HashSet;

use wardroom::time::Clock as _;
use wardroom::time::SystemClock;

use super::support::daemon::Daemon;
use super::support::daemon::program;
use super::support::eventually;
use super::support::peer::Peer;
use super::support::peer::Plain;

/// A message of this moment: what comes late is a backlog, which may end as many rooms as it likes.
fn now(id: &str, trigger: &'static str, number: u32) -> String {
    let text = Plain::new(id, trigger, number, "4N", 0).text();
    let now = SystemClock.now().to_jiff().strftime("%Y%m%d%H%M%S+0000").to_string();
    text.replace("20261120080000-0500", &now)
}

/// Runs `wardroom guard` beside the daemon: the exit code, and what it said.
fn guard(daemon: &Daemon, command: &str) -> (i32, String) {
    let out = program(&daemon.dir).args(["guard", command]).output().unwrap();
    (out.status.code().unwrap(), String::from_utf8(out.stdout).unwrap())
}

/// What `wardroom rooms list` says beside the rooms.
fn rooms_say(daemon: &Daemon) -> String {
    let out = program(&daemon.dir).args(["rooms", "list"]).output().unwrap();
    String::from_utf8(out.stderr).unwrap()
}

/// Twelve rooms that were to end at once, two of which wait.
async fn two_wait() -> Daemon {
    let daemon = Daemon::start("").await;
    let mut peer = Peer::connect(daemon.mllp).await;
    let numbers = 995_001..995_013;
    for (n, number) in numbers.clone().enumerate() {
        assert_eq!(peer.ask(now(&format!("G1-{n}"), "A01", number)).await, format!("AA G1-{n}"));
    }
    assert_eq!(guard(&daemon, "status"), (0, "nothing waits\n".to_owned()));
    for (n, number) in numbers.enumerate() {
        assert_eq!(peer.ask(now(&format!("G2-{n}"), "A11", number)).await, format!("AA G2-{n}"));
    }
    daemon.room_is("V995010", "cancelled", |room| room["status"] == "cancelled").await;
    let is_on = eventually("the guard is a reason not to be ready", std::time::Duration::from_secs(20), async || {
        let (status, body) = daemon.get("/readyz").await;
        (status == 503 && body.contains("wardroom guard release")).then_some(())
    });
    is_on.await;
    daemon.says("leaves and ends wait, joins go on").await;
    daemon
}

/// How many rooms were cancelled: what was published right before the daemon was killed is published again, under the same id.
fn n_cancelled(daemon: &Daemon) -> usize {
    let events = daemon.events();
    let cancelled = events.iter().filter(|event| event["type"] == "room.cancelled");
    cancelled.map(|event| event["id"].as_str().unwrap()).collect::<HashSet<_>>().len()
}

/// All that waited has happened.
async fn goes_on(mut daemon: Daemon) {
    for visit in ["V995011", "V995012"] {
        daemon.room_is(visit, "cancelled", |room| room["status"] == "cancelled").await;
    }
    let is_off = eventually("nothing waits any more", std::time::Duration::from_secs(20), async || {
        (guard(&daemon, "status") == (0, "nothing waits\n".to_owned())).then_some(())
    });
    is_off.await;
    assert!(!rooms_say(&daemon).contains("guard"));
    assert_eq!(n_cancelled(&daemon), 12);
    assert!(daemon.terminate().await.success());
}

#[tokio::test]
async fn rooms_that_end_at_once_wait_for_an_operator_also_over_a_restart() {
    let mut daemon = two_wait().await;
    assert_eq!(guard(&daemon, "status").0, 1);
    assert!(rooms_say(&daemon).contains("`wardroom guard status`"), "a time that is over is no leave yet");

    daemon.restart().await;
    assert_eq!(daemon.get("/readyz").await.0, 503, "it is remembered");
    assert_eq!(n_cancelled(&daemon), 10, "two rooms stay as they are");
    let mut peer = Peer::connect(daemon.mllp).await;
    assert_eq!(peer.ask(now("G3", "A01", 995_020)).await, "AA G3");
    daemon.room_is("V995020", "open", |room| room["status"] == "active").await;

    assert_eq!(guard(&daemon, "release").0, 0);
    goes_on(daemon).await;
}

#[tokio::test]
async fn who_turns_the_guard_off_lets_go_on_what_waits() {
    let mut daemon = two_wait().await;
    let config = daemon.path("wardroom.toml");
    let mut whole: toml::Table = std::fs::read_to_string(&config).unwrap().parse().unwrap();
    whole.entry("rooms").or_insert_with(|| toml::Table::new().into()).as_table_mut().unwrap().insert("mass_guard".to_owned(), false.into());
    std::fs::write(&config, toml::to_string(&whole).unwrap()).unwrap();
    daemon.restart().await;
    goes_on(daemon).await;
}
