//! The law of the core: any permutation, duplication or re-batching of one set of messages ends in the same rooms.
//!
//! Whole histories are made at random and told twice: in the order in which they were recorded, one message after another; and in any order, some of them
//! again under another control id, several in one batch, everything written out and read back between batches. Then both are watched as time passes.
//! Left out, because arrival decides there and the design says so: equal stamps, messages that name no visit (or an account alone that several visits
//! have), words under a patient whom nothing ever explains, and what is older than the late window.

mod cases;
mod cost;
mod grants;
mod history;
mod shelf;
pub(in crate::intake) mod spoken;

use std::sync::Arc;
use std::time::Duration;

use crate::care::fact::Fact;
use crate::care::policy::Policy;
use crate::care::room::CareRoom;
use crate::care::room::RoomStatus;
use crate::care::roster::Roster;
use crate::care::roster::StaffIdPattern;
use crate::care::roster::StaffMember;
use crate::care::roster::Unit;
use crate::ids::CareRoomId;
use crate::ids::Facility;
use crate::ids::GroupId;
use crate::ids::PointOfCare;
use crate::ids::Role;
use crate::ids::UserId;
use crate::intake::law::history::Said;
use crate::intake::law::history::UNITS;
use crate::intake::law::history::history;
use crate::intake::law::shelf::Shelf;
use crate::random::Random;
use crate::time::Timestamp;

/// What nothing explains waits in any order, and arrival decides.
const OUT_OF_REACH: &str = "something waits for ever, names an account of several visits, or takes a visit from a stranger";
const MINUTE: Duration = Duration::from_mins(1);

fn roster() -> Roster {
    let member = |user: &str, group: &str, active: bool| StaffMember {
        user: UserId::from(user),
        ids: vec![StaffIdPattern { authority: None, id_type: None, value: user.to_owned() }],
        groups: Some(GroupId::from(group)).into_iter().filter(|group| !group.is_empty()).collect(),
        active,
    };
    let mut staff: Vec<StaffMember> = (0..6).map(|n| member(&format!("d{n}"), if n < 2 { "g4N" } else { "" }, n != 5)).collect();
    staff.extend(
        UNITS
            .iter()
            .flat_map(|unit| [member(&format!("n1{unit}"), &format!("g{unit}"), true), member(&format!("n2{unit}"), &format!("g{unit}"), true)]),
    );
    let units = UNITS.iter().filter(|unit| **unit != "NOWHERE").map(|unit| {
        let mut known = Unit { group: Some(GroupId::new(format!("g{unit}"))), ..Unit::default() };
        known.flags.sensitive = *unit == "PSY";
        known.flags.part2 = *unit == "DETOX";
        known.flags.no_auto_join = *unit == "POOL";
        ((Facility::from("GHH"), PointOfCare::from(*unit)), known)
    });
    Roster::new(staff, units, false)
}

/// A room as the design defines sameness; all that is over is the same as never published.
fn seen(room: &CareRoom) -> Option<String> {
    let state = &room.state;
    if matches!(state.status, RoomStatus::Closed | RoomStatus::Cancelled | RoomStatus::Merged) {
        return None;
    }
    // The name ends in the room's own code of four letters.
    let name = state.name.as_str();
    let name = name.get(..name.len().saturating_sub(4)).unwrap_or(name).trim();
    let place = state.location.as_ref().map(|shown| {
        let place = &shown.place;
        format!("{}/{}/{}", place.point_of_care, place.room, place.bed)
    });
    let whereabouts = state.whereabouts.as_ref().map(|place| format!("{}/{}", place.point_of_care, place.bed));
    let members: Vec<String> = state
        .members
        .iter()
        .map(|member| format!("{}:{:?}:{:?}", member.user, member.permission, member.roles.iter().map(Role::as_str).collect::<Vec<_>>()))
        .collect();
    Some(format!(
        "{} {:?} place={place:?} where={whereabouts:?} name={name:?} {:?} patient={}/{:?}/{:?}/{:?} class={:?} service={:?} flags={:?} cover={:?} {members:?} unresolved={}",
        state.visit.id.0.value.as_str(),
        state.status,
        state.confidentiality,
        state.patient.id.0.value.as_str(),
        state.patient.display.expose(),
        state.patient.birth_date.expose(),
        state.patient.sex.expose(),
        state.visit.class,
        state.visit.service,
        state.flags,
        state.coverage,
        state.unresolved.len(),
    ))
}

