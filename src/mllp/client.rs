//! A sender of MLLP frames: connects, sends a payload, waits for an answer.
//!
//! It never connects again by itself: after an error the connection is of no more use, since an answer that comes late would be taken for that of the
//! next message. Whoever wants to go on makes a new client.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio::time::timeout;
use tokio::time::timeout_at;
use tokio_rustls::TlsConnector;
use tokio_util::codec::Decoder;
use tokio_util::codec::Encoder;

use super::codec::CodecError;
use super::codec::DEFAULT_MAX_FRAME_BYTES;
use super::codec::Frame;
use super::codec::FrameFault;
use super::codec::MllpCodec;
use super::codec::Progress;
use super::tls::ClientTls;
use super::tls::HandshakeFault;
use super::tls::TlsError;
use super::tls::server_fault::ServerFault;

/// Where to connect: `HOST:PORT`, `[IPV6]:PORT`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// A text that is not `HOST:PORT`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("expected HOST:PORT")]
pub struct EndpointError;

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let (host, port) = text.rsplit_once(':').ok_or(EndpointError)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if bare.is_none() && host.contains(':') {
            return Err(EndpointError);
        }
        let host = bare.unwrap_or(host);
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(EndpointError)?;
        if host.is_empty() { Err(EndpointError) } else { Ok(Self { host: host.to_owned(), port }) }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') { write!(f, "[{}]:{}", self.host, self.port) } else { write!(f, "{}:{}", self.host, self.port) }
    }
}

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// `None`: plain TCP.
    pub tls: Option<ClientTls>,
    /// How long connecting may take, and the TLS handshake after it.
    pub connect_timeout: Duration,
    /// How long the peer may take to let a message be written.
    pub write_timeout: Duration,
    /// How long the peer may take to answer.
    pub answer_timeout: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        let usual = Duration::from_secs(30);
        Self { tls: None, connect_timeout: Duration::from_secs(10), write_timeout: usual, answer_timeout: usual }
    }
}

/// Why a client failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No connection came about.
    #[error("cannot connect to {endpoint}")]
    Connect {
        /// Where to.
        endpoint: Endpoint,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No connection came about in time.
    #[error("cannot connect to {endpoint} within {timeout:?}")]
    ConnectTimeout {
        /// Where to.
        endpoint: Endpoint,
        /// How long was waited.
        timeout: Duration,
    },
    /// The TLS handshake failed.
    #[error("TLS handshake with {endpoint} failed: {fault}")]
    Handshake {
        /// With whom.
        endpoint: Endpoint,
        /// Why.
        fault: ServerFault,
    },
    /// TLS ended the connection after the handshake: a refused client certificate shows only then.
    #[error("TLS ended the connection: {fault}")]
    RefusedByTls {
        /// Why.
        fault: ServerFault,
    },
    /// The peer has no name that TLS could check.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The peer closed the connection before it answered.
    #[error(
        "peer closed the connection before it answered\nhint: its log says why; perhaps it could not store the message in time, has too many connections, or wants TLS (`--tls`)"
    )]
    Closed,
    /// The peer speaks TLS, and this end does not.
    #[error("the server speaks TLS and this end does not\nhint: say `--tls`, and `--tls-ca` where its authority is not one of the system's")]
    PeerSpeaksTls,
    /// The peer did not answer, or did not take the message, in time.
    #[error("no answer within {timeout:?}")]
    Timeout {
        /// How long was waited.
        timeout: Duration,
    },
    /// The answer was refused.
    #[error("answer was not taken: {fault}")]
    Refused {
        /// Why.
        fault: FrameFault,
    },
    /// The connection broke, or the peer does not speak MLLP.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// How a TLS server begins to complain of what is not TLS: an alert, of version 3 (RFC 8446 §5.1).
const TLS_ALERT: &[u8] = &[0x15, 0x03];

/// How long a missing carriage return at the end of an answer is waited for.
const TRAILER_WAIT: Duration = Duration::from_millis(250);

/// A connection to an MLLP listener.
pub struct MllpClient {
    stream: Box<dyn Stream>,
    codec: MllpCodec,
    incoming: BytesMut,
    outgoing: BytesMut,
    write_timeout: Duration,
    answer_timeout: Duration,
}

