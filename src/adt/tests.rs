//! Messages as they are sent, and what is read from them.

use crate::adt::Arrival;
use crate::adt::Reading;
use crate::adt::profile::Profile;
use crate::adt::read;
use crate::care::fact::BedLocation;
use crate::care::fact::Confidentiality;
use crate::care::fact::Fact;
use crate::care::fact::FieldUpdate;
use crate::care::fact::Pair;
use crate::care::fact::Practitioner;
use crate::care::fact::SignalSource;
use crate::care::fact::SignalsSaid;
use crate::care::notice::NoticeCode;
use crate::hl7::message::Message;
use crate::ids::Identifier;
use crate::ids::JournalId;
use crate::time::Timestamp;

mod shapes;
mod triggers;
mod stamps;
mod identity;
mod facets;
mod assignments;
mod confidentiality;
mod relations;

const MSH: &str = r"MSH|^~\&|EMR|GHH|WR|GHH|20261121093015-0500||ADT^A01^ADT_A01|M1|P|2.5.1";
const EVN: &str = "EVN|A01|20261121093010";
const PID: &str = "PID|1||12345^^^GHH^MR||SMITH^JANE^ANN||19800131|F";

fn at(text: &str) -> Timestamp {
    text.parse::<jiff::Timestamp>().unwrap().into()
}

fn arrival() -> Arrival {
    Arrival { at: at("2026-11-21T14:30:20Z"), journal: JournalId(7) }
}

fn profile() -> Profile {
    let time_zone = jiff::tz::TimeZone::get("America/New_York").unwrap();
    Profile { facility: "GHH".into(), authority: "GHH".into(), time_zone, ..Profile::default() }
}

fn reading_at(profile: &Profile, arrival: Arrival, text: &str) -> Reading {
    read(&Message::parse(text).unwrap(), profile, arrival)
}

fn reading(profile: &Profile, segments: &[&str]) -> Reading {
    reading_at(profile, arrival(), &segments.join("\r"))
}

/// A message of an event, with the usual MSH, EVN and PID.
fn event(profile: &Profile, event: &str, segments: &[&str]) -> Reading {
    let header = MSH.replace("A01^ADT_A01", event);
    let evn = EVN.replace("A01", event);
    let mut all = vec![header.as_str(), evn.as_str()];
    if !segments.iter().any(|segment| segment.starts_with("PID")) {
        all.push(PID);
    }
    all.extend(segments);
    reading(profile, &all)
}

fn only(reading: &Reading) -> &Fact {
    assert_eq!(reading.facts.len(), 1, "{:?}", reading.disposition_hint);
    &reading.facts[0]
}

fn fact(name: &str, segments: &[&str]) -> Fact {
    only(&event(&profile(), name, segments)).clone()
}

fn shown(id: &Identifier) -> String {
    format!("{}/{}:{}", id.authority, id.id_type, id.value.expose())
}

fn staff(person: Option<&Practitioner>) -> Vec<String> {
    person.map(|person| person.ids.iter().map(|id| format!("{}/{}:{}", id.authority, id.id_type, id.value)).collect()).unwrap_or_default()
}

fn place(update: &FieldUpdate<BedLocation>) -> Option<String> {
    update.value().map(|place| format!("{} {} {} {}", place.facility, place.point_of_care, place.room, place.bed))
}

fn has(reading: &Reading, code: NoticeCode) -> bool {
    reading.notices.iter().any(|notice| notice.code == code)
}

fn pairs<T>(pairs: &[Pair<T>], id: impl Fn(&T) -> &Identifier) -> Vec<(String, String)> {
    pairs.iter().map(|pair| (shown(id(&pair.from)), shown(id(&pair.into)))).collect()
}

/// What is said of one signal: nothing, that it is no more, or its level.
fn level(signals: &SignalsSaid, source: &SignalSource) -> FieldUpdate<Confidentiality> {
    let said = signals.said.iter().find(|said| said.source == *source);
    said.map_or(FieldUpdate::Keep, |said| said.update.clone().map(|restriction| restriction.level))
}

#[test]
fn a_movement_is_read_only_from_a_conformant_zbe() {
    let with = |zbe: &str| fact("Z99", &["PV1|1|I|4N", zbe]).movement;
    let movement = with("ZBE|77^GHH~78|20261121080000||UPDATE|Y|A02").unwrap();
    assert_eq!(
        (movement.ids, movement.begins_at, movement.historic),
        (vec!["GHH/77".to_owned(), "78".to_owned()], Some(at("2026-11-21T13:00:00Z")), true)
    );
    assert!(with("ZBE|A02|20261121080000||I|N").is_none());
}

#[test]
fn nothing_of_a_reading_is_shown_by_debug_but_what_is_not_phi() {
    let reading = event(&profile(), "A01", &["PV1|1|I|4NORTH^12^A||||D1^GARCIA^LUIS|||||||||||||VISIT77"]);
    let text = format!("{reading:?}");
    for phi in ["12345", "SMITH", "JANE", "1980", "4NORTH", "GARCIA", "VISIT77"] {
        assert!(!text.contains(phi), "{phi}");
    }
}
