//! Facts: what one message has said about one visit of one patient.
//!
//! A fact never decides anything: it says, facet by facet, *absent* (keep what stood), *cleared* or *set*. It knows no HL7; `adt` writes facts from
//! segments, and another source could write the same ones.

use std::borrow::Cow;
use std::fmt;

use compact_str::CompactString;
use serde::Deserialize;
use serde::Serialize;
use serde_tuple::Serialize_tuple;
use smallvec::SmallVec;

use crate::ids::Facility;
use crate::ids::FeedName;
use crate::ids::HospitalService;
use crate::ids::JournalId;
use crate::ids::PatientClass;
use crate::ids::PatientId;
use crate::ids::PointOfCare;
use crate::ids::Role;
use crate::ids::StaffId;
use crate::ids::TriggerEvent;
use crate::ids::VisitId;
use crate::phi::Phi;
use crate::phi::sealed_form;
use crate::time::Timestamp;

/// What a message says of one facet.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum FieldUpdate<T> {
    /// Nothing: what stood stays (the field is absent or empty).
    #[default]
    Keep,
    /// It is no more (HL7 null, `""`).
    Clear,
    /// It is this.
    Set(T),
}

impl<T> FieldUpdate<T> {
    /// Whether it says nothing.
    pub const fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }

    /// The value, where one is set.
    pub const fn value(&self) -> Option<&T> {
        match self {
            Self::Set(value) => Some(value),
            Self::Keep | Self::Clear => None,
        }
    }

    /// The same update of something made from the value.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> FieldUpdate<U> {
        match self {
            Self::Keep => FieldUpdate::Keep,
            Self::Clear => FieldUpdate::Clear,
            Self::Set(value) => FieldUpdate::Set(make(value)),
        }
    }
}

impl<T> From<Option<T>> for FieldUpdate<T> {
    /// `None` keeps.
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Keep, Self::Set)
    }
}

/// Where in a message something stood, as a person of the interface team writes it: `PV1-7`, `ROL-4`, `PV1-3.1`.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct FieldRef(Cow<'static, str>);

impl FieldRef {
    /// A field whose name is known when the program is built.
    pub const fn new(field: &'static str) -> Self {
        Self(Cow::Borrowed(field))
    }

    /// A field that the configuration names.
    pub fn configured(field: String) -> Self {
        Self(Cow::Owned(field))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The content of a fact, hashed without the stamps of its transmission: the same fact under a new control id has the same hash.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct FactHash(pub [u8; 16]);

/// Where a fact stands among the others: by when it was recorded, then when it was sent, then by arrival.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize_tuple)]
pub struct Stamp {
    /// When the sending system recorded it: EVN-2, else MSH-7, else arrival; clamped to arrival when it lies in the future.
    pub recorded: Timestamp,
    /// When the message was made: MSH-7, else `recorded`.
    pub sent: Timestamp,
    /// The message, which also is its number of arrival.
    pub arrival: JournalId,
}

/// What happened to the stay, as the trigger event (after the feed's `event_map`) says.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub enum Act {
    /// The stay began (A01, A04).
    Open,
    /// The stay changed its class: outpatient to inpatient or back (A06, A07).
    Reclassify,
    /// The stay is expected (A05, A14).
    Expect,
    /// The patient has another bed (A02, A17).
    Move,
    /// The stay ended (A03).
    End,
    /// Anything else of the stay (A08, and triggers without an act of their own).
    Update,
    /// The beginning was an error (A11).
    CancelOpen,
    /// The move was an error (A12).
    CancelMove,
    /// The end was an error (A13).
    CancelEnd,
    /// The expectation was an error (A38, A27).
    CancelExpect,
    /// The patient is on leave, the bed is kept (A21).
    Leave,
    /// The patient is back from leave (A22).
    Return,
    /// The leave was an error (A52).
    CancelLeave,
    /// The return was an error (A53).
    CancelReturn,
    /// Named clinicians change (A54, A61).
    ChangeProviders,
    /// A change of clinicians was an error; the message names those who stood before (A55, A62).
    CancelChangeProviders,
    /// The patient is somewhere for a while, the bed is kept (A09, A10).
    Track,
    /// The patient is not where the last tracking said (A32, A33).
    CancelTrack,
    /// A transfer is planned (A15).
    PlanMove,
    /// The planned transfer is off (A26).
    CancelPlanMove,
    /// A discharge is planned (A16).
    PlanEnd,
    /// The planned discharge is off (A25).
    CancelPlanEnd,
    /// Something of the person and of no stay (A28, A31).
    Person,
    /// Identifiers were merged, moved, changed, linked or unlinked: see [`Relation`].
    Relate,
    /// Somebody asks that the record of the visit be deleted (A23).
    DeleteVisit,
    /// Somebody asks that the person be deleted (A29).
    DeletePerson,
}

/// A place: PL (HL7 v2.5.1 §2.A.53). Its `Debug` tells nothing: with a patient beside it, a place is PHI.
#[derive(Clone, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize_tuple)]
pub struct BedLocation {
    /// PL.4, else what the message or the feed says; may be empty.
    pub facility: Facility,
    /// PL.1.
    pub point_of_care: PointOfCare,
    /// PL.2; empty when not given.
    #[serde(default)]
    pub room: CompactString,
    /// PL.3; empty when not given.
    #[serde(default)]
    pub bed: CompactString,
    /// PL.7; empty when not given. Part of the unit only where the unit table says so.
    #[serde(default)]
    pub building: CompactString,
}

impl BedLocation {
    /// Whether both are in the same unit.
    pub fn same_unit(&self, other: &Self) -> bool {
        self.facility == other.facility && self.point_of_care == other.point_of_care && self.building == other.building
    }
}

impl fmt::Debug for BedLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("‹place›")
    }
}

