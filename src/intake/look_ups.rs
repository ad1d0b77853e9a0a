//! How identifiers are looked up: by keyed hash, so that no identifier stands in the clear.

use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use foldhash::fast::RandomState;
use ring::digest;

use crate::care::fact::Fact;
use crate::ids::Identifier;
use crate::ids::PatientId;
use crate::ids::VisitId;
use crate::store::Store;
use crate::store::look_up::LookUpHash;
use crate::store::look_up::LookUpKind;

/// How many identifiers one generation remembers; there are two.
const REMEMBERED: usize = 4096;
/// As what a number of a visit may have been heard.
const VISIT_KINDS: [LookUpKind; 3] = [LookUpKind::Visit, LookUpKind::Account, LookUpKind::Preadmit];

/// Hashes identifiers: under the store's key, or, where nothing outlives the process, without one.
#[derive(Clone, Debug)]
pub(crate) enum LookUps {
    /// Under the store's look-up key. A message's identifiers are hashed many times on its way, so the last ones are remembered.
    Stored(Store, Arc<Memory>),
    /// For `explain` and journeys, which keep nothing.
    InMemory,
}

/// What is remembered of patients' identifiers, and of the numbers of visits as each of [`VISIT_KINDS`].
#[derive(Debug, Default)]
pub(crate) struct Memory {
    patients: Mutex<Remembered<LookUpHash>>,
    visits: Mutex<Remembered<[LookUpHash; 3]>>,
}

type Generation<H> = HashMap<u64, (Identifier, H), RandomState>;

/// The identifiers hashed last, by the number that the map's own hasher makes of them.
struct Remembered<H> {
    hasher: RandomState,
    young: Generation<H>,
    old: Generation<H>,
}

impl<H> Default for Remembered<H> {
    fn default() -> Self {
        Self { hasher: RandomState::default(), young: HashMap::default(), old: HashMap::default() }
    }
}

impl<H> fmt::Debug for Remembered<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remembered({} identifiers)", self.young.len() + self.old.len())
    }
}

impl<H: Copy> Remembered<H> {
    fn hashed(&mut self, id: &Identifier, hash: impl FnOnce() -> H) -> H {
        let number = self.hasher.hash_one(id);
        if let Some((known, hashed)) = self.young.get(&number)
            && known == id
        {
            return *hashed;
        }
        let entry = self.old.remove(&number).filter(|(known, _)| known == id).unwrap_or_else(|| (id.clone(), hash()));
        let hashed = entry.1;
        if self.young.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(number, entry);
        hashed
    }
}

fn locked<H>(remembered: &Mutex<Remembered<H>>) -> MutexGuard<'_, Remembered<H>> {
    remembered.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LookUps {
    /// Under the key of a store.
    pub(crate) fn of(store: Store) -> Self {
        Self::Stored(store, Arc::default())
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
        let hash = || self.hash(LookUpKind::Patient, &[id.authority.as_str().as_bytes(), id.id_type.as_bytes(), id.value.as_str().as_bytes()]);
        match self {
            Self::Stored(_, memory) => locked(&memory.patients).hashed(id, hash),
            Self::InMemory => hash(),
        }
    }

    /// A visit or account number as each of [`VISIT_KINDS`]: authority and value, whatever its type.
    pub(crate) fn visit_kinds(&self, VisitId(id): &VisitId) -> [LookUpHash; 3] {
        let hash = || VISIT_KINDS.map(|kind| self.hash(kind, &visit_parts(id)));
        match self {
            Self::Stored(_, memory) => locked(&memory.visits).hashed(id, hash),
            Self::InMemory => hash(),
        }
    }

    /// A visit or account number as one of them.
    pub(crate) fn visit(&self, kind: LookUpKind, number: &VisitId) -> LookUpHash {
        let of_kind = VISIT_KINDS.into_iter().zip(self.visit_kinds(number)).find(|(known, _)| *known == kind);
        of_kind.map_or_else(|| self.hash(kind, &visit_parts(&number.0)), |(_, hash)| hash)
    }
}

impl LookUps {
    /// Every look-up that facts may lead through, each once.
    pub(crate) fn named<'a>(&self, facts: impl IntoIterator<Item = &'a Fact>) -> Vec<LookUpHash> {
        let mut named = Vec::new();
        for fact in facts {
            self.name(fact, &mut named);
        }
        named.sort_unstable();
        named.dedup();
        named
    }

    fn name(&self, fact: &Fact, named: &mut Vec<LookUpHash>) {
        named.push(self.patient(&fact.patient));
        if let Some(visit) = &fact.visit {
            let others = [&visit.account, &visit.alternate, &visit.preadmit].into_iter().flatten();
            named.extend(std::iter::once(&visit.id).chain(others).flat_map(|id| self.visit_kinds(id)));
        }
        if let Some(relation) = &fact.relation {
            let visits = relation.visits.iter().chain(&relation.accounts).flat_map(|pair| [&pair.from, &pair.into]);
            named.extend(visits.flat_map(|id| self.visit_kinds(id)));
            named.extend(relation.patients.iter().flat_map(|pair| [&pair.from, &pair.into]).map(|id| self.patient(id)));
        }
    }
}

fn visit_parts(id: &Identifier) -> [&[u8]; 2] {
    [id.authority.as_str().as_bytes(), id.value.as_str().as_bytes()]
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::LookUps;
    use super::REMEMBERED;
    use super::Remembered;
    use super::VISIT_KINDS;
    use crate::ids::Identifier;
    use crate::ids::VisitId;

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
    fn what_is_used_again_and_again_is_hashed_once() {
        let mut remembered = Remembered::default();
        let n_hashed = Cell::new(0);
        let mut hash = |n: usize| {
            remembered.hashed(&id(n), || {
                n_hashed.set(n_hashed.get() + 1);
                n
            })
        };
        for n in 0..REMEMBERED * 3 {
            assert_eq!((hash(n), hash(0)), (n, 0));
        }
        assert_eq!(n_hashed.get(), REMEMBERED * 3);
        assert_eq!(hash(1), 1, "what was forgotten is hashed again");
        assert_eq!(n_hashed.get(), REMEMBERED * 3 + 1);
    }
}
