//! `[rooms]`: which stays get a room, what it is called and how long anything lasts.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::care::policy::ByClass;
use crate::care::policy::Condition;
use crate::care::policy::Policy;
use crate::care::policy::VeryRestricted;
use crate::config::condition;
use crate::config::name;
use crate::config::reader::Reader;
use crate::config::reader::is_blank_or_padded;
use crate::config::tree::KeyPath;
use crate::ids::PatientClass;

/// Which stays get a room, what it is called and how long anything lasts. Spans are written `15m`, `4h`, `7d` or `1h30m`.
#[derive(Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Rooms")]
pub(super) struct RawRooms {
    /// The classes (PV1-2 after the feed's `class_map`) whose stays get a room.
    classes: Vec<String>,
    /// A CEL expression over the visit, in place of `classes`; empty: `classes` count. It may ask for `class`, `facility`, `point_of_care`, `room`,
    /// `bed`, `service`, `status`, `confidentiality` (texts, empty where the visit does not say), `admitted` and `has_bed` (true or false).
    when: String,
    /// The classes whose room closes at the end of its day, when no discharge came.
    day_classes: Vec<String>,
    /// The name: text with `{{ facility }}`, `{{ unit }}`, `{{ room }}`, `{{ bed }}`, `{{ place }}`, `{{ service }}` and, always, `{{ code }}`.
    name: String,
    /// How long a unit's team stays after a transfer, and a doctor after another took over.
    handover: String,
    /// Nobody leaves sooner than this after the news arrived, nor sooner than their grace, if that is shorter.
    grace_floor: String,
    /// How long a room lives without any message, by class; `default` is for all other classes, and need not be given.
    max_age: BTreeMap<String, String>,
    /// What a very restricted visit gets.
    very_restricted: RawVeryRestricted,
    /// How long a room stays open after the discharge, by class; `default` is for all other classes, and need not be given.
    discharge_grace: BTreeMap<String, String>,
    /// How long before the newest fact of a visit a plain update still counts.
    late_window: String,
    /// How long after its end everything about a stay is deleted.
    purge_after: String,
    /// Whether rooms of expected stays are published.
    publish_expected: bool,
    /// Whether leaves and ends wait for an operator once more than a tenth of the open rooms (and more than ten) would end within ten minutes.
    mass_guard: bool,
}

#[derive(Clone, Copy, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "VeryRestricted")]
enum RawVeryRestricted {
    /// Members by name only, and the staff of a part2 unit in its own unit.
    Explicit,
    /// No room.
    None,
}

impl Default for RawRooms {
    fn default() -> Self {
        let by_class = |emergency: &str, all: &str| BTreeMap::from([("E", emergency), ("default", all)].map(|(k, v)| (k.to_owned(), v.to_owned())));
        Self {
            classes: ["I", "E", "B"].map(str::to_owned).to_vec(),
            when: String::new(),
            day_classes: Vec::new(),
            name: "{{ place }} {{ code }}".to_owned(),
            handover: "60m".to_owned(),
            grace_floor: "15m".to_owned(),
            max_age: by_class("48h", "60d"),
            very_restricted: RawVeryRestricted::Explicit,
            discharge_grace: by_class("4h", "24h"),
            late_window: "7d".to_owned(),
            purge_after: "365d".to_owned(),
            publish_expected: false,
            mass_guard: true,
        }
    }
}

/// What `[rooms]` says beside the policy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoomsConfig {
    /// How long after its end everything about a stay is deleted.
    pub purge_after: Duration,
    /// Whether many rooms that would end at once wait for an operator.
    pub mass_guard: bool,
}

/// Reads the section into the policy; the team and what the feeds say are filled in by others.
pub(super) fn read(raw: &RawRooms, reader: &mut Reader<'_>) -> (Policy, RoomsConfig) {
    let section = KeyPath::of("rooms");
    let mut span = |key: &str, text: &str| reader.duration(&section.key(key), text);
    let handover = span("handover", &raw.handover);
    let grace_floor = span("grace_floor", &raw.grace_floor);
    let late_window = span("late_window", &raw.late_window);
    let purge_after = reader.positive_duration(&section.key("purge_after"), &raw.purge_after);
    let name = name::parse(&raw.name).unwrap_or_else(|rule| {
        reader.problem(&section.key("name"), rule);
        Vec::new()
    });
    let defaults = Policy::default();
    let max_age = by_class(&raw.max_age, &section.key("max_age"), defaults.max_age.default, reader);
    if max_age.by_class.values().copied().fold(max_age.default, Duration::max) > purge_after {
        let hint = "lower `max_age` too, so that both say what counts";
        reader.warn(&section.key("purge_after"), "is shorter than `max_age`: no room lives so long without any message", hint);
    }
    let policy = Policy {
        classes: classes(&raw.classes, &section.key("classes"), reader),
        when: when(&raw.when, &section.key("when"), reader),
        day_classes: classes(&raw.day_classes, &section.key("day_classes"), reader),
        name,
        handover,
        grace_floor,
        max_age,
        very_restricted: match raw.very_restricted {
            RawVeryRestricted::Explicit => VeryRestricted::Explicit,
            RawVeryRestricted::None => VeryRestricted::NoRoom,
        },
        discharge_grace: by_class(&raw.discharge_grace, &section.key("discharge_grace"), defaults.discharge_grace.default, reader),
        late_window,
        purge_after,
        publish_expected: raw.publish_expected,
        ..defaults
    };
    if policy.classes.is_empty() && policy.when.is_none() && raw.when.is_empty() {
        reader.problem(&section.key("classes"), "is empty and there is no `when`: no stay would get a room");
    }
    if policy.when.is_some() && reader.is_set(&section.key("classes")) {
        reader.warn(&section.key("classes"), "counts for nothing beside `when`", "ask for `class` in the expression, and leave this key out");
    }
    (policy, RoomsConfig { purge_after, mass_guard: raw.mass_guard })
}

/// A condition, where one is written.
pub(super) fn when(source: &str, path: &KeyPath, reader: &mut Reader<'_>) -> Option<Condition> {
    if source.trim().is_empty() {
        return None;
    }
    condition::compile(source).map_err(|rule| reader.problem(path, rule)).ok()
}

fn classes(raw: &[String], path: &KeyPath, reader: &mut Reader<'_>) -> Vec<PatientClass> {
    for (index, class) in raw.iter().enumerate() {
        if is_blank_or_padded(class) {
            reader.problem(&path.index(index), "must be a class such as `I`, `E` or `O`");
        }
    }
    raw.iter().map(PatientClass::new).collect()
}

fn by_class(raw: &BTreeMap<String, String>, path: &KeyPath, otherwise: Duration, reader: &mut Reader<'_>) -> ByClass {
    let mut spans: BTreeMap<&str, Duration> = BTreeMap::new();
    for (class, text) in raw {
        spans.insert(class, reader.positive_duration(&path.key(class), text));
    }
    let default = spans.remove("default").unwrap_or(otherwise);
    ByClass { by_class: spans.into_iter().map(|(class, span)| (PatientClass::from(class), span)).collect(), default }
}
