//! The team: who belongs in the room, on which grounds, until when.
//!
//! Grounds come from the runs of the visit and from the roster. What has been replaced goes on through the handover; what a cancel struck leaves no
//! trace. Ids are resolved here and nowhere before, so that a change of the directory reaches every open room. Nobody is matched by name.

use std::collections::BTreeMap;
use std::time::Duration;

use compact_str::format_compact;
use smallvec::SmallVec;

use crate::care::fact::Assignment;
use crate::care::fact::Confidentiality;
use crate::care::fact::FieldRef;
use crate::care::fact::Practitioner;
use crate::care::fact::Stamp;
use crate::care::grant;
use crate::care::grant::Grant;
use crate::care::identity::Person;
use crate::care::policy::Policy;
use crate::care::policy::TeamRule;
use crate::care::policy::TeamSource;
use crate::care::policy::VisitView;
use crate::care::room::Ground;
use crate::care::room::Member;
use crate::care::room::Permission;
use crate::care::room::Unresolved;
use crate::care::roster::Resolved;
use crate::care::roster::Roster;
use crate::care::runs::Run;
use crate::care::visit::StandingAssignment;
use crate::care::visit::Stay;
use crate::ids::JournalId;
use crate::ids::Role;
use crate::ids::UserId;
use crate::time::Timestamp;

/// How long the old unit stays when the patient was moved to a place that is no unit.
const LIMBO: Duration = Duration::from_hours(12);
/// How long a role that is bound to a unit lasts without being said again.
const SHIFT: Duration = Duration::from_hours(16);
/// Roles that belong to a unit's shift rather than to the patient.
const UNIT_BOUND: [&str; 3] = ["nurse", "nursing assistant", "patient care assistant"];
/// Roles that somebody has for a visit only: as the word of a person they mean nothing.
const OF_A_VISIT: [&str; 3] = ["AT", "AD", "CP"];

/// Everything the team is made from.
#[derive(Debug)]
pub(super) struct TeamInput<'a> {
    pub(super) stay: &'a Stay,
    /// Stays of visits merged into this one, which add whom they name.
    pub(super) also: &'a [&'a Stay],
    pub(super) person: &'a Person,
    /// Only what was said up to this fact counts: in grace, the end of the stay.
    pub(super) until: Option<Stamp>,
    pub(super) view: &'a VisitView<'a>,
    pub(super) level: Confidentiality,
    pub(super) patient_users: &'a [UserId],
    /// Grants that stand.
    pub(super) grants: &'a [&'a Grant],
    pub(super) policy: &'a Policy,
    pub(super) roster: &'a Roster,
    pub(super) now: Timestamp,
}

/// Who is in the room.
#[derive(Debug, Default)]
pub(super) struct Team {
    pub(super) members: Vec<Member>,
    pub(super) unresolved: Vec<Unresolved>,
    /// Whether anybody is there by the unit or a service.
    pub(super) has_group: bool,
    /// The next instant at which the team changes by itself.
    pub(super) changes_at: Option<Timestamp>,
}

impl Team {
    pub(super) fn wake(&mut self, at: Timestamp, now: Timestamp) {
        if at > now {
            self.changes_at = Some(self.changes_at.map_or(at, |known| known.min(at)));
        }
    }
}

/// When somebody who was replaced leaves: the grace after the news was recorded, and a short while after it arrived at the least.
pub(super) fn leaves_at(news: Stamp, grace: Duration, floor: Duration) -> Timestamp {
    news.recorded.plus(grace).max(news.arrival.at().plus(grace.min(floor)))
}

/// Gathers grounds, person by person.
struct Gathering<'a> {
    input: &'a TeamInput<'a>,
    by_user: BTreeMap<UserId, (Permission, SmallVec<[(Role, Ground); 1]>)>,
    team: Team,
}

/// One ground before it has found its person.
struct Claim<'r> {
    rule: &'r TeamRule,
    role: &'r Role,
    from: &'static str,
    message: JournalId,
    since: Timestamp,
    until: Option<Timestamp>,
}