fn rooms(shelf: &Shelf) -> Vec<String> {
    let mut rooms: Vec<String> = shelf.rooms().iter().filter_map(seen).collect();
    rooms.sort();
    rooms
}

/// The versions of all rooms that are not over.
fn versions(shelf: &Shelf) -> Vec<(CareRoomId, u64)> {
    let mut versions: Vec<_> = shelf.rooms().iter().filter(|room| seen(room).is_some()).map(|room| (room.id, room.version)).collect();
    versions.sort();
    versions
}

/// One way of telling a history: for each delivery its place in the order, which message, whether under another control id, and whether a batch ends.
#[derive(Clone, Debug)]
struct Telling {
    deliveries: Vec<(u64, usize, bool, bool)>,
}

impl Telling {
    fn any(seed: u64, n: usize) -> Self {
        let mut rng = Random::new(seed ^ 0x5eed);
        let mut deliveries = Vec::new();
        let nearly_sorted = rng.one_in(3);
        for message in 0..n {
            let times = if rng.one_in(5) { 2 } else { 1 };
            for time in 0..times {
                let place = if nearly_sorted { u64::try_from(message + rng.below(4)).unwrap() << 32 | rng.next() >> 32 } else { rng.next() };
                deliveries.push((place, message, time > 0, rng.one_in(3)));
            }
        }
        deliveries.sort_unstable();
        Self { deliveries }
    }

    fn without(&self, delivery: usize) -> Self {
        let mut deliveries = self.deliveries.clone();
        deliveries.remove(delivery);
        Self { deliveries }
    }

    /// The messages that it tells at all, in the order in which they were recorded.
    fn told(&self) -> Vec<usize> {
        let mut told: Vec<usize> = self.deliveries.iter().map(|(_, message, ..)| *message).collect();
        told.sort_unstable();
        told.dedup();
        told
    }

    /// Takes away what is not needed for it to fail.
    fn shrink(mut self, fails: impl Fn(&Self) -> bool) -> Self {
        loop {
            let shorter = (0..self.deliveries.len()).rev().map(|at| self.without(at)).find(|shorter| fails(shorter));
            match shorter {
                Some(shorter) => self = shorter,
                None => return self,
            }
        }
    }
}

/// When all of a history arrives.
fn arrival(said: &[Said]) -> Timestamp {
    said.last().map_or(history::START, |said| said.facts[0].stamp.recorded).plus(MINUTE)
}

struct Court {
    policy: Arc<Policy>,
    roster: Arc<Roster>,
}

impl Court {
    fn new() -> Self {
        let policy = Policy { grace_floor: Duration::ZERO, publish_expected: true, ..Policy::default() };
        Self { policy: Arc::new(policy), roster: Arc::new(roster()) }
    }

    /// Tells a history twice; gives back the first difference.
    fn judge(&self, said: &[Said], telling: &Telling) -> Result<(), String> {
        let arrival = arrival(said);
        let Some(mut plain) = self.in_order(said, &telling.told(), arrival) else { return Err(OUT_OF_REACH.to_owned()) };
        let mut other = Shelf::new(arrival, &self.policy, &self.roster);
        let mut batch: Vec<Vec<Fact>> = Vec::new();
        for (_, message, again, ends) in &telling.deliveries {
            let mut facts = said[*message].facts.clone();
            if *again {
                for fact in &mut facts {
                    fact.stamp.sent = fact.stamp.sent.plus(Duration::from_secs(7));
                }
            }
            batch.push(facts);
            if *ends {
                other.take(&std::mem::take(&mut batch));
            }
        }
        other.take(&batch);
        for minutes in [1, 4, 20, 70, 300, 900, 2000, 60 * 24 * 70] {
            let at = arrival.plus(MINUTE * minutes);
            for shelf in [&mut plain, &mut other] {
                shelf.move_to(at);
            }
            let (expected, found) = (rooms(&plain), rooms(&other));
            if expected != found {
                return Err(format!("after {minutes} minutes\n  in order: {expected:#?}\n  otherwise: {found:#?}"));
            }
            if plain.n_waiting() != other.n_waiting() {
                return Err(format!("{} wait in order, {} otherwise", plain.n_waiting(), other.n_waiting()));
            }
            // Whoever sleeps has nothing to say: planning all again changes no room that is not over.
            for shelf in [&mut plain, &mut other] {
                let before = versions(shelf);
                shelf.replan_all();
                if before != versions(shelf) {
                    return Err(format!("after {minutes} minutes a room changed that was not woken\n{:#?}", rooms(shelf)));
                }
            }
        }
        Ok(())
    }

