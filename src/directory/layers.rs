//! Files and messages, laid over each other: the roster that both make.
//!
//! Messages add to what the files say and take away from it; neither gives back what the other took. Whom a record of a message means is decided here: the
//! user of the files that one of its ids is of, else the user whose name its key is, else a user of that name that only messages know. Nobody is
//! matched by name.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::care::roster::Roster;
use crate::care::roster::StaffIdPattern;
use crate::care::roster::StaffMember;
use crate::care::roster::Unit;
use crate::directory::change::Act;
use crate::directory::change::Affiliation;
use crate::directory::change::AffiliationKind;
use crate::directory::change::Change;
use crate::directory::change::Changes;
use crate::directory::change::UnitRecord;
use crate::directory::said::Said;
use crate::directory::said::Standing;
use crate::ids::Facility;
use crate::ids::GroupId;
use crate::ids::HospitalService;
use crate::ids::PointOfCare;
use crate::ids::UserId;
use crate::time::Timestamp;

/// A replacement that would leave too many out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TooFew {
    /// How many of the known staff it leaves out.
    pub n_missing: usize,
    /// How many are known.
    pub n_known: usize,
}

/// The roster that files and messages make at an instant.
pub fn combine(files: &Roster, said: &Said, now: Timestamp) -> Roster {
    if said.is_empty() {
        return files.clone();
    }
    let said = said.at(now);
    let mut staff: BTreeMap<UserId, StaffMember> = files.staff().clone();
    for (key, member) in &said.staff {
        let user = user(files, key, &member.ids);
        let is_deleted = member.standing == Standing::Deleted;
        if is_deleted && !files.staff().contains_key(user) {
            continue;
        }
        let is_active = member.is_active(now);
        let entry =
            staff.entry(user.clone()).or_insert_with(|| StaffMember { user: user.clone(), ids: Vec::new(), groups: BTreeSet::new(), active: true });
        entry.active &= is_active;
        if !is_deleted {
            let new: Vec<_> = member.ids.iter().filter(|id| !entry.ids.contains(id)).cloned().collect();
            entry.ids.extend(new);
            entry.groups.extend(member.teams.iter().filter(|team| team.holds(now)).filter_map(|team| group(files, team)));
        }
    }
    let mut units = files.units().clone();
    for (facility, of_facility) in &said.units {
        for (point_of_care, record) in of_facility {
            let key = (facility.clone(), point_of_care.clone());
            let known = files.units().get(&key).cloned().or_else(|| unit(files, facility, record));
            let Some(mut unit) = known else { continue };
            if unit.name.is_empty() {
                unit.name = record.name.clone().unwrap_or_default();
            }
            unit.flags.closed = record.in_use == Some(false);
            units.insert(key, unit);
        }
    }
    files.with(staff.into_values(), units)
}

/// Whether a message may replace what messages have said: not when it leaves out, or has inactive, more than a fifth of the staff now active.
///
/// # Errors
/// [`TooFew`].
pub fn guard(files: &Roster, said: &Said, changes: &Changes, now: Timestamp) -> Result<(), TooFew> {
    if !changes.changes.iter().any(|(_, change)| matches!(change, Change::OnlyStaff(_))) {
        return Ok(());
    }
    let now_active = combine(files, said, now);
    let mut named: BTreeSet<&UserId> = BTreeSet::new();
    for (_, change) in &changes.changes {
        if let Change::Staff { key, act: Act::Add | Act::Update | Act::Reactivate, record } = change
            && record.active != Some(false)
        {
            named.insert(user(files, key, &record.ids));
        }
    }
    let known = now_active.staff().values().filter(|member| member.active);
    let (mut n_known, mut n_missing) = (0, 0);
    for member in known {
        n_known += 1;
        n_missing += usize::from(!named.contains(&member.user));
    }
    if n_missing * 5 > n_known { Err(TooFew { n_missing, n_known }) } else { Ok(()) }
}

/// Whom a record means.
fn user<'a>(files: &'a Roster, key: &'a UserId, ids: &'a [StaffIdPattern]) -> &'a UserId {
    let mut users = ids.iter().flat_map(|id| files.fitting(id));
    match users.next() {
        // Ids of two users are those of neither: they make each other ambiguous, and the key counts.
        Some(first) if users.all(|user| user == first) => first,
        Some(_) | None => key,
    }
}

/// The group that a code stands for, where the files have one.
fn group(files: &Roster, team: &Affiliation) -> Option<GroupId> {
    if team.kind == AffiliationKind::Service {
        return files.service_group(&HospitalService::new(team.code.as_str())).cloned();
    }
    let of_units: BTreeSet<&GroupId> = files
        .units()
        .iter()
        .filter(|((_, point_of_care), _)| point_of_care.as_str() == team.code)
        .filter_map(|(_, unit)| unit.group.as_ref())
        .collect();
    match (of_units.len(), of_units.first()) {
        (0, _) => {
            let group = GroupId::new(team.code.as_str());
            let is_known = files.units().values().any(|unit| unit.group.as_ref() == Some(&group)) || files.members(&group).next().is_some();
            is_known.then_some(group)
        }
        (1, Some(group)) => Some((*group).clone()),
        // The same code in two facilities: nobody can say which is meant.
        _ => None,
    }
}

/// A unit that the files do not have: one that they have under another name, or as a department.
fn unit(files: &Roster, facility: &Facility, record: &UnitRecord) -> Option<Unit> {
    if let Some(of) = &record.alias_of {
        return files.units().get(of).cloned();
    }
    let mut departments = record.departments.iter().map(|code| (facility.clone(), PointOfCare::new(code.as_str())));
    let of = departments.find_map(|key| files.units().get(&key))?;
    Some(Unit { name: record.name.clone().unwrap_or_else(|| of.name.clone()), ..of.clone() })
}

#[cfg(test)]
mod tests;