/// The ids of one person; mostly there is one.
pub type StaffIds = SmallVec<[StaffId; 1]>;

/// One person as a message names them: every id that was given for the same human being. Never matched by name.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize_tuple)]
pub struct Practitioner {
    /// All ids given; empty when only a name was given.
    pub ids: StaffIds,
    /// XCN.2; may be empty.
    #[serde(with = "sealed_form")]
    pub family: Phi<CompactString>,
    /// XCN.3; may be empty.
    #[serde(with = "sealed_form")]
    pub given: Phi<CompactString>,
}

/// One person in one role for the visit: a ROL or a PRT segment.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Assignment {
    /// The source as `[[team]]` rules name it: `ROL:AT`, `PRT:RN`; the code as sent, upper case.
    pub source: CompactString,
    /// The role after the feed's role map; `None` when the code is in no map.
    pub role: Option<Role>,
    /// Where the person stood: `ROL-4` or `PRT-5`.
    pub from: FieldRef,
    /// The person.
    pub person: Practitioner,
    /// From when on (ROL-5, PRT-11); `None` is always.
    pub begins_at: Option<Timestamp>,
    /// Until when (ROL-6, PRT-12); `None` is open.
    pub ends_at: Option<Timestamp>,
    /// Whether the segment takes the person out (ROL-2 `DE`, `UN`).
    pub removed: bool,
}

/// What a message says of the visit's assignments.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum AssignmentsSaid {
    /// Nothing.
    #[default]
    Keep,
    /// These and no others stand now; empty takes all out.
    Snapshot(Vec<Assignment>),
    /// These are added, changed or removed; others stay.
    Delta(Vec<Assignment>),
}

impl AssignmentsSaid {
    /// Whether it says nothing.
    pub const fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }

    /// How many it names.
    pub fn len(&self) -> usize {
        match self {
            Self::Keep => 0,
            Self::Snapshot(assignments) | Self::Delta(assignments) => assignments.len(),
        }
    }

    /// Whether it names nobody.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Who may know. The order is the order of restriction.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Confidentiality {
    /// The unit's team and the named clinicians; name and place are shown.
    #[default]
    Normal,
    /// Named clinicians only; the name is shown as initials.
    Restricted,
    /// Explicitly named clinicians only; nothing but the patient id is shown.
    VeryRestricted,
}

impl Confidentiality {
    /// The word of the event schema.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Restricted => "restricted",
            Self::VeryRestricted => "very_restricted",
        }
    }
}

