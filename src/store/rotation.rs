//! Another master key in the place of the present one: everything that the present one wraps is wrapped anew, so that it opens nothing any more.
//!
//! One commit is the switch: from then on the new key opens the store, and the old one stands in it, sealed by the new one, as long as patients' keys are
//! wrapped by it. Those are gone through page by page; then it is forgotten. Before the switch the new key is on disk beside the file of the old one, and
//! behind it the file takes the old one's place; who opens the store in between finds it there. Nobody writes a new patient's key as the old one wraps it once
//! the switch is made: each such commit looks. What is interrupted is gone on with, from its start. It never seals a content anew and never changes a
//! data key, and a key stands nowhere in the clear but in its own file.

use std::path::Path;

use crate::store::Backend;
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::error::Trouble;
use crate::store::master_key::MasterKey;
use crate::store::master_key::MasterKeyError;
use crate::store::master_key::is_mounted;
use crate::store::master_key::old_files;
use crate::store::on_backend;
use crate::store::read;
use crate::store::rows::AuditRow;
use crate::store::sealing::Keys;
use crate::store::sealing::Replaced;
use crate::store::sealing::WrappedKeys;
use crate::store::sealing::patient_place;
use crate::store::sql;
use crate::store::wrapping::Wrapping;
use crate::store::write::META_BEFORE;
use crate::store::write::META_LOOK_UP_KEY;
use crate::store::write::META_OWN_KEY;
use crate::store::write::META_REPLACED;
use crate::store::write::Wrap;
use crate::store::write::Write;
use crate::time::Timestamp;

/// How many patients' keys are wrapped anew in one commit: so many that messages hardly wait for them.
const PAGE: i64 = 1000;

/// It reads a whole table: only for a person who waits.
const PATIENT_COUNT: &str = "SELECT COUNT(*) FROM patients";

/// The statement that reads a whole table, for the test that prepares it.
#[cfg(test)]
pub(super) const ALL: &[&str] = &[PATIENT_COUNT];

/// Why no other master key took the place of the present one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RotationError {
    /// The present one stands in no file, and no other file was named.
    #[error("the key of this store stands in no file, so none can take its place there")]
    NoPlace,
    /// The file of the present one is mounted by itself: no other can be put in its place.
    #[error("the file of this store's key is mounted by itself, so no other can take its place")]
    Mounted,
    /// It is the present one, or one that lies beside it as an old one.
    #[error("the key that is to take the place of the present one is the same, or one that the store had before")]
    Same,
    /// Others have the store open with the present one.
    #[error("{n} others have this store open with the key that it has now")]
    Shared {
        /// How many.
        n: i64,
    },
    /// The new key can neither be read nor made, or not be put in its place.
    #[error(transparent)]
    File(#[from] MasterKeyError),
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How a rotation stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Progress {
    /// How many keys were looked at now.
    pub n_keys: usize,
    /// How many of them cannot be opened at all, and stay as they are.
    pub n_unopened: usize,
    /// Whether it has come to its end.
    pub is_done: bool,
    /// Whether what the old key wrapped stands in the file still, because somebody reads the store on and on: it goes behind later commits.
    pub is_in_file: bool,
    /// Since when the present master key is in use.
    pub since: Option<Timestamp>,
}

/// What is known of the master key that opens a store.
#[derive(Clone, Debug)]
pub struct KeyStanding {
    /// How many there were before it.
    pub n_before: i64,
    /// When it took the place of the one before, and by whose order; of the first one nothing.
    pub replaced: Option<Replaced>,
    /// Whether keys are still wrapped by the one before.
    pub is_under_way: bool,
    /// Whether it lies beside its file yet.
    pub is_beside: bool,
}

/// Patients' keys, some of all.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct KeyCounts {
    /// How many were looked at.
    pub n_keys: usize,
    /// How many the master key before wraps.
    pub n_left: usize,
    /// How many open with neither.
    pub n_unopened: usize,
}

/// The keys of a store. A master key that does not open it any more may have been about to be replaced, or have been while it was read.
pub(super) fn open_keys(master: &MasterKey, wrapped: &WrappedKeys) -> Result<Keys, StoreError> {
    match Keys::open(master, wrapped.clone()) {
        Err(StoreError::WrongKey) => {
            let opened = master.others().iter().find_map(|other| Keys::open(other, wrapped.clone()).ok());
            opened.ok_or(StoreError::WrongKey)
        }
        opened => opened,
    }
}

