//! What a batch changed, as the rows that its commit writes.
//!
//! It decides nothing: what is in the world was taken, planned and compared before. It reads nothing from the store and writes nothing to it.

use foldhash::HashMap;
use foldhash::HashSet;

use crate::care::room::RoomStatus;
use crate::ids::JournalId;
use crate::intake::Incoming;
use crate::intake::Verdict;
use crate::intake::batch::BatchContext;
use crate::intake::batch::BatchError;
use crate::intake::batch::Done;
use crate::intake::batch::Work;
use crate::intake::look_ups::LookUps;
use crate::intake::staff;
use crate::intake::world::RoomChange;
use crate::intake::world::Rules;
use crate::intake::world::VisitEntry;
use crate::intake::world::World;
use crate::store::form::Stored;
use crate::store::look_up::LookUpHash;
use crate::store::look_up::LookUpKind;
use crate::store::rows::AuditRow;
use crate::store::rows::CommitBatch;
use crate::store::rows::Disposition;
use crate::store::rows::FactRow;
use crate::store::rows::JournalRow;
use crate::store::rows::JournalSettled;
use crate::store::rows::OutboxEvent;
use crate::store::rows::PatientRow;
use crate::store::rows::QuarantineRow;
use crate::store::rows::VisitRow;
use crate::store::sealing::Document;
use crate::store::sealing::SealingKey;
use crate::time::Timestamp;

/// What the batch changed, as rows.
pub(super) fn write_out(
    context: &BatchContext<'_>,
    rules: &Rules<'_>,
    world: &mut World,
    work: &Work,
    done: &Done,
) -> Result<CommitBatch, BatchError> {
    for (row, entry) in &mut world.patients {
        if entry.key.is_none() {
            entry.key = Some(context.store.new_patient_key(*row)?);
        }
    }
    let keys: HashMap<i64, SealingKey> = world.patients.iter().filter_map(|(row, entry)| Some((*row, entry.key.clone()?))).collect();
    let key_of = |row: i64| keys.get(&row).cloned();
    let directory = done.said.as_ref().map(staff::row);
    let mut batch = CommitBatch {
        look_ups: std::mem::take(&mut world.new_look_ups),
        directory,
        dedupe_released: done.released.clone(),
        audit: work.audit.clone(),
        ..CommitBatch::default()
    };
    let left_facts: HashSet<JournalId> = world.visits.values().flat_map(|visit| &visit.new_facts).map(|fact| fact.stamp.arrival).collect();
    if let (Some(letting), Some(Ok(done))) = (&work.letting, done.letting) {
        batch.audit.push(AuditRow { key: key_of(done.patient), ..letting.audit.clone() });
    }
    for (message, verdict) in work.messages.iter().zip(&done.verdicts) {
        journal(&mut batch, message, verdict, !left_facts.contains(&message.journal), verdict.patient.and_then(key_of), rules);
    }
    for message in &work.ended {
        batch.journal_settled.push(JournalSettled::discarded(message.journal));
        batch.quarantine_left.push(message.journal);
    }
    // After all that any daemon has put into the outbox for these visits, by whatever clock.
    let mut written = world.visits.values().map(|visit| visit.updated_at).fold(rules.now, Timestamp::max);
    for change in world.changes.drain(..) {
        let key = key_of(change.patient);
        let place = rules.ids.next_place(rules.now, written);
        written = JournalId(place).at();
        publish(&mut batch, change, place, key, rules);
    }
    batch.epoch = (!batch.outbox.is_empty()).then_some(rules.epoch);
    let mut created = false;
    for (row, entry) in &world.patients {
        if entry.is_dirty {
            created |= entry.version == 0;
            let Some(key) = entry.key.clone() else { continue };
            batch.patients.push(PatientRow {
                id: *row,
                version: entry.version + 1,
                absorbed_into: entry.absorbed_into,
                key,
                doc: entry.record.document(),
            });
        } else {
            batch.read_patients.push((*row, entry.version));
        }
    }
    for (row, visit) in &mut world.visits {
        let Some(key) = key_of(visit.patient) else { continue };
        for fact in &visit.new_facts {
            batch.facts.push(FactRow {
                owner: *row,
                recorded_at: fact.stamp.recorded,
                sent_at: fact.stamp.sent,
                arrival: fact.stamp.arrival.0,
                hash: LookUpHash(fact.hash.0),
                key: key.clone(),
                body: fact.document(),
            });
        }
        if visit.is_dirty {
            created |= visit.version == 0;
            visit.updated_at = written;
            batch.visits.push(visit_row(*row, visit, key));
        } else {
            batch.read_visits.push((*row, visit.version));
        }
    }
    let gave_its_room_away = |row: &VisitRow| row.status == RoomStatus::Merged.as_str();
    if batch.visits.iter().any(gave_its_room_away) {
        // A room has one row at any time, also between two rows of this batch.
        batch.visits.sort_by_key(|row| !gave_its_room_away(row));
    }
    if created {
        let led: HashSet<LookUpHash> = batch.look_ups.iter().map(|(hash, _, _)| *hash).collect();
        batch.absent_look_ups = world.absent_look_ups.iter().copied().filter(|hash| led.contains(hash)).collect();
    }
    if !context.store.is_ours_alone() {
        // What must lead nowhere yet is asked for once.
        let absent: HashSet<&LookUpHash> = batch.absent_look_ups.iter().collect();
        let is_known = |hash: &LookUpHash| world.asked.as_ref().is_some_and(|asked| asked.contains(hash)) && !absent.contains(hash);
        let known = world.targets.iter().filter(|(hash, _)| is_known(hash));
        batch.known_look_ups = known.flat_map(|(hash, targets)| targets.iter().map(|(_, target)| (*hash, *target))).collect();
    }
    Ok(batch)
}

