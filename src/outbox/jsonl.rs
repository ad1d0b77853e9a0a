//! The JSON Lines publisher: each event is one line of a file or of standard output.
//!
//! A file is appended to, one write for each batch, and synced before anything is settled. A last line without its end, left by a crash or a full
//! disk, is cut away before the next write: its event is still pending and is written again. A file that was moved away (log rotation) is made anew.
//! It never changes a whole line, and never puts a line into an error.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read as _;
use std::io::Seek as _;
use std::io::SeekFrom;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use crate::outbox::OutboxRow;
use crate::outbox::Outcome;
use crate::outbox::PublishError;
use crate::outbox::Publisher;
use crate::outbox::status::RelayStatus;

/// Why events could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JsonlError {
    /// The file could not be opened or repaired.
    #[error("the events file cannot be opened: {source}")]
    Open {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The lines could not be written or synced.
    #[error("events cannot be written: {source}")]
    Write {
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl JsonlError {
    /// The kind, as a metric label and for readiness.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Open { .. } => "file_open",
            Self::Write { .. } => "file_write",
        }
    }

    /// What an operator can do.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Open { .. } => "check that `publish.jsonl.path` is in a directory that exists and may be written",
            Self::Write { .. } => "check the space on the disk of `publish.jsonl.path`, or who reads standard output",
        }
    }
}

/// Where the lines go.
#[derive(Clone, Debug)]
enum Target {
    /// Standard output: flushed, not synced.
    Stdout,
    /// A file.
    Path(PathBuf),
}

/// Writes events as JSON Lines.
#[derive(Debug)]
pub struct JsonlPublisher {
    target: Target,
    file: Option<File>,
    status: Arc<RelayStatus>,
}

impl JsonlPublisher {
    /// A publisher that appends to a file, or writes to standard output when the path is `-`.
    pub fn new(path: &Path, status: Arc<RelayStatus>) -> Self {
        let target = if path.as_os_str() == "-" { Target::Stdout } else { Target::Path(path.to_owned()) };
        Self { target, file: None, status }
    }

    async fn write(&mut self, lines: Vec<u8>) -> Result<(), JsonlError> {
        let target = self.target.clone();
        let file = self.file.take();
        // Taken out and given back: a write that fails, or that nobody waits for any more, leaves no open file behind, and the next one repairs it.
        let written = tokio::task::spawn_blocking(move || match target {
            Target::Stdout => write_stdout(&lines).map(|()| None).map_err(|source| JsonlError::Write { source }),
            Target::Path(path) => {
                let file = still_there(file, &path).map_or_else(|| open(&path), Ok).map_err(|source| JsonlError::Open { source })?;
                append(file, &lines).map(Some).map_err(|source| JsonlError::Write { source })
            }
        });
        self.file = written.await.map_err(|join| JsonlError::Write { source: io::Error::other(join) })??;
        Ok(())
    }
}

impl Publisher for JsonlPublisher {
    async fn publish(&mut self, batch: &[OutboxRow]) -> Result<Vec<Outcome>, PublishError> {
        let mut lines = Vec::with_capacity(batch.iter().map(|row| row.body.len() + 1).sum());
        for row in batch {
            lines.extend_from_slice(&row.body);
            lines.push(b'\n');
        }
        let written = self.write(lines).await;
        self.status.connected(written.is_ok());
        written?;
        Ok(vec![Outcome::Confirmed; batch.len()])
    }

    async fn close(&mut self) {
        self.file = None;
        self.status.connected(false);
    }
}

fn write_stdout(lines: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(lines)?;
    stdout.flush()
}

/// The open file, if the path still leads to it.
fn still_there(file: Option<File>, path: &Path) -> Option<File> {
    let file = file?;
    let (ours, there) = (file.metadata().ok()?, std::fs::metadata(path).ok()?);
    (ours.dev() == there.dev() && ours.ino() == there.ino()).then_some(file)
}

