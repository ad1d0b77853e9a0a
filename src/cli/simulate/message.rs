//! Messages as an EMR writes them: MSH, EVN, PID, PD1, MRG, NK1, PV1, PV2 and ROL of HL7 v2.5.1 (§2.14.9, §3.4, §12.4.3).

use jiff::tz::Offset;

use super::people::Person;
use crate::time::Timestamp;

/// MSH-3, MSH-4 and whatever names an authority.
const FACILITY: &str = "GHH";

/// One person of the treatment team.
#[derive(Clone, Debug)]
pub(super) struct Role {
    /// ROL-3.
    pub(super) what: &'static str,
    /// ROL-4.
    pub(super) person: String,
    /// ROL-5.
    pub(super) begins: Timestamp,
    /// ROL-6.
    pub(super) ends: Option<Timestamp>,
}

/// What PID and PV1 say of one patient and stay.
#[derive(Clone, Debug)]
pub(super) struct Stay<'a> {
    pub(super) person: &'a Person,
    pub(super) number: String,
    pub(super) class: &'static str,
    /// PV1-3.
    pub(super) place: String,
    /// PV1-6.
    pub(super) prior: String,
    /// PV1-11.
    pub(super) whereabouts: &'static str,
    pub(super) attending: String,
    pub(super) admitting: String,
    pub(super) consulting: Vec<String>,
    pub(super) service: &'static str,
    /// PV1-44.
    pub(super) admitted: Option<Timestamp>,
    /// PV1-45.
    pub(super) discharged: Option<Timestamp>,
    pub(super) roles: &'a [Role],
}

/// What a message says beside the stays.
#[derive(Clone, Debug)]
pub(super) struct Heading<'a> {
    pub(super) trigger: &'static str,
    pub(super) control: &'a str,
    /// MSH-7.
    pub(super) sent: Timestamp,
    /// EVN-2.
    pub(super) recorded: Timestamp,
    /// EVN-6.
    pub(super) occurred: Option<Timestamp>,
}

/// MSH-9.3 (HL7 table 0354).
const fn structure(trigger: &str) -> &'static str {
    match trigger.as_bytes() {
        b"A02" => "ADT_A02",
        b"A03" => "ADT_A03",
        b"A05" | b"A31" => "ADT_A05",
        b"A06" => "ADT_A06",
        b"A09" | b"A10" | b"A11" | b"A12" => "ADT_A09",
        b"A16" => "ADT_A16",
        b"A17" => "ADT_A17",
        b"A21" | b"A22" | b"A25" => "ADT_A21",
        b"A38" => "ADT_A38",
        b"A40" => "ADT_A39",
        b"A54" => "ADT_A54",
        _ => "ADT_A01",
    }
}

/// Whether the structure of an event has next of kin and the treatment team.
const fn is_wide(trigger: &str) -> bool {
    matches!(trigger.as_bytes(), b"A01" | b"A04" | b"A05" | b"A06" | b"A08" | b"A13")
}

const fn has_roles(trigger: &str) -> bool {
    is_wide(trigger) || matches!(trigger.as_bytes(), b"A02" | b"A03" | b"A54")
}

/// A time with the offset of the made-up hospital, which knows no summer time.
fn stamp(at: Timestamp) -> String {
    at.to_jiff().to_zoned(Offset::constant(-5).to_time_zone()).strftime("%Y%m%d%H%M%S%.3f-0500").to_string()
}

