//! Patients of whom nothing is left: they go with their key, and what was sealed under it is closed for good.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use foldhash::HashSet;

use crate::care::identity::PatientRecord;
use crate::intake::batch::BatchError;
use crate::intake::retention::Finder;
use crate::intake::retention::Finding;
use crate::intake::retention::visits::Group;
use crate::intake::route::DELETE_REQUEST;
use crate::store::form::Stored as _;
use crate::store::look_up::LookUpHash;
use crate::store::look_up::LookUpKind;
use crate::store::rows::FindRequest;
use crate::store::rows::PatientRow;
use crate::store::rows::StoredPatient;

impl Finder<'_> {
    /// Finds those of these patients who go, and has the others forget the rooms that go.
    pub(super) async fn patients(&self, patients: &BTreeSet<i64>, group: &Group, finding: &mut Finding) -> Result<(), BatchError> {
        let mut seen: BTreeSet<i64> = BTreeSet::new();
        for patient in patients {
            if seen.contains(patient) || self.gone.contains(patient) {
                continue;
            }
            let (rows, named) = self.rows_of(*patient).await?;
            seen.extend(rows.keys());
            let roots: Vec<&StoredPatient> = rows.values().filter(|row| row.absorbed_into.is_none()).collect();
            let [record] = roots[..] else { continue };
            if self.goes(record, &rows, &named, group, finding).await? {
                let ids: BTreeSet<i64> = rows.keys().copied().collect();
                self.look_ups_to(&named, &ids, finding).await?;
                finding.read_patients.extend(rows.values().map(|row| (row.id, row.version)));
                finding.purge.patients.extend(ids);
                finding.purged.patients += 1;
            } else {
                forget(record, group, finding)?;
            }
        }
        Ok(())
    }

    /// The rows of a patient's record: the one that counts, and all that were merged into it; and every look-up that leads to one of them.
    pub(super) async fn rows_of(&self, patient: i64) -> Result<(BTreeMap<i64, StoredPatient>, HashSet<LookUpHash>), BatchError> {
        let found = self.store.find(&FindRequest { patients: vec![patient], ..FindRequest::default() }).await?;
        let mut rows: BTreeMap<i64, StoredPatient> = found.patients.into_iter().map(|row| (row.id, row)).collect();
        let mut named: HashSet<LookUpHash> = HashSet::default();
        if let Some(record) = rows.values().find(|row| row.absorbed_into.is_none()) {
            named.extend(PatientRecord::read(&record.doc)?.ids().map(|id| self.look_ups.patient(id)));
        }
        let found = self.store.find(&FindRequest { look_ups: named.iter().copied().collect(), ..FindRequest::default() }).await?;
        rows.extend(found.patients.into_iter().map(|row| (row.id, row)));
        let kinds = found.look_ups.iter().filter(|(_, kind, _)| *kind == LookUpKind::Patient);
        debug_assert!(kinds.clone().all(|(.., target)| rows.contains_key(target)), "what a look-up leads to is there");
        Ok((rows, named))
    }

    /// Whether a patient goes: no visit is left, nothing was said of them since, and nothing waits for them.
    async fn goes(
        &self,
        record: &StoredPatient,
        rows: &BTreeMap<i64, StoredPatient>,
        named: &HashSet<LookUpHash>,
        group: &Group,
        finding: &mut Finding,
    ) -> Result<bool, BatchError> {
        if PatientRecord::read(&record.doc)?.heard() >= self.until {
            return Ok(false);
        }
        let ids: Vec<i64> = rows.keys().copied().collect();
        let visits = self.store.visits_of_patients(&ids).await?;
        if visits.iter().any(|visit| !group.rows.contains(visit) && !self.gone.contains(visit)) {
            return Ok(false);
        }
        let hashes: Vec<LookUpHash> = named.iter().copied().collect();
        let mut waiting = self.store.quarantine_by_hashes(&hashes).await?;
        waiting.retain(|row| !finding.purge.messages.contains(&row.journal_id));
        // What names a visit as well may wait for somebody else's.
        if waiting.iter().any(|row| row.reason != DELETE_REQUEST && (row.since >= self.until || row.visit_hash.is_some())) {
            return Ok(false);
        }
        finding.purge.messages.extend(waiting.iter().map(|row| row.journal_id));
        Ok(true)
    }
}

/// A patient who stays: of the rooms that go nothing goes on any more.
fn forget(stored: &StoredPatient, group: &Group, finding: &mut Finding) -> Result<(), BatchError> {
    let mut record = PatientRecord::read(&stored.doc)?;
    let mut has_changed = false;
    for room in &group.rooms {
        has_changed |= record.emergencies.note(*room, None);
    }
    if has_changed {
        let (id, version, absorbed_into) = (stored.id, stored.version + 1, stored.absorbed_into);
        finding.patients.push(PatientRow { id, version, absorbed_into, key: stored.key.clone(), doc: record.document() });
    }
    Ok(())
}