/// Opens the file for appending; makes it, durably, when there is none; cuts away a last line without its end.
fn open(path: &Path) -> io::Result<File> {
    let existed = path.exists();
    let mut file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
    if !file.metadata()?.is_file() {
        // A pipe or a terminal: nothing to repair, and it can only be opened for both because it was asked for here.
        return Ok(file);
    }
    if !existed {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        File::open(parent)?.sync_all()?;
    }
    let length = file.metadata()?.len();
    let whole = whole_lines(&mut file, length)?;
    if whole < length {
        tracing::warn!(
            n_bytes = length - whole,
            "the events file ended in half a line, which is cut away; what was not published yet is written again"
        );
        file.set_len(whole)?;
        file.sync_all()?;
    }
    Ok(file)
}

/// How many bytes of the file are whole lines.
fn whole_lines(file: &mut File, length: u64) -> io::Result<u64> {
    const CHUNK: u64 = 64 * 1024;
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(CHUNK);
        let mut chunk = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        io::Read::take(&mut *file, end - start).read_to_end(&mut chunk)?;
        if let Some(at) = chunk.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

fn append(mut file: File, lines: &[u8]) -> io::Result<File> {
    file.write_all(lines)?;
    if !lines.is_empty() && file.metadata()?.is_file() {
        file.sync_data()?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::JsonlPublisher;
    use crate::outbox::Outcome;
    use crate::outbox::Publisher as _;
    use crate::outbox::status::RelayStatus;
    use crate::outbox::tests::row;

    fn publisher(path: &std::path::Path) -> (JsonlPublisher, Arc<RelayStatus>) {
        let status = Arc::new(RelayStatus::default());
        (JsonlPublisher::new(path, Arc::clone(&status)), status)
    }

    fn written(path: &std::path::Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[tokio::test]
    async fn each_event_is_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let (mut publisher, status) = publisher(&path);
        assert_eq!(publisher.publish(&[]).await.unwrap(), []);
        assert!(status.now().connected);
        assert_eq!(publisher.publish(&[row(1, 1, 1), row(2, 2, 1)]).await.unwrap(), [Outcome::Confirmed; 2]);
        publisher.publish(&[row(3, 1, 2)]).await.unwrap();
        assert_eq!(written(&path), "{\"seq\":1}\n{\"seq\":2}\n{\"seq\":3}\n");
    }

    #[tokio::test]
    async fn half_a_line_left_by_a_crash_is_cut_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        for (before, after) in
            [("{\"seq\":0}\n{\"se", "{\"seq\":0}\n{\"seq\":1}\n"), ("{\"seq", "{\"seq\":1}\n"), ("{\"seq\":0}\n", "{\"seq\":0}\n{\"seq\":1}\n")]
        {
            std::fs::write(&path, before).unwrap();
            publisher(&path).0.publish(&[row(1, 1, 1)]).await.unwrap();
            assert_eq!(written(&path), after);
        }
    }

    #[tokio::test]
    async fn half_a_line_longer_than_what_is_read_at_once_is_cut_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        std::fs::write(&path, format!("{{}}\n{}", "x".repeat(200_000))).unwrap();
        publisher(&path).0.publish(&[row(1, 1, 1)]).await.unwrap();
        assert_eq!(written(&path), "{}\n{\"seq\":1}\n");
    }

    #[tokio::test]
    async fn a_file_that_was_moved_away_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let (mut publisher, _) = publisher(&path);
        publisher.publish(&[row(1, 1, 1)]).await.unwrap();
        std::fs::rename(&path, dir.path().join("events.jsonl.1")).unwrap();
        publisher.publish(&[row(2, 1, 2)]).await.unwrap();
        assert_eq!(written(&path), "{\"seq\":2}\n");
    }

    #[tokio::test]
    async fn a_full_disk_is_an_error_that_says_what_to_do() {
        let (mut publisher, status) = publisher(std::path::Path::new("/dev/full"));
        let error = publisher.publish(&[row(1, 1, 1)]).await.unwrap_err();
        assert_eq!(error.kind(), "file_write");
        assert!(error.hint().contains("disk"));
        assert!(!status.now().connected);
    }

    #[tokio::test]
    async fn a_directory_that_does_not_exist_is_an_error_until_it_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("later/events.jsonl");
        let (mut publisher, _) = publisher(&path);
        assert_eq!(publisher.publish(&[]).await.unwrap_err().kind(), "file_open");
        std::fs::create_dir(dir.path().join("later")).unwrap();
        publisher.publish(&[row(1, 1, 1)]).await.unwrap();
        assert_eq!(written(&path), "{\"seq\":1}\n");
    }
}
