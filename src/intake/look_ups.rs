//! How identifiers are looked up: by keyed hash, so that no identifier stands in the clear.

use ring::digest;

use crate::ids::PatientId;
use crate::ids::VisitId;
use crate::store::Store;
use crate::store::sealing::LookUpHash;
use crate::store::sealing::LookUpKind;

/// Hashes identifiers: under the store's key, or, where nothing outlives the process, without one.
#[derive(Clone, Debug)]
pub(crate) enum LookUps {
    /// Under the store's look-up key.
    Stored(Store),
    /// For `explain` and journeys, which keep nothing.
    InMemory,
}

impl LookUps {
    pub(crate) fn hash(&self, kind: LookUpKind, parts: &[&[u8]]) -> LookUpHash {
        match self {
            Self::Stored(store) => store.hash_bytes(kind, parts),
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
        self.hash(LookUpKind::Patient, &[id.authority.as_str().as_bytes(), id.id_type.as_bytes(), id.value.as_str().as_bytes()])
    }

    /// A visit or account number: authority and value, whatever its type.
    pub(crate) fn visit(&self, kind: LookUpKind, VisitId(id): &VisitId) -> LookUpHash {
        self.hash(kind, &[id.authority.as_str().as_bytes(), id.value.as_str().as_bytes()])
    }
}
