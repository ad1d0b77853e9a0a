//! PID and PD1: who the patient is (HL7 v2.5.1 §3.4.2 and §3.4.10).
//!
//! An identifier counts only whole: one that its sender cut off is none. An untyped identifier counts as one of the feed's primary type, so that the
//! same number is the same patient in a PID-3 with types and in an MRG-1 without.

use compact_str::CompactString;

use crate::adt::context::Context;
use crate::adt::group::Anchor;
use crate::adt::group::Group;
use crate::adt::maps;
use crate::adt::team;
use crate::care::fact::FieldUpdate;
use crate::care::fact::PersonName;
use crate::care::fact::PersonSaid;
use crate::care::notice::NoticeCode;
use crate::hl7::cx::Cx;
use crate::hl7::field::Field;
use crate::hl7::segment::Segment;
use crate::hl7::ts::date;
use crate::hl7::xpn::Xpn;
use crate::ids::AssigningAuthority;
use crate::ids::Identifier;
use crate::ids::PatientId;
use crate::phi::Phi;

/// Types of documents about a citizen, which never are a patient's key while there is anything else.
const NOT_A_KEY: [&str; 3] = ["SS", "DL", "PPN"];

/// Authorities whose numbers are a citizen's, whether they say so in CX.5 or not (the first is of table 0363).
const CITIZEN_AUTHORITIES: [&str; 2] = ["USSSA", "SSA"];

/// The patient's key and all other identifiers.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) key: PatientId,
    pub(crate) others: Vec<PatientId>,
}

/// The patient of a group; `None` when no identifier can be used.
pub(crate) fn identity(context: &mut Context<'_, '_>, group: &Group<'_>) -> Option<Identity> {
    let pid = group.first("PID")?;
    let mut ids = ids(context, pid.field(3), "PID-3");
    if ids.is_empty() && is_before_2_3(context) {
        ids = self::ids(context, pid.field(2), "PID-2");
    }
    let own = context.profile.patient_id_type.as_str();
    let home = &context.profile.authority;
    let of_type = |id_type: &str, authority: Option<&AssigningAuthority>| {
        ids.iter().position(|id| id.0.id_type == id_type && authority.is_none_or(|authority| id.0.authority == *authority))
    };
    let key = of_type(own, Some(home))
        .or_else(|| of_type(own, None))
        .or_else(|| if own == "MR" { of_type("MRN", None) } else { None })
        .or_else(|| of_type("PI", None))
        .or_else(|| ids.iter().position(|id| !NOT_A_KEY.contains(&id.0.id_type.as_str())))
        .unwrap_or(0);
    let key = ids.get(key)?.clone();
    let mut others: Vec<PatientId> = Vec::new();
    for id in ids {
        if id != key && !others.contains(&id) {
            others.push(id);
        }
    }
    Some(Identity { key, others })
}

/// The patient identifiers of a field, in order.
pub(crate) fn ids(context: &mut Context<'_, '_>, field: Field<'_>, name: &'static str) -> Vec<PatientId> {
    let mut ids = Vec::new();
    for repetition in field.repetitions() {
        if Cx::is_cut(repetition) {
            context.notice(NoticeCode::Truncated, name);
        }
        let Some(cx) = Cx::read(repetition) else { continue };
        let is_of_a_citizen = || CITIZEN_AUTHORITIES.iter().any(|authority| *authority == cx.authority || *authority == cx.facility);
        let id_type = match &*cx.id_type {
            "" if is_of_a_citizen() => "SS",
            "" => context.profile.patient_id_type.as_str(),
            id_type => id_type,
        };
        ids.push(PatientId(Identifier { authority: context.profile.authority(&cx.authority), id_type: id_type.into(), value: Phi::from(&*cx.id) }));
    }
    ids
}

fn is_before_2_3(context: &Context<'_, '_>) -> bool {
    let version = context.message.header().field(12).text();
    ["2.0", "2.1", "2.2"].iter().any(|old| version.starts_with(old)) || version == "2"
}

/// What a group says of the person. Signals are read elsewhere.
///
/// Messages that relate identifiers often carry an incomplete PID: what they do not say they never clear.
pub(crate) fn person(context: &mut Context<'_, '_>, group: &Group<'_>, clears: bool) -> PersonSaid {
    let Some(pid) = group.first("PID") else { return PersonSaid::default() };
    let mut deceased = context.update(pid, 30, "PID-30", |_, field| maps::yes_or_no(&field.text()));
    if deceased.is_keep() && date(&pid.field(29).text()).is_some() {
        deceased = FieldUpdate::Set(true);
    }
    let mut said = PersonSaid {
        name: context.update(pid, 5, "PID-5", |_, field| name(field)),
        birth_date: birth_date(context, pid),
        sex: context.update(pid, 8, "PID-8", |context, field| {
            let read = maps::sex(&field.text());
            if read.is_none() {
                context.notice(NoticeCode::Unreadable, "PID-8");
            }
            read.map(Phi::from)
        }),
        deceased,
        identity_unknown: context.update(pid, 31, "PID-31", |_, field| maps::yes_or_no(&field.text())),
        ..PersonSaid::default()
    };
    if clears {
        said.assignments = team::assignments(context, group, Anchor::Person);
        if let Some(pd1) = group.first("PD1") {
            said.primary_care = context.update(pd1, 4, "PD1-4", |context, field| team::each(context, field, "PD1-4"));
        }
    } else {
        keep_if_clear(&mut said.name);
        keep_if_clear(&mut said.birth_date);
        keep_if_clear(&mut said.sex);
        keep_if_clear(&mut said.deceased);
        keep_if_clear(&mut said.identity_unknown);
    }
    said
}

fn keep_if_clear<T>(update: &mut FieldUpdate<T>) {
    if matches!(update, FieldUpdate::Clear) {
        *update = FieldUpdate::Keep;
    }
}

/// The name as sent: the first repetition that names anybody.
fn name(field: Field<'_>) -> Option<PersonName> {
    let xpn = field.repetitions().find_map(Xpn::read)?;
    Some(PersonName { family: Phi::from(&*xpn.family), given: Phi::from(&*xpn.given), middle: Phi::from(&*xpn.middle) })
}

fn birth_date(context: &mut Context<'_, '_>, pid: Segment<'_>) -> FieldUpdate<Phi<CompactString>> {
    context.update(pid, 7, "PID-7", |context, field| {
        let read = date(&field.text());
        if read.is_none() {
            context.notice(NoticeCode::Unreadable, "PID-7");
        }
        read.map(Phi::new)
    })
}