/// One source of restriction. Each is raised and cleared by itself; the highest that stands counts.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum SignalSource {
    /// PV1-16.
    Vip,
    /// PD1-12.
    PatientProtection,
    /// PV2-22.
    VisitProtection,
    /// ARV, by its instance id or its value.
    AccessRestriction(String),
    /// MSH-26 and MSH-27.
    Message,
    /// A pseudonym or alias among the names (PID-5, XPN.7).
    Pseudonym,
}

/// What a standing signal asks for.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Restriction {
    /// The level.
    pub level: Confidentiality,
    /// The place is not shown (ARV `LOC`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hides_place: bool,
    /// The patient is staff (ARV-4 `EMP`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub employee: bool,
    /// A substance use disorder program is involved (42 CFR Part 2).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub part2: bool,
    /// From when on; `None` is always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begins_at: Option<Timestamp>,
    /// Until when; `None` is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Timestamp>,
}

impl Restriction {
    /// Whether it asks for the highest level at an instant.
    pub fn is_highest(&self, at: Timestamp) -> bool {
        (self.part2 || self.level == Confidentiality::VeryRestricted) && self.begins_at.is_none_or(|begins| begins <= at)
    }
}

/// One signal as a message says it; [`FieldUpdate::Keep`] never stands here.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SignalSaid {
    /// Which.
    pub source: SignalSource,
    /// Raised, or explicitly cleared.
    pub update: FieldUpdate<Restriction>,
}

/// What a message says of confidentiality at one level (person or stay).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct SignalsSaid {
    /// The signals said, each at most once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub said: Vec<SignalSaid>,
    /// Whether every access restriction that is not among them is cleared (ARV in snapshot mode).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replaces_access_restrictions: bool,
}

impl SignalsSaid {
    /// Whether it says nothing.
    pub const fn is_keep(&self) -> bool {
        self.said.is_empty() && !self.replaces_access_restrictions
    }
}

/// A person's name, as PID-5 says it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize_tuple)]
pub struct PersonName {
    /// XPN.1, its first part.
    #[serde(with = "sealed_form")]
    pub family: Phi<CompactString>,
    /// XPN.2; may be empty.
    #[serde(with = "sealed_form")]
    pub given: Phi<CompactString>,
    /// XPN.3; may be empty.
    #[serde(with = "sealed_form")]
    pub middle: Phi<CompactString>,
}

/// What a message says of the person, whatever stay it is about.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct PersonSaid {
    /// PID-5.
    #[serde(default, skip_serializing_if = "FieldUpdate::is_keep")]
    pub name: FieldUpdate<PersonName>,
    /// PID-7 as an ISO date of the precision that was sent: `1980-01-31`, `1980-01`, `1980`.
    #[serde(default, skip_serializing_if = "FieldUpdate::is_keep", with = "phi_update")]
    pub birth_date: FieldUpdate<Phi<CompactString>>,
    /// PID-8: `F`, `M`, `O`, `U`, `A`, `N`, words reduced to their letter.
    #[serde(default, skip_serializing_if = "FieldUpdate::is_keep", with = "phi_update")]
    pub sex: FieldUpdate<Phi<CompactString>>,
    /// PID-30.
    #[serde(default, skip_serializing_if = "FieldUpdate::is_keep")]
    pub deceased: FieldUpdate<bool>,
    /// PID-31.
    #[serde(default, skip_serializing_if = "FieldUpdate::is_keep")]
    pub identity_unknown: FieldUpdate<bool>,
    /// PD1-4: those who treat the person outside; replaces the list.
    #[serde(default, skip_serializing_if = "FieldUpdate::is_keep")]
    pub primary_care: FieldUpdate<Vec<Practitioner>>,
    /// ROL and PRT behind PID or PD1.
    #[serde(default, skip_serializing_if = "AssignmentsSaid::is_keep")]
    pub assignments: AssignmentsSaid,
    /// Signals that hold for the person: PD1-12, ARV behind PID or PD1, a pseudonym.
    #[serde(default, skip_serializing_if = "SignalsSaid::is_keep")]
    pub signals: SignalsSaid,
}

/// `FieldUpdate<Phi<CompactString>>` in documents that are sealed.
mod phi_update {
    use compact_str::CompactString;
    use serde::Deserialize;
    use serde::Deserializer;
    use serde::Serialize;
    use serde::Serializer;

