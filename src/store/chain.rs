//! The audit chain: every audit row holds the SHA-256 of the row before it and of itself, so that none can be changed or taken out unseen.
//!
//! Each daemon writes a chain of its own (its lane), since two chains need no common lock. A row's id is its number in its chain times 1024, plus the
//! lane. The end of each chain is kept in `meta` too, so that the last rows cannot be cut off unseen either. What is hashed is the sealed body: the
//! chain can be verified without any key, and still holds when a patient's key was destroyed.

use std::collections::BTreeMap;

use ring::digest::Context;
use ring::digest::SHA256;
use uuid::Uuid;

use crate::time::Timestamp;

const LANES: i64 = 1024;

/// The end of one chain.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Head {
    pub(super) number: i64,
    pub(super) hash: [u8; 32],
}

impl Head {
    pub(super) fn next_id(self, lane: u16) -> i64 {
        (self.number + 1) * LANES + i64::from(lane) % LANES
    }

    /// As it stands in `meta`.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        [self.number.to_be_bytes().as_slice(), self.hash.as_slice()].concat()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (number, hash) = bytes.split_first_chunk::<8>()?;
        Some(Self { number: i64::from_be_bytes(*number), hash: hash.try_into().ok()? })
    }

    /// The end of the chain after one more row.
    pub(super) fn extend(self, link: &Link<'_>) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(&self.hash);
        context.update(&link.id.to_be_bytes());
        context.update(&link.at_us.to_be_bytes());
        context.update(&(link.kind.len() as u64).to_be_bytes());
        context.update(link.kind.as_bytes());
        match link.room_id {
            Some(room) => {
                context.update(&[1]);
                context.update(room.as_bytes());
            }
            None => context.update(&[0]),
        }
        for number in [link.room_version, link.journal_id] {
            context.update(&[u8::from(number.is_some())]);
            context.update(&number.unwrap_or(0).to_be_bytes());
        }
        context.update(link.body);
        let hash = context.finish().as_ref().first_chunk().copied().unwrap_or_default();
        Self { number: self.number + 1, hash }
    }
}

/// A row as it is hashed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link<'a> {
    pub(super) id: i64,
    pub(super) at_us: i64,
    pub(super) kind: &'a str,
    pub(super) room_id: Option<Uuid>,
    pub(super) room_version: Option<i64>,
    pub(super) journal_id: Option<i64>,
    pub(super) body: &'a [u8],
}

/// What is wrong with a row of the audit trail, or with the place where one should stand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Misfit {
    /// It is not as it was written, or not what was written there.
    Changed,
    /// Rows between it and the one before it in its chain are gone.
    Gap {
        /// How many.
        n_missing: u64,
    },
    /// It and the rows after it, up to the recorded end of the chain, are gone.
    CutOff {
        /// How many there are with it.
        n_missing: u64,
    },
    /// It is the last of its chain and fits, but another end is recorded.
    OtherEnd,
    /// It stands after the recorded end of its chain, or its chain has no recorded end.
    BeyondEnd,
    /// It fits into its chain, but its body does not open with the key that it names.
    Body,
}

/// A row of the audit trail that does not fit, or is not there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// What is wrong with it.
    pub misfit: Misfit,
    /// The row.
    pub id: i64,
    /// Its time; absent when the row is gone.
    pub at: Option<Timestamp>,
    /// Its kind, as it stands there now; absent when the row is gone.
    pub kind: Option<String>,
}

impl Fault {
    pub(super) fn of(misfit: Misfit, link: &Link<'_>) -> Self {
        Self { misfit, id: link.id, at: Some(Timestamp::from_micros(link.at_us)), kind: Some(link.kind.to_owned()) }
    }

    /// The chain that the row belongs to.
    pub const fn lane(&self) -> i64 {
        lane_of(self.id)
    }
}

/// The chain that a row belongs to.
pub(super) const fn lane_of(id: i64) -> i64 {
    id & (LANES - 1)
}

/// A row's number in its chain.
pub(super) const fn number_of(id: i64) -> i64 {
    id >> LANES.trailing_zeros()
}

/// The row with this number in a chain.
pub(super) const fn id_of(lane: i64, number: i64) -> i64 {
    number.saturating_mul(LANES).saturating_add(lane)
}

