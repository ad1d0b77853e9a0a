//! What messages have said of staff and units: a source of its own beside the files, and durable.
//!
//! Changes are applied in the order of their arrival, or when their time comes. It knows nothing of the files and decides nothing about rooms; time is
//! an argument. The document is kept by the store, sealed, and committed together with the message that changed it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

use crate::care::fact::FieldUpdate;
use crate::care::roster::StaffIdPattern;
use crate::directory::change::Act;
use crate::directory::change::Affiliation;
use crate::directory::change::Change;
use crate::directory::change::Changes;
use crate::directory::change::StaffRecord;
use crate::directory::change::UnitKey;
use crate::directory::change::UnitRecord;
use crate::ids::Facility;
use crate::ids::PointOfCare;
use crate::ids::UserId;
use crate::time::Timestamp;

/// Everything messages have said.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Said {
    /// The version in the store; 0 when nothing is there.
    #[serde(skip)]
    pub version: i64,
    #[serde(default)]
    pub(super) staff: BTreeMap<UserId, SaidMember>,
    #[serde(default)]
    pub(super) units: BTreeMap<Facility, BTreeMap<PointOfCare, UnitRecord>>,
    /// Changes whose time has not come, in its order.
    #[serde(default)]
    scheduled: Vec<(Timestamp, Change)>,
}

/// A member of staff, as messages describe them.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct SaidMember {
    #[serde(default)]
    pub(super) ids: Vec<StaffIdPattern>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) teams: Vec<Affiliation>,
    #[serde(default)]
    pub(super) standing: Standing,
    /// STF-7 says inactive.
    #[serde(default)]
    is_flagged_inactive: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
}

/// What was last done with somebody, other than describing them.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Standing {
    #[default]
    Active,
    Suspended,
    Deactivated,
    Terminated,
    /// The record was an error: its ids are nobody's.
    Deleted,
}

impl Said {
    /// Whether messages have said nothing.
    pub fn is_empty(&self) -> bool {
        self.staff.is_empty() && self.units.is_empty() && self.scheduled.is_empty()
    }

    /// The same under a version of the store.
    #[must_use]
    pub fn under(mut self, version: i64) -> Self {
        self.version = version;
        self
    }

    /// Applies a message's changes; those for later are kept until then.
    pub fn apply(&mut self, said: &Changes, now: Timestamp) {
        self.settle(now);
        for (at, change) in &said.changes {
            match at.filter(|at| *at > now) {
                Some(at) => {
                    let place = self.scheduled.partition_point(|(known, _)| *known <= at);
                    self.scheduled.insert(place, (at, change.clone()));
                }
                None => self.change(change, now),
            }
        }
    }