    use super::FieldUpdate;
    use crate::phi::Phi;

    pub(super) fn serialize<S: Serializer>(update: &FieldUpdate<Phi<CompactString>>, serializer: S) -> Result<S::Ok, S::Error> {
        let bare: FieldUpdate<&str> = match update {
            FieldUpdate::Keep => FieldUpdate::Keep,
            FieldUpdate::Clear => FieldUpdate::Clear,
            FieldUpdate::Set(value) => FieldUpdate::Set(value.as_str()),
        };
        bare.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<FieldUpdate<Phi<CompactString>>, D::Error> {
        Ok(FieldUpdate::<CompactString>::deserialize(deserializer)?.map(Phi::new))
    }
}

/// What a message says of the stay.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct StaySaid {
    /// PV1-2 after the class map.
    #[serde(default, skip_serializing_if = "FieldUpdate::is_keep")]
    pub class: FieldUpdate<PatientClass>,
    /// PV1-3, where it has a point of care.
    #[serde(default, skip_serializing_if = "FieldUpdate::is_keep")]
    pub location: FieldUpdate<BedLocation>,
    /// PV1-6. Informative: it moves nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prior_location: Option<BedLocation>,
    /// PV1-11: where the patient is for a while.
    #[serde(default, skip_serializing_if = "FieldUpdate::is_keep")]
    pub whereabouts: FieldUpdate<BedLocation>,
    /// PV1-7: one person, whatever the repetitions.
    #[serde(default, skip_serializing_if = "FieldUpdate::is_keep")]
    pub attending: FieldUpdate<Practitioner>,
    /// PV1-8.
    #[serde(default, skip_serializing_if = "FieldUpdate::is_keep")]
    pub referring: FieldUpdate<Practitioner>,
    /// PV1-9: each repetition another person; replaces the list.
    #[serde(default, skip_serializing_if = "FieldUpdate::is_keep")]
    pub consulting: FieldUpdate<Vec<Practitioner>>,
    /// Whether `consulting` adds to the list instead of replacing it (`pv1_9 = "add"`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub consulting_adds: bool,
    /// PV1-17.
    #[serde(default, skip_serializing_if = "FieldUpdate::is_keep")]
    pub admitting: FieldUpdate<Practitioner>,
    /// PV1-52: each repetition another person; replaces the list.
    #[serde(default, skip_serializing_if = "FieldUpdate::is_keep")]
    pub others: FieldUpdate<Vec<Practitioner>>,
    /// ROL and PRT at the visit's level.
    #[serde(default, skip_serializing_if = "AssignmentsSaid::is_keep")]
    pub assignments: AssignmentsSaid,
    /// PV1-10.
    #[serde(default, skip_serializing_if = "FieldUpdate::is_keep")]
    pub service: FieldUpdate<HospitalService>,
    /// PV1-44.
    #[serde(default, skip_serializing_if = "FieldUpdate::is_keep")]
    pub admitted_at: FieldUpdate<Timestamp>,
    /// PV1-45.
    #[serde(default, skip_serializing_if = "FieldUpdate::is_keep")]
    pub discharged_at: FieldUpdate<Timestamp>,
    /// On an opening: the end of the day, where it was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day_ends: Option<Timestamp>,
    /// PV2-8: when the patient is expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_at: Option<Timestamp>,
    /// ARV-5 and MSH-28: what must be said to whoever sees anything of this stay.
    #[serde(default, skip_serializing_if = "Phi::<Vec<String>>::is_empty", with = "sealed_form")]
    pub instructions: Phi<Vec<String>>,
    /// Signals that hold for this stay: PV1-16, PV2-22, ARV behind PV1, MSH-26.
    #[serde(default, skip_serializing_if = "SignalsSaid::is_keep")]
    pub signals: SignalsSaid,
}

/// A movement as IHE PAM identifies it: the ZBE segment.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Movement {
    /// ZBE-1: every id given, `authority/value` or `value`.
    pub ids: Vec<String>,
    /// ZBE-2.
    pub begins_at: Option<Timestamp>,
    /// ZBE-5 `Y`: it tells of the past and changes nothing now.
    pub historic: bool,
}

