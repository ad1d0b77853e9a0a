//! What a store keeps between batches, in memory: documents, facts and look-ups, written and read back in their stored form.
//!
//! It follows `store::find` and `batch::run` step by step, so that every path on which a batch lacks something and starts over is taken here too.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;
use foldhash::HashSet;

use crate::care::account::Says;
use crate::care::brake::Brake;
use crate::care::change::Cause;
use crate::care::change::CauseKind;
use crate::care::fact::Fact;
use crate::care::fact::FactHash;
use crate::care::fact::RelationKind;
use crate::care::grant::Grant;
use crate::care::identity::PatientRecord;
use crate::care::policy::Policy;
use crate::care::room::CareRoom;
use crate::care::roster::Roster;
use crate::directory::said::Said;
use crate::ids::CareRoomId;
use crate::ids::FeedName;
use crate::ids::IdSource;
use crate::ids::JournalId;
use crate::ids::VisitId;
use crate::intake::Incoming;
use crate::intake::RawMessage;
use crate::intake::batch::Work;
use crate::intake::batch::rows::waits_for;
use crate::intake::batch::take_all;
use crate::intake::look_ups::LookUps;
use crate::intake::room_ids::RoomIds;
use crate::intake::staff::Hearing;
use crate::intake::world::Need;
use crate::intake::world::PatientEntry;
use crate::intake::world::Rules;
use crate::intake::world::VisitEntry;
use crate::intake::world::World;
use crate::store::form::Stored;
use crate::store::form::VisitDocument;
use crate::store::look_up::LookUpHash;
use crate::store::look_up::LookUpKind;
use crate::store::rows::Disposition;
use crate::store::sealing::Document;
use crate::time::Timestamp;

struct Shelved {
    patient: i64,
    status: String,
    is_open: bool,
    wake_at: Option<Timestamp>,
    doc: Document,
}

/// How much work was done.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Cost {
    pub(super) facts_read: usize,
    pub(super) bytes_read: usize,
    pub(super) bytes_written: usize,
    pub(super) starts: usize,
}

pub(super) struct Shelf {
    pub(super) now: Timestamp,
    policy: Arc<Policy>,
    roster: Arc<Roster>,
    ids: IdSource,
    n_rooms: u128,
    patients: BTreeMap<i64, (Option<i64>, Document)>,
    visits: BTreeMap<i64, Shelved>,
    facts: BTreeMap<i64, Vec<(FactHash, Document)>>,
    look_ups: BTreeMap<LookUpHash, BTreeMap<i64, LookUpKind>>,
    waiting: Vec<(Arc<Incoming>, Vec<LookUpHash>)>,
    /// How many events there were of each room.
    published: BTreeMap<CareRoomId, u64>,
    pub(super) cost: Cost,
}

impl Shelf {
    pub(super) fn new(now: Timestamp, policy: &Arc<Policy>, roster: &Arc<Roster>) -> Self {
        Self {
            now,
            policy: Arc::clone(policy),
            roster: Arc::clone(roster),
            ids: IdSource::new(0),
            n_rooms: 0,
            patients: BTreeMap::new(),
            visits: BTreeMap::new(),
            facts: BTreeMap::new(),
            look_ups: BTreeMap::new(),
            waiting: Vec::new(),
            published: BTreeMap::new(),
            cost: Cost::default(),
        }
    }

    /// A message that says these facts, as it arrives now.
    fn incoming(&self, facts: &[Fact]) -> Arc<Incoming> {
        let journal = JournalId(self.ids.next(self.now));
        let mut facts = facts.to_vec();
        for fact in &mut facts {
            fact.stamp.arrival = journal;
        }
        Arc::new(Incoming {
            journal,
            feed: FeedName::from("main"),
            received_at: self.now,
            trigger: facts.first().map(|fact| fact.trigger),
            named: LookUps::InMemory.named(&facts),
            facts: facts.into_iter().map(Arc::new).collect(),
            dedupe: None,
            known_for: Duration::MAX,
            directory: None,
            decided: None,
            notices: Vec::new(),
            raw: RawMessage(bytes::Bytes::new()),
            traceparent: None,
            is_retry: false,
        })
    }

