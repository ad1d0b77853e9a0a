//! TS and DTM: times and dates (HL7 v2.5.1 §2.A.77, §2.A.22): `YYYY[MM[DD[HH[MM[SS[.S[S[S[S]]]]]]]]][+/-ZZZZ]`.
//!
//! What real senders write besides (ISO 8601 punctuation, more digits of a second, `Z`, 24:00) is put right before the digits are read.
//! A time that is obviously false is unreadable, never guessed.

use compact_str::CompactString;
use compact_str::ToCompactString as _;
use compact_str::format_compact;
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
    /// Whether the feed's zone has another offset at MSH-7: then the sender is somewhere else, and the offset of the message counts for all of it.
    /// Otherwise the zone counts, so that a time of summer in a message of winter keeps its hour.
    pub sender_is_elsewhere: bool,
    /// The feed's time zone.
    pub zone: TimeZone,
    /// When the message arrived, where that is known: it decides which of two readings is meant in the hour that the clock is set back.
    pub arrival: Option<Timestamp>,
}

impl TimeContext {
    /// A context of a feed's zone alone.
    pub const fn of(zone: TimeZone) -> Self {
        Self { message_offset: None, sender_is_elsewhere: false, zone, arrival: None }
    }

    /// The context of a message: its MSH-7 gives the offset, where it has one.
    pub fn for_message(zone: TimeZone, msh_7: &str, arrival: Option<Timestamp>) -> Self {
        let form = normal(msh_7);
        let message_offset = form.as_ref().and_then(|form| form.offset);
        let sent = form.and_then(|form| Stamp::read(&form.digits)).and_then(|stamp| civil(&stamp));
        let sender_is_elsewhere = message_offset.zip(sent).is_some_and(|(offset, sent)| !has_offset(&zone, sent, offset));
        Self { message_offset, sender_is_elsewhere, zone, arrival }
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
    let stamp = Stamp::read(&form.digits).ok_or(Unreadable)?;
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
pub fn date(text: &str) -> Option<CompactString> {
    let digits = normal(text.trim())?.digits;
    let stamp = Stamp::read(digits.get(..8).unwrap_or(&digits))?;
    let year = stamp.year;
    if year < 1800 {
        return None;
    }
    match (stamp.month.filter(|month| *month != 0), stamp.day.filter(|day| *day != 0)) {
        (Some(month), Some(day)) => {
            let date = Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
            Some(date.to_compact_string())
        }
        (Some(month), None) if month <= 12 => Some(format_compact!("{year:04}-{month:02}")),
        (Some(_), None) => None,
        (None, _) => Some(format_compact!("{year:04}")),
    }
}

/// A text as nothing but its digits and the point before those of a fraction, its offset apart.
#[derive(Debug, PartialEq)]
struct Normal {
    digits: CompactString,
    offset: Option<Offset>,
}

/// Takes ISO punctuation out, cuts the fraction to four digits and the offset off; `None` for anything that is no time.
fn normal(text: &str) -> Option<Normal> {
    let text = text.trim();
    if text.len() > 40 || !text.is_ascii() {
        return None;
    }
    as_the_standard_has_it(text).or_else(|| as_others_write_it(text))
}

fn as_others_write_it(text: &str) -> Option<Normal> {
    let (date, rest) = text.split_at_checked(iso_date_length(text.as_bytes()))?;
    let (clock, zone) = rest.split_at_checked(rest.find(['+', '-', 'Z', 'z']).unwrap_or(rest.len()))?;
    let (clock, mut fraction) = clock.split_once(['.', ',']).unwrap_or((clock, ""));
    let mut digits = CompactString::default();
    digits.extend(date.chars().filter(|c| *c != '-'));
    if clock.bytes().all(|byte| byte.is_ascii_digit()) {
        digits.push_str(clock);
    } else {
        for c in clock.chars() {
            match c {
                c if c.is_ascii_digit() => digits.push(c),
                'T' | ' ' | ':' => {}
                _ => return None,
            }
        }
    }
    // Milliseconds without their point.
    if digits.len() == 17 && fraction.is_empty() && date.is_empty() {
        (_, fraction) = clock.split_at_checked(clock.len() - 3)?;
        digits.truncate(14);
    }
    if digits.len() > 14 || digits.len() % 2 == 1 || digits.len() < 4 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let offset = offset(zone, digits.len() >= 10)?;
    if !fraction.is_empty() && digits.len() == 14 {
        digits.push('.');
        digits.push_str(fraction.get(..4).unwrap_or(fraction));
    }
    Some(Normal { digits, offset })
}

/// What most senders write: nothing but digits, a fraction of up to four after the seconds, an offset of four. `None` where the text has anything else, which
/// may be a time all the same.
fn as_the_standard_has_it(text: &str) -> Option<Normal> {
    let bytes = text.as_bytes();
    let n_digits = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let n_whole = n_digits(bytes);
    let n_fraction = match bytes.get(n_whole..)? {
        [b'.', fraction @ ..] if n_whole == 14 => 1 + n_digits(fraction),
        _ => 0,
    };
    let (digits, zone) = text.split_at_checked(n_whole + n_fraction)?;
    let is_usual = matches!(n_whole, 8 | 10 | 12 | 14) && matches!(n_fraction, 0 | 2..=5) && matches!(zone.len(), 0 | 5);
    is_usual.then(|| offset(zone, n_whole >= 10))?.map(|offset| Normal { digits: digits.into(), offset })
}

/// How many characters of the text are a date with hyphens, as in `2026-11-21` or `2026-11`.
fn iso_date_length(text: &[u8]) -> usize {
    match (text.get(4), text.get(7)) {
        (Some(b'-'), Some(b'-')) => 10,
        (Some(b'-'), None) if text.len() == 7 => 7,
        _ => 0,
    }
}

/// `Some(None)` when there is none, `None` when it is none. One of hours alone is one only behind a time of day.
#[expect(clippy::option_option, reason = "absent and wrong are different answers")]
fn offset(zone: &str, after_time_of_day: bool) -> Option<Option<Offset>> {
    let (sign, digits) = match zone.as_bytes() {
        [] => return Some(None),
        [b'Z' | b'z'] => return Some(Some(Offset::UTC)),
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match digits {
        [h, hh, m, mm] | [h, hh, b':', m, mm] => ([*h, *hh], [*m, *mm]),
        [h, hh] if after_time_of_day => ([*h, *hh], *b"00"),
        _ => return None,
    };
    let number = |[tens, ones]: [u8; 2]| {
        let both = tens.is_ascii_digit() && ones.is_ascii_digit();
        both.then(|| i32::from(tens - b'0') * 10 + i32::from(ones - b'0'))
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (hours <= 15 && minutes <= 59).then(|| Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok())?.map(Some)
}

/// The numbers of a time, none of them looked at yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stamp {
    year: u16,
    month: Option<u8>,
    day: Option<u8>,
    hour: Option<u8>,
    minute: Option<u8>,
    second: Option<u8>,
    microsecond: Option<u32>,
}

impl Stamp {
    /// Reads `YYYY[MM[DD[HH[MM[SS[.S[S[S[S]]]]]]]]]`; `None` for anything else.
    fn read(digits: &str) -> Option<Self> {
        let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(whole, fraction)| (whole, Some(fraction)));
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !matches!(whole.len(), 4 | 6 | 8 | 10 | 12 | 14) || !is_number(whole) {
            return None;
        }
        let (pairs, _) = whole.as_bytes().as_chunks::<2>();
        let mut numbers = pairs.iter().map(|[tens, ones]| (tens - b'0') * 10 + (ones - b'0'));
        let year = u16::from(numbers.next()?) * 100 + u16::from(numbers.next()?);
        let mut stamp = Self { year, month: numbers.next(), day: numbers.next(), hour: None, minute: None, second: None, microsecond: None };
        (stamp.hour, stamp.minute, stamp.second) = (numbers.next(), numbers.next(), numbers.next());
        if let Some(fraction) = fraction {
            let unit = 10_u32.pow(6 - u32::try_from(fraction.len()).ok().filter(|n| (1..=4).contains(n))?);
            stamp.microsecond = Some(fraction.parse::<u32>().ok().filter(|_| is_number(fraction))? * unit);
        }
        Some(stamp)
    }
}

fn precision(stamp: &Stamp) -> Precision {
    match stamp {
        Stamp { microsecond: Some(_), .. } => Precision::Fraction,
        Stamp { second: Some(_), .. } => Precision::Second,
        Stamp { minute: Some(_), .. } => Precision::Minute,
        Stamp { hour: Some(_), .. } => Precision::Hour,
        Stamp { day: Some(_), .. } => Precision::Day,
        Stamp { month: Some(_), .. } => Precision::Month,
        Stamp { .. } => Precision::Year,
    }
}

/// The time on the wall. 24:00 is the beginning of the next day, a leap second the second before it.
fn civil(stamp: &Stamp) -> Option<DateTime> {
    let small = |value: Option<u8>, least: i8| value.map_or(Some(least), |value| i8::try_from(value).ok());
    let date = Date::new(i16::try_from(stamp.year).ok()?, small(stamp.month, 1)?, small(stamp.day, 1)?).ok()?;
    let minute = small(stamp.minute, 0)?;
    let second = small(stamp.second.map(|second| if second == 60 { 59 } else { second }), 0)?;
    let nanosecond = i32::try_from(stamp.microsecond.unwrap_or(0)).ok()?.checked_mul(1000)?;
    match small(stamp.hour, 0)? {
        24 if minute == 0 && second == 0 => date.checked_add(Span::new().days(1)).ok().map(|next| next.at(0, 0, 0, 0)),
        hour => jiff::civil::Time::new(hour, minute, second, nanosecond).ok().map(|time| date.to_datetime(time)),
    }
}

/// The offset that a time on the wall is meant in.
fn resolve(civil: DateTime, context: &TimeContext) -> Offset {
    let own = context.zone.to_ambiguous_timestamp(civil).offset();
    let said = context.message_offset;
    if let Some(said) = said.filter(|_| context.sender_is_elsewhere) {
        return said;
    }
    match own {
        AmbiguousOffset::Unambiguous { offset } => offset,
        AmbiguousOffset::Gap { before, .. } => before,
        AmbiguousOffset::Fold { before, after } if said == Some(before) || said == Some(after) => said.unwrap_or(before),
        AmbiguousOffset::Fold { before, after } => {
            let later = after.to_timestamp(civil).map(Timestamp::from);
            if context.arrival.zip(later.ok()).is_some_and(|(arrival, later)| later <= arrival) { after } else { before }
        }
    }
}

/// Whether the zone has this offset at this time of its own.
fn has_offset(zone: &TimeZone, at: DateTime, offset: Offset) -> bool {
    match zone.to_ambiguous_timestamp(at).offset() {
        AmbiguousOffset::Unambiguous { offset: only } => only == offset,
        AmbiguousOffset::Gap { before, after } | AmbiguousOffset::Fold { before, after } => before == offset || after == offset,
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use proptest::prelude::proptest;

    use super::Precision;
    use super::Stamp;
    use super::TimeContext;
    use super::as_others_write_it;
    use super::as_the_standard_has_it;
    use super::date;
    use super::timestamp;

    fn new_york() -> TimeContext {
        TimeContext::of(TimeZone::get("America/New_York").unwrap())
    }

    fn check_in(context: &TimeContext, text: &str, expected: &str) {
        let shown = timestamp(text, context).map(|read| read.map_or_else(|| "none".to_owned(), |dtm| dtm.at.to_string()));
        assert_eq!(shown.as_deref().unwrap_or("unreadable"), expected, "{text}");
    }

    fn check(text: &str, expected: &str) {
        check_in(&new_york(), text, expected);
    }

    #[test]
    fn every_precision_is_read_and_told() {
        let cases = [
            ("2026", "2026-01-01T05:00:00Z", Precision::Year),
            ("202611", "2026-11-01T04:00:00Z", Precision::Month),
            ("20261121", "2026-11-21T05:00:00Z", Precision::Day),
            ("2026112109", "2026-11-21T14:00:00Z", Precision::Hour),
            ("202611210930", "2026-11-21T14:30:00Z", Precision::Minute),
            ("20261121093005", "2026-11-21T14:30:05Z", Precision::Second),
            ("20261121093005.1234", "2026-11-21T14:30:05.1234Z", Precision::Fraction),
        ];
        for (text, expected, precision) in cases {
            check(text, expected);
            assert_eq!(timestamp(text, &new_york()).unwrap().unwrap().precision, precision, "{text}");
        }
    }

    #[test]
    fn an_offset_of_its_own_counts() {
        check("20261121093000-0500", "2026-11-21T14:30:00Z");
        check("20261121093000+0530", "2026-11-21T04:00:00Z");
        check("20261121093000-0030", "2026-11-21T10:00:00Z");
        check("202611210930Z", "2026-11-21T09:30:00Z");
        assert!(timestamp("20261121093000-0500", &new_york()).unwrap().unwrap().had_offset);
    }

    #[test]
    fn what_senders_write_besides_is_understood() {
        check(" 20261121093000 ", "2026-11-21T14:30:00Z");
        check("2026-11-21T09:30:00.123456Z", "2026-11-21T09:30:00.1234Z");
        check("2026-11-21 09:30:00-05:00", "2026-11-21T14:30:00Z");
        check("2026-11-21", "2026-11-21T05:00:00Z");
        check("2026-11", "2026-11-01T04:00:00Z");
        check("20261121093000-05", "2026-11-21T14:30:00Z");
        check("20261121093000123", "2026-11-21T14:30:00.123Z");
        check("20261121240000", "2026-11-22T05:00:00Z");
        check("20261121235960", "2026-11-22T04:59:59Z");
        check("99991231", "9999-12-30T22:00:00.999999999Z");
    }

    #[test]
    fn nothing_and_null_are_no_time_and_nonsense_is_unreadable() {
        for text in ["", "  ", "\"\""] {
            check(text, "none");
        }
        for text in [
            "00000000",
            "00000000000000",
            "18991231",
            "20261321",
            "20260230",
            "202611210",
            "2026112109300012",
            "tomorrow",
            "2026112125",
            "20261121+",
            "ü026",
            "20261121093000-9900",
        ] {
            check(text, "unreadable");
        }
    }

    #[test]
    fn a_skipped_hour_is_read_an_hour_later_and_a_doubled_one_as_the_message_or_its_arrival_says() {
        check("20260308023000", "2026-03-08T07:30:00Z");
        check("20261101013000", "2026-11-01T05:30:00Z");
        let in_winter = TimeContext::for_message(TimeZone::get("America/New_York").unwrap(), "20261101013100-0500", None);
        check_in(&in_winter, "20261101013000", "2026-11-01T06:30:00Z");
        let mut later = new_york();
        later.arrival = Some("2026-11-01T06:45:00Z".parse::<jiff::Timestamp>().unwrap().into());
        check_in(&later, "20261101013000", "2026-11-01T06:30:00Z");
        later.arrival = Some("2026-11-01T06:15:00Z".parse::<jiff::Timestamp>().unwrap().into());
        check_in(&later, "20261101013000", "2026-11-01T05:30:00Z");
    }

    #[test]
    fn the_offset_of_the_message_counts_where_the_zone_does_not_have_it() {
        let zone = TimeZone::get("America/New_York").unwrap();
        check_in(&TimeContext::for_message(zone.clone(), "20261121093000-0800", None), "20261121080000", "2026-11-21T16:00:00Z");
        check_in(&TimeContext::for_message(zone.clone(), "20261121093000-0500", None), "20260701080000", "2026-07-01T12:00:00Z");
        // In summer this is the offset of another zone, although New York has it in winter.
        check_in(&TimeContext::for_message(zone, "20260529090131-0500", None), "202605290901", "2026-05-29T14:01:00Z");
    }

    #[test]
    fn dates_keep_the_precision_that_was_said() {
        let cases = [
            ("19800131", Some("1980-01-31")),
            ("195210150000", Some("1952-10-15")),
            ("19521015093000-0500", Some("1952-10-15")),
            ("1980-01-31", Some("1980-01-31")),
            ("198001", Some("1980-01")),
            ("1980-01", Some("1980-01")),
            ("19800100", Some("1980-01")),
            ("1980", Some("1980")),
            ("19800000", Some("1980")),
            ("19800230", None),
            ("198013", None),
            ("00000000", None),
            ("", None),
            ("\"\"", None),
            ("UNKNOWN", None),
        ];
        for (text, expected) in cases {
            assert_eq!(date(text).as_deref(), expected, "{text}");
        }
    }

    fn by_hl7_parser(digits: &str) -> Option<Stamp> {
        let read = hl7_parser::datetime::parse_timestamp(digits, false).ok()?;
        let hl7_parser::datetime::TimeStamp { year, month, day, hour, minute, second, microsecond, .. } = read;
        Some(Stamp { year, month, day, hour, minute, second, microsecond })
    }

    proptest! {
        #[test]
        fn the_short_way_reads_what_the_long_way_reads(text in r"[0-9]{3,18}([.,][0-9]{0,6})?([-+Z][0-9:]{0,5})?") {
            if let Some(read) = as_the_standard_has_it(&text) {
                assert_eq!(Some(read), as_others_write_it(&text));
            }
        }

        #[test]
        fn the_digits_are_read_as_hl7_parser_reads_them(text in r"([0-9]{0,4}([0-9][0-9]){0,5}x?|[0-9]{14}[.][0-9x]{0,5})") {
            assert_eq!(Stamp::read(&text), by_hl7_parser(&text), "{text}");
        }

        #[test]
        fn no_text_makes_it_panic(text in r"[0-9]{0,20}[-+.TZ: ü]{0,2}[0-9:]{0,8}") {
            let _read = timestamp(&text, &new_york());
            let _read = date(&text);
        }
    }
}
