//! Several daemons on one store: what one of them had begun to publish when it was killed, another takes up, in order.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wardroom::outbox::amqp::AmqpOptions;
use wardroom::outbox::amqp::consumer;

use super::crash::histories;
use super::support::daemon::Daemon;
use super::support::eventually;
use super::support::peer::Peer;
use super::support::peer::Plain;
use super::support::postgres;
use super::support::rabbit::Rabbit;

/// Longer than a lease lasts, on a machine that has other things to do.
const SOON: Duration = Duration::from_mins(1);
const N_VISITS: u32 = 24;

/// The road to a broker, on which what the broker says can be held back.
struct Road {
    port: u16,
    holds_answers: watch::Sender<bool>,
    _tasks: TaskTracker,
}

impl Road {
    async fn open(broker: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (holds_answers, held) = watch::channel(false);
        let tasks = TaskTracker::new();
        let serving = tasks.clone();
        tasks.spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(("127.0.0.1", broker)).await.unwrap();
                let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
                serving.spawn(carry(from_near, to_far, watch::channel(false).1));
                serving.spawn(carry(from_far, to_near, held.clone()));
            }
        });
        Self { port, holds_answers, _tasks: tasks }
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut held: watch::Receiver<bool>) {
    use tokio::io::AsyncReadExt as _;
    use tokio::io::AsyncWriteExt as _;
    let mut bytes = Vec::new();
    while from.read_buf(&mut bytes).await.is_ok_and(|n| n > 0) {
        drop(held.wait_for(|held| !held).await);
        if to.write_all(&bytes).await.is_err() {
            return;
        }
        bytes.clear();
    }
}

/// Everything a consumer has received, as it came.
#[derive(Clone, Default)]
struct Received(Arc<Mutex<Vec<String>>>);

impl Received {
    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// Waits until the last word on every visit is that it lies there. What came until then came in order.
    async fn all_are_in(&self, unit: &str) {
        eventually(&format!("everybody is in {unit}"), SOON, async || {
            let mut places = BTreeMap::new();
            for room in histories(&self.lines()).into_values() {
                let last = room.last().unwrap()["data"]["room"].clone();
                places.insert(last["visit"]["id"]["value"].to_string(), last["location"]["point_of_care"].clone());
            }
            (places.len() == N_VISITS as usize && places.values().all(|place| place == unit)).then_some(())
        })
        .await;
    }
}

async fn send_all(to: &Daemon, wave: u32, trigger: &'static str, unit: &'static str) {
    let mut peer = Peer::connect(to.mllp).await;
    for number in 1..=N_VISITS {
        let control_id = format!("C{number}-{wave}");
        assert_eq!(peer.ask(Plain::new(&control_id, trigger, number, unit, wave).text()).await, format!("AA {control_id}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_replica_had_in_flight_another_publishes_again_in_order() {
    let Some(url) = postgres::new_database().await else { return };
    let Some(rabbit) = Rabbit::start("what_a_killed_replica_had_in_flight_another_publishes_again_in_order").await else { return };
    let road = Road::open(rabbit.port()).await;
    let configuration = |broker: &str| {
        let key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
        format!("[store]\nurl = \"{url}\"\nkey = \"{key}\"\n[publish]\nto = \"amqp\"\n[publish.amqp]\nurl = \"{broker}\"\nqueue = \"\"\n")
    };
    let brokers = [AmqpOptions::new(SecretString::from(rabbit.url()))];
    consumer::declare(&brokers[0]).await.unwrap();
    let (received, stop) = (Received::default(), CancellationToken::new());
    let (tasks, keep) = (TaskTracker::new(), received.clone());
    tasks.spawn({
        let stop = stop.clone();
        async move { consumer::consume(&brokers, |body| keep.0.lock().unwrap().push(String::from_utf8(body).unwrap()), stop).await }
    });

    let mut first = Daemon::start(&configuration(&rabbit.url().replace(&rabbit.port().to_string(), &road.port.to_string()))).await;
    send_all(&first, 1, "A01", "4N").await;
    received.all_are_in("4N").await;
    let second = Daemon::start(&configuration(&rabbit.url())).await;

    // What arrives at the consumer now, the first replica does not know to have arrived.
    let n_before = received.lines().len();
    road.holds_answers.send_replace(true);
    send_all(&first, 2, "A02", "ICU").await;
    received.all_are_in("ICU").await;
    send_all(&second, 3, "A02", "4N").await;
    first.kill9();
    received.all_are_in("4N").await;
    let lines = received.lines().split_off(n_before);
    let distinct: BTreeSet<&String> = lines.iter().collect();
    assert!(distinct.len() < lines.len(), "the first replica had nothing in flight");
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}
