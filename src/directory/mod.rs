//! The directory: which ids are which user, and which team a unit has.
//!
//! There are two sources, each replaced by itself alone: CSV files, read again when they change, and what MFN and PMU messages have said (HL7 v2.5.1
//! chapters 8 and 15), which the store keeps. It holds the [`Roster`] that both make and a revision that grows with every change; whoever plans rooms
//! subscribes. A reload never makes things worse: when a file cannot be read, has a bad line or would remove more than a fifth of the staff, the roster
//! that stands stays, and the refusal is reported. It never matches anybody by name.

pub mod change;
mod files;
pub mod layers;
pub mod messages;
pub mod said;
pub mod table;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::SystemTime;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::care::roster::Roster;
use crate::care::roster::StaffMember;
use crate::care::roster::Unit;
use crate::directory::said::Said;
use crate::directory::table::BadLine;
use crate::ids::Facility;
use crate::ids::GroupId;
use crate::ids::HospitalService;
use crate::ids::PointOfCare;
use crate::ids::UserId;
use crate::time::Clock;
use crate::time::Timestamp;

/// How often the files are looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(3);

/// Where the directory comes from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Sources {
    /// The staff file.
    pub staff: Option<PathBuf>,
    /// The units file.
    pub units: Option<PathBuf>,
    /// The teams of services.
    pub services: BTreeMap<HospitalService, GroupId>,
    /// Whether somebody nobody knows joins as `AUTHORITY:ID`.
    pub include_unknown_staff: bool,
}

/// The roster at a revision.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Grows with every change, from 1, as long as the process lives.
    pub revision: u64,
    /// A hash of everything the roster was made from: the same after a restart when nothing changed.
    pub fingerprint: [u8; 32],
    /// What the files say.
    pub files: Arc<Roster>,
    /// What messages have said.
    pub said: Arc<Said>,
    /// The roster that both make.
    pub roster: Arc<Roster>,
}

/// What the files say, read but not yet in use.
#[derive(Debug, Default)]
pub struct Contents {
    /// The staff.
    pub staff: Vec<StaffMember>,
    /// The units.
    pub units: Vec<((Facility, PointOfCare), Unit)>,
    /// What cannot be used.
    pub bad_lines: Vec<BadLine>,
    fingerprint: [u8; 32],
}

/// Why a file, or a reload, is not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// A file cannot be read.
    #[error("{} cannot be read", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file changed while it was read: somebody is writing it.
    #[error("{} is being written", file.display())]
    BeingWritten {
        /// The file.
        file: PathBuf,
    },
    /// Lines cannot be used.
    #[error("lines that cannot be used: {n_bad_lines}; the first: {first}")]
    BadLines {
        /// How many.
        n_bad_lines: usize,
        /// The first of them.
        first: BadLine,
    },
    /// Too many would be gone.
    #[error(
        "{n_removed} of {n_staff} in the staff file would be removed, more than a fifth\nhint: put the file right; if that is meant, restart wardroom"
    )]
    RemovesTooMany {
        /// How many would be gone.
        n_removed: usize,
        /// How many there are.
        n_staff: usize,
    },
}

impl DirectoryError {
    /// Whether trying again may help without anybody doing anything.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::BeingWritten { .. } | Self::Unreadable { .. })
    }
}

/// What a reload did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reloaded {
    /// The files say what they said.
    Unchanged,
    /// There is a new roster.
    Changed {
        /// Its revision.
        revision: u64,
        /// How many members of staff it has.
        n_staff: usize,
    },
}

/// Staff and units, as they are now.
#[derive(Debug)]
pub struct Directory {
    sources: Sources,
    current: watch::Sender<Snapshot>,
    /// When and how long the files were before they were first read.
    first_stamps: Vec<Option<Stamp>>,
    /// What the roster is made from; also what keeps two changes apart.
    layers: Mutex<Layers>,
    /// Why the files as they are now are not in use.
    trouble: Mutex<Option<String>>,
}

/// What the roster is made from.
#[derive(Debug)]
struct Layers {
    files: Arc<Roster>,
    files_fingerprint: [u8; 32],
    /// The users of the files.
    users: BTreeSet<UserId>,
    said: Arc<Said>,
    /// When what messages have said changes by itself.
    next_change: Option<Timestamp>,
}

