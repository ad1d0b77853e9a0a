//! One connection: frames in, answers out, one message at a time and in order.
//!
//! While a message is being answered nothing is read, so a peer that sends ahead is held back by TCP; that it has closed is seen all the same. The
//! answer of a message in flight is always waited for, also at shutdown; it is never cancelled. A connection is closed with its write side first, and
//! what the peer still sends is read for a moment, because closing a socket with unread bytes makes the kernel throw away an acknowledgement that is on
//! its way.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;
use tokio::time::timeout;
use tokio_util::codec::Decoder;
use tokio_util::codec::Encoder;
use tokio_util::sync::CancellationToken;

use super::codec::CodecError;
use super::codec::DEFAULT_MAX_FRAME_BYTES;
use super::codec::Frame;
use super::codec::MllpCodec;
use super::codec::Progress;
use super::stats::ListenerStats;
use super::wire::Wire;
use crate::ids::FeedName;

/// Who answers the frames of a listener.
pub trait Answerer: Send + Sync + 'static {
    /// What is answered to one frame, which may be one that was refused. The next frame of the connection is read when this is done; it is never
    /// cancelled, so it has to end by itself.
    fn answer(&self, peer: &PeerInfo, frame: Frame) -> impl Future<Output = Answer> + Send;
}

/// What is done about a frame.
#[derive(Clone, Eq, PartialEq)]
pub enum Answer {
    /// Each payload is framed, and all are written in this order.
    Frames(Vec<Bytes>),
    /// Nothing is written; the connection goes on.
    Silent,
    /// Nothing is written and the connection is closed, so that the peer sends again.
    Close,
}

/// Says how many, never what: an answer echoes parts of a message.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frames(payloads) => f.debug_tuple("Frames").field(&payloads.len()).finish(),
            Self::Silent => f.write_str("Silent"),
            Self::Close => f.write_str("Close"),
        }
    }
}

/// Who is at the other end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerInfo {
    /// Number of the connection, unique on its listener.
    pub connection: u64,
    /// Where it comes from.
    pub address: SocketAddr,
    /// The subject of its client certificate, as in `CN=engine, O=Example`; `None` without one.
    pub certificate_subject: Option<String>,
    /// The common name and the DNS names of its client certificate.
    pub certificate_names: Vec<String>,
}

/// How long a connection may take for what, and how much it may send.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// The longest payload that is taken.
    pub max_frame_bytes: usize,
    /// How long a connection may say nothing between frames. `None`: as long as it likes, for senders lose a message when an idle connection goes.
    pub idle_timeout: Option<Duration>,
    /// How long a frame may take from its first byte to its last.
    pub frame_timeout: Duration,
    /// How long a missing carriage return at the end of a frame is waited for.
    pub trailer_wait: Duration,
    /// How long the peer may take to let an answer be written.
    pub write_timeout: Duration,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            max_frame_bytes: DEFAULT_MAX_FRAME_BYTES,
            idle_timeout: None,
            frame_timeout: Duration::from_secs(30),
            trailer_wait: Duration::from_millis(250),
            write_timeout: Duration::from_secs(30),
        }
    }
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("peer closed the connection")]
    PeerClosed,
    #[error("peer closed the connection in the middle of a frame\nhint: the message was not acknowledged, the sender has to send it again")]
    PeerClosedInside,
    #[error("shutting down")]
    Shutdown,
    #[error("message could not be committed, so the connection was closed without an answer; the sender will send it again")]
    AnswererClosed,
    #[error("nothing came for {0:?}")]
    Idle(Duration),
    #[error("a frame was begun and not finished within {0:?}\nhint: the sender stalls, or its frames lack the end bytes 0x1C 0x0D")]
    FrameTimeout(Duration),
    #[error("peer did not take the answer within {0:?}")]
    WriteTimeout(Duration),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("connection failed: {}", .0.kind())]
    Io(#[from] io::Error),
}

