//! How identifiers are looked up: by keyed hash, so that no identifier stands in the clear.

use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use foldhash::fast::RandomState;
use ring::digest;

use crate::ids::Identifier;
use crate::ids::PatientId;
use crate::ids::VisitId;
use crate::store::Store;
use crate::store::sealing::LookUpHash;
use crate::store::sealing::LookUpKind;

/// How many identifiers one generation remembers; there are two.
const REMEMBERED: usize = 4096;
/// As what a number of a visit may have been heard.
pub(crate) const VISIT_KINDS: [LookUpKind; 3] = [LookUpKind::Visit, LookUpKind::Account, LookUpKind::Preadmit];

/// Hashes identifiers: under the store's key, or, where nothing outlives the process, without one.
#[derive(Clone, Debug)]
pub(crate) enum LookUps {
    /// Under the store's look-up key. A message's identifiers are hashed many times on its way, so the last ones are remembered.
    Stored(Store, Arc<Mutex<Remembered>>),
    /// For `explain` and journeys, which keep nothing.
    InMemory,
}

/// The identifiers hashed last, by the number that the map's own hasher makes of them.
#[derive(Default)]
pub(crate) struct Remembered {
    hasher: RandomState,
    young: Generation,
    old: Generation,
}

type Generation = HashMap<u64, Hashed, RandomState>;

/// An identifier and its hashes: as a patient's, or one of each of [`VISIT_KINDS`].
struct Hashed {
    id: Identifier,
    is_of_visit: bool,
    hashes: [LookUpHash; 3],
}

impl fmt::Debug for Remembered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remembered({} identifiers)", self.young.len() + self.old.len())
    }
}

impl Remembered {
    fn hashes(&mut self, id: &Identifier, is_of_visit: bool, hash: impl FnOnce() -> [LookUpHash; 3]) -> [LookUpHash; 3] {
        let number = self.hasher.hash_one((id, is_of_visit));
        let is_it = |hashed: &&Hashed| hashed.is_of_visit == is_of_visit && hashed.id == *id;
        if let Some(hashed) = self.young.get(&number).filter(is_it) {
            return hashed.hashes;
        }
        let hashed = match self.old.remove(&number).filter(|hashed| is_it(&hashed)) {
            Some(hashed) => hashed,
            None => Hashed { id: id.clone(), is_of_visit, hashes: hash() },
        };
        let hashes = hashed.hashes;
        if self.young.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(number, hashed);
        hashes
    }
}

impl LookUps {
    /// Under the key of a store.
    pub(crate) fn of(store: Store) -> Self {
        Self::Stored(store, Arc::default())
    }

    fn remembered(&self, id: &Identifier, is_of_visit: bool, hash: impl FnOnce() -> [LookUpHash; 3]) -> [LookUpHash; 3] {
        match self {
            Self::Stored(_, remembered) => remembered.lock().unwrap_or_else(PoisonError::into_inner).hashes(id, is_of_visit, hash),
            Self::InMemory => hash(),
        }
    }

    pub(crate) fn hash(&self, kind: LookUpKind, parts: &[&[u8]]) -> LookUpHash {
        match self {
            Self::Stored(store, _) => store.hash_bytes(kind, parts),
            Self::InMemory => {
                let mut context = digest::Context::new(&digest::SHA256);
                context.update(&[kind as u8]);
                for part in parts {
                    context.update(&(part.len() as u64).to_be_bytes());
                    context.update(part);
                }
                LookUpHash(context.finish().as_ref().first_chunk().copied().unwrap_or_default())
            }
        }
    }

    /// A patient id: authority, type and value.
    pub(crate) fn patient(&self, PatientId(id): &PatientId) -> LookUpHash {
        let parts = || [id.authority.as_str().as_bytes(), id.id_type.as_bytes(), id.value.as_str().as_bytes()];
        let [hash, ..] = self.remembered(id, false, || [self.hash(LookUpKind::Patient, &parts()); 3]);
        hash
    }

    /// A visit or account number as each of [`VISIT_KINDS`]: authority and value, whatever its type.
    pub(crate) fn visit_kinds(&self, VisitId(id): &VisitId) -> [LookUpHash; 3] {
        self.remembered(id, true, || VISIT_KINDS.map(|kind| self.hash(kind, &visit_parts(id))))
    }

    /// A visit or account number as one of them.
    pub(crate) fn visit(&self, kind: LookUpKind, number: &VisitId) -> LookUpHash {
        let of_kind = VISIT_KINDS.into_iter().zip(self.visit_kinds(number)).find(|(known, _)| *known == kind);
        of_kind.map_or_else(|| self.hash(kind, &visit_parts(&number.0)), |(_, hash)| hash)
    }
}

fn visit_parts(id: &Identifier) -> [&[u8]; 2] {
    [id.authority.as_str().as_bytes(), id.value.as_str().as_bytes()]
}

#[cfg(test)]
mod tests {
    use super::LookUps;
    use super::REMEMBERED;
    use super::Remembered;
    use super::VISIT_KINDS;
    use crate::ids::Identifier;
    use crate::ids::VisitId;
    use crate::store::sealing::LookUpHash;

    fn id(n: usize) -> Identifier {
        Identifier { authority: "GHH".into(), id_type: "".into(), value: n.to_string().as_str().into() }
    }

    #[test]
    fn a_number_of_a_visit_has_one_hash_of_each_kind() {
        let number = VisitId(id(7));
        let all = LookUps::InMemory.visit_kinds(&number);
        assert_eq!(VISIT_KINDS.map(|kind| LookUps::InMemory.visit(kind, &number)), all);
        assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2]);
    }

    #[test]
    fn what_is_used_again_and_again_is_remembered_and_is_not_taken_for_something_else() {
        let mut remembered = Remembered::default();
        let mut n_hashed = 0;
        let mut hash = |n: usize, is_of_visit: bool| {
            let byte = u8::try_from(n % 200).unwrap() + u8::from(is_of_visit);
            remembered.hashes(&id(n), is_of_visit, || {
                n_hashed += 1;
                [LookUpHash([byte; 16]); 3]
            })
        };
        for n in 0..REMEMBERED * 3 {
            assert_eq!(hash(n, true), [LookUpHash([u8::try_from(n % 200).unwrap() + 1; 16]); 3]);
            assert_eq!(hash(0, true), [LookUpHash([1; 16]); 3]);
        }
        assert_eq!(hash(0, false), [LookUpHash([0; 16]); 3]);
        assert_eq!(n_hashed, REMEMBERED * 3 + 1, "nothing that is used all the time is hashed twice");
    }
}
