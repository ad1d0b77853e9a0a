//! The parts of an event as they stand in JSON; the JSON Schemas are generated from the same types.
//!
//! These types borrow from the core's and exist to be serialised once. They are the only place where the names of contract fields are spelled, and
//! they never leave out or add anything by level, but for [`ChangeForm`], which hides what stood before when it is hidden now.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde::Serializer;
use uuid::Uuid;

use crate::care::change::Cause;
use crate::care::change::CauseKind;
use crate::care::change::Change;
use crate::care::change::RoomNotice;
use crate::care::change::RoomNoticeCode;
use crate::care::fact::BedLocation;
use crate::care::fact::Confidentiality;
use crate::care::room::CareRoom;
use crate::care::room::Coverage;
use crate::care::room::Flag;
use crate::care::room::Ground;
use crate::care::room::Member;
use crate::care::room::Permission;
use crate::care::room::RoomState;
use crate::care::room::RoomStatus;
use crate::care::room::ShownLocation;
use crate::care::room::ShownPatient;
use crate::care::room::ShownVisit;
use crate::care::room::Unresolved;
use crate::ids::Identifier;
use crate::ids::JournalId;
use crate::ids::StaffId;
use crate::time::Timestamp;

/// A time as RFC 3339 in UTC.
pub(crate) struct Utc(pub(crate) Timestamp);

impl Serialize for Utc {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl JsonSchema for Utc {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date-time", "pattern": "Z$" })
    }
}

/// A message's number in wardroom's journal. A string: it is greater than what JavaScript counts exactly.
pub(crate) struct JournalForm(pub(crate) JournalId);

impl Serialize for JournalForm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl JsonSchema for JournalForm {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Message".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^-?[0-9]+$" })
    }
}

/// Text that is null when there is none.
fn text(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// What caused an event.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Cause")]
pub(crate) struct CauseForm<'a> {
    /// `message`, `wake`, `operator`, `directory`, `policy` or `load`.
    #[schemars(schema_with = "cause_kinds")]
    kind: &'static str,
    /// The message's number in wardroom's journal.
    message: Option<JournalForm>,
    /// The message's trigger event: `A01`.
    trigger: Option<&'a str>,
    /// The feed it came in on.
    feed: Option<&'a str>,
}

impl<'a> CauseForm<'a> {
    pub(crate) fn of(cause: &'a Cause) -> Self {
        Self {
            kind: cause.kind.as_str(),
            message: cause.message.map(JournalForm),
            trigger: cause.trigger.as_ref().map(crate::ids::TriggerEvent::as_str),
            feed: cause.feed.as_ref().map(crate::ids::FeedName::as_str),
        }
    }
}

fn cause_kinds(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let words: Vec<&str> = CauseKind::ALL.iter().map(|kind| kind.as_str()).collect();
    schemars::json_schema!({ "type": "string", "enum": words })
}

/// One thing that changed. `from` is null where the room's present level hides what stood before.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[schemars(rename = "Change")]
pub(crate) enum ChangeForm<'a> {
    /// Where the room is in its life.
    Status { from: Option<RoomStatus>, to: RoomStatus },
    /// The place.
    Location { from: Option<LocationForm<'a>>, to: Option<LocationForm<'a>> },
    /// The room's name.
    Name { from: Option<&'a str>, to: &'a str },
    /// The patient's id, name, birth date or sex.
    Patient,
    /// The class of the visit.
    Class { from: Option<&'a str>, to: Option<&'a str> },
    /// Who may know.
    Confidentiality { from: Confidentiality, to: Confidentiality },
    /// The visit's number, service or times.
    Visit,
    /// Somebody is in the room now.
    Joined { user: &'a str, rule: &'a str },
    /// Somebody is in the room no more.
    Left { user: &'a str, rule: &'a str },
    /// A member's permission, roles or grounds.
    MemberUpdated { user: &'a str },
    /// The room was merged into another.
    Merged,
    /// The room is another patient's now.
    Rehomed,
    /// Who is named and not known.
    Unresolved,
}

