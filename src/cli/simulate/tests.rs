use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use clap::Args as _;
use clap::Command;
use clap::FromArgMatches as _;

use super::SimulateArgs;
use super::line::Line;
use super::line::Plan;
use super::plan;
use crate::care::room::CareRoom;
use crate::care::room::RoomStatus;
use crate::cli::console::Console;
use crate::cli::setting::Setting;
use crate::cli::setting::feed;
use crate::config::Config;
use crate::config::environment::Environment;
use crate::intake::rehearsal::Rehearsal;
use crate::intake::rehearsal::Rehearsed;
use crate::store::rows::Disposition;
use crate::time::ManualClock;
use crate::time::SystemClock;
use crate::time::Timestamp;

fn parse(arguments: &str) -> SimulateArgs {
    let command = SimulateArgs::augment_args(Command::new("simulate").no_binary_name(true));
    SimulateArgs::from_arg_matches(&command.try_get_matches_from(arguments.split(' ')).unwrap()).unwrap()
}

fn messages(arguments: &str) -> Vec<String> {
    Line::new(&plan(&parse(arguments), &SystemClock)).map(|sent| sent.text).collect()
}

fn end(plan: &Plan) -> Timestamp {
    plan.start.plus(Duration::from_hours(24 * plan.n_days))
}

fn rehearsal() -> Rehearsal {
    let setting = Setting { config: Config::load(None, &Environment::default()).unwrap() };
    Rehearsal::new(feed(&setting.config.feeds[0]), setting.policy(), setting.roster().unwrap(), Timestamp::MIN)
}

/// Every message read and planned, under a clock that goes with them.
fn rehearse(arguments: &str) -> (Rehearsal, Vec<Rehearsed>) {
    let mut rehearsal = rehearsal();
    let mut all = Vec::new();
    for message in messages(arguments) {
        let message = Bytes::from(message);
        let recorded = rehearsal.recorded_at(&message).unwrap().max(rehearsal.now());
        rehearsal.move_to(recorded);
        all.extend(rehearsal.send(&message));
    }
    rehearsal.move_to(end(&plan(&parse(arguments), &SystemClock)));
    (rehearsal, all)
}

fn field(message: &str, segment: &str, n: usize) -> String {
    let line = message.split('\r').find(|line| line.starts_with(segment)).unwrap();
    line.split('|').nth(n).unwrap_or_default().to_owned()
}

#[test]
fn the_same_seed_gives_the_same_bytes_in_the_same_files() {
    let write = |arguments: &str| {
        let folder = tempfile::tempdir().unwrap();
        let arguments = format!("{arguments} --out {} --directory {}", folder.path().join("a").display(), folder.path().join("b").display());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(super::run(&parse(&arguments), &Console::plain(), &SystemClock)).unwrap();
        let mut files = BTreeMap::new();
        for path in ["a", "b"].iter().flat_map(|name| std::fs::read_dir(folder.path().join(name)).unwrap()).map(|entry| entry.unwrap().path()) {
            files.insert(path.file_name().unwrap().to_owned(), std::fs::read(&path).unwrap());
        }
        files
    };
    let once = write("--beds 20 --seed 7");
    assert!(once == write("--beds 20 --seed 7"), "two runs differ");
    assert!(once != write("--beds 20 --seed 8"), "the seed changes nothing");
    let contents: Vec<String> = once.values().map(|bytes| String::from_utf8(bytes.clone()).unwrap()).collect();
    let sent: Vec<&String> = contents.iter().filter(|text| text.starts_with("MSH")).collect();
    assert!(sent.into_iter().eq(&messages("--beds 20 --seed 7 --out x")), "the files do not sort in the order of sending");
}

#[test]
fn hospitals_of_two_seeds_share_no_number() {
    let numbers = |seed: u64| -> BTreeSet<String> {
        let messages = messages(&format!("--beds 20 --seed {seed} --out x"));
        let all = messages.iter().flat_map(|message| [("MSH", 9), ("PID", 3), ("PID", 18), ("PV1", 19)].map(|(segment, n)| (message, segment, n)));
        all.filter(|(message, segment, _)| message.contains(&format!("\r{segment}|")) || *segment == "MSH")
            .map(|(message, segment, n)| field(message, segment, n))
            .collect()
    };
    let (one, other, largest) = (numbers(1), numbers(37), numbers(u64::MAX));
    assert!(one.len() > 100 && one.is_disjoint(&other) && one.is_disjoint(&largest) && other.is_disjoint(&largest));
    let longest = largest.iter().map(|number| number.split('^').next().unwrap_or_default().len()).max();
    assert!(longest <= Some(20), "MSH-10 of HL7 2.5.1 holds twenty: {longest:?}");
}