/// How the visit was named.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct VisitRef {
    /// The key: the first valued of the feed's `visit_id`.
    pub id: VisitId,
    /// The field it came from: `PV1-19`, `PID-18`, `PV1-50`.
    pub from: FieldRef,
    /// Whether it is an account number, under which several visits may stand.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_account: bool,
    /// PID-18, where the key is another field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<VisitId>,
    /// PV1-50, where the key is another field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alternate: Option<VisitId>,
    /// PV1-5: the number under which the stay was expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preadmit: Option<VisitId>,
}

/// What was done to identifiers: MRG, or two PID groups (HL7 v2.5.1 §3.6).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Relation {
    /// Which of the kinds.
    pub kind: RelationKind,
    /// Pairs of patient ids: MRG-1 (or MRG-2, MRG-4) and PID-3 of the same authority and type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patients: Vec<Pair<PatientId>>,
    /// MRG-3 and PID-18.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<Pair<VisitId>>,
    /// MRG-5 and PV1-19, MRG-6 and PV1-50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub visits: Vec<Pair<VisitId>>,
}

/// From an old identifier into the one that counts from now on.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Pair<T> {
    /// The source, the losing side.
    pub from: T,
    /// The target, the surviving side.
    pub into: T,
}

/// The kinds of [`Relation`], named as `explain` shows them.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RelationKind {
    /// Two patients are one (A40, and A18 A30 A34 A36 A39).
    Patient,
    /// Two accounts are one (A41, A35).
    Account,
    /// Two visits are one (A42).
    Visit,
    /// A patient id under another person (A43).
    PatientMove,
    /// An account belongs to another patient (A44).
    AccountMove,
    /// A visit belongs to another account or patient (A45).
    VisitMove,
    /// The same patient has another id (A47, A46, A48).
    PatientIdChange,
    /// The same account has another number (A49; MRG-3 of A06 and A07).
    AccountChange,
    /// The same visit has another number (A50, A51).
    VisitChange,
    /// Two records may be of one person (A24).
    Link,
    /// They are not (A37).
    Unlink,
}

impl RelationKind {
    /// Whether it joins what was apart, so that an operator can take it back. Numbers that changed are changed back by the feed, not here.
    pub const fn is_merge(self) -> bool {
        matches!(self, Self::Patient | Self::Account | Self::Visit | Self::PatientIdChange)
    }

    /// Whether it only says that two records may be of one person, and leaves both as they are.
    pub const fn is_link(self) -> bool {
        matches!(self, Self::Link | Self::Unlink)
    }
}

/// A part of a visit for which one feed's word counts.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Facet {
    /// Beginning, end, leave.
    Lifecycle,
    /// The place.
    Location,
    /// The class.
    Class,
    /// The service.
    Service,
    /// Doctors and assignments.
    Team,
    /// Who may know.
    Confidentiality,
    /// Name, birth date and sex.
    Identity,
}

/// What one message has said about one visit of one patient.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Fact {
    /// The identity of the fact.
    pub hash: FactHash,
    /// Its place among the others.
    pub stamp: Stamp,
    /// Whether `stamp.recorded` is what the sender said was recorded (EVN-2); only such a fact reopens what has ended.
    pub recorded_by_sender: bool,
    /// The trigger event as sent.
    pub trigger: TriggerEvent,
    /// What happened.
    pub act: Act,
    /// When it happened (EVN-6); on a cancel, when the cancelled event happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occurred_at: Option<Timestamp>,
    /// The movement, where the feed identifies movements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub movement: Option<Movement>,
    /// The feed it came by.
    pub feed: FeedName,
    /// The facets that its feed owns: for these its word counts, where another feed speaks of the same visit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owns: Vec<Facet>,
    /// Whether it belongs to an initial load (MSH-11.2 `I`, `R`, `A`), of which nobody is notified.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub load: bool,
    /// The patient: the id of the feed's primary type.
    pub patient: PatientId,
    /// The other repetitions of PID-3.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_ids: Vec<PatientId>,
    /// The visit, where one was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visit: Option<VisitRef>,
    /// What it says of the person.
    pub person: PersonSaid,
    /// What it says of the stay.
    pub stay: StaySaid,
    /// What it does to identifiers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relation: Option<Relation>,
}
