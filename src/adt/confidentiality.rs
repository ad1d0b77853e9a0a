//! PV1-16, PD1-12, PV2-22, ARV, MSH-26 to MSH-28 and the types of PID-5: who may know (HL7 v2.9 §3.4.14 and §2.14.9).
//!
//! It only ever narrows by itself: a level falls when a message says so in so many words, never because a field is empty, and never by a cancel or a
//! merge. Codes that nobody knows restrict.

use compact_str::CompactString;
use compact_str::format_compact;

use crate::adt::context::Context;
use crate::adt::group::Anchor;
use crate::adt::group::Group;
use crate::adt::maps;
use crate::adt::maps::Asked;
use crate::care::fact::Act;
use crate::care::fact::Confidentiality;
use crate::care::fact::FieldUpdate;
use crate::care::fact::Restriction;
use crate::care::fact::SignalSaid;
use crate::care::fact::SignalSource;
use crate::care::fact::SignalsSaid;
use crate::care::notice::NoticeCode;
use crate::hl7::field::Field;
use crate::hl7::field::code;
use crate::hl7::segment::Segment;
use crate::hl7::xpn::Xpn;

/// What a group says at each of the two levels.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// Of the person.
    pub(crate) person: SignalsSaid,
    /// Of the stay.
    pub(crate) stay: SignalsSaid,
}

/// Reads all signals of a group.
pub(crate) fn signals(context: &mut Context<'_, '_>, group: &Group<'_>) -> Signals {
    let mut signals = Signals::default();
    let is_of_the_person = matches!(context.rule.act, Act::Person | Act::DeletePerson);
    if let Some(pid) = group.first("PID") {
        put(&mut signals.person, SignalSource::Pseudonym, pseudonym(pid.field(5)));
    }
    if let Some(pd1) = group.first("PD1") {
        let update = protection(context, pd1, 12, "PD1-12");
        put(&mut signals.person, SignalSource::PatientProtection, update);
    }
    if !is_of_the_person {
        if let Some(pv1) = group.first("PV1") {
            let update = vip(context, pv1);
            put(&mut signals.stay, SignalSource::Vip, update);
        }
        if let Some(pv2) = group.first("PV2") {
            let update = protection(context, pv2, 22, "PV2-22");
            put(&mut signals.stay, SignalSource::VisitProtection, update);
        }
    }
    let update = message(context);
    put(if is_of_the_person { &mut signals.person } else { &mut signals.stay }, SignalSource::Message, update);
    for (anchor, segment) in group.anchored() {
        if segment.is("ARV") {
            match anchor {
                Anchor::Person => access_restriction(context, segment, &mut signals.person),
                Anchor::Visit | Anchor::Procedure | Anchor::Insurance if is_of_the_person => {}
                Anchor::Visit | Anchor::Procedure | Anchor::Insurance => access_restriction(context, segment, &mut signals.stay),
            }
        }
    }
    if context.rule.is_cancel || context.rule.act == Act::Relate {
        for said in [&mut signals.person, &mut signals.stay] {
            said.replaces_access_restrictions = false;
            said.said.retain(|signal| !matches!(signal.update, FieldUpdate::Clear));
        }
    }
    signals
}

/// ARV-5 and MSH-28: what must be said to whoever sees anything of the stay.
pub(crate) fn instructions(context: &Context<'_, '_>, group: &Group<'_>) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    let of_segments = group.segments().filter(|segment| segment.is("ARV")).map(|segment| segment.field(5).text());
    for text in of_segments.chain([context.message.header().field(28).text()]) {
        let text = text.trim();
        if !text.is_empty() && text.bytes().any(|byte| byte != b'"') && !texts.iter().any(|known| known == text) {
            texts.push(text.to_owned());
        }
    }
    texts
}

/// Adds a signal; said twice in one message, the stricter of both stands.
fn put(signals: &mut SignalsSaid, source: SignalSource, update: FieldUpdate<Restriction>) {
    if update.is_keep() {
        return;
    }
    let Some(standing) = signals.said.iter_mut().find(|standing| standing.source == source) else {
        signals.said.push(SignalSaid { source, update });
        return;
    };
    let rank = |update: &FieldUpdate<Restriction>| update.value().map(|restriction| restriction.level);
    if rank(&update) > rank(&standing.update) {
        standing.update = update;
    }
}

fn raise(asked: Asked) -> FieldUpdate<Restriction> {
    FieldUpdate::Set(Restriction {
        level: asked.level,
        hides_place: asked.hides_place,
        employee: asked.employee,
        part2: asked.part2,
        begins_at: None,
        ends_at: None,
    })
}

/// PV1-16.
fn vip(context: &mut Context<'_, '_>, pv1: Segment<'_>) -> FieldUpdate<Restriction> {
    let said = context.update(pv1, 16, "PV1-16", |_, field| Some(CompactString::from(code(field.text()))).filter(|code| !code.is_empty()));
    match said {
        FieldUpdate::Keep => FieldUpdate::Keep,
        FieldUpdate::Clear => FieldUpdate::Clear,
        FieldUpdate::Set(said) => maps::vip(context.profile, &said).map_or(FieldUpdate::Clear, |asked| {
            if asked.unknown {
                context.notice(NoticeCode::UnknownRestriction, "PV1-16");
            }
            raise(asked)
        }),
    }
}

