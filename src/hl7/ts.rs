//! TS and DTM: times and dates (HL7 v2.5.1 §2.A.77, §2.A.22): `YYYY[MM[DD[HH[MM[SS[.S[S[S[S]]]]]]]]][+/-ZZZZ]`.
//!
//! hl7-parser reads the digits; what real senders write besides (ISO 8601 punctuation, more digits of a second, `Z`, 24:00) is put right before.
//! A time that is obviously false is unreadable, never guessed.

use hl7_parser::datetime::TimeStamp;
use hl7_parser::datetime::parse_timestamp;
use jiff::Span;
use jiff::civil::Date;
use jiff::civil::DateTime;
use jiff::tz::AmbiguousOffset;
use jiff::tz::Offset;
use jiff::tz::TimeZone;

use crate::time::Timestamp;

/// By what a time without an offset is read.
#[derive(Clone, Debug)]
pub struct TimeContext {
    /// The offset of MSH-7, the message's default.
    pub message_offset: Option<Offset>,
    /// The feed's time zone.
    pub zone: TimeZone,
    /// When the message arrived, where that is known: it decides which of two readings is meant in the hour that the clock is set back.
    pub arrival: Option<Timestamp>,
}

impl TimeContext {
    /// A context of a feed's zone alone.
    pub const fn of(zone: TimeZone) -> Self {
        Self { message_offset: None, zone, arrival: None }
    }

    /// The context of a message: its MSH-7 gives the offset, where it has one.
    pub fn for_message(zone: TimeZone, msh_7: &str, arrival: Option<Timestamp>) -> Self {
        let message_offset = normal(msh_7).and_then(|form| form.offset);
        Self { message_offset, zone, arrival }
    }
}

/// How much of a time was said.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Precision {
    /// `2026`.
    Year,
    /// `202611`.
    Month,
    /// `20261121`.
    Day,
    /// `2026112109`.
    Hour,
    /// `202611210930`.
    Minute,
    /// `20261121093000`.
    Second,
    /// `20261121093000.5`.
    Fraction,
}

/// One time as it was said.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Dtm {
    /// The instant; the beginning of what was said where it was said less precisely.
    pub at: Timestamp,
    /// How much was said.
    pub precision: Precision,
    /// Whether an offset was said with it.
    pub had_offset: bool,
}

/// The text is no time, or an obviously false one.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a time like `20261121093000-0500`")]
pub struct Unreadable;

/// Reads a time; `None` when there is none.
///
/// Without an offset of its own a time is in the feed's zone, unless MSH-7 has an offset that the zone never has, which then counts. A time that
/// the clock skipped is read as one hour later; of two readings the one of MSH-7's offset, else the last before arrival, else the earlier.
///
/// # Errors
/// [`Unreadable`] when it is no time, or from before 1900.
pub fn timestamp(text: &str, context: &TimeContext) -> Result<Option<Dtm>, Unreadable> {
    let text = text.trim();
    if text.is_empty() || text.bytes().all(|byte| byte == b'"') {
        return Ok(None);
    }
    let form = normal(text).ok_or(Unreadable)?;
    let stamp = parse_timestamp(&form.digits, false).map_err(|_quotes_the_text| Unreadable)?;
    if stamp.year < 1900 {
        return Err(Unreadable);
    }
    let civil = civil(&stamp).ok_or(Unreadable)?;
    let instant = match form.offset {
        Some(offset) => offset.to_timestamp(civil),
        None => resolve(civil, context).to_timestamp(civil),
    };
    // The last days that the calendar has are what senders write for "never".
    let at = instant.unwrap_or(jiff::Timestamp::MAX).into();
    Ok(Some(Dtm { at, precision: precision(&stamp), had_offset: form.offset.is_some() }))
}

/// Reads a date as an ISO date of the precision that was said: `1980-01-31`, `1980-01`, `1980`; a time of day is left out. `None` when it is none.
pub fn date(text: &str) -> Option<String> {
    let digits = normal(text.trim())?.digits;
    let stamp = parse_timestamp(digits.get(..8).unwrap_or(&digits), false).ok()?;
    let year = stamp.year;
    if year < 1800 {
        return None;
    }
    match (stamp.month.filter(|month| *month != 0), stamp.day.filter(|day| *day != 0)) {
        (Some(month), Some(day)) => {
            let date = Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
            Some(date.to_string())
        }
        (Some(month), None) if month <= 12 => Some(format!("{year:04}-{month:02}")),
        (Some(_), None) => None,
        (None, _) => Some(format!("{year:04}")),
    }
}

/// A text in the form that hl7-parser reads, its offset apart.
struct Normal {
    digits: String,
    offset: Option<Offset>,
}