/// Makes the team.
pub(super) fn team(input: &TeamInput<'_>) -> Team {
    let mut gathering = Gathering { input, by_user: BTreeMap::new(), team: Team::default() };
    let taken: Vec<&str> = input
        .policy
        .team
        .iter()
        .flat_map(|rule| &rule.from)
        .filter_map(|source| if let TeamSource::Assignment(code) = source { Some(code.as_str()) } else { None })
        .collect();
    for rule in &input.policy.team {
        if rule.when.as_ref().is_some_and(|condition| !condition.holds(input.view)) {
            continue;
        }
        if rule.only_without.as_ref().is_some_and(|role| gathering.has_role(role)) {
            continue;
        }
        for source in &rule.from {
            gathering.take(input.stay, rule, source, &taken);
            gathering.of_person(rule, source);
            if !matches!(source, TeamSource::Unit | TeamSource::Service) {
                input.also.iter().for_each(|stay| gathering.take(stay, rule, source, &taken));
            }
        }
    }
    for grant in input.grants {
        gathering.join(&grant.user, Permission::Member, &grant::role(), grant.ground());
    }
    let Gathering { by_user, mut team, .. } = gathering;
    team.members = by_user
        .into_iter()
        .map(|(user, (permission, grounds))| {
            let mut roles: SmallVec<[Role; 1]> = grounds.iter().map(|(role, _)| role.clone()).collect();
            roles.sort();
            roles.dedup();
            Member { user, permission, roles, grounds: grounds.into_iter().map(|(_, ground)| ground).collect() }
        })
        .collect();
    team
}

