//! Emergency stays that ended, and which inpatient stay goes on from one.
//!
//! Sites that give an inpatient a new number end the emergency visit with an A03 and begin another visit. The two are two rooms; the second says which
//! room it goes on from. What is kept here is kept with the person, because the first room may be over and out of sight when the second is planned.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::care::fact::BedLocation;
use crate::ids::CareRoomId;
use crate::ids::Facility;
use crate::ids::PatientId;
use crate::time::Timestamp;

/// How far apart the end of the one and the beginning of the other may be recorded.
const APART: Duration = Duration::from_hours(6);
/// How many of a person are kept.
const KEPT: usize = 16;

/// An emergency stay that ended and had a room.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct EmergencyStay {
    /// Its room, which was published.
    pub room: CareRoomId,
    /// Whose it was, before merges of patients are resolved.
    pub patient: PatientId,
    /// Where.
    pub facility: Facility,
    /// When its beginning was recorded.
    pub began: Timestamp,
    /// When its end was recorded.
    pub ended: Timestamp,
}

/// The emergency stays of a person, by their end.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct EmergencyStays(Vec<EmergencyStay>);

impl EmergencyStays {
    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes what became of the stay of a room: that it ended, or that it is none of these (any more). Gives back whether that is news.
    pub fn note(&mut self, room: CareRoomId, ended: Option<EmergencyStay>) -> bool {
        let known = self.0.iter().position(|known| known.room == room);
        if known.and_then(|at| self.0.get(at)) == ended.as_ref() {
            return false;
        }
        let before = self.0.clone();
        self.0.retain(|known| known.room != room);
        self.0.extend(ended);
        self.0.sort_by_key(|stay| (stay.ended, stay.room));
        let n_over = self.0.len().saturating_sub(KEPT);
        self.0.drain(..n_over);
        self.0 != before
    }

    /// Takes over those of another record of the same person.
    pub fn join(&mut self, other: &Self) {
        for stay in &other.0 {
            self.note(stay.room, Some(stay.clone()));
        }
    }

    /// The room from which a stay in these places, whose beginning was recorded then, goes on. Never one of `own`, those of the very number: a number that
    /// is used again is another stay.
    pub fn before<'a>(
        &self,
        own: &[CareRoomId],
        began: Timestamp,
        places: &(impl Iterator<Item = &'a BedLocation> + Clone),
        is_theirs: impl Fn(&PatientId) -> bool,
    ) -> Option<CareRoomId> {
        let goes_on = |stay: &&EmergencyStay| {
            let near = began.since(stay.ended).max(stay.ended.since(began)) <= APART;
            let here = places.clone().any(|place| place.facility == stay.facility);
            !own.contains(&stay.room) && near && here && stay.began <= began && is_theirs(&stay.patient)
        };
        self.0.iter().rev().find(goes_on).map(|stay| stay.room)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::EmergencyStay;
    use super::EmergencyStays;
    use crate::care::fact::BedLocation;
    use crate::ids::CareRoomId;
    use crate::ids::Facility;
    use crate::ids::Identifier;
    use crate::ids::PatientId;
    use crate::time::Timestamp;

    const START: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

    fn at(hours: u64) -> Timestamp {
        START.plus(Duration::from_hours(hours))
    }

    fn room(n: u128) -> CareRoomId {
        CareRoomId(Uuid::from_u128(n))
    }

    fn ended(n: u128, hour: u64) -> EmergencyStay {
        let patient = PatientId(Identifier::new("GHH", "MR", "1"));
        EmergencyStay { room: room(n), patient, facility: Facility::from("GHH"), began: at(hour).minus(Duration::from_hours(3)), ended: at(hour) }
    }

    fn before(stays: &EmergencyStays, hour: u64, facility: &str) -> Option<CareRoomId> {
        let place = BedLocation { facility: Facility::from(facility), ..BedLocation::default() };
        stays.before(&[room(99)], at(hour), &[&place].into_iter(), |_| true)
    }

    #[test]
    fn the_latest_end_within_six_hours_in_the_same_facility_counts() {
        let mut stays = EmergencyStays::default();
        stays.note(room(1), Some(ended(1, 10)));
        stays.note(room(2), Some(ended(2, 12)));
        assert_eq!(before(&stays, 13, "GHH"), Some(room(2)));
        assert_eq!(before(&stays, 18, "GHH"), Some(room(2)));
        assert_eq!(before(&stays, 19, "GHH"), None);
        assert_eq!(before(&stays, 13, "OTHER"), None);
        assert_eq!(before(&stays, 8, "GHH"), Some(room(1)), "admitted before the end was written down, and after the emergency stay began");
        stays.note(room(2), None);
        assert_eq!(before(&stays, 13, "GHH"), Some(room(1)));
        stays.note(room(1), None);
        assert!(stays.is_empty());
    }
}