#[test]
fn a_live_listener_is_told_of_days_that_end_yesterday() {
    let clock = ManualClock::at(Timestamp::from_micros(1_800_000_000_000_000));
    let plan = plan(&parse("--days 2 --to 127.0.0.1:2575"), &clock);
    assert_eq!((plan.start.to_string(), end(&plan).to_string()), ("2027-01-13T05:00:00Z".to_owned(), "2027-01-15T05:00:00Z".to_owned()));
}

#[test]
fn every_message_is_read_without_fault_and_the_day_ends_with_rooms_open() {
    let (rehearsal, all) = rehearse("--beds 40 --days 3 --seed 3 --cancels 0.2 --merges 0.3 --corrections 0.5 --late 0 --duplicates 0 --out x");
    for rehearsed in &all {
        let notices: Vec<_> = rehearsed.read.incoming.notices.iter().map(|notice| (notice.code.as_str(), notice.field.clone())).collect();
        let about = (rehearsed.read.incoming.trigger, rehearsed.verdict.reason);
        assert_eq!(rehearsed.verdict.disposition, Disposition::Applied, "{about:?}");
        assert_eq!(notices, [], "{about:?}");
    }
    let rooms = rehearsal.rooms();
    let n_open = rooms.iter().filter(|room| room.state.status == RoomStatus::Active).count();
    assert!(n_open >= 20, "{n_open} rooms are open");
    for status in [RoomStatus::Closed, RoomStatus::Grace, RoomStatus::Cancelled] {
        assert!(rooms.iter().any(|room| room.state.status == status), "no room is {}", status.as_str());
    }
    let triggers: BTreeSet<String> = all.iter().filter_map(|one| one.read.incoming.trigger.map(|trigger| trigger.to_string())).collect();
    let expected = ["A01", "A02", "A03", "A04", "A05", "A06", "A08", "A09", "A10", "A11", "A12", "A13", "A16", "A31", "A38", "A40", "A54"];
    assert!(expected.iter().all(|trigger| triggers.contains(*trigger)), "{triggers:?}");
}

#[test]
fn what_is_late_or_comes_twice_ends_in_the_same_rooms() {
    let (rehearsal, all) = rehearse("--beds 40 --days 2 --seed 11 --late 0.2 --duplicates 0.2 --out x");
    let n = |disposition| all.iter().filter(|one| one.verdict.disposition == disposition).count();
    assert_eq!(n(Disposition::Rejected), 0);
    assert!(n(Disposition::Duplicate) * 10 > all.len(), "{} of {} are duplicates", n(Disposition::Duplicate), all.len());
    let (in_order, _) = rehearse("--beds 40 --days 2 --seed 11 --late 0 --duplicates 0 --out x");
    let states = |rehearsal: &Rehearsal| {
        let state = |room: &CareRoom| {
            let users: Vec<_> = room.state.members.iter().map(|member| member.user.clone()).collect();
            (room.state.visit.id.0.value.as_str().to_owned(), room.state.status, format!("{:?}", room.state.location), users)
        };
        let mut states: Vec<_> = rehearsal.rooms().into_iter().filter(|room| room.state.status == RoomStatus::Active).map(state).collect();
        states.sort();
        states
    };
    assert_eq!(states(&rehearsal), states(&in_order), "the order of arrival decides what rooms there are");
    assert!(!states(&in_order).is_empty());
}

#[test]
fn records_are_stamped_in_order_and_numbered_once() {
    let messages = messages("--beds 60 --days 2 --late 0 --duplicates 0 --out x");
    let recorded: Vec<String> = messages.iter().map(|message| field(message, "EVN", 2)).collect();
    assert!(recorded.windows(2).all(|pair| pair[0] < pair[1]), "EVN-2 does not grow");
    let controls: BTreeSet<String> = messages.iter().map(|message| field(message, "MSH", 9)).collect();
    assert_eq!(controls.len(), messages.len());
    for merge in messages.iter().filter(|message| message.contains("ADT^A40")) {
        assert!(field(merge, "MRG", 1).starts_with('T'), "{merge}");
    }
}
