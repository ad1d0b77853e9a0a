//! What must hold after torture, proved from what is left: the journal, the store's file, its ledger and audit chain, and what a consumer received.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;

use serde::Deserialize;
use uuid::Uuid;

use crate::cli::audit::verify::meaning;
use crate::ids::JournalId;
use crate::intake::ledger::draw_up;
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::ledger::Look;
use crate::store::rows::Disposition;

const PAGE: i64 = 500;

/// What a consumer heard, event by event.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    /// Of each event id what it said.
    contents: HashMap<Uuid, [u8; 32]>,
    /// Of each room the last version that came in its turn.
    rooms: BTreeMap<String, u64>,
    /// How many events came, repetitions among them.
    pub(super) n_events: u64,
    /// What was wrong, one line each.
    pub(super) faults: Vec<String>,
}

/// What is read of an event.
#[derive(Deserialize)]
struct Envelope {
    id: Uuid,
    subject: String,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    version: u64,
}

impl Heard {
    /// One event.
    pub(super) fn hear(&mut self, body: &[u8]) {
        self.n_events += 1;
        let Ok(event) = serde_json::from_slice::<Envelope>(body) else {
            self.faults.push("an event cannot be read".to_owned());
            return;
        };
        let content: [u8; 32] = ring::digest::digest(&ring::digest::SHA256, body).as_ref().try_into().unwrap_or_default();
        let Envelope { id, subject: room, data: Data { version } } = event;
        match self.contents.insert(id, content) {
            Some(before) if before == content => {}
            Some(_) => self.faults.push(format!("event {id} came with two contents")),
            None => {
                let last = self.rooms.entry(room.clone()).or_default();
                if version == *last + 1 {
                    *last = version;
                } else {
                    self.faults.push(format!("room {room}: version {version} came after {last}"));
                }
            }
        }
    }

    /// How many different events came.
    pub(super) fn n_distinct(&self) -> usize {
        self.contents.len()
    }

    /// How many rooms there are.
    pub(super) fn n_rooms(&self) -> usize {
        self.rooms.len()
    }
}

/// What the journal holds of the messages that were acknowledged.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Journal {
    pub(super) n_messages: u64,
    pub(super) n_duplicates: u64,
}

/// Looks for everything that must not be; each fault is a line.
pub(super) async fn prove(store: &Store, acknowledged: &[String], heard: &Heard) -> Result<(Journal, Vec<String>), StoreError> {
    let mut faults = heard.faults.clone();
    let mut journal = Journal::default();
    let mut missing: HashSet<&str> = acknowledged.iter().map(String::as_str).collect();
    let mut counted: HashSet<Vec<u8>> = HashSet::new();
    let mut after = JournalId(i64::MIN);
    loop {
        let page = store.journal_page(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.id;
        for message in page {
            journal.n_messages += 1;
            if let Ok(text) = std::str::from_utf8(&message.raw.bytes) {
                missing.remove(text);
            }
            if message.disposition == Disposition::Duplicate {
                journal.n_duplicates += 1;
            } else if !counted.insert(message.raw.bytes) {
                faults.push(format!("message {} counted although it was there already", message.id));
            }
        }
    }
    faults.extend(missing.iter().take(20).map(|message| format!("acknowledged and not in the journal: {}", control_id(message))));
    if missing.len() > 20 {
        faults.push(format!("and {} more", missing.len() - 20));
    }
    faults.extend(rooms(store, heard).await?);
    let ledger = draw_up(&store.recount(None, Look::Thorough).await?, |_, event| event);
    faults.extend(ledger.faults.iter().map(|fault| format!("ledger, {}: {}", fault.state, fault.what)));
    if ledger.events.pending + ledger.events.parked > 0 {
        faults.push(format!("{} events are pending and {} parked at the end", ledger.events.pending, ledger.events.parked));
    }
    faults.extend(store.file_faults().await?.into_iter().map(|fault| format!("the store's file is damaged: {fault}")));
    let audit = store.verify_audit(|_, _| {}).await?;
    if let Some(fault) = audit.faults.first() {
        faults.push(format!("the audit trail is broken at row {}: {}", fault.id, meaning(fault.misfit)));
    }
    Ok((journal, faults))
}

/// Every room of the store was heard of up to its last version, and no other.
async fn rooms(store: &Store, heard: &Heard) -> Result<Vec<String>, StoreError> {
    let mut faults = Vec::new();
    let mut n_rooms = 0;
    let mut after = i64::MIN;
    loop {
        let page = store.rooms_page(after, PAGE).await?;
        let Some(last) = page.visits.last() else { break };
        after = *last;
        for visit in page.found.visits.iter().filter(|visit| page.visits.contains(&visit.id) && visit.room_version > 0) {
            let Some(room) = visit.room_id.map(|room| room.to_string()) else { continue };
            n_rooms += 1;
            let version = heard.rooms.get(&room).copied().unwrap_or(0);
            if i64::try_from(version) != Ok(visit.room_version) {
                faults.push(format!("room {room} is at version {} and was heard of up to {version}", visit.room_version));
            }
        }
    }
    if n_rooms < heard.rooms.len() {
        tracing::debug!(n_rooms, n_heard = heard.rooms.len(), "some visits have had more than one room");
    }
    Ok(faults)
}

fn control_id(message: &str) -> &str {
    message.split('|').nth(9).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::Heard;
    use super::prove;
    use crate::store::Store;
    use crate::store::StoreOptions;
    use crate::store::master_key::MasterKey;

    fn heard(events: &[(u128, &str, u64, &str)]) -> Vec<String> {
        let mut heard = Heard::default();
        for (id, room, version, more) in events {
            let id = uuid::Uuid::from_u128(*id);
            heard.hear(serde_json::json!({"id": id, "subject": room, "data": {"version": version, "more": more}}).to_string().as_bytes());
        }
        heard.faults
    }

    #[test]
    fn repetitions_are_fine_and_gaps_disorder_and_two_contents_are_not() {
        assert_eq!(heard(&[(1, "a", 1, ""), (2, "a", 2, ""), (1, "a", 1, ""), (2, "a", 2, ""), (3, "b", 1, ""), (4, "a", 3, "")]), [""; 0]);
        assert_eq!(heard(&[(1, "a", 2, "")]), ["room a: version 2 came after 0"]);
        assert_eq!(heard(&[(1, "a", 1, ""), (3, "a", 3, ""), (2, "a", 2, "")]), ["room a: version 3 came after 1"]);
        assert_eq!(heard(&[(1, "a", 1, "x"), (1, "a", 1, "y")]), ["event 00000000-0000-0000-0000-000000000001 came with two contents"]);
        assert_eq!(heard(&[(1, "a", 1, ""), (2, "a", 1, "")]), ["room a: version 1 came after 1"]);
    }

    #[tokio::test]
    async fn what_was_acknowledged_and_is_not_there_is_named_without_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let master_key = MasterKey::load_or_create(&folder.path().join("key")).unwrap();
        let url = format!("sqlite:{}", folder.path().join("wardroom.db").display()).into();
        let store = Store::open(StoreOptions { url, master_key, readers: 1, daemon: 0 }).await.unwrap();
        let lost = "MSH|^~\\&|EMR|GHH|||20260105||ADT^A01|EMR7|P|2.5.1\rPID|1||1||SMITH\r".to_owned();
        let (journal, faults) = prove(&store, &[lost], &Heard::default()).await.unwrap();
        assert_eq!((journal.n_messages, faults), (0, vec!["acknowledged and not in the journal: EMR7".to_owned()]));
        store.close().await;
    }
}
