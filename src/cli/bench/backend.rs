//! The backend that a bench's broker has: it takes every event out of the queue, as the chat backend of a house does.
//!
//! Without it the queue would keep them all, and what is measured would be how a broker keeps what nobody wants. It looks into no event.

use anyhow::Context as _;
use secrecy::SecretString;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::outbox::amqp::AmqpOptions;
use crate::outbox::amqp::consumer;

/// The exchange and the queue of a bench.
pub(super) const NAME: &str = "wardroom.bench";

/// It works from its making until its end. Where there is no broker it does nothing.
pub(super) struct Backend {
    consumer: Option<(AmqpOptions, JoinHandle<u64>)>,
    stop: CancellationToken,
}

impl Backend {
    /// Declares exchange and queue, new ones whatever an earlier bench has left there, and begins to take events.
    pub(super) async fn start(broker: Option<&SecretString>) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let Some(broker) = broker else { return Ok(Self { consumer: None, stop }) };
        let options = AmqpOptions { exchange: NAME.to_owned(), queue: NAME.to_owned(), ..AmqpOptions::new(broker.clone()) };
        consumer::remove(&options).await.context("cannot use the broker (`--amqp`)")?;
        consumer::declare(&options).await.context("cannot declare a queue on the broker (`--amqp`)")?;
        let (brokers, until) = ([options.clone()], stop.clone());
        let hearing = TaskTracker::new().spawn(async move { consumer::consume(&brokers, |_| (), until).await });
        Ok(Self { consumer: Some((options, hearing)), stop })
    }

    /// Ends, and takes exchange and queue away.
    pub(super) async fn end(self) -> anyhow::Result<()> {
        self.stop.cancel();
        let Some((options, hearing)) = self.consumer else { return Ok(()) };
        hearing.await?;
        consumer::remove(&options).await.context("the broker still has what this bench declared")
    }
}
