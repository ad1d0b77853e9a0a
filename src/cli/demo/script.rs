//! The day that the demo plays: who comes, who moves, who goes, and the messages that say so (HL7 v2.5.1 §3.3).
//!
//! People and numbers are invented. Messages are stamped when they are sent, so that what has an end of its own ends at a time to come.

use jiff::tz::TimeZone;

use crate::time::Timestamp;

/// One message of the day.
pub(super) struct Scene {
    /// MSH-9.2.
    pub(super) trigger: &'static str,
    /// What it means, in one sentence.
    pub(super) says: &'static str,
    /// When it was recorded.
    pub(super) recorded: Recorded,
    patient: Person,
    merged: Option<&'static str>,
    visit: Option<Stay>,
}

/// When a scene's message was recorded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Recorded {
    /// Now.
    Now,
    /// Between the first and the latest message of its visit, which overtook it.
    Earlier,
    /// It is the message before, byte for byte.
    Again,
}

/// The times that a message tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// MSH-7.
    pub(super) sent: Timestamp,
    /// EVN-2.
    pub(super) recorded: Timestamp,
    /// PV1-44.
    pub(super) admitted: Timestamp,
}

#[derive(Clone, Copy)]
struct Person {
    number: &'static str,
    name: &'static str,
    born: &'static str,
    sex: &'static str,
}

#[derive(Clone, Copy)]
struct Stay {
    number: &'static str,
    class: &'static str,
    place: &'static str,
    prior: &'static str,
    attending: &'static str,
    consulting: &'static str,
    vip: &'static str,
    discharged: bool,
}

const RUTH: Person = Person { number: "70001", name: "ARDEN^Ruth", born: "19580412", sex: "F" };
const SIMON: Person = Person { number: "70002", name: "BELL^Simon^James", born: "19711130", sex: "M" };
const IRIS: Person = Person { number: "70003", name: "CRANE^Iris", born: "19890203", sex: "F" };
const NOBODY: Person = Person { number: "70099", name: "DOE^Unknown", born: "", sex: "M" };
const VICTOR: Person = Person { number: "70004", name: "DEAN^Victor", born: "19640921", sex: "M" };

const MARSH: &str = "D100^Marsh^Dana^^^^^^GHH^^^^EI";
const LINDQVIST: &str = "D200^Lindqvist^Per^^^^^^GHH^^^^EI";
const TEMBO: &str = "D300^Tembo^Aisha^^^^^^GHH^^^^EI";
const SOKOL: &str = "D400^Sokol^Radek^^^^^^GHH^^^^EI";

const STAY: Stay = Stay { number: "", class: "I", place: "", prior: "", attending: "", consulting: "", vip: "", discharged: false };
const RUTH_IN_ED: Stay = Stay { number: "V9001", class: "E", place: "ED^7^^GHH", attending: MARSH, ..STAY };
const RUTH_IN_4N: Stay = Stay { class: "I", place: "4N^14^B^GHH", prior: "ED^7^^GHH", attending: LINDQVIST, ..RUTH_IN_ED };
const SIMON_IN_4N: Stay = Stay { number: "V9002", place: "4N^12^A^GHH", attending: LINDQVIST, ..STAY };
const SIMON_IN_5W: Stay = Stay { place: "5W^3^A^GHH", prior: "4N^12^A^GHH", attending: TEMBO, ..SIMON_IN_4N };
const IRIS_IN_5W: Stay = Stay { number: "V9003", place: "5W^4^A^GHH", attending: TEMBO, ..STAY };
const NOBODY_IN_ED: Stay = Stay { number: "V9004", class: "E", place: "ED^2^^GHH", attending: MARSH, ..STAY };

/// The day, in order.
pub(super) fn day() -> Vec<Scene> {
    let scene = |trigger, patient, visit, says| Scene { trigger, says, recorded: Recorded::Now, patient, merged: None, visit: Some(visit) };
    vec![
        scene("A04", RUTH, RUTH_IN_ED, "Ruth Arden comes to the emergency department; Dr Marsh sees her."),
        scene("A01", SIMON, SIMON_IN_4N, "Simon Bell is admitted to 4 North, bed 12-A, under Dr Lindqvist."),
        scene("A06", RUTH, RUTH_IN_4N, "Ruth is admitted: from the emergency department to 4 North, bed 14-B."),
        scene("A02", SIMON, SIMON_IN_5W, "Simon is transferred to surgery: 5 West, bed 3-A, under Dr Tembo."),
        Scene {
            recorded: Recorded::Again,
            ..scene("A02", SIMON, SIMON_IN_5W, "The transfer once more, byte for byte: the sender has missed the answer.")
        },
        Scene {
            recorded: Recorded::Earlier,
            ..scene(
                "A08",
                SIMON,
                Stay { consulting: SOKOL, ..SIMON_IN_4N },
                "Late: recorded before the transfer, still in bed 12-A, it says that Dr Sokol consults.",
            )
        },
        scene("A01", IRIS, IRIS_IN_5W, "Iris Crane is admitted to 5 West, bed 4-A, under Dr Tembo."),
        scene("A08", IRIS, Stay { vip: "VIP", ..IRIS_IN_5W }, "Iris turns out to be a person the press looks for: VIP."),
        scene("A04", NOBODY, NOBODY_IN_ED, "A man nobody can name is brought to the emergency department."),
        Scene {
            trigger: "A40",
            says: "He is Victor Dean, who has a record already: the records are merged.",
            recorded: Recorded::Now,
            patient: VICTOR,
            merged: Some(NOBODY.number),
            visit: None,
        },
        scene("A03", SIMON, Stay { discharged: true, ..SIMON_IN_5W }, "Simon is discharged."),
        scene("A13", SIMON, SIMON_IN_5W, "He has a fever on the way out: the discharge is cancelled."),
        scene("A03", RUTH, Stay { discharged: true, prior: "", ..RUTH_IN_4N }, "Ruth goes home."),
    ]
}

