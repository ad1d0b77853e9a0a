//! The course of a stay: where it stands at an instant, walked from the milestones that were not struck.
//!
//! A discharge may be told by an A03, or only by a PV1-45; the latter counts when it has passed, and ten minutes after it was said, because a
//! straggling A03 or a correction usually follows.

use std::time::Duration;

use crate::care::fact::Act;
use crate::care::fact::Stamp;
use crate::care::visit::Stay;
use crate::time::Timestamp;

/// How long a discharge that only PV1-45 tells of waits for its A03.
const IMPLIED_END_DELAY: Duration = Duration::from_mins(10);

/// Where a stay stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// Nothing says that it began.
    Unknown,
    /// It is expected.
    Expected,
    /// The patient is there.
    Active,
    /// The patient is on leave.
    OnLeave,
    /// It has ended.
    Ended,
    /// It was an error.
    Cancelled,
}

/// What the policy says about reopening.
#[derive(Clone, Copy, Debug)]
pub struct CourseRules {
    /// Whether an admission after the end, under the same number, opens the stay again.
    pub reopen_on_admit: bool,
    /// Whether a stay never seen opened is taken for open when an update tells of it.
    pub adopt_on_update: bool,
}

impl Default for CourseRules {
    fn default() -> Self {
        Self { reopen_on_admit: true, adopt_on_update: true }
    }
}

/// The course up to an instant.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    /// Where the stay stands.
    pub phase: Phase,
    /// The fact that brought it there.
    pub since: Stamp,
    /// The end of the day on which it began, where that is known.
    pub day_ends: Option<Timestamp>,
    /// Whether the patient was ever there.
    pub was_active: bool,
    /// The fact that told of the end, where it has ended.
    pub ended: Option<Stamp>,
    /// From when the end counts: the later of when it was recorded and when it happened.
    pub ended_at: Option<Timestamp>,
    /// When the phase changes by itself: a PV1-45 that has yet to pass.
    pub turns_at: Option<Timestamp>,
}

impl Stay {
    /// Where the stay stands at `at`.
    pub fn course(&self, at: Timestamp, rules: &CourseRules) -> Course {
        let mut course =
            Course { phase: Phase::Unknown, since: Stamp::default(), day_ends: None, was_active: false, ended: None, ended_at: None, turns_at: None };
        for (index, milestone) in self.milestones.iter().enumerate() {
            if milestone.struck {
                continue;
            }
            let next = match (milestone.act, course.phase) {
                (Act::Open | Act::Reclassify, Phase::Ended) => (rules.reopen_on_admit && milestone.reopens).then_some(Phase::Active),
                (Act::Open | Act::Reclassify | Act::CancelEnd | Act::Return | Act::Move | Act::ChangeProviders, Phase::Unknown | Phase::Expected)
                | (Act::Open | Act::Reclassify, Phase::Cancelled)
                | (Act::Return, Phase::OnLeave) => Some(Phase::Active),
                (Act::Update, Phase::Unknown) => rules.adopt_on_update.then_some(Phase::Active),
                (Act::Expect, Phase::Unknown | Phase::Cancelled) => Some(Phase::Expected),
                (Act::End, Phase::Unknown | Phase::Expected | Phase::Active | Phase::OnLeave) => Some(Phase::Ended),
                (Act::Leave, Phase::Unknown | Phase::Active | Phase::Expected) => Some(Phase::OnLeave),
                (Act::CancelExpect, Phase::Unknown | Phase::Expected) => Some(Phase::Cancelled),
                (Act::CancelOpen, _) => self.after_cancelled_opening(index),
                _ => None,
            };
            if let Some(phase) = next {
                course.phase = phase;
                course.since = milestone.stamp;
                course.day_ends = milestone.day_ends.or_else(|| course.day_ends.filter(|_| phase == Phase::OnLeave || course.was_active));
                course.was_active |= matches!(phase, Phase::Active | Phase::OnLeave);
                course.ended = (phase == Phase::Ended).then_some(milestone.stamp);
            }
        }
        self.imply_end(&mut course, at);
        if let Some(end) = course.ended {
            let said = self.discharged_at.standing().copied();
            // A discharge time that has yet to pass moves the end when it does.
            course.turns_at = said.filter(|time| *time > at);
            let said = said.filter(|time| *time <= at);
            course.ended_at = Some(course.ended_at.unwrap_or(end.recorded).max(said.unwrap_or(Timestamp::MIN)).max(end.recorded));
        }
        course
    }

    /// Where a cancelled opening leaves the stay: with an earlier opening that stands, with what was expected, or nowhere.
    fn after_cancelled_opening(&self, index: usize) -> Option<Phase> {
        let before = || self.milestones.iter().take(index).filter(|milestone| !milestone.struck);
        if before().any(|milestone| matches!(milestone.act, Act::Open | Act::Reclassify)) {
            None
        } else if before().any(|milestone| milestone.act == Act::Expect) {
            Some(Phase::Expected)
        } else {
            Some(Phase::Cancelled)
        }
    }

    /// A PV1-45 that was said since the stay (re)opened ends it, once it has passed.
    fn imply_end(&self, course: &mut Course, at: Timestamp) {
        if !matches!(course.phase, Phase::Active | Phase::OnLeave) {
            return;
        }
        let Some(run) = self.discharged_at.last().filter(|run| run.since >= course.since) else { return };
        let Some(said) = run.value.filter(|said| !self.struck_discharges.contains(said)) else { return };
        let ends_at = said.max(run.since.recorded.plus(IMPLIED_END_DELAY));
        if at < ends_at {
            course.turns_at = Some(ends_at);
        } else {
            course.phase = Phase::Ended;
            course.ended = Some(run.since);
            course.ended_at = Some(ends_at);
        }
    }
}
