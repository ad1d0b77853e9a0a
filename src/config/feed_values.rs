//! The values that only feeds have: time zones, trigger events, visit fields, address ranges, maps of codes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::tz::TimeZone;

use crate::adt::profile::EmptyClears;
use crate::adt::profile::VisitIdSource;
use crate::config::reader::Reader;
use crate::config::reader::is_blank_or_padded;
use crate::config::tree::KeyPath;
use crate::ids::AssigningAuthority;
use crate::ids::PatientClass;
use crate::ids::Role;
use crate::ids::TriggerEvent;
use crate::time::Timestamp;

/// An address, or all that share its first bits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AddressRange {
    address: IpAddr,
    n_bits: u8,
}

impl AddressRange {
    /// Reads `10.1.2.3` or `10.1.0.0/16`.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().ok()?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        let n_bits = bits.map_or(Some(all), |bits| bits.parse().ok()).filter(|bits| *bits <= all)?;
        Some(Self { address, n_bits })
    }

    /// Whether an address is in the range; an IPv4 address that came over IPv6 counts as itself.
    pub fn contains(&self, address: IpAddr) -> bool {
        let same = |ours: u128, theirs: u128, width: u32| {
            let dropped = width.saturating_sub(u32::from(self.n_bits));
            ours.checked_shr(dropped).unwrap_or(0) == theirs.checked_shr(dropped).unwrap_or(0)
        };
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => same(u128::from(ours.to_bits()), u128::from(theirs.to_bits()), 32),
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => same(ours.to_bits(), theirs.to_bits(), 128),
            _ => false,
        }
    }
}

/// A time zone by its IANA name.
pub(super) fn time_zone(name: &str, path: &KeyPath, reader: &mut Reader<'_>) -> TimeZone {
    TimeZone::get(name).unwrap_or_else(|_| {
        reader.problem(path, "must be a time zone of the IANA database, such as `America/New_York`");
        TimeZone::UTC
    })
}

/// An instant, in the feed's zone where it has no offset; none where the text is empty.
pub(super) fn until(text: &str, zone: &TimeZone, path: &KeyPath, reader: &mut Reader<'_>) -> Option<Timestamp> {
    if text.is_empty() {
        return None;
    }
    let absolute = text.parse::<jiff::Timestamp>().ok();
    let instant = absolute.or_else(|| zone.to_timestamp(text.parse::<jiff::civil::DateTime>().ok()?).ok());
    if instant.is_none() {
        reader.problem(path, "must be a time such as `2026-11-21T06:00:00-05:00`, or without the offset");
    }
    instant.map(Timestamp::from)
}

/// Trigger events.
pub(super) fn triggers(raw: &[String], path: &KeyPath, reader: &mut Reader<'_>) -> Vec<TriggerEvent> {
    raw.iter().enumerate().filter_map(|(index, text)| trigger(text, &path.index(index), reader)).collect()
}

fn trigger(text: &str, path: &KeyPath, reader: &mut Reader<'_>) -> Option<TriggerEvent> {
    let trigger = TriggerEvent::parse(text);
    if trigger.is_none() {
        reader.problem(path, "must be a trigger event such as `A08`");
    }
    trigger
}

/// The fields that number a visit.
pub(super) fn visit_id(raw: &[String], path: &KeyPath, reader: &mut Reader<'_>) -> Vec<VisitIdSource> {
    if raw.is_empty() {
        reader.problem(path, "must hold one or more of `PV1-19`, `PID-18`, `PV1-50`");
    }
    let mut fields = Vec::new();
    for (index, text) in raw.iter().enumerate() {
        let Some(field) = VisitIdSource::parse(text) else {
            reader.problem(&path.index(index), "must be one of `PV1-19`, `PID-18`, `PV1-50`");
            continue;
        };
        if fields.contains(&field) {
            reader.problem(&path.index(index), "stands in the list twice");
        }
        fields.push(field);
    }
    fields
}

/// Other names of authorities.
pub(super) fn authorities(raw: &BTreeMap<String, String>, path: &KeyPath, reader: &mut Reader<'_>) -> BTreeMap<String, AssigningAuthority> {
    for (name, authority) in raw {
        if is_blank_or_padded(authority) {
            reader.problem(&path.key(name), "must name an authority");
        }
    }
    raw.iter().map(|(name, authority)| (name.trim().to_uppercase(), AssigningAuthority::new(authority.to_uppercase()))).collect()
}

/// Role codes.
pub(super) fn roles(raw: &BTreeMap<String, String>, path: &KeyPath, reader: &mut Reader<'_>) -> BTreeMap<String, Role> {
    for (code, role) in raw {
        if is_blank_or_padded(role) {
            reader.problem(&path.key(code), "must name a role");
        }
    }
    raw.iter().map(|(code, role)| (code.to_uppercase(), Role::new(role))).collect()
}

