//! Power cuts, again and again, and a store that does not take anything: what was acknowledged is there, once; what was not is sent again.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::Value;
use sqlx::ConnectOptions as _;
use sqlx::Connection as _;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteConnectOptions;
use tokio::sync::watch;
use tokio::task::JoinSet;
use wardroom::store::Store;
use wardroom::store::StoreOptions;
use wardroom::store::master_key::MasterKey;

use super::support::daemon::Daemon;
use super::support::eventually;
use super::support::peer::Peer;
use super::support::peer::Plain;

const CONNECTIONS: u32 = 8;
const VISITS_EACH: u32 = 12;
const PER_VISIT: u32 = 4;
/// After how many acknowledgements, in all, the daemon is killed.
const KILLS_AT: [usize; 5] = [10, 60, 75, 170, 260];

/// The stay of one visit: admitted, moved, updated, discharged.
fn stay(number: u32) -> Vec<Plain> {
    let message = |n: u32, trigger, unit| Plain::new(format!("C{number}-{n}"), trigger, number, unit, n * 10);
    vec![message(1, "A01", "4N"), message(2, "A02", "ICU"), message(3, "A08", "ICU"), message(4, "A03", "ICU")]
}

/// Sends until everything is acknowledged or the connection ends; takes away what was acknowledged.
async fn send_all(address: std::net::SocketAddr, waiting: Arc<Mutex<VecDeque<Plain>>>, acknowledged: watch::Sender<usize>) {
    let mut peer = Peer::connect(address).await;
    while let Some(message) = { waiting.lock().unwrap().front().cloned() } {
        let answer = peer.ask(message.text()).await;
        if answer == "closed" {
            return;
        }
        assert_eq!(answer, format!("AA {}", message.control_id));
        waiting.lock().unwrap().pop_front();
        acknowledged.send_modify(|n| *n += 1);
    }
}

/// The events of each room in order, repetitions taken out; a repetition is the same to the byte, and versions count from one.
pub(crate) fn histories(lines: &[String]) -> HashMap<String, Vec<Value>> {
    let mut bodies: HashMap<String, &str> = HashMap::new();
    let mut rooms: HashMap<String, Vec<Value>> = HashMap::new();
    for line in lines {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let id = event["id"].as_str().unwrap().to_owned();
        match bodies.insert(id, line) {
            Some(before) => assert_eq!(before, line, "a repeated event has the same bytes"),
            None => rooms.entry(event["subject"].as_str().unwrap().to_owned()).or_default().push(event),
        }
    }
    for (room, events) in &rooms {
        let versions: Vec<u64> = events.iter().map(|event| event["data"]["version"].as_u64().unwrap()).collect();
        assert_eq!(versions, (1..=versions.len() as u64).collect::<Vec<_>>(), "the versions of room {room}");
    }
    rooms
}