    /// A history told in order, one message after another; nothing, where it is not within the reach of the law.
    fn in_order(&self, said: &[Said], told: &[usize], arrival: Timestamp) -> Option<Shelf> {
        let mut plain = Shelf::new(arrival, &self.policy, &self.roster);
        for index in told {
            if said[*index].facts.iter().any(|fact| plain.is_contradicted_by(fact)) {
                return None;
            }
            plain.take(std::slice::from_ref(&said[*index].facts));
        }
        let is_ambiguous = told.iter().flat_map(|index| &said[*index].facts).any(|fact| plain.is_ambiguous(fact));
        (plain.n_waiting() == 0 && !is_ambiguous).then_some(plain)
    }

    fn fails(&self, said: &[Said], telling: &Telling) -> bool {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.judge(said, telling).is_err_and(|why| why != OUT_OF_REACH))).unwrap_or(true)
    }
}

fn brief(fact: &Fact) -> String {
    let mut out = format!("{} {:?}", fact.trigger, fact.act);
    out += &format!(" t={} by_sender={}", fact.stamp.recorded.since(history::START).as_secs() / 60, fact.recorded_by_sender);
    out += &format!(" patient={}", fact.patient.0.value.as_str());
    if let Some(visit) = &fact.visit {
        let value = |id: &Option<crate::ids::VisitId>| id.as_ref().map(|id| id.0.value.as_str().to_owned());
        out += &format!(
            " visit={}{} account={:?} pre={:?}",
            visit.id.0.value.as_str(),
            if visit.is_account { "(acc)" } else { "" },
            value(&visit.account),
            value(&visit.preadmit)
        );
    }
    if let Some(relation) = &fact.relation {
        out += &format!(" {:?}", relation.kind);
        for pair in &relation.patients {
            out += &format!(" {}>{}", pair.from.0.value.as_str(), pair.into.0.value.as_str());
        }
        for pair in relation.visits.iter().chain(&relation.accounts) {
            out += &format!(" {}>{}", pair.from.0.value.as_str(), pair.into.0.value.as_str());
        }
    }
    if let Some(at) = fact.occurred_at {
        out += &format!(" occurred={}", at.as_micros().saturating_sub(history::START.as_micros()) / 60_000_000);
    }
    if let Some(movement) = &fact.movement {
        out += &format!(" zbe={:?}{}", movement.ids, if movement.historic { " historic" } else { "" });
    }
    out += &format!(" {}", serde_json::to_string(&fact.stay).unwrap());
    out += &format!(" {}", serde_json::to_string(&fact.person).unwrap());
    out
}

fn story(said: &[Said], telling: &Telling) -> String {
    let mut out = String::new();
    for (_, message, again, ends) in &telling.deliveries {
        for fact in &said[*message].facts {
            out += &format!("  #{message}{} {}\n", if *again { " again" } else { "" }, brief(fact));
        }
        if *ends {
            out += "  --\n";
        }
    }
    out
}

#[expect(clippy::disallowed_methods, reason = "how long a test runs is no configuration")]
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The histories that break the law, among those from `first` on, with what makes each of them break it.
fn broken(first: u64, n: u64, fails: &(impl Fn(u64) -> bool + Sync)) -> Vec<u64> {
    let at_most = usize::try_from(number("WARDROOM_LAW_BROKEN", 1)).unwrap();
    let next = std::sync::atomic::AtomicU64::new(first);
    let found = std::sync::Mutex::new(Vec::new());
    let n_threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..n_threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed >= first + n || found.lock().unwrap().len() >= at_most {
                        return;
                    }
                    if fails(seed) {
                        found.lock().unwrap().push(seed);
                    }
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap();
    found.sort_unstable();
    found
}