    /// What stands at an instant: everything scheduled until then is applied.
    pub fn at(&self, now: Timestamp) -> Cow<'_, Self> {
        if self.scheduled.first().is_none_or(|(at, _)| *at > now) {
            return Cow::Borrowed(self);
        }
        let mut said = self.clone();
        said.settle(now);
        Cow::Owned(said)
    }

    /// The next instant at which what stands changes by itself.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let of_members = self.staff.values().flat_map(|member| {
            let of_teams = member.teams.iter().flat_map(|team| [team.from, team.until]);
            [member.from, member.until].into_iter().chain(of_teams).flatten()
        });
        self.scheduled.iter().map(|(at, _)| *at).chain(of_members).filter(|at| *at > now).min()
    }

    /// Tells what stands at an instant from what stands at another: the same after a restart.
    pub(super) fn fingerprint(&self, now: Timestamp) -> [u8; 32] {
        let said = self.at(now);
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        // Both hold nothing that JSON cannot say.
        hash.update(&serde_json::to_vec(&(&said.staff, &said.units)).unwrap_or_default());
        for member in said.staff.values() {
            hash.update(&[u8::from(member.is_active(now))]);
            hash.update(&member.teams.iter().map(|team| u8::from(team.holds(now))).collect::<Vec<_>>());
        }
        hash.finish().as_ref().try_into().unwrap_or_default()
    }

    fn settle(&mut self, now: Timestamp) {
        let n_due = self.scheduled.partition_point(|(at, _)| *at <= now);
        for (at, change) in self.scheduled.drain(..n_due).collect::<Vec<_>>() {
            self.change(&change, at);
        }
    }

    fn change(&mut self, change: &Change, now: Timestamp) {
        match change {
            Change::Staff { key, act, record } => self.staff.entry(key.clone()).or_default().change(*act, record, now),
            Change::Unit { key, act, record } => self.change_unit(key, *act, record),
            Change::OnlyStaff(keys) => {
                // Being left out removes what messages gave; what they took away, only an explicit word gives back.
                self.staff.retain(|key, member| keys.contains(key) || !member.is_active(now));
                self.scheduled.retain(
                    |(_, change)| !matches!(change, Change::Staff { key, act: Act::Add | Act::Update | Act::Reactivate, .. } if !keys.contains(key)),
                );
            }
            Change::OnlyUnits(keys) => {
                for (facility, units) in &mut self.units {
                    units.retain(|point_of_care, _| keys.iter().any(|key| key.0 == *facility && key.1 == *point_of_care));
                }
            }
        }
    }

    fn change_unit(&mut self, (facility, point_of_care): &UnitKey, act: Act, record: &UnitRecord) {
        let units = self.units.entry(facility.clone()).or_default();
        match act {
            Act::Delete => {
                units.remove(point_of_care);
            }
            // A unit that is closed keeps its team for those who are still in it.
            Act::Deactivate | Act::Suspend | Act::Terminate => units.entry(point_of_care.clone()).or_default().in_use = Some(false),
            // A word about a room or a bed says nothing of its unit.
            Act::Update if *record == UnitRecord::default() => {}
            Act::Add => {
                units.insert(point_of_care.clone(), record.clone());
            }
            Act::Update | Act::Reactivate => {
                let known = units.entry(point_of_care.clone()).or_default();
                let UnitRecord { name, alias_of, departments, in_use } = record.clone();
                known.in_use = in_use.or_else(|| if act == Act::Reactivate { Some(true) } else { known.in_use });
                known.name = name.or_else(|| known.name.take());
                known.alias_of = alias_of.or_else(|| known.alias_of.take());
                if !departments.is_empty() {
                    known.departments = departments;
                }
            }
        }
    }
}

impl SaidMember {
    /// Whether messages have them in use at an instant.
    pub(super) fn is_active(&self, now: Timestamp) -> bool {
        let in_time = self.from.is_none_or(|from| from <= now) && self.until.is_none_or(|until| now < until);
        self.standing == Standing::Active && !self.is_flagged_inactive && in_time
    }

    fn change(&mut self, act: Act, record: &StaffRecord, now: Timestamp) {
        let ends = match act {
            Act::Add => {
                *self = Self::default();
                None
            }
            Act::Reactivate => {
                *self = Self { ids: std::mem::take(&mut self.ids), teams: std::mem::take(&mut self.teams), ..Self::default() };
                None
            }
            // An update describes somebody; it takes back nothing that was done with them.
            Act::Update => None,
            Act::Delete => Some(Standing::Deleted),
            Act::Deactivate => Some(Standing::Deactivated),
            Act::Suspend => Some(Standing::Suspended),
            Act::Terminate => Some(Standing::Terminated),
        };
        if let Some(standing) = ends {
            self.standing = standing;
            // Whoever leaves does so under every id that was ever theirs.
            let new: Vec<_> = record.ids.iter().filter(|id| !self.ids.contains(id)).cloned().collect();
            self.ids.extend(new);
        } else if !record.ids.is_empty() {
            self.ids.clone_from(&record.ids);
        }
        match &record.teams {
            FieldUpdate::Keep => {}
            FieldUpdate::Clear => self.teams.clear(),
            FieldUpdate::Set(teams) => self.teams.clone_from(teams),
        }
        if let Some(active) = record.active
            && ends.is_none()
        {
            self.is_flagged_inactive = !active;
        }
        update(&mut self.from, &record.from);
        update(&mut self.until, &record.until);
        // A date on which somebody left once says nothing of one who has come back.
        let came_back = self.until.is_some_and(|until| self.from.is_some_and(|from| until <= from));
        let is_past = self.until.is_some_and(|until| until <= now) && record.active == Some(true);
        if came_back || is_past {
            self.until = None;
        }
    }
}

fn update<T: Copy>(known: &mut Option<T>, said: &FieldUpdate<T>) {
    match said {
        FieldUpdate::Keep => {}
        FieldUpdate::Clear => *known = None,
        FieldUpdate::Set(value) => *known = Some(*value),
    }
}
