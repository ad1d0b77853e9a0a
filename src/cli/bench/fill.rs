//! A store that is full already: visits of other patients, and events that wait.
//!
//! Both are copies of one visit that the daemon itself has made, under ids, identifiers and rooms of their own. No daemon may run meanwhile.

use anyhow::Context as _;
use uuid::Uuid;

use super::daemons::House;
use crate::ids::CareRoomId;
use crate::ids::IdSource;
use crate::ids::JournalId;
use crate::store::Store;
use crate::store::look_up::LookUpHash;
use crate::store::look_up::LookUpKind;
use crate::store::rows::CommitBatch;
use crate::store::rows::Disposition;
use crate::store::rows::FactRow;
use crate::store::rows::FindRequest;
use crate::store::rows::Found;
use crate::store::rows::JournalRow;
use crate::store::rows::OutboxEvent;
use crate::store::rows::PatientRow;
use crate::store::rows::StoredFact;
use crate::store::rows::VisitRow;
use crate::store::sealing::Document;
use crate::time::Clock as _;
use crate::time::SystemClock;
use crate::time::Timestamp;

/// How many visits go into one commit.
const AT_ONCE: u32 = 500;
/// How large a message is.
const MESSAGE_BYTES: usize = 860;
/// And an event.
const EVENT_BYTES: usize = 2000;

/// What is copied.
struct Template {
    found: Found,
    facts: Vec<StoredFact>,
}

/// Puts visits, each with one message and one fact, and events into the store; tells of each commit how many of both there are so far.
pub(super) async fn fill(house: &House, n_visits: u32, n_waiting: u32, progress: impl Fn(u32)) -> anyhow::Result<()> {
    let store = house.own_store().await?;
    let template = Template::of(&store).await?;
    let ids = IdSource::new(2);
    let mut n_done = 0;
    while n_done < n_visits.max(n_waiting) {
        let mut batch = CommitBatch::default();
        for n in n_done..n_done + AT_ONCE {
            let at = SystemClock.now();
            if n < n_visits {
                template.visit(&store, &ids, at, n, &mut batch)?;
            }
            if n < n_waiting {
                batch.outbox.push(event(&ids, at));
            }
        }
        store.commit(&batch).await.context("cannot fill the store")?;
        n_done += AT_ONCE;
        progress(n_done);
    }
    store.close().await;
    Ok(())
}

impl Template {
    async fn of(store: &Store) -> anyhow::Result<Self> {
        let page = store.rooms_page(0, 1).await?;
        let visit = *page.visits.first().context("the daemon has made no room yet")?;
        let found = store.find(&FindRequest { visits: vec![visit], ..FindRequest::default() }).await?;
        let facts = store.facts(&[visit]).await?.remove(&visit).unwrap_or_default();
        Ok(Self { found, facts })
    }

    fn visit(&self, store: &Store, ids: &IdSource, at: Timestamp, n: u32, batch: &mut CommitBatch) -> anyhow::Result<()> {
        let (patient, visit) = self.found.patients.first().zip(self.found.visits.first()).context("the visit has no patient")?;
        let [patient_id, id, arrival] = [ids.next(at), ids.next(at), ids.next(at)];
        let key = store.new_patient_key(patient_id)?;
        batch.patients.push(PatientRow { id: patient_id, version: 1, absorbed_into: None, key: key.clone(), doc: patient.doc.clone() });
        batch.visits.push(VisitRow {
            id,
            patient_id,
            version: 1,
            status: "closed".to_owned(),
            is_open: false,
            wake_at: None,
            room_id: Some(CareRoomId(Uuid::new_v4())),
            room_version: visit.room_version,
            updated_at: at,
            over_at: Some(at),
            key: key.clone(),
            doc: visit.doc.clone(),
        });
        let (record, master, visit_number) = (format!("F{n:09}"), format!("9F{n:09}"), format!("VF{n:09}"));
        let patients = [["GHH", "MR", &record], ["GHH", "PI", &master]].map(|parts| store.look_up_hash(LookUpKind::Patient, &parts));
        batch.look_ups.extend(patients.map(|hash| (hash, LookUpKind::Patient, patient_id)));
        batch.look_ups.push((store.look_up_hash(LookUpKind::Visit, &["GHH", &visit_number]), LookUpKind::Visit, id));
        let fact = self.facts.first().context("the visit has no fact")?;
        batch.facts.push(FactRow {
            owner: id,
            recorded_at: at,
            sent_at: at,
            arrival,
            hash: LookUpHash(*Uuid::new_v4().as_bytes()),
            key: key.clone(),
            body: fact.body.clone(),
        });
        batch.journal.push(JournalRow {
            id: JournalId(arrival),
            feed: "main".to_owned(),
            received_at: at,
            dedupe: Some(LookUpHash(*Uuid::new_v4().as_bytes())),
            control: None,
            trigger: Some("A03".to_owned()),
            disposition: Disposition::Applied,
            reason: None,
            duplicate_of: None,
            ack_code: None,
            patient_id: Some(patient_id),
            key: Some(key),
            by_age: false,
            raw: Document::new(0, vec![b'x'; MESSAGE_BYTES]),
        });
        Ok(())
    }
}

fn event(ids: &IdSource, at: Timestamp) -> OutboxEvent {
    OutboxEvent {
        seq: ids.next(at),
        room_id: CareRoomId(Uuid::new_v4()),
        room_version: 1,
        event_id: Uuid::new_v4(),
        event_type: "room.updated".to_owned(),
        facility: "GHH".to_owned(),
        traceparent: None,
        time: at,
        key: None,
        // What a body says is nothing to whoever carries it.
        body: Document::new(1, format!("{{\"filler\":\"{}\"}}", "x".repeat(EVENT_BYTES)).into_bytes()),
    }
}
