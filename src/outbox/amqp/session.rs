//! One connection and one channel, from opening to the first error.
//!
//! A session is used by one task at a time and thrown away after any error. It never recovers by itself, and never settles anything.

use std::collections::HashSet;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::Stream;
use futures_util::StreamExt as _;
use lapin::Channel;
use lapin::Confirmation;
use lapin::Connection;
use lapin::Event;
use lapin::PublisherConfirm;
use lapin::options::BasicPublishOptions;
use lapin::options::ConfirmSelectOptions;
use lapin::types::ShortString;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::outbox::OutboxRow;
use crate::outbox::Outcome;
use crate::outbox::amqp::AmqpError;
use crate::outbox::amqp::AmqpOptions;
use crate::outbox::amqp::MAX_BODY_BYTES;
use crate::outbox::amqp::connect::OpenWire;
use crate::outbox::amqp::connect::connect;
use crate::outbox::amqp::message::properties;
use crate::outbox::amqp::topology;
use crate::outbox::status::RelayStatus;

/// A connection with a channel that confirms.
pub(super) struct Session {
    connection: Connection,
    channel: Channel,
    exchange: ShortString,
    /// How often the broker was blocked or unblocked: when it changes, a wait starts anew.
    n_alarms: Arc<AtomicU64>,
    /// Whether something was returned, so that the topology may have changed under us.
    topology_in_doubt: bool,
    _watch: DropGuard,
    _wire: OpenWire,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("alive", &self.is_alive()).finish_non_exhaustive()
    }
}

impl Session {
    pub(super) async fn open(options: &AmqpOptions, status: &Arc<RelayStatus>, tracker: &TaskTracker) -> Result<Self, AmqpError> {
        let (connection, wire) = connect(options).await?;
        let n_alarms = Arc::new(AtomicU64::new(0));
        let watch = CancellationToken::new();
        let watching = watch_alarms(connection.events_listener(), Arc::clone(status), Arc::clone(&n_alarms));
        tracker.spawn(watch.clone().run_until_cancelled_owned(watching));
        topology::ensure(&connection, options).await?;
        let opening = async {
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok(channel)
        };
        let channel = match tokio::time::timeout(options.connect_timeout, opening).await {
            Ok(opened) => opened.map_err(|source| AmqpError::Broken { source })?,
            Err(_) => return Err(AmqpError::Silent { doing: "opening a channel", after: options.connect_timeout }),
        };
        status.connected(true);
        tracing::info!("connected to the broker");
        let exchange = topology::name("exchange", &options.exchange)?;
        Ok(Self { connection, channel, exchange, n_alarms, topology_in_doubt: false, _watch: watch.drop_guard(), _wire: wire })
    }

    pub(super) fn is_alive(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }

    /// Declares again what may be gone since something was returned.
    pub(super) async fn mend_topology(&mut self, options: &AmqpOptions) -> Result<(), AmqpError> {
        if self.topology_in_doubt && !self.connection.status().blocked() {
            topology::ensure(&self.connection, options).await?;
            self.topology_in_doubt = false;
        }
        Ok(())
    }

    /// Sends a batch and waits for what became of each event.
    pub(super) async fn publish(&mut self, options: &AmqpOptions, batch: &[OutboxRow]) -> Result<Vec<Outcome>, AmqpError> {
        let mut confirms: Vec<Option<PublisherConfirm>> = Vec::with_capacity(batch.len());
        for row in batch {
            confirms.push(if row.body.len() > MAX_BODY_BYTES { None } else { Some(self.send(options, row).await?) });
        }
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut returned = HashSet::new();
        for confirm in confirms {
            let Some(confirm) = confirm else {
                outcomes.push(Outcome::Unpublishable("the event is larger than a broker takes"));
                continue;
            };
            let confirmation = self.patiently(options, "confirming", confirm).await?;
            outcomes.push(match &confirmation {
                Confirmation::Ack(_) => Outcome::Confirmed,
                Confirmation::Nack(_) => Outcome::Refused,
                Confirmation::NotRequested => return Err(AmqpError::Nonsense { what: "a message was sent without asking for a confirm" }),
            });
            if let Some(message) = confirmation.take_message() {
                let id = message.properties.message_id().as_ref().and_then(|id| Uuid::parse_str(id.as_str()).ok());
                returned.insert(id.ok_or(AmqpError::Nonsense { what: "a message was returned without its id" })?);
            }
        }
        // Only now: the return of one message may have come with the confirm of another.
        for (row, outcome) in batch.iter().zip(&mut outcomes) {
            if returned.remove(&row.event_id) && *outcome == Outcome::Confirmed {
                *outcome = Outcome::Returned;
                self.topology_in_doubt = true;
            }
        }
        if returned.is_empty() { Ok(outcomes) } else { Err(AmqpError::Nonsense { what: "a message was returned that was not sent" }) }
    }

    async fn send(&self, options: &AmqpOptions, row: &OutboxRow) -> Result<PublisherConfirm, AmqpError> {
        let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let key = row.event_type.as_str().into();
        let sending = self.channel.basic_publish(self.exchange.clone(), key, mandatory, &row.body, properties(row));
        self.patiently(options, "sending", sending).await
    }

    /// Waits for the broker; time in which it is blocked, or was so, does not count.
    async fn patiently<T>(
        &self,
        options: &AmqpOptions,
        doing: &'static str,
        waiting: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, AmqpError> {
        let mut waiting = pin!(waiting);
        loop {
            let n_alarms = self.n_alarms.load(Ordering::SeqCst);
            if let Ok(done) = tokio::time::timeout(options.confirm_timeout, waiting.as_mut()).await {
                return done.map_err(|source| AmqpError::Broken { source });
            }
            if !self.connection.status().blocked() && self.n_alarms.load(Ordering::SeqCst) == n_alarms {
                return Err(AmqpError::Silent { doing, after: options.confirm_timeout });
            }
        }
    }

    /// Says goodbye, if the broker listens.
    pub(super) async fn close(self, timeout: Duration) {
        match tokio::time::timeout(timeout, self.connection.close(200, "OK".into())).await {
            Ok(Ok(())) => tracing::info!("the connection to the broker is closed"),
            Ok(Err(error)) => tracing::debug!(%error, "the connection to the broker was closed already"),
            Err(_) => tracing::warn!("the broker did not answer the goodbye"),
        }
    }
}

/// Keeps the status in step with what the broker says of itself.
async fn watch_alarms(events: impl Stream<Item = Event>, status: Arc<RelayStatus>, n_alarms: Arc<AtomicU64>) {
    let mut events = pin!(events);
    while let Some(event) = events.next().await {
        #[expect(clippy::wildcard_enum_match_arm, reason = "lapin's list grows, and only these say whether events can be sent")]
        match event {
            Event::ConnectionBlocked(reason) => {
                n_alarms.fetch_add(1, Ordering::SeqCst);
                status.blocked(true);
                tracing::error!(reason, hint = "free memory or disk on the broker", "the broker takes no events now; they wait in the outbox");
            }
            Event::ConnectionUnblocked => {
                n_alarms.fetch_add(1, Ordering::SeqCst);
                status.blocked(false);
                tracing::info!("the broker takes events again");
            }
            Event::Error(_) => status.connected(false),
            _ => {}
        }
    }
}