impl<'a> ChangeForm<'a> {
    pub(crate) fn of(change: &'a Change, state: &RoomState) -> Self {
        // Names are made from places, so both follow one rule: where the room shows no place now, it does not tell where it was.
        let shows_place = state.location.is_some();
        match change {
            Change::Status { from, to } => Self::Status { from: *from, to: *to },
            Change::Location { from, to } => Self::Location {
                from: from.as_deref().filter(|_| shows_place).map(LocationForm::of),
                to: to.as_deref().filter(|_| shows_place).map(LocationForm::of),
            },
            Change::Name { from, to } => Self::Name { from: from.as_ref().filter(|_| shows_place).map(crate::phi::Phi::as_str), to: to.as_str() },
            Change::Patient => Self::Patient,
            Change::Class { from, to } => {
                Self::Class { from: from.as_ref().map(crate::ids::PatientClass::as_str), to: to.as_ref().map(crate::ids::PatientClass::as_str) }
            }
            Change::Confidentiality { from, to } => Self::Confidentiality { from: *from, to: *to },
            Change::Visit => Self::Visit,
            Change::Joined { user, rule } => Self::Joined { user: user.as_str(), rule: rule.as_str() },
            Change::Left { user, rule } => Self::Left { user: user.as_str(), rule: rule.as_str() },
            Change::MemberUpdated { user } => Self::MemberUpdated { user: user.as_str() },
            Change::Merged => Self::Merged,
            Change::Rehomed => Self::Rehomed,
            Change::Unresolved => Self::Unresolved,
        }
    }
}

/// Something to say in the room.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "RoomNotice")]
pub(crate) struct NoticeForm<'a> {
    /// What to say. The list grows; show what you know and leave out the rest.
    #[schemars(schema_with = "notice_codes")]
    code: &'static str,
    /// With which parameters, by name.
    parameters: BTreeMap<&'static str, &'a str>,
}

impl<'a> NoticeForm<'a> {
    pub(crate) fn of(notice: &'a RoomNotice) -> Self {
        Self { code: notice.code.as_str(), parameters: notice.parameters.iter().map(|(name, value)| (*name, value.as_str())).collect() }
    }
}

fn notice_codes(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let words: Vec<&str> = RoomNoticeCode::ALL.iter().map(|code| code.as_str()).collect();
    schemars::json_schema!({ "type": "string", "examples": words })
}

/// A care room: the whole state a consumer should have it in.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Room")]
pub(crate) struct RoomForm<'a> {
    /// Minted at random when the room is first known; never changed, never used again.
    id: Uuid,
    /// Counts what was published of the room: 1, 2, 3, …
    #[schemars(range(min = 1))]
    version: u64,
    /// Where the room is in its life.
    status: RoomStatus,
    /// The name to show. It never tells who the patient is, and no two rooms share it.
    name: &'a str,
    /// Who may know. Above `normal`, members whom the consumer's own users added are to leave too.
    confidentiality: Confidentiality,
    /// Whether members may write.
    writable: bool,
    /// Whether people should be told; false for catch-up and initial load.
    notify: bool,
    /// How well the team covers the patient. `none`: alert somebody.
    coverage: Coverage,
    /// What to show with the room; sorted, each once.
    flags: Vec<Flag>,
    /// Where the patient is for a while; the bed is kept.
    whereabouts: Option<LocationForm<'a>>,
    /// The facility.
    facility: Option<&'a str>,
    /// The place, where the level shows it.
    location: Option<LocationForm<'a>>,
    /// The patient. Show two identifiers in the room's header wherever the level allows it.
    patient: PatientForm<'a>,
    /// The visit.
    visit: VisitForm<'a>,
    /// The derived members and nobody else, sorted by user.
    members: Vec<MemberForm<'a>>,
    /// Whom messages name and the staff directory does not know.
    unresolved: Vec<UnresolvedForm<'a>>,
    /// The room this one was merged into. It may be one that the consumer has not seen yet.
    merged_into: Option<Uuid>,
    /// The room of an earlier stay that this one goes on from.
    continues: Option<Uuid>,
    /// When the grace ends.
    closes_at: Option<Utc>,
}

