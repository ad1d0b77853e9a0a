//! Grants among the messages: whatever was said since they were given, in whatever order it comes, somebody is in the same rooms on them.
//!
//! Left out are visits that get other numbers or share accounts, and those that take part in several merges: which of two rooms goes on there depends on
//! what was heard first, and a grant goes with its room.

use std::collections::BTreeSet;

use crate::care::fact::RelationKind;
use crate::care::grant::Grant;
use crate::ids::Identifier;
use crate::ids::JournalId;
use crate::ids::PatientId;
use crate::ids::UserId;
use crate::ids::VisitId;
use crate::intake::law::Court;
use crate::intake::law::MINUTE;
use crate::intake::law::Telling;
use crate::intake::law::arrival;
use crate::intake::law::broken;
use crate::intake::law::history::START;
use crate::intake::law::history::Said;
use crate::intake::law::history::history;
use crate::intake::law::number;
use crate::intake::law::rooms;
use crate::intake::law::shelf::Shelf;
use crate::intake::law::story;
use crate::phi::Phi;
use crate::random::Random;
use crate::time::Timestamp;

/// A grant to somebody whom no message names, as if it had been given before anything was said.
fn grant(until: Timestamp) -> Grant {
    Grant {
        number: JournalId(1),
        user: UserId::from("guest"),
        patient: PatientId(Identifier::new("", "", "")),
        since: START,
        until,
        heard: Timestamp::from_micros(START.as_micros() - 1),
        is_explicit: false,
        reason: Phi::from("in an emergency"),
        uid: 0,
        login: None,
    }
}

/// The visits that have one number for as long as they are told of, and go over to another patient once at most.
fn visits(said: &[Said]) -> Vec<VisitId> {
    let facts = || said.iter().flat_map(|said| &said.facts);
    let relations = || facts().filter_map(|fact| fact.relation.as_ref());
    let pairs = || relations().flat_map(|relation| relation.visits.iter().chain(&relation.accounts).map(move |pair| (relation.kind, pair)));
    let pairs: Vec<_> = pairs().filter(|(_, pair)| pair.from != pair.into).collect();
    let n_named = |id: &VisitId| pairs.iter().filter(|(_, pair)| pair.from == *id || pair.into == *id).count();
    // What is merged into it, and only for a while, may raise its level for a while.
    let is_plain = |kind: RelationKind, from: &VisitId, into: &VisitId| kind == RelationKind::Visit && n_named(from) == 1 && n_named(into) == 1;
    let doubtful = pairs.iter().filter(|(kind, pair)| !is_plain(*kind, &pair.from, &pair.into));
    let mut left_out: BTreeSet<&VisitId> = doubtful.flat_map(|(_, pair)| [&pair.from, &pair.into]).collect();
    for named in facts().filter_map(|fact| fact.visit.as_ref()) {
        if named.is_account || named.account.is_some() || named.alternate.is_some() || named.preadmit.is_some() {
            left_out.extend([Some(&named.id), named.account.as_ref(), named.alternate.as_ref(), named.preadmit.as_ref()].into_iter().flatten());
        }
    }
    let moves =
        |visit: &VisitId| relations().filter(|relation| relation.visits.iter().any(|pair| pair.from == *visit && pair.into == *visit)).count();
    let named: BTreeSet<&VisitId> = facts().filter_map(|fact| fact.visit.as_ref()).map(|named| &named.id).collect();
    named.into_iter().filter(|visit| !left_out.contains(visit) && moves(visit) < 2).cloned().collect()
}

/// Tells a history in order with the grants behind it, and in another order with the grants among it; gives back the first difference, else how often
/// somebody was seen to be in a room by a grant, and how many grants ended before their time.
fn judge(court: &Court, said: &[Said], telling: &Telling, seed: u64) -> Result<(usize, usize), String> {
    let arrival = arrival(said);
    let Some(mut plain) = court.in_order(said, &telling.told(), arrival) else { return Ok((0, 0)) };
    let grant = grant(arrival.plus(MINUTE * 100));
    let given: Vec<VisitId> = visits(said).into_iter().filter(|visit| plain.grant(visit, &grant)).collect();
    let mut other = Shelf::new(arrival, &court.policy, &court.roster);
    let (mut rng, mut to_give) = (Random::new(seed ^ 0x62a7), given.clone());
    for (_, message, ..) in &telling.deliveries {
        to_give.retain(|visit| !(rng.one_in(3) && other.grant(visit, &grant)));
        other.take(std::slice::from_ref(&said[*message].facts));
    }
    to_give.retain(|visit| !other.grant(visit, &grant));
    assert!(to_give.is_empty(), "what has a room in order has one in any order");
    let (mut n_seen, mut n_ended) = (0, 0);
    for (index, minutes) in [1, 20, 99, 100, 300].into_iter().enumerate() {
        for shelf in [&mut plain, &mut other] {
            shelf.move_to(arrival.plus(MINUTE * minutes));
        }
        let (expected, found) = (rooms(&plain), rooms(&other));
        if expected != found {
            return Err(format!("after {minutes} minutes\n  in order: {expected:#?}\n  otherwise: {found:#?}"));
        }
        let n_in = expected.iter().filter(|room| room.contains("guest:")).count();
        if minutes >= 100 && n_in > 0 {
            return Err(format!("a grant is over and somebody is there on it: {expected:#?}"));
        }
        n_seen += n_in;
        n_ended += if index == 0 { given.len() - n_in } else { 0 };
    }
    Ok((n_seen, n_ended))
}

#[test]
fn any_order_ends_with_the_same_people_let_in() {
    let court = Court::new();
    let (first, n) = (number("WARDROOM_LAW_SEED", 1), number("WARDROOM_LAW_CASES", 300));
    let counts = std::sync::Mutex::new((0, 0));
    let fails = |seed| {
        let said = history(seed);
        match judge(&court, &said, &Telling::any(seed, said.len()), seed) {
            Ok((n_seen, n_ended)) => {
                let mut counts = counts.lock().unwrap();
                *counts = (counts.0 + n_seen, counts.1 + n_ended);
                false
            }
            Err(_) => true,
        }
    };
    let broken = broken(first, n, &fails);
    let mut text = String::new();
    for seed in &broken {
        let said = history(*seed);
        let telling = Telling::any(*seed, said.len()).shrink(|telling| judge(&court, &said, telling, *seed).is_err());
        text += &format!("seed {seed}: {}\n{}", judge(&court, &said, &telling, *seed).err().unwrap_or_default(), story(&said, &telling));
    }
    assert!(broken.is_empty(), "{} of {n} histories break the law\n{text}", broken.len());
    let (n_seen, n_ended) = counts.into_inner().unwrap();
    assert!(n < 300 || (n_seen > 50 && n_ended > 20), "too little was looked at: {n_seen} seen, {n_ended} ended");
}
