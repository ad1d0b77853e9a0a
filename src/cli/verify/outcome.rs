//! What a step of a journey led to, beside what it expected.

use toml_edit::Array;
use toml_edit::Item;
use toml_edit::Table;
use toml_edit::value;

use crate::care::room::CareRoom;
use crate::care::room::RoomStatus;
use crate::cli::verify::journey::Expect;
use crate::cli::verify::journey::ExpectedRoom;
use crate::ids::CareRoomId;
use crate::ids::VisitId;
use crate::intake::rehearsal::Rehearsal;
use crate::intake::rehearsal::Rehearsed;
use crate::outbox::envelope::Event;

/// What a step led to.
pub(super) struct Outcome<'a> {
    /// The last message of the step.
    pub(super) last: Option<Rehearsed>,
    /// The step's events.
    pub(super) events: Vec<Event>,
    /// The rooms as they stand.
    pub(super) rehearsal: &'a Rehearsal,
}

/// The facets of a room that a journey can name, as they are written in it.
struct Seen {
    absent: bool,
    status: String,
    place: String,
    name: String,
    confidentiality: String,
    patient: String,
    members: Vec<String>,
    unresolved: Vec<String>,
    flags: Vec<String>,
    merged_into: String,
    continues: String,
}

impl Outcome<'_> {
    /// Every difference, as `what: expected X, got Y`.
    pub(super) fn compare(&self, expect: &Expect) -> Vec<String> {
        let mut differences = Vec::new();
        let mut text = |what: &str, expected: &Option<String>, got: &str| {
            if let Some(expected) = expected.as_ref().filter(|expected| *expected != got) {
                differences.push(format!("{what}: expected {expected}, got {got}"));
            }
        };
        text("ack", &expect.ack, &self.ack());
        text("disposition", &expect.disposition, self.disposition());
        list("events", expect.events.as_ref(), &self.events(), &mut differences);
        list("notices", expect.notices.as_ref(), &self.notices(), &mut differences);
        for room in expect.room.iter().chain(&expect.rooms) {
            self.compare_room(room, &mut differences);
        }
        differences
    }

    fn compare_room(&self, expect: &ExpectedRoom, differences: &mut Vec<String>) {
        let seen = self.see(&expect.visit);
        let mut differs = |what: &str, expected: &str, got: &str| {
            if expected != got {
                differences.push(format!("room {}: {what}: expected {expected}, got {got}", expect.visit));
            }
        };
        if let Some(absent) = expect.absent {
            differs("absent", &absent.to_string(), &seen.absent.to_string());
        }
        for (what, expected, got) in [
            ("status", &expect.status, &seen.status),
            ("place", &expect.place, &seen.place),
            ("name", &expect.name, &seen.name),
            ("confidentiality", &expect.confidentiality, &seen.confidentiality),
            ("patient", &expect.patient, &seen.patient),
            ("merged_into", &expect.merged_into, &seen.merged_into),
            ("continues", &expect.continues, &seen.continues),
        ] {
            if let Some(expected) = expected {
                differs(what, expected, got);
            }
        }
        for (what, expected, got) in
            [("members", &expect.members, &seen.members), ("unresolved", &expect.unresolved, &seen.unresolved), ("flags", &expect.flags, &seen.flags)]
        {
            list(&format!("room {}: {what}", expect.visit), expected.as_ref(), got, differences);
        }
    }

    fn ack(&self) -> String {
        let ack = self.last.as_ref().and_then(|last| last.ack.as_ref());
        let code = ack.and_then(|ack| {
            // The separator is the byte behind MSH, whatever the sender chose.
            let separator = char::from(*ack.get(3)?);
            String::from_utf8_lossy(ack).split('\r').find_map(|line| line.strip_prefix(&format!("MSA{separator}")).map(str::to_owned))
        });
        code.map_or_else(|| "none".to_owned(), |line| line.chars().take(2).collect())
    }

    fn disposition(&self) -> &'static str {
        self.last.as_ref().map_or("none", |last| last.verdict.disposition.as_str())
    }

    fn events(&self) -> Vec<String> {
        self.events.iter().map(|event| event.event_type.as_str().to_owned()).collect()
    }

    fn notices(&self) -> Vec<String> {
        let bodies = self.events.iter().filter_map(|event| serde_json::from_slice::<serde_json::Value>(&event.body).ok());
        let codes = |body: serde_json::Value| {
            let notices = body.pointer("/data/notices").and_then(serde_json::Value::as_array).cloned().unwrap_or_default();
            notices.into_iter().filter_map(|notice| notice.get("code").and_then(|code| code.as_str().map(str::to_owned)))
        };
        bodies.flat_map(codes).collect()
    }

    /// The room of a visit: the latest, where the number was used again.
    fn room(&self, visit: &str) -> Option<CareRoom> {
        let (authority, number) = visit.split_once('/').map_or((None, visit), |(authority, number)| (Some(authority), number));
        let named = |VisitId(id): &VisitId| id.value.as_str() == number && authority.is_none_or(|authority| authority == id.authority.as_str());
        self.rehearsal.planned_rooms().into_iter().rfind(|room| named(&room.state.visit.id))
    }

    fn see(&self, visit: &str) -> Seen {
        let Some(room) = self.room(visit) else {
            let none = || "none".to_owned();
            return Seen {
                absent: true,
                status: none(),
                place: none(),
                name: none(),
                confidentiality: none(),
                patient: none(),
                members: Vec::new(),
                unresolved: Vec::new(),
                flags: Vec::new(),
                merged_into: none(),
                continues: none(),
            };
        };
        let state = &room.state;
        let place = state.location.as_ref().map_or_else(
            || "none".to_owned(),
            |shown| {
                let place = &shown.place;
                let bed = [place.room.as_str(), place.bed.as_str()].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
                let parts = [place.facility.as_str(), place.point_of_care.as_str(), bed.as_str()];
                parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
            },
        );
        let name = state.name.as_str();
        let visit_of = |other: Option<CareRoomId>| {
            let room = other.and_then(|other| self.rehearsal.rooms().into_iter().find(|room| room.id == other));
            room.map_or_else(|| "none".to_owned(), |room| room.state.visit.id.0.value.as_str().to_owned())
        };
        Seen {
            absent: room.version == 0 || state.status == RoomStatus::Purged,
            status: state.status.as_str().to_owned(),
            place,
            name: name.rsplit_once(' ').map_or(name, |(name, _)| name).to_owned(),
            confidentiality: state.confidentiality.as_str().to_owned(),
            patient: state.patient.id.0.value.as_str().to_owned(),
            members: state.members.iter().map(|member| member.user.to_string()).collect(),
            unresolved: state.unresolved.iter().map(|one| one.ids.first().map(|id| id.value.to_string()).unwrap_or_default()).collect(),
            flags: state.flags.iter().filter_map(|flag| serde_json::to_value(flag).ok().and_then(|word| word.as_str().map(str::to_owned))).collect(),
            merged_into: visit_of(state.merged_into),
            continues: visit_of(state.continues),
        }
    }

    /// Writes what happened into a step, for the keys that it has.
    pub(super) fn write_into(&self, expect: &Expect, step: &mut Table) {
        let Some(table) = step.get_mut("expect").and_then(Item::as_table_like_mut) else { return };
        if expect.ack.is_some() {
            table.insert("ack", value(self.ack()));
        }
        if expect.disposition.is_some() {
            table.insert("disposition", value(self.disposition()));
        }
        if expect.events.is_some() {
            table.insert("events", value(self.events().into_iter().collect::<Array>()));
        }
        if expect.notices.is_some() {
            table.insert("notices", value(self.notices().into_iter().collect::<Array>()));
        }
        if let (Some(room), Some(table)) = (&expect.room, table.get_mut("room").and_then(Item::as_table_like_mut)) {
            self.write_room(room, table);
        }
        match table.get_mut("rooms") {
            Some(Item::Value(toml_edit::Value::Array(rooms))) => {
                for (room, table) in expect.rooms.iter().zip(rooms.iter_mut()) {
                    if let Some(table) = table.as_inline_table_mut() {
                        self.write_room(room, table);
                    }
                }
            }
            Some(Item::ArrayOfTables(rooms)) => {
                for (room, table) in expect.rooms.iter().zip(rooms.iter_mut()) {
                    self.write_room(room, table);
                }
            }
            _ => {}
        }
    }

    fn write_room(&self, expect: &ExpectedRoom, table: &mut dyn toml_edit::TableLike) {
        let seen = self.see(&expect.visit);
        if expect.absent.is_some() {
            table.insert("absent", value(seen.absent));
        }
        for (key, is_named, text) in [
            ("status", expect.status.is_some(), seen.status),
            ("place", expect.place.is_some(), seen.place),
            ("name", expect.name.is_some(), seen.name),
            ("confidentiality", expect.confidentiality.is_some(), seen.confidentiality),
            ("patient", expect.patient.is_some(), seen.patient),
            ("merged_into", expect.merged_into.is_some(), seen.merged_into),
            ("continues", expect.continues.is_some(), seen.continues),
        ] {
            if is_named {
                table.insert(key, value(text));
            }
        }
        for (key, is_named, list) in [
            ("members", expect.members.is_some(), seen.members),
            ("unresolved", expect.unresolved.is_some(), seen.unresolved),
            ("flags", expect.flags.is_some(), seen.flags),
        ] {
            if is_named {
                table.insert(key, value(list.into_iter().collect::<Array>()));
            }
        }
    }
}

/// Compares lists; what is missing and what is too much is said by itself.
fn list(what: &str, expected: Option<&Vec<String>>, got: &[String], differences: &mut Vec<String>) {
    let Some(expected) = expected.filter(|expected| expected.as_slice() != got) else { return };
    let missing: Vec<&str> = expected.iter().filter(|one| !got.contains(one)).map(String::as_str).collect();
    let extra: Vec<&str> = got.iter().filter(|one| !expected.contains(one)).map(String::as_str).collect();
    let mut line = format!("{what}: expected [{}], got [{}]", expected.join(", "), got.join(", "));
    if !missing.is_empty() {
        line.push_str(&format!("; missing {}", missing.join(", ")));
    }
    if !extra.is_empty() {
        line.push_str(&format!("; too much {}", extra.join(", ")));
    }
    differences.push(line);
}
