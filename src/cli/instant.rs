//! Times as somebody types them.

use jiff::Zoned;
use jiff::civil;
use jiff::tz::TimeZone;

use crate::time::Timestamp;

/// RFC 3339, or a date, or a time without an offset, in the time zone of this machine.
pub(super) fn instant(text: &str) -> Result<Timestamp, &'static str> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(at.into());
    }
    let zoned = text.parse::<civil::DateTime>().ok().and_then(|at| at.to_zoned(TimeZone::system()).ok());
    zoned.as_ref().map(Zoned::timestamp).map(Timestamp::from).ok_or("expected a time such as 2026-11-21T08:00:00-05:00, or a date")
}

#[cfg(test)]
mod tests {
    use super::instant;

    #[test]
    fn a_time_has_an_offset_or_is_of_this_machine_and_a_date_is_its_first_instant() {
        assert_eq!(instant("2026-11-21T08:00:00-05:00").unwrap().to_string(), "2026-11-21T13:00:00Z");
        assert_eq!(instant("2026-11-21").unwrap(), instant("2026-11-21T00:00:00").unwrap());
        assert!(instant("yesterday").is_err());
    }
}