impl<'a> RoomForm<'a> {
    pub(crate) fn of(room: &'a CareRoom, notify: bool) -> Self {
        let state = &room.state;
        let mut members: Vec<&Member> = state.members.iter().collect();
        members.sort_by(|one, other| one.user.cmp(&other.user));
        Self {
            id: room.id.0,
            version: room.version,
            status: state.status,
            name: state.name.as_str(),
            confidentiality: state.confidentiality,
            writable: state.writable,
            notify,
            coverage: state.coverage,
            flags: state.flags.clone(),
            whereabouts: state.whereabouts.as_ref().map(LocationForm::of_place),
            facility: text(state.facility.as_str()),
            location: state.location.as_ref().map(LocationForm::of),
            patient: PatientForm::of(&state.patient),
            visit: VisitForm::of(&state.visit),
            members: members.into_iter().map(MemberForm::of).collect(),
            unresolved: state.unresolved.iter().map(UnresolvedForm::of).collect(),
            merged_into: state.merged_into.map(|room| room.0),
            continues: state.continues.map(|room| room.0),
            closes_at: state.closes_at.map(Utc),
        }
    }
}

/// A place.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Location")]
pub(crate) struct LocationForm<'a> {
    /// The facility.
    facility: Option<&'a str>,
    /// The unit, clinic or department, as the feed calls it.
    point_of_care: &'a str,
    /// The unit's name for people, where the unit table has it.
    unit_name: Option<&'a str>,
    /// The room.
    room: Option<&'a str>,
    /// The bed.
    bed: Option<&'a str>,
}

impl<'a> LocationForm<'a> {
    fn of(shown: &'a ShownLocation) -> Self {
        Self { unit_name: shown.unit_name.as_deref().and_then(text), ..Self::of_place(&shown.place) }
    }

    fn of_place(place: &'a BedLocation) -> Self {
        Self {
            facility: text(place.facility.as_str()),
            point_of_care: place.point_of_care.as_str(),
            unit_name: None,
            room: text(&place.room),
            bed: text(&place.bed),
        }
    }
}

/// An identifier: unique only as a whole.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Identifier")]
struct IdentifierForm<'a> {
    /// Who issued it.
    authority: Option<&'a str>,
    /// Of what type it is (HL7 table 0203).
    #[serde(rename = "type")]
    id_type: Option<&'a str>,
    /// The identifier, with its leading zeros.
    value: &'a str,
}

impl<'a> IdentifierForm<'a> {
    fn of(id: &'a Identifier) -> Self {
        Self { authority: text(id.authority.as_str()), id_type: text(&id.id_type), value: id.value.as_str() }
    }

    fn of_staff(id: &'a StaffId) -> Self {
        Self { authority: text(id.authority.as_str()), id_type: text(&id.id_type), value: &id.value }
    }
}

/// The patient, as far as the level shows them.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Patient")]
struct PatientForm<'a> {
    /// The patient id that counts now.
    id: IdentifierForm<'a>,
    /// What to show in the header: a name, initials, or nothing.
    display: Option<&'a str>,
    /// The family name.
    family: Option<&'a str>,
    /// The given name.
    given: Option<&'a str>,
    /// The middle name.
    middle: Option<&'a str>,
    /// The birth date, as precisely as it is known: `1980-01-31`, `1980-01`, `1980`.
    #[schemars(regex(pattern = "^[0-9]{4}(-[0-9]{2}(-[0-9]{2})?)?$"))]
    birth_date: Option<&'a str>,
    /// The sex (HL7 table 0001).
    sex: Option<&'a str>,
}