    /// Takes back what a message merged.
    pub(super) fn undo(&mut self, facts: &[Fact]) {
        self.run(&Work { undo: vec![self.incoming(facts)], ..Work::default() });
    }

    /// Writes a grant down with the room of the visit of this number, for whose it was first, and plans that again; false, where it has none or several.
    pub(super) fn grant(&mut self, number: &VisitId, grant: &Grant) -> bool {
        let found = self.look_ups.get(&LookUps::InMemory.visit(LookUpKind::Visit, number));
        let Some(row) = found.and_then(|found| found.keys().next_back()).copied() else { return false };
        let (row, mut document) = self.surviving(row);
        let first_move = document.state.moves().iter().min_by_key(|(_, stamp)| *stamp).map(|(from, _)| from);
        let Some(patient) = first_move.or_else(|| document.state.patient()).cloned() else { return false };
        let [slot] = &mut document.rooms[..] else { return false };
        slot.grants.push(Grant { patient, ..grant.clone() });
        if let Some(shelved) = self.visits.get_mut(&row) {
            shelved.doc = document.document();
        }
        self.run(&Work { visits: vec![(row, Cause::of(CauseKind::Operator))], ..Work::default() });
        true
    }

    /// Takes messages as one batch, and then whatever in quarantine they explain.
    pub(super) fn take(&mut self, messages: &[Vec<Fact>]) {
        let mut work = Work { messages: messages.iter().map(|facts| self.incoming(facts)).collect(), ..Work::default() };
        while !work.messages.is_empty() {
            let explained: HashSet<LookUpHash> = self.run(&work).into_iter().collect();
            let waiting = std::mem::take(&mut self.waiting);
            let (retried, waiting): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|(_, hashes)| hashes.iter().any(|hash| explained.contains(hash)));
            self.waiting = waiting;
            work = Work { messages: retried.into_iter().map(|(message, _)| message).collect(), ..Work::default() };
        }
    }

    /// Wakes every visit at its own time, up to an instant.
    pub(super) fn move_to(&mut self, to: Timestamp) {
        let due = |visits: &BTreeMap<i64, Shelved>| {
            let due = visits.iter().filter_map(|(row, visit)| Some((visit.wake_at.filter(|at| *at <= to)?, *row)));
            due.min()
        };
        let mut n = 0;
        while let Some((at, row)) = due(&self.visits) {
            self.now = self.now.max(at);
            self.run(&Work { visits: vec![(row, Cause::of(CauseKind::Wake))], ..Work::default() });
            n += 1;
            assert!(n < 10_000, "a visit is woken for ever");
        }
        self.now = self.now.max(to);
    }

    /// Plans every visit again.
    pub(super) fn replan_all(&mut self) {
        let visits = self.visits.keys().map(|row| (*row, Cause::of(CauseKind::Policy))).collect();
        self.run(&Work { visits, ..Work::default() });
    }

    /// Publishes every room again as it is.
    pub(super) fn resync(&mut self) {
        let resync = self.visits.keys().map(|row| (*row, None)).collect();
        self.run(&Work { resync, ..Work::default() });
    }

    pub(super) fn rooms(&self) -> Vec<CareRoom> {
        let documents = self.visits.values().map(|visit| VisitDocument::read(&visit.doc).unwrap());
        documents.flat_map(|document| document.rooms).filter_map(|slot| slot.published).collect()
    }

    pub(super) fn n_waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether a fact moves, merges or renumbers a visit of a patient whose it is not: then nothing explains what was said before.
    pub(super) fn is_contradicted_by(&self, fact: &Fact) -> bool {
        let Some(relation) = &fact.relation else { return false };
        let moves = matches!(relation.kind, RelationKind::AccountMove | RelationKind::VisitMove);
        // What leaves an account alone says nothing of its other stays.
        let says = Says::of(fact);
        let accounts = relation.accounts.iter().filter(|_| says != Some(Says::OfOneStay));
        let numbers = relation.visits.iter().chain(accounts).flat_map(|pair| [&pair.from, &pair.into]);
        let hashes = numbers.flat_map(|id| [LookUpKind::Visit, LookUpKind::Account].map(|kind| LookUps::InMemory.visit(kind, id)));
        let rows: BTreeSet<i64> = hashes.flat_map(|hash| self.look_ups.get(&hash).into_iter().flatten().map(|(row, _)| *row)).collect();
        rows.iter().filter_map(|row| self.visits.get(row)).any(|visit| {
            let document = VisitDocument::read(&visit.doc).unwrap();
            if says == Some(Says::OfWholeAccounts) && !document.state.accounts().go_along(fact) {
                return false;
            }
            let Some(bound) = document.state.patient() else { return false };
            let mut patient = visit.patient;
            while let Some((Some(next), _)) = self.patients.get(&patient) {
                patient = *next;
            }
            let record = PatientRecord::read(&self.patients[&patient].1).unwrap();
            let theirs = if moves { relation.patients.iter().map(|pair| &pair.from).collect() } else { vec![&fact.patient] };
            !theirs.into_iter().any(|id| record.are_one(id, bound))
        })
    }

    /// Whether a fact names nothing but an account that more than one visit has: which of them it means is decided when it arrives.
    pub(super) fn is_ambiguous(&self, fact: &Fact) -> bool {
        let Some(named) = fact.visit.as_ref().filter(|named| named.is_account) else { return false };
        let under_account = self.look_ups.get(&LookUps::InMemory.visit(LookUpKind::Account, &named.id)).into_iter().flatten();
        let mut stays = BTreeSet::new();
        for (row, _) in under_account {
            let (row, document) = self.surviving(*row);
            let was_of_it = || document.state.accounts().was_of(&named.id, fact.stamp).unwrap_or(true);
            if !document.merges.iter().any(|merge| merge.concluded) || was_of_it() {
                stays.insert(self.goes_on_as(row));
            }
        }
        stays.len() > 1
    }

    /// The row that counts for this one.
    fn surviving(&self, row: i64) -> (i64, VisitDocument) {
        let document = VisitDocument::read(&self.visits[&row].doc).unwrap();
        document.absorbed_by.map_or((row, document), |next| self.surviving(next))
    }

    /// The row of the last number of a stay.
    fn goes_on_as(&self, row: i64) -> i64 {
        let (row, document) = self.surviving(row);
        document.merges.iter().find(|merge| merge.concluded).map_or(row, |merge| self.goes_on_as(merge.into))
    }

    fn run(&mut self, work: &Work) -> Vec<LookUpHash> {
        let (mut visits, mut patients) = (BTreeSet::new(), BTreeSet::new());
        let mut with_facts = BTreeSet::new();
        let look_ups = LookUps::InMemory;
        let mut wanted: HashSet<LookUpHash> = work.messages.iter().chain(&work.undo).flat_map(|message| message.named.iter().copied()).collect();
        visits.extend(work.visits.iter().map(|(row, _)| *row).chain(work.resync.iter().map(|(row, _)| *row)));
        for _ in 0..200 {
            self.cost.starts += 1;
            let mut world = self.load(&wanted, &visits, &patients, &with_facts);
            let policy = Arc::clone(&self.policy);
            let roster = Arc::clone(&self.roster);
            let brake = &Brake::RELEASED;
            let rules = Rules { policy: &policy, roster: &roster, now: self.now, ids: &self.ids, look_ups: &look_ups, brake, epoch: 1 };
            let is_new = match take_all(&mut world, &mut Hearing::new(&roster, Said::default()), work, &HashMap::default(), &rules) {
                Ok(done) => {
                    for (message, verdict) in work.messages.iter().zip(&done.verdicts) {
                        if verdict.disposition == Disposition::Quarantined {
                            let (patient, visit) = waits_for(message, verdict, &look_ups);
                            self.waiting.push((Arc::clone(message), patient.into_iter().chain(visit).collect()));
                        }
                    }
                    self.keep(world);
                    return done.explained;
                }
                Err(Need::Facts(row)) => with_facts.insert(row),
                Err(Need::Visit(row)) => visits.insert(row),
                Err(Need::Patient(row)) => patients.insert(row),
                Err(Need::LookUp(hash)) => wanted.insert(hash),
            };
            assert!(is_new, "a batch needs what it already has");
        }
        panic!("a batch never ends");
    }

    fn load(&mut self, wanted: &HashSet<LookUpHash>, visits: &BTreeSet<i64>, patients: &BTreeSet<i64>, with_facts: &BTreeSet<i64>) -> World {
        let mut world = World::new(RoomIds::Counted(self.n_rooms));
        world.asked = Some(wanted.clone());
        let (mut visits, mut patients) = (visits.clone(), patients.clone());
        for hash in wanted {
            for (row, kind) in self.look_ups.get(hash).into_iter().flatten().rev() {
                world.targets.entry(*hash).or_default().push((*kind, *row));
                if *kind == LookUpKind::Patient {
                    patients.insert(*row)
                } else {
                    visits.insert(*row)
                };
            }
        }
        patients.extend(visits.iter().filter_map(|row| self.visits.get(row)).map(|visit| visit.patient));
        let mut queue: Vec<i64> = patients.iter().copied().collect();
        while let Some(next) = queue.pop().and_then(|row| self.patients.get(&row)?.0) {
            if patients.insert(next) {
                queue.push(next);
            }
        }
        let open = self.visits.iter().filter(|(_, visit)| visit.is_open && patients.contains(&visit.patient));
        visits.extend(open.map(|(row, _)| *row));
        for row in patients {
            let Some((absorbed_into, doc)) = self.patients.get(&row) else { continue };
            self.cost.bytes_read += doc.bytes.len();
            let record = PatientRecord::read(doc).unwrap();
            world.patients.insert(row, Box::new(PatientEntry { version: 1, absorbed_into: *absorbed_into, key: None, record, is_dirty: false }));
        }
        for row in visits {
            let Some(shelved) = self.visits.get(&row) else { continue };
            self.cost.bytes_read += shelved.doc.bytes.len();
            let document = VisitDocument::read(&shelved.doc).unwrap();
            let facts = with_facts.contains(&row).then(|| {
                let owners = std::iter::once(&row).chain(&document.absorbed);
                owners
                    .flat_map(|owner| self.facts.get(owner).into_iter().flatten())
                    .map(|(_, doc)| Arc::new(Fact::read(doc).unwrap()))
                    .collect::<Vec<_>>()
            });
            self.cost.facts_read += facts.as_ref().map_or(0, Vec::len);
            world.visits.insert(
                row,
                Box::new(VisitEntry {
                    patient: shelved.patient,
                    version: 1,
                    document,
                    facts,
                    new_facts: Vec::new(),
                    unpublished: Vec::new(),
                    status: shelved.status.clone(),
                    is_open: shelved.is_open,
                    wake_at: shelved.wake_at,
                    updated_at: Timestamp::from_micros(0),
                    over_at: None,
                    is_dirty: false,
                }),
            );
        }
        world.settle_owners();
        world
    }

    fn keep(&mut self, world: World) {
        for change in &world.changes {
            let n_events = self.published.entry(change.event.room_id).or_default();
            *n_events += 1;
            assert_eq!(change.event.room_version, *n_events, "versions of a room have no gap");
        }
        for (hash, kind, row) in world.new_look_ups {
            self.look_ups.entry(hash).or_default().entry(row).or_insert(kind);
        }
        for (row, entry) in world.patients.iter().filter(|(_, entry)| entry.is_dirty) {
            let doc = entry.record.document();
            self.cost.bytes_written += doc.bytes.len();
            self.patients.insert(*row, (entry.absorbed_into, doc));
        }
        for (row, visit) in world.visits {
            let owned = self.facts.entry(row).or_default();
            for fact in &visit.new_facts {
                if owned.iter().all(|(hash, _)| *hash != fact.hash) {
                    let doc = fact.document();
                    self.cost.bytes_written += doc.bytes.len();
                    owned.push((fact.hash, doc));
                }
            }
            if visit.is_dirty {
                let doc = visit.document.document();
                self.cost.bytes_written += doc.bytes.len();
                let VisitEntry { patient, status, is_open, wake_at, .. } = *visit;
                self.visits.insert(row, Shelved { patient, status, is_open, wake_at, doc });
            }
        }
        if let RoomIds::Counted(n) = world.room_ids {
            self.n_rooms = n;
        }
    }
}
