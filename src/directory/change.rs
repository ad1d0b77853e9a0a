//! What one message says of staff and units: changes, as plain data.
//!
//! Nothing here reads a message or knows what stood before. The types are stored: a change may be for a day to come.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::Serialize;

use crate::care::fact::FieldUpdate;
use crate::care::roster::StaffIdPattern;
use crate::ids::Facility;
use crate::ids::PointOfCare;
use crate::ids::UserId;
use crate::time::Timestamp;

/// The key of a unit: PL.4 and PL.1.
pub type UnitKey = (Facility, PointOfCare);

/// Everything that one message changes, in its order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Changes {
    /// Each change, and from when on it holds where that is later than its arrival.
    pub changes: Vec<(Option<Timestamp>, Change)>,
}

/// One change.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// One member of staff.
    Staff {
        /// MFE-4 or STF-1.
        key: UserId,
        /// What is done.
        act: Act,
        /// What is said.
        record: StaffRecord,
    },
    /// One unit.
    Unit {
        /// LOC-1.
        key: UnitKey,
        /// What is done.
        act: Act,
        /// What is said.
        record: UnitRecord,
    },
    /// MFI-3 `REP` for staff: these are all there are.
    OnlyStaff(BTreeSet<UserId>),
    /// MFI-3 `REP` for places: these are all there are.
    OnlyUnits(Vec<UnitKey>),
}

/// What is done with a record (HL7 table 0180; PMU events).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// `MAD`, B01.
    Add,
    /// `MUP`, B02.
    Update,
    /// `MDL`, B03: the record was an error.
    Delete,
    /// `MDC`: no longer in use.
    Deactivate,
    /// `MAC`, B04.
    Reactivate,
    /// B05: away for a while.
    Suspend,
    /// B06: the employment has ended.
    Terminate,
}

/// What a record says of a member of staff.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct StaffRecord {
    /// STF-2, PRA-6, ORG-5; none when the record says nothing of ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<StaffIdPattern>,
    /// STF-8, STF-9, ORG-2.
    #[serde(default, skip_serializing_if = "FieldUpdate::is_keep")]
    pub teams: FieldUpdate<Vec<Affiliation>>,
    /// STF-7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
    /// STF-12.
    #[serde(default, skip_serializing_if = "FieldUpdate::is_keep")]
    pub from: FieldUpdate<Timestamp>,
    /// STF-13.
    #[serde(default, skip_serializing_if = "FieldUpdate::is_keep")]
    pub until: FieldUpdate<Timestamp>,
}

/// A part of the hospital that somebody belongs to. It counts where its code is one that the unit table or the services have.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Affiliation {
    /// What the code is of.
    pub kind: AffiliationKind,
    /// The code.
    pub code: String,
    /// From when on, where that is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Until when, where that is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Affiliation {
    /// Whether it holds at an instant.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= now) && self.until.is_none_or(|until| now < until)
    }
}

/// What a code is of.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AffiliationKind {
    /// A department or an organization unit: a point of care, or a group by its name.
    Department,
    /// A service, with the codes of PV1-10.
    Service,
}

/// What a record says of a unit.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct UnitRecord {
    /// LOC-2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// LRL-6 where LRL-4 is `ALI`: it is another name of this unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias_of: Option<UnitKey>,
    /// LDP-2: departments that it belongs to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub departments: Vec<String>,
    /// Whether it is in use: LDP-6, MDC and MAC. Nobody new gets a room in a unit that is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_use: Option<bool>,
}
