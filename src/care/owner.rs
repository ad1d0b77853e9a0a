//! Whose word counts where two feeds speak of one visit.
//!
//! A feed may own facets: once it has spoken of a visit, what others say of these is history. Which facts count is worked out from all of them, so that
//! it does not matter who spoke first. Numbers and merges are heard from everybody.

use std::borrow::Cow;

use crate::care::fact::Act;
use crate::care::fact::AssignmentsSaid;
use crate::care::fact::Facet;
use crate::care::fact::Fact;
use crate::care::fact::FieldUpdate;
use crate::care::fact::SignalsSaid;
use crate::phi::Phi;

/// Whether a fact's word on a facet counts, where the owners of these facets have spoken.
pub(super) fn counts(fact: &Fact, facet: Facet, owned: &[Facet]) -> bool {
    !owned.contains(&facet) || fact.owns.contains(&facet)
}

/// What of a fact counts, where the owners of these facets have spoken.
pub(super) fn heard<'f>(fact: &'f Fact, owned: &[Facet]) -> Cow<'f, Fact> {
    let others = || owned.iter().copied().filter(|facet| !fact.owns.contains(facet));
    if others().next().is_none() {
        return Cow::Borrowed(fact);
    }
    let mut heard = fact.clone();
    others().for_each(|facet| mute(&mut heard, facet));
    Cow::Owned(heard)
}

fn mute(fact: &mut Fact, facet: Facet) {
    let stay = &mut fact.stay;
    if acts_on(fact.act) == Some(facet) {
        fact.act = Act::Update;
    }
    match facet {
        Facet::Lifecycle => {
            stay.admitted_at = FieldUpdate::Keep;
            stay.discharged_at = FieldUpdate::Keep;
            stay.expected_at = None;
            stay.day_ends = None;
        }
        Facet::Location => {
            stay.location = FieldUpdate::Keep;
            stay.prior_location = None;
            stay.whereabouts = FieldUpdate::Keep;
        }
        Facet::Class => stay.class = FieldUpdate::Keep,
        Facet::Service => stay.service = FieldUpdate::Keep,
        Facet::Team => {
            stay.attending = FieldUpdate::Keep;
            stay.referring = FieldUpdate::Keep;
            stay.consulting = FieldUpdate::Keep;
            stay.admitting = FieldUpdate::Keep;
            stay.others = FieldUpdate::Keep;
            stay.assignments = AssignmentsSaid::Keep;
        }
        Facet::Confidentiality => {
            stay.signals = SignalsSaid::default();
            stay.instructions = Phi::default();
        }
        // What is said of the person is kept with the person.
        Facet::Identity => {}
    }
}

/// The facet that an act is about; an act that is not heard leaves the message an update.
const fn acts_on(act: Act) -> Option<Facet> {
    match act {
        Act::Open
        | Act::Reclassify
        | Act::Expect
        | Act::End
        | Act::CancelOpen
        | Act::CancelEnd
        | Act::CancelExpect
        | Act::Leave
        | Act::Return
        | Act::CancelLeave
        | Act::CancelReturn
        | Act::PlanEnd
        | Act::CancelPlanEnd => Some(Facet::Lifecycle),
        Act::Move | Act::CancelMove | Act::Track | Act::CancelTrack | Act::PlanMove | Act::CancelPlanMove => Some(Facet::Location),
        Act::ChangeProviders | Act::CancelChangeProviders => Some(Facet::Team),
        Act::Update | Act::Person | Act::Relate | Act::DeleteVisit | Act::DeletePerson => None,
    }
}