impl Ended {
    /// Whether the operator should hear of it: the peer, or this side, did what it should not.
    pub(super) const fn is_worth_a_warning(&self) -> bool {
        match self {
            Self::PeerClosed | Self::Shutdown | Self::Idle(_) => false,
            Self::PeerClosedInside | Self::AnswererClosed | Self::FrameTimeout(_) | Self::WriteTimeout(_) | Self::Codec(_) | Self::Io(_) => true,
        }
    }
}

/// How long the peer is listened to after the write side was closed.
const LINGER: Duration = Duration::from_secs(1);
/// A read buffer grown past this is given back once it is empty.
const KEPT_BUFFER_BYTES: usize = 64 * 1024;
const FIRST_BUFFER_BYTES: usize = 8 * 1024;

/// A connection that is being served.
pub(super) struct Session<'a, S, A> {
    pub(super) stream: S,
    pub(super) feed: &'a FeedName,
    pub(super) peer: &'a PeerInfo,
    pub(super) options: &'a SessionOptions,
    pub(super) answerer: &'a A,
    pub(super) stats: &'a ListenerStats,
    /// Told, perhaps more than once, that the peer has closed while a message of its was being answered.
    pub(super) peer_left: &'a (dyn Fn() + Send + Sync),
    pub(super) shutdown: &'a CancellationToken,
}

impl<S: Wire, A: Answerer> Session<'_, S, A> {
    /// Serves the connection to its end. Returns how many frames it brought and why it ended.
    pub(super) async fn run(mut self) -> (u64, Ended) {
        let mut n_frames = 0;
        let ended = self.serve(&mut n_frames).await;
        if !matches!(ended, Ended::PeerClosed | Ended::PeerClosedInside | Ended::Io(_)) {
            self.close().await;
        }
        (n_frames, ended)
    }

    async fn serve(&mut self, n_frames: &mut u64) -> Ended {
        let mut inbox = Inbox::new(self.options.max_frame_bytes);
        let mut outgoing = BytesMut::new();
        loop {
            let frame = match self.next_frame(&mut inbox).await {
                Ok(frame) => frame,
                Err(ended) => return ended,
            };
            *n_frames += 1;
            self.stats.n_frames.fetch_add(1, Ordering::Relaxed);
            if *n_frames == 1 {
                tracing::info!(feed = %self.feed, peer = %self.peer.address, connection = self.peer.connection, "first frame of a connection");
            }
            match self.answer(frame).await {
                Answer::Silent => {}
                Answer::Close => return Ended::AnswererClosed,
                Answer::Frames(payloads) => {
                    if let Err(ended) = self.write(&mut inbox.codec, &mut outgoing, &payloads).await {
                        return ended;
                    }
                }
            }
        }
    }

    /// Waits for the answer, and meanwhile for the peer to leave, which changes nothing about the answer.
    async fn answer(&self, frame: Frame) -> Answer {
        let peer_leaves = async {
            self.stream.peer_closed().await;
            (self.peer_left)();
            std::future::pending().await
        };
        tokio::select! {
            biased;
            answer = self.answerer.answer(self.peer, frame) => answer,
            never = peer_leaves => never,
        }
    }

    /// Waits for the next frame.
    async fn next_frame(&mut self, inbox: &mut Inbox) -> Result<Frame, Ended> {
        loop {
            if self.shutdown.is_cancelled() {
                return Err(Ended::Shutdown);
            }
            let decoded = inbox.codec.decode(&mut inbox.buffer);
            self.stats.add(inbox.codec.take_tally());
            if let Some(frame) = decoded? {
                self.mark(inbox, false);
                return Ok(frame);
            }
            let progress = inbox.codec.progress();
            self.mark(inbox, progress != Progress::Between);
            match self.read(inbox, progress).await? {
                Read::Some => {}
                Read::End => {
                    let last = inbox.codec.decode_eof(&mut inbox.buffer);
                    let tally = inbox.codec.take_tally();
                    self.stats.add(tally);
                    self.mark(inbox, false);
                    return last?.ok_or(if tally.n_abandoned_frames == 0 { Ended::PeerClosed } else { Ended::PeerClosedInside });
                }
                Read::TimedOut => match progress {
                    Progress::Between => return Err(Ended::Idle(self.options.idle_timeout.unwrap_or_default())),
                    Progress::Inside => return Err(Ended::FrameTimeout(self.options.frame_timeout)),
                    Progress::Ending => inbox.codec.accept_bare_end(),
                },
            }
        }
    }

    /// Reads once, for as long as the progress made allows.
    async fn read(&mut self, inbox: &mut Inbox, progress: Progress) -> Result<Read, Ended> {
        let left = inbox.time_left(self.options);
        let patience = match progress {
            Progress::Between => self.options.idle_timeout,
            Progress::Inside => Some(left),
            Progress::Ending => Some(left.min(self.options.trailer_wait)),
        };
        inbox.make_room();
        let read = self.stream.read_buf(&mut inbox.buffer);
        let read = async {
            match patience {
                Some(patience) => timeout(patience, read).await,
                None => Ok(read.await),
            }
        };
        let read = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => return Err(Ended::Shutdown),
            read = read => read,
        };
        match read {
            Err(_elapsed) => Ok(Read::TimedOut),
            Ok(Ok(0)) => Ok(Read::End),
            Ok(Ok(_)) => Ok(Read::Some),
            // A peer that goes without a word, or without the closing alert of TLS, has gone all the same.
            Ok(Err(error)) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => Ok(Read::End),
            Ok(Err(error)) => Err(error.into()),
        }
    }

    /// Keeps account of the frame that has begun and not ended, if there is one.
    fn mark(&self, inbox: &mut Inbox, inside: bool) {
        if inside || inbox.began.is_some() {
            inbox.began = inside.then(|| inbox.began.unwrap_or_else(Instant::now));
            self.stats.set_unfinished(self.peer.connection, inbox.began.map(|began| (began, inbox.buffer.len())));
        }
    }

    async fn write(&mut self, codec: &mut MllpCodec, outgoing: &mut BytesMut, payloads: &[Bytes]) -> Result<(), Ended> {
        outgoing.clear();
        for payload in payloads {
            codec.encode(payload, outgoing)?;
        }
        let written = timeout(self.options.write_timeout, async {
            self.stream.write_all(outgoing).await?;
            self.stream.flush().await
        });
        match written.await {
            Ok(written) => Ok(written?),
            Err(_elapsed) => Err(Ended::WriteTimeout(self.options.write_timeout)),
        }
    }

    /// Closes the write side, then reads until the peer has closed too or [`LINGER`] has passed.
    async fn close(&mut self) {
        let lingering = async {
            self.stream.shutdown().await?;
            let mut ignored = [0; 1024];
            while self.stream.read(&mut ignored).await? > 0 {}
            io::Result::Ok(())
        };
        match timeout(LINGER, lingering).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(error)) => tracing::debug!(peer = %self.peer.address, kind = %error.kind(), "connection failed while closing"),
        }
    }
}