impl Scene {
    /// The visit's number, where the message names one.
    pub(super) fn visit_number(&self) -> Option<&'static str> {
        self.visit.map(|stay| stay.number)
    }

    /// The message, as it goes into a frame.
    pub(super) fn message(&self, control_id: &str, times: Times) -> Vec<u8> {
        let (sent, recorded, admitted) = (stamp(times.sent), stamp(times.recorded), stamp(times.admitted));
        let structure = match self.trigger {
            "A02" => "ADT_A02",
            "A03" => "ADT_A03",
            "A06" => "ADT_A06",
            "A40" => "ADT_A39",
            _ => "ADT_A01",
        };
        let Person { number, name, born, sex } = self.patient;
        let mut segments = vec![
            format!("MSH|^~\\&|EMR|GHH|WARDROOM|GHH|{sent}||ADT^{}^{structure}|{control_id}|P|2.5.1", self.trigger),
            format!("EVN|{}|{recorded}", self.trigger),
            format!("PID|1||{number}^^^GHH^MR||{name}||{born}|{sex}"),
        ];
        segments.extend(self.merged.map(|old| format!("MRG|{old}^^^GHH^MR")));
        segments.extend(self.visit.map(|stay| {
            let mut fields: [&str; 46] = [""; 46];
            let discharged = if stay.discharged { recorded.as_str() } else { "" };
            for (n, value) in [
                (1, "1"),
                (2, stay.class),
                (3, stay.place),
                (6, stay.prior),
                (7, stay.attending),
                (9, stay.consulting),
                (16, stay.vip),
                (19, stay.number),
                (44, &admitted),
                (45, discharged),
            ] {
                if let Some(field) = fields.get_mut(n) {
                    *field = value;
                }
            }
            // PV1-19 is a CX: the number and who issued it.
            let fields = fields.iter().skip(1).enumerate().map(|(n, field)| if n == 18 { format!("{field}^^^GHH^VN") } else { (*field).to_owned() });
            format!("PV1|{}", fields.collect::<Vec<_>>().join("|")).trim_end_matches('|').to_owned()
        }));
        segments.join("\r").into_bytes().into_iter().chain([b'\r']).collect()
    }
}

/// A time with fraction and offset, as HL7 writes it (§2.A.22).
fn stamp(at: Timestamp) -> String {
    at.to_jiff().to_zoned(TimeZone::system()).strftime("%Y%m%d%H%M%S%.4f%z").to_string()
}

#[cfg(test)]
mod tests {
    use super::Recorded;
    use super::Times;
    use super::day;
    use crate::time::Timestamp;

    #[test]
    fn every_message_of_the_day_has_its_patient_and_its_visit() {
        let at = Timestamp::from_micros(1_790_000_000_123_400);
        for scene in day() {
            let message = String::from_utf8(scene.message("DEMO1", Times { sent: at, recorded: at, admitted: at })).unwrap();
            let segments: Vec<&str> = message.split_terminator('\r').collect();
            assert!(segments[0].contains(&format!("|ADT^{}^ADT_A", scene.trigger)), "{message}");
            assert!(segments[2].starts_with("PID|1||70"), "{message}");
            match scene.visit_number() {
                Some(number) => assert_eq!(segments[3].split('|').nth(19), Some(format!("{number}^^^GHH^VN").as_str()), "{message}"),
                None => assert!(segments[3].starts_with("MRG|70099^"), "{message}"),
            }
        }
    }

    #[test]
    fn the_day_shows_what_is_hard() {
        let day = day();
        for trigger in ["A01", "A02", "A03", "A13", "A40"] {
            assert!(day.iter().any(|scene| scene.trigger == trigger), "{trigger}");
        }
        for recorded in [Recorded::Again, Recorded::Earlier] {
            assert_eq!(day.iter().filter(|scene| scene.recorded == recorded).count(), 1, "{recorded:?}");
        }
    }
}
