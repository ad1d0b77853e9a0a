//! What both databases are asked to do, in their own columns.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;

use crate::store::chain::Head;
use crate::store::error::StoreError;
use crate::store::error::Trouble;
use crate::store::look_up::LookUpHash;
use crate::store::look_up::LookUpKind;
use crate::store::rows::AuditRow;
use crate::store::sealed::AuditColumns;
use crate::store::sealed::KnownColumns;
use crate::store::sealed::LookUpColumns;
use crate::store::sealed::PatientColumns;
use crate::store::sealed::SealedBatch;
use crate::store::sealed::VisitColumns;
use crate::store::sealed::seal_audit;
use crate::store::sealing::Keys;
use crate::store::sealing::Table;
use crate::store::sealing::key_id;

/// One write, a transaction of its own.
#[derive(Debug)]
pub(super) enum Write {
    /// Batches, each planned on what the one before leaves.
    Commit(Vec<SealedBatch>),
    /// Rows at the end of the lane's audit chain, and nothing else.
    Audit(Vec<AuditRow>),
    Settle(Vec<i64>),
    /// Sets an event aside, or puts it back.
    Park {
        seq: i64,
        reason: Option<String>,
    },
    Put {
        key: String,
        value: Vec<u8>,
    },
    /// Values that are kept as they are when they are there.
    Keep(Vec<(String, Vec<u8>)>),
    /// Keys that are wrapped anew.
    Wrap(Wrap),
}

/// Keys that are wrapped anew, if the master key is the one that is believed.
#[derive(Debug, Default)]
pub(super) struct Wrap {
    /// The store's own key, as it must stand.
    pub(super) stands: Vec<u8>,
    /// What is put into `meta`.
    pub(super) put: Vec<(&'static str, Vec<u8>)>,
    /// Whether the master key before is forgotten.
    pub(super) forgets: bool,
    /// Patients, each with their key as it must stand, and as it is to stand.
    pub(super) patients: Vec<(i64, Vec<u8>, Vec<u8>)>,
    pub(super) audit: Vec<AuditRow>,
}

/// A write with what sealing the audit rows takes.
#[derive(Debug)]
pub(super) struct SealedWrite {
    pub(super) write: Write,
    pub(super) lane: u16,
    pub(super) keys: AuditKeys,
}

/// The keys, where there are audit rows to seal.
#[derive(Clone, Debug, Default)]
pub(super) struct AuditKeys(pub(super) Option<Arc<Keys>>);

impl AuditKeys {
    /// Where the chain ends now, and the rows.
    pub(super) fn seal_audit(&self, lane: u16, end: Option<Vec<u8>>, rows: &[AuditRow]) -> Result<(Vec<u8>, Vec<AuditColumns>), StoreError> {
        let form = StoreError::Form { table: Table::Audit };
        let Some(keys) = &self.0 else { return Err(form) };
        let head = end.map_or_else(|| Some(Head::default()), |bytes| Head::from_bytes(&bytes)).ok_or(form)?;
        let (head, columns) = seal_audit(keys, lane, head, rows)?;
        Ok((head.to_bytes(), columns))
    }

