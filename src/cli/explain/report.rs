//! What `explain` says to people: a block for each message, what became of it first, then what was read and from which field.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use serde_json::Value;

use crate::adt::catalog;
use crate::care::change::EventType;
use crate::care::fact::Act;
use crate::care::fact::Fact;
use crate::care::policy::Policy;
use crate::cli::console::Console;
use crate::cli::explain::advice;
use crate::cli::explain::fact;
use crate::cli::explain::local;
use crate::cli::messages::InputMessage;
use crate::cli::words::counted;
use crate::intake::rehearsal::Rehearsed;
use crate::store::rows::Disposition;
use crate::time::Timestamp;

/// An event that a message led to, as it would be published.
pub(super) type Led = (EventType, Value);

/// Writes the report.
pub(super) struct Report<'a> {
    pub(super) console: &'a Console,
    pub(super) policy: &'a Policy,
    /// The time that the messages are explained at.
    pub(super) at: Timestamp,
    /// The feed's own time.
    pub(super) zone: &'a TimeZone,
    /// How wide labels are.
    pub(super) width: usize,
}

/// No labels are narrower than this.
const LEAST_WIDTH: usize = 12;

/// How wide labels are where these messages are explained: a role is a label, and a site may call its roles anything.
pub(super) fn label_width<'f>(facts: impl Iterator<Item = &'f Fact>, zone: &TimeZone) -> usize {
    let widest = |said: &Fact| fact(said, zone).pointer("/team").and_then(Value::as_array).into_iter().flatten().map(role_width).max();
    facts.filter_map(widest).max().unwrap_or(0).max(LEAST_WIDTH)
}

fn role_width(member: &Value) -> usize {
    member.pointer("/role").and_then(Value::as_str).map_or(0, |role| role.chars().count())
}

