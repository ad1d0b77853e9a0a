//! The ledger: every message that was accepted is in exactly one terminal state, and every event was confirmed, waits, or is set aside.
//!
//! The states are recounted from what each left behind: facts or a patient, a reason, the message that it repeats, a row in quarantine. The column of the
//! journal that says how a message ended is only compared with that. A plain function over [`Recount`]; it reads nothing and repairs nothing.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::ids::TriggerEvent;
use crate::store::ledger::MessagesLeft;
use crate::store::ledger::Recount;
use crate::store::rows::Disposition;

/// Events that are about persons and numbers, and may leave no fact of a stay (HL7 table 0003).
const OF_PERSONS: &str = "A18 A20 A23 A24 A28 A29 A30 A31 A34 A35 A36 A37 A39 A40 A41 A42 A43 A44 A45 A46 A47 A48 A49 A50 A51 A60";

/// The ledger of a store.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Ledger {
    /// Whether nothing is missing and nothing is there twice.
    pub balanced: bool,
    /// One for each feed, by name.
    pub feeds: Vec<FeedLedger>,
    /// All feeds together.
    pub total: FeedLedger,
    /// What became of the events.
    pub events: EventLedger,
    /// What does not balance, in words.
    pub faults: Vec<Fault>,
}

/// The messages of a feed.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct FeedLedger {
    /// The feed; empty for all together.
    pub feed: String,
    /// Counted when they were kept.
    pub accepted: i64,
    /// Facts were recorded.
    pub applied: i64,
    /// There was nothing to record.
    pub noop: i64,
    /// They were there already.
    pub duplicate: i64,
    /// They wait for somebody.
    pub quarantined: i64,
    /// They were refused.
    pub rejected: i64,
    /// They were deleted because their time was over, however they had ended.
    pub purged: i64,
    /// They left nothing by which their state could be told.
    pub unaccounted: i64,
}

/// The events of all rooms.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct EventLedger {
    /// Ever put into the outbox.
    pub made: i64,
    /// Confirmed by the broker, or on disk.
    pub confirmed: i64,
    /// Waiting.
    pub pending: i64,
    /// Set aside.
    pub parked: i64,
    /// Rooms whose version is not that of their events.
    pub rooms_off: i64,
}

/// Something that does not balance.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Fault {
    /// The feed; null where it is about no feed.
    pub feed: Option<String>,
    /// The state, or what else is off.
    pub state: &'static str,
    /// What is wrong.
    pub what: String,
}

impl FeedLedger {
    /// The sum of the terminal states.
    pub const fn in_a_state(&self) -> i64 {
        self.applied + self.noop + self.duplicate + self.quarantined + self.rejected + self.purged
    }

    const fn of(&mut self, state: Option<Disposition>) -> &mut i64 {
        match state {
            Some(Disposition::Applied) => &mut self.applied,
            Some(Disposition::Noop) => &mut self.noop,
            Some(Disposition::Duplicate) => &mut self.duplicate,
            Some(Disposition::Quarantined) => &mut self.quarantined,
            Some(Disposition::Rejected) => &mut self.rejected,
            None => &mut self.unaccounted,
        }
    }
}

/// Draws up the ledger. `meant` says which event a feed means by the one it sends.
pub fn draw_up(recount: &Recount, meant: impl Fn(&str, TriggerEvent) -> TriggerEvent) -> Ledger {
    let mut feeds: BTreeMap<&str, FeedLedger> = BTreeMap::new();
    let mut faults = Vec::new();
    for (feed, accepted) in &recount.accepted {
        feeds.entry(feed).or_default().accepted = *accepted;
    }
    for (feed, purged) in &recount.purged {
        feeds.entry(feed).or_default().purged = *purged;
    }
    for left in &recount.messages {
        let of_feed = feeds.entry(left.feed.as_str()).or_default();
        let state = state(left, &meant);
        *of_feed.of(state) += left.count;
        if state != Some(left.disposition) {
            faults.push(disagreement(left, state));
        }
    }
    for (feed, ledger) in &mut feeds {
        (*feed).clone_into(&mut ledger.feed);
        let n_there = ledger.in_a_state() + ledger.unaccounted;
        if n_there != ledger.accepted {
            let what = format!("messages accepted: {}, in the journal or purged: {n_there}", ledger.accepted);
            faults.push(Fault { feed: Some(ledger.feed.clone()), state: "accepted", what });
        }
    }
    faults.extend(strays(recount));
    let events = EventLedger {
        made: recount.events,
        confirmed: recount.confirmed,
        pending: recount.pending,
        parked: recount.parked,
        rooms_off: recount.rooms_off,
    };
    faults.extend(event_faults(&events));
    let mut total = FeedLedger::default();
    for ledger in feeds.values() {
        total.accepted += ledger.accepted;
        total.applied += ledger.applied;
        total.noop += ledger.noop;
        total.duplicate += ledger.duplicate;
        total.quarantined += ledger.quarantined;
        total.rejected += ledger.rejected;
        total.purged += ledger.purged;
        total.unaccounted += ledger.unaccounted;
    }
    Ledger { balanced: faults.is_empty(), feeds: feeds.into_values().collect(), total, events, faults }
}

