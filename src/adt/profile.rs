//! A feed's reading rules: everything in which sites differ when they send the same thing.
//!
//! A profile is data that `config` makes from a `[[feeds]]` table; it reads nothing itself.

use std::collections::BTreeMap;
use std::time::Duration;

use compact_str::CompactString;
use jiff::tz::TimeZone;

use crate::adt::maps;
use crate::care::fact::Confidentiality;
use crate::care::fact::Facet;
use crate::ids::AssigningAuthority;
use crate::ids::Facility;
use crate::ids::FeedName;
use crate::ids::PatientClass;
use crate::ids::Role;
use crate::ids::TriggerEvent;
use crate::time::Timestamp;

/// One feed's reading rules. Keys of all maps are upper case.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The feed.
    pub name: FeedName,
    /// The facility where PV1-3.4, PV1-39, EVN-7 and MSH-4 say nothing.
    pub facility: Facility,
    /// For times without an offset.
    pub time_zone: TimeZone,
    /// Other zones by MSH-4.1, on a feed that several hospitals share.
    pub time_zones: BTreeMap<String, TimeZone>,
    /// For identifiers without an assigning authority; upper case.
    pub authority: AssigningAuthority,
    /// Other names of authorities, to the one that counts.
    pub authority_map: BTreeMap<String, AssigningAuthority>,
    /// CX.5 of the patient key. An untyped patient id counts as of this type.
    pub patient_id_type: String,
    /// Where the visit's key is looked for, in this order.
    pub visit_id: Vec<VisitIdSource>,
    /// MSH-11 accepted; a blank one counts as `P`.
    pub processing_ids: Vec<String>,
    /// Whether messages and events that are not for us are refused (IHE PAM) instead of taken and counted.
    pub strict: bool,
    /// `unsupported`: overrules `strict` for message types and events that are not for us.
    pub unsupported: Option<Unsupported>,
    /// Whose clock counts.
    pub clock: FeedClock,
    /// Which fields say when something was recorded, in this order.
    pub recorded_from: Vec<RecordedFrom>,
    /// Which triggers may move a patient; `None` is all.
    pub location_from: Option<Vec<TriggerEvent>>,
    /// Whether PV1-9 names all consultants or only new ones.
    pub pv1_9: Consultants,
    /// Whether who stands behind a procedure (PR1) is of the visit's team.
    pub procedure_team: bool,
    /// PV1-2 as sent (upper case) to the class.
    pub class_map: BTreeMap<String, PatientClass>,
    /// What the feed calls an event, to what it means by it.
    pub event_map: BTreeMap<TriggerEvent, TriggerEvent>,
    /// ROL-3 or PRT-4, code or text, to the role.
    pub role_map: BTreeMap<String, Role>,
    /// PV1-16, ARV-3 and ARV-4 codes to the level they ask for.
    pub vip_map: BTreeMap<String, Confidentiality>,
    /// The character set, whatever MSH-18 says. Applied when the message is decoded, before it is read here.
    pub charset: Option<String>,
    /// How ROL and PRT are meant.
    pub rol_mode: RolMode,
    /// Fields whose being empty clears, on these triggers.
    pub empty_clears: Vec<EmptyClears>,
    /// Extra team fields: a path such as `ZPV-5`, to the role of the person in it.
    pub z: BTreeMap<String, Role>,
    /// The facets for which the feed's word counts where another feed speaks of the same visit; sorted.
    pub owner: Vec<Facet>,
    /// What was recorded from then on counts for nothing: another feed speaks instead.
    pub source_until: Option<Timestamp>,
    /// How long a message is known again as a duplicate.
    pub dedupe: Duration,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            name: FeedName::from("main"),
            facility: Facility::default(),
            time_zone: TimeZone::UTC,
            time_zones: BTreeMap::new(),
            authority: AssigningAuthority::default(),
            authority_map: BTreeMap::new(),
            patient_id_type: "MR".to_owned(),
            visit_id: vec![VisitIdSource::VisitNumber, VisitIdSource::Account, VisitIdSource::Alternate],
            processing_ids: vec!["P".to_owned()],
            strict: false,
            unsupported: None,
            clock: FeedClock::Event,
            recorded_from: vec![RecordedFrom::Event, RecordedFrom::Message],
            location_from: None,
            pv1_9: Consultants::Replace,
            procedure_team: false,
            class_map: BTreeMap::new(),
            event_map: BTreeMap::new(),
            role_map: BTreeMap::new(),
            vip_map: BTreeMap::new(),
            charset: None,
            rol_mode: RolMode::Auto,
            empty_clears: Vec::new(),
            z: BTreeMap::new(),
            owner: Vec::new(),
            source_until: None,
            dedupe: Duration::from_hours(30 * 24),
        }
    }
}