impl Layers {
    fn snapshot(&mut self, revision: u64, now: Timestamp) -> Snapshot {
        self.next_change = self.said.next_change(now);
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        hash.update(&self.files_fingerprint);
        hash.update(&self.said.fingerprint(now));
        Snapshot {
            revision,
            fingerprint: hash.finish().as_ref().try_into().unwrap_or_default(),
            files: Arc::clone(&self.files),
            said: Arc::clone(&self.said),
            roster: Arc::new(layers::combine(&self.files, &self.said, now)),
        }
    }
}

impl Directory {
    /// Reads the files for the first time, and lays over them what messages have said. Lines that cannot be used are left out and returned: a daemon that
    /// does not start would help nobody.
    ///
    /// # Errors
    /// When a file cannot be read, or nothing in it can be used.
    pub fn open(sources: Sources, said: Said, now: Timestamp) -> Result<(Self, Vec<BadLine>), DirectoryError> {
        let first_stamps = stamps(&sources);
        let contents = read(&sources)?;
        let nothing_usable = (sources.staff.is_some() && contents.staff.is_empty()) || (sources.units.is_some() && contents.units.is_empty());
        if let (true, Some(first)) = (nothing_usable, contents.bad_lines.first()) {
            return Err(DirectoryError::BadLines { n_bad_lines: contents.bad_lines.len(), first: first.clone() });
        }
        let users = users(&contents);
        let bad_lines = contents.bad_lines.clone();
        let files_fingerprint = contents.fingerprint;
        let files = Arc::new(roster(contents, &sources));
        let mut layers = Layers { files, files_fingerprint, users, said: Arc::new(said), next_change: None };
        let snapshot = layers.snapshot(1, now);
        Ok((Self { sources, current: watch::Sender::new(snapshot), first_stamps, layers: Mutex::new(layers), trouble: Mutex::default() }, bad_lines))
    }

    /// The roster as it is now.
    pub fn current(&self) -> Snapshot {
        self.current.borrow().clone()
    }

    /// Why the files as they are now are not in use, while those read before stand; what to do comes after a line that begins with `hint:`.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells of every change.
    pub fn subscribe(&self) -> watch::Receiver<Snapshot> {
        self.current.subscribe()
    }

    /// Takes what messages have said, as the store holds it now; an older version than the known one is left aside.
    pub fn hear(&self, said: Said, now: Timestamp) {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        if said.version > layers.said.version {
            layers.said = Arc::new(said);
            self.publish(&mut layers, now);
        }
    }

    /// Lets what messages said for later take effect, when its time has come.
    pub fn pass(&self, now: Timestamp) {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        if layers.next_change.is_some_and(|at| at <= now) {
            self.publish(&mut layers, now);
        }
    }

    fn publish(&self, layers: &mut Layers, now: Timestamp) -> u64 {
        let revision = self.current.borrow().revision + 1;
        self.current.send_replace(layers.snapshot(revision, now));
        revision
    }

    /// Reads the files again, and uses what they say unless that would make things worse. Blocks on the files.
    ///
    /// # Errors
    /// Why what stood still stands.
    pub fn reload(&self, now: Timestamp) -> Result<Reloaded, DirectoryError> {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let contents = read(&self.sources)?;
        if let Some(first) = contents.bad_lines.first() {
            return Err(DirectoryError::BadLines { n_bad_lines: contents.bad_lines.len(), first: first.clone() });
        }
        if contents.fingerprint == layers.files_fingerprint {
            return Ok(Reloaded::Unchanged);
        }
        let users = users(&contents);
        let n_removed = layers.users.difference(&users).count();
        if n_removed * 5 > layers.users.len() {
            return Err(DirectoryError::RemovesTooMany { n_removed, n_staff: layers.users.len() });
        }
        let n_staff = users.len();
        layers.users = users;
        layers.files_fingerprint = contents.fingerprint;
        layers.files = Arc::new(roster(contents, &self.sources));
        Ok(Reloaded::Changed { revision: self.publish(&mut layers, now), n_staff })
    }