fn visit_row(row: i64, visit: &VisitEntry, key: SealingKey) -> VisitRow {
    let last = visit.document.rooms.last();
    VisitRow {
        id: row,
        patient_id: visit.patient,
        version: visit.version + 1,
        status: visit.status.clone(),
        is_open: visit.is_open,
        wake_at: visit.wake_at,
        room_id: last.map(|slot| slot.id),
        room_version: last.and_then(|slot| slot.published.as_ref()).map_or(0, |room| i64::try_from(room.version).unwrap_or(i64::MAX)),
        updated_at: visit.updated_at,
        over_at: visit.over_at,
        key,
        doc: visit.document.document(),
    }
}

/// The patient and the visit whose explanation a message in quarantine waits for: those of the fact that could not be taken.
pub(crate) fn waits_for(message: &Incoming, verdict: &Verdict, look_ups: &LookUps) -> (Option<LookUpHash>, Option<LookUpHash>) {
    let fact = message.facts.get(verdict.waiting.unwrap_or_default());
    let visit = fact.and_then(|fact| fact.visit.as_ref()).map(|visit| look_ups.visit(LookUpKind::Visit, &visit.id));
    (fact.map(|fact| look_ups.patient(&fact.patient)), visit)
}

/// A message, as it was decided, and where it waits. `is_bare` is whether it left nothing in any stay.
pub(super) fn journal(batch: &mut CommitBatch, message: &Incoming, verdict: &Verdict, is_bare: bool, key: Option<SealingKey>, rules: &Rules<'_>) {
    let by_age = is_bare && verdict.disposition != Disposition::Quarantined;
    let waits = || {
        let (patient_hash, visit_hash) = waits_for(message, verdict, rules.look_ups);
        QuarantineRow {
            journal_id: message.journal,
            reason: verdict.reason.unwrap_or_default().to_owned(),
            since: message.received_at,
            patient_hash,
            visit_hash,
            state: "waiting".to_owned(),
        }
    };
    if message.is_retry {
        // It is in the journal already; only what became of it changes.
        let reason = verdict.reason.map(str::to_owned);
        batch.journal_settled.push(JournalSettled { id: message.journal, disposition: verdict.disposition, reason, by_age });
        if verdict.disposition == Disposition::Quarantined {
            // It may wait for something else now.
            batch.quarantine.push(waits());
        } else {
            batch.quarantine_left.push(message.journal);
        }
        return;
    }
    if verdict.disposition == Disposition::Quarantined {
        batch.quarantine.push(waits());
    }
    batch.journal.push(JournalRow {
        id: message.journal,
        feed: message.feed.as_str().to_owned(),
        received_at: message.received_at,
        dedupe: message.dedupe.filter(|_| verdict.disposition != Disposition::Duplicate),
        control: None,
        trigger: message.trigger.map(|trigger| trigger.to_string()),
        disposition: verdict.disposition,
        reason: verdict.reason.map(str::to_owned),
        duplicate_of: verdict.duplicate_of,
        ack_code: None,
        patient_id: verdict.patient.filter(|_| key.is_some()),
        by_age,
        key,
        raw: Document::new(0, message.raw.to_vec()),
    });
}

fn publish(batch: &mut CommitBatch, change: RoomChange, place: i64, key: Option<SealingKey>, rules: &Rules<'_>) {
    let RoomChange { event, message, made_for, audited, .. } = change;
    let version = i64::try_from(event.room_version).unwrap_or(i64::MAX);
    batch.audit.push(AuditRow {
        at: rules.now,
        kind: event.event_type.as_str().to_owned(),
        room_id: Some(event.room_id),
        room_version: Some(version),
        made_for,
        journal_id: message,
        key: key.clone(),
        body: audited,
    });
    batch.outbox.push(OutboxEvent {
        seq: place,
        room_id: event.room_id,
        room_version: version,
        event_id: event.id,
        event_type: event.event_type.as_str().to_owned(),
        facility: event.facility.as_str().to_owned(),
        traceparent: event.traceparent,
        time: event.time,
        key,
        body: Document::new(1, event.body),
    });
}