/// The one state that what was left behind speaks for; none when it speaks for none or for two.
fn state(left: &MessagesLeft, meant: &impl Fn(&str, TriggerEvent) -> TriggerEvent) -> Option<Disposition> {
    let may_have_facts = left.has_facts != Some(true);
    match (left.waits, left.repeats) {
        (true, None) => may_have_facts.then_some(Disposition::Quarantined),
        (false, Some(is_there)) => (is_there && may_have_facts).then_some(Disposition::Duplicate),
        (true, Some(_)) => None,
        (false, None) if left.has_facts == Some(true) => Some(Disposition::Applied),
        (false, None) if left.was_discarded => Some(Disposition::Rejected),
        (false, None) if left.has_reason => Some(if left.is_known_again { Disposition::Noop } else { Disposition::Rejected }),
        (false, None) => {
            let event = left.trigger.as_deref().and_then(TriggerEvent::parse).map(|event| meant(left.feed.as_str(), event));
            // Messages about staff and units have no patient.
            let leaves_facts =
                event.is_some_and(|event| event.as_str().starts_with('A') && !OF_PERSONS.split(' ').any(|other| other == event.as_str()));
            let of_staff = event.is_none_or(|event| !event.as_str().starts_with('A'));
            let is_told = left.has_facts.is_none() || (!leaves_facts && (left.has_patient || of_staff));
            is_told.then_some(Disposition::Applied)
        }
    }
}

fn disagreement(left: &MessagesLeft, state: Option<Disposition>) -> Fault {
    let said = left.disposition.as_str();
    let what = match state {
        Some(state) => format!("{} said to be {said} left what {} messages leave", left.count, state.as_str()),
        None => format!("{} said to be {said} left nothing that shows it, or what two states leave", left.count),
    };
    Fault { feed: Some(left.feed.as_str().to_owned()), state: said, what }
}

fn strays(recount: &Recount) -> impl Iterator<Item = Fault> {
    let stray = |state, n: i64, what: &str| (n > 0).then(|| Fault { feed: None, state, what: format!("{what}: {n}") });
    let waiting = stray("quarantined", recount.stray_waiting, "rows in quarantine without a message in the journal");
    let facts = stray("applied", recount.stray_facts, "messages that left facts and are not in the journal");
    let events = stray("pending", recount.stray_events, "events that wait and that no room has made");
    waiting.into_iter().chain(facts).chain(events)
}

fn event_faults(events: &EventLedger) -> impl Iterator<Item = Fault> {
    let EventLedger { made, confirmed, pending, parked, rooms_off } = events;
    let sum = confirmed + pending + parked;
    let sum = (sum != *made).then(|| Fault {
        feed: None,
        state: "events",
        what: format!("events made: {made}; {confirmed} confirmed, {pending} pending and {parked} parked are {sum}"),
    });
    let rooms = (*rooms_off > 0).then(|| Fault {
        feed: None,
        state: "rooms",
        what: format!("rooms with a version that their events do not lead to: {rooms_off}"),
    });
    sum.into_iter().chain(rooms)
}

#[cfg(test)]
mod tests {
    use super::draw_up;
    use crate::ids::FeedName;
    use crate::store::ledger::MessagesLeft;
    use crate::store::ledger::Recount;
    use crate::store::rows::Disposition;

