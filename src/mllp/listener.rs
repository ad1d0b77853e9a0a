//! Accepts connections, keeps their number in bounds, and starts a session for each.
//!
//! An error of `accept` (no file descriptors left, say) is logged and waited out; it never ends the listener. A probe that connects and says nothing
//! leaves no line in the log.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::SockRef;
use socket2::TcpKeepalive;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::session::Answerer;
use super::session::PeerInfo;
use super::session::Session;
use super::session::SessionOptions;
use super::stats::ListenerStats;
use super::tls::HandshakeFault;
use super::tls::ServerTls;
use super::tls::subject_and_names;
use crate::ids::FeedName;

/// How a listener behaves.
#[derive(Clone, Debug)]
pub struct ListenerOptions {
    /// The feed it serves, for the log.
    pub feed: FeedName,
    /// What holds for each connection.
    pub session: SessionOptions,
    /// `None`: plain TCP.
    pub tls: Option<Arc<ServerTls>>,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// Connections open at one time, in all.
    pub max_connections: usize,
    /// Connections open at one time from one address. A load balancer is one address.
    pub max_connections_per_address: usize,
    /// How long a connection is silent before the kernel asks whether the peer is still there.
    pub keepalive: Duration,
    /// How long sent bytes, or the kernel's question, may stay without an answer before the connection counts as broken (`TCP_USER_TIMEOUT`).
    pub user_timeout: Duration,
    /// Where its numbers are kept.
    pub stats: Arc<ListenerStats>,
}

impl ListenerOptions {
    /// The usual values, plain TCP.
    pub fn new(feed: FeedName) -> Self {
        Self {
            feed,
            session: SessionOptions::default(),
            tls: None,
            handshake_timeout: Duration::from_secs(10),
            max_connections: 1024,
            max_connections_per_address: 256,
            keepalive: Duration::from_mins(1),
            user_timeout: Duration::from_mins(1),
            stats: Arc::default(),
        }
    }
}

/// Accepts connections until `shutdown` is cancelled. Sessions run on `tracker`; each ends soon after `shutdown`, once a message in flight is answered.
pub async fn serve<A: Answerer>(
    listener: TcpListener,
    options: ListenerOptions,
    answerer: Arc<A>,
    shutdown: CancellationToken,
    tracker: TaskTracker,
) {
    let options = Arc::new(options);
    let mut door = Door::new(Arc::clone(&options));
    let mut n_failures_in_a_row = 0;
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                n_failures_in_a_row = 0;
                let Some(admitted) = door.admit(address) else { continue };
                let (options, answerer, shutdown) = (Arc::clone(&options), Arc::clone(&answerer), shutdown.clone());
                tracker.spawn(async move {
                    connection(stream, &admitted, &options, &*answerer, &shutdown).await;
                });
            }
            Err(error) => {
                n_failures_in_a_row += 1;
                let pause = pause_after(&error, n_failures_in_a_row);
                tracing::warn!(feed = %options.feed, %error, ?pause, "cannot accept a connection\nhint: when file descriptors have run out, raise `ulimit -n`");
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    () = sleep(pause) => {}
                }
            }
        }
    }
    tracing::debug!(feed = %options.feed, "listener has stopped accepting");
}

/// How long to wait after `accept` failed: not at all when a single peer is to blame, else longer and longer, to one second.
fn pause_after(error: &io::Error, n_failures_in_a_row: u32) -> Duration {
    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted) {
        Duration::ZERO
    } else {
        Duration::from_millis(10 << n_failures_in_a_row.min(7)).min(Duration::from_secs(1))
    }
}

/// Who is let in.
struct Door {
    options: Arc<ListenerOptions>,
    per_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
    n_admitted: u64,
    last_refusal_logged: Option<Instant>,
}

/// A refusal is logged at most this often; all are counted.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(10);

impl Door {
    fn new(options: Arc<ListenerOptions>) -> Self {
        Self { options, per_address: Arc::default(), n_admitted: 0, last_refusal_logged: None }
    }

