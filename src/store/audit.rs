//! The audit trail, verified: every chain from its first row to its recorded end, and every body that there is a key for.
//!
//! It reads page by page, keeps no more than the ends of the chains, and changes nothing. A body whose patient's key was destroyed stays closed; that
//! is no fault, and its row is held by the chain all the same. Whoever can write the whole database and takes the last rows of a chain away together
//! with its recorded end leaves a shorter chain that fits.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;

use crate::store::Store;
use crate::store::chain;
use crate::store::chain::Checked;
use crate::store::chain::Fault;
use crate::store::chain::Head;
use crate::store::chain::Misfit;
use crate::store::chain::Verification;
use crate::store::error::StoreError;
use crate::store::on_backend;
use crate::store::rows::StoredAudit;
use crate::store::sealed;
use crate::store::sealed::AuditColumns;
use crate::store::sealing::SealingKey;
use crate::store::sealing::Table;
use crate::store::sealing::key_id;
use crate::store::sql;

const ROWS_AT_ONCE: i64 = 1000;
/// Faults beyond these are counted only.
const FAULTS_KEPT: usize = 100;

/// What was found in the audit trail.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AuditReport {
    /// How many chains there are.
    pub n_chains: usize,
    /// How many rows were looked at.
    pub n_rows: u64,
    /// How many of their bodies opened.
    pub n_opened: u64,
    /// How many bodies stay closed because their patient was purged.
    pub n_purged: u64,
    /// How many bodies stay closed although nobody purged their patient, whose key is gone.
    pub n_key_gone: u64,
    /// How many rows do not fit, or are not there.
    pub n_faults: u64,
    /// The first hundred of them, by id.
    pub faults: Vec<Fault>,
}

impl AuditReport {
    /// Whether every row is there and as it was written.
    pub const fn is_whole(&self) -> bool {
        self.n_faults == 0
    }

    fn add(&mut self, fault: Fault) {
        self.n_faults += 1;
        if self.faults.len() < FAULTS_KEPT {
            self.faults.push(fault);
        }
    }
}

/// A patient's key, where there is one; nothing when it is damaged.
pub(super) type KeysFound = HashMap<i64, Option<SealingKey>>;

/// The patient under whose key a row is sealed, where that key is gone.
fn gone(keys: &KeysFound, row: &AuditColumns) -> Option<i64> {
    key_id(Table::Audit, &row.7).ok().filter(|id| *id != 0 && !keys.contains_key(id))
}

impl Store {
    /// Reads the whole audit trail and says whether every row is there and as it was written; `progress` is told how many rows were read, of how many.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn verify_audit(&self, mut progress: impl FnMut(u64, u64) + Send) -> Result<AuditReport, StoreError> {
        let ends = self.chain_ends().await?;
        let mut report = AuditReport { n_chains: ends.len(), ..AuditReport::default() };
        let mut verification = Verification::new(ends);
        let n_expected = verification.n_expected();
        let mut after = i64::MIN;
        loop {
            let rows = self.audit_columns(after, ROWS_AT_ONCE).await?;
            let Some(last) = rows.last() else { break };
            after = last.0;
            let keys = self.keys_found(&rows).await?;
            let gone: BTreeSet<i64> = rows.iter().filter_map(|row| gone(&keys, row)).collect();
            let purged = if gone.is_empty() { HashSet::new() } else { self.purged_patients(&gone.into_iter().collect::<Vec<_>>()).await? };
            for row in rows {
                let link = sealed::link(&row);
                match verification.check(&link, &row.6) {
                    Checked::Later => continue,
                    Checked::Not(misfit) => report.add(Fault::of(misfit, &link)),
                    Checked::Fits => match self.opens(&keys, &row) {
                        Some(true) => report.n_opened += 1,
                        Some(false) => report.add(Fault::of(Misfit::Body, &link)),
                        None if self::gone(&keys, &row).is_some_and(|patient| purged.contains(&patient)) => report.n_purged += 1,
                        None => report.n_key_gone += 1,
                    },
                }
                report.n_rows += 1;
            }
            progress(report.n_rows, n_expected);
        }
        for fault in verification.finish(&self.chain_ends().await?) {
            report.add(fault);
        }
        report.faults.sort_by_key(|fault| fault.id);
        Ok(report)
    }

    pub(super) async fn chain_ends(&self) -> Result<BTreeMap<i64, Head>, StoreError> {
        Ok(chain::ends(on_backend!(self.backend, backend => sqlx::query_as(sql::CHAIN_ENDS).fetch_all(&backend.readers).await?)))
    }

    pub(super) async fn keys_found<'r>(&self, rows: impl IntoIterator<Item = &'r AuditColumns> + Send) -> Result<KeysFound, StoreError> {
        let ids: BTreeSet<i64> = rows.into_iter().filter_map(|row| key_id(Table::Audit, &row.7).ok()).filter(|id| *id != 0).collect();
        if ids.is_empty() {
            return Ok(KeysFound::new());
        }
        let ids: Vec<i64> = ids.into_iter().collect();
        let wrapped = on_backend!(self.backend, backend => backend.data_keys(&ids).await?);
        Ok(wrapped.into_iter().map(|(id, wrapped)| (id, self.keys.unwrap(id, wrapped).ok())).collect())
    }

    /// Whether the body opens; nothing when its key is gone.
    fn opens(&self, keys: &KeysFound, row: &AuditColumns) -> Option<bool> {
        gone(keys, row).is_none().then(|| self.opened_with(keys, row.clone()).body.is_some())
    }

    /// The row with its body, or without it when that does not open.
    pub(super) fn opened_with(&self, keys: &KeysFound, row: AuditColumns) -> StoredAudit {
        sealed::audit_row(self.audit_key(keys, &row), row)
    }

    /// The key that a row's body is sealed under, where there is one.
    fn audit_key<'k>(&'k self, keys: &'k KeysFound, row: &AuditColumns) -> Option<&'k SealingKey> {
        match key_id(Table::Audit, &row.7).ok()? {
            0 => Some(&self.keys.own),
            id => keys.get(&id)?.as_ref(),
        }
    }
}