impl Store {
    /// Lets another master key take the place of the present one: that of a file which is named, made where it is not there; else a new one. Gives back
    /// whether it did: where a rotation is under way already, that is to be gone on with first. `audit` is written with it.
    ///
    /// # Errors
    /// Those of [`RotationError`]; then the present one is in its place.
    pub async fn begin_rotation(&self, to: Option<&Path>, replaced: &Replaced, audit: AuditRow) -> Result<bool, RotationError> {
        let now = self.keys.wrapping();
        if now.is_under_way() {
            return Ok(false);
        }
        if let Backend::Postgres(backend) = &self.backend {
            match backend.n_others(self.holder).await? {
                0 => {}
                n => return Err(RotationError::Shared { n }),
            }
        }
        if to.is_none() && now.master.file().is_some_and(is_mounted) {
            return Err(RotationError::Mounted);
        }
        let next = now.master.successor(to)?.ok_or(RotationError::NoPlace)?;
        let had_before = now.master.file().map(old_files).unwrap_or_default();
        if next.is_same(&now.master) || had_before.iter().any(|file| MasterKey::load(file).is_ok_and(|old| old.is_same(&next))) {
            return Err(RotationError::Same);
        }
        let wrapped = self.wrapped_keys().await?;
        let (wrapping, anew) = self.keys.followed_by(next, wrapped, replaced)?;
        let put =
            [(META_BEFORE, anew.before), (META_REPLACED, anew.replaced), (META_OWN_KEY, Some(anew.own)), (META_LOOK_UP_KEY, Some(anew.look_up))];
        let put = put.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        self.write(Write::Wrap(Wrap { stands: now.own.clone(), put, audit: vec![audit], ..Wrap::default() })).await.map_err(StoreError::from)?;
        self.keys.wrap_with(wrapping.clone());
        tracing::info!("the store has another master key; what the one before wraps is wrapped anew");
        // Where it cannot be, whoever opens the store finds it beside its place, and going on puts it there first.
        if let Err(error) = self.place_key(&wrapping).await {
            tracing::error!(%error, "the new master key of the store lies beside its place (`.next`), and could not be put there yet");
        }
        Ok(true)
    }

    /// Wraps the next patients' keys anew, and brings the rotation to its end when there are no more: then `audit` is written with it.
    ///
    /// # Errors
    /// [`RotationError::File`] when the new key cannot be put in its place, or the store cannot be read or written. What was done is done.
    pub async fn go_on_rotating(&self, audit: AuditRow) -> Result<Progress, RotationError> {
        let now = self.keys.wrapping();
        let since = self.key_standing().await?.replaced.map(|replaced| replaced.at);
        let mut progress = Progress { n_keys: 0, n_unopened: 0, is_done: true, is_in_file: false, since };
        if !now.is_under_way() {
            progress.is_in_file = self.owes_log() && !self.ask_for_log().await;
            return Ok(progress);
        }
        let now = self.place_key(&now).await?;
        let page = self.patient_keys(now.done, PAGE).await?;
        progress.n_keys = page.len();
        let mut wrap = Wrap { stands: now.own.clone(), ..Wrap::default() };
        for (patient, stands) in &page {
            let place = patient_place(*patient);
            if now.opens(place, stands) {
                continue;
            }
            match now.unwrap(place, stands) {
                Ok(key) => wrap.patients.push((*patient, stands.clone(), now.wrap(&self.keys.random, place, &key)?)),
                Err(error) => {
                    progress.n_unopened += 1;
                    tracing::error!(%error, patient, "a patient's key cannot be opened, and stays as it is");
                }
            }
        }
        let last = page.last().map_or(now.done, |(patient, _)| *patient);
        progress.is_done = i64::try_from(page.len()).is_ok_and(|n_keys| n_keys < PAGE);
        if progress.is_done {
            (wrap.forgets, wrap.audit) = (true, vec![audit]);
        }
        if !wrap.patients.is_empty() || progress.is_done {
            match self.write(Write::Wrap(wrap)).await {
                Err(Trouble::Conflict) if self.wrapped_keys().await?.own == now.own => {
                    return Ok(Progress { n_keys: 0, n_unopened: 0, is_done: false, is_in_file: false, since });
                }
                Err(Trouble::Conflict) => return Err(StoreError::KeyReplaced.into()),
                Err(Trouble::Other(error)) => return Err(error.into()),
                Ok(()) => {}
            }
        }
        self.keys.wrap_with(if progress.is_done { now.alone() } else { now.done_to(last) });
        if progress.is_done {
            tracing::info!("the master key before opens nothing in the store any more");
            progress.is_in_file = !self.ask_for_log().await;
        }
        Ok(progress)
    }