    fn admit(&mut self, address: SocketAddr) -> Option<Admitted> {
        let stats = &self.options.stats;
        let ip = address.ip().to_canonical();
        let mut per_address = self.per_address.lock().unwrap_or_else(PoisonError::into_inner);
        let n_from_here = per_address.get(&ip).copied().unwrap_or_default();
        let ListenerOptions { max_connections, max_connections_per_address, .. } = *self.options;
        let n_open = stats.n_connections();
        if n_open >= max_connections || n_from_here >= max_connections_per_address {
            drop(per_address);
            stats.n_refused.fetch_add(1, Ordering::Relaxed);
            if self.last_refusal_logged.is_none_or(|at| at.elapsed() >= REFUSAL_LOG_INTERVAL) {
                self.last_refusal_logged = Some(Instant::now());
                let (key, limit) = if n_from_here >= max_connections_per_address {
                    ("max_connections_per_address", max_connections_per_address)
                } else {
                    ("max_connections", max_connections)
                };
                tracing::warn!(
                    feed = %self.options.feed, peer = %address, n_from_here, n_open, limit, n_refused = stats.n_refused(),
                    "too many connections: refused, because `{key}` of the feed is {limit}\n\
                     hint: a sender that opens connections and does not close them is the usual cause; where so many are meant, raise the limit"
                );
            }
            return None;
        }
        per_address.insert(ip, n_from_here + 1);
        drop(per_address);
        stats.n_connections.fetch_add(1, Ordering::Relaxed);
        stats.n_accepted.fetch_add(1, Ordering::Relaxed);
        self.n_admitted += 1;
        Some(Admitted { connection: self.n_admitted, address, ip, per_address: Arc::clone(&self.per_address), stats: Arc::clone(stats) })
    }
}

/// A place among the connections, given back when dropped.
struct Admitted {
    connection: u64,
    address: SocketAddr,
    ip: IpAddr,
    per_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
    stats: Arc<ListenerStats>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut per_address = self.per_address.lock().unwrap_or_else(PoisonError::into_inner);
        match per_address.get_mut(&self.ip) {
            Some(n_open) if *n_open > 1 => *n_open -= 1,
            Some(_) | None => drop(per_address.remove(&self.ip)),
        }
        self.stats.n_connections.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connection<A: Answerer>(stream: TcpStream, admitted: &Admitted, options: &ListenerOptions, answerer: &A, shutdown: &CancellationToken) {
    if let Err(error) = tune(&stream, options) {
        tracing::debug!(feed = %options.feed, peer = %admitted.address, kind = %error.kind(), "socket options were not taken");
    }
    let mut peer = PeerInfo { connection: admitted.connection, address: admitted.address, certificate_subject: None, certificate_names: Vec::new() };
    let Some(tls) = &options.tls else {
        return session(stream, &peer, options, answerer, shutdown).await;
    };
    let handshake = timeout(options.handshake_timeout, TlsAcceptor::from(tls.current()).accept(stream));
    let handshake = tokio::select! {
        biased;
        () = shutdown.cancelled() => return,
        handshake = handshake => handshake,
    };
    let fault = match handshake {
        Ok(Ok(stream)) => {
            if let Some(certificate) = stream.get_ref().1.peer_certificates().and_then(<[_]>::first) {
                (peer.certificate_subject, peer.certificate_names) = subject_and_names(certificate);
            }
            return session(stream, &peer, options, answerer, shutdown).await;
        }
        Ok(Err(error)) => HandshakeFault::of(&error),
        Err(_elapsed) => HandshakeFault::TimedOut,
    };
    if fault == HandshakeFault::Gone {
        tracing::debug!(feed = %options.feed, peer = %peer.address, reason = %fault, "TLS handshake failed");
    } else {
        options.stats.n_failed_handshakes.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(feed = %options.feed, peer = %peer.address, reason = %fault, "TLS handshake failed");
    }
}

async fn session<S, A>(stream: S, peer: &PeerInfo, options: &ListenerOptions, answerer: &A, shutdown: &CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
    A: Answerer,
{
    let session = Session { stream, feed: &options.feed, peer, options: &options.session, answerer, stats: &options.stats, shutdown };
    let (n_frames, ended) = session.run().await;
    if ended.is_worth_a_warning() {
        tracing::warn!(feed = %options.feed, peer = %peer.address, connection = peer.connection, n_frames, reason = %ended, "connection ended");
    } else if n_frames > 0 {
        tracing::info!(feed = %options.feed, peer = %peer.address, connection = peer.connection, n_frames, reason = %ended, "connection ended");
    } else {
        tracing::debug!(feed = %options.feed, peer = %peer.address, connection = peer.connection, reason = %ended, "connection ended");
    }
}

/// Answers leave at once, and a peer that is gone is noticed.
fn tune(stream: &TcpStream, options: &ListenerOptions) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(options.keepalive).with_interval(Duration::from_secs(10)))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(options.user_timeout))?;
    Ok(())
}

#[cfg(test)]
mod tests;
