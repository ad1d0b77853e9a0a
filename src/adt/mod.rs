//! adt reads what an ADT message means and writes it down as facts (HL7 v2.5.1 chapter 3; IHE ITI PAM).
//!
//! The way: `trigger` says what the event is and which fields count for it, `group` which segments belong together, and one file for each family
//! of segments reads them into facets. Sites differ here, so everything is read under a feed's [`Profile`].
//!
//! What it never does: decide about a room, look anything up, ask for the time, or log. A message about a patient it cannot name becomes no fact and
//! says so; what it noticed on the way comes out as notices.

pub mod catalog;
pub mod profile;

mod context;
mod event;
mod group;
mod hash;
mod maps;
mod trigger;

mod patient;
mod visit;
mod team;
mod confidentiality;
mod relation;
mod movement;

use std::borrow::Cow;
use std::sync::Arc;

use compact_str::CompactString;
use smallvec::SmallVec;

use crate::adt::context::Context;
use crate::adt::event::Times;
use crate::adt::event::When;
use crate::adt::group::Group;
use crate::adt::hash::Content;
use crate::adt::patient::Identity;
use crate::adt::profile::Profile;
use crate::adt::relation::Related;
use crate::adt::trigger::Meaning;
use crate::adt::trigger::Relates;
use crate::adt::trigger::Rule;
use crate::adt::trigger::Shape;
use crate::care::fact::Act;
use crate::care::fact::Fact;
use crate::care::fact::FieldRef;
use crate::care::fact::Relation;
use crate::care::fact::RelationKind;
use crate::care::notice::Notice;
use crate::care::notice::NoticeCode;
use crate::hl7::message::Message;
use crate::ids::JournalId;
use crate::ids::TriggerEvent;
use crate::phi::Phi;
use crate::time::Timestamp;

/// What a message is about, by its type (MSH-9.1).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    /// A patient and a stay (`ADT`).
    Adt,
    /// The staff or the units (`MFN`).
    MasterFile,
    /// The staff (`PMU`).
    Personnel,
    /// A peer that acknowledges our acknowledgement (`ACK`, `MCF`).
    Ack,
    /// Anything else.
    Other,
}

fn kind(message_type: &str, message: &Message<'_>) -> Kind {
    match message_type {
        "ADT" => Kind::Adt,
        "MFN" => Kind::MasterFile,
        "PMU" => Kind::Personnel,
        "ACK" | "MCF" => Kind::Ack,
        // Before 2.3 the event alone said what a message was.
        "" if event_type(message).is_some_and(|event| event.as_str().starts_with('A')) => Kind::Adt,
        _ => Kind::Other,
    }
}

/// When and as which row of the journal a message arrived.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arrival {
    /// When it arrived.
    pub at: Timestamp,
    /// Its row.
    pub journal: JournalId,
}

/// Everything that was read from one message.
#[derive(Clone, Debug)]
pub struct Reading {
    /// What the message is about.
    pub kind: Kind,
    /// The trigger event as sent: MSH-9.2, else EVN-1.
    pub trigger: Option<TriggerEvent>,
    /// MSH-12 as sent; may be empty.
    pub version: CompactString,
    /// MSH-11.1, upper case; `P` where it is empty.
    pub processing_id: CompactString,
    /// When the message was recorded, as the fold orders it.
    pub recorded_at: Timestamp,
    /// When it happened (EVN-6).
    pub occurred_at: Option<Timestamp>,
    /// What it says: one fact for each patient and visit named. Also filled where the message is refused or must wait, for whoever wants to see it.
    pub facts: Vec<Arc<Fact>>,
    /// What is to become of it, as far as the message alone can tell.
    pub disposition_hint: Hint,
    /// What is worth telling.
    pub notices: Vec<Notice>,
}

/// What is to become of a message, as far as it alone can tell.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Hint {
    /// Its facts are to be applied.
    Facts,
    /// There is nothing to apply.
    NoOp(NoOpReason),
    /// It must wait for a person.
    Quarantine(QuarantineReason),
    /// It is to be refused.
    Reject {
        /// HL7 table 0357: 200, 201, 202, 203.
        code: u16,
        /// Where.
        field: FieldRef,
    },
}

/// Why a message has no effect.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum NoOpReason {
    /// A20: the state of a bed.
    BedStatus,
    /// A60: an allergy.
    Allergy,
    /// An event that is in no table.
    UnknownEvent,
    /// A message type that is not for us.
    UnsupportedType,
    /// An identifier merged into itself.
    SelfMerge,
}