/// Classes as the site writes them.
pub(super) fn classes(raw: &BTreeMap<String, String>, path: &KeyPath, reader: &mut Reader<'_>) -> BTreeMap<String, PatientClass> {
    for (code, class) in raw {
        if is_blank_or_padded(class) {
            reader.problem(&path.key(code), "must be a class such as `I`, `E` or `O`");
        }
    }
    raw.iter().map(|(code, class)| (code.to_uppercase(), PatientClass::new(class))).collect()
}

/// Trigger events as the site uses them.
pub(super) fn events(raw: &BTreeMap<String, String>, path: &KeyPath, reader: &mut Reader<'_>) -> BTreeMap<TriggerEvent, TriggerEvent> {
    let mut events = BTreeMap::new();
    for (from, to) in raw {
        match (TriggerEvent::parse(from), TriggerEvent::parse(to)) {
            (Some(from), Some(to)) => {
                events.insert(from, to);
            }
            _ => reader.problem(&path.key(from), "must be a trigger event such as `A08` for another"),
        }
    }
    events
}

/// A character set by its name in table 0211.
pub(super) fn charset(raw: &str, path: &KeyPath, reader: &mut Reader<'_>) -> Option<String> {
    if raw.is_empty() {
        return None;
    }
    if !crate::hl7::charset::is_known(raw) {
        reader.problem(path, "must be a character set of table 0211, such as `UNICODE UTF-8` or `8859/1`");
    }
    Some(raw.to_owned())
}

/// Fields whose being empty means nobody: `PV1-9 on A08,A61`.
pub(super) fn empty_clears(raw: &[String], path: &KeyPath, reader: &mut Reader<'_>) -> Vec<EmptyClears> {
    let mut all = Vec::new();
    for (index, text) in raw.iter().enumerate() {
        let path = path.index(index);
        let (field, on) = text.split_once(" on ").map_or((text.as_str(), ""), |(field, on)| (field, on));
        let triggers: Option<Vec<TriggerEvent>> = on.split(',').map(str::trim).filter(|one| !one.is_empty()).map(TriggerEvent::parse).collect();
        match triggers {
            Some(triggers) if is_field_path(field.trim()) => all.push(EmptyClears { field: field.trim().to_owned(), triggers }),
            _ => reader.problem(&path, "must be a field such as `PV1-9`, or a field on trigger events such as `PV1-9 on A08,A61`"),
        }
    }
    all
}

/// Ranges of addresses.
pub(super) fn addresses(raw: &[String], path: &KeyPath, reader: &mut Reader<'_>) -> Vec<AddressRange> {
    let mut all = Vec::new();
    for (index, text) in raw.iter().enumerate() {
        match AddressRange::parse(text) {
            Some(range) => all.push(range),
            None => reader.problem(&path.index(index), "must be an IP address or a range such as `10.1.0.0/16`"),
        }
    }
    all
}

/// Whether a text names a field: `ZTM-3`, `PV1-7`, `ZTM-3.1`.
pub(super) fn is_field_path(text: &str) -> bool {
    let Some((segment, field)) = text.split_once('-') else { return false };
    let number = |part: &str| part.parse::<u16>().is_ok_and(|number| number > 0) && part.len() <= 3;
    let mut parts = field.split('.');
    segment.len() == 3
        && segment.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
        && segment.bytes().next().is_some_and(|b| b.is_ascii_uppercase())
        && parts.next().is_some_and(number)
        && parts.next().is_none_or(number)
        && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::AddressRange;
    use super::is_field_path;

    #[test]
    fn a_range_is_an_address_and_a_number_of_bits() {
        let check = |range: &str, address: &str, is_in| {
            assert_eq!(AddressRange::parse(range).map(|range| range.contains(address.parse().unwrap())), is_in, "{range} {address}");
        };
        check("10.1.2.3", "10.1.2.3", Some(true));
        check("10.1.2.3", "10.1.2.4", Some(false));
        check("10.1.0.0/16", "10.1.255.1", Some(true));
        check("10.1.0.0/16", "10.2.0.1", Some(false));
        check("0.0.0.0/0", "8.8.8.8", Some(true));
        check("10.1.0.0/16", "::ffff:10.1.2.3", Some(true));
        check("fd00::/8", "fd12::1", Some(true));
        check("::/0", "fe80::1", Some(true));
        check("fd00::/8", "10.1.2.3", Some(false));
        check("10.1.0.0/33", "10.1.2.3", None);
        check("ten", "10.1.2.3", None);
    }

    #[test]
    fn a_field_is_a_segment_and_a_number() {
        assert!(["PV1-7", "ZTM-3.1"].into_iter().all(is_field_path));
        assert!(!["PV1", "PV1-0", "PV-7", "pv1-7", "PV1-7.1.1", "PV1-", "1PV-7", "ZÄ-1"].into_iter().any(is_field_path));
    }
}
