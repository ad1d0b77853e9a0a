//! Reading one message: from its bytes to facts, and to what can already be said of its fate.
//!
//! A plain function, run by the connection that brought the message, so that reading is spread over all connections and only facts meet in the batch.

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use bytes::Bytes;
use compact_str::CompactString;

use crate::adt;
use crate::adt::Arrival;
use crate::adt::Hint;
use crate::adt::Kind;
use crate::adt::Reading;
use crate::adt::profile::Profile;
use crate::care::fact::Fact;
use crate::care::fact::FieldUpdate;
use crate::care::notice::Notice;
use crate::care::notice::NoticeCode;
use crate::directory::messages;
use crate::directory::messages::Says;
use crate::hl7::ack::AckHeader;
use crate::hl7::ack::ErrDetail;
use crate::hl7::ack::ErrLocation;
use crate::hl7::ack::Outcome;
use crate::hl7::ack::Severity;
use crate::hl7::ack::master_file::MasterFile;
use crate::hl7::charset;
use crate::hl7::message::Message;
use crate::ids::Identifier;
use crate::ids::JournalId;
use crate::ids::PatientId;
use crate::ids::VisitId;
use crate::intake::Incoming;
use crate::intake::RawMessage;
use crate::intake::Verdict;
use crate::intake::look_ups::LookUps;
use crate::store::look_up::LookUpHash;
use crate::store::look_up::LookUpKind;
use crate::store::rows::Disposition;
use crate::time::Timestamp;

/// More identifiers and people than any stay has; a message that names more of them waits for somebody.
const MOST_NAMED: usize = 1000;

/// A message that was read, and how it is to be answered once it is kept.
#[derive(Debug)]
pub struct ReadMessage {
    /// What goes into the batch.
    pub incoming: Incoming,
    /// What its answer needs of it.
    pub header: AckHeader,
    /// How it is answered.
    pub outcome: Outcome,
    /// What the answer says is wrong.
    pub error: Option<ErrDetail>,
    /// Whether it is an acknowledgement of ours: never answered, never kept.
    pub is_ack: bool,
    /// The character set it was read in; empty where it could not be read.
    pub charset: &'static str,
    /// What the answer to a master file repeats of it.
    pub master_file: Option<MasterFile>,
    /// What `adt` read; absent where the message could not be read that far.
    pub reading: Option<ReadingSummary>,
}

/// What `explain` shows of a reading besides its facts.
#[derive(Clone, Debug)]
pub struct ReadingSummary {
    /// MSH-12.
    pub version: CompactString,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// When it happened.
    pub occurred_at: Option<Timestamp>,
}

/// Where a message comes from and as what it arrives.
#[derive(Clone, Copy, Debug)]
pub struct Arrived {
    /// Its place in the journal.
    pub journal: JournalId,
    /// When it came.
    pub at: Timestamp,
    /// Whether it comes from quarantine.
    pub is_retry: bool,
}

/// Reads a message. Never fails: what cannot be read is refused, and a fault of ours makes the message wait instead of taking anything else down.
pub(crate) fn read(raw: Bytes, profile: &Profile, arrived: Arrived, look_ups: &LookUps) -> ReadMessage {
    catch_unwind(AssertUnwindSafe(|| read_guarded(&raw, profile, arrived, look_ups))).unwrap_or_else(|_| {
        let header = AckHeader::recover(&raw);
        let mut message = blank(raw, profile, arrived, header, "");
        message.incoming.decided = Some(Verdict::quarantined("internal_fault"));
        message
    })
}

fn blank(raw: Bytes, profile: &Profile, arrived: Arrived, header: AckHeader, charset: &'static str) -> ReadMessage {
    ReadMessage {
        incoming: Incoming {
            journal: arrived.journal,
            feed: profile.name.clone(),
            received_at: arrived.at,
            trigger: None,
            facts: Vec::new(),
            named: Vec::new(),
            directory: None,
            dedupe: None,
            known_for: profile.dedupe,
            decided: None,
            notices: Vec::new(),
            raw: RawMessage(raw),
            traceparent: None,
            is_retry: arrived.is_retry,
        },
        is_ack: header.is_ack(),
        header,
        outcome: Outcome::Accept,
        error: None,
        charset,
        master_file: None,
        reading: None,
    }
}