/// Takes ISO punctuation out, cuts the fraction to four digits and the offset off; `None` for anything that is no time.
fn normal(text: &str) -> Option<Normal> {
    let text = text.trim();
    if text.len() > 40 || !text.is_ascii() {
        return None;
    }
    let iso = text.as_bytes().get(4) == Some(&b'-') && text.as_bytes().get(7) == Some(&b'-');
    let (date, rest) = if iso { text.split_at_checked(10)? } else { ("", text) };
    let clock_ends = rest.find(['+', '-', 'Z', 'z']).unwrap_or(rest.len());
    let (clock, zone) = rest.split_at_checked(clock_ends)?;
    let (clock, fraction) = clock.split_once(['.', ',']).unwrap_or((clock, ""));
    let mut digits: String = date.chars().filter(|c| *c != '-').collect();
    for c in clock.chars() {
        match c {
            c if c.is_ascii_digit() => digits.push(c),
            'T' | ' ' | ':' => {}
            _ => return None,
        }
    }
    if digits.len() > 14 || digits.len() % 2 == 1 || digits.len() < 4 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if !fraction.is_empty() && digits.len() == 14 {
        digits.push('.');
        digits.push_str(fraction.get(..4).unwrap_or(fraction));
    }
    Some(Normal { digits, offset: offset(zone)? })
}

/// `Some(None)` when there is none, `None` when it is none.
#[expect(clippy::option_option, reason = "absent and wrong are different answers")]
fn offset(zone: &str) -> Option<Option<Offset>> {
    let (sign, digits) = match zone.split_at_checked(1) {
        None => return Some(None),
        Some(("+", digits)) => (1, digits),
        Some(("-", digits)) => (-1, digits),
        Some(("Z" | "z", "")) => return Some(Some(Offset::UTC)),
        Some(_) => return None,
    };
    let digits: String = digits.chars().filter(|c| *c != ':').collect();
    let (hours, minutes) = digits.split_at_checked(2)?;
    let number = |text: &str, most: i32| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<i32>().ok()).flatten().filter(|n| *n <= most);
    let minutes = if minutes.is_empty() { 0 } else { number(minutes, 59)? };
    Offset::from_seconds(sign * (number(hours, 15)? * 3600 + minutes * 60)).ok().map(Some)
}

fn precision(stamp: &TimeStamp) -> Precision {
    match stamp {
        TimeStamp { microsecond: Some(_), .. } => Precision::Fraction,
        TimeStamp { second: Some(_), .. } => Precision::Second,
        TimeStamp { minute: Some(_), .. } => Precision::Minute,
        TimeStamp { hour: Some(_), .. } => Precision::Hour,
        TimeStamp { day: Some(_), .. } => Precision::Day,
        TimeStamp { month: Some(_), .. } => Precision::Month,
        TimeStamp { .. } => Precision::Year,
    }
}

/// The time on the wall. 24:00 is the beginning of the next day, a leap second the second before it.
fn civil(stamp: &TimeStamp) -> Option<DateTime> {
    let small = |value: Option<u8>, least: i8| value.map_or(Some(least), |value| i8::try_from(value).ok());
    let date = Date::new(i16::try_from(stamp.year).ok()?, small(stamp.month, 1)?, small(stamp.day, 1)?).ok()?;
    let (minute, second) = (small(stamp.minute, 0)?, small(stamp.second, 0)?.min(59 + i8::from(stamp.second > Some(60))));
    let nanosecond = i32::try_from(stamp.microsecond.unwrap_or(0)).ok()?.checked_mul(1000)?;
    match small(stamp.hour, 0)? {
        24 if minute == 0 && second == 0 => date.checked_add(Span::new().days(1)).ok().map(|next| next.at(0, 0, 0, 0)),
        hour => jiff::civil::Time::new(hour, minute, second, nanosecond).ok().map(|time| date.to_datetime(time)),
    }
}

/// The offset that a time on the wall is meant in.
fn resolve(civil: DateTime, context: &TimeContext) -> Offset {
    let ambiguous = context.zone.to_ambiguous_timestamp(civil).offset();
    let said = context.message_offset;
    match (ambiguous, said) {
        (AmbiguousOffset::Unambiguous { offset }, None) => offset,
        (AmbiguousOffset::Unambiguous { offset }, Some(said)) if offset == said || has_offset(&context.zone, said, civil) => offset,
        (AmbiguousOffset::Fold { before, after }, Some(said)) if said == before || said == after => said,
        (AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } | AmbiguousOffset::Gap { .. }, Some(said))
            if !has_offset(&context.zone, said, civil) =>
        {
            said
        }
        (AmbiguousOffset::Unambiguous { offset }, Some(_)) => offset,
        (AmbiguousOffset::Gap { before, .. }, _) => before,
        (AmbiguousOffset::Fold { before, after }, _) => {
            let later = after.to_timestamp(civil).map(Timestamp::from);
            if context.arrival.zip(later.ok()).is_some_and(|(arrival, later)| later <= arrival) { after } else { before }
        }
    }
}

/// Whether the zone has this offset at some time of the year: then it is the zone's own, of summer or of winter.
fn has_offset(zone: &TimeZone, offset: Offset, civil: DateTime) -> bool {
    [1, 7].into_iter().any(|month| {
        let middle = Date::new(civil.year(), month, 1).map(|date| date.at(12, 0, 0, 0));
        middle.is_ok_and(|middle| matches!(zone.to_ambiguous_timestamp(middle).offset(), AmbiguousOffset::Unambiguous { offset: o } if o == offset))
    })
}
