//! The AMQP 0-9-1 publisher (RabbitMQ): persistent, mandatory, confirmed.
//!
//! A batch is sent in order on one channel; then the confirm of *each* message is awaited and looked at. A message counts as published when it was
//! confirmed and not returned. Returns carry no delivery tag, so they are matched by `message_id`, and only when all confirms of the batch are in.
//! Any error ends the session; the next batch opens a new one. lapin is used here and nowhere else, without its own recovery.
//!
//! It never puts anything of an event's body into properties or headers, and never shows the URL, which holds a password. lapin itself logs every
//! returned message whole, body included, at WARN under the target `lapin::returned_messages`: telemetry has to filter that target out, whatever
//! filter an operator asks for.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio_util::task::TaskTracker;

use crate::outbox::OutboxRow;
use crate::outbox::Outcome;
use crate::outbox::PublishError;
use crate::outbox::Publisher;
use crate::outbox::amqp::session::Session;
use crate::outbox::status::RelayStatus;

pub mod consumer;

mod connect;
mod error;
mod message;
mod session;
mod topology;

pub use crate::outbox::amqp::error::AmqpError;
pub use crate::outbox::amqp::error::Reply;

/// The exchange when the configuration names no other.
pub const DEFAULT_EXCHANGE: &str = "wardroom.events";
/// The queue when the configuration names no other.
pub const DEFAULT_QUEUE: &str = "wardroom.backend";
/// Header: the room's id.
pub const HEADER_ROOM_ID: &str = "room_id";
/// Header: the room's version with this event.
pub const HEADER_ROOM_VERSION: &str = "room_version";
/// Header: the facility; may be empty.
pub const HEADER_FACILITY: &str = "facility";
/// Header: the W3C trace context, where there is one.
pub const HEADER_TRACEPARENT: &str = "traceparent";

/// The greatest body that is sent: what RabbitMQ takes by default (`max_message_size`). A greater one would close the channel each time.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// How long saying goodbye may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Where and how to publish.
#[derive(Clone, Debug)]
pub struct AmqpOptions {
    /// `amqp://` or `amqps://`, with user, password and virtual host (`%2f` is the default one).
    pub url: SecretString,
    /// A topic exchange.
    pub exchange: String,
    /// A quorum queue that is declared and bound with `#`; empty when the topology is the operator's.
    pub queue: String,
    /// Certificates of a private authority, PEM; with none, those of the system count.
    pub ca_pem: Option<String>,
    /// How long connecting and each step of declaring may take.
    pub connect_timeout: Duration,
    /// How long the broker may take to confirm; the time it is blocked does not count.
    pub confirm_timeout: Duration,
}

impl AmqpOptions {
    /// The default exchange and queue of the broker at this URL.
    pub fn new(url: SecretString) -> Self {
        Self {
            url,
            exchange: DEFAULT_EXCHANGE.to_owned(),
            queue: DEFAULT_QUEUE.to_owned(),
            ca_pem: None,
            connect_timeout: Duration::from_secs(10),
            confirm_timeout: Duration::from_secs(30),
        }
    }
}

/// Publishes events to a broker.
#[derive(Debug)]
pub struct AmqpPublisher {
    options: AmqpOptions,
    status: Arc<RelayStatus>,
    tracker: TaskTracker,
    session: Option<Session>,
}

impl AmqpPublisher {
    /// A publisher that connects with its first batch. The task that listens to the broker's alarms is spawned on `tracker`.
    pub fn new(options: AmqpOptions, status: Arc<RelayStatus>, tracker: TaskTracker) -> Self {
        Self { options, status, tracker, session: None }
    }

    /// Connects and looks whether exchange and queue are as they should be (declares them when a queue is configured); then leaves.
    ///
    /// # Errors
    /// When the broker cannot be reached, lets nobody in, or has another exchange or queue of this name.
    pub async fn check(&self) -> Result<(), AmqpError> {
        let session = Session::open(&self.options, &self.status, &self.tracker).await?;
        session.close(CLOSE_TIMEOUT).await;
        self.status.connected(false);
        Ok(())
    }

    /// A session that works. It is taken out of the publisher, and put back only when a batch went well: whatever else happens ends it.
    async fn take_session(&mut self) -> Result<Session, AmqpError> {
        match self.session.take() {
            Some(mut session) if session.is_alive() => {
                session.mend_topology(&self.options).await?;
                Ok(session)
            }
            _ => Session::open(&self.options, &self.status, &self.tracker).await,
        }
    }

    async fn publish_batch(&mut self, batch: &[OutboxRow]) -> Result<Vec<Outcome>, AmqpError> {
        let mut session = self.take_session().await?;
        let outcomes = session.publish(&self.options, batch).await?;
        self.session = Some(session);
        Ok(outcomes)
    }
}

impl Publisher for AmqpPublisher {
    async fn publish(&mut self, batch: &[OutboxRow]) -> Result<Vec<Outcome>, PublishError> {
        let published = self.publish_batch(batch).await;
        if published.is_err() {
            self.status.connected(false);
        }
        Ok(published?)
    }

    async fn close(&mut self) {
        if let Some(session) = self.session.take() {
            session.close(CLOSE_TIMEOUT).await;
        }
        self.status.connected(false);
    }
}