async fn open_store(dir: &Path) -> Store {
    let url = SecretString::from(format!("sqlite:{}", dir.join("wardroom.db").display()));
    let master_key = MasterKey::load(&dir.join("wardroom.key")).unwrap();
    Store::open_read_only(StoreOptions { url, master_key, readers: 1, daemon: 0 }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_power_cuts_and_happens_once() {
    let mut daemon = Daemon::start("").await;
    let queues: Vec<Arc<Mutex<VecDeque<Plain>>>> = (0..CONNECTIONS)
        .map(|connection| {
            let numbers = (0..VISITS_EACH).map(|visit| 510_000 + connection * 1000 + visit);
            Arc::new(Mutex::new(numbers.flat_map(stay).collect()))
        })
        .collect();
    let (acknowledged, mut count) = watch::channel(0);
    for kill_at in KILLS_AT.into_iter().map(Some).chain([None]) {
        let mut senders = JoinSet::new();
        for queue in &queues {
            senders.spawn(send_all(daemon.mllp, Arc::clone(queue), acknowledged.clone()));
        }
        if let Some(kill_at) = kill_at {
            count.wait_for(|n| *n >= kill_at).await.unwrap();
            daemon.kill9();
            // As a power cut in the middle of a write leaves it.
            let mut events = fs::OpenOptions::new().create(true).append(true).open(daemon.path("events.jsonl")).unwrap();
            events.write_all(br#"{"specversion":"1.0","id":"0c5f"#).unwrap();
        }
        while let Some(ended) = senders.join_next().await {
            ended.unwrap();
        }
        if kill_at.is_some() {
            daemon.up().await;
        }
    }
    let n_visits = CONNECTIONS * VISITS_EACH;
    assert_eq!(*count.borrow(), usize::try_from(n_visits * PER_VISIT).unwrap());
    assert!(queues.iter().all(|queue| queue.lock().unwrap().is_empty()));

    let in_grace = |events: &[Value]| events.last().is_some_and(|event| event["data"]["room"]["status"] == "grace");
    eventually("the last event of every room", Duration::from_mins(1), async || {
        let rooms = histories(&daemon.event_lines());
        (rooms.len() == n_visits as usize && rooms.values().all(|events| in_grace(events))).then_some(())
    })
    .await;
    assert!(daemon.terminate().await.success());
    let rooms = histories(&daemon.event_lines());
    let mut visits = BTreeMap::new();
    for (room, events) in &rooms {
        let last = &events.last().unwrap()["data"]["room"];
        assert_eq!(last["location"]["point_of_care"], "ICU");
        visits.insert(last["visit"]["id"]["value"].as_str().unwrap().to_owned(), room.clone());
        let types: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
        assert_eq!(types, ["room.opened", "room.updated", "room.closing"], "each message that changes something does so once, in its turn");
    }
    assert_eq!(visits.len(), n_visits as usize, "one room for each visit");

    let store = open_store(daemon.dir.path()).await;
    assert_eq!(store.outbox_depth().await.unwrap().n_pending, 0);
    let mut after = i64::MIN;
    let mut stored: HashMap<String, u64> = HashMap::new();
    loop {
        let page = store.rooms_page(after, 50).await.unwrap();
        let Some(last) = page.visits.last() else { break };
        after = *last;
        let rows = page.found.visits.iter().filter(|row| page.visits.contains(&row.id));
        stored.extend(rows.map(|row| (row.room_id.unwrap().to_string(), u64::try_from(row.room_version).unwrap())));
    }
    let published: HashMap<String, u64> = rooms.iter().map(|(room, events)| (room.clone(), events.len() as u64)).collect();
    assert_eq!(stored, published, "the store and the events agree on rooms and versions");
    assert!(store.verify_audit(|_, _| {}).await.unwrap().is_whole());
    store.close().await;
}

/// Holds the database, as another process would that forgot to let go.
async fn hold(daemon: &Daemon) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(daemon.path("wardroom.db")).busy_timeout(Duration::from_secs(20));
    let mut connection = options.connect().await.unwrap();
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut connection).await.unwrap();
    connection
}

#[tokio::test]
async fn a_store_that_does_not_commit_closes_the_connection_without_an_answer() {
    let mut daemon = Daemon::start("[[feeds]]\ncommit_timeout = \"2s\"\n").await;
    let mut warm = Peer::connect(daemon.mllp).await;
    assert_eq!(warm.ask(Plain::new("H0", "A01", 520_000, "4N", 1).text()).await, "AA H0");
    daemon.room_is("V520000", "open", |room| room["status"] == "active").await;

    let held = hold(&daemon).await;
    let begun = tokio::time::Instant::now();
    let mut peers: Vec<(Peer, Plain)> = Vec::new();
    for number in 520_001..520_009 {
        let mut peer = Peer::connect(daemon.mllp).await;
        let message = Plain::new(format!("H{number}"), "A01", number, "4N", 2);
        peer.send(message.text()).await;
        peers.push((peer, message));
    }
    for (peer, _) in &mut peers {
        assert_eq!(peer.receive().await, None, "no answer, and then the end");
    }
    assert!(begun.elapsed() < Duration::from_secs(12), "closed as soon as the time was up");
    assert!(daemon.log().iter().any(|line| line.contains("did not commit in time")));
    assert_eq!(daemon.events().len(), 1, "nothing has happened");
    held.close().await.unwrap();

    for (_, message) in &peers {
        let mut peer = Peer::connect(daemon.mllp).await;
        let last = eventually("the store takes messages again", Duration::from_secs(30), async || {
            let answer = peer.ask(message.text()).await;
            if answer == "closed" {
                peer = Peer::connect(daemon.mllp).await;
            }
            (answer != "closed").then_some(answer)
        });
        assert_eq!(last.await, format!("AA {}", message.control_id));
        daemon.room_is(&message.visit(), "open", |room| room["status"] == "active").await;
    }
    assert!(daemon.terminate().await.success());
    assert_eq!(histories(&daemon.event_lines()).values().map(Vec::len).collect::<Vec<_>>(), [1; 9], "each once");
}

#[tokio::test]
async fn waiting_for_a_place_behind_a_store_that_stalls_counts_too() {
    let daemon = Daemon::start("[[feeds]]\ncommit_timeout = \"2s\"\n").await;
    let held = hold(&daemon).await;
    let many: String = (0..3000).map(|n| Plain::new(format!("Q{n}"), "A01", 540_000 + n, "4N", 1).text()).collect();
    let mut peer = Peer::connect(daemon.mllp).await;
    let begun = tokio::time::Instant::now();
    peer.send(many).await;
    assert_eq!(peer.receive().await, None);
    assert!(begun.elapsed() < Duration::from_secs(15), "closed after {:?}", begun.elapsed());
    held.close().await.unwrap();
}

#[tokio::test]
async fn a_stopped_daemon_answers_nothing_and_what_is_sent_again_happens_once() {
    let mut daemon = Daemon::start("[[feeds]]\ncommit_timeout = \"2s\"\n").await;
    let message = Plain::new("S1", "A01", 530_001, "4N", 1);
    let mut peer = Peer::connect(daemon.mllp).await;
    assert_eq!(peer.ask(Plain::new("S0", "A01", 530_000, "4N", 1).text()).await, "AA S0");
    daemon.signal("STOP");
    peer.send(message.text()).await;
    drop(peer);
    daemon.signal("CONT");
    let mut again = Peer::connect(daemon.mllp).await;
    assert_eq!(again.ask(message.text()).await, "AA S1");
    daemon.room_is(&message.visit(), "open", |room| room["status"] == "active").await;
    assert!(daemon.terminate().await.success());
    assert_eq!(histories(&daemon.event_lines()).len(), 2);
}
