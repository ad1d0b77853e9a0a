//! One step of a purge, as an order is carried out: what is found goes in one commit, with an event for each room and who ordered it.
//!
//! It is planned again where something that it stands on has changed, and nothing of it is done by halves: until the commit everything is there, and after
//! it the backend is told.

use std::time::Duration;

use foldhash::HashSet;
use serde_json::Value;
use serde_json::json;

use crate::care::change::Cause;
use crate::care::change::CauseKind;
use crate::care::change::Change;
use crate::care::change::EventType;
use crate::care::plan::purged;
use crate::care::room::CareRoom;
use crate::care::room::RoomStatus;
use crate::ids::JournalId;
use crate::intake::audited::audited;
use crate::intake::batch::BatchError;
use crate::intake::batch::TRIES;
use crate::intake::daemon::is_about_content;
use crate::intake::orders::Hands;
use crate::intake::orders::Outcome;
use crate::intake::retention::Finder;
use crate::intake::retention::Finding;
use crate::intake::retention::Going;
use crate::intake::retention::KEPT_FOR;
use crate::intake::retention::Page;
use crate::intake::retention::Place;
use crate::intake::retention::Purged;
use crate::outbox::envelope::About;
use crate::outbox::envelope::event;
use crate::store::error::CommitError;
use crate::store::rows::AuditRow;
use crate::store::rows::CommitBatch;
use crate::store::rows::OutboxEvent;
use crate::store::rows::Purge;
use crate::store::sealing::Document;
use crate::time::Clock;
use crate::time::Timestamp;

impl<C: Clock> Hands<'_, C> {
    /// Deletes the next of those whose time is over.
    pub(in crate::intake) async fn purge(
        &mut self,
        until: Timestamp,
        place: Place,
        sooner: bool,
        kind: CauseKind,
        audit: AuditRow,
    ) -> Result<Outcome, BatchError> {
        // A command has a configuration of its own, and what is deleted does not come back.
        let kept_for = if sooner { None } else { self.parts.store.setting(KEPT_FOR).await? };
        if let Some(seconds) = kept_for.and_then(|known| known.try_into().ok()).map(u64::from_be_bytes)
            && until > self.parts.clock.now().minus(Duration::from_secs(seconds))
        {
            return Ok(Outcome::KeptLonger { seconds });
        }
        let finder = Finder { store: &self.parts.store, look_ups: self.look_ups, feeds: &self.parts.feeds, until, gone: HashSet::default() };
        let (page, next) = finder.page(place).await?;
        let mut done = Purged::default();
        match self.purge_page(&finder, &page, kind, &audit).await {
            Ok(purged) => done.add(&purged),
            Err(error) if is_about_content(&error) => {
                let Page::Visits(visits) = page else { return Err(error) };
                // One that cannot be read is in the way of no other.
                for visit in visits {
                    match self.purge_page(&finder, &Page::Visits(vec![visit]), kind, &audit).await {
                        Ok(purged) => done.add(&purged),
                        Err(error) if is_about_content(&error) => {
                            done.left_out += 1;
                            tracing::error!(%error, "a visit whose time is over cannot be purged");
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
            Err(error) => return Err(error),
        }
        if done.rooms > 0 {
            self.parts.outbox.notify_one();
        }
        for (what, n) in [("visits", done.visits), ("rooms", done.rooms), ("patients", done.patients), ("messages", done.messages)] {
            metrics::counter!("wardroom_purged_total", "what" => what).increment(u64::try_from(n).unwrap_or(0));
        }
        Ok(Outcome::Purged { purged: done, next })
    }

    async fn purge_page(&mut self, finder: &Finder<'_>, page: &Page, kind: CauseKind, audit: &AuditRow) -> Result<Purged, BatchError> {
        let store = &self.parts.store;
        for _ in 0..TRIES {
            let finding = finder.find(page).await?;
            if finding.purged.is_nothing() {
                return Ok(finding.purged);
            }
            let purged = finding.purged;
            let committed = store.commit(&self.deletion(finding, finder.until, kind, audit)).await;
            // Whatever became of it: nobody is to plan with what may be gone.
            self.recent.forget();
            match committed {
                Ok(()) => return Ok(purged),
                Err(CommitError::Conflict) => {
                    metrics::counter!("wardroom_commit_conflicts_total").increment(1);
                    store.read_epoch().await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(BatchError::Contended)
    }

    /// Everything of a finding as one commit.
    fn deletion(&self, finding: Finding, until: Timestamp, kind: CauseKind, audit: &AuditRow) -> CommitBatch {
        let now = self.parts.clock.now();
        let Finding { purge, purged, read_visits, read_patients, patients, rooms, written, .. } = finding;
        let mut batch = CommitBatch { read_visits, read_patients, patients, purge: Purge { at: now, ..purge }, ..CommitBatch::default() };
        batch.epoch = (!rooms.is_empty()).then(|| self.parts.store.epoch());
        let mut written = written.max(now);
        for going in rooms {
            let place = self.parts.ids.next_place(now, written);
            written = JournalId(place).at();
            self.tell(&mut batch, going, place, kind, now);
        }
        batch.audit.push(AuditRow { body: noted(&audit.body, until, &purged), ..audit.clone() });
        batch
    }

    /// The last event of a room. It and its row in the trail are sealed under the store's key: the patient's may go in the same commit.
    fn tell(&self, batch: &mut CommitBatch, going: Going, place: i64, kind: CauseKind, now: Timestamp) {
        let Going { room: published, made_for } = going;
        let state = purged(published.id, &published.state);
        let changes = [Change::Status { from: Some(published.state.status), to: RoomStatus::Purged }];
        let room = CareRoom { id: published.id, epoch: self.parts.store.epoch(), version: published.version + 1, state };
        let cause = Cause::of(kind);
        let about = About {
            changes: &changes,
            event_type: EventType::Purged,
            cause: &cause,
            notify: false,
            notices: &[],
            source: "wardroom/main",
            time: now,
            traceparent: None,
        };
        let event = event(&room, &about);
        let version = i64::try_from(event.room_version).unwrap_or(i64::MAX);
        batch.audit.push(AuditRow {
            at: now,
            kind: EventType::Purged.as_str().to_owned(),
            room_id: Some(room.id),
            room_version: Some(version),
            made_for,
            journal_id: None,
            key: None,
            body: audited(EventType::Purged, &cause, &room),
        });
        batch.outbox.push(OutboxEvent {
            seq: place,
            room_id: room.id,
            room_version: version,
            event_id: event.id,
            event_type: EventType::Purged.as_str().to_owned(),
            facility: event.facility.as_str().to_owned(),
            traceparent: None,
            time: event.time,
            key: None,
            body: Document::new(1, event.body),
        });
    }
}

/// Who ordered it, and beside that what went: nobody can count afterwards what is not there.
fn noted(order: &Document, until: Timestamp, purged: &Purged) -> Document {
    let Ok(Value::Object(mut body)) = serde_json::from_slice(&order.bytes) else { return order.clone() };
    let Purged { visits, rooms, patients, messages, .. } = purged;
    body.insert("ended_before".to_owned(), until.to_string().into());
    body.insert("went".to_owned(), json!({ "stays": visits, "rooms": rooms, "patients": patients, "messages": messages }));
    Document::new(order.format, Value::Object(body).to_string().into_bytes())
}
