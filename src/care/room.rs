//! The care room as the messaging backend sees it.
//!
//! A [`RoomState`] is what `plan` makes and what is published; a [`CareRoom`] is that state under its id and version. Neither knows how it is sent.

use compact_str::CompactString;
use serde::Deserialize;
use serde::Serialize;
use serde_tuple::Serialize_tuple;
use smallvec::SmallVec;

use crate::care::fact::BedLocation;
use crate::care::fact::Confidentiality;
use crate::care::fact::FieldRef;
use crate::care::fact::PersonName;
use crate::care::fact::StaffIds;
use crate::ids::CareRoomId;
use crate::ids::Facility;
use crate::ids::HospitalService;
use crate::ids::JournalId;
use crate::ids::PatientClass;
use crate::ids::PatientId;
use crate::ids::Role;
use crate::ids::UserId;
use crate::ids::VisitId;
use crate::phi::Phi;
use crate::phi::sealed_form;
use crate::time::Timestamp;

/// Where a room is in its life.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RoomStatus {
    /// The patient is expected; nobody is in the room.
    Expected,
    /// The patient is there.
    Active,
    /// The patient is on leave, the bed is kept.
    OnLeave,
    /// The stay has ended, the team finishes its work.
    Grace,
    /// Over: nobody is a member.
    Closed,
    /// The stay was an error.
    Cancelled,
    /// The room was merged into another.
    Merged,
    /// An operator froze the room.
    Held,
    /// Everything about it is deleted.
    Purged,
}

impl RoomStatus {
    /// The word of the event schema.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expected => "expected",
            Self::Active => "active",
            Self::OnLeave => "on_leave",
            Self::Grace => "grace",
            Self::Closed => "closed",
            Self::Cancelled => "cancelled",
            Self::Merged => "merged",
            Self::Held => "held",
            Self::Purged => "purged",
        }
    }

    /// Whether people are in such a room and may write.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Active | Self::OnLeave | Self::Grace | Self::Held)
    }
}

/// What a member may do.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// Reads.
    Observer,
    /// Reads and writes.
    Member,
    /// Reads, writes and invites.
    Owner,
}

/// Why somebody is in the room.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize_tuple)]
pub struct Ground {
    /// The `[[team]]` rule, `grant`, or `handover`/`grace` where the ground has ended and its grace runs.
    pub rule: Role,
    /// `PV1-7`, `ROL-4`, `unit GHH/4N`, `service CAR`, `operator`.
    pub from: CompactString,
    /// The message that said so; of a grant, its own number.
    pub message: JournalId,
    /// Since when.
    pub since: Timestamp,
    /// Until when, where that is known.
    pub until: Option<Timestamp>,
}

/// Somebody in the room.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize_tuple)]
pub struct Member {
    /// The user.
    pub user: UserId,
    /// The most that any ground gives.
    pub permission: Permission,
    /// The roles, sorted, each once.
    pub roles: SmallVec<[Role; 1]>,
    /// All grounds that stand, in the order of the rules.
    pub grounds: SmallVec<[Ground; 1]>,
}

/// Somebody whom messages name and the roster does not know.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize_tuple)]
pub struct Unresolved {
    /// As what.
    pub role: Role,
    /// Where they were named.
    pub from: FieldRef,
    /// Every id given.
    pub ids: StaffIds,
    /// The name given; may be empty.
    #[serde(with = "sealed_form")]
    pub family: Phi<CompactString>,
    /// The name given; may be empty.
    #[serde(with = "sealed_form")]
    pub given: Phi<CompactString>,
}

/// How well the team covers the patient.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Coverage {
    /// The unit's team and the named clinicians.
    #[default]
    Full,
    /// Named clinicians only.
    NamedOnly,
    /// Nobody: alert someone.
    None,
}

/// Something to show with the room.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Flag {
    /// The patient is on leave.
    OnLeave,
    /// A transfer is planned.
    PendingTransfer,
    /// A discharge is planned.
    PendingDischarge,
    /// The patient has died.
    Deceased,
    /// Nobody knows yet who the patient is.
    IdentityUnknown,
    /// A message named this visit under another patient and waits.
    IdentityConflict,
    /// Another visit of this patient is open in the same bed.
    PossibleDuplicate,
    /// The patient is staff.
    Employee,
}

/// The patient as the room shows them.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize_tuple)]
pub struct ShownPatient {
    /// The patient id that counts now.
    pub id: PatientId,
    /// What stands in the header: `SMITH, Jane Ann`, or initials, or nothing.
    #[serde(with = "sealed_form")]
    pub display: Phi<Option<CompactString>>,
    /// The name, where the level shows it.
    pub name: Option<PersonName>,
    /// The birth date, where the level shows it.
    #[serde(with = "sealed_form")]
    pub birth_date: Phi<Option<CompactString>>,
    /// The sex, where the level shows it.
    #[serde(with = "sealed_form")]
    pub sex: Phi<Option<CompactString>>,
}

/// The visit as the room shows it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize_tuple)]
pub struct ShownVisit {
    /// The visit number that counts now.
    pub id: VisitId,
    /// The class; absent when nobody said.
    pub class: Option<PatientClass>,
    /// The service, where the level shows it.
    pub service: Option<HospitalService>,
    /// When the stay began.
    pub admitted_at: Option<Timestamp>,
    /// When it ended.
    pub discharged_at: Option<Timestamp>,
}

/// The place as the room shows it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize_tuple)]
pub struct ShownLocation {
    /// The place; in a room in grace the unit only.
    pub place: BedLocation,
    /// The unit's name for people, where the unit table has it.
    pub unit_name: Option<CompactString>,
}

/// Everything about a room that is published, but its id and version.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize_tuple)]
pub struct RoomState {
    /// Where the room is in its life.
    pub status: RoomStatus,
    /// The name; it ends in four letters of the room's own.
    #[serde(with = "sealed_form")]
    pub name: Phi<CompactString>,
    /// Who may know.
    pub confidentiality: Confidentiality,
    /// Whether members may write.
    pub writable: bool,
    /// How well the team covers the patient.
    pub coverage: Coverage,
    /// What to show with the room; sorted, each once.
    pub flags: Vec<Flag>,
    /// Where the patient is for a while.
    pub whereabouts: Option<BedLocation>,
    /// The facility; may be empty.
    pub facility: Facility,
    /// The place, where the level shows it.
    pub location: Option<ShownLocation>,
    /// The patient.
    pub patient: ShownPatient,
    /// The visit.
    pub visit: ShownVisit,
    /// Who is in the room, sorted by user.
    pub members: Vec<Member>,
    /// Whom the messages name and nobody knows.
    pub unresolved: Vec<Unresolved>,
    /// The room this one was merged into.
    pub merged_into: Option<CareRoomId>,
    /// The room of an earlier stay that this one goes on from.
    pub continues: Option<CareRoomId>,
    /// When the grace ends.
    pub closes_at: Option<Timestamp>,
    /// What must be said in the room once: that nothing may be passed on (an empty text), and instructions that messages carry. Not part of what is
    /// shown of the room.
    #[serde(default, with = "sealed_form")]
    pub to_say: Phi<Vec<String>>,
}

/// A room under its id and version.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize_tuple)]
pub struct CareRoom {
    /// The id.
    pub id: CareRoomId,
    /// How often an operator said that the store was restored from a backup, plus one.
    pub epoch: u32,
    /// How many events were published of it.
    pub version: u64,
    /// What was published last.
    pub state: RoomState,
}