#[test]
fn any_order_ends_in_the_same_rooms() {
    let court = Court::new();
    let (first, n) = (number("WARDROOM_LAW_SEED", 1), number("WARDROOM_LAW_CASES", 300));
    let broken = broken(first, n, &|seed| {
        let said = history(seed);
        court.fails(&said, &Telling::any(seed, said.len()))
    });
    let mut text = String::new();
    for seed in &broken {
        let said = history(*seed);
        let telling = Telling::any(*seed, said.len()).shrink(|telling| court.fails(&said, telling));
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| court.judge(&said, &telling)));
        let why = told.unwrap_or_else(|_| Err("panicked".to_owned())).err().unwrap_or_default();
        text += &format!("seed {seed}: {why}\n{}", story(&said, &telling));
    }
    assert!(broken.is_empty(), "{} of {n} histories break the law\n{text}", broken.len());
}

#[test]
fn any_order_of_messages_ends_in_the_same_rooms() {
    let court = Court::new();
    let (first, n) = (number("WARDROOM_LAW_SEED", 1), number("WARDROOM_LAW_CASES", 300) / 4);
    let differs = |said: &[Said], telling: &Telling| {
        if court.in_order(said, &telling.told(), arrival(said)).is_none() {
            return Ok(());
        }
        spoken::judge(&court.policy, &court.roster, said, telling)
    };
    let broken = broken(first, n, &|seed| {
        let said = history(seed);
        differs(&said, &Telling::any(seed, said.len())).is_err()
    });
    let mut text = String::new();
    for seed in &broken {
        let said = history(*seed);
        let telling = Telling::any(*seed, said.len()).shrink(|telling| differs(&said, telling).is_err());
        text += &format!("seed {seed}: {}", differs(&said, &telling).err().unwrap_or_default());
    }
    assert!(broken.is_empty(), "{} of {n} histories break the law\n{text}", broken.len());
}

#[test]
fn a_resync_between_any_messages_changes_nothing_but_the_versions() {
    let court = Court::new();
    let mut n_again = 0;
    for seed in 1..=40 {
        let (said, mut rng) = (history(seed), Random::new(seed));
        let arrival = arrival(&said);
        let [mut plain, mut other] = [(); 2].map(|()| Shelf::new(arrival, &court.policy, &court.roster));
        let mut added: std::collections::BTreeMap<CareRoomId, u64> = std::collections::BTreeMap::new();
        let mut resync = |shelf: &mut Shelf| {
            shelf.rooms().iter().for_each(|room| *added.entry(room.id).or_default() += 1);
            shelf.resync();
        };
        for said in &said {
            for shelf in [&mut plain, &mut other] {
                shelf.take(std::slice::from_ref(&said.facts));
            }
            if rng.one_in(3) {
                resync(&mut other);
            }
        }
        for minutes in [20, 300, 60 * 24 * 70] {
            for shelf in [&mut plain, &mut other] {
                shelf.move_to(arrival.plus(MINUTE * minutes));
            }
            resync(&mut other);
        }
        let expected = plain.rooms().into_iter().map(|room| {
            let n = added.get(&room.id).copied().unwrap_or(0);
            n_again += n;
            CareRoom { version: room.version + n, ..room }
        });
        assert_eq!(expected.collect::<Vec<_>>(), other.rooms(), "history {seed}");
    }
    assert!(n_again > 100, "most histories have rooms: {n_again}");
}

#[test]
fn what_the_generator_makes_is_within_the_reach_of_the_law() {
    let court = Court::new();
    let n_out = (1..=100).filter(|seed| {
        let said = history(*seed);
        let in_order = Telling { deliveries: (0..said.len()).map(|index| (0, index, false, true)).collect() };
        court.judge(&said, &in_order).is_err()
    });
    assert!(n_out.count() <= 2, "nearly every history is explained to its end");
}