fn read_guarded(raw: &Bytes, profile: &Profile, arrived: Arrived, look_ups: &LookUps) -> ReadMessage {
    let header = AckHeader::recover(raw);
    let decoded = charset::decode(raw, profile.charset.as_deref());
    let Ok(message) = Message::of(&decoded) else {
        let mut read = blank(raw.clone(), profile, arrived, header, decoded.charset);
        refuse(&mut read, Outcome::Reject, 100, None, "not_hl7");
        read.incoming.notices = decoded.notices;
        return read;
    };
    let arrival = Arrival { at: arrived.at, journal: arrived.journal };
    let reading = adt::read(&message, profile, arrival);
    let kind = reading.kind;
    let of_directory = messages::read(&message, (kind, reading.trigger), profile, arrival);
    let mut notices = decoded.notices.clone();
    notices.extend(message.notices().iter().cloned());
    let charset = decoded.charset;
    let mut read = blank(raw.clone(), profile, arrived, header, charset);
    read.is_ack |= kind == Kind::Ack;
    read.incoming.notices = notices;
    decide(&mut read, reading);
    if let Some(of_directory) = of_directory {
        decide_directory(&mut read, of_directory, profile);
    }
    let recorded = read.reading.as_ref().map(|reading| reading.recorded_at);
    if read.outcome == Outcome::Accept && profile.source_until.zip(recorded).is_some_and(|(until, recorded)| recorded >= until) {
        read.incoming.directory = None;
        read.incoming.decided = Some(Verdict::noop("source_ended"));
    }
    if read.header.control_id().is_none() {
        let location = ErrLocation { segment: "MSH", occurrence: 1, field: 10 };
        refuse(&mut read, Outcome::Error, 101, Some(location), "no_control_id");
        read.master_file.iter_mut().for_each(MasterFile::refuse_all);
    }
    let refused = read.incoming.decided.as_ref().is_some_and(|verdict| verdict.disposition == Disposition::Rejected);
    if !refused {
        read.incoming.dedupe = Some(dedupe(&read.incoming, &message, look_ups));
    }
    read.incoming.named = look_ups.named(read.incoming.facts.iter().map(AsRef::as_ref));
    read
}

fn decide(read: &mut ReadMessage, reading: Reading) {
    read.incoming.trigger = reading.trigger;
    read.incoming.notices.extend(reading.notices);
    let unusable = if reading.facts.iter().any(|fact| n_named(fact) > MOST_NAMED) {
        Some("names_too_many")
    } else if reading.facts.iter().any(|fact| names_unreadably(fact)) {
        Some("unreadable_identifier")
    } else {
        None
    };
    if unusable.is_none() {
        // Without facts a message is told from others by its bytes.
        read.incoming.facts = reading.facts;
    }
    read.reading = Some(ReadingSummary { version: reading.version, recorded_at: reading.recorded_at, occurred_at: reading.occurred_at });
    match reading.disposition_hint {
        Hint::Facts => read.incoming.decided = unusable.map(Verdict::quarantined),
        Hint::NoOp(reason) => read.incoming.decided = Some(Verdict::noop(reason.as_str())),
        Hint::Quarantine(reason) => read.incoming.decided = Some(Verdict::quarantined(reason.as_str())),
        Hint::Reject { code, field } => {
            let (segment, field) = match field.as_str() {
                "MSH-11" => ("MSH", 11),
                "MSH-12" => ("MSH", 12),
                _ => ("MSH", 9),
            };
            let reason = match code {
                200 => "unsupported_type",
                201 => "unsupported_event",
                202 => "processing_id",
                _ => "version",
            };
            refuse(read, Outcome::Reject, code, Some(ErrLocation { segment, occurrence: 1, field }), reason);
        }
    }
}

/// How many identifiers and assignments a fact names: all of them are gone through whenever the visit is planned again.
fn n_named(fact: &Fact) -> usize {
    let listed = [&fact.stay.consulting, &fact.stay.others].into_iter().map(|said| if let FieldUpdate::Set(list) = said { list.len() } else { 0 });
    fact.other_ids.len() + fact.stay.assignments.len() + fact.person.assignments.len() + listed.sum::<usize>()
}

