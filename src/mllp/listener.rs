//! Accepts connections, has the door say which are let in, and starts a session for each.
//!
//! An error of `accept` (no file descriptors left, say) is logged and waited out; it never ends the listener. A probe that connects and says nothing
//! leaves no line in the log.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::SockRef;
use socket2::TcpKeepalive;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::door::Door;
use super::door::Place;
use super::session::Answerer;
use super::session::PeerInfo;
use super::session::Session;
use super::session::SessionOptions;
use super::stats::ListenerStats;
use super::tls::HandshakeFault;
use super::tls::ServerTls;
use super::tls::subject_and_names;
use super::wire::Wire;
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
    /// Connections open at one time from one address, those aside that the peer has closed while its message is still being answered. A load balancer
    /// is one address.
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
    let door = Arc::new(Door::new(Arc::clone(&options)));
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
                let (door, options, answerer, shutdown) = (Arc::clone(&door), Arc::clone(&options), Arc::clone(&answerer), shutdown.clone());
                // Asked before anybody else is accepted, so that who comes first is let in first.
                let place = door.knock(address);
                tracker.spawn(async move {
                    let place = match place {
                        Ok(place) => Some(place),
                        Err(full) => door.wait(address, full).await,
                    };
                    if let Some(place) = place {
                        connection(stream, &place, &options, &*answerer, &shutdown).await;
                    }
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

async fn connection<A: Answerer>(stream: TcpStream, place: &Place, options: &ListenerOptions, answerer: &A, shutdown: &CancellationToken) {
    if let Err(error) = tune(&stream, options) {
        tracing::debug!(feed = %options.feed, peer = %place.address, kind = %error.kind(), "socket options were not taken");
    }
    let mut peer = PeerInfo { connection: place.connection, address: place.address, certificate_subject: None, certificate_names: Vec::new() };
    let Some(tls) = &options.tls else {
        return session(stream, &peer, place, options, answerer, shutdown).await;
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
            return session(stream, &peer, place, options, answerer, shutdown).await;
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

async fn session<W: Wire, A: Answerer>(
    stream: W,
    peer: &PeerInfo,
    place: &Place,
    options: &ListenerOptions,
    answerer: &A,
    shutdown: &CancellationToken,
) {
    let peer_left = || place.peer_left();
    let session =
        Session { stream, feed: &options.feed, peer, options: &options.session, answerer, stats: &options.stats, peer_left: &peer_left, shutdown };
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
