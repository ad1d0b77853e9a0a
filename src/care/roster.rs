//! The roster: who the staff are and which teams the units have, as plain look-up tables.
//!
//! The directory builds a roster from its sources; the plan only reads it. It never reads a file and never matches anybody by name.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use compact_str::format_compact;
use foldhash::HashMap;
use foldhash::HashSet;
use serde::Deserialize;
use serde::Serialize;

use crate::care::fact::BedLocation;
use crate::ids::AssigningAuthority;
use crate::ids::Facility;
use crate::ids::GroupId;
use crate::ids::HospitalService;
use crate::ids::PointOfCare;
use crate::ids::StaffId;
use crate::ids::UserId;

/// One id of a member of staff; a missing part matches any.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct StaffIdPattern {
    /// The authority, or any.
    pub authority: Option<AssigningAuthority>,
    /// The identifier type, or any.
    pub id_type: Option<String>,
    /// The value.
    pub value: String,
}

impl StaffIdPattern {
    fn fits(&self, id: &StaffId) -> bool {
        // An id that came without authority or type may be any of them: what is not said cannot contradict.
        let authority = self.authority.as_ref().is_none_or(|authority| id.authority.is_empty() || *authority == id.authority);
        let id_type = self.id_type.as_ref().is_none_or(|id_type| id.id_type.is_empty() || *id_type == id.id_type);
        self.value == id.value && authority && id_type
    }

    /// Whether there is an id that both fit.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let authority = self.authority.as_ref().zip(other.authority.as_ref()).is_none_or(|(one, two)| one == two);
        let id_type = self.id_type.as_ref().zip(other.id_type.as_ref()).is_none_or(|(one, two)| one == two);
        self.value == other.value && authority && id_type
    }
}

/// A member of staff.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StaffMember {
    /// The chat user.
    pub user: UserId,
    /// Every id messages may use.
    pub ids: Vec<StaffIdPattern>,
    /// The groups the user is in.
    pub groups: BTreeSet<GroupId>,
    /// Whether the user may be in rooms at all.
    pub active: bool,
}

/// A unit: a point of care of a facility.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Unit {
    /// The group that is its team; none when nobody joins by the unit.
    pub group: Option<GroupId>,
    /// The name for people.
    pub name: String,
    /// What is special about it.
    pub flags: UnitFlags,
}

/// The flags of `units.csv`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct UnitFlags {
    /// Its patients are restricted.
    pub sensitive: bool,
    /// It is a program under 42 CFR Part 2.
    pub part2: bool,
    /// Its team never joins by itself.
    pub no_auto_join: bool,
    /// It is no real unit: a lounge, a hall, a transit.
    pub virtual_unit: bool,
    /// It is in use no more: nobody new gets a room there, those who are there keep theirs.
    pub closed: bool,
}

/// Who a person named by a message is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Resolved<'a> {
    /// This active user.
    User(std::borrow::Cow<'a, UserId>),
    /// A user who may not be in rooms now.
    Inactive(&'a UserId),
    /// Ids that fit more than one user.
    Ambiguous,
    /// Nobody knows.
    Unknown,
}

/// Staff and units.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    staff: BTreeMap<UserId, StaffMember>,
    /// Those of the staff who may not be in rooms now; of everybody in a room it is asked with every plan.
    inactive: HashSet<UserId>,
    by_value: HashMap<String, Vec<(StaffIdPattern, UserId)>>,
    groups: BTreeMap<GroupId, BTreeSet<UserId>>,
    units: HashMap<(Facility, PointOfCare), Unit>,
    services: HashMap<HospitalService, GroupId>,
    include_unknown: bool,
}

impl Roster {
    /// A roster of these members of staff and units.
    ///
    /// `include_unknown` lets a staff id that nobody knows stand for a user of its own (`AUTHORITY:ID`).
    pub fn new(
        staff: impl IntoIterator<Item = StaffMember>,
        units: impl IntoIterator<Item = ((Facility, PointOfCare), Unit)>,
        include_unknown: bool,
    ) -> Self {
        let mut roster = Self { units: units.into_iter().collect(), include_unknown, ..Self::default() };
        for member in staff {
            for pattern in &member.ids {
                roster.by_value.entry(pattern.value.clone()).or_default().push((pattern.clone(), member.user.clone()));
            }
            if member.active {
                for group in &member.groups {
                    roster.groups.entry(group.clone()).or_default().insert(member.user.clone());
                }
                roster.inactive.remove(&member.user);
            } else {
                roster.inactive.insert(member.user.clone());
            }
            roster.staff.insert(member.user.clone(), member);
        }
        roster
    }