/// Whether an identifier has characters that were not read as they were sent: two patients whose numbers differ in these only would be one.
fn names_unreadably(fact: &Fact) -> bool {
    let is_unreadable = |id: &Identifier| [id.authority.as_str(), id.value.as_str()].iter().any(|text| text.contains(char::REPLACEMENT_CHARACTER));
    let is_unread_patient = |PatientId(id): &PatientId| is_unreadable(id);
    let is_unread_visit = |VisitId(id): &VisitId| is_unreadable(id);
    let visit = fact.visit.as_ref().is_some_and(|named| {
        [Some(&named.id), named.account.as_ref(), named.alternate.as_ref(), named.preadmit.as_ref()].into_iter().flatten().any(is_unread_visit)
    });
    let relation = fact.relation.as_ref().is_some_and(|relation| {
        relation.patients.iter().any(|pair| is_unread_patient(&pair.from) || is_unread_patient(&pair.into))
            || relation.visits.iter().chain(&relation.accounts).any(|pair| is_unread_visit(&pair.from) || is_unread_visit(&pair.into))
    });
    visit || relation || std::iter::once(&fact.patient).chain(&fact.other_ids).any(is_unread_patient)
}

/// What a message about staff or units comes to, unless it was refused already.
fn decide_directory(read: &mut ReadMessage, reading: messages::Reading, profile: &Profile) {
    read.master_file = reading.master_file;
    if read.outcome != Outcome::Accept {
        read.master_file.iter_mut().for_each(MasterFile::refuse_all);
        return;
    }
    // A master file has no EVN.
    read.incoming.notices.retain(|notice| read.master_file.is_none() || notice.code != NoticeCode::NoEvn);
    read.incoming.notices.extend(reading.notices);
    read.incoming.decided = match reading.says {
        Says::Changes(changes) => {
            read.incoming.directory = Some(changes);
            None
        }
        Says::Nothing(reason) => Some(Verdict::noop(reason)),
        Says::Unusable => Some(Verdict::quarantined("no_usable_record")),
        Says::UnknownEvent => {
            read.incoming.notices.push(Notice::at(NoticeCode::UnknownTrigger, "MSH-9.2"));
            if profile.refuses_unsupported() {
                return refuse(read, Outcome::Reject, 201, Some(ErrLocation { segment: "MSH", occurrence: 1, field: 9 }), "unsupported_event");
            }
            Some(Verdict::noop("unknown_event"))
        }
    };
}

/// What makes a message this one: its facts, whose identity leaves out MSH-7 and MSH-10; without any, its bytes. In front stands when it was recorded,
/// as it was written (EVN-2, which belongs to that identity too): messages of one moment are beside each other in the index, and not all over it.
fn dedupe(incoming: &Incoming, message: &Message<'_>, look_ups: &LookUps) -> LookUpHash {
    let mut hash = if incoming.facts.is_empty() {
        look_ups.hash(LookUpKind::Message, &[&incoming.raw])
    } else {
        let parts: Vec<&[u8]> = incoming.facts.iter().map(|fact| fact.hash.0.as_slice()).collect();
        look_ups.hash(LookUpKind::Message, &parts)
    };
    // Messages that do not say it are told apart by all of their hash.
    if let Some(written) = message.first("EVN").and_then(|evn| digits(evn.field(2).raw())) {
        for (to, from) in hash.0.iter_mut().zip(written.to_be_bytes()) {
            *to = from;
        }
    }
    hash
}

/// A time (YYYYMMDDHHMMSS.SSS) as a number that grows with it; `None` where there is none.
fn digits(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let first = |part: &str, n| {
        let digits = part.bytes().take_while(u8::is_ascii_digit).chain(std::iter::repeat(b'0')).take(n);
        digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
    };
    Some(first(whole, 14) * 1000 + first(fraction, 3)).filter(|number| *number > 0)
}

fn refuse(read: &mut ReadMessage, outcome: Outcome, code: u16, location: Option<ErrLocation>, reason: &'static str) {
    read.outcome = outcome;
    read.error = Some(ErrDetail { code, location, severity: Severity::E });
    read.incoming.decided = Some(Verdict::rejected(reason));
    read.incoming.dedupe = None;
}

#[cfg(test)]
mod tests {
    use super::digits;

    #[test]
    fn times_grow_as_numbers_however_much_of_them_is_written() {
        let written =
            ["2026", "20261122", "202611220830", "20261122083001-0500", "20261122083001.1", "20261122083001.25+0000", "20261122083001.2512", "2027"];
        let numbers: Vec<u64> = written.iter().map(|text| digits(text).unwrap()).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        assert_eq!(digits("20261122083001.2"), Some(20_261_122_083_001_200));
        assert_eq!([digits(""), digits("\"\"")], [None, None]);
    }
}
