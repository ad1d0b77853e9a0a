//! Identifiers, each a type of its own, so that a visit number can never stand where a patient id is meant.
//!
//! Patient ids, visit numbers and message control ids are PHI and have no `Display`. Room ids, journal ids, staff ids, users and places are not.

use std::fmt;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use compact_str::CompactString;
use serde::Deserialize;
use serde::Serialize;
use serde_tuple::Serialize_tuple;
use uuid::Uuid;

use crate::phi::Phi;
use crate::phi::sealed_form;
use crate::time::Timestamp;

/// Stamps out a string identifier that is not PHI: trimmed by the caller, compared as it stands.
macro_rules! string_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
        #[serde(transparent)]
        pub struct $name(CompactString);

        impl $name {
            /// Takes the text as it stands.
            pub fn new(text: impl Into<CompactString>) -> Self {
                Self(text.into())
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether it says nothing.
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

string_id! {
    /// Who issued an identifier (CX.4, XCN.9; HL7 v2.5.1 §2.A.14.4). Upper case.
    AssigningAuthority
}
string_id! {
    /// A chat user of the messaging backend, as `staff.csv` names it.
    UserId
}
string_id! {
    /// A group of chat users: the team of a unit or of a service.
    GroupId
}
string_id! {
    /// A feed, as the configuration names it.
    FeedName
}
string_id! {
    /// A facility: PL.4, else what the feed says (HL7 v2.5.1 §2.A.53.4).
    Facility
}
string_id! {
    /// A nursing unit, clinic or department: PL.1 (HL7 v2.5.1 §2.A.53.1).
    PointOfCare
}
string_id! {
    /// What somebody does for a visit, as `[[team]]` rules call it: `attending`, `consulting`, `nurse`.
    Role
}
string_id! {
    /// PV1-10, the service that treats the patient (HL7 table 0069).
    HospitalService
}
string_id! {
    /// PV1-2 after the feed's `class_map` (HL7 table 0004): `I`, `E`, `O`, `P`, `R`, `B`.
    PatientClass
}

/// An identifier as a CX or an XCN carries it: `(authority, type, value)`; HL7 v2.5.1 §2.A.14 and §2.A.88.
///
/// Authority and type are upper case and may be empty; the value keeps its leading zeros. The check digit is no part of it.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize_tuple)]
pub struct Identifier {
    /// CX.4 or the feed's default.
    pub authority: AssigningAuthority,
    /// CX.5, table 0203: `MR`, `VN`, `AN`; empty when untyped.
    pub id_type: CompactString,
    /// CX.1.
    #[serde(with = "sealed_form")]
    pub value: Phi<CompactString>,
}

impl Identifier {
    /// An identifier from its three parts.
    pub fn new(authority: &str, id_type: &str, value: &str) -> Self {
        Self { authority: AssigningAuthority::new(authority), id_type: id_type.into(), value: Phi::from(value) }
    }
}

/// A patient's identifier: one repetition of PID-3, unique only together with its authority and type.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct PatientId(pub Identifier);

/// A visit's identifier: PV1-19, PID-18 or PV1-50.
///
/// Its type is kept to be shown, and is no part of what makes two of them equal: senders type the same number in one message and not in the next.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(transparent)]
pub struct VisitId(pub Identifier);

impl VisitId {
    fn key(&self) -> (&AssigningAuthority, &Phi<CompactString>) {
        (&self.0.authority, &self.0.value)
    }
}

impl PartialEq for VisitId {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for VisitId {}

impl PartialOrd for VisitId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for VisitId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl std::hash::Hash for VisitId {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

/// A member of staff as a message names them: one repetition of an XCN. Not PHI: it says nothing of a patient by itself.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize_tuple)]
pub struct StaffId {
    /// XCN.9, else the fallbacks for older versions, else the feed's default; upper case.
    pub authority: AssigningAuthority,
    /// XCN.13, table 0203; upper case, empty when untyped.
    pub id_type: CompactString,
    /// XCN.1.
    pub value: CompactString,
}

impl StaffId {
    /// A staff id from its three parts.
    pub fn new(authority: &str, id_type: &str, value: &str) -> Self {
        Self { authority: AssigningAuthority::new(authority), id_type: id_type.into(), value: value.into() }
    }
}

/// MSH-10, byte for byte. Not loggable: sites build it from visit numbers.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct MessageControlId(pub Phi<Vec<u8>>);

/// A trigger event: MSH-9.2 (HL7 table 0003), three characters such as `A01`.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TriggerEvent([u8; 3]);

impl TriggerEvent {
    /// Reads three ASCII letters or digits, in either case.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 3] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(u8::is_ascii_alphanumeric).then(|| Self(bytes.map(|b| b.to_ascii_uppercase())))
    }

    /// The three characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("???")
    }
}

impl fmt::Display for TriggerEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TriggerEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for TriggerEvent {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for TriggerEvent {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a trigger event"))
    }
}

/// A care room. Minted at random when the room is first known; never changed, never used again, and it tells nothing of whom or what the room is about.
/// Rooms that were first known in one commit begin alike, so that they stand beside each other in the store.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct CareRoomId(pub Uuid);

impl CareRoomId {
    /// The same id in every test.
    #[cfg(test)]
    pub(crate) const fn default_for_tests() -> Self {
        Self(Uuid::nil())
    }
}

impl fmt::Display for CareRoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A row of the journal: one message as it arrived. Grows with arrival on one daemon.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct JournalId(pub i64);

impl JournalId {
    /// When the message arrived: ids are drawn from the clock (see [`IdSource`]).
    pub const fn at(self) -> Timestamp {
        Timestamp::from_micros(self.0 / 1024)
    }

    /// The first that may be given to what arrives at a time.
    pub const fn first_at(at: Timestamp) -> Self {
        Self(at.as_micros().saturating_mul(1024))
    }
}

impl fmt::Display for JournalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Where new row ids come from: microseconds since 1970 times 1024, plus a number of this daemon's own, always growing.
///
/// Two daemons on one database draw from different numbers, so that their ids differ without asking each other; the primary key is the last guard.
#[derive(Debug)]
pub struct IdSource {
    last: AtomicI64,
    last_place: AtomicI64,
    daemon: i64,
}

impl IdSource {
    /// A source for the daemon with this number (0 to 1023; only its low ten bits count).
    pub const fn new(daemon: u16) -> Self {
        Self { last: AtomicI64::new(0), last_place: AtomicI64::new(0), daemon: (daemon & 1023) as i64 }
    }

    /// A new id, greater than every id drawn from this source before.
    pub fn next(&self, now: Timestamp) -> i64 {
        self.draw(&self.last, now)
    }

    /// A place in the outbox, a series of its own: greater than every place drawn from this source before, and than every place that any daemon drew
    /// by the instant `after`. So the events of one room lie in their order also where the clocks of the daemons differ.
    pub fn next_place(&self, now: Timestamp, after: Timestamp) -> i64 {
        self.draw(&self.last_place, now.max(after.plus(Duration::from_micros(1))))
    }

    fn draw(&self, last: &AtomicI64, now: Timestamp) -> i64 {
        let at = now.as_micros().saturating_mul(1024);
        let previous = last.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| Some(at.max(last.saturating_add(1024)))).unwrap_or(at);
        (at.max(previous.saturating_add(1024)) & !1023) | self.daemon
    }
}

#[cfg(test)]
mod tests {
    use super::IdSource;
    use super::Identifier;
    use super::JournalId;
    use super::TriggerEvent;
    use super::VisitId;
    use crate::time::Timestamp;

    #[test]
    fn ids_grow_also_when_the_clock_stands_or_goes_back() {
        let source = IdSource::new(7);
        let ids: Vec<i64> = [50, 50, 20, 51].iter().map(|at| source.next(Timestamp::from_micros(*at))).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
        assert!(ids.iter().all(|id| id & 1023 == 7));
    }

    #[test]
    fn places_grow_from_daemon_to_daemon_whatever_their_clocks_say() {
        let (ahead, behind) = (IdSource::new(900), IdSource::new(3));
        let first = ahead.next_place(Timestamp::from_micros(5_000), Timestamp::from_micros(0));
        let second = behind.next_place(Timestamp::from_micros(20), JournalId(first).at());
        let third = ahead.next_place(Timestamp::from_micros(5_001), JournalId(second).at());
        assert!(first < second && second < third, "{first} {second} {third}");
        assert_eq!(JournalId(behind.next(Timestamp::from_micros(21))).at(), Timestamp::from_micros(21), "arrival is by a daemon's own clock");
    }

    #[test]
    fn the_type_is_no_part_of_a_visit_id() {
        assert_eq!(VisitId(Identifier::new("GHH", "VN", "1")), VisitId(Identifier::new("GHH", "", "1")));
        assert_ne!(VisitId(Identifier::new("GHH", "VN", "1")), VisitId(Identifier::new("OTHER", "VN", "1")));
    }

    #[test]
    fn trigger_events_are_three_letters_in_either_case() {
        assert_eq!(TriggerEvent::parse("a01").map(|t| t.to_string()), Some("A01".to_owned()));
        assert_eq!(TriggerEvent::parse("A0"), None);
        assert_eq!(TriggerEvent::parse("A-1"), None);
    }
}