/// A message about stays.
pub(super) fn of_stays(heading: &Heading<'_>, stays: &[Stay<'_>]) -> String {
    let mut text = head(heading);
    for (set_id, stay) in (1..).zip(stays) {
        text += &pid(set_id, stay.person, Some(&stay.number));
        text += "PD1|||Portvale Clinic^^10077\r";
        if is_wide(heading.trigger) && stay.person.is_known {
            let Person { family, telephone, .. } = stay.person;
            text += &format!("NK1|1|{family}^Robin^^^^^L|SPO^Spouse^HL70063||{telephone}^PRN^PH\r");
        }
        text += &pv1(set_id, stay);
        if is_wide(heading.trigger) {
            text += "PV2||PRIVATE|R07.4^Chest pain^I10\r";
        }
        if has_roles(heading.trigger) {
            for (n, role) in (1..).zip(stay.roles) {
                let ends = role.ends.map(stamp).unwrap_or_default();
                text += &trimmed(format!("ROL|{n}|UP|{}|{}|{}|{ends}", role.what, role.person, stamp(role.begins)));
            }
        }
    }
    text
}

/// A message about a person alone (A31), or about two numbers that are one person (A40).
pub(super) fn of_person(heading: &Heading<'_>, person: &Person, merged: Option<&Person>) -> String {
    let mut text = head(heading) + &pid(1, person, None) + "PD1|||Portvale Clinic^^10077\r";
    if let Some(merged) = merged {
        text += &format!("MRG|{}^^^{FACILITY}^MR||||||{}\r", merged.record, name(merged));
    }
    text
}

fn head(heading: &Heading<'_>) -> String {
    let Heading { trigger, control, sent, recorded, occurred } = heading;
    let occurred = occurred.map(stamp).unwrap_or_default();
    let msh = format!(
        "MSH|^~\\&|EMR|{FACILITY}|WARDROOM|{FACILITY}|{}||ADT^{trigger}^{}|{control}|P|2.5.1|||AL|NE||UNICODE UTF-8\r",
        stamp(*sent),
        structure(trigger)
    );
    msh + &trimmed(format!("EVN|{trigger}|{}||ADT_EVENT|30077^Desk^Front^^^^^^{FACILITY}^L^^^EI|{occurred}|{FACILITY}", stamp(*recorded)))
}

fn name(person: &Person) -> String {
    format!("{}^{}^{}^^^^L", person.family, person.given, person.middle)
}

fn pid(set_id: u32, person: &Person, visit: Option<&str>) -> String {
    let Person { record, born, sex, street, telephone, .. } = person;
    let address = if street.is_empty() { String::new() } else { format!("{street}^^Portvale^NY^10999^USA^H") };
    let telephone = if telephone.is_empty() { String::new() } else { format!("{telephone}^PRN^PH") };
    let account = visit.map(|visit| format!("A{visit}^^^{FACILITY}^AN")).unwrap_or_default();
    let name = name(person);
    format!("PID|{set_id}||{record}^^^{FACILITY}^MR||{name}||{born}|{sex}|||{address}||{telephone}||ENG|M||{account}||||||||||||N\r")
}

fn pv1(set_id: u32, stay: &Stay<'_>) -> String {
    let numbered = format!("V{}^^^{FACILITY}^VN", stay.number);
    let (admitted, discharged) = (stay.admitted.map(stamp).unwrap_or_default(), stay.discharged.map(stamp).unwrap_or_default());
    let consulting = stay.consulting.join("~");
    let set_id = set_id.to_string();
    let fields: [(usize, &str); 15] = [
        (1, &set_id),
        (2, stay.class),
        (3, &stay.place),
        (4, if stay.class == "E" { "E" } else { "R" }),
        (6, &stay.prior),
        (7, &stay.attending),
        (9, &consulting),
        (10, stay.service),
        (11, stay.whereabouts),
        (14, "7"),
        (17, &stay.admitting),
        (18, stay.class),
        (19, &numbered),
        (44, &admitted),
        (45, &discharged),
    ];
    let mut text = "PV1".to_owned();
    for n in 1..=45 {
        text.push('|');
        text += fields.iter().find(|(at, _)| *at == n).map_or("", |(_, value)| value);
    }
    trimmed(text)
}

/// A segment without the empty fields at its end.
fn trimmed(segment: String) -> String {
    let mut segment = segment;
    segment.truncate(segment.trim_end_matches('|').len());
    segment + "\r"
}
