//! The policy: which stays get a room, who belongs in it and as what, and how long anything lasts.
//!
//! Conditions and the name's template arrive compiled. The core never parses an expression and never reads a configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::care::fact::BedLocation;
use crate::care::fact::Confidentiality;
use crate::care::room::Permission;
use crate::care::room::RoomStatus;
use crate::ids::HospitalService;
use crate::ids::PatientClass;
use crate::ids::Role;

/// What a condition may ask about a visit. No name, no id, no diagnosis: a condition must not be able to tell patients apart.
#[derive(Clone, Debug, Default)]
pub struct VisitView<'a> {
    /// The class, where known.
    pub class: Option<&'a PatientClass>,
    /// The place, where known.
    pub place: Option<&'a BedLocation>,
    /// The service, where known.
    pub service: Option<&'a HospitalService>,
    /// Where the stay is: `active`, `on_leave`, `grace`, `expected`.
    pub status: Option<RoomStatus>,
    /// The effective level.
    pub confidentiality: Confidentiality,
    /// Whether PV1-44 was valued.
    pub admitted: bool,
    /// Whether a bed is named (PV1-3.3).
    pub has_bed: bool,
}

/// A compiled condition; `None` where it could not be evaluated, which always narrows.
#[derive(Clone)]
pub struct Condition {
    source: Arc<str>,
    evaluate: Arc<dyn Fn(&VisitView<'_>) -> Option<bool> + Send + Sync>,
}

impl Condition {
    /// Wraps what `config` compiled from this text.
    pub fn new(source: &str, evaluate: impl Fn(&VisitView<'_>) -> Option<bool> + Send + Sync + 'static) -> Self {
        Self { source: source.into(), evaluate: Arc::new(evaluate) }
    }

    /// Whether it holds; an error counts as no.
    pub fn holds(&self, visit: &VisitView<'_>) -> bool {
        (self.evaluate)(visit) == Some(true)
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Condition").field(&self.source).finish()
    }
}

/// Where a `[[team]]` rule takes people from.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum TeamSource {
    /// PV1-7.
    Attending,
    /// PV1-8.
    Referring,
    /// PV1-9.
    Consulting,
    /// PV1-17.
    Admitting,
    /// PV1-52.
    Others,
    /// PD1-4.
    PrimaryCare,
    /// ROL or PRT with this code (`ROL:AT` and `PRT:AT` alike); upper case. Those of the person count too, but for roles that only a visit has.
    Assignment(String),
    /// Every visit-level ROL or PRT whose role is mapped and that no other rule takes.
    OtherAssignments,
    /// The team of the unit.
    Unit,
    /// The team of the service.
    Service,
}

/// One `[[team]]` rule.
#[derive(Clone, Debug)]
pub struct TeamRule {
    /// As what they belong; for [`TeamSource::OtherAssignments`] the mapped role is used instead.
    pub role: Role,
    /// Where they come from.
    pub from: Vec<TeamSource>,
    /// What they may do.
    pub permission: Permission,
    /// When the rule counts; `None` is always.
    pub when: Option<Condition>,
    /// Whether the rule stands back as soon as anybody is in the room by this role.
    pub only_without: Option<Role>,
}

/// What a very restricted visit gets.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum VeryRestricted {
    /// A room with the explicitly named.
    #[default]
    Explicit,
    /// No room.
    NoRoom,
}

/// A part of a room's name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NamePart {
    /// Text as it stands.
    Text(String),
    /// `{{ facility }}`
    Facility,
    /// `{{ unit }}`
    Unit,
    /// `{{ room }}`
    Room,
    /// `{{ bed }}`
    Bed,
    /// `{{ place }}`: unit, room and bed; in grace the unit only.
    Place,
    /// `{{ code }}`: four letters from the room id.
    Code,
    /// `{{ service }}`
    Service,
}

/// A span by class, with one for all others.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ByClass {
    /// For these classes.
    pub by_class: BTreeMap<PatientClass, Duration>,
    /// For all others.
    pub default: Duration,
}

impl ByClass {
    /// The span for a class.
    pub fn of(&self, class: Option<&PatientClass>) -> Duration {
        class.and_then(|class| self.by_class.get(class)).copied().unwrap_or(self.default)
    }
}

/// The whole policy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Classes that get a room, where `when` is not set.
    pub classes: Vec<PatientClass>,
    /// Which visits get a room, in place of `classes`.
    pub when: Option<Condition>,
    /// Classes whose room closes at the end of its day.
    pub day_classes: Vec<PatientClass>,
    /// The name.
    pub name: Vec<NamePart>,
    /// How long a unit's team stays after a transfer, and a doctor after another took over.
    pub handover: Duration,
    /// Nobody leaves sooner than this after the news arrived (nor sooner than their grace, if that is shorter).
    pub grace_floor: Duration,
    /// How long a room lives without any message.
    pub max_age: ByClass,
    /// What a very restricted visit gets.
    pub very_restricted: VeryRestricted,
    /// How long a room stays open after the discharge.
    pub discharge_grace: ByClass,
    /// How long before the newest fact a plain update still counts.
    pub late_window: Duration,
    /// How long after its end a stay is kept. What was over so long ago when it is heard of may be of a stay that was deleted.
    pub purge_after: Duration,
    /// Whether rooms of expected stays are published.
    pub publish_expected: bool,
    /// Whether an update of a stay never seen opened opens it (`adopt_on_update`).
    pub adopt_on_update: bool,
    /// Whether an update of an ended stay without PV1-45 opens it again.
    pub reopen_on_update: bool,
    /// Whether an admission of an ended stay with the same PV1-44 opens it again.
    pub reopen_on_admit: bool,
    /// Who belongs, in the order of their weight.
    pub team: Vec<TeamRule>,
}

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

impl Default for Policy {
    fn default() -> Self {
        let rule =
            |role: &str, from: Vec<TeamSource>, permission| TeamRule { role: Role::from(role), from, permission, when: None, only_without: None };
        let code = |code: &str| TeamSource::Assignment(code.to_owned());
        Self {
            classes: ["I", "E", "B"].map(PatientClass::from).to_vec(),
            when: None,
            day_classes: Vec::new(),
            name: vec![NamePart::Place, NamePart::Text(" ".to_owned()), NamePart::Code],
            handover: 60 * MINUTE,
            grace_floor: 15 * MINUTE,
            max_age: ByClass { by_class: BTreeMap::from([(PatientClass::from("E"), 48 * HOUR)]), default: 60 * DAY },
            very_restricted: VeryRestricted::Explicit,
            discharge_grace: ByClass { by_class: BTreeMap::from([(PatientClass::from("E"), 4 * HOUR)]), default: 24 * HOUR },
            late_window: 7 * DAY,
            purge_after: 365 * DAY,
            publish_expected: false,
            adopt_on_update: true,
            reopen_on_update: false,
            reopen_on_admit: true,
            team: vec![
                rule("attending", vec![TeamSource::Attending, code("AT")], Permission::Owner),
                rule("consulting", vec![TeamSource::Consulting, code("CP")], Permission::Member),
                TeamRule {
                    only_without: Some(Role::from("attending")),
                    ..rule("admitting", vec![TeamSource::Admitting, code("AD")], Permission::Member)
                },
                rule("care team", vec![TeamSource::OtherAssignments], Permission::Member),
                rule("unit", vec![TeamSource::Unit], Permission::Member),
            ],
        }
    }
}