impl<S, A> Drop for Session<'_, S, A> {
    fn drop(&mut self) {
        self.stats.set_unfinished(self.peer.connection, None);
    }
}

enum Read {
    Some,
    End,
    TimedOut,
}

/// What a connection has brought and nobody has taken yet.
struct Inbox {
    codec: MllpCodec,
    buffer: BytesMut,
    /// When the frame now begun began.
    began: Option<Instant>,
}

impl Inbox {
    fn new(max_frame_bytes: usize) -> Self {
        Self { codec: MllpCodec::new(max_frame_bytes), buffer: BytesMut::with_capacity(FIRST_BUFFER_BYTES), began: None }
    }

    fn time_left(&self, options: &SessionOptions) -> Duration {
        options.frame_timeout.saturating_sub(self.began.map_or(Duration::ZERO, |began| began.elapsed()))
    }

    /// Room for the next read; the large buffer of one long frame is not kept for the life of the connection.
    fn make_room(&mut self) {
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT_BUFFER_BYTES {
            self.buffer = BytesMut::with_capacity(FIRST_BUFFER_BYTES);
        }
        if self.buffer.capacity().saturating_sub(self.buffer.len()) < FIRST_BUFFER_BYTES / 8 {
            self.buffer.reserve(FIRST_BUFFER_BYTES);
        }
    }
}

#[cfg(test)]
mod tests;
