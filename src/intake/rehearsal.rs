//! A rehearsal: the whole way of a message without a store and without a backend, for `explain` and journeys.
//!
//! It reads, routes, folds and plans with the very code of the daemon, one message after another, under a clock that only messages and the caller move.
//! It keeps everything in memory and nothing anywhere else.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::care::brake::Brake;
use crate::care::change::Cause;
use crate::care::change::CauseKind;
use crate::care::policy::Policy;
use crate::care::room::CareRoom;
use crate::care::room::RoomStatus;
use crate::care::roster::Roster;
use crate::directory::layers;
use crate::directory::said::Said;
use crate::hl7::ack;
use crate::hl7::batch;
use crate::hl7::charset;
use crate::hl7::message::Message;
use crate::hl7::ts::TimeContext;
use crate::hl7::ts::timestamp;
use crate::ids::IdSource;
use crate::ids::JournalId;
use crate::intake::Verdict;
use crate::intake::answer::Answering;
use crate::intake::answer::Feed;
use crate::intake::batch::take_message;
use crate::intake::guard::Guard;
use crate::intake::guard::Word;
use crate::intake::look_ups::LookUps;
use crate::intake::read::Arrived;
use crate::intake::read::ReadMessage;
use crate::intake::read::read;
use crate::intake::room_ids::RoomIds;
use crate::intake::staff::Hearing;
use crate::intake::world::Need;
use crate::intake::world::Rules;
use crate::intake::world::World;
use crate::outbox::envelope::Event;
use crate::store::look_up::LookUpHash;
use crate::store::rows::Disposition;
use crate::time::Timestamp;

/// A rehearsal.
#[derive(Debug)]
pub struct Rehearsal {
    world: World,
    feed: Arc<Feed>,
    policy: Arc<Policy>,
    files: Arc<Roster>,
    said: Said,
    roster: Arc<Roster>,
    ids: IdSource,
    now: Timestamp,
    n_messages: i64,
    known: HashMap<LookUpHash, JournalId>,
    quarantined: Vec<(Arc<ReadMessage>, Bytes)>,
    guard: Guard,
}

/// What became of one message.
#[derive(Debug)]
pub struct Rehearsed {
    /// What was read.
    pub read: Arc<ReadMessage>,
    /// What became of it.
    pub verdict: Verdict,
    /// Its answer; absent where none is due.
    pub ack: Option<Bytes>,
}

impl Rehearsal {
    /// A rehearsal that begins at an instant, with nothing known.
    pub fn new(feed: Feed, policy: Arc<Policy>, roster: Arc<Roster>, now: Timestamp) -> Self {
        Self {
            world: World::new(RoomIds::Counted(0)),
            feed: Arc::new(feed),
            policy,
            files: Arc::clone(&roster),
            said: Said::default(),
            roster,
            ids: IdSource::new(0),
            now,
            n_messages: 0,
            known: HashMap::new(),
            quarantined: Vec::new(),
            guard: Guard::default(),
        }
    }

    /// Who speaks from now on: another feed of the same hospital.
    pub fn hear(&mut self, feed: Feed) {
        self.feed = Arc::new(feed);
    }

    /// The present.
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// Every room that was ever published, as it was published last, oldest first.
    pub fn rooms(&self) -> Vec<&CareRoom> {
        let slots = self.world.visits.values().flat_map(|visit| &visit.document.rooms);
        let mut rooms: Vec<&CareRoom> = slots.filter_map(|slot| slot.published.as_ref()).collect();
        rooms.sort_by_key(|room| room.id);
        rooms
    }

    /// Every room as it is planned, published or not; one that is not published has version 0.
    pub fn planned_rooms(&self) -> Vec<CareRoom> {
        let mut rooms = Vec::new();
        for visit in self.world.visits.values() {
            let mut unpublished = visit.unpublished.iter();
            for slot in &visit.document.rooms {
                let is_expected = |room: &CareRoom| room.state.status == RoomStatus::Cancelled && !visit.unpublished.is_empty();
                match &slot.published {
                    Some(room) if !is_expected(room) => rooms.push(room.clone()),
                    published => {
                        let version = published.as_ref().map_or(0, |room| room.version);
                        let state = unpublished.next().cloned().flatten();
                        rooms.extend(state.map(|state| CareRoom { id: slot.id, epoch: 1, version, state }));
                    }
                }
            }
        }
        rooms.sort_by_key(|room| room.id);
        rooms
    }

