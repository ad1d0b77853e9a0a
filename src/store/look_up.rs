//! Look-ups: keyed hashes by which identifiers, messages and facts are found again without standing in the clear.
//!
//! HMAC-SHA-256 (RFC 2104) under a key of the store, the first 16 bytes. It neither stores nor finds anything.

use std::fmt;

use ring::hmac;

use crate::store::error::StoreError;
use crate::store::sealing::Table;

/// What a look-up hash stands for. The number is hashed with it: never change one.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum LookUpKind {
    /// A patient's identifier; leads to a patient.
    Patient = 1,
    /// A visit number; leads to a visit.
    Visit = 2,
    /// An account number; leads to its visits.
    Account = 3,
    /// A whole message, to know it again. Leads nowhere.
    Message = 4,
    /// A message control id. Leads nowhere.
    ControlId = 5,
    /// The content of a fact. Leads nowhere.
    Fact = 6,
    /// A pre-admit number; leads to the visit that says it was expected under it.
    Preadmit = 7,
}

impl LookUpKind {
    pub(super) const fn from_number(number: i16) -> Option<Self> {
        Some(match number {
            1 => Self::Patient,
            2 => Self::Visit,
            3 => Self::Account,
            4 => Self::Message,
            5 => Self::ControlId,
            6 => Self::Fact,
            7 => Self::Preadmit,
            _ => return None,
        })
    }

    /// Whether its targets are visits.
    pub const fn leads_to_visits(self) -> bool {
        matches!(self, Self::Visit | Self::Account | Self::Preadmit)
    }

    /// Whether what is hashed ends in a number that was given out by somebody who counts.
    const fn is_number(self) -> bool {
        matches!(self, Self::Patient | Self::Visit | Self::Account | Self::Preadmit)
    }
}

/// A keyed hash by which something is found again without standing in the clear.
///
/// Of a number the first four bytes are a keyed hash of its authority and of all but its last two bytes: numbers are given out by counting,
/// so those of one day stand beside each other in the index and not all over it. Whoever has the file and not the key sees that they are neighbours, as
/// the order of the rows tells them already, and not which numbers they are. Stores from before have hashes without that.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LookUpHash(pub [u8; 16]);

/// How many bytes of a number's hash its neighbours have in common.
const NEIGHBOURS: usize = 4;
/// How many bytes at the end of a number tell it from its neighbours.
const LAST_BYTES: usize = 2;
/// What is hashed for them, in the place of a [`LookUpKind`]. Never change it.
const GROUP: u8 = 128;

/// The key that look-ups are hashed with.
pub(super) struct LookUpKey {
    key: hmac::Key,
    /// Whether the hashes of neighbouring numbers are neighbours: how a store was made, for good.
    groups_numbers: bool,
}

impl LookUpKey {
    pub(super) fn new(key: &[u8], groups_numbers: bool) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key), groups_numbers }
    }

    /// The keyed hash of the parts, of which a number is the last; each part is hashed with its length, so that no two lists of parts are confused.
    pub(super) fn hash(&self, kind: LookUpKind, parts: &[&[u8]]) -> LookUpHash {
        let mut hash = self.keyed(kind as u8, parts.iter().copied());
        if kind.is_number()
            && self.groups_numbers
            && let Some((number, before)) = parts.split_last()
        {
            let beginning = number.get(..number.len().saturating_sub(LAST_BYTES)).unwrap_or_default();
            let group = self.keyed(GROUP, before.iter().copied().chain([beginning]));
            for (to, from) in hash.iter_mut().zip(group.into_iter().take(NEIGHBOURS)) {
                *to = from;
            }
        }
        LookUpHash(hash)
    }

    fn keyed<'p>(&self, kind: u8, parts: impl Iterator<Item = &'p [u8]>) -> [u8; 16] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&[kind]);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.sign().as_ref().first_chunk().copied().unwrap_or_default()
    }
}

impl fmt::Debug for LookUpKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LookUpKey(‹secret›)")
    }
}

/// A hash column as it stands.
pub(super) fn hash_column(table: Table, bytes: &[u8]) -> Result<[u8; 16], StoreError> {
    bytes.try_into().map_err(|_| StoreError::Form { table })
}

#[cfg(test)]
mod tests {
    use super::LookUpKey;
    use super::LookUpKind;

    const KEY: [u8; 32] = [7; 32];

    #[test]
    fn no_two_lists_of_parts_have_one_hash() {
        let key = LookUpKey::new(&KEY, true);
        let hash = |kind, parts: &[&[u8]]| key.hash(kind, parts);
        assert_eq!(hash(LookUpKind::Visit, &[b"A", b"B"]), hash(LookUpKind::Visit, &[b"A", b"B"]));
        assert_ne!(hash(LookUpKind::Visit, &[b"A", b"B"]), hash(LookUpKind::Visit, &[b"AB", b""]));
        assert_ne!(hash(LookUpKind::Visit, &[b"A", b"B"]), hash(LookUpKind::Visit, &[b"A", b"B", b""]));
        assert_ne!(hash(LookUpKind::Visit, &[b"A", b"B"]), hash(LookUpKind::Account, &[b"A", b"B"]));
    }

    #[test]
    fn neighbouring_numbers_have_neighbouring_hashes_and_no_other_ones() {
        let key = LookUpKey::new(&KEY, true);
        let hash = |kind, parts: &[&[u8]]| key.hash(kind, parts).0;
        let visit = |number: &[u8]| hash(LookUpKind::Visit, &[b"GHH", number]);
        let number = visit(b"V10000");
        for neighbour in [visit(b"V10099"), visit(b"V100AB"), hash(LookUpKind::Account, &[b"GHH", b"V10000"])] {
            assert_eq!(number[..4], neighbour[..4]);
            assert_ne!(number[4..], neighbour[4..]);
        }
        for stranger in
            [visit(b"V10100"), visit(b"V1000"), hash(LookUpKind::Visit, &[b"GHX", b"V10000"]), hash(LookUpKind::Message, &[b"GHH", b"V10000"])]
        {
            assert_ne!(number[..4], stranger[..4]);
        }
        for short in [b"".as_slice(), b"7", b"77"] {
            assert_eq!(visit(short)[..4], visit(b"42")[..4]);
        }
    }

    /// Calculated elsewhere: every store in use is full of these.
    #[test]
    fn hashes_are_what_they_have_always_been() {
        for (groups_numbers, hash) in [(false, 0x0fd4_a238_2fe8_111b_eb38_a27b_70b0_3aa7_u128), (true, 0x599a_0fea_2fe8_111b_eb38_a27b_70b0_3aa7)] {
            let key = LookUpKey::new(&KEY, groups_numbers);
            assert_eq!(u128::from_be_bytes(key.hash(LookUpKind::Visit, &[b"GHH", b"V10000"]).0), hash);
        }
    }

    #[test]
    fn no_debug_shows_a_key() {
        assert_eq!(format!("{:?}", LookUpKey::new(&KEY, true)), "LookUpKey(‹secret›)");
    }
}
