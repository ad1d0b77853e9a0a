//! What a session speaks over: a stream of bytes whose peer may be seen to have closed while nothing is read from it.

use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// How often it is looked whether a peer has closed that has sent more than was read.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A connection, as a session needs it.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Sync + Unpin {
    /// Waits until the peer has closed at least its side, whatever it sent before that was not read yet.
    fn peer_closed(&self) -> impl Future<Output = ()> + Send;
}

impl Wire for TcpStream {
    async fn peer_closed(&self) {
        loop {
            match self.ready(Interest::READABLE).await {
                Ok(ready) if !ready.is_read_closed() => {}
                Ok(_) | Err(_) => return,
            }
            // Something to be read is here, of which no more is told until it is read.
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Wire for TlsStream<TcpStream> {
    async fn peer_closed(&self) {
        self.get_ref().0.peer_closed().await;
    }
}
