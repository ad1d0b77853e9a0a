//! When something was recorded, and what makes two facts the same.

use crate::adt::Arrival;
use crate::adt::Reading;
use crate::adt::profile::FeedClock;
use crate::adt::profile::Profile;
use crate::adt::profile::RecordedFrom;
use crate::adt::tests::EVN;
use crate::adt::tests::MSH;
use crate::adt::tests::PID;
use crate::adt::tests::arrival;
use crate::adt::tests::at;
use crate::adt::tests::has;
use crate::adt::tests::only;
use crate::adt::tests::profile;
use crate::adt::tests::reading_at;
use crate::care::notice::NoticeCode;
use crate::ids::JournalId;

fn stamped(profile: &Profile, arrival: Arrival, msh_7: &str, evn: &str) -> Reading {
    let header = MSH.replace("20261121093015-0500", msh_7);
    reading_at(profile, arrival, &[header.as_str(), evn, PID].join("\r"))
}

#[test]
fn the_recorded_time_is_the_best_that_can_be_trusted() {
    // MSH-7, EVN-2, recorded, whether it is the sender's word
    let table = [
        ("20261121093015-0500", "20261121092500", "2026-11-21T14:25:00Z", true),
        ("20261121093015-0500", "202611210925", "2026-11-21T14:25:00Z", true),
        ("20261121093015-0500", "202611210930", "2026-11-21T14:30:15Z", true),
        ("20261121093015-0500", "20261121", "2026-11-21T14:30:15Z", false),
        ("20261121093015-0500", "", "2026-11-21T14:30:15Z", false),
        ("20261121093015-0500", "19880818", "2026-11-21T14:30:15Z", false),
        ("20261121", "", "2026-11-21T14:30:20Z", false),
        ("", "20261121092500", "2026-11-21T14:25:00Z", true),
        ("20261121093015-0500", "20261121103000", "2026-11-21T14:30:20Z", false),
        ("20261121093015-0500", "20261121093900", "2026-11-21T14:39:00Z", true),
    ];
    for (msh_7, evn_2, want, by_sender) in table {
        let reading = stamped(&profile(), arrival(), msh_7, &format!("EVN|A01|{evn_2}"));
        assert_eq!(reading.recorded_at, at(want), "{msh_7} {evn_2}");
        assert_eq!(only(&reading).recorded_by_sender, by_sender, "{msh_7} {evn_2}");
    }
    assert!(has(&stamped(&profile(), arrival(), "20261121093015", "EVN|A01|20261121"), NoticeCode::UnusableClock));
    assert!(has(&stamped(&profile(), arrival(), "20261121093015", "EVN|A01|20271121000000"), NoticeCode::ClampedClock));
}

#[test]
fn a_feed_says_which_clock_to_trust() {
    let by_message = Profile { recorded_from: vec![RecordedFrom::Message], ..profile() };
    assert_eq!(stamped(&by_message, arrival(), "20261121093015-0500", EVN).recorded_at, at("2026-11-21T14:30:15Z"));
    let by_arrival = Profile { clock: FeedClock::Arrival, ..profile() };
    let reading = stamped(&by_arrival, arrival(), "20261121093015-0500", EVN);
    assert_eq!((reading.recorded_at, only(&reading).recorded_by_sender), (arrival().at, false));
}

#[test]
fn an_occurrence_later_than_its_own_record_is_ignored() {
    let reading = |evn_6: &str| stamped(&profile(), arrival(), "20261121093015-0500", &format!("EVN|A01|20261121092500||||{evn_6}"));
    assert_eq!(reading("20261121080000").occurred_at, Some(at("2026-11-21T13:00:00Z")));
    assert_eq!(reading("20261121092600").occurred_at, None);
}

#[test]
fn the_hour_that_comes_twice_is_read_as_nearest_before_arrival() {
    // On 2026-11-01 New York goes from -04:00 to -05:00 at 06:00 UTC.
    for (arrives, want) in [("2026-11-01T05:40:00Z", "2026-11-01T05:30:00Z"), ("2026-11-01T06:31:00Z", "2026-11-01T06:30:00Z")] {
        let arrival = Arrival { at: at(arrives), journal: JournalId(1) };
        assert_eq!(stamped(&profile(), arrival, "20261101013000", "EVN|A01|20261101013000").recorded_at, at(want), "{arrives}");
    }
    let arrival = Arrival { at: at("2026-11-01T07:00:00Z"), journal: JournalId(1) };
    let with_offset = stamped(&profile(), arrival, "20261101013000-0400", "EVN|A01|20261101013000");
    assert_eq!(with_offset.recorded_at, at("2026-11-01T05:30:00Z"));
}

#[test]
fn the_same_fact_has_the_same_hash_and_another_has_another() {
    let base = [MSH, EVN, PID, "PV1|1|I|4N^1^A"].join("\r");
    let hash = |text: &str| only(&reading_at(&profile(), arrival(), text)).hash;
    let same = hash(&base);
    assert_eq!(hash(&base.replace("|M1|", "|M2|").replace("093015", "094000")), same, "a new control id and a new time of sending");
    assert_eq!(hash(&base.replace('\r', "\n")), same, "other line ends");
    assert_eq!(hash(&(base.replace('\r', "\r\n") + "\r\n")), same, "other line ends");
    assert_ne!(hash(&base.replace("4N", "5S")), same);
    assert_ne!(hash(&base.replace("20261121093010", "20261121093011")), same, "recorded at another time");
    let unstamped = base.replace("|20261121093010", "|");
    assert_ne!(hash(&unstamped.replace("093015", "094000")), hash(&unstamped), "the time of sending stands in for the recorded time");
    let minute = base.replace("|20261121093010", "|202611210930");
    assert_ne!(hash(&minute.replace("093015", "093016")), hash(&minute), "and so do its seconds");
}