    /// The same roster with teams of services (`PV1-10` → group).
    #[must_use]
    pub fn with_services(mut self, services: impl IntoIterator<Item = (HospitalService, GroupId)>) -> Self {
        self.services = services.into_iter().collect();
        self
    }

    /// A roster of other staff and units, alike in everything else.
    #[must_use]
    pub(crate) fn with(
        &self,
        staff: impl IntoIterator<Item = StaffMember>,
        units: impl IntoIterator<Item = ((Facility, PointOfCare), Unit)>,
    ) -> Self {
        Self { services: self.services.clone(), ..Self::new(staff, units, self.include_unknown) }
    }

    /// Every member of staff, by user.
    pub(crate) const fn staff(&self) -> &BTreeMap<UserId, StaffMember> {
        &self.staff
    }

    /// Every unit of the table.
    pub(crate) const fn units(&self) -> &HashMap<(Facility, PointOfCare), Unit> {
        &self.units
    }

    /// The users some id of whom may be the one that a pattern means.
    pub(crate) fn fitting<'r>(&'r self, pattern: &'r StaffIdPattern) -> impl Iterator<Item = &'r UserId> {
        let known = self.by_value.get(&pattern.value).map_or(&[][..], Vec::as_slice);
        known.iter().filter(|(known, _)| known.overlaps(pattern)).map(|(_, user)| user)
    }

    /// Who one id is.
    pub fn resolve_id(&self, id: &StaffId) -> Resolved<'_> {
        let mut found: Option<&UserId> = None;
        for (pattern, user) in self.by_value.get(id.value.as_str()).map_or(&[][..], Vec::as_slice) {
            if pattern.fits(id) {
                match found {
                    Some(other) if other != user => return Resolved::Ambiguous,
                    _ => found = Some(user),
                }
            }
        }
        match found {
            Some(user) if self.may_join(user) => Resolved::User(std::borrow::Cow::Borrowed(user)),
            Some(user) => Resolved::Inactive(user),
            None if self.include_unknown && !id.value.is_empty() => {
                let user = if id.authority.is_empty() { id.value.clone() } else { format_compact!("{}:{}", id.authority, id.value) };
                Resolved::User(std::borrow::Cow::Owned(UserId::new(user)))
            }
            None => Resolved::Unknown,
        }
    }

    /// The unit of a place, if the table has it.
    pub fn unit(&self, place: &BedLocation) -> Option<&Unit> {
        self.units.get(&(place.facility.clone(), place.point_of_care.clone()))
    }

    /// The active users of a group.
    pub fn members(&self, group: &GroupId) -> impl Iterator<Item = &UserId> {
        self.groups.get(group).into_iter().flatten()
    }

    /// The group that is the team of a service.
    pub fn service_group(&self, service: &HospitalService) -> Option<&GroupId> {
        self.services.get(service)
    }

    /// What the roster says of a user.
    pub fn staff_member(&self, user: &UserId) -> Option<&StaffMember> {
        self.staff.get(user)
    }

    /// Whether somebody may be in rooms: everybody the roster does not know to be inactive.
    pub fn may_join(&self, user: &UserId) -> bool {
        !self.inactive.contains(user)
    }

    /// Whether a user is in a group.
    pub fn is_in(&self, user: &UserId, group: &GroupId) -> bool {
        self.groups.get(group).is_some_and(|users| users.contains(user))
    }

    /// Whether an id that nobody knows stands for a user of its own.
    pub const fn includes_unknown(&self) -> bool {
        self.include_unknown
    }

    /// How many members of staff there are.
    pub fn n_staff(&self) -> usize {
        self.staff.len()
    }

    /// Pairs of an id and the users it fits, for every id that fits more than one.
    pub fn ambiguous(&self) -> Vec<(String, Vec<UserId>)> {
        let mut out = Vec::new();
        for (value, patterns) in &self.by_value {
            let users: BTreeSet<&UserId> = patterns.iter().map(|(_, user)| user).collect();
            if users.len() > 1 {
                let overlap = patterns.iter().any(|(a, user_a)| patterns.iter().any(|(b, user_b)| user_a != user_b && a.overlaps(b)));
                if overlap {
                    out.push((value.clone(), users.into_iter().cloned().collect()));
                }
            }
        }
        out.sort();
        out
    }
}
