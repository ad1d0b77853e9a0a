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

/// How many hashes are remembered before all are forgotten.
const REMEMBERED: usize = 4096;

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
    hashes: HashMap<u64, (LookUpKind, Identifier, LookUpHash), RandomState>,
}

impl fmt::Debug for Remembered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remembered({} hashes)", self.hashes.len())
    }
}

impl Remembered {
    fn hash(&mut self, kind: LookUpKind, id: &Identifier, hash: impl FnOnce() -> LookUpHash) -> LookUpHash {
        let number = self.hasher.hash_one((kind, id));
        if let Some((known_kind, known, hash)) = self.hashes.get(&number)
            && (*known_kind, known) == (kind, id)
        {
            return *hash;
        }
        let hash = hash();
        if self.hashes.len() >= REMEMBERED {
            self.hashes.clear();
        }
        self.hashes.insert(number, (kind, id.clone(), hash));
        hash
    }
}

impl LookUps {
    /// Under the key of a store.
    pub(crate) fn of(store: Store) -> Self {
        Self::Stored(store, Arc::default())
    }

    fn remembered(&self, kind: LookUpKind, id: &Identifier, parts: &[&[u8]]) -> LookUpHash {
        match self {
            Self::Stored(_, remembered) => remembered.lock().unwrap_or_else(PoisonError::into_inner).hash(kind, id, || self.hash(kind, parts)),
            Self::InMemory => self.hash(kind, parts),
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
        self.remembered(LookUpKind::Patient, id, &[id.authority.as_str().as_bytes(), id.id_type.as_bytes(), id.value.as_str().as_bytes()])
    }

    /// A visit or account number: authority and value, whatever its type.
    pub(crate) fn visit(&self, kind: LookUpKind, VisitId(id): &VisitId) -> LookUpHash {
        self.remembered(kind, id, &[id.authority.as_str().as_bytes(), id.value.as_str().as_bytes()])
    }
}