impl Gathering<'_> {
    fn has_role(&self, role: &Role) -> bool {
        self.by_user.values().any(|(_, grounds)| grounds.iter().any(|(held, ground)| held == role && ground.until.is_none()))
    }

    fn take(&mut self, stay: &Stay, rule: &TeamRule, source: &TeamSource, taken: &[&str]) {
        match source {
            TeamSource::Attending => self.one(rule, stay.attending.until(self.input.until), "PV1-7"),
            TeamSource::Referring => self.one(rule, stay.referring.until(self.input.until), "PV1-8"),
            TeamSource::Admitting => self.one(rule, stay.admitting.until(self.input.until), "PV1-17"),
            TeamSource::Consulting => self.each(rule, stay.consulting.until(self.input.until), "PV1-9"),
            TeamSource::Others => self.each(rule, stay.others.until(self.input.until), "PV1-52"),
            TeamSource::PrimaryCare => {}
            TeamSource::Assignment(code) => {
                for standing in &stay.assignments {
                    if code_of(&standing.assignment) == code {
                        self.assignment(stay, rule, &rule.role, standing);
                    }
                }
            }
            TeamSource::OtherAssignments => self.other_assignments(stay, rule, taken),
            TeamSource::Unit => self.units(rule),
            TeamSource::Service => self.service(rule),
        }
    }

    /// A field that names one person: who stands, and whoever was replaced while the handover runs.
    fn one(&mut self, rule: &TeamRule, runs: &[Run<Practitioner>], from: &'static str) {
        let policy = self.input.policy;
        if let Some(run) = runs.last()
            && let Some(person) = &run.value
        {
            let claim = Claim { rule, role: &rule.role, from, message: run.since.arrival, since: run.since.recorded, until: None };
            self.named(&claim, person, true);
        }
        for pair in runs.windows(2) {
            let [old, new] = pair else { continue };
            let (Some(person), Some(_)) = (&old.value, &new.value) else { continue };
            let until = leaves_at(new.since, policy.handover, policy.grace_floor);
            if until > self.input.now && self.input.level != Confidentiality::VeryRestricted {
                let claim = Claim { rule, role: &rule.role, from, message: old.since.arrival, since: old.since.recorded, until: Some(until) };
                self.named(&claim, person, true);
            }
        }
    }

    /// A field that names several: each person since the list that named them first without a gap.
    fn each(&mut self, rule: &TeamRule, runs: &[Run<Vec<Practitioner>>], from: &'static str) {
        let Some(list) = runs.last().and_then(|run| run.value.as_ref()) else { return };
        for person in list {
            let names = |run: &&Run<Vec<Practitioner>>| run.value.as_ref().is_some_and(|list| list.contains(person));
            let Some(first) = runs.iter().rev().take_while(names).last() else { continue };
            let claim = Claim { rule, role: &rule.role, from, message: first.since.arrival, since: first.since.recorded, until: None };
            self.named(&claim, person, false);
        }
    }

    /// Whom messages named for the person, whatever the stay: only a rule that asks for them takes them in.
    fn of_person(&mut self, rule: &TeamRule, source: &TeamSource) {
        let TeamInput { person, until, .. } = *self.input;
        let counts = |since: Stamp| until.is_none_or(|until| since <= until);
        match source {
            TeamSource::PrimaryCare => {
                let Some((list, since)) = person.primary_care().filter(|(_, since)| counts(*since)) else { return };
                for who in list {
                    let claim = Claim { rule, role: &rule.role, from: "PD1-4", message: since.arrival, since: since.recorded, until: None };
                    self.named(&claim, who, false);
                }
            }
            TeamSource::Assignment(code) if !OF_A_VISIT.contains(&code.as_str()) => {
                for (assignment, since) in person.assignments().filter(|(_, since)| counts(*since)) {
                    if code_of(assignment) == code {
                        self.assigned(rule, &rule.role, assignment, since, None);
                    }
                }
            }
            TeamSource::Attending
            | TeamSource::Referring
            | TeamSource::Consulting
            | TeamSource::Admitting
            | TeamSource::Others
            | TeamSource::Assignment(_)
            | TeamSource::OtherAssignments
            | TeamSource::Unit
            | TeamSource::Service => {}
        }
    }

    fn other_assignments(&mut self, stay: &Stay, rule: &TeamRule, taken: &[&str]) {
        for standing in &stay.assignments {
            let code = code_of(&standing.assignment);
            if taken.contains(&code) || ["RP", "RT", "PP", "FHCP"].contains(&code) {
                continue;
            }
            match &standing.assignment.role {
                Some(held) => self.assignment(stay, rule, held, standing),
                None => self.unresolved(&Role::new(code.to_lowercase()), standing.assignment.from.clone(), &standing.assignment.person),
            }
        }
    }

    fn assignment(&mut self, stay: &Stay, rule: &TeamRule, held: &Role, standing: &StandingAssignment) {
        if self.input.until.is_some_and(|until| standing.since > until) {
            return;
        }
        let bound = UNIT_BOUND.contains(&held.as_str()).then(|| self.shift_ends(stay, standing));
        self.assigned(rule, held, &standing.assignment, standing.since, bound);
    }

    /// One person in one role, while the role lasts; `bound` is when it ends whatever the message says.
    fn assigned(&mut self, rule: &TeamRule, held: &Role, assignment: &Assignment, said: Stamp, bound: Option<Timestamp>) {
        let now = self.input.now;
        if let Some(begins) = assignment.begins_at.filter(|begins| *begins > now) {
            self.team.wake(begins, now);
            return;
        }
        let until = [assignment.ends_at, bound].into_iter().flatten().min();
        if until.is_some_and(|until| until <= now) {
            return;
        }
        let from = if assignment.from.as_str() == "PRT-5" { "PRT-5" } else { "ROL-4" };
        let since = assignment.begins_at.unwrap_or(said.recorded);
        self.named(&Claim { rule, role: held, from, message: said.arrival, since, until }, &assignment.person, true);
    }

    /// A nurse goes with the unit: at the handover after a transfer unless said again since, and after sixteen hours at the latest.
    fn shift_ends(&self, stay: &Stay, standing: &StandingAssignment) -> Timestamp {
        let policy = self.input.policy;
        let latest = standing.restated.recorded.plus(SHIFT);
        let runs = stay.location.until(self.input.until);
        let moved = runs.windows(2).rev().find_map(|pair| match pair {
            [Run { value: Some(old), .. }, new @ Run { value: Some(place), .. }] if !old.same_unit(place) => Some(new.since),
            _ => None,
        });
        match moved {
            Some(moved) if moved > standing.restated => latest.min(leaves_at(moved, policy.handover, policy.grace_floor)),
            _ => latest,
        }
    }

    /// The team of the unit, and the teams of units that were left while their handover runs.
    fn units(&mut self, rule: &TeamRule) {
        let TeamInput { roster, policy, now, level, .. } = *self.input;
        let runs = self.input.stay.location.until(self.input.until);
        let joinable = |run: &Run<crate::care::fact::BedLocation>| {
            let unit = run.value.as_ref().and_then(|place| roster.unit(place))?;
            (!unit.flags.no_auto_join && !unit.flags.virtual_unit).then_some(unit)
        };
        let part2_only = level == Confidentiality::VeryRestricted;
        if level != Confidentiality::Normal && !part2_only {
            return;
        }
        // Where the current unit began, and the message that moved the patient there: a change of bed within the unit begins nothing.
        for (index, run) in runs.iter().enumerate() {
            let Some(place) = &run.value else { continue };
            if index > 0 && runs.get(index - 1).and_then(|before| before.value.as_ref()).is_some_and(|before| before.same_unit(place)) {
                continue;
            }
            let Some(unit) = joinable(run) else { continue };
            let Some(group) = &unit.group else { continue };
            let after = runs.get(index + 1..).unwrap_or_default();
            let elsewhere = |later: &&Run<crate::care::fact::BedLocation>| later.value.as_ref().is_some_and(|other| !other.same_unit(place));
            let left = after.iter().find(elsewhere);
            let relieved = after.iter().find(|later| elsewhere(later) && joinable(later).is_some());
            let until = match (left, relieved) {
                (None, _) => None,
                (Some(left), None) => Some(leaves_at(left.since, LIMBO, policy.grace_floor)),
                (Some(left), Some(relieved)) => {
                    Some(leaves_at(relieved.since, policy.handover, policy.grace_floor).min(leaves_at(left.since, LIMBO, policy.grace_floor)))
                }
            };
            if until.is_some_and(|until| until <= now) || (part2_only && (until.is_some() || !unit.flags.part2)) {
                continue;
            }
            let ground = Ground {
                rule: rule.role.clone(),
                from: format_compact!("unit {}/{}", place.facility, place.point_of_care),
                message: run.since.arrival,
                since: run.since.recorded,
                until,
            };
            for user in roster.members(group) {
                self.join(user, rule.permission, &rule.role, ground.clone());
                self.team.has_group = true;
            }
        }
    }

    fn service(&mut self, rule: &TeamRule) {
        let TeamInput { roster, level, .. } = *self.input;
        if level != Confidentiality::Normal {
            return;
        }
        let Some(run) = self.input.stay.service.until(self.input.until).last() else { return };
        let Some((service, group)) = run.value.as_ref().and_then(|service| Some((service, roster.service_group(service)?))) else { return };
        let ground = Ground {
            rule: rule.role.clone(),
            from: format_compact!("service {service}"),
            message: run.since.arrival,
            since: run.since.recorded,
            until: None,
        };
        for user in roster.members(group) {
            self.join(user, rule.permission, &rule.role, ground.clone());
            self.team.has_group = true;
        }
    }

    /// A person whom a message names: every id is resolved; ids of two users leave the first standing where the field means one person.
    fn named(&mut self, claim: &Claim<'_>, person: &Practitioner, one_person: bool) {
        let mut users: SmallVec<[UserId; 1]> = SmallVec::new();
        let mut inactive = false;
        let mut doubtful = person.ids.is_empty();
        for id in &person.ids {
            match self.input.roster.resolve_id(id) {
                Resolved::User(user) if users.contains(&user) => {}
                Resolved::User(user) => users.push(user.into_owned()),
                Resolved::Inactive(_) => inactive = true,
                Resolved::Ambiguous => doubtful = true,
                Resolved::Unknown => {}
            }
        }
        // Ids that nobody knows stand for people of their own only where no id of the person is known.
        let own_name =
            |user: &UserId| person.ids.iter().any(|id| *user.as_str() == *format!("{}:{}", id.authority, id.value) || user.as_str() == id.value);
        if users.len() > 1 && users.iter().any(|user| !own_name(user)) {
            users.retain(|user| !own_name(user));
        }
        let several = users.len() > 1;
        let Some(user) = users.into_iter().next() else {
            if (doubtful || !inactive) && claim.until.is_none() {
                self.unresolved(claim.role, FieldRef::new(claim.from), person);
            }
            return;
        };
        if several && one_person && claim.until.is_none() {
            self.unresolved(claim.role, FieldRef::new(claim.from), person);
        }
        let ground =
            Ground { rule: claim.rule.role.clone(), from: claim.from.into(), message: claim.message, since: claim.since, until: claim.until };
        self.join(&user, claim.rule.permission, claim.role, ground);
    }

    fn unresolved(&mut self, role: &Role, from: FieldRef, person: &Practitioner) {
        if person.ids.is_empty() && person.family.as_str().is_empty() && person.given.as_str().is_empty() {
            return;
        }
        let entry = Unresolved { role: role.clone(), from, ids: person.ids.clone(), family: person.family.clone(), given: person.given.clone() };
        if !self.team.unresolved.contains(&entry) {
            self.team.unresolved.push(entry);
        }
    }

    fn join(&mut self, user: &UserId, permission: Permission, role: &Role, ground: Ground) {
        if self.input.patient_users.contains(user) || !self.input.roster.may_join(user) {
            return;
        }
        if let Some(until) = ground.until {
            self.team.wake(until, self.input.now);
        }
        let (held, grounds) = self.by_user.entry(user.clone()).or_insert_with(|| (permission, SmallVec::new()));
        // A ground that ends says nothing beside the same ground that does not.
        let same = |other: &Ground| other.rule == ground.rule && other.from == ground.from;
        if ground.until.is_some() && grounds.iter().any(|(_, other)| same(other) && other.until.is_none_or(|until| Some(until) >= ground.until)) {
            return;
        }
        grounds.retain(|(_, other)| !(same(other) && other.until.is_some()));
        if !grounds.iter().any(|(_, other)| same(other)) {
            *held = (*held).max(permission);
            grounds.push((role.clone(), ground));
        }
    }
}

/// The code of an assignment without its segment: `AT` of `ROL:AT`.
fn code_of(assignment: &Assignment) -> &str {
    assignment.source.split_once(':').map_or(assignment.source.as_str(), |(_, code)| code)
}
