//! The relay and the AMQP publisher against a real broker: one that stops, dies, knows no queue, is short of memory, or is set up differently.

#![expect(clippy::unwrap_used, clippy::panic, clippy::future_not_send, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use lapin::Channel;
use lapin::Connection;
use lapin::ConnectionProperties;
use lapin::ExchangeKind;
use lapin::message::Delivery;
use lapin::options::BasicGetOptions;
use lapin::options::ExchangeDeclareOptions;
use lapin::options::QueueBindOptions;
use lapin::options::QueueDeclareOptions;
use lapin::options::QueueDeleteOptions;
use lapin::types::AMQPValue;
use lapin::types::FieldTable;
use secrecy::SecretString;
use tokio::io::AsyncReadExt as _;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;
use wardroom::care::change::EventType;
use wardroom::ids::CareRoomId;
use wardroom::ids::Facility;
use wardroom::outbox::Outbox;
use wardroom::outbox::OutboxRow;
use wardroom::outbox::amqp::AmqpError;
use wardroom::outbox::amqp::AmqpOptions;
use wardroom::outbox::amqp::AmqpPublisher;
use wardroom::outbox::amqp::DEFAULT_EXCHANGE;
use wardroom::outbox::amqp::DEFAULT_QUEUE;
use wardroom::outbox::envelope::event_id;
use wardroom::outbox::relay::Relay;
use wardroom::outbox::relay::RelayOptions;
use wardroom::outbox::status::Publishing;
use wardroom::outbox::status::RelayStatus;
use wardroom::store::lease::Share;
use wardroom::time::SystemClock;
use wardroom::time::Timestamp;

use super::support::eventually;
use super::support::rabbit::Rabbit;

const SOON: Duration = Duration::from_mins(1);

/// An outbox in memory.
#[derive(Default)]
struct Memory(Mutex<BTreeMap<i64, OutboxRow>>);

impl Memory {
    fn add(&self, row: OutboxRow) {
        self.0.lock().unwrap().insert(row.seq, row);
    }