impl Profile {
    /// Whether what is not for us is refused.
    pub(crate) fn refuses_unsupported(&self) -> bool {
        self.unsupported.map_or(self.strict, |unsupported| unsupported == Unsupported::Reject)
    }

    /// The time zone of a sending facility (MSH-4.1).
    pub(crate) fn zone_of(&self, sending_facility: &str) -> &TimeZone {
        self.time_zones.get(sending_facility.trim()).unwrap_or(&self.time_zone)
    }

    /// Whether an empty field clears on this trigger.
    pub(crate) fn empty_clears(&self, field: &str, trigger: TriggerEvent) -> bool {
        self.empty_clears.iter().any(|rule| rule.field == field && (rule.triggers.is_empty() || rule.triggers.contains(&trigger)))
    }

    /// Whether this trigger may move a patient.
    pub(crate) fn may_move(&self, trigger: TriggerEvent) -> bool {
        self.location_from.as_ref().is_none_or(|triggers| triggers.contains(&trigger))
    }

    /// The authority that counts for what a message says: mapped, or the feed's own where it says nothing.
    pub(crate) fn authority(&self, said: &str) -> AssigningAuthority {
        let mut authority = CompactString::default();
        maps::capitals(said.trim(), &mut authority);
        if authority.is_empty() {
            return self.authority.clone();
        }
        // A universal id may be mapped with its type (`1.2.3&ISO`) or without.
        let bare = authority.split('&').next().unwrap_or_default();
        self.authority_map
            .get(authority.as_str())
            .or_else(|| self.authority_map.get(bare))
            .cloned()
            .unwrap_or_else(|| AssigningAuthority::new(authority))
    }
}

/// A field that can carry the visit's key.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum VisitIdSource {
    /// PV1-19.
    VisitNumber,
    /// PID-18.
    Account,
    /// PV1-50.
    Alternate,
}

impl VisitIdSource {
    /// The field's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VisitNumber => "PV1-19",
            Self::Account => "PID-18",
            Self::Alternate => "PV1-50",
        }
    }

    /// The field of this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::VisitNumber, Self::Account, Self::Alternate].into_iter().find(|source| source.as_str().eq_ignore_ascii_case(name))
    }
}

/// What to do with message types and events that are not for us.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unsupported {
    /// Take and count them.
    Accept,
    /// Refuse them (table 0357: 200, 201).
    Reject,
}

/// Whose clock counts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum FeedClock {
    /// The sender's.
    #[default]
    Event,
    /// Ours: when the message arrived.
    Arrival,
}

/// A field that says when something was recorded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RecordedFrom {
    /// EVN-2.
    Event,
    /// MSH-7.
    Message,
}

/// What PV1-9 names.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Consultants {
    /// All who consult now.
    #[default]
    Replace,
    /// Only those who are new.
    Add,
}

/// How ROL and PRT are meant.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RolMode {
    /// As each message's own action codes suggest.
    #[default]
    Auto,
    /// Whoever is not in the message is out.
    Snapshot,
    /// Each segment says what to do with one person.
    Delta,
}

/// A field whose being empty clears.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EmptyClears {
    /// `PV1-9`.
    pub field: String,
    /// On these triggers; empty is all.
    pub triggers: Vec<TriggerEvent>,
}