    fn owes_log(&self) -> bool {
        matches!(&self.backend, Backend::Sqlite(backend) if backend.owes_log())
    }

    /// Has what the old key wrapped written over in the file, where nobody is in the way just now. It holds up nobody: messages wait for whoever rotates.
    async fn ask_for_log(&self) -> bool {
        let Backend::Sqlite(backend) = &self.backend else { return true };
        backend.ask_for_log().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "what the old key wrapped stands in the file until the write-ahead log is written back");
            false
        })
    }

    /// Whether keys are still wrapped by the master key before, as far as this process knows.
    pub fn is_rotating(&self) -> bool {
        self.keys.wrapping().is_under_way()
    }

    /// What is known of the master key that opens the store.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn key_standing(&self) -> Result<KeyStanding, StoreError> {
        let (now, wrapped) = (self.keys.wrapping(), self.wrapped_keys().await?);
        Ok(KeyStanding {
            n_before: now.number(),
            replaced: wrapped.replaced.map(|stands| self.keys.replaced(stands)).transpose()?,
            is_under_way: wrapped.before.is_some(),
            is_beside: now.master.is_beside(),
        })
    }

    /// How many patients there are.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn patient_count(&self) -> Result<i64, StoreError> {
        Ok(on_backend!(self.backend, backend => sqlx::query_scalar(PATIENT_COUNT).fetch_one(&backend.readers).await?))
    }

    /// Tries the next patients' keys after a row; and behind which row there may be more.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn try_keys(&self, after: i64) -> Result<(KeyCounts, Option<i64>), StoreError> {
        let (now, page) = (self.keys.wrapping(), self.patient_keys(after, PAGE).await?);
        let mut counts = KeyCounts { n_keys: page.len(), ..KeyCounts::default() };
        for (patient, stands) in &page {
            let place = patient_place(*patient);
            if now.opens(place, stands) {
                continue;
            }
            match now.unwrap(place, stands) {
                Ok(_) => counts.n_left += 1,
                Err(StoreError::KeyReplaced) => return Err(StoreError::KeyReplaced),
                Err(_) => counts.n_unopened += 1,
            }
        }
        Ok((counts, page.last().map(|(patient, _)| *patient)))
    }

    /// Puts the master key in its place where it lies beside it, and says what is left to do.
    pub(super) async fn see_to_its_key(&self) {
        let now = self.keys.wrapping();
        match self.place_key(&now).await {
            Ok(now) if now.is_under_way() => tracing::warn!(
                "the store has another master key, and some of its keys are still wrapped by the one before\nhint: a daemon goes on until none is, and so does `wardroom keys rotate`"
            ),
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "the master key of the store lies beside its place (`.next`), and could not be put there"),
        }
    }

    async fn place_key(&self, now: &Wrapping) -> Result<Wrapping, RotationError> {
        if !now.master.is_beside() {
            return Ok(now.clone());
        }
        let since = self.key_standing().await?.replaced.map_or(Timestamp::MIN, |replaced| replaced.at);
        let placed = now.placed(now.master.put_in_place(since)?);
        self.keys.wrap_with(placed.clone());
        Ok(placed)
    }

    pub(super) async fn wrapped_keys(&self) -> Result<WrappedKeys, StoreError> {
        read::wrapped_keys(&self.backend).await?.ok_or(StoreError::NotMigrated)
    }

    pub(super) async fn patient_keys(&self, after: i64, limit: i64) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
        let query = sql::PATIENT_KEYS;
        Ok(on_backend!(self.backend, backend => sqlx::query_as(query).bind(after).bind(limit).fetch_all(&backend.readers).await?))
    }
}
