//! The stored form: what a document of each kind looks like, with its version.
//!
//! The types of the core are written as `MessagePack` (version 2), or, before that, as JSON (version 1): the same content. Fields stand by their position in
//! the type, or, before that, by their name. What stands in a document many times and always whole (stamps, identifiers, places, members) is a list of its
//! values instead, as its type says with `Serialize_tuple`. All of these read as the same. A type gets new fields at its end only, each with a default. A
//! change that a default cannot absorb gets a new version here, with the upcast from the one before. Documents of every form ever written stay readable:
//! the tests hold committed examples of each.

mod positions;

use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::care::fact::Fact;
use crate::care::fact::FactHash;
use crate::care::fact::Stamp;
use crate::care::grant::Grant;
use crate::care::identity::PatientRecord;
use crate::care::room::CareRoom;
use crate::care::visit::VisitState;
use crate::ids::CareRoomId;
use crate::ids::JournalId;
use crate::ids::VisitId;
use crate::store::sealing::Document;

/// JSON; only read.
const JSON: u8 = 1;
/// `MessagePack`, the version that is written now.
const PRESENT: u8 = 2;

/// A document that does not read as what it should be. Says the kind, never the content.
#[derive(Debug, thiserror::Error)]
#[error("a stored {kind} of form {format} can't be read\nhint: {hint}")]
pub struct FormError {
    /// `patient`, `visit`, `fact`.
    pub kind: &'static str,
    /// The version it was written in.
    pub format: u8,
    /// What to do.
    pub hint: &'static str,
}

/// The room of one stay: its id from the first, and what was published of it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RoomSlot {
    /// Minted when the stay was first known.
    pub id: CareRoomId,
    /// What was published last; absent while nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<CareRoom>,
    /// The visit for which it was made, by its row; a room keeps it wherever it goes. Absent where that was not noted yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_for: Option<i64>,
    /// Whom operators let in, while that lasts; each user once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Grant>,
}

/// A visit's document.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct VisitDocument {
    /// What stands after all its facts.
    pub state: VisitState,
    /// The rooms of its stays, in their order.
    pub rooms: Vec<RoomSlot>,
    /// Rows whose facts belong to this visit too: numbers that turned out to be the same visit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absorbed: Vec<i64>,
    /// The row that took this one over, facts and all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absorbed_by: Option<i64>,
    /// The visits that this one was said to be merged into, while all keep their facts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub merges: Vec<VisitMerge>,
    /// Visits that were said to be merged into this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub merged_from: Vec<i64>,
    /// What stands after the facts of several rows, where the stay had another number before this one; absent where it had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<Box<Whole>>,
    /// Messages that name this visit under a patient whom nothing explains, and wait.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<JournalId>,
    /// The facts that an operator took back: they are none of what stands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken_back: Vec<FactHash>,
}

impl VisitDocument {
    /// Whether a fact is one that nobody took back.
    pub fn counts(&self, fact: &Fact) -> bool {
        !self.taken_back.contains(&fact.hash)
    }

    /// Whether a merge is of this visit. That of an account is of what was known by the account alone; a stay with a number of its own goes on under it.
    pub fn is_merged_by(&self, merge: &VisitMerge) -> bool {
        let is_numbered = |account: &VisitId| self.state.has_own_number() && !self.state.is_own_number(account);
        !merge.undone && !merge.account.as_ref().is_some_and(is_numbered)
    }

    /// What stands after all that was said of the stay, under whichever of its numbers.
    pub fn whole(&self) -> &VisitState {
        self.whole.as_ref().map_or(&self.state, |whole| &whole.state)
    }
}

/// A stay that had another number before, folded from the facts of the rows of all its numbers.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Whole {
    /// What stands after them.
    pub state: VisitState,
    /// The rows, and how many others and how many facts each had.
    pub of: Vec<(i64, usize, u64)>,
    /// Whether something said of these numbers is no part of it: it names the patient from whom the stay had gone by then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub left_out: bool,
}

/// A visit was said to be merged into another, or goes on as it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct VisitMerge {
    /// The row of the other.
    pub into: i64,
    /// Its number, which the room shows where nothing else is known of it.
    pub number: VisitId,
    /// The fact that said so.
    pub stamp: Stamp,
    /// Whether an operator took it back; the same word again does not bring it back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undone: bool,
    /// Whether nobody said so, but the one is concluded to go on as the other: both are one stay as long as nothing said contradicts it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub concluded: bool,
    /// The account that was merged, where it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<VisitId>,
}

/// Something that is stored as a document.
pub trait Stored: Serialize + DeserializeOwned {
    /// Its kind, for errors.
    const KIND: &'static str;
    /// How long a usual one is; only how much memory is taken at first.
    const USUAL_BYTES: usize;

    /// Writes it in the present form.
    fn document(&self) -> Document {
        // The types hold nothing that either could not say, and memory takes every byte.
        let bytes = positions::write(self, Self::USUAL_BYTES).or_else(|_| rmp_serde::to_vec_named(self));
        Document::new(PRESENT, bytes.unwrap_or_default())
    }

    /// Reads it in any form it was ever written in.
    ///
    /// # Errors
    /// When the document is of a newer form, or no such thing.
    fn read(document: &Document) -> Result<Self, FormError> {
        let failed = |hint| FormError { kind: Self::KIND, format: document.format, hint };
        let damaged = "the row is damaged; restore the store from its backup";
        match document.format {
            JSON => serde_json::from_slice(&document.bytes).map_err(|_| failed(damaged)),
            PRESENT => rmp_serde::from_slice(&document.bytes).map_err(|_| failed(damaged)),
            _ => Err(failed("it was written by a newer wardroom; run that version")),
        }
    }
}

impl Stored for PatientRecord {
    const KIND: &'static str = "patient";
    const USUAL_BYTES: usize = 512;
}

impl Stored for VisitDocument {
    const KIND: &'static str = "visit";
    const USUAL_BYTES: usize = 4096;
}

impl Stored for Fact {
    const KIND: &'static str = "fact";
    const USUAL_BYTES: usize = 1024;
}

#[cfg(test)]
pub(in crate::store) mod tests;