impl Report<'_> {
    /// One message.
    pub(super) fn message(&self, message: &InputMessage, rehearsed: &Rehearsed, led: &[Led]) -> anyhow::Result<()> {
        let Rehearsed { read, verdict, .. } = rehearsed;
        let trigger = read.incoming.trigger.map_or_else(|| "?".to_owned(), |trigger| trigger.to_string());
        let meaning = read.incoming.trigger.and_then(catalog::event).map_or("", |event| event.meaning);
        self.console.out(&format!("{}  {meaning}  {}", self.console.bold(&trigger), self.console.dim(&message.to_string())))?;
        self.verdict(rehearsed)?;
        if verdict.disposition == Disposition::Applied {
            self.effects(&read.incoming.facts, led)?;
        }
        if let Some(reading) = &read.reading {
            self.row("recorded", &local(reading.recorded_at, self.zone), "")?;
            if let Some(at) = reading.occurred_at {
                self.row("occurred", &local(at, self.zone), "EVN-6")?;
            }
        }
        for (index, said) in read.incoming.facts.iter().enumerate() {
            if index > 0 {
                self.row("", "", "")?;
            }
            self.fact(&fact(said, self.zone))?;
        }
        for notice in &read.incoming.notices {
            let field = notice.field.as_ref().map(|field| format!("{field} ")).unwrap_or_default();
            self.row("notice", &format!("{field}{} ({})", advice::on_notice(notice.code.as_str()), notice.code), "")?;
        }
        self.console.out("")
    }

    /// What became of it, why, what to do, and how it is answered.
    fn verdict(&self, rehearsed: &Rehearsed) -> anyhow::Result<()> {
        let Rehearsed { read, verdict, ack } = rehearsed;
        let word = verdict.disposition.as_str();
        let padding = " ".repeat((self.width + 2).saturating_sub(word.len()));
        let painted = self.console.paint_disposition(verdict.disposition);
        let advice = verdict.reason.and_then(advice::on);
        let why = match (verdict.reason, advice) {
            (Some(reason), Some(advice)) => format!("{} ({reason})", advice.why),
            (Some(reason), None) => reason.to_owned(),
            (None, _) if verdict.disposition == Disposition::Duplicate => "the same message came before".to_owned(),
            (None, _) => String::new(),
        };
        self.console.out(format!("  {painted}{padding}{why}").trim_end())?;
        if let Some(advice) = advice.filter(|advice| !advice.action.is_empty()) {
            self.row("to do", advice.action, "")?;
        }
        let code = ack.as_ref().and_then(|ack| {
            let text = String::from_utf8_lossy(ack);
            let answer = text.split('\r').find(|segment| segment.starts_with("MSA"))?;
            Some(answer.chars().skip(4).take(2).collect::<String>())
        });
        let error = read.error.as_ref().map(|error| {
            let place = error.location.as_ref().map(|at| format!(" at {}-{}", at.segment, at.field)).unwrap_or_default();
            format!(", error {}{place}", error.code)
        });
        self.row("answer", &format!("{}{}", code.as_deref().unwrap_or("none"), error.unwrap_or_default()), "")
    }

    /// What it would do to rooms, or why it does nothing.
    fn effects(&self, facts: &[Arc<Fact>], led: &[Led]) -> anyhow::Result<()> {
        for (event_type, body) in led {
            let line = crate::cli::story::line(self.console, *event_type, body);
            self.row("would", &line, "")?;
        }
        if facts.is_empty() {
            self.row("would", "change the directory, and the members of the rooms that it concerns", "")?;
        }
        if led.is_empty() {
            for said in facts {
                self.row("would", &format!("change no room: {}", self.why_no_room(said)), "")?;
            }
        }
        Ok(())
    }

    /// The likeliest reason for which a fact that was recorded changes no room.
    fn why_no_room(&self, said: &Fact) -> String {
        match said.act {
            Act::Person => return "it is about a person, and none of their rooms shows anything else now".to_owned(),
            Act::Relate => return "the identifiers are remembered; no known room shows anything else now".to_owned(),
            Act::Expect => return "the visit is expected; its room is published when the patient is admitted".to_owned(),
            Act::End => return "the visit is recorded as ended; one that is over when first heard of gets no room".to_owned(),
            Act::DeleteVisit | Act::DeletePerson => return "there is nothing to delete".to_owned(),
            Act::CancelOpen
            | Act::CancelMove
            | Act::CancelEnd
            | Act::CancelExpect
            | Act::CancelLeave
            | Act::CancelReturn
            | Act::CancelChangeProviders
            | Act::CancelTrack
            | Act::CancelPlanMove
            | Act::CancelPlanEnd => return "what it cancels is not known; the cancel is remembered".to_owned(),
            Act::Open
            | Act::Reclassify
            | Act::Move
            | Act::Update
            | Act::Leave
            | Act::Return
            | Act::ChangeProviders
            | Act::Track
            | Act::PlanMove
            | Act::PlanEnd => {}
        }
        if said.stamp.recorded.plus(self.policy.max_age.of(said.stay.class.value())) < self.at {
            return "nothing was heard of the visit for longer than `rooms.max_age`, so it counts as over".to_owned();
        }
        if said.stay.discharged_at.value().is_some() {
            return "PV1-45 says that the stay is over; one that is over when first heard of gets no room".to_owned();
        }
        match said.stay.class.value() {
            Some(class) if self.policy.when.is_none() && !self.policy.classes.contains(class) => {
                let classes: Vec<&str> = self.policy.classes.iter().map(crate::ids::PatientClass::as_str).collect();
                format!("class {} gets none (`rooms.classes` is {})", class.as_str(), classes.join(", "))
            }
            Some(_) if self.policy.when.is_some() => "it says nothing new, or `rooms.when` does not hold".to_owned(),
            None if said.act != Act::Update => "PV1-2 does not say the class, and no earlier message did".to_owned(),
            _ => "it says nothing new, or the visit was not seen to begin".to_owned(),
        }
    }

    fn fact(&self, shown: &Value) -> anyhow::Result<()> {
        let text = |path: &str| shown.pointer(path).and_then(Value::as_str).unwrap_or_default();
        self.id("patient", shown.pointer("/patient/id"), "PID-3")?;
        let name = [text("/patient/family"), text("/patient/given")].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
        let born = text("/patient/birth_date");
        let born = if born.is_empty() { String::new() } else { format!("  born {born}") };
        self.row("name", format!("{name}{born}  {}", text("/patient/sex")).trim(), "PID-5, 7, 8")?;
        self.id("visit", shown.pointer("/visit/id"), text("/visit/from"))?;
        if let Some(kind) = shown.pointer("/merge/kind").and_then(Value::as_str) {
            self.row("relates", kind, "MRG")?;
            for (level, fields) in [("patients", "MRG-1, PID-3"), ("accounts", "MRG-3, PID-18"), ("visits", "MRG-5, PV1-19")] {
                let side = |side: &str| shown.pointer(&format!("/merge/{side}/{level}")).and_then(Value::as_array).cloned().unwrap_or_default();
                for (from, into) in side("from").iter().zip(&side("into")) {
                    self.row(level, &format!("{} -> {}", number(from), number(into)), fields)?;
                }
            }
        }
        self.row("class", text("/class"), "PV1-2")?;
        self.row("place", &place(shown.pointer("/location")), "PV1-3")?;
        self.row("from place", &place(shown.pointer("/prior_location")), "PV1-6")?;
        self.row("service", text("/service"), "PV1-10")?;
        self.row("admitted", text("/admitted_at"), "PV1-44")?;
        self.row("discharged", text("/discharged_at"), "PV1-45")?;
        if text("/confidentiality") != "normal" {
            self.row("level", text("/confidentiality"), "")?;
        }
        for member in shown.pointer("/team").and_then(Value::as_array).into_iter().flatten() {
            let part = |path: &str| member.pointer(path).and_then(Value::as_str).unwrap_or_default();
            let ids: Vec<String> = member.pointer("/ids").and_then(Value::as_array).into_iter().flatten().map(number).collect();
            let name = [part("/family"), part("/given")].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
            let ids = if ids.is_empty() { "no id".to_owned() } else { ids.join(" = ") };
            self.row(part("/role"), format!("{ids}  {name}").trim_end(), part("/from"))?;
        }
        Ok(())
    }

    fn id(&self, label: &str, id: Option<&Value>, field: &str) -> anyhow::Result<()> {
        self.row(label, &id.filter(|id| !id.is_null()).map(number).unwrap_or_default(), field)
    }

    /// A line: what, its value, and the field it is from. One without a value is left out.
    fn row(&self, label: &str, value: &str, field: &str) -> anyhow::Result<()> {
        if value.is_empty() && !label.is_empty() {
            return Ok(());
        }
        let width = self.width;
        if field.is_empty() {
            return self.console.out(format!("  {label:<width$}  {value}").trim_end());
        }
        self.console.out(&format!("  {label:<width$}  {value:<44} {}", self.console.dim(field)))
    }

    /// How many messages ended how.
    pub(super) fn summary<'r>(&self, all: impl Iterator<Item = &'r Rehearsed>, n_rooms: usize) -> anyhow::Result<()> {
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        let mut n = 0_usize;
        for rehearsed in all {
            n += 1;
            *counts.entry((rehearsed.verdict.disposition.as_str(), rehearsed.verdict.reason.unwrap_or_default())).or_default() += 1;
        }
        if n < 2 {
            return Ok(());
        }
        self.console.out(&self.console.bold(&format!("{}, {}", counted(n, "message"), counted(n_rooms, "room"))))?;
        for ((disposition, reason), count) in counts {
            self.console.out(format!("  {count:>6}  {disposition:<12} {reason}").trim_end())?;
        }
        Ok(())
    }
}

/// An identifier: its value, and in brackets its authority and type.
fn number(id: &Value) -> String {
    let part = |path: &str| id.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let kind = [part("/authority"), part("/type")].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    if kind.is_empty() { part("/value").to_owned() } else { format!("{} ({kind})", part("/value")) }
}

/// A place: facility, unit, room-bed.
fn place(place: Option<&Value>) -> String {
    let part = |path: &str| place.and_then(|place| place.pointer(path)).and_then(Value::as_str).unwrap_or_default();
    let bed = [part("/room"), part("/bed")].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
    [part("/facility"), part("/point_of_care"), &bed].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}
