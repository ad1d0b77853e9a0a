//! The trigger table: what each ADT event means for a stay, and which fields of the message count for it (HL7 table 0003; HL7 v2.5.1 §3.3).
//!
//! It holds no code for a single event: an event is a row. What a feed calls differently is a matter of its `event_map`, applied before the look-up.

use crate::adt::NoOpReason;
use crate::care::fact::Act;
use crate::care::fact::RelationKind;
use crate::ids::TriggerEvent;

/// Which facets of the stay a message of an event may speak of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Facets(u16);

impl Facets {
    /// Nothing of the stay.
    pub(crate) const NONE: Self = Self(0);
    /// PV1-2.
    pub(crate) const CLASS: Self = Self(1);
    /// PV1-3 and PV1-6.
    pub(crate) const LOCATION: Self = Self(1 << 1);
    /// PV1-11.
    pub(crate) const WHEREABOUTS: Self = Self(1 << 2);
    /// PV1-7.
    pub(crate) const ATTENDING: Self = Self(1 << 3);
    /// PV1-8.
    pub(crate) const REFERRING: Self = Self(1 << 4);
    /// PV1-9.
    pub(crate) const CONSULTING: Self = Self(1 << 5);
    /// PV1-17.
    pub(crate) const ADMITTING: Self = Self(1 << 6);
    /// ROL and PRT at the visit's level.
    pub(crate) const ASSIGNMENTS: Self = Self(1 << 7);
    /// PV1-10.
    pub(crate) const SERVICE: Self = Self(1 << 8);
    /// PV1-44, PV1-45 and PV2-8.
    pub(crate) const TIMES: Self = Self(1 << 9);

    const TEAM: Self = Self(Self::ATTENDING.0 | Self::REFERRING.0 | Self::CONSULTING.0 | Self::ADMITTING.0 | Self::ASSIGNMENTS.0);
    /// Everything that a snapshot of the visit says.
    pub(crate) const ALL: Self = Self(Self::CLASS.0 | Self::LOCATION.0 | Self::WHEREABOUTS.0 | Self::TEAM.0 | Self::SERVICE.0 | Self::TIMES.0);
    /// All but the census place: tracking does not move anybody.
    const TRACKING: Self = Self(Self::ALL.0 & !Self::LOCATION.0);
    /// A new attending: the other doctors of the message do not count.
    const NEW_ATTENDING: Self = Self(Self::ALL.0 & !Self::TEAM.0 | Self::ATTENDING.0 | Self::ASSIGNMENTS.0);
    /// New consultants: the other doctors of the message do not count.
    const NEW_CONSULTANTS: Self = Self(Self::ALL.0 & !Self::TEAM.0 | Self::CONSULTING.0 | Self::ASSIGNMENTS.0);
    /// A patient who is back: of a stay that nobody saw begin, the class is needed for a room.
    const BACK: Self = Self(Self::LOCATION.0 | Self::CLASS.0);
    const ATTENDING_ONLY: Self = Self(Self::ATTENDING.0 | Self::ASSIGNMENTS.0);
    const CONSULTANTS_ONLY: Self = Self(Self::CONSULTING.0 | Self::ASSIGNMENTS.0);

    /// Whether all of `facets` are among these.
    pub(crate) const fn has(self, facets: Self) -> bool {
        self.0 & facets.0 == facets.0
    }
}

/// How the segments of a message belong together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Shape {
    /// One patient, one visit.
    One,
    /// Two patients, each with a PID of their own (A17, A24, A37): a fact each.
    TwoPatients,
    /// `{PID [PD1] MRG [PV1]}` any number of times, or `{MRG PV1}` under one PID: a fact for each MRG.
    Merges,
}

/// What an event does to identifiers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Relates {
    /// Nothing.
    No,
    /// What the kind says.
    Kind(RelationKind),
    /// The level is that of the identifiers which differ (A18).
    ByDifference,
    /// Only if an old account or visit number is given (A06, A07): no merge, a new number.
    IfRenumbered,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    /// What happened.
    pub(crate) act: Act,
    /// What counts.
    pub(crate) facets: Facets,
    /// How the segments belong together.
    pub(crate) shape: Shape,
    /// What it does to identifiers.
    pub(crate) relates: Relates,
    /// Whether it takes an earlier event back. Cancels are weak evidence: what they do not say, they never clear, and they never lower a level.
    pub(crate) is_cancel: bool,
}

