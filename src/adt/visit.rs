//! PV1 and PV2: which visit it is, and where and how the patient is treated (HL7 v2.5.1 §3.4.3 and §3.4.4).
//!
//! A field that the trigger table does not give to an event is not read, however tempting its content.

use crate::adt::context::Context;
use crate::adt::group::Anchor;
use crate::adt::group::Group;
use crate::adt::maps;
use crate::adt::profile::Consultants;
use crate::adt::profile::VisitIdSource;
use crate::adt::team;
use crate::adt::trigger::Facets;
use crate::care::fact::Act;
use crate::care::fact::BedLocation;
use crate::care::fact::FieldRef;
use crate::care::fact::StaySaid;
use crate::care::fact::VisitRef;
use crate::care::notice::NoticeCode;
use crate::hl7::cx::Cx;
use crate::hl7::field::Field;
use crate::hl7::field::code;
use crate::hl7::pl::Pl;
use crate::ids::Facility;
use crate::ids::HospitalService;
use crate::ids::Identifier;
use crate::ids::PatientClass;
use crate::ids::PointOfCare;
use crate::ids::VisitId;
use crate::phi::Phi;

/// How a group names its visit; `None` when no number can be used.
pub(crate) fn reference(context: &mut Context<'_, '_>, group: &Group<'_>) -> Option<VisitRef> {
    let [number, account, alternate] = [VisitIdSource::VisitNumber, VisitIdSource::Account, VisitIdSource::Alternate].map(|source| {
        let (segment, n) = match source {
            VisitIdSource::VisitNumber => ("PV1", 19),
            VisitIdSource::Account => ("PID", 18),
            VisitIdSource::Alternate => ("PV1", 50),
        };
        id(context, group.first(segment)?.field(n), source.as_str())
    });
    let preadmit = group.first("PV1").and_then(|pv1| id(context, pv1.field(5), "PV1-5"));
    let of = |source| match source {
        VisitIdSource::VisitNumber => number.clone(),
        VisitIdSource::Account => account.clone(),
        VisitIdSource::Alternate => alternate.clone(),
    };
    let order = &context.profile.visit_id;
    let (source, key) = order.iter().find_map(|source| of(*source).map(|key| (*source, key)))?;
    // Where the account comes first, the feed says that an account is a visit.
    let is_account = source == VisitIdSource::Account && order.first() != Some(&source);
    if is_account && context.rule.act == Act::Relate {
        // A message about identifiers says in its relation which account it is about; it speaks of no visit.
        return None;
    }
    if is_account {
        context.notice(NoticeCode::AccountOnly, "PID-18");
    }
    let beside = |other: Option<VisitId>| other.filter(|other| *other != key);
    Some(VisitRef {
        from: FieldRef::new(source.as_str()),
        is_account,
        account: beside(account),
        alternate: beside(alternate),
        preadmit: beside(preadmit),
        id: key,
    })
}

/// The first visit or account number of a field.
pub(crate) fn id(context: &mut Context<'_, '_>, field: Field<'_>, name: &'static str) -> Option<VisitId> {
    for repetition in field.repetitions() {
        if Cx::is_cut(repetition) {
            context.notice(NoticeCode::Truncated, name);
        }
        if let Some(cx) = Cx::read(repetition) {
            let authority = context.profile.authority(&cx.authority);
            return Some(VisitId(Identifier { authority, id_type: cx.id_type.into(), value: Phi::from(&*cx.id) }));
        }
    }
    None
}

/// What a group says of the stay. Signals are read elsewhere.
pub(crate) fn stay(context: &mut Context<'_, '_>, group: &Group<'_>) -> StaySaid {
    let facets = context.rule.facets;
    let mut said = StaySaid::default();
    if facets.has(Facets::ASSIGNMENTS) {
        said.assignments = team::assignments(context, group, Anchor::Visit);
    }
    let Some(pv1) = group.first("PV1") else { return said };
    let facility = context.facility(pv1);
    if facets.has(Facets::CLASS) {
        said.class = context.update(pv1, 2, "PV1-2", class);
    }
    if facets.has(Facets::LOCATION) {
        said.prior_location = place(pv1.field(6), &facility);
        if context.profile.may_move(context.sent_trigger) {
            said.location = context.update(pv1, 3, "PV1-3", |_, field| place(field, &facility));
            if said.location.is_keep() && context.rule.act == Act::Expect {
                said.location = place(pv1.field(42), &facility).into();
            }
        }
    }
    if facets.has(Facets::WHEREABOUTS) {
        said.whereabouts = context.update(pv1, 11, "PV1-11", |_, field| somewhere(field, &facility));
        let tracks = matches!(context.rule.act, Act::Track | Act::CancelTrack);
        if tracks && said.whereabouts.is_keep() {
            said.whereabouts = place(pv1.field(3), &facility).into();
        }
    }
    if facets.has(Facets::ATTENDING) {
        said.attending = context.update(pv1, 7, "PV1-7", |context, field| team::one(context, field, "PV1-7"));
    }
    if facets.has(Facets::REFERRING) {
        said.referring = context.update(pv1, 8, "PV1-8", |context, field| team::one(context, field, "PV1-8"));
    }
    if facets.has(Facets::CONSULTING) {
        said.consulting = context.update(pv1, 9, "PV1-9", |context, field| team::each(context, field, "PV1-9"));
        said.consulting_adds = context.profile.pv1_9 == Consultants::Add && !said.consulting.is_keep();
    }
    if facets.has(Facets::ADMITTING) {
        said.admitting = context.update(pv1, 17, "PV1-17", |context, field| team::one(context, field, "PV1-17"));
        // Other providers are named where all doctors are.
        said.others = context.update(pv1, 52, "PV1-52", |context, field| team::each(context, field, "PV1-52"));
    }
    if facets.has(Facets::SERVICE) {
        said.service = context.update(pv1, 10, "PV1-10", |_, field| {
            let service = code(field.text());
            (!service.is_empty()).then(|| HospitalService::new(service))
        });
    }
    if facets.has(Facets::TIMES) {
        said.admitted_at = context.time(pv1, 44, "PV1-44");
        said.discharged_at = context.time(pv1, 45, "PV1-45");
        said.expected_at = group.first("PV2").and_then(|pv2| context.time(pv2, 8, "PV2-8").value().copied());
    }
    said
}

/// PV1-2, after the feed's map. A code that no map has is taken as the event suggests.
fn class(context: &mut Context<'_, '_>, field: Field<'_>) -> Option<PatientClass> {
    let said = code(field.text());
    if said.is_empty() {
        return None;
    }
    Some(maps::class(context.profile, &said).unwrap_or_else(|| {
        context.notice(NoticeCode::UnknownClass, "PV1-2");
        PatientClass::from(if matches!(context.trigger.as_str(), "A01" | "A06") { "I" } else { "O" })
    }))
}

/// A place that names its unit.
fn place(field: Field<'_>, facility: &Facility) -> Option<BedLocation> {
    somewhere(field, facility).filter(|place| !place.point_of_care.is_empty())
}

/// A place of which anything is known.
fn somewhere(field: Field<'_>, facility: &Facility) -> Option<BedLocation> {
    let pl = Pl::read(field)?;
    let place = BedLocation {
        facility: if pl.facility.is_empty() { facility.clone() } else { Facility::new(pl.facility) },
        point_of_care: PointOfCare::new(code(pl.point_of_care)),
        room: code(pl.room).into(),
        bed: code(pl.bed).into(),
        building: code(pl.building).into(),
    };
    let is_known = !place.point_of_care.is_empty() || !place.room.is_empty() || !place.bed.is_empty();
    is_known.then_some(place)
}