/// The ends of the chains, by lane, from the lanes and the ends as they stand in `meta`. One that cannot be read is none: then its rows have no end.
pub(super) fn ends(stored: impl IntoIterator<Item = (String, Vec<u8>)>) -> BTreeMap<i64, Head> {
    stored.into_iter().filter_map(|(key, end)| Some((key.rsplit('/').next()?.parse().ok()?, Head::from_bytes(&end)?))).collect()
}

/// Walks the chains, row by row in the order of their ids, up to the ends that were recorded when it began. What is written meanwhile is left out:
/// such rows may come behind the place where it reads.
#[derive(Debug)]
pub(super) struct Verification {
    lanes: BTreeMap<i64, Lane>,
    /// By lane, the first row that stands after the end, and the number of the last.
    beyond: BTreeMap<i64, (Fault, i64)>,
}

/// How far one chain was walked.
#[derive(Debug)]
struct Lane {
    end: Head,
    at: Head,
    /// After a row that did not fit: the hash that it should have had, for it may be that the rest is right and only this was changed.
    other: Option<[u8; 32]>,
}

/// What a row is to its chain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Checked {
    Fits,
    Not(Misfit),
    /// It stands after the end and is looked at when all is read.
    Later,
}

impl Verification {
    /// Begins with the ends of the chains, read before any row.
    pub(super) fn new(ends: BTreeMap<i64, Head>) -> Self {
        let lane = |end| Lane { end, at: Head::default(), other: None };
        Self { lanes: ends.into_iter().map(|(number, end)| (number, lane(end))).collect(), beyond: BTreeMap::new() }
    }

    /// How many rows there should be.
    pub(super) fn n_expected(&self) -> u64 {
        self.lanes.values().map(|lane| u64::try_from(lane.end.number).unwrap_or(0)).sum()
    }

    /// Looks at the next row.
    pub(super) fn check(&mut self, link: &Link<'_>, chain: &[u8]) -> Checked {
        let number = number_of(link.id);
        let Some(lane) = self.lanes.get_mut(&lane_of(link.id)).filter(|lane| number <= lane.end.number) else {
            let (_, last) = self.beyond.entry(lane_of(link.id)).or_insert_with(|| (Fault::of(Misfit::BeyondEnd, link), number));
            *last = number;
            return Checked::Later;
        };
        lane.check(number, link, chain).map_or(Checked::Fits, Checked::Not)
    }

    /// What is not there, and what stands after the ends that are recorded by now.
    pub(super) fn finish(self, ends_now: &BTreeMap<i64, Head>) -> Vec<Fault> {
        let short = self.lanes.into_iter().filter(|(_, lane)| lane.at.number < lane.end.number).map(|(number, lane)| {
            let n_missing = u64::try_from(lane.end.number.saturating_sub(lane.at.number)).unwrap_or(0);
            let id = id_of(number, lane.at.number.saturating_add(1));
            Fault { misfit: Misfit::CutOff { n_missing }, id, at: None, kind: None }
        });
        let is_recorded = |lane: &i64, last: i64| ends_now.get(lane).is_some_and(|end| end.number >= last);
        let beyond = self.beyond.into_iter().filter(|(lane, (_, last))| !is_recorded(lane, *last)).map(|(_, (fault, _))| fault);
        short.chain(beyond).collect()
    }
}

impl Lane {
    fn check(&mut self, number: i64, link: &Link<'_>, chain: &[u8]) -> Option<Misfit> {
        let expected = self.at.number + 1;
        if number < expected {
            // No chain has such a number.
            return Some(Misfit::Changed);
        }
        let should_be = self.at.extend(link).hash;
        let or_else = self.other.take().map(|hash| Head { hash, ..self.at }.extend(link).hash);
        // Whatever is wrong here, the next row is held against what stands.
        self.at = Head { number, hash: chain.try_into().unwrap_or_default() };
        if number > expected {
            return Some(Misfit::Gap { n_missing: u64::try_from(number - expected).unwrap_or(0) });
        }
        if chain != should_be && or_else.is_none_or(|hash| chain != hash) {
            self.other = Some(should_be);
            return Some(Misfit::Changed);
        }
        (number == self.end.number && self.at.hash != self.end.hash).then_some(Misfit::OtherEnd)
    }
}
