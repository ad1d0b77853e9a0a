//! Messages about staff and units on their way: what they change is committed with them, and known to the directory after the commit.
//!
//! It plans no room. Whoever plans hears of the change from the directory and plans every open room again, at once: a member who was deactivated leaves
//! without grace.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::care::roster::Roster;
use crate::directory::Directory;
use crate::directory::change::Changes;
use crate::directory::layers;
use crate::directory::said::Said;
use crate::intake::Verdict;
use crate::intake::batch::BatchError;
use crate::store::Store;
use crate::store::form::Stored;
use crate::store::rows::DirectoryRow;
use crate::time::Clock;
use crate::time::Timestamp;

/// Why a replacement of all staff waits for somebody.
pub(crate) const TOO_FEW: &str = "staff_would_vanish";

impl Stored for Said {
    const KIND: &'static str = "directory";
    const USUAL_BYTES: usize = 4096;
}

/// What messages have said, in the course of a batch.
#[derive(Debug)]
pub(crate) struct Hearing<'a> {
    files: &'a Roster,
    said: Said,
    is_dirty: bool,
}

impl<'a> Hearing<'a> {
    /// Over these files, after this was said.
    pub(crate) const fn new(files: &'a Roster, said: Said) -> Self {
        Self { files, said, is_dirty: false }
    }

    /// Takes what a message says, unless it would leave too many out.
    pub(crate) fn take(&mut self, changes: &Changes, now: Timestamp) -> Verdict {
        if layers::guard(self.files, &self.said, changes, now).is_err() {
            return Verdict::quarantined(TOO_FEW);
        }
        self.said.apply(changes, now);
        self.is_dirty = true;
        Verdict::applied()
    }

    /// What stands now, under its next version; `None` when nothing was taken.
    pub(crate) fn changed(self) -> Option<Said> {
        let version = self.said.version + 1;
        self.is_dirty.then(|| self.said.under(version))
    }
}

/// What is to be written.
pub(crate) fn row(said: &Said) -> DirectoryRow {
    DirectoryRow { version: said.version, doc: said.document() }
}

/// What messages have said, as the store holds it.
///
/// # Errors
/// When the store cannot be read.
pub(crate) async fn stored(store: &Store) -> Result<Said, BatchError> {
    match store.directory().await? {
        Some(row) => Ok(Said::read(&row.doc)?.under(row.version)),
        None => Ok(Said::default()),
    }
}

/// Tells the directory of what other daemons on the same store were told. Ends when it is told to stop.
pub(crate) async fn follow<C: Clock>(store: Store, directory: Arc<Directory>, every: Duration, clock: Arc<C>, stop: CancellationToken) {
    let mut looks = tokio::time::interval(every);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = looks.tick() => {}
        }
        if let Err(error) = look(&store, &directory, &*clock).await {
            tracing::warn!(%error, "the store could not say what others were told of staff and units");
        }
    }
}

async fn look<C: Clock>(store: &Store, directory: &Directory, clock: &C) -> Result<(), BatchError> {
    let known = directory.current().said.version;
    if store.directory_version().await? > known {
        directory.hear(stored(store).await?, clock.now());
    }
    Ok(())
}
