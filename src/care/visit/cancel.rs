//! Cancels: a strike takes back what one fact said, and whatever up to the cancel merely repeats it.
//!
//! It touches lifecycle, place, class, service, doctors and the discharge time, never confidentiality, identity or name. The place that the cancel
//! itself names is applied afterwards; what a cancel omits is never cleared (HL7 v2.5.1 §3.3.11 to §3.3.13, IHE ITI-31).

use crate::care::fact::Act;
use crate::care::fact::BedLocation;
use crate::care::fact::Fact;
use crate::care::fact::FieldUpdate;
use crate::care::visit::Milestone;
use crate::care::visit::Stay;

impl Stay {
    pub(super) fn cancel(&mut self, fact: &Fact) {
        // The expectation of a patient who has come is fulfilled, and cannot be cancelled any more.
        let expected = self.course(fact.stamp.recorded, &super::CourseRules::default()).phase == super::Phase::Expected;
        if fact.act == Act::CancelExpect && !expected {
            return;
        }
        let struck = self.target_of(fact);
        let struck_place = struck.and_then(|index| self.strike(index, fact));
        if let Some(index) = struck.filter(|_| fact.act == Act::CancelOpen) {
            self.strike_repeated_openings(index, fact);
        }
        if fact.act == Act::CancelEnd && struck.is_none() {
            self.strike_implied_end(fact);
        }
        if fact.act == Act::CancelChangeProviders {
            self.say_providers(fact);
        }
        if matches!(fact.act, Act::CancelMove | Act::CancelEnd)
            && let FieldUpdate::Set(place) = &fact.stay.location
            && struck_place.as_ref() != Some(place)
        {
            self.location.say(&fact.stay.location, fact.stamp, None);
        }
        if fact.act == Act::CancelEnd && self.class.standing().is_none() {
            // Of a stay that nobody saw begin this is the first word of its class, and without one the patient has no room.
            self.class.say(&fact.stay.class, fact.stamp, None);
        }
        self.milestones.push(Milestone {
            act: fact.act,
            stamp: fact.stamp,
            occurred_at: fact.occurred_at,
            movement: Vec::new(),
            prior_location: None,
            said: super::Strikable::default(),
            day_ends: None,
            reopens: false,
            struck: false,
        });
    }

    /// The milestone that a cancel means: by movement id, else by the time of the event cancelled, else the latest that stands.
    fn target_of(&self, fact: &Fact) -> Option<usize> {
        let cancelled = |act: Act| {
            matches!(
                (fact.act, act),
                (Act::CancelOpen, Act::Open | Act::Reclassify)
                    | (Act::CancelMove, Act::Move)
                    | (Act::CancelEnd, Act::End)
                    | (Act::CancelExpect, Act::Expect)
                    | (Act::CancelLeave, Act::Leave)
                    | (Act::CancelReturn, Act::Return)
                    | (Act::CancelChangeProviders, Act::ChangeProviders)
            )
        };
        let standing = || self.milestones.iter().enumerate().rev().filter(|(_, m)| !m.struck && cancelled(m.act) && !m.ends_an_admission());
        let movement = fact.movement.as_ref().map(|movement| movement.ids.as_slice()).unwrap_or_default();
        let by_movement = standing().find(|(_, milestone)| milestone.movement.iter().any(|id| movement.contains(id)));
        let by_time = || {
            let at = fact.occurred_at?;
            standing().find(|(_, milestone)| {
                milestone.occurred_at == Some(at) || milestone.stamp.recorded == at || milestone.said.discharged_at.value() == Some(&at)
            })
        };
        by_movement.or_else(by_time).or_else(|| standing().next()).map(|(index, _)| index)
    }

    /// An admission is often said again (census sweeps, replays): openings of the same class before the struck one, back to an end, go with it.
    fn strike_repeated_openings(&mut self, struck: usize, cancel: &Fact) {
        let Some(class) = self.milestones.get(struck).map(|milestone| milestone.said.class.clone()) else { return };
        for index in (0..struck).rev() {
            let Some(milestone) = self.milestones.get(index).filter(|milestone| !milestone.struck) else { continue };
            let opening = matches!(milestone.act, Act::Open | Act::Reclassify);
            if opening && (milestone.said.class == class || milestone.said.class.is_keep() || class.is_keep()) {
                self.strike(index, cancel);
            } else if opening || milestone.act == Act::End {
                return;
            }
        }
    }

    /// Strikes a milestone; gives back the place it had named.
    fn strike(&mut self, index: usize, cancel: &Fact) -> Option<BedLocation> {
        let milestone = self.milestones.get_mut(index)?;
        milestone.struck = true;
        let (said, from, until) = (milestone.said.clone(), milestone.stamp, cancel.stamp);
        self.class.strike(&said.class, from, until);
        self.location.strike(&said.location, from, until);
        self.service.strike(&said.service, from, until);
        self.attending.strike(&said.attending, from, until);
        self.referring.strike(&said.referring, from, until);
        self.consulting.strike(&said.consulting, from, until);
        self.admitting.strike(&said.admitting, from, until);
        self.others.strike(&said.others, from, until);
        if cancel.act == Act::CancelEnd {
            // An A08 between the discharge and its cancel may have been the first to say when: no discharge time of that span stands.
            let times: Vec<_> = self.discharged_at.until(None).iter().filter(|run| run.since >= from).filter_map(|run| run.value).collect();
            for at in times.into_iter().chain(said.discharged_at.value().copied()) {
                self.discharged_at.strike(&FieldUpdate::Set(at), from, until);
                if !self.struck_discharges.contains(&at) {
                    self.struck_discharges.push(at);
                }
            }
        }
        said.location.value().cloned()
    }

    /// A cancelled discharge that only a PV1-45 had told of.
    fn strike_implied_end(&mut self, cancel: &Fact) {
        let Some(run) = self.discharged_at.last().cloned() else { return };
        if let Some(at) = run.value {
            self.discharged_at.strike(&FieldUpdate::Set(at), run.since, cancel.stamp);
            self.struck_discharges.push(at);
        }
    }
}

impl Milestone {
    /// Whether it turned an inpatient into an outpatient (A07), which a cancelled admission does not mean.
    fn ends_an_admission(&self) -> bool {
        self.act == Act::Reclassify && self.said.class.value().is_some_and(|class| class.as_str() == "O")
    }
}