    /// Whether the keys of new patients are wrapped by the master key of which the store's own key says that it is the present one. Where another took its
    /// place since the batch was planned, it is planned again; not where this process does not have that one.
    pub(super) fn agree_on_key(&self, wrapped_by: &[i64], own: Option<&[u8]>) -> Result<(), Trouble> {
        let Some(own) = own else { return Ok(()) };
        let number = key_id(Table::Keys, own)?;
        if wrapped_by.iter().all(|by| *by == number) {
            return Ok(());
        }
        let is_known = self.0.as_ref().is_some_and(|keys| keys.wrapping().number() == number);
        Err(if is_known { Trouble::Conflict } else { StoreError::KeyReplaced.into() })
    }
}

/// By which master keys the keys of new patients are wrapped, who follow on none: only of them a key is written.
pub(super) fn wrapped_by(patients: &[PatientColumns]) -> Result<Vec<i64>, StoreError> {
    patients.iter().filter(|row| row.1 == 1).map(|row| key_id(Table::Keys, &row.2)).collect()
}

impl SealedWrite {
    /// Whether somebody is told that it is on disk. A settled event that comes back after a power cut is only sent once more.
    pub(super) const fn is_durable(&self) -> bool {
        !matches!(self.write, Write::Settle(_))
    }
}

/// Where in `meta` a chain's end stands.
pub(super) fn end_key(lane: u16) -> String {
    format!("audit_end/{lane}")
}

/// Where in `meta` the store's own key stands, wrapped.
pub(super) const META_OWN_KEY: &str = "key/own";
/// Where its look-up key does.
pub(super) const META_LOOK_UP_KEY: &str = "key/look_up";
/// Where the master key before does, while some keys are still wrapped by it.
pub(super) const META_BEFORE: &str = "key/before";
/// Where it says since when the present master key is in use, and by whose order.
pub(super) const META_REPLACED: &str = "key/replaced";

/// Where in `meta` the epoch stands, once somebody has raised it.
pub(super) const META_EPOCH: &str = "epoch";
/// The epoch of a store in which nobody has raised it.
pub(super) const FIRST_EPOCH: u32 = 1;

/// The epoch as it stands in `meta`.
pub(super) const fn epoch_value(epoch: u32) -> [u8; 4] {
    epoch.to_be_bytes()
}

/// Reads the epoch as it stands in `meta`; where it does not stand there, nobody has raised it.
pub(super) fn epoch_of(value: Option<&[u8]>) -> Result<u32, StoreError> {
    let Some(value) = value else { return Ok(FIRST_EPOCH) };
    value.try_into().map(u32::from_be_bytes).map_err(|_| StoreError::Form { table: Table::Meta })
}

/// Whether the epoch that stands is the one with which events were made.
pub(super) fn agree_on_epoch(made_with: &[u32], stored: Option<&[u8]>) -> Result<(), Trouble> {
    let stored = epoch_of(stored)?;
    if made_with.iter().all(|epoch| *epoch == stored) { Ok(()) } else { Err(Trouble::Conflict) }
}

/// Whether what stands is what was read; no row counts as version 0.
pub(super) fn agree(read: &[(i64, i64)], stored: impl Iterator<Item = (i64, i64)>) -> Result<(), Trouble> {
    let stored: HashMap<i64, i64> = stored.collect();
    let same = read.iter().all(|(id, version)| stored.get(id).copied().unwrap_or(0) == *version);
    if same { Ok(()) } else { Err(Trouble::Conflict) }
}

/// What is looked for.
#[derive(Debug)]
pub(super) struct RawFind<'a> {
    pub(super) dedupe: &'a [LookUpHash],
    pub(super) look_ups: &'a [LookUpHash],
    pub(super) visits: &'a [i64],
    pub(super) patients: &'a [i64],
}

impl RawFind<'_> {
    /// Whether nothing is looked for.
    pub(super) const fn is_empty(&self) -> bool {
        self.dedupe.is_empty() && self.look_ups.is_empty() && self.visits.is_empty() && self.patients.is_empty()
    }
}

/// What was found, still sealed.
#[derive(Debug, Default)]
pub(super) struct RawFound {
    pub(super) known: Vec<KnownColumns>,
    pub(super) look_ups: Vec<LookUpColumns>,
    pub(super) visits: Vec<VisitColumns>,
    pub(super) patients: Vec<PatientColumns>,
    /// Data keys of patients that are not among the patients, and under whose keys something is still sealed.
    pub(super) keys: Vec<(i64, Vec<u8>)>,
}

impl RawFound {
    fn targets(&self, wanted: impl Fn(LookUpKind) -> bool) -> impl Iterator<Item = i64> {
        self.look_ups.iter().filter(move |row| LookUpKind::from_number(row.2).is_some_and(&wanted)).map(|row| row.1)
    }

    pub(super) fn visits_wanted(&self, request: &RawFind<'_>) -> Vec<i64> {
        let ids: BTreeSet<i64> = request.visits.iter().copied().chain(self.targets(LookUpKind::leads_to_visits)).collect();
        ids.into_iter().collect()
    }

    pub(super) fn patients_wanted(&self, request: &RawFind<'_>) -> Vec<i64> {
        let of_visits = self.visits.iter().map(|row| row.1);
        let ids: BTreeSet<i64> = request.patients.iter().copied().chain(self.targets(|kind| kind == LookUpKind::Patient)).chain(of_visits).collect();
        ids.into_iter().collect()
    }

    pub(super) fn patient_ids(&self) -> Vec<i64> {
        self.patients.iter().map(|row| row.0).collect()
    }

    pub(super) fn add_visits(&mut self, more: Vec<VisitColumns>) {
        self.visits.extend(more);
        self.visits.sort_unstable_by_key(|row| row.0);
        self.visits.dedup_by_key(|row| row.0);
    }

    pub(super) fn keys_missing(&self) -> Result<Vec<i64>, StoreError> {
        let mut missing: BTreeSet<i64> = self.visits.iter().map(|row| key_id(Table::Visits, &row.9)).collect::<Result<_, _>>()?;
        for (id, ..) in &self.patients {
            missing.remove(id);
        }
        missing.remove(&0);
        Ok(missing.into_iter().collect())
    }
}