/// What the table knows of an event.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Meaning {
    /// It becomes facts.
    Facts(Rule),
    /// It says nothing about rooms.
    Nothing(NoOpReason),
    /// It is no event for us.
    Unknown,
}

const fn stay(act: Act, facets: Facets) -> Meaning {
    Meaning::Facts(Rule { act, facets, shape: Shape::One, relates: Relates::No, is_cancel: false })
}

const fn cancel(act: Act, facets: Facets) -> Meaning {
    Meaning::Facts(Rule { act, facets, shape: Shape::One, relates: Relates::No, is_cancel: true })
}

const fn reclassify() -> Meaning {
    Meaning::Facts(Rule { act: Act::Reclassify, facets: Facets::ALL, shape: Shape::One, relates: Relates::IfRenumbered, is_cancel: false })
}

const fn swap() -> Meaning {
    Meaning::Facts(Rule { act: Act::Move, facets: Facets::ALL, shape: Shape::TwoPatients, relates: Relates::No, is_cancel: false })
}

const fn link(kind: RelationKind) -> Meaning {
    Meaning::Facts(Rule { act: Act::Relate, facets: Facets::NONE, shape: Shape::TwoPatients, relates: Relates::Kind(kind), is_cancel: false })
}

const fn relate(relates: Relates) -> Meaning {
    Meaning::Facts(Rule { act: Act::Relate, facets: Facets::NONE, shape: Shape::Merges, relates, is_cancel: false })
}

const fn relation(kind: RelationKind) -> Meaning {
    relate(Relates::Kind(kind))
}

/// The table. A56 to A59 were never assigned, A19 is a query: they are not in it.
const TABLE: [(&str, Meaning); 58] = [
    ("A01", stay(Act::Open, Facets::ALL)),
    ("A02", stay(Act::Move, Facets::ALL)),
    ("A03", stay(Act::End, Facets::ALL)),
    ("A04", stay(Act::Open, Facets::ALL)),
    ("A05", stay(Act::Expect, Facets::ALL)),
    ("A06", reclassify()),
    ("A07", reclassify()),
    ("A08", stay(Act::Update, Facets::ALL)),
    ("A09", stay(Act::Track, Facets::TRACKING)),
    ("A10", stay(Act::Track, Facets::TRACKING)),
    ("A11", cancel(Act::CancelOpen, Facets::LOCATION)),
    ("A12", cancel(Act::CancelMove, Facets::LOCATION)),
    ("A13", cancel(Act::CancelEnd, Facets::BACK)),
    ("A14", stay(Act::Expect, Facets::ALL)),
    ("A15", stay(Act::PlanMove, Facets::ALL)),
    ("A16", stay(Act::PlanEnd, Facets::ALL)),
    ("A17", swap()),
    ("A18", relate(Relates::ByDifference)),
    ("A20", Meaning::Nothing(NoOpReason::BedStatus)),
    ("A21", stay(Act::Leave, Facets::ALL)),
    ("A22", stay(Act::Return, Facets::ALL)),
    ("A23", stay(Act::DeleteVisit, Facets::NONE)),
    ("A24", link(RelationKind::Link)),
    ("A25", cancel(Act::CancelPlanEnd, Facets::NONE)),
    ("A26", cancel(Act::CancelPlanMove, Facets::NONE)),
    ("A27", cancel(Act::CancelExpect, Facets::NONE)),
    ("A28", stay(Act::Person, Facets::NONE)),
    ("A29", stay(Act::DeletePerson, Facets::NONE)),
    ("A30", relation(RelationKind::Patient)),
    ("A31", stay(Act::Person, Facets::NONE)),
    ("A32", cancel(Act::CancelTrack, Facets::WHEREABOUTS)),
    ("A33", cancel(Act::CancelTrack, Facets::WHEREABOUTS)),
    ("A34", relation(RelationKind::Patient)),
    ("A35", relation(RelationKind::Account)),
    ("A36", relation(RelationKind::Patient)),
    ("A37", link(RelationKind::Unlink)),
    ("A38", cancel(Act::CancelExpect, Facets::NONE)),
    ("A39", relation(RelationKind::Patient)),
    ("A40", relation(RelationKind::Patient)),
    ("A41", relation(RelationKind::Account)),
    ("A42", relation(RelationKind::Visit)),
    ("A43", relation(RelationKind::PatientMove)),
    ("A44", relation(RelationKind::AccountMove)),
    ("A45", relation(RelationKind::VisitMove)),
    ("A46", relation(RelationKind::PatientIdChange)),
    ("A47", relation(RelationKind::PatientIdChange)),
    ("A48", relation(RelationKind::PatientIdChange)),
    ("A49", relation(RelationKind::AccountChange)),
    ("A50", relation(RelationKind::VisitChange)),
    ("A51", relation(RelationKind::VisitChange)),
    ("A52", cancel(Act::CancelLeave, Facets::NONE)),
    ("A53", cancel(Act::CancelReturn, Facets::NONE)),
    ("A54", stay(Act::ChangeProviders, Facets::NEW_ATTENDING)),
    ("A55", cancel(Act::CancelChangeProviders, Facets::ATTENDING_ONLY)),
    ("A60", Meaning::Nothing(NoOpReason::Allergy)),
    ("A61", stay(Act::ChangeProviders, Facets::NEW_CONSULTANTS)),
    ("A62", cancel(Act::CancelChangeProviders, Facets::CONSULTANTS_ONLY)),
    // IHE PAM: an update of a movement, which ZBE identifies.
    ("Z99", stay(Act::Update, Facets::ALL)),
];