    fn n_pending(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl Outbox for Memory {
    type Error = Infallible;

    async fn share(&self) -> Result<Share, Infallible> {
        Ok(Share::All)
    }

    async fn give_up(&self) -> Result<(), Infallible> {
        Ok(())
    }

    async fn pending(&self, limit: usize, _: &Share) -> Result<Vec<OutboxRow>, Infallible> {
        Ok(self.0.lock().unwrap().values().take(limit).cloned().collect())
    }

    async fn settle(&self, seqs: &[i64]) -> Result<(), Infallible> {
        self.0.lock().unwrap().retain(|seq, _| !seqs.contains(seq));
        Ok(())
    }

    async fn park(&self, seq: i64, _: &'static str) -> Result<(), Infallible> {
        self.0.lock().unwrap().remove(&seq);
        Ok(())
    }
}

/// The event with this number: the rooms take turns.
fn row(seq: i64, n_rooms: i64) -> OutboxRow {
    let room_id = CareRoomId(Uuid::from_u128((seq % n_rooms).unsigned_abs().into()));
    let room_version = (seq / n_rooms).unsigned_abs() + 1;
    OutboxRow {
        seq,
        room_id,
        room_version,
        event_id: event_id(room_id, 1, room_version),
        event_type: if room_version == 1 { EventType::Opened } else { EventType::Updated },
        facility: Facility::from("GHH"),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        time: Timestamp::from_micros(1_795_271_402_123_456),
        body: Bytes::from(format!("{{\"room\":\"{room_id}\",\"version\":{room_version}}}")),
    }
}

fn options(url: &str) -> AmqpOptions {
    AmqpOptions { connect_timeout: Duration::from_secs(10), ..AmqpOptions::new(SecretString::from(url)) }
}

/// A relay that runs.
struct Running {
    outbox: Arc<Memory>,
    wake: Arc<Notify>,
    status: Arc<RelayStatus>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Running {
    fn start(amqp: AmqpOptions) -> Self {
        let (outbox, wake, status) = (Arc::<Memory>::default(), Arc::<Notify>::default(), Arc::<RelayStatus>::default());
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let publisher = AmqpPublisher::new(amqp, Arc::clone(&status), tasks.clone());
        let pace = RelayOptions {
            window: 64,
            first_retry: Duration::from_millis(50),
            last_retry: Duration::from_secs(1),
            look_again: Duration::from_millis(100),
            grace: Duration::from_secs(2),
            ..RelayOptions::default()
        };
        let relay = Relay::new(Arc::clone(&outbox), publisher, Arc::clone(&wake), Arc::clone(&status), Arc::new(SystemClock), pace);
        tasks.spawn(relay.run(stop.clone()));
        Self { outbox, wake, status, stop, tasks }
    }

    fn commit(&self, rows: impl IntoIterator<Item = OutboxRow>) {
        for row in rows {
            self.outbox.add(row);
        }
        self.wake.notify_one();
    }

    async fn shows(&self, what: &str, shown: impl Fn(&Publishing) -> bool) {
        eventually(what, SOON, async || shown(&self.status.now()).then_some(())).await;
    }

    async fn drained(&self) {
        eventually("everything is settled", SOON, async || (self.outbox.n_pending() == 0).then_some(())).await;
    }

    async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        eventually("the relay ends", Duration::from_secs(10), async || self.tasks.is_empty().then_some(())).await;
    }
}

async fn operator(rabbit: &Rabbit) -> (Connection, Channel) {
    let connection = Connection::connect(&rabbit.url(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

async fn declare_exchange(channel: &Channel, kind: ExchangeKind) {
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(DEFAULT_EXCHANGE.into(), kind, durable, FieldTable::default()).await.unwrap();
}

async fn declare_queue(channel: &Channel, arguments: &[(&str, AMQPValue)]) {
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let arguments: BTreeMap<_, _> = arguments.iter().map(|(name, value)| ((*name).into(), value.clone())).collect();
    let arguments = FieldTable::from(arguments);
    channel.queue_declare(DEFAULT_QUEUE.into(), durable, arguments).await.unwrap();
}

async fn bind_queue(channel: &Channel) {
    channel.queue_bind(DEFAULT_QUEUE.into(), DEFAULT_EXCHANGE.into(), "#".into(), QueueBindOptions::default(), FieldTable::default()).await.unwrap();
}

/// Everything in the queue, in order.
async fn consume(rabbit: &Rabbit) -> Vec<Delivery> {
    let (connection, channel) = operator(rabbit).await;
    let mut deliveries = Vec::new();
    while let Some(message) = channel.basic_get(DEFAULT_QUEUE.into(), BasicGetOptions { no_ack: true }).await.unwrap() {
        deliveries.push(message.delivery);
    }
    connection.close(200, "OK".into()).await.unwrap();
    deliveries
}

/// Each of the `n_events` is there, and of each room the first deliveries are its versions 1, 2, 3, … in order.
fn all_there_and_in_order(deliveries: &[Delivery], n_events: i64, n_rooms: i64) {
    let mut seen = HashSet::new();
    let mut versions: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for delivery in deliveries {
        let id = delivery.properties.message_id().as_ref().unwrap().as_str().to_owned();
        let headers = delivery.properties.headers().as_ref().unwrap().inner();
        let (AMQPValue::LongString(room), AMQPValue::LongLongInt(version)) = (&headers["room_id"], &headers["room_version"]) else {
            panic!("headers of another type");
        };
        if seen.insert(id) {
            versions.entry(room.to_string()).or_default().push(*version);
        }
    }
    let expected: HashSet<String> = (0..n_events).map(|seq| row(seq, n_rooms).event_id.to_string()).collect();
    assert_eq!(seen, expected);
    for (room, versions) in versions {
        assert_eq!(versions, (1..=n_events / n_rooms).collect::<Vec<_>>(), "room {room}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_arrives_in_order_although_the_broker_stops_and_dies_in_the_middle() {
    const N_EVENTS: i64 = 1500;
    const N_ROOMS: i64 = 30;
    let Some(mut rabbit) = Rabbit::start("every_event_arrives_in_order_although_the_broker_stops_and_dies_in_the_middle").await else { return };
    let running = Running::start(options(&rabbit.url()));
    running.shows("the relay is connected before there is anything to publish", |now| now.connected).await;

    // Commits come all the while: a third before and while it stops, a third before and while it dies, a third after.
    let (outbox, wake) = (Arc::clone(&running.outbox), Arc::clone(&running.wake));
    let go_on = Arc::new(Notify::new());
    let going_on = Arc::clone(&go_on);
    let committing = running.tasks.spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(2));
        for seq in 0..N_EVENTS {
            if seq % (N_EVENTS / 3) == N_EVENTS / 6 {
                going_on.notified().await;
            }
            ticks.tick().await;
            outbox.add(row(seq, N_ROOMS));
            wake.notify_one();
        }
    });
    for kill in [false, true] {
        eventually("some are settled", SOON, async || running.status.now().last_confirm_at).await;
        go_on.notify_one();
        tokio::task::block_in_place(|| if kill { rabbit.kill() } else { rabbit.down() });
        running.shows("the relay notices", |now| !now.connected && now.last_error.is_some()).await;
        rabbit.up().await;
        running.shows("the relay is connected again", |now| now.connected).await;
    }
    go_on.notify_one();
    committing.await.unwrap();
    running.drained().await;
    running.stop().await;

    let deliveries = consume(&rabbit).await;
    all_there_and_in_order(&deliveries, N_EVENTS, N_ROOMS);
    println!("{} deliveries of {N_EVENTS} events", deliveries.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_cannot_deliver_is_not_settled_until_it_can() {
    let Some(rabbit) = Rabbit::start("what_the_broker_cannot_deliver_is_not_settled_until_it_can").await else { return };
    let (_connection, channel) = operator(&rabbit).await;

    // The topology is the operator's, who forgot to bind a queue.
    declare_exchange(&channel, ExchangeKind::Topic).await;
    let running = Running::start(AmqpOptions { queue: String::new(), ..options(&rabbit.url()) });
    running.commit((0..30).map(|seq| row(seq, 10)));
    running.shows("the events are known to be unroutable", |now| now.last_error.is_some_and(|trouble| trouble.kind == "unroutable")).await;
    running.shows("every room waits", |now| now.n_held_rooms == 10).await;
    assert_eq!(running.outbox.n_pending(), 30);
    assert!(running.status.now().connected);
    declare_queue(&channel, &[("x-queue-type", AMQPValue::LongString("quorum".into()))]).await;
    bind_queue(&channel).await;
    running.drained().await;
    running.shows("all is well again", |now| now.last_error.is_none() && now.n_held_rooms == 0).await;
    running.stop().await;
    all_there_and_in_order(&consume(&rabbit).await, 30, 10);

    // The topology is wardroom's, and somebody deletes the queue under it: it is declared again.
    let running = Running::start(options(&rabbit.url()));
    running.commit([row(0, 1)]);
    running.drained().await;
    channel.queue_delete(DEFAULT_QUEUE.into(), QueueDeleteOptions::default()).await.unwrap();
    running.commit([row(1, 1), row(2, 1)]);
    running.drained().await;
    running.stop().await;
    let ids: Vec<String> = consume(&rabbit).await.iter().map(|got| got.properties.message_id().as_ref().unwrap().as_str().to_owned()).collect();
    assert_eq!(ids, [row(1, 1).event_id.to_string(), row(2, 1).event_id.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_full_queue_refuses_waits_until_there_is_room() {
    let Some(rabbit) = Rabbit::start("what_a_full_queue_refuses_waits_until_there_is_room").await else { return };
    let (_connection, channel) = operator(&rabbit).await;
    declare_exchange(&channel, ExchangeKind::Topic).await;
    let full = ("x-overflow", AMQPValue::LongString("reject-publish".into()));
    declare_queue(&channel, &[("x-max-length", AMQPValue::LongInt(5)), full]).await;
    bind_queue(&channel).await;
    let running = Running::start(AmqpOptions { queue: String::new(), ..options(&rabbit.url()) });
    running.commit((0..30).map(|seq| row(seq, 10)));
    running.shows("the events are known to be refused", |now| now.last_error.is_some_and(|trouble| trouble.kind == "refused")).await;
    assert!(running.outbox.n_pending() >= 20);
    let mut deliveries = Vec::new();
    eventually("everything is settled, a few at a time", SOON, async || {
        while let Some(message) = channel.basic_get(DEFAULT_QUEUE.into(), BasicGetOptions { no_ack: true }).await.unwrap() {
            deliveries.push(message.delivery);
        }
        (running.outbox.n_pending() == 0).then_some(())
    })
    .await;
    running.stop().await;
    deliveries.extend(consume(&rabbit).await);
    all_there_and_in_order(&deliveries, 30, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_has_the_properties_and_headers_of_the_contract_and_no_others() {
    let Some(rabbit) = Rabbit::start("a_message_has_the_properties_and_headers_of_the_contract_and_no_others").await else { return };
    let running = Running::start(options(&rabbit.url()));
    running.commit([row(0, 1)]);
    running.drained().await;
    running.stop().await;
    let deliveries = consume(&rabbit).await;
    let [delivery] = deliveries.as_slice() else { panic!("{} deliveries", deliveries.len()) };
    let sent = row(0, 1);
    assert_eq!(delivery.exchange.as_str(), DEFAULT_EXCHANGE);
    assert_eq!(delivery.routing_key.as_str(), "room.opened");
    assert_eq!(delivery.data, sent.body);
    let properties = &delivery.properties;
    assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/cloudevents+json");
    assert_eq!(properties.message_id().as_ref().unwrap().as_str(), sent.event_id.to_string());
    assert_eq!(properties.kind().as_ref().unwrap().as_str(), "room.opened");
    assert_eq!(properties.app_id().as_ref().unwrap().as_str(), "wardroom");
    assert_eq!(*properties.delivery_mode(), Some(2));
    assert_eq!(*properties.timestamp(), Some(1_795_271_402));
    // The queue itself adds `x-delivery-count`.
    let headers = properties.headers().as_ref().unwrap().inner().keys().map(lapin::types::ShortString::as_str);
    assert_eq!(headers.filter(|name| *name != "x-delivery-count").collect::<Vec<_>>(), ["facility", "room_id", "room_version", "traceparent"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_short_of_memory_is_waited_for() {
    let Some(rabbit) = Rabbit::start("a_broker_short_of_memory_is_waited_for").await else { return };
    // Long enough for a busy machine, so that only being blocked can keep a confirm away for so long.
    let confirm_timeout = Duration::from_secs(2);
    let running = Running::start(AmqpOptions { confirm_timeout, ..options(&rabbit.url()) });
    running.commit([row(0, 10)]);
    running.drained().await;
    rabbit.ctl(&["set_vm_memory_high_watermark", "absolute", "1MB"]);
    // The broker tells a publisher that it is blocked when that publisher sends something.
    running.commit((1..30).map(|seq| row(seq, 10)));
    running.shows("the broker is known to be blocked", |now| now.blocked && now.connected).await;
    running.commit((30..40).map(|seq| row(seq, 10)));
    // For longer than the broker may take to confirm: being blocked is no failure.
    let blocked_at = Instant::now();
    while blocked_at.elapsed() < confirm_timeout + confirm_timeout / 2 {
        tokio::task::block_in_place(|| rabbit.ctl(&["list_queues"]));
    }
    let now = running.status.now();
    assert!(now.blocked && now.last_error.is_none(), "{now:?}");
    assert!(running.outbox.n_pending() > 0);
    rabbit.ctl(&["set_vm_memory_high_watermark", "absolute", "1GB"]);
    running.drained().await;
    running.shows("the broker is known to take events again", |now| !now.blocked).await;

    // Blocked again, and told to stop: it does not wait for the broker.
    rabbit.ctl(&["set_vm_memory_high_watermark", "absolute", "1MB"]);
    running.commit((40..60).map(|seq| row(seq, 10)));
    running.shows("the broker is known to be blocked", |now| now.blocked).await;
    running.stop().await;
    rabbit.ctl(&["set_vm_memory_high_watermark", "absolute", "1GB"]);
    let mut deliveries = consume(&rabbit).await;
    let ids: HashSet<String> = (0..40).map(|seq| row(seq, 10).event_id.to_string()).collect();
    deliveries.retain(|delivery| delivery.properties.message_id().as_ref().is_some_and(|id| ids.contains(id.as_str())));
    assert_eq!(deliveries.len(), 40, "none was sent twice, although all had to wait");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_set_up_differently_is_an_error_that_says_what_differs() {
    let Some(rabbit) = Rabbit::start("a_broker_that_is_set_up_differently_is_an_error_that_says_what_differs").await else { return };
    let (_connection, channel) = operator(&rabbit).await;
    let check = async |amqp: AmqpOptions| AmqpPublisher::new(amqp, Arc::default(), TaskTracker::new()).check().await;

    let error = check(AmqpOptions { queue: String::new(), ..options(&rabbit.url()) }).await.unwrap_err();
    assert!(matches!(&error, AmqpError::Topology { what: "exchange", reply, .. } if reply.code == 404), "{error}");
    assert!(error.hint().contains("declare the exchange"));

    declare_exchange(&channel, ExchangeKind::Fanout).await;
    let error = check(options(&rabbit.url())).await.unwrap_err();
    assert!(matches!(&error, AmqpError::Topology { what: "exchange", reply, .. } if reply.code == 406), "{error}");
    assert!(error.to_string().contains("received 'topic' but current is 'fanout'"), "{error}");
    channel.exchange_delete(DEFAULT_EXCHANGE.into(), lapin::options::ExchangeDeleteOptions::default()).await.unwrap();

    declare_queue(&channel, &[("x-queue-type", AMQPValue::LongString("classic".into()))]).await;
    let error = check(options(&rabbit.url())).await.unwrap_err();
    assert!(matches!(&error, AmqpError::Topology { what: "queue", reply, .. } if reply.code == 406), "{error}");
    assert!(error.to_string().contains("x-queue-type"), "{error}");
    // The relay shows it, and mends itself when the operator did.
    let running = Running::start(options(&rabbit.url()));
    running.commit([row(0, 1)]);
    running.shows("the relay says what is wrong", |now| now.last_error.is_some_and(|trouble| trouble.kind == "topology")).await;
    channel.queue_delete(DEFAULT_QUEUE.into(), QueueDeleteOptions::default()).await.unwrap();
    running.drained().await;
    running.stop().await;
    check(options(&rabbit.url())).await.unwrap();

    for (of, with) in [("guest:guest@", "guest:hush-hush@"), ("/%2f", "/nowhere"), ("/%2f", "/")] {
        let error = check(options(&rabbit.url().replace(of, with))).await.unwrap_err();
        assert_eq!(error.kind(), "login_refused", "{with}: {error}");
        assert!(!format!("{error} {error:?}").contains("hush-hush"));
        assert!(!error.is_transient());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_where_nobody_answers_is_given_up_in_time_and_for_good() {
    // Accepts by way of the backlog, and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let amqp = AmqpOptions { connect_timeout: Duration::from_millis(300), ..options(&format!("amqp://u:hush-hush@127.0.0.1:{port}/%2f")) };
    let publisher = AmqpPublisher::new(amqp.clone(), Arc::default(), TaskTracker::new());
    let error = publisher.check().await.unwrap_err();
    assert_eq!(error.kind(), "silent", "{error}");
    // No thread goes on waiting: the socket is closed.
    let (mut accepted, _) = silent.accept().await.unwrap();
    let mut heard = Vec::new();
    tokio::time::timeout(SOON, accepted.read_to_end(&mut heard)).await.unwrap().unwrap();
    assert_eq!(heard, b"AMQP\0\0\x09\x01");

    drop((silent, accepted));
    let error = publisher.check().await.unwrap_err();
    assert_eq!(error.kind(), "unreachable", "{error}");
    assert!(!format!("{amqp:?} {publisher:?} {error} {error:?}").contains("hush-hush"));
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_only_a_certificate_of_the_authority_is_believed() {
    let Some(rabbit) = Rabbit::start("over_tls_only_a_certificate_of_the_authority_is_believed").await else { return };
    let amqps = |host: &str, ca_pem: Option<String>| {
        let publisher = AmqpPublisher::new(AmqpOptions { ca_pem, ..options(&rabbit.tls_url(host)) }, Arc::default(), TaskTracker::new());
        async move { publisher.check().await }
    };
    // The broker opens its listeners one after another, and this one last.
    eventually("the broker takes TLS", SOON, async || amqps("127.0.0.1", Some(rabbit.ca_pem().to_owned())).await.ok()).await;
    for (host, ca_pem) in [("127.0.0.1", None), ("localhost", Some(rabbit.ca_pem().to_owned()))] {
        let error = amqps(host, ca_pem).await.unwrap_err();
        assert_eq!(error.kind(), "unreachable", "{error}");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
}
