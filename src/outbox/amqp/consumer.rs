//! A consumer as a backend would write one: it takes every event from the queue, acknowledges it, and connects again when the connection breaks, to the
//! next of the brokers it knows.
//!
//! Its queue has one active consumer at a time, so that what a broken connection left unacknowledged comes again
//! before anything that came later. It is for `torture`, which has to see what really arrives, and for `bench`, whose broker would otherwise keep every event.
//! It keeps nothing.

use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::ExchangeKind;
use lapin::options::BasicAckOptions;
use lapin::options::BasicConsumeOptions;
use lapin::options::BasicQosOptions;
use lapin::options::ExchangeDeclareOptions;
use lapin::options::ExchangeDeleteOptions;
use lapin::options::QueueBindOptions;
use lapin::options::QueueDeclareOptions;
use lapin::options::QueueDeleteOptions;
use lapin::types::AMQPValue;
use lapin::types::FieldTable;
use tokio_util::sync::CancellationToken;

use crate::outbox::amqp::AmqpError;
use crate::outbox::amqp::AmqpOptions;
use crate::outbox::amqp::connect::connect;
use crate::outbox::amqp::topology;

/// How long to wait before connecting again.
const PAUSE: Duration = Duration::from_millis(200);
const PREFETCH: u16 = 256;

/// Declares exchange, queue and binding as the operator of such a consumer would.
///
/// # Errors
/// When the broker cannot be reached, or does not let us.
pub async fn declare(options: &AmqpOptions) -> Result<(), AmqpError> {
    let broken = |source| AmqpError::Broken { source };
    let (connection, _wire) = connect(options).await?;
    let channel = connection.create_channel().await.map_err(broken)?;
    let (exchange, queue) = (topology::name("exchange", &options.exchange)?, topology::name("queue", &options.queue)?);
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(exchange.clone(), ExchangeKind::Topic, durable, FieldTable::default()).await.map_err(broken)?;
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    channel.queue_declare(queue.clone(), durable, arguments).await.map_err(broken)?;
    channel.queue_bind(queue, exchange, "#".into(), QueueBindOptions::default(), FieldTable::default()).await.map_err(broken)
}

/// Hears every event until it is told to stop; gives how often it had to connect. The brokers are nodes of one cluster.
pub async fn consume(brokers: &[AmqpOptions], mut hear: impl FnMut(Vec<u8>) + Send, stop: CancellationToken) -> u64 {
    let mut n_connections = 0;
    for options in brokers.iter().cycle() {
        n_connections += 1;
        match stop.run_until_cancelled(session(options, &mut hear)).await {
            None => break,
            Some(ended) => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "the consumer lost its connection");
                }
                stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
            }
        }
    }
    n_connections
}

async fn session(options: &AmqpOptions, hear: &mut (impl FnMut(Vec<u8>) + Send)) -> Result<(), AmqpError> {
    let broken = |source| AmqpError::Broken { source };
    let (connection, _wire) = connect(options).await?;
    let channel = connection.create_channel().await.map_err(broken)?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await.map_err(broken)?;
    let queue = topology::name("queue", &options.queue)?;
    let mut last = 0;
    let consumer = channel.basic_consume(queue, "wardroom".into(), BasicConsumeOptions::default(), FieldTable::default()).await.map_err(broken)?;
    // One acknowledgement for all that have come: each is a command that the queue keeps on disk.
    let mut arrived = consumer.ready_chunks(PREFETCH.into());
    while let Some(deliveries) = arrived.next().await {
        for delivery in deliveries {
            let delivery = delivery.map_err(broken)?;
            last = delivery.delivery_tag;
            hear(delivery.data);
        }
        channel.basic_ack(last, BasicAckOptions { multiple: true }).await.map_err(broken)?;
    }
    Ok(())
}

/// Takes exchange and queue away.
///
/// # Errors
/// When the broker cannot be reached, or does not let us.
pub async fn remove(options: &AmqpOptions) -> Result<(), AmqpError> {
    let broken = |source| AmqpError::Broken { source };
    let (connection, _wire) = connect(options).await?;
    let channel = connection.create_channel().await.map_err(broken)?;
    channel.queue_delete(topology::name("queue", &options.queue)?, QueueDeleteOptions::default()).await.map_err(broken)?;
    channel.exchange_delete(topology::name("exchange", &options.exchange)?, ExchangeDeleteOptions::default()).await.map_err(broken)?;
    Ok(())
}