    /// The events since they were last taken, oldest first.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.world.changes.drain(..).map(|change| change.event).collect()
    }

    /// When a message was recorded, so that the clock can be moved there before it is sent. Where nothing in it may order facts, a MSH-7 of whatever
    /// precision and age says at least about when it came.
    pub fn recorded_at(&self, message: &Bytes) -> Option<Timestamp> {
        let arrived = Arrived { journal: JournalId(i64::MAX), at: Timestamp::MAX, is_retry: false };
        let read = read(message.clone(), &self.feed.profile, arrived, &LookUps::InMemory);
        let recorded = read.reading.map(|reading| reading.recorded_at).filter(|at| *at < Timestamp::MAX);
        recorded.or_else(|| self.sent_about(message))
    }

    fn sent_about(&self, message: &Bytes) -> Option<Timestamp> {
        let decoded = charset::decode(message, self.feed.profile.charset.as_deref());
        let message = Message::of(&decoded).ok()?;
        let said = message.header().field(7).text();
        let zone = self.feed.profile.zone_of(&message.header().field(4).text()).clone();
        let context = TimeContext::for_message(zone, &said, None);
        timestamp(&said, &context).ok().flatten().map(|dtm| dtm.at)
    }

    /// A message's own time, to which a journey's clock moves before it is sent: when it was made, else when it was recorded.
    pub fn own_time(&self, message: &Bytes) -> Option<Timestamp> {
        let arrived = Arrived { journal: JournalId(i64::MAX), at: Timestamp::MAX, is_retry: false };
        let read = read(message.clone(), &self.feed.profile, arrived, &LookUps::InMemory);
        let made = read.incoming.facts.iter().map(|fact| fact.stamp.sent.max(fact.stamp.recorded)).max();
        made.or_else(|| read.reading.map(|reading| reading.recorded_at)).filter(|at| *at < Timestamp::MAX)
    }

    /// Moves the clock, waking every visit at its own time on the way. Never back.
    pub fn move_to(&mut self, to: Timestamp) {
        while let Some(due) = self.said.next_change(self.now).filter(|at| *at <= to) {
            self.wake_until(due);
            self.renew_roster();
        }
        self.wake_until(to);
    }

    fn wake_until(&mut self, to: Timestamp) {
        while let Some((at, row)) = self.next_wake().filter(|(at, _)| *at <= to) {
            self.now = self.now.max(at);
            let before = self.world.visits.get(&row).and_then(|visit| visit.wake_at);
            self.replan(row, &Cause::of(CauseKind::Wake));
            if let Some(visit) = self.world.visits.get_mut(&row)
                && visit.wake_at == before
            {
                // Nothing moved: it would be woken for ever.
                visit.wake_at = None;
            }
        }
        self.now = self.now.max(to);
    }

    /// Moves the clock by a span.
    pub fn advance(&mut self, span: Duration) {
        self.move_to(self.now.plus(span));
    }

    /// Other files of staff and units; what messages have said of them stays.
    pub fn change_roster(&mut self, files: Arc<Roster>) {
        self.files = files;
        self.renew_roster();
    }

    /// Plans every room again with what files and messages say of staff and units now.
    fn renew_roster(&mut self) {
        self.roster = Arc::new(layers::combine(&self.files, &self.said, self.now));
        let rows: Vec<i64> = self.world.visits.keys().copied().collect();
        for row in rows {
            self.replan(row, &Cause::of(CauseKind::Directory));
        }
    }

    /// Sends one frame: each of its messages is taken in order.
    pub fn send(&mut self, frame: &Bytes) -> Vec<Rehearsed> {
        let batch = batch::split(frame);
        batch.messages.iter().map(|message| self.take(frame.slice_ref(message))).collect()
    }

    fn next_wake(&self) -> Option<(Timestamp, i64)> {
        self.world.visits.iter().filter_map(|(row, visit)| Some((visit.wake_at?, *row))).min()
    }

    fn replan(&mut self, row: i64, cause: &Cause) {
        let brake = self.brake();
        let Self { world, policy, roster, ids, now, .. } = self;
        let rules = Rules { policy, roster, now: *now, ids, look_ups: &LookUps::InMemory, brake: &brake, epoch: 1 };
        // In memory nothing can be lacking.
        if world.replan_all(vec![row], cause, false, true, &rules).is_err()
            && let Some(visit) = world.visits.get_mut(&row)
        {
            visit.wake_at = None;
        }
        self.note_ends();
    }

    /// What is held back now, and by how many open rooms that is judged.
    fn brake(&self) -> Brake {
        let n_open = self.world.visits.values().filter(|visit| visit.is_open && visit.status != "none" && visit.status != "expected").count();
        self.guard.open_rooms(n_open);
        self.guard.brake(self.now)
    }

    /// Has the pulse of the feed listened to: while it is silent, leaves wait.
    #[cfg(test)]
    pub(crate) fn listen(&mut self, pulse: Arc<crate::intake::pulse::Pulse>) {
        self.guard.listen(self.feed.profile.name.clone(), pulse);
    }

    fn note_ends(&mut self) {
        let ends = std::mem::take(&mut self.world.ends);
        self.guard.note(self.now, ends.n_ended, ends.stopped);
    }

    /// Stops leaves and ends when many rooms end at once, as the daemon does.
    pub fn guard(&mut self) {
        self.guard = Guard::new(true);
    }

    /// Says, as an operator, that leaves and ends may go on.
    pub fn go_on(&mut self) {
        self.guard.hear(Word::GoOn);
        let rows: Vec<i64> = self.world.visits.keys().copied().collect();
        for row in rows {
            self.replan(row, &Cause::of(CauseKind::Operator));
        }
    }

    /// How many messages wait in quarantine.
    #[cfg(test)]
    pub(crate) const fn n_waiting(&self) -> usize {
        self.quarantined.len()
    }

    fn take(&mut self, message: Bytes) -> Rehearsed {
        self.n_messages += 1;
        let journal = JournalId(self.ids.next(self.now));
        let arrived = Arrived { journal, at: self.now, is_retry: false };
        let read = Arc::new(read(message.clone(), &self.feed.profile, arrived, &LookUps::InMemory));
        let known = read.incoming.dedupe.and_then(|hash| self.known.get(&hash)).copied();
        let known = known.filter(|known| self.now.since(known.at()) < read.incoming.known_for);
        let verdict = match known {
            Some(known) => Verdict::duplicate(known),
            None => self.judge(&read),
        };
        if let (None, Some(hash)) = (known, read.incoming.dedupe) {
            self.known.insert(hash, journal);
        }
        if verdict.disposition == Disposition::Quarantined {
            self.quarantined.push((Arc::clone(&read), message));
        }
        let code = if read.is_ack { None } else { ack::answers(&read.header, self.feed.ack_mode, read.outcome) };
        let ack = code.map(|code| {
            let (header, outcome, error) = (read.header.clone(), read.outcome, read.error);
            let (warns, id) = (self.feed.warns_quarantined, format!("ACK{}", self.n_messages));
            let mut answering = Answering { header, outcome, error, master_file: read.master_file.clone(), warns, id };
            answering.hear(&verdict);
            answering.build(code, self.now)
        });
        Rehearsed { read, verdict, ack }
    }

    /// Takes a message, and whatever in quarantine it explains.
    fn judge(&mut self, read: &ReadMessage) -> Verdict {
        let mut explained = Vec::new();
        let verdict = self.take_one(read, &mut explained);
        while !explained.is_empty() {
            let waiting = std::mem::take(&mut self.quarantined);
            let mut next = Vec::new();
            for (message, bytes) in waiting {
                let is_explained = message.incoming.named.iter().any(|hash| explained.contains(hash));
                let retried = is_explained.then(|| self.take_one(&message, &mut next));
                if retried.is_none_or(|verdict| verdict.disposition == Disposition::Quarantined) {
                    self.quarantined.push((message, bytes));
                }
            }
            explained = next;
        }
        verdict
    }

    fn take_one(&mut self, read: &ReadMessage, explained: &mut Vec<LookUpHash>) -> Verdict {
        let brake = self.brake();
        let Self { world, policy, files, said, roster, ids, now, .. } = self;
        let rules = Rules { policy, roster, now: *now, ids, look_ups: &LookUps::InMemory, brake: &brake, epoch: 1 };
        let mut hearing = Hearing::new(files, said.clone());
        let verdict = match take_message(world, &mut hearing, &read.incoming, &rules, explained) {
            Ok(verdict) => verdict,
            Err(Need::Facts(_) | Need::Visit(_) | Need::Patient(_) | Need::LookUp(_)) => Verdict::quarantined("internal_fault"),
        };
        let changed = hearing.changed();
        self.note_ends();
        if let Some(changed) = changed {
            self.said = changed;
            self.renew_roster();
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use bytes::Bytes;

    use super::Rehearsal;
    use crate::care::fact::Fact;
    use crate::care::identity::PatientRecord;
    use crate::care::policy::Policy;
    use crate::care::room::RoomStatus;
    use crate::care::roster::Roster;
    use crate::intake::answer::Feed;
    use crate::intake::pulse::Pulse;
    use crate::store::form::Stored;
    use crate::store::form::VisitDocument;
    use crate::store::sealing::Document;
    use crate::time::Timestamp;

    /// Documents as each version wrote them once. They are never written again: a change that cannot read them needs a new version of the form.
    const VERSIONS: [(u8, &str, &str); 2] = [(1, "fixtures/stored/v1", "json"), (2, "fixtures/stored/v2", "msgpack")];

    fn messages() -> Vec<Bytes> {
        let mut files: Vec<_> = std::fs::read_dir("fixtures/journeys/w03-epic-shaped-stay").unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "hl7")).map(|path| std::fs::read(path).unwrap().into()).collect()
    }

    /// The evening behind every message here.
    const EVENING: Timestamp = Timestamp::from_micros(1_795_300_000_000_000);

    fn rehearsal(begins: Timestamp) -> Rehearsal {
        let feed = Feed {
            profile: crate::adt::profile::Profile { facility: "GHH".into(), authority: "GHH".into(), ..Default::default() },
            ack_mode: crate::hl7::ack::AckMode::Auto,
            warns_quarantined: false,
            answers_each: false,
            commit_timeout: std::time::Duration::from_secs(1),
            permits: None,
        };
        Rehearsal::new(feed, Arc::new(Policy::default()), Arc::new(Roster::new([], [], true)), begins)
    }

    fn stay() -> Rehearsal {
        let mut rehearsal = rehearsal(EVENING);
        for message in messages() {
            if let Some(at) = rehearsal.own_time(&message) {
                rehearsal.move_to(at);
            }
            rehearsal.send(&message);
        }
        rehearsal
    }

    /// The members of the one room, at minutes after ten o'clock.
    fn members(rehearsal: &mut Rehearsal, minutes: u64) -> Vec<String> {
        let ten: jiff::Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        rehearsal.move_to(Timestamp::from(ten).plus(std::time::Duration::from_mins(minutes)));
        rehearsal.rooms()[0].state.members.iter().map(|member| member.user.to_string()).collect()
    }

    #[test]
    fn while_a_feed_is_silent_a_leave_waits_for_two_hours_at_the_most() {
        for speaks_again in [false, true] {
            let mut rehearsal = rehearsal(Timestamp::from_micros(0));
            let pulse = Arc::new(Pulse::default());
            rehearsal.listen(Arc::clone(&pulse));
            for file in ["01_a01.hl7", "02_a02.hl7"] {
                let message: Bytes = std::fs::read(format!("fixtures/journeys/s04-transfer-hands-over/{file}")).unwrap().into();
                rehearsal.move_to(rehearsal.own_time(&message).unwrap());
                rehearsal.send(&message);
            }
            // A message each minute until the transfer at ten, and none since: half an hour later that is silence.
            let ten = rehearsal.now();
            for minute in (0..100).rev() {
                pulse.beat(ten.minus(std::time::Duration::from_mins(minute)), None);
            }
            assert_eq!(members(&mut rehearsal, 59), ["D100", "D200"].map(|id| format!("GHH:{id}")));
            assert_eq!(members(&mut rehearsal, 61).len(), 2, "the handover is over, and the leave waits");
            if speaks_again {
                pulse.beat(ten.plus(std::time::Duration::from_mins(80)), None);
                assert_eq!(members(&mut rehearsal, 82), ["GHH:D200"], "what waited happens within a minute");
            } else {
                assert_eq!(members(&mut rehearsal, 148).len(), 2);
                assert_eq!(members(&mut rehearsal, 152), ["GHH:D200"], "two hours are the most");
            }
        }
    }

    fn read<T: Stored>((format, folder, kind): (u8, &str, &str), name: &str) -> T {
        T::read(&Document::new(format, std::fs::read(Path::new(folder).join(name).with_extension(kind)).unwrap())).unwrap()
    }

    #[test]
    fn documents_that_any_version_wrote_are_read() {
        VERSIONS.into_iter().for_each(is_read);
    }

    /// An admission, and every second after it a message that repeats what stands.
    fn said(n: u32) -> Bytes {
        let (trigger, at) = (if n == 0 { "A01" } else { "A08" }, format!("2026112110{:02}{:02}", n / 60, n % 60));
        let message = format!(
            "MSH|^~\\&|EMR|GHH|W|GHH|{at}||ADT^{trigger}|C{n}|P|2.5.1\rEVN|{trigger}|{at}\rPID|1||410003^^^GHH^MR||SMITH^JANE\r\
             PV1|1|I|4N^1^A^GHH||||D1^Garcia||||||||||||V1^^^GHH^VN\r"
        );
        message.into()
    }

    #[test]
    fn what_is_days_away_is_due_in_good_time_and_happens_at_its_instant() {
        let mut rehearsal = rehearsal(EVENING);
        let due: std::collections::BTreeSet<_> = (0..100)
            .map(|n| {
                rehearsal.send(&said(n));
                rehearsal.next_wake().unwrap().0
            })
            .collect();
        let [due] = due.into_iter().collect::<Vec<_>>()[..] else { panic!("every message writes the index") };
        let silence = Policy::default().max_age.of(Some(&"I".into()));
        let ends = rehearsal.recorded_at(&said(99)).unwrap().plus(silence);
        assert!(due <= ends && ends < due.plus(std::time::Duration::from_hours(1)));
        let mut status_at = |at| {
            rehearsal.move_to(at);
            rehearsal.rooms()[0].state.status
        };
        let just_before = ends.minus(std::time::Duration::from_micros(1));
        assert_eq!([status_at(due), status_at(just_before), status_at(ends)], [RoomStatus::Active, RoomStatus::Active, RoomStatus::Closed]);
    }

    #[test]
    fn a_stored_visit_is_short_and_messages_that_repeat_what_stands_add_nothing() {
        let sealer = crate::store::ceiling::BareSealer::new().unwrap();
        let n_bytes = |rehearsal: &Rehearsal| sealer.seal(&[rehearsal.world.visits.values().next().unwrap().document.document()]).unwrap();
        let of_a_stay = n_bytes(&stay());
        assert!(of_a_stay < 2048, "{of_a_stay}");
        let mut rehearsal = rehearsal(EVENING);
        let mut sizes = Vec::new();
        for n in 0..200 {
            rehearsal.send(&said(n));
            sizes.push(n_bytes(&rehearsal));
        }
        assert_eq!(rehearsal.world.visits.values().next().unwrap().document.state.n_facts(), 200);
        assert!(sizes[199] < sizes[9] + 64, "{} after 200 messages, {} after 10", sizes[199], sizes[9]);
    }

    fn is_read(version: (u8, &str, &str)) {
        let rehearsal = stay();
        let patient = rehearsal.world.patients.values().next().unwrap();
        let visit = rehearsal.world.visits.values().next().unwrap();
        let record: PatientRecord = read(version, "patient");
        let document: VisitDocument = read(version, "visit");
        let fact: Fact = read(version, "fact");
        assert_eq!(record.ids().collect::<Vec<_>>(), patient.record.ids().collect::<Vec<_>>());
        assert_eq!(document.state.id(), visit.document.state.id());
        assert_eq!(document.state.stays().len(), visit.document.state.stays().len());
        assert_eq!(
            document.rooms.last().unwrap().published.as_ref().unwrap().version,
            visit.document.rooms.last().unwrap().published.as_ref().unwrap().version
        );
        assert_eq!(fact.patient, visit.facts.as_ref().unwrap().first().unwrap().patient);
    }
}
