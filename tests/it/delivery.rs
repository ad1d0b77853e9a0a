//! From the socket to the consumer: the daemon, a real broker that goes away and comes back, and a second client that reads the queue.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::time::Duration;

use lapin::Connection;
use lapin::ConnectionProperties;
use lapin::message::Delivery;
use lapin::options::BasicGetOptions;
use lapin::options::QueueDeclareOptions;
use lapin::types::AMQPValue;
use lapin::types::FieldTable;
use serde_json::Value;

use super::support::daemon::Daemon;
use super::support::eventually;
use super::support::peer::Peer;
use super::support::peer::Plain;
use super::support::postgres;
use super::support::rabbit::Rabbit;

const SOON: Duration = Duration::from_mins(1);

/// The stay of one visit, which makes four events: opened, updated, closing, and opened again.
fn stay(number: u32) -> Vec<Plain> {
    let message = |n: u32, trigger, unit| Plain::new(format!("D{number}-{n}"), trigger, number, unit, n * 10);
    vec![message(1, "A01", "4N"), message(2, "A02", "ICU"), message(3, "A03", "ICU"), message(4, "A13", "ICU")]
}

const EVENTS_PER_STAY: usize = 4;

/// Sends the stays one after another over eight connections at once; every message is acknowledged.
async fn send(daemon: &Daemon, numbers: std::ops::Range<u32>) {
    let numbers: Vec<u32> = numbers.collect();
    let connections = (0..8).map(|connection| {
        let mine: Vec<Plain> = numbers.iter().copied().skip(connection).step_by(8).flat_map(stay).collect();
        async move {
            let mut peer = Peer::connect(daemon.mllp).await;
            for message in mine {
                assert_eq!(peer.ask(message.text()).await, format!("AA {}", message.control_id));
            }
        }
    });
    futures_util::future::join_all(connections).await;
}