    fn left(disposition: Disposition, trigger: &str) -> MessagesLeft {
        MessagesLeft {
            feed: FeedName::from("main"),
            disposition,
            trigger: Some(trigger.to_owned()),
            has_reason: false,
            was_discarded: false,
            is_known_again: true,
            waits: false,
            repeats: None,
            has_patient: true,
            has_facts: Some(false),
            count: 1,
        }
    }

    fn whole() -> Recount {
        let messages = vec![
            MessagesLeft { has_facts: Some(true), ..left(Disposition::Applied, "A01") },
            left(Disposition::Applied, "A40"),
            MessagesLeft { has_patient: false, ..left(Disposition::Applied, "M02") },
            MessagesLeft { has_reason: true, ..left(Disposition::Noop, "A20") },
            MessagesLeft { repeats: Some(true), is_known_again: false, ..left(Disposition::Duplicate, "A01") },
            MessagesLeft { waits: true, has_reason: false, ..left(Disposition::Quarantined, "A02") },
            MessagesLeft { has_reason: true, is_known_again: false, ..left(Disposition::Rejected, "A01") },
            MessagesLeft { has_reason: true, was_discarded: true, ..left(Disposition::Rejected, "A02") },
        ];
        Recount { accepted: [("main".to_owned(), 8)].into(), messages, events: 3, confirmed: 1, pending: 1, parked: 1, ..Recount::default() }
    }

    #[test]
    fn what_every_state_leaves_behind_balances() {
        let ledger = draw_up(&whole(), |_, event| event);
        assert!(ledger.balanced, "{:?}", ledger.faults);
        let main = &ledger.feeds[0];
        assert_eq!((main.accepted, main.applied, main.noop, main.duplicate, main.quarantined, main.rejected), (8, 3, 1, 1, 1, 2));
        assert_eq!(ledger.total.in_a_state(), ledger.total.accepted);
    }

    #[track_caller]
    fn check(tamper: impl FnOnce(&mut Recount), feed: Option<&str>, state: &str) {
        let mut recount = whole();
        tamper(&mut recount);
        let ledger = draw_up(&recount, |_, event| event);
        assert!(!ledger.balanced);
        assert!(ledger.faults.iter().any(|fault| fault.feed.as_deref() == feed && fault.state == state), "{:?}", ledger.faults);
    }

    #[test]
    fn whatever_is_missing_or_there_twice_is_named() {
        let main = Some("main");
        check(|it| drop(it.messages.pop()), main, "accepted");
        check(|it| it.purged = [("main".to_owned(), 1)].into(), main, "accepted");
        check(|it| it.messages[0].has_facts = Some(false), main, "applied");
        check(|it| it.messages[1].has_patient = false, main, "applied");
        check(|it| it.messages[0].disposition = Disposition::Noop, main, "noop");
        check(|it| it.messages[4].repeats = Some(false), main, "duplicate");
        check(|it| it.messages[5].waits = false, main, "quarantined");
        check(|it| it.messages[5].has_facts = Some(true), main, "quarantined");
        check(|it| it.messages[3].has_reason = false, main, "noop");
        check(|it| it.stray_waiting = 1, None, "quarantined");
        check(|it| it.stray_facts = 1, None, "applied");
        check(|it| it.pending = 0, None, "events");
        check(|it| it.rooms_off = 2, None, "rooms");
    }

    #[test]
    fn what_was_purged_is_accounted_for() {
        let mut recount = whole();
        recount.messages.truncate(6);
        recount.purged = [("main".to_owned(), 2)].into();
        let ledger = draw_up(&recount, |_, event| event);
        assert!(ledger.balanced, "{:?}", ledger.faults);
        assert_eq!((ledger.total.accepted, ledger.total.rejected, ledger.total.purged), (8, 0, 2));
    }

    #[test]
    fn what_a_feed_means_by_an_event_counts() {
        let recount = Recount { accepted: [("main".to_owned(), 1)].into(), messages: vec![left(Disposition::Applied, "A08")], ..Recount::default() };
        let as_person = crate::ids::TriggerEvent::parse("A31").unwrap();
        assert!(!draw_up(&recount, |_, event| event).balanced);
        assert!(draw_up(&recount, |_, _| as_person).balanced);
    }
}
