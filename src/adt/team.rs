//! PV1 doctors, ROL and PRT: who treats the patient (HL7 v2.5.1 §2.A.88 and §12.4.3; v2.7 §7.4.4).
//!
//! Nobody is ever matched by name, and nobody is grouped here: which ids are one human being is for the directory to say.

use compact_str::format_compact;
use smallvec::SmallVec;
use smallvec::smallvec;

use crate::adt::context::Context;
use crate::adt::group::Anchor;
use crate::adt::group::Group;
use crate::adt::maps;
use crate::adt::profile::RolMode;
use crate::care::fact::Assignment;
use crate::care::fact::AssignmentsSaid;
use crate::care::fact::FieldRef;
use crate::care::fact::Practitioner;
use crate::care::notice::NoticeCode;
use crate::hl7::cx::Cx;
use crate::hl7::field::Field;
use crate::hl7::segment::Segment;
use crate::hl7::xcn::Xcn;
use crate::ids::StaffId;
use crate::phi::Phi;

/// One person, whatever the repetitions: all ids that were given.
pub(crate) fn one(context: &mut Context<'_, '_>, field: Field<'_>, name: &'static str) -> Option<Practitioner> {
    let mut repetitions = field.repetitions();
    let mut one = repetitions.find_map(|repetition| person(context, repetition, name))?;
    for other in repetitions.filter_map(|repetition| person(context, repetition, name)) {
        for id in other.ids {
            if !one.ids.contains(&id) {
                one.ids.push(id);
            }
        }
        if one.family.as_str().is_empty() {
            one.family = other.family;
            one.given = other.given;
        }
    }
    Some(one)
}

/// As many people as there are repetitions.
pub(crate) fn each(context: &mut Context<'_, '_>, field: Field<'_>, name: &'static str) -> Option<Vec<Practitioner>> {
    let mut people: Vec<Practitioner> = Vec::new();
    for repetition in field.repetitions() {
        if let Some(person) = person(context, repetition, name)
            && !people.contains(&person)
        {
            people.push(person);
        }
    }
    (!people.is_empty()).then_some(people)
}

fn person(context: &mut Context<'_, '_>, repetition: Field<'_>, name: &'static str) -> Option<Practitioner> {
    if Cx::is_cut(repetition) {
        context.notice(NoticeCode::Truncated, name);
    }
    let xcn = Xcn::read(repetition)?;
    let ids = if xcn.id.is_empty() {
        SmallVec::new()
    } else {
        smallvec![StaffId { authority: context.profile.authority(&xcn.authority), id_type: xcn.id_type.into(), value: xcn.id.into() }]
    };
    Some(Practitioner { ids, family: Phi::from(&*xcn.family), given: Phi::from(&*xcn.given) })
}

/// What a segment does with its person (tables 0287 and 0206).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Action {
    /// In, and it says so of this person alone (`AD`, `CO`, `A`).
    Add,
    /// In (`UP`, `U`, `LI`, blank and unknown).
    Put,
    /// In, as part of the whole set (`SP`, `S`).
    Snapshot,
    /// Out (`DE`, `UN`, `D`).
    Remove,
    /// As it was (`UC`, `X`).
    Unchanged,
}

fn action(code: &str) -> Action {
    match maps::upper(code).as_str() {
        "AD" | "CO" | "A" => Action::Add,
        "DE" | "UN" | "D" => Action::Remove,
        "SP" | "S" => Action::Snapshot,
        "UC" | "X" => Action::Unchanged,
        _ => Action::Put,
    }
}

/// Where ROL and PRT keep what they say.
struct Layout {
    id: &'static str,
    person: &'static str,
    role: usize,
    who: usize,
    begins: usize,
    ends: usize,
}

const ROL: Layout = Layout { id: "ROL", person: "ROL-4", role: 3, who: 4, begins: 5, ends: 6 };
const PRT: Layout = Layout { id: "PRT", person: "PRT-5", role: 4, who: 5, begins: 11, ends: 12 };