/// Reads the queue with a client that knows nothing of wardroom, until this many different events were seen.
async fn read(rabbit: &Rabbit, queue: &str, n_events: usize) -> Vec<Delivery> {
    let connection = Connection::connect(&rabbit.url(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let mut ids = HashSet::new();
    let mut all = Vec::new();
    eventually("every event is in the queue", SOON, async || {
        while let Some(message) = channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.unwrap() {
            ids.insert(message.delivery.properties.message_id().clone().unwrap());
            all.push(message.delivery);
        }
        (ids.len() >= n_events).then_some(())
    })
    .await;
    assert_eq!(ids.len(), n_events);
    all
}

/// Checks each delivery against the contract, and gives the events of each room as a consumer has them that takes what is newer.
fn check(deliveries: &[Delivery], exchange: &str) -> HashMap<String, Vec<Value>> {
    let mut bodies: HashMap<String, &[u8]> = HashMap::new();
    let mut rooms: HashMap<String, Vec<Value>> = HashMap::new();
    for delivery in deliveries {
        let event: Value = serde_json::from_slice(&delivery.data).unwrap();
        let properties = &delivery.properties;
        let text = |field: &str| event[field].as_str().unwrap().to_owned();
        assert_eq!(delivery.exchange.as_str(), exchange);
        assert_eq!(delivery.routing_key.as_str(), text("type"));
        assert_eq!(properties.kind().as_ref().unwrap().as_str(), text("type"));
        assert_eq!(properties.message_id().as_ref().unwrap().as_str(), text("id"));
        assert_eq!(properties.app_id().as_ref().unwrap().as_str(), "wardroom");
        assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/cloudevents+json");
        assert_eq!(*properties.delivery_mode(), Some(2), "persistent");
        let time: jiff::Timestamp = text("time").parse().unwrap();
        assert_eq!(*properties.timestamp(), Some(u64::try_from(time.as_second()).unwrap()));
        let none = (properties.expiration(), properties.reply_to(), properties.correlation_id(), properties.user_id(), properties.cluster_id());
        assert_eq!(none, (&None, &None, &None, &None, &None));

        // The broker adds one of its own to what was delivered before.
        let headers: BTreeMap<&str, &AMQPValue> = properties
            .headers()
            .as_ref()
            .unwrap()
            .inner()
            .iter()
            .map(|(name, value)| (name.as_str(), value))
            .filter(|(name, _)| !name.starts_with("x-"))
            .collect();
        let long = |text: &str| AMQPValue::LongString(text.into());
        let version = event["data"]["version"].as_i64().unwrap();
        let mut expected =
            BTreeMap::from([("room_id", long(&text("subject"))), ("room_version", AMQPValue::LongLongInt(version)), ("facility", long("GHH"))]);
        if let Some(traceparent) = event["traceparent"].as_str() {
            expected.insert("traceparent", long(traceparent));
        }
        assert_eq!(headers, expected.iter().map(|(name, value)| (*name, value)).collect());

        let room = rooms.entry(text("subject")).or_default();
        match bodies.insert(text("id"), &delivery.data) {
            Some(before) => assert_eq!(before, delivery.data, "a repeated event has the same bytes"),
            None => room.push(event),
        }
    }
    for events in rooms.values() {
        let types: Vec<(i64, &str)> =
            events.iter().map(|event| (event["data"]["version"].as_i64().unwrap(), event["type"].as_str().unwrap())).collect();
        assert_eq!(types, [(1, "room.opened"), (2, "room.updated"), (3, "room.closing"), (4, "room.reopened")]);
    }
    rooms
}

/// A daemon, and where its events go.
struct House {
    daemon: Daemon,
    exchange: &'static str,
    queue: &'static str,
}

impl House {
    async fn start(rabbit: &Rabbit, [exchange, queue]: [&'static str; 2], more: &str) -> Self {
        let url = rabbit.url();
        let config = format!("[publish]\nto = \"amqp\"\n[publish.amqp]\nurl = \"{url}\"\nexchange = \"{exchange}\"\nqueue = \"{queue}\"\n{more}");
        Self { daemon: Daemon::start(&config).await, exchange, queue }
    }

    async fn shows(&self, status: u16) {
        eventually(&format!("readiness is {status}"), SOON, async || (self.daemon.get("/readyz").await.0 == status).then_some(())).await;
    }

    /// Each of the stays is in the queue, once or more, in order; nothing is left in the store.
    async fn has_delivered(&mut self, rabbit: &Rabbit, n_stays: usize) {
        let deliveries = read(rabbit, self.queue, n_stays * EVENTS_PER_STAY).await;
        let rooms = check(&deliveries, self.exchange);
        let visits: HashSet<&str> = rooms.values().map(|events| events[3]["data"]["room"]["visit"]["id"]["value"].as_str().unwrap()).collect();
        assert_eq!((rooms.len(), visits.len()), (n_stays, n_stays));
        eventually("nothing is left to publish", SOON, async || {
            let (_, metrics) = self.daemon.get("/metrics").await;
            metrics.lines().any(|line| line == "wardroom_outbox_events 0").then_some(())
        })
        .await;
        assert!(self.daemon.terminate().await.success());
    }
}

#[tokio::test]
async fn everything_arrives_from_either_store_although_the_broker_goes_away() {
    let Some(mut rabbit) = Rabbit::start("everything_arrives_from_either_store_although_the_broker_goes_away").await else { return };
    let mut houses = vec![House::start(&rabbit, ["wardroom.events", "wardroom.backend"], "").await];
    if let Some(database) = postgres::new_database().await {
        let store = format!("[store]\nurl = \"{database}\"\nkey = \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"\n");
        houses.push(House::start(&rabbit, ["postgresql.events", "postgresql.backend"], &store).await);
    }
    for house in &houses {
        house.shows(200).await;
        is_a_quorum_queue(&rabbit, house.queue).await;
        send(&house.daemon, 710_000..710_016).await;
    }
    rabbit.down();
    for house in &mut houses {
        send(&house.daemon, 710_016..710_024).await;
        house.shows(503).await;
        send(&house.daemon, 710_024..710_032).await;
        // A power cut while there is no broker loses nothing either.
        house.daemon.restart().await;
        send(&house.daemon, 710_032..710_040).await;
    }
    rabbit.up().await;
    for house in &mut houses {
        send(&house.daemon, 710_040..710_048).await;
        house.shows(200).await;
        house.has_delivered(&rabbit, 48).await;
    }
}

/// The broker refuses to declare a queue that is there with other properties.
async fn is_a_quorum_queue(rabbit: &Rabbit, queue: &str) {
    let connection = Connection::connect(&rabbit.url(), ConnectionProperties::default()).await.unwrap();
    let mut quorum = FieldTable::default();
    quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let channel = connection.create_channel().await.unwrap();
    channel.queue_declare(queue.into(), options, quorum).await.expect("it is a durable quorum queue");
}