impl fmt::Debug for MllpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MllpClient").field("codec", &self.codec).finish_non_exhaustive()
    }
}

impl MllpClient {
    /// Connects.
    ///
    /// # Errors
    /// When no connection comes about in time, or TLS fails.
    pub async fn connect(endpoint: &Endpoint, options: &ClientOptions) -> Result<Self, ClientError> {
        let too_late = |_| ClientError::ConnectTimeout { endpoint: endpoint.clone(), timeout: options.connect_timeout };
        let broken = |source| ClientError::Connect { endpoint: endpoint.clone(), source };
        let connecting = TcpStream::connect((endpoint.host.as_str(), endpoint.port));
        let stream = timeout(options.connect_timeout, connecting).await.map_err(too_late)?.map_err(broken)?;
        stream.set_nodelay(true).map_err(broken)?;
        let stream: Box<dyn Stream> = match &options.tls {
            None => Box::new(stream),
            Some(tls) => {
                let shaking = TlsConnector::from(tls.config()).connect(tls.name_for(&endpoint.host)?, stream);
                let failed = |fault| ClientError::Handshake { endpoint: endpoint.clone(), fault };
                let shaken = timeout(options.connect_timeout, shaking).await.map_err(|_elapsed| failed(ServerFault::timed_out()))?;
                Box::new(shaken.map_err(|error| failed(ServerFault::of(&error)))?)
            }
        };
        Ok(Self {
            stream,
            codec: MllpCodec::new(DEFAULT_MAX_FRAME_BYTES),
            incoming: BytesMut::new(),
            outgoing: BytesMut::new(),
            write_timeout: options.write_timeout,
            answer_timeout: options.answer_timeout,
        })
    }

    /// Sends one payload in a frame.
    ///
    /// # Errors
    /// When the connection breaks, or the peer does not take the frame in time.
    pub async fn send(&mut self, payload: &[u8]) -> Result<(), ClientError> {
        self.outgoing.clear();
        self.codec.encode(payload, &mut self.outgoing)?;
        let written = timeout(self.write_timeout, async {
            self.stream.write_all(&self.outgoing).await?;
            self.stream.flush().await
        });
        match written.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(broken(error)),
            Err(_elapsed) => Err(ClientError::Timeout { timeout: self.write_timeout }),
        }
    }

    /// Waits for the next frame.
    ///
    /// # Errors
    /// When none comes in time, or the connection ends first.
    pub async fn receive(&mut self) -> Result<Bytes, ClientError> {
        let deadline = Instant::now() + self.answer_timeout;
        loop {
            if self.incoming.starts_with(TLS_ALERT) && self.codec.progress() == Progress::Between {
                return Err(ClientError::PeerSpeaksTls);
            }
            if let Some(frame) = self.codec.decode(&mut self.incoming)? {
                return accept(frame);
            }
            let ending = self.codec.progress() == Progress::Ending;
            let until = if ending { deadline.min(Instant::now() + TRAILER_WAIT) } else { deadline };
            match timeout_at(until, self.stream.read_buf(&mut self.incoming)).await {
                Err(_elapsed) if ending => self.codec.accept_bare_end(),
                Err(_elapsed) => return Err(ClientError::Timeout { timeout: self.answer_timeout }),
                Ok(Ok(0)) => return self.codec.decode_eof(&mut self.incoming)?.map_or(Err(ClientError::Closed), accept),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(broken(error)),
            }
        }
    }
}

fn accept(frame: Frame) -> Result<Bytes, ClientError> {
    match frame {
        Frame::Message(payload) => Ok(payload),
        Frame::Refused { fault, .. } => Err(ClientError::Refused { fault }),
    }
}

/// TLS tells of a refused client certificate only after the client's side of the handshake is done: with the first read or write.
fn broken(error: io::Error) -> ClientError {
    let fault = ServerFault::of(&error);
    if fault.kind() == HandshakeFault::Gone {
        ClientError::Closed
    } else if fault.kind() == HandshakeFault::Other {
        ClientError::Codec(CodecError::Io(error))
    } else {
        ClientError::RefusedByTls { fault }
    }
}
