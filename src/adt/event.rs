//! MSH and EVN: what a message is, and when it was sent, recorded and true (HL7 v2.5.1 §2.15.9 and §3.4.1).
//!
//! A time that cannot be trusted is never used to order facts: a date alone, a year before 1990, or more than ten minutes ahead of arrival.

use std::time::Duration;

use crate::adt::Arrival;
use crate::adt::profile::FeedClock;
use crate::adt::profile::Profile;
use crate::adt::profile::RecordedFrom;
use crate::care::fact::Stamp;
use crate::care::notice::Notice;
use crate::care::notice::NoticeCode;
use crate::hl7::message::Message;
use crate::hl7::ts::Dtm;
use crate::hl7::ts::Precision;
use crate::hl7::ts::TimeContext;
use crate::hl7::ts::timestamp;
use crate::time::Timestamp;

/// How far ahead of arrival a recorded time may lie.
const AHEAD: Duration = Duration::from_mins(10);
/// How far after arrival a reading of an ambiguous hour may lie: clocks differ by seconds.
const SKEW: Duration = Duration::from_mins(1);
/// 1990-01-01: no feed is older.
const OLDEST: Timestamp = Timestamp::from_micros(631_152_000_000_000);
/// 2900-01-01: from here on a time says "never".
const FAR: Timestamp = Timestamp::from_micros(29_348_006_400_000_000);

/// Reads the times of one message.
#[derive(Debug)]
pub(crate) struct Times {
    context: TimeContext,
}

impl Times {
    /// For the times of `message`: their own offset, else that of MSH-7, else the feed's zone.
    pub(crate) fn of(message: &Message<'_>, profile: &Profile, arrival: Timestamp) -> Self {
        let header = message.header();
        let zone = profile.zone_of(&header.field(4).text()).clone();
        Self { context: TimeContext::for_message(zone, &header.field(7).text(), Some(arrival.plus(SKEW))) }
    }

    /// A time of whatever precision; `None` for what is no time and for the far past and future that stand for "open".
    pub(crate) fn instant(&self, text: &str) -> Option<Timestamp> {
        self.read(text).map(|dtm| dtm.at)
    }

    /// The end of a span: a date alone ends with its day.
    pub(crate) fn end(&self, text: &str) -> Option<Timestamp> {
        let dtm = self.read(text)?;
        if dtm.precision > Precision::Day {
            return Some(dtm.at);
        }
        let begins = dtm.at.to_jiff().to_zoned(self.context.zone.clone());
        begins.checked_add(jiff::Span::new().days(1)).ok().map(|ends| ends.timestamp().into())
    }

    /// The end of the day of an instant, where the message comes from.
    pub(crate) fn day_ends(&self, at: Timestamp) -> Option<Timestamp> {
        let zoned = at.to_jiff().to_zoned(self.context.zone.clone());
        zoned.end_of_day().ok().and_then(|end| end.checked_add(jiff::Span::new().nanoseconds(1)).ok()).map(|ends| ends.timestamp().into())
    }

    fn read(&self, text: &str) -> Option<Dtm> {
        let dtm = timestamp(text, &self.context).ok()??;
        (OLDEST..FAR).contains(&dtm.at).then_some(dtm)
    }
}

/// When a message was recorded, sent and true.
#[derive(Clone, Debug)]
pub(crate) struct When {
    /// Its place among the others.
    pub(crate) stamp: Stamp,
    /// Whether the recorded time is the sender's word (EVN-2).
    pub(crate) recorded_by_sender: bool,
    /// EVN-6, unless it lies after the recorded time.
    pub(crate) occurred_at: Option<Timestamp>,
    /// What of the stamps is part of the fact's identity.
    pub(crate) salt: String,
}

/// Reads the stamps of a message.
pub(crate) fn when(message: &Message<'_>, times: &Times, profile: &Profile, arrival: Arrival, notices: &mut Vec<Notice>) -> When {
    let header = message.header();
    let event = message.first("EVN");
    let sent_text = header.field(7).text();
    let recorded_text = event.map(|evn| evn.field(2).text()).unwrap_or_default();
    if event.is_none() {
        notices.push(Notice::of(NoticeCode::NoEvn));
    }

    let sent = usable(times, &sent_text, "MSH-7", notices);
    let mut recorded = None;
    if profile.clock == FeedClock::Event {
        for source in &profile.recorded_from {
            recorded = match source {
                RecordedFrom::Event => usable(times, &recorded_text, "EVN-2", notices).map(|dtm| with_seconds(dtm, sent)),
                RecordedFrom::Message => sent.map(|dtm| Recorded { at: dtm.at, source: *source, salt: sent_text.clone().into_owned() }),
            };
            if recorded.is_some() {
                break;
            }
        }
    }
    let latest = arrival.at.plus(AHEAD);
    let ours = || Recorded {
        at: arrival.at,
        source: RecordedFrom::Message,
        // Nothing tells two of them apart but the stamps of the transmission.
        salt: format!("{sent_text}\r{}", header.field(10).raw()),
    };
    let Recorded { at, source, salt } = recorded.unwrap_or_else(ours);
    let clamped = at > latest;
    if clamped {
        notices.push(Notice::at(NoticeCode::ClampedClock, if source == RecordedFrom::Event { "EVN-2" } else { "MSH-7" }));
    }
    let recorded = if clamped { arrival.at } else { at };
    let sent = match sent {
        Some(dtm) if profile.clock == FeedClock::Event => {
            if dtm.at > latest {
                arrival.at
            } else {
                dtm.at
            }
        }
        Some(_) | None => recorded,
    };
    let occurred_at = event.and_then(|evn| times.instant(&evn.field(6).text()));
    When {
        stamp: Stamp { recorded, sent, arrival: arrival.journal },
        recorded_by_sender: source == RecordedFrom::Event && !clamped,
        occurred_at: occurred_at.filter(|occurred| *occurred <= recorded),
        salt,
    }
}

struct Recorded {
    at: Timestamp,
    source: RecordedFrom,
    salt: String,
}

/// A stamp that orders: more than a date.
fn usable(times: &Times, text: &str, field: &'static str, notices: &mut Vec<Notice>) -> Option<Dtm> {
    let found = times.read(text).filter(|dtm| dtm.precision > Precision::Day);
    if found.is_none() && !text.trim().is_empty() {
        notices.push(Notice::at(NoticeCode::UnusableClock, field));
    }
    found
}

/// EVN-2, with the seconds of MSH-7 where it has none of its own and both are of the same minute.
fn with_seconds(event: Dtm, sent: Option<Dtm>) -> Recorded {
    const MINUTE: i64 = 60_000_000;
    let minute = |at: Timestamp| at.as_micros().div_euclid(MINUTE);
    let borrowed =
        sent.filter(|sent| event.precision < Precision::Second && sent.precision >= Precision::Second && minute(sent.at) == minute(event.at));
    let salt = borrowed.map(|sent| sent.at.as_micros().rem_euclid(MINUTE).to_string()).unwrap_or_default();
    Recorded { at: borrowed.map_or(event.at, |sent| sent.at), source: RecordedFrom::Event, salt }
}
