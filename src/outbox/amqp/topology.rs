//! Exchange, queue and binding.
//!
//! With a queue, all three are declared; without one the topology is the operator's, and only the exchange is looked for. Each step is taken on a
//! channel of its own, because the broker answers a wrong one by closing the channel. Nothing is ever deleted or changed.

use std::future::Future;

use lapin::Channel;
use lapin::Connection;
use lapin::ExchangeKind;
use lapin::options::ExchangeDeclareOptions;
use lapin::options::QueueBindOptions;
use lapin::options::QueueDeclareOptions;
use lapin::types::AMQPValue;
use lapin::types::FieldTable;
use lapin::types::ShortString;

use crate::outbox::amqp::AmqpError;
use crate::outbox::amqp::AmqpOptions;
use crate::outbox::amqp::error::Reply;

/// A name as AMQP carries it.
pub(super) fn name(key: &'static str, name: &str) -> Result<ShortString, AmqpError> {
    ShortString::try_new(name).map_err(|_| AmqpError::Name { key })
}

/// Declares what is ours to declare, and looks for the rest.
pub(super) async fn ensure(connection: &Connection, options: &AmqpOptions) -> Result<(), AmqpError> {
    let exchange = name("exchange", &options.exchange)?;
    let ours = !options.queue.is_empty();
    let declare = ExchangeDeclareOptions { passive: !ours, durable: true, ..ExchangeDeclareOptions::default() };
    step(connection, options, "exchange", &options.exchange, |channel| {
        let exchange = exchange.clone();
        async move { channel.exchange_declare(exchange, ExchangeKind::Topic, declare, FieldTable::default()).await }
    })
    .await?;
    if !ours {
        return Ok(());
    }
    let queue = name("queue", &options.queue)?;
    let declare = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    step(connection, options, "queue", &options.queue, |channel| {
        let queue = queue.clone();
        async move { channel.queue_declare(queue, declare, arguments).await.map(drop) }
    })
    .await?;
    step(connection, options, "binding", &options.queue, |channel| async move {
        channel.queue_bind(queue, exchange, "#".into(), QueueBindOptions::default(), FieldTable::default()).await
    })
    .await
}

/// Takes one step on a channel of its own.
async fn step<F: Future<Output = lapin::Result<()>> + Send>(
    connection: &Connection,
    options: &AmqpOptions,
    what: &'static str,
    name: &str,
    take: impl FnOnce(Channel) -> F + Send,
) -> Result<(), AmqpError> {
    let stepping = async {
        let channel = connection.create_channel().await?;
        take(channel.clone()).await?;
        channel.close(200, "OK".into()).await
    };
    match tokio::time::timeout(options.connect_timeout, stepping).await {
        Err(_) => Err(AmqpError::Silent { doing: "declaring", after: options.connect_timeout }),
        Ok(Ok(())) => Ok(()),
        Ok(Err(source)) => Err(match Reply::of(&source) {
            Some(reply) if matches!(reply.code, 403..=406) => AmqpError::Topology { what, name: name.to_owned(), reply },
            _ => AmqpError::Broken { source },
        }),
    }
}
