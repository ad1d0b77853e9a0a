//! The audit chain: every audit row holds the SHA-256 of the row before it and of itself, so that none can be changed or taken out unseen.
//!
//! Each daemon writes a chain of its own (its lane), since two chains need no common lock. A row's id is its number in its chain times 1024, plus the
//! lane. The end of each chain is kept in `meta` too, so that the last rows cannot be cut off unseen either. What is hashed is the sealed body: the
//! chain can be verified without any key, and still holds when a patient's key was destroyed.

use std::collections::HashMap;

use ring::digest::Context;
use ring::digest::SHA256;
use uuid::Uuid;

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

/// What a verification of the chains found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ChainVerdict {
    /// Every row is as it was written.
    Whole {
        /// How many rows were read.
        n_rows: u64,
    },
    /// A row was changed, or one before it was taken out.
    Broken {
        /// The first row that does not fit.
        id: i64,
    },
    /// The last rows of a chain are gone.
    Truncated {
        /// The last row that should be there.
        id: i64,
    },
}

/// Walks the chains, row by row in the order of their ids.
#[derive(Debug)]
pub(super) struct Verification {
    ends: HashMap<i64, Head>,
    at: HashMap<i64, Head>,
    n_rows: u64,
}

impl Verification {
    /// Begins with the ends of the chains, by lane, read before any row.
    pub(super) fn new(ends: HashMap<i64, Head>) -> Self {
        Self { ends, at: HashMap::new(), n_rows: 0 }
    }

    /// Whether the row fits.
    pub(super) fn check(&mut self, link: &Link<'_>, chain: &[u8]) -> bool {
        let lane = link.id & (LANES - 1);
        let head = self.at.entry(lane).or_default();
        let next = head.extend(link);
        *head = next;
        self.n_rows += 1;
        let end_fits = self.ends.get(&lane).is_none_or(|end| end.number != next.number || end.hash == next.hash);
        link.id == next.number * LANES + lane && chain == next.hash && end_fits
    }

    pub(super) fn finish(&self) -> ChainVerdict {
        let short = self.ends.iter().find(|(lane, end)| self.at.get(lane).map_or(0, |at| at.number) < end.number);
        match short {
            Some((lane, end)) => ChainVerdict::Truncated { id: end.number * LANES + lane },
            None => ChainVerdict::Whole { n_rows: self.n_rows },
        }
    }
}
