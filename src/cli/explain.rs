//! `wardroom explain`: what each message says and what it would do. It touches nothing.
//!
//! Its clock is the latest recorded time in the input, or `--at`; its room ids are placeholders.

mod advice;
mod report;

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;

use crate::care::fact::AssignmentsSaid;
use crate::care::fact::BedLocation;
use crate::care::fact::Confidentiality;
use crate::care::fact::Fact;
use crate::care::fact::FieldUpdate;
use crate::care::fact::Pair;
use crate::care::fact::Practitioner;
use crate::care::fact::Relation;
use crate::cli::console::Console;
use crate::cli::explain::report::Led;
use crate::cli::explain::report::Report;
use crate::cli::explain::report::label_width;
use crate::cli::messages::Input;
use crate::cli::messages::InputMessage;
use crate::cli::messages::NO_MESSAGE;
use crate::cli::messages::read_messages;
use crate::cli::setting::Setting;
use crate::ids::Identifier;
use crate::intake::rehearsal::Rehearsal;
use crate::intake::rehearsal::Rehearsed;
use crate::time::Clock;
use crate::time::SystemClock;
use crate::time::Timestamp;

/// Says what messages say and what they would do.
#[derive(clap::Args, Debug)]
pub struct ExplainArgs {
    /// Message files or directories; `-` is standard input
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// The time to explain at (RFC 3339); default: the latest recorded time in the input
    #[arg(long)]
    at: Option<jiff::Timestamp>,
    /// The feed whose rules are used; default: the first
    #[arg(long)]
    feed: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: &ExplainArgs, config: Option<&Path>, console: &Console) -> anyhow::Result<ExitCode> {
    let setting = match Setting::load(config, console)? {
        Ok(setting) => setting,
        Err(code) => return Ok(code),
    };
    let Input { messages, left_out } = match read_messages(&args.paths) {
        Ok(input) => input,
        Err(error) => return console.fail(64, &anyhow::Error::new(error)),
    };
    for left_out in &left_out {
        console.tell(&format!("{left_out}"));
    }
    if messages.is_empty() {
        return console.fail(64, &anyhow::anyhow!("{NO_MESSAGE}"));
    }
    let Some(feed) = setting.feed(args.feed.as_deref()) else {
        return console.fail(64, &anyhow::anyhow!("no feed has this name\nhint: the feeds are: {}", setting.feed_names()));
    };
    let zone = feed.profile.time_zone.clone();
    let roster = match setting.roster() {
        Ok(roster) => roster,
        Err(error) => return console.fail(64, &anyhow::Error::new(error)),
    };
    let policy = setting.policy();
    let mut rehearsal = Rehearsal::new(feed, Arc::clone(&policy), roster, Timestamp::MIN);
    let latest = messages.iter().filter_map(|message| rehearsal.recorded_at(&message.bytes)).max();
    let at = args.at.map(Timestamp::from).or(latest).unwrap_or_else(|| SystemClock.now());
    rehearsal.move_to(at);
    let progress = console.progress(messages.len(), "messages");
    let mut explained = Vec::with_capacity(messages.len());
    let mut events = Vec::new();
    for message in &messages {
        for rehearsed in rehearsal.send(&message.bytes) {
            explained.push((message, rehearsed, 0..0));
        }
        let from = events.len();
        events.extend(rehearsal.take_events());
        if let Some((_, _, led)) = explained.last_mut() {
            *led = from..events.len();
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    let names = Placeholders::of(&rehearsal);
    if console.json {
        let document = json!({
            "messages": explained.iter().map(|(message, rehearsed, _)| describe(message, rehearsed, &zone)).collect::<Vec<_>>(),
            "events": events.iter().map(|event| names.in_body(&event.body)).collect::<Result<Vec<_>, _>>()?,
            "rooms": rehearsal.rooms().iter().map(|room| names.in_body(&crate::outbox::envelope::room_json(room))).collect::<Result<Vec<_>, _>>()?,
        });
        console.out(&serde_json::to_string_pretty(&document).context("cannot write JSON")?)?;
    } else {
        let width = label_width(explained.iter().flat_map(|(_, rehearsed, _)| rehearsed.read.incoming.facts.iter().map(AsRef::as_ref)), &zone);
        let report = Report { console, policy: &policy, at, zone: &zone, width };
        for (message, rehearsed, led) in &explained {
            let led = events.get(led.clone()).unwrap_or_default();
            let led: Vec<Led> = led.iter().map(|event| Ok((event.event_type, names.in_body(&event.body)?))).collect::<anyhow::Result<_>>()?;
            report.message(message, rehearsed, &led)?;
        }
        report.summary(explained.iter().map(|(_, rehearsed, _)| rehearsed), rehearsal.rooms().len())?;
    }
    let refused =
        !left_out.is_empty() || explained.iter().any(|(_, rehearsed, _)| rehearsed.verdict.disposition == crate::store::rows::Disposition::Rejected);
    Ok(ExitCode::from(u8::from(refused)))
}

/// Room ids as `room-1`, `room-2`: counted in the order in which the rooms arose.
struct Placeholders(Vec<(String, String)>);

impl Placeholders {
    fn of(rehearsal: &Rehearsal) -> Self {
        Self(rehearsal.rooms().iter().enumerate().map(|(index, room)| (room.id.to_string(), format!("room-{}", index + 1))).collect())
    }

    fn in_body(&self, body: &[u8]) -> anyhow::Result<Value> {
        let mut text = String::from_utf8(body.to_vec()).context("an event is not UTF-8")?;
        for (id, name) in &self.0 {
            text = text.replace(id, name);
        }
        serde_json::from_str(&text).context("an event is not JSON")
    }
}

fn describe(message: &InputMessage, rehearsed: &Rehearsed, zone: &TimeZone) -> Value {
    let Rehearsed { read, verdict, ack } = rehearsed;
    let reading = read.reading.as_ref();
    json!({
        "path": message.path.display().to_string(),
        "index": message.index,
        "control_id": read.header.control_id().map(String::from_utf8_lossy),
        "trigger": read.incoming.trigger.map(|trigger| trigger.to_string()),
        "version": reading.map(|reading| reading.version.clone()).filter(|version| !version.is_empty()),
        "charset": Some(read.charset).filter(|charset| !charset.is_empty()),
        "disposition": verdict.disposition.as_str(),
        "reason": verdict.reason,
        "recorded_at": reading.map(|reading| local(reading.recorded_at, zone)),
        "occurred_at": reading.and_then(|reading| reading.occurred_at).map(|at| local(at, zone)),
        "facts": read.incoming.facts.iter().map(|said| fact(said, zone)).collect::<Vec<_>>(),
        "notices": read.incoming.notices.iter().map(|notice| json!({
            "code": notice.code.as_str(), "field": notice.field.as_ref().map(|field| field.as_str().to_owned()),
        })).collect::<Vec<_>>(),
        "ack": ack.as_ref().map(|ack| String::from_utf8_lossy(ack).into_owned()),
    })
}

#[derive(Serialize)]
struct ShownId<'a> {
    authority: &'a str,
    r#type: &'a str,
    value: &'a str,
}

fn id(id: &Identifier) -> ShownId<'_> {
    ShownId { authority: id.authority.as_str(), r#type: &id.id_type, value: id.value.as_str() }
}

fn fact(fact: &Fact, zone: &TimeZone) -> Value {
    let (person, stay) = (&fact.person, &fact.stay);
    let name = person.name.value();
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    json!({
        "act": fact.act,
        "patient": {
            "id": id(&fact.patient.0),
            "other_ids": fact.other_ids.iter().map(|other| id(&other.0)).collect::<Vec<_>>(),
            "family": name.and_then(|name| text(name.family.as_str())),
            "given": name.and_then(|name| text(name.given.as_str())),
            "birth_date": person.birth_date.value().map(crate::phi::Phi::as_str),
            "sex": person.sex.value().map(crate::phi::Phi::as_str),
        },
        "visit": fact.visit.as_ref().map(|visit| json!({ "id": id(&visit.id.0), "from": visit.from.as_str() })),
        "class": stay.class.value().map(crate::ids::PatientClass::as_str),
        "location": stay.location.value().map(place),
        "prior_location": stay.prior_location.as_ref().map(place),
        "team": team(fact),
        "service": stay.service.value().map(crate::ids::HospitalService::as_str),
        "admitted_at": stay.admitted_at.value().map(|at| local(*at, zone)),
        "discharged_at": stay.discharged_at.value().map(|at| local(*at, zone)),
        "confidentiality": level(fact).as_str(),
        "merge": fact.relation.as_ref().map(relation),
    })
}

/// A time as the hospital's own clock shows it, with its offset.
fn local(at: Timestamp, zone: &TimeZone) -> String {
    at.to_jiff().to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%.f%:z").to_string()
}

/// The highest that the message itself asks for.
fn level(fact: &Fact) -> Confidentiality {
    let signals = fact.person.signals.said.iter().chain(&fact.stay.signals.said);
    signals.filter_map(|signal| signal.update.value()).map(|restriction| restriction.level).max().unwrap_or_default()
}

fn place(place: &BedLocation) -> Value {
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    json!({
        "facility": text(place.facility.as_str()), "point_of_care": text(place.point_of_care.as_str()),
        "room": text(&place.room), "bed": text(&place.bed),
    })
}

fn person(role: &str, from: &str, person: &Practitioner) -> Value {
    let ids: Vec<_> = person.ids.iter().map(|id| ShownId { authority: id.authority.as_str(), r#type: &id.id_type, value: &id.value }).collect();
    json!({ "role": role, "from": from, "ids": ids, "family": person.family.as_str(), "given": person.given.as_str() })
}

fn team(fact: &Fact) -> Vec<Value> {
    let stay = &fact.stay;
    let mut team = Vec::new();
    for (role, from, said) in
        [("attending", "PV1-7", &stay.attending), ("referring", "PV1-8", &stay.referring), ("admitting", "PV1-17", &stay.admitting)]
    {
        team.extend(said.value().map(|who| person(role, from, who)));
    }
    if let FieldUpdate::Set(consulting) = &stay.consulting {
        team.extend(consulting.iter().map(|who| person("consulting", "PV1-9", who)));
    }
    for (role, from, said) in [("other", "PV1-52", &stay.others), ("primary care", "PD1-4", &fact.person.primary_care)] {
        team.extend(said.value().into_iter().flatten().map(|who| person(role, from, who)));
    }
    for said in [&stay.assignments, &fact.person.assignments] {
        let (AssignmentsSaid::Snapshot(list) | AssignmentsSaid::Delta(list)) = said else { continue };
        team.extend(list.iter().map(|assignment| {
            let role = assignment.role.as_ref().map_or(assignment.source.as_str(), |role| role.as_str());
            person(role, assignment.from.as_str(), &assignment.person)
        }));
    }
    team
}

fn relation(relation: &Relation) -> Value {
    let side = |of: fn(&Pair<crate::ids::PatientId>) -> &crate::ids::PatientId, visit: fn(&Pair<crate::ids::VisitId>) -> &crate::ids::VisitId| {
        json!({
            "patients": relation.patients.iter().map(|pair| id(&of(pair).0)).collect::<Vec<_>>(),
            "accounts": relation.accounts.iter().map(|pair| id(&visit(pair).0)).collect::<Vec<_>>(),
            "visits": relation.visits.iter().map(|pair| id(&visit(pair).0)).collect::<Vec<_>>(),
        })
    };
    json!({ "kind": relation.kind, "from": side(|pair| &pair.from, |pair| &pair.from), "into": side(|pair| &pair.into, |pair| &pair.into) })
}
