//! What is read to find out whose time is over, and what belongs to it.
//!
//! Visits are found by an index that a message in between never touches, messages that left nothing in any stay by one that holds only those. Nothing here
//! decides what is deleted, and nothing deletes: that is a commit's part.

use std::collections::HashSet;

use uuid::Uuid;

use crate::ids::CareRoomId;
use crate::ids::JournalId;
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::look_up::LookUpHash;
use crate::store::look_up::hash_column;
use crate::store::on_backend;
use crate::store::sealing::Table;
use crate::store::sql;
use crate::time::Timestamp;

/// Goes through all look-ups: only for a row that nothing else tells the numbers of.
const LOOK_UPS_TO: &str = "SELECT hash FROM look_ups WHERE target = $1";

/// The statement that reads a whole table, for the test that prepares it.
#[cfg(test)]
pub(super) const ALL: &[&str] = &[LOOK_UPS_TO];

/// A message, as far as it must be known to decide what it is about.
#[derive(Clone, Debug)]
pub struct BriefMessage {
    /// Its id.
    pub id: JournalId,
    /// The patient it is about.
    pub patient_id: Option<i64>,
    /// The trigger event.
    pub trigger: Option<String>,
}

impl Store {
    /// The next visits that were over before a time, with when they were, after one of them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn over_visits(&self, before: Timestamp, after: (Timestamp, i64), limit: i64) -> Result<Vec<(Timestamp, i64)>, StoreError> {
        let (query, before, after_us) = (sql::OVER_VISITS, before.as_micros(), after.0.as_micros());
        let rows: Vec<(i64, i64)> = on_backend!(self.backend, backend => {
            sqlx::query_as(query).bind(before).bind(after_us).bind(after.1).bind(limit).fetch_all(&backend.readers).await?
        });
        Ok(rows.into_iter().map(|(over_us, id)| (Timestamp::from_micros(over_us), id)).collect())
    }

    /// How many visits were over before a time.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn over_visits_count(&self, before: Timestamp) -> Result<i64, StoreError> {
        let (query, before) = (sql::OVER_VISITS_COUNT, before.as_micros());
        Ok(on_backend!(self.backend, backend => sqlx::query_scalar(query).bind(before).fetch_one(&backend.readers).await?))
    }

    /// The next visits made before a time, after a row, of which nobody noted whether they are over: an older program wrote them last.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn unnoted_visits(&self, before: Timestamp, after: i64, limit: i64) -> Result<Vec<i64>, StoreError> {
        let (query, before) = (sql::UNNOTED_VISITS, JournalId::first_at(before).0);
        Ok(on_backend!(self.backend, backend => sqlx::query_scalar(query).bind(after).bind(before).bind(limit).fetch_all(&backend.readers).await?))
    }

    /// The next messages that came before a time, after one of them, and left nothing in any stay: each with its patient.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn messages_by_age(&self, before: Timestamp, after: JournalId, limit: i64) -> Result<Vec<(JournalId, Option<i64>)>, StoreError> {
        let before = JournalId::first_at(before);
        let rows = on_backend!(self.backend, backend => backend.messages_by_age(after.0, before.0, limit).await?);
        Ok(rows.into_iter().map(|(id, patient)| (JournalId(id), patient)).collect())
    }

    /// Those of these messages that there are.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn messages_briefly(&self, messages: &[JournalId]) -> Result<Vec<BriefMessage>, StoreError> {
        let ids: Vec<i64> = messages.iter().map(|message| message.0).collect();
        let rows = on_backend!(self.backend, backend => backend.messages_briefly(&ids).await?);
        Ok(rows.into_iter().map(|(id, patient_id, trigger)| BriefMessage { id: JournalId(id), patient_id, trigger }).collect())
    }

    /// The messages that left facts with these owners.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn arrivals(&self, owners: &[i64]) -> Result<Vec<(i64, JournalId)>, StoreError> {
        let rows = on_backend!(self.backend, backend => backend.arrivals(owners).await?);
        Ok(rows.into_iter().map(|(owner, arrival)| (owner, JournalId(arrival))).collect())
    }

    /// Those of these rooms of which an event waits, or was set aside.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn rooms_that_wait(&self, rooms: &[CareRoomId]) -> Result<HashSet<CareRoomId>, StoreError> {
        let rooms: Vec<Uuid> = rooms.iter().map(|room| room.0).collect();
        let rows = on_backend!(self.backend, backend => backend.rooms_that_wait(&rooms).await?);
        Ok(rows.into_iter().map(|(room,)| CareRoomId(room)).collect())
    }

    /// The look-ups that lead to a row. It reads all there are: only for a row that nothing else tells the numbers of.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn look_ups_to(&self, target: i64) -> Result<Vec<LookUpHash>, StoreError> {
        let query = LOOK_UPS_TO;
        let rows: Vec<Vec<u8>> = on_backend!(self.backend, backend => sqlx::query_scalar(query).bind(target).fetch_all(&backend.readers).await?);
        rows.into_iter().map(|hash| Ok(LookUpHash(hash_column(Table::LookUps, &hash)?))).collect()
    }

    /// Those of these patients who were deleted.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(super) async fn purged_patients(&self, patients: &[i64]) -> Result<HashSet<i64>, StoreError> {
        let rows = on_backend!(self.backend, backend => backend.purged_patients(patients).await?);
        Ok(rows.into_iter().map(|(id,)| id).collect())
    }
}