impl NoOpReason {
    /// The word, for metrics and `explain`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BedStatus => "bed_status",
            Self::Allergy => "allergy",
            Self::UnknownEvent => "unknown_event",
            Self::UnsupportedType => "unsupported_type",
            Self::SelfMerge => "self_merge",
        }
    }
}

/// Why a message must wait.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum QuarantineReason {
    /// No identifier of the patient can be used.
    NoPatientId,
    /// A merge, a move or a change without the old or the new identifier.
    NothingToRelate,
}

impl QuarantineReason {
    /// The word, for metrics and `explain`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoPatientId => "no_patient_id",
            Self::NothingToRelate => "nothing_to_relate",
        }
    }
}

/// Reads a message under a feed's rules.
pub fn read(message: &Message<'_>, profile: &Profile, arrival: Arrival) -> Reading {
    let header = message.header();
    let (message_type, event) = type_and_event(message);
    let kind = kind(&message_type, message);
    let mut notices = Vec::new();
    let times = Times::of(message, profile, arrival.at);
    let when = event::when(message, &times, profile, arrival, &mut notices);
    let processing_id = Some(maps::upper(&header.field(11).text())).filter(|id| !id.is_empty()).unwrap_or_else(|| "P".into());
    let mut reading = Reading {
        kind,
        trigger: event,
        version: header.field(12).text().into(),
        processing_id,
        recorded_at: when.stamp.recorded,
        occurred_at: when.occurred_at,
        facts: Vec::new(),
        disposition_hint: Hint::Facts,
        notices,
    };
    reading.disposition_hint = match (kind, event) {
        (Kind::Adt, Some(event)) => adt(message, event, profile, times, &when, &mut reading),
        (Kind::Adt, None) => unknown_event(profile, &mut reading),
        (Kind::MasterFile | Kind::Personnel | Kind::Ack, _) => Hint::NoOp(NoOpReason::UnsupportedType),
        (Kind::Other, _) => {
            reading.notices.push(Notice::at(NoticeCode::UnsupportedType, "MSH-9.1"));
            if profile.refuses_unsupported() { reject(200, "MSH-9.1") } else { Hint::NoOp(NoOpReason::UnsupportedType) }
        }
    };
    if !is_version_2(&reading.version) {
        reading.disposition_hint = reject(203, "MSH-12");
    } else if !matches!(reading.disposition_hint, Hint::Reject { .. }) && !profile.processing_ids.iter().any(|id| *id == reading.processing_id) {
        reading.disposition_hint = reject(202, "MSH-11");
    }
    reading
}

const fn reject(code: u16, field: &'static str) -> Hint {
    Hint::Reject { code, field: FieldRef::new(field) }
}

fn unknown_event(profile: &Profile, reading: &mut Reading) -> Hint {
    reading.notices.push(Notice::at(NoticeCode::UnknownTrigger, "MSH-9.2"));
    if profile.refuses_unsupported() { reject(201, "MSH-9.2") } else { Hint::NoOp(NoOpReason::UnknownEvent) }
}

/// MSH-9.1 and the trigger event: MSH-9.2, else EVN-1. The structure in MSH-9.3 is missing, private or wrong too often to be asked.
fn type_and_event(message: &Message<'_>) -> (CompactString, Option<TriggerEvent>) {
    let field = message.header().field(9);
    let said = maps::upper(&field.text());
    let event = field.component(2).text();
    // `ADT_A01` in one piece.
    let (message_type, structure) = said.split_once('_').unwrap_or((&said, ""));
    let event =
        TriggerEvent::parse(&event).or_else(|| if event.is_empty() { TriggerEvent::parse(structure).or_else(|| event_type(message)) } else { None });
    (message_type.into(), event)
}

/// EVN-1.
fn event_type(message: &Message<'_>) -> Option<TriggerEvent> {
    TriggerEvent::parse(&message.first("EVN")?.field(1).text())
}

