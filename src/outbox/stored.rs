//! The outbox of the relay as the store keeps it.

use crate::care::change::EventType;
use crate::ids::Facility;
use crate::outbox::Outbox;
use crate::outbox::OutboxRow;
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::lease::Share;
use crate::store::lease::Work;

impl Outbox for Store {
    type Error = StoreError;

    async fn share(&self) -> Result<Share, StoreError> {
        self.share(Work::Publish).await
    }

    async fn give_up(&self) -> Result<(), StoreError> {
        self.give_up(Work::Publish).await
    }

    async fn pending(&self, limit: usize, share: &Share) -> Result<Vec<OutboxRow>, StoreError> {
        let rows = self.pending_share(i64::try_from(limit).unwrap_or(i64::MAX), share).await?;
        Ok(rows
            .into_iter()
            .map(|row| OutboxRow {
                seq: row.seq,
                room_id: row.room_id,
                room_version: u64::try_from(row.room_version).unwrap_or(0),
                event_id: row.event_id,
                // A type of a newer version is still an update of the whole room.
                event_type: EventType::parse(&row.event_type).unwrap_or(EventType::Updated),
                facility: Facility::new(row.facility),
                traceparent: row.traceparent,
                time: row.time,
                body: row.body.0,
            })
            .collect())
    }

    async fn settle(&self, seqs: &[i64]) -> Result<(), StoreError> {
        self.settle_outbox(seqs).await
    }

    async fn park(&self, seq: i64, reason: &'static str) -> Result<(), StoreError> {
        self.park_outbox(seq, reason).await
    }
}