/// What a group says of assignments at a level: the visit's (with those of its procedures, where the feed wants that) or the person's. No segment at that level says nothing, never that the team is empty.
pub(crate) fn assignments(context: &mut Context<'_, '_>, group: &Group<'_>, level: Anchor) -> AssignmentsSaid {
    let mut said: Vec<(Action, Option<Assignment>)> = Vec::new();
    let mut clears = false;
    for (anchor, segment) in group.anchored() {
        let layout = match segment.id() {
            "ROL" => &ROL,
            "PRT" => &PRT,
            _ => continue,
        };
        let counts = anchor == level || (level == Anchor::Visit && anchor == Anchor::Procedure && context.profile.procedure_team);
        if !counts {
            continue;
        }
        if segment.field(1).is_null() {
            // The delete indicator in the set id of the segment: the whole set is no more.
            clears = true;
            continue;
        }
        said.push((action(&segment.field(2).text()), assignment(context, segment, layout)));
    }
    if level == Anchor::Visit {
        extra(context, group, &mut said);
    }
    // Roles without a person say nothing of who is in: persons are withheld, not gone.
    if said.iter().all(|(_, assignment)| assignment.is_none()) {
        return if clears { AssignmentsSaid::Snapshot(Vec::new()) } else { AssignmentsSaid::Keep };
    }
    let is_delta = match context.profile.rol_mode {
        RolMode::Snapshot => false,
        RolMode::Delta => !clears && !said.iter().any(|(action, _)| *action == Action::Snapshot),
        RolMode::Auto => !clears && said.iter().any(|(action, _)| matches!(action, Action::Add | Action::Remove)),
    };
    let mut assignments = Vec::new();
    for (action, assignment) in said {
        let stays = match action {
            Action::Remove => is_delta,
            Action::Unchanged => !is_delta,
            Action::Add | Action::Put | Action::Snapshot => true,
        };
        if let Some(assignment) = assignment.filter(|_| stays) {
            assignments.push(Assignment { removed: action == Action::Remove, ..assignment });
        }
    }
    match (is_delta, assignments.is_empty()) {
        (true, true) => AssignmentsSaid::Keep,
        (true, false) => AssignmentsSaid::Delta(assignments),
        (false, _) => AssignmentsSaid::Snapshot(assignments),
    }
}

fn assignment(context: &mut Context<'_, '_>, segment: Segment<'_>, layout: &Layout) -> Option<Assignment> {
    let Some(person) = one(context, segment.field(layout.who), layout.person) else {
        context.notice(NoticeCode::RoleWithoutPerson, layout.person);
        return None;
    };
    let field = segment.field(layout.role);
    let (code, text) = (field.text(), field.component(2).text());
    let role = maps::role(context.profile, &code, &text);
    if role.is_none() {
        context.notice(NoticeCode::UnmappedRole, if layout.id == "ROL" { "ROL-3" } else { "PRT-4" });
    }
    let said = if code.is_empty() { &text } else { &code };
    Some(Assignment {
        source: format_compact!("{}:{}", layout.id, maps::upper(said)),
        role,
        from: FieldRef::new(layout.person),
        person,
        begins_at: context.times.instant(&segment.field(layout.begins).text()),
        ends_at: context.times.end(&segment.field(layout.ends).text()),
        removed: false,
    })
}

/// The feed's own team fields. Each repetition is a person; together with ROL and PRT they are one set.
fn extra(context: &mut Context<'_, '_>, group: &Group<'_>, said: &mut Vec<(Action, Option<Assignment>)>) {
    let profile = context.profile;
    for (path, role) in &profile.z {
        let Some((segment, n)) = path.split_once('-').and_then(|(id, n)| Some((group.first(id)?, n.parse::<usize>().ok()?))) else { continue };
        for person in each(context, segment.field(n), "Z").unwrap_or_default() {
            let assignment = Assignment {
                source: format_compact!("{path}:{}", maps::upper(role.as_str())),
                role: Some(role.clone()),
                from: FieldRef::configured(path.clone()),
                person,
                begins_at: None,
                ends_at: None,
                removed: false,
            };
            said.push((Action::Put, Some(assignment)));
        }
    }
}