    /// Looks at the clock and the files every so often, and reloads once they have changed and then stood still for one look. Ends when it is told to
    /// stop.
    pub async fn watch<C: Clock>(self: Arc<Self>, every: Duration, clock: Arc<C>, stop: CancellationToken) {
        // Nothing while the files could not be read: however they come back, they are read again.
        let mut used = Some(self.first_stamps.clone());
        let mut seen = self.first_stamps.clone();
        let mut looks = tokio::time::interval(every);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = looks.tick() => {}
            }
            self.pass(clock.now());
            metrics::gauge!("wardroom_directory_refused").set(if self.trouble().is_some() { 1.0 } else { 0.0 });
            let found = stamps(&self.sources);
            let stands_still = found == seen;
            seen.clone_from(&found);
            if used.as_ref() == Some(&found) || !stands_still {
                continue;
            }
            let (this, now) = (Arc::clone(&self), clock.now());
            let Ok(outcome) = tokio::task::spawn_blocking(move || this.reload(now)).await else { continue };
            if let Ok(Reloaded::Changed { revision, n_staff }) = outcome {
                tracing::info!(revision, n_staff, "staff and units were read again");
            }
            // What is gone or is being written may be on its way.
            used = outcome.as_ref().err().is_none_or(|error| !error.is_transient()).then_some(found);
            self.note(outcome.err());
        }
    }

    /// Notes why the files are not in use, and tells it once.
    fn note(&self, error: Option<DirectoryError>) {
        let trouble = error.map(|error| match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        });
        let mut known = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match &trouble {
            Some(trouble) if known.as_ref() != Some(trouble) => {
                tracing::error!("staff and units were not read again, and those read before stand: {trouble}");
            }
            None if known.is_some() => tracing::info!("nothing is wrong with the files of staff and units any more"),
            Some(_) | None => {}
        }
        *known = trouble;
    }
}

/// Reads the files, and uses nothing yet.
///
/// # Errors
/// When a file cannot be read.
pub fn read(sources: &Sources) -> Result<Contents, DirectoryError> {
    let staff_bytes = sources.staff.as_deref().map(read_file).transpose()?;
    let units_bytes = sources.units.as_deref().map(read_file).transpose()?;
    let mut contents = Contents::default();
    if let (Some(file), Some(bytes)) = (&sources.staff, &staff_bytes) {
        let (staff, bad_lines) = files::staff(file, bytes);
        contents.staff = staff;
        contents.bad_lines.extend(bad_lines);
    }
    if let (Some(file), Some(bytes)) = (&sources.units, &units_bytes) {
        let (units, bad_lines) = files::units(file, bytes);
        contents.units = units;
        contents.bad_lines.extend(bad_lines);
    }
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    for part in [staff_bytes, units_bytes] {
        let part = part.unwrap_or_default();
        hash.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(&part);
    }
    for (service, group) in &sources.services {
        hash.update(format!("{service}\u{0}{group}\u{0}").as_bytes());
    }
    hash.update(&[u8::from(sources.include_unknown_staff)]);
    contents.fingerprint = hash.finish().as_ref().try_into().unwrap_or_default();
    Ok(contents)
}

/// The roster that these contents make.
pub fn roster(contents: Contents, sources: &Sources) -> Roster {
    let services = sources.services.iter().map(|(service, group)| (service.clone(), group.clone()));
    Roster::new(contents.staff, contents.units, sources.include_unknown_staff).with_services(services)
}

fn users(contents: &Contents) -> BTreeSet<UserId> {
    contents.staff.iter().map(|member| member.user.clone()).collect()
}

fn read_file(file: &Path) -> Result<Vec<u8>, DirectoryError> {
    let before = stamp(file);
    let bytes = std::fs::read(file).map_err(|source| DirectoryError::Unreadable { file: file.to_owned(), source })?;
    if before == stamp(file) { Ok(bytes) } else { Err(DirectoryError::BeingWritten { file: file.to_owned() }) }
}

/// When a file was written and how long it is: what changes when it does.
type Stamp = (SystemTime, u64);

fn stamps(sources: &Sources) -> Vec<Option<Stamp>> {
    [&sources.staff, &sources.units].into_iter().flatten().map(|file| stamp(file)).collect()
}

fn stamp(file: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

#[cfg(test)]
mod tests;