/// What an event means.
pub(crate) fn meaning(trigger: TriggerEvent) -> Meaning {
    TABLE.iter().find(|(event, _)| *event == trigger.as_str()).map_or(Meaning::Unknown, |(_, meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use super::Facets;
    use super::Meaning;
    use super::TABLE;
    use super::meaning;
    use crate::care::fact::Act;
    use crate::ids::TriggerEvent;

    fn rule(event: &str) -> super::Rule {
        match meaning(TriggerEvent::parse(event).unwrap()) {
            Meaning::Facts(rule) => rule,
            Meaning::Nothing(_) | Meaning::Unknown => panic!("{event}"),
        }
    }

    #[test]
    fn every_event_of_the_standard_has_a_row() {
        let never_assigned = ["A19", "A56", "A57", "A58", "A59"];
        for number in 1..=62 {
            let event = format!("A{number:02}");
            let known = !matches!(meaning(TriggerEvent::parse(&event).unwrap()), Meaning::Unknown);
            assert_eq!(known, !never_assigned.contains(&event.as_str()), "{event}");
        }
        assert!(TABLE.iter().any(|(event, _)| *event == "Z99"));
    }

    #[test]
    fn the_table_is_sorted_and_names_no_event_twice() {
        assert!(TABLE.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn the_catalogue_has_the_words_of_every_event_and_no_other() {
        let words: Vec<&str> = crate::adt::catalog::EVENTS.iter().map(|event| event.code).collect();
        assert_eq!(words, TABLE.map(|(event, _)| event));
    }

    #[test]
    fn tracking_never_speaks_of_the_census_place() {
        for event in ["A09", "A10", "A32", "A33"] {
            assert!(!rule(event).facets.has(Facets::LOCATION), "{event}");
            assert!(rule(event).facets.has(Facets::WHEREABOUTS), "{event}");
        }
    }

    #[test]
    fn cancels_apply_only_what_their_event_names() {
        for event in ["A11", "A12"] {
            assert!(rule(event).is_cancel && rule(event).facets == Facets::LOCATION, "{event}");
        }
        assert!(rule("A13").is_cancel && rule("A13").facets == Facets::BACK);
        for event in ["A25", "A26", "A27", "A38", "A52", "A53"] {
            assert!(rule(event).is_cancel && rule(event).facets == Facets::NONE, "{event}");
        }
    }

    #[test]
    fn a_change_of_doctors_speaks_only_of_the_doctors_it_is_about() {
        assert!(rule("A54").facets.has(Facets::ATTENDING) && !rule("A54").facets.has(Facets::CONSULTING));
        assert!(rule("A61").facets.has(Facets::CONSULTING) && !rule("A61").facets.has(Facets::ATTENDING));
        assert!(!rule("A55").facets.has(Facets::LOCATION));
        assert_eq!(rule("A62").act, Act::CancelChangeProviders);
    }
}