impl<'a> PatientForm<'a> {
    fn of(patient: &'a ShownPatient) -> Self {
        let name = patient.name.as_ref();
        Self {
            id: IdentifierForm::of(&patient.id.0),
            display: patient.display.expose().as_deref().and_then(text),
            family: name.and_then(|name| text(name.family.as_str())),
            given: name.and_then(|name| text(name.given.as_str())),
            middle: name.and_then(|name| text(name.middle.as_str())),
            birth_date: patient.birth_date.expose().as_deref().and_then(text),
            sex: patient.sex.expose().as_deref().and_then(text),
        }
    }
}

/// The visit, as far as the level shows it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Visit")]
struct VisitForm<'a> {
    /// The visit number that counts now.
    id: IdentifierForm<'a>,
    /// The patient class (HL7 table 0004).
    class: Option<&'a str>,
    /// The service that treats the patient (HL7 table 0069).
    service: Option<&'a str>,
    /// When the stay began.
    admitted_at: Option<Utc>,
    /// When it ended.
    discharged_at: Option<Utc>,
}

impl<'a> VisitForm<'a> {
    fn of(visit: &'a ShownVisit) -> Self {
        Self {
            id: IdentifierForm::of(&visit.id.0),
            class: visit.class.as_ref().and_then(|class| text(class.as_str())),
            service: visit.service.as_ref().and_then(|service| text(service.as_str())),
            admitted_at: visit.admitted_at.map(Utc),
            discharged_at: visit.discharged_at.map(Utc),
        }
    }
}

/// Somebody in the room.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Member")]
struct MemberForm<'a> {
    /// The chat user.
    user: &'a str,
    /// What the user may do.
    permission: Permission,
    /// As what; sorted, each once.
    roles: Vec<&'a str>,
    /// Why.
    grounds: Vec<GroundForm<'a>>,
}

impl<'a> MemberForm<'a> {
    fn of(member: &'a Member) -> Self {
        Self {
            user: member.user.as_str(),
            permission: member.permission,
            roles: member.roles.iter().map(crate::ids::Role::as_str).collect(),
            grounds: member.grounds.iter().map(GroundForm::of).collect(),
        }
    }
}

/// Why somebody is in the room.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Ground")]
struct GroundForm<'a> {
    /// The rule that decided it.
    rule: &'a str,
    /// What it stands on: `PV1-7`, `ROL-4`, `unit GHH/4N`; `operator`, where somebody was let in for some hours.
    from: &'a str,
    /// The message that said so; where an operator did, the number of that grant, which is no message's.
    message: JournalForm,
    /// Since when.
    since: Utc,
    /// Until when, where that is known.
    until: Option<Utc>,
}

impl<'a> GroundForm<'a> {
    fn of(ground: &'a Ground) -> Self {
        Self {
            rule: ground.rule.as_str(),
            from: &ground.from,
            message: JournalForm(ground.message),
            since: Utc(ground.since),
            until: ground.until.map(Utc),
        }
    }
}

/// Somebody whom messages name and the staff directory does not know.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Unresolved")]
struct UnresolvedForm<'a> {
    /// As what.
    role: &'a str,
    /// Where they were named.
    from: &'a str,
    /// Every id given.
    ids: Vec<IdentifierForm<'a>>,
    /// The family name given.
    family: Option<&'a str>,
    /// The given name given.
    given: Option<&'a str>,
}

impl<'a> UnresolvedForm<'a> {
    fn of(person: &'a Unresolved) -> Self {
        Self {
            role: person.role.as_str(),
            from: person.from.as_str(),
            ids: person.ids.iter().map(IdentifierForm::of_staff).collect(),
            family: text(person.family.as_str()),
            given: text(person.given.as_str()),
        }
    }
}
