//! The operator's door of a daemon on SQLite: a Unix socket beside the file, on which commands of the same machine hand in their orders.
//!
//! One line of JSON each way. Who asks is what the kernel says of the peer; the socket belongs to the daemon's user alone (mode 0600). It never shows
//! anything that is stored: commands read the store themselves.

use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use tokio::io::AsyncBufReadExt as _;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::io::BufReader;
use tokio::net::UnixListener;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use crate::intake::daemon::Intake;
use crate::intake::orders::Operator;
use crate::intake::orders::Order;
use crate::intake::orders::Outcome;

/// The longest order: a retry of some thousand messages.
const LONGEST: u64 = 1 << 20;
/// How long a peer may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a command waits for what became of its order: longer than any batch takes, and not for a daemon that stands still.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// What goes over the socket.
#[derive(Debug, Deserialize, Serialize)]
struct Request {
    order: Order,
    login: Option<String>,
}

/// The socket; it goes away with the daemon.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    path: PathBuf,
}

impl Door {
    /// Opens the socket. What a killed daemon left there is taken away: the caller holds the store's lock.
    ///
    /// # Errors
    /// When it cannot be made, for instance because the path is longer than the 107 bytes a socket may have.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        if std::fs::symlink_metadata(&path).is_ok_and(|found| found.file_type().is_socket()) {
            std::fs::remove_file(&path)?;
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Takes orders until it is told to stop, one after another.
    pub async fn serve(self, intake: Intake, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else { continue };
            tokio::select! {
                () = stop.cancelled() => break,
                answered = answer(stream, &intake) => {
                    if let Err(error) = answered {
                        tracing::warn!(kind = %error.kind(), "an operator's order was not answered");
                    }
                }
            }
        }
        // Whoever looks for a daemon finds none.
        drop(std::fs::remove_file(&self.path));
    }
}

async fn answer(mut stream: UnixStream, intake: &Intake) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    let mut line = String::new();
    let (read, mut write) = stream.split();
    let mut read = BufReader::new(read.take(LONGEST));
    let asked = tokio::time::timeout(PATIENCE, read.read_line(&mut line)).await;
    asked.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let request: Request = serde_json::from_str(&line)?;
    let outcome = intake.order(request.order, Operator { uid, login: request.login }).await.unwrap_or(Outcome::Failed);
    let mut answer = serde_json::to_vec(&outcome)?;
    answer.push(b'\n');
    write.write_all(&answer).await
}

/// Hands an order to the daemon behind a socket; `None` when no daemon is there.
///
/// # Errors
/// When the daemon went away before it answered, or did not answer in time; the order may have been carried out, or be later.
pub async fn ask(path: &Path, order: &Order, login: Option<String>) -> io::Result<Option<Outcome>> {
    let mut stream = match UnixStream::connect(path).await {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut line = serde_json::to_vec(&Request { order: order.clone(), login })?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut answer = String::new();
    let mut stream = BufReader::new(stream);
    tokio::time::timeout(ANSWER_WITHIN, stream.read_line(&mut answer)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    if answer.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(serde_json::from_str(&answer)?))
}
