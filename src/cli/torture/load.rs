//! Senders that never give up: what is not answered is sent again, on a new connection, until it is.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cli::replay::acknowledgement;
use crate::mllp::client::ClientOptions;
use crate::mllp::client::Endpoint;
use crate::mllp::client::MllpClient;

/// What a sender waits before it connects again.
const PAUSE: Duration = Duration::from_millis(25);

/// A load and how it fared.
pub(super) struct Load {
    messages: Mutex<Box<dyn Iterator<Item = String> + Send>>,
    /// How long a connection waits from one message to the next.
    gap: Duration,
    fared: Mutex<Fared>,
}

/// What the senders are told, and what they tell.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Begin no new message.
    pub(super) stop: CancellationToken,
    /// Leave what has no answer.
    pub(super) give_up: CancellationToken,
    /// All of them are done.
    pub(super) done: CancellationToken,
}

/// How the messages fared.
#[derive(Clone, Debug, Default)]
pub(super) struct Fared {
    /// Every message that was acknowledged, as it was sent.
    pub(super) acknowledged: Vec<String>,
    /// How many were answered by anything but an acceptance.
    pub(super) n_refused: u64,
    /// How often a message was sent without an answer.
    pub(super) n_unanswered: u64,
    /// Messages never answered: none, unless the run was broken off.
    pub(super) n_given_up: u64,
    /// The longest time from the first attempt to the answer.
    pub(super) longest: Duration,
}

impl Load {
    pub(super) fn new(messages: impl Iterator<Item = String> + Send + 'static, n_connections: u16, rate: u32) -> Self {
        let gap = Duration::from_secs_f64(f64::from(n_connections) / f64::from(rate.max(1)));
        Self { messages: Mutex::new(Box::new(messages)), gap, fared: Mutex::default() }
    }

    fn fared(&self) -> std::sync::MutexGuard<'_, Fared> {
        self.fared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends new messages until told to stop, and every message that was begun until it is answered or given up.
    pub(super) async fn run(&self, to: SocketAddr, n_connections: u16, signals: &Signals) -> Fared {
        join_all((0..n_connections).map(|_| self.connection(to, signals))).await;
        signals.done.cancel();
        std::mem::take(&mut *self.fared())
    }

    async fn connection(&self, to: SocketAddr, Signals { stop, give_up, .. }: &Signals) {
        let endpoint = Endpoint { host: to.ip().to_string(), port: to.port() };
        let options = ClientOptions { answer_timeout: Duration::from_secs(15), ..ClientOptions::default() };
        let mut client: Option<MllpClient> = None;
        while !stop.is_cancelled() {
            let Some(message) = self.next() else { return };
            let begun = Instant::now();
            loop {
                if give_up.is_cancelled() {
                    self.fared().n_given_up += 1;
                    return;
                }
                if client.is_none() {
                    client = MllpClient::connect(&endpoint, &options).await.ok();
                }
                let Some(connected) = &mut client else {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                let Some(is_accepted) = exchange(connected, &message).await else {
                    self.fared().n_unanswered += 1;
                    client = None;
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                let mut fared = self.fared();
                fared.longest = fared.longest.max(begun.elapsed());
                if is_accepted {
                    fared.acknowledged.push(message);
                } else {
                    fared.n_refused += 1;
                }
                break;
            }
            tokio::time::sleep(self.gap).await;
        }
    }

    fn next(&self) -> Option<String> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).next()
    }
}

/// Whether the message was accepted; none when there was no answer.
async fn exchange(client: &mut MllpClient, message: &str) -> Option<bool> {
    client.send(message.as_bytes()).await.ok()?;
    let answer = client.receive().await.ok()?;
    Some(acknowledgement(&answer, message.as_bytes()))
}
