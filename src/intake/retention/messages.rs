//! The messages that left something in the visits that go, and in no other.

use std::collections::BTreeSet;
use std::sync::Arc;

use foldhash::HashSet;

use crate::ids::FeedName;
use crate::ids::JournalId;
use crate::intake::batch::BatchError;
use crate::intake::read::Arrived;
use crate::intake::read::read;
use crate::intake::retention::Finder;
use crate::intake::retention::Finding;
use crate::intake::retention::visits::Group;
use crate::store::rows::FindRequest;

/// Events that speak of two patients who stay two: a swap of beds, a link and its end.
const OF_TWO: [&str; 3] = ["A17", "A24", "A37"];

impl Finder<'_> {
    /// Finds the messages that go with these visits. Gives back the patients that they speak of.
    pub(super) async fn messages_of(&self, group: &Group, finding: &mut Finding) -> Result<BTreeSet<i64>, BatchError> {
        let messages: Vec<JournalId> = group.messages.iter().copied().collect();
        let brief = self.store.messages_briefly(&messages).await?;
        let elsewhere = self.elsewhere(group).await?;
        let mut patients = BTreeSet::new();
        for message in brief {
            patients.extend(message.patient_id);
            let is_of_two = message.trigger.is_some_and(|trigger| OF_TWO.contains(&trigger.as_str()));
            if elsewhere.contains(&message.id) || (is_of_two && self.is_known_elsewhere(message.id, group).await?) {
                continue;
            }
            finding.purge.messages.push(message.id);
        }
        Ok(patients)
    }

    /// The messages that left facts with other visits of the same patients: what was merged, moved or renumbered is said of several.
    async fn elsewhere(&self, group: &Group) -> Result<HashSet<JournalId>, BatchError> {
        let mut others = Vec::new();
        for patient in &group.patients {
            let rows: Vec<i64> = self.rows_of(*patient).await?.0.into_keys().collect();
            others.extend(self.store.visits_of_patients(&rows).await?);
        }
        others.retain(|row| !group.rows.contains(row));
        Ok(self.store.arrivals(&others).await?.into_iter().map(|(_, message)| message).collect())
    }

    /// Whether a message has left facts with a visit that does not go. One that cannot be read any more is believed to have.
    async fn is_known_elsewhere(&self, id: JournalId, group: &Group) -> Result<bool, BatchError> {
        let Some(message) = self.store.journal_message(id).await? else { return Ok(false) };
        let Some(feed) = self.feeds.get(&FeedName::new(message.feed)) else { return Ok(true) };
        let arrived = Arrived { journal: message.id, at: message.received_at, is_retry: true };
        let incoming = read(message.raw.bytes.into(), &feed.profile, arrived, self.look_ups).incoming;
        let look_ups = self.look_ups.named(incoming.facts.iter().map(Arc::as_ref));
        let found = self.store.find(&FindRequest { look_ups, ..FindRequest::default() }).await?;
        let visits: Vec<i64> = found.visits.iter().map(|visit| visit.id).filter(|visit| !group.rows.contains(visit)).collect();
        Ok(self.store.arrivals(&visits).await?.iter().any(|(_, message)| *message == id))
    }
}