/// Any 2, however it is written; nothing at all counts as 2 too.
fn is_version_2(version: &str) -> bool {
    let number = version.trim_start_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    version.is_empty() || number.strip_prefix('2').is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn adt(message: &Message<'_>, event: TriggerEvent, profile: &Profile, times: Times, when: &When, reading: &mut Reading) -> Hint {
    if event_type(message).is_some_and(|other| other != event) {
        reading.notices.push(Notice::at(NoticeCode::TriggerMismatch, "EVN-1"));
    }
    let trigger = profile.event_map.get(&event).copied().unwrap_or(event);
    let rule = match trigger::meaning(trigger) {
        Meaning::Facts(rule) => rule,
        Meaning::Nothing(reason) => return Hint::NoOp(reason),
        Meaning::Unknown => return unknown_event(profile, reading),
    };
    let mut context = Context { message, profile, sent_trigger: event, trigger, rule, times, notices: std::mem::take(&mut reading.notices) };
    let hint = facts(&mut context, when, &mut reading.facts);
    reading.notices = context.notices;
    hint
}

/// Reads the facts of all groups of a message.
fn facts(context: &mut Context<'_, '_>, when: &When, facts: &mut Vec<Arc<Fact>>) -> Hint {
    let rule = context.rule;
    // What one feed owns another may only repeat: these are two facts.
    let salt = if context.profile.owner.is_empty() {
        Cow::Borrowed(when.salt.as_str())
    } else {
        Cow::Owned(format!("{}\x1c{}", when.salt, context.profile.name))
    };
    let hashed = Content::of(context.message, &salt);
    let groups = group::groups(context.message, rule.shape);
    let mut named: SmallVec<[_; 1]> = SmallVec::new();
    for group in &groups {
        let identity = patient::identity(context, group);
        if identity.is_none() {
            context.notice(NoticeCode::Unreadable, "PID-3");
        }
        named.extend(identity.map(|identity| (group, identity)));
    }
    if named.is_empty() {
        return Hint::Quarantine(QuarantineReason::NoPatientId);
    }
    let mut n_same = 0;
    let mut n_incomplete = 0;
    for (index, (group, identity)) in named.iter().enumerate() {
        let related = match (rule.relates, rule.shape) {
            (Relates::Kind(kind), Shape::TwoPatients) => {
                let other = named.iter().enumerate().find(|(at, _)| *at != index).map(|(_, (_, other))| &other.key);
                relation::link(kind, &identity.key, other)
            }
            _ => relation::of_group(context, group, identity),
        };
        let relation = match related {
            Related::No => None,
            Related::By(relation) => Some(relation),
            Related::Incomplete(kind) => {
                n_incomplete += 1;
                Some(empty(kind))
            }
            Related::Same(kind) => {
                n_same += 1;
                Some(empty(kind))
            }
        };
        // Large, and shared from here on.
        facts.push(Arc::new(fact(context, group, identity, relation, when, hashed.fact(index))));
    }
    if n_incomplete == facts.len() {
        return Hint::Quarantine(QuarantineReason::NothingToRelate);
    }
    if n_incomplete > 0 {
        // One group that says nothing does not hold up those beside it.
        context.notice(NoticeCode::Unreadable, "MRG-1");
        facts.retain(|fact| fact.relation.as_ref().is_none_or(|relation| !is_empty(relation) || rule.shape == Shape::TwoPatients));
    }
    if n_same >= facts.len() { Hint::NoOp(NoOpReason::SelfMerge) } else { Hint::Facts }
}

const fn is_empty(relation: &Relation) -> bool {
    relation.patients.is_empty() && relation.accounts.is_empty() && relation.visits.is_empty()
}

const fn empty(kind: RelationKind) -> Relation {
    Relation { kind, patients: Vec::new(), accounts: Vec::new(), visits: Vec::new() }
}

fn fact(
    context: &mut Context<'_, '_>,
    group: &Group<'_>,
    identity: &Identity,
    relation: Option<Relation>,
    when: &When,
    hash: crate::care::fact::FactHash,
) -> Fact {
    let Rule { act, is_cancel, .. } = context.rule;
    let is_of_the_person = matches!(act, Act::Person | Act::DeletePerson);
    let signals = confidentiality::signals(context, group);
    let mut person = patient::person(context, group, !is_cancel && act != Act::Relate);
    person.signals = signals.person;
    let mut stay = visit::stay(context, group);
    stay.signals = signals.stay;
    stay.instructions = Phi::new(confidentiality::instructions(context, group));
    if matches!(act, Act::Open | Act::Reclassify) {
        stay.day_ends = context.times.day_ends(when.stamp.recorded);
    }
    Fact {
        hash,
        stamp: when.stamp,
        recorded_by_sender: when.recorded_by_sender,
        trigger: context.sent_trigger,
        act,
        occurred_at: when.occurred_at,
        movement: movement::read(group, &context.times),
        feed: context.profile.name.clone(),
        owns: context.profile.owner.clone(),
        load: matches!(maps::upper(&context.message.header().field(11).component(2).text()).as_str(), "I" | "R" | "A"),
        patient: identity.key.clone(),
        other_ids: identity.others.clone(),
        visit: if is_of_the_person { None } else { visit::reference(context, group) },
        person,
        stay,
        relation,
    }
}

#[cfg(test)]
mod tests;