/// PD1-12 and PV2-22.
fn protection(context: &mut Context<'_, '_>, segment: Segment<'_>, n: usize, name: &'static str) -> FieldUpdate<Restriction> {
    let restricted = || FieldUpdate::Set(Restriction { level: Confidentiality::Restricted, ..Restriction::default() });
    let said = context.update(segment, n, name, |_, field| Some(CompactString::from(code(field.text()))).filter(|code| !code.is_empty()));
    match said {
        FieldUpdate::Keep => FieldUpdate::Keep,
        FieldUpdate::Clear => FieldUpdate::Clear,
        FieldUpdate::Set(said) => match maps::yes_or_no(&said) {
            Some(true) => restricted(),
            Some(false) => FieldUpdate::Clear,
            None => {
                context.notice(NoticeCode::UnknownRestriction, name);
                restricted()
            }
        },
    }
}

/// PID-5: a pseudonym or an alias among the names restricts; a list of names whose types are all others takes that back.
fn pseudonym(field: Field<'_>) -> FieldUpdate<Restriction> {
    let types = || field.repetitions().filter_map(Xpn::read).map(|name| name.name_type);
    if types().any(|name_type| matches!(&*name_type, "S" | "A")) {
        FieldUpdate::Set(Restriction { level: Confidentiality::Restricted, ..Restriction::default() })
    } else if types().next().is_some() && types().all(|name_type| !name_type.is_empty()) {
        FieldUpdate::Clear
    } else {
        FieldUpdate::Keep
    }
}

/// MSH-26, MSH-27 and MSH-28. An instruction for handling that nobody here can follow restricts.
fn message(context: &mut Context<'_, '_>) -> FieldUpdate<Restriction> {
    let header = context.message.header();
    let mut update = FieldUpdate::Keep;
    let mut level = None;
    for repetition in header.field(26).repetitions().filter(|repetition| !repetition.is_empty()) {
        let asked = maps::classification(&repetition.text()).unwrap_or_else(|| {
            context.notice(NoticeCode::UnknownRestriction, "MSH-26");
            Confidentiality::Restricted
        });
        level = level.max(Some(asked));
    }
    for (n, name) in [(27, "MSH-27"), (28, "MSH-28")] {
        if !header.field(n).is_empty() && !header.field(n).is_null() {
            if n == 27 {
                context.notice(NoticeCode::UnknownRestriction, name);
            }
            level = level.max(Some(Confidentiality::Restricted));
        }
    }
    if let Some(level) = level {
        update =
            if level == Confidentiality::Normal { FieldUpdate::Clear } else { FieldUpdate::Set(Restriction { level, ..Restriction::default() }) };
    }
    update
}

/// One ARV: raised, cleared or, as a snapshot, one of those that stand alone now.
fn access_restriction(context: &mut Context<'_, '_>, arv: Segment<'_>, said: &mut SignalsSaid) {
    if arv.field(1).is_null() || arv.field(3).is_null() {
        said.replaces_access_restrictions = true;
        return;
    }
    let action = maps::upper(&arv.field(2).text());
    if matches!(action.as_str(), "X" | "UC") {
        return;
    }
    let value = maps::upper(&code(arv.field(3).text()));
    let instance = code(arv.field(10).text());
    let key = if instance.is_empty() { value.clone() } else { format_compact!("{instance}/{}", maps::upper(&arv.field(10).component(2).text())) };
    if matches!(action.as_str(), "D" | "DE" | "UN") || value == "NO" {
        if instance.is_empty() && (key.is_empty() || value == "NO") {
            // Neither an instance nor a value: all of them, and "no restriction" says the same.
            said.replaces_access_restrictions = true;
        } else {
            put(said, SignalSource::AccessRestriction(key.into()), FieldUpdate::Clear);
        }
        return;
    }
    if matches!(action.as_str(), "S" | "SP") {
        said.replaces_access_restrictions = true;
    }
    let Some(asked) = asked(context, arv, &value) else { return };
    let key = if key.is_empty() { "ARV".into() } else { key };
    let range = arv.field(6);
    let dated = raise(asked).map(|restriction| Restriction {
        begins_at: context.times.instant(&range.component(1).text()),
        ends_at: context.times.end(&range.component(2).text()),
        ..restriction
    });
    put(said, SignalSource::AccessRestriction(key.into()), dated);
}

/// What the value, the reasons and the security labels of an ARV ask for together; `None` when it says nothing.
fn asked(context: &mut Context<'_, '_>, arv: Segment<'_>, value: &str) -> Option<Asked> {
    let mut all: Option<Asked> = None;
    let mut add = |asked: Asked| all = Some(all.map_or(asked, |standing| standing.and(asked)));
    if !value.is_empty() {
        add(maps::restriction(context.profile, value));
    }
    for reason in arv.field(4).repetitions() {
        let reason = code(reason.text());
        if !reason.is_empty() {
            let asked = maps::restriction(context.profile, &reason);
            // A reason explains a value: it restricts by itself only where it names a law or a program.
            let explains = !value.is_empty() && asked.unknown;
            add(if explains { Asked::default() } else { asked });
        }
    }
    let label = arv.field(7).text();
    if !label.is_empty() {
        add(maps::classification(&label).map_or_else(|| Asked { unknown: true, ..restricted() }, |level| Asked { level, ..Asked::default() }));
    }
    if !arv.field(8).is_empty() && !arv.field(8).is_null() {
        add(restricted());
    }
    if all.is_some_and(|asked| asked.unknown) {
        context.notice(NoticeCode::UnknownRestriction, "ARV-3");
    }
    all
}

fn restricted() -> Asked {
    Asked { level: Confidentiality::Restricted, ..Asked::default() }
}
