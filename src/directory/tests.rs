use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Directory;
use super::DirectoryError;
use super::Reloaded;
use super::Sources;
use super::change::Act;
use super::change::Change;
use super::change::Changes;
use super::change::StaffRecord;
use super::said::Said;
use crate::care::roster::Resolved;
use crate::ids::GroupId;
use crate::ids::HospitalService;
use crate::ids::StaffId;
use crate::time::ManualClock;
use crate::time::Timestamp;

const NOW: Timestamp = Timestamp::from_micros(1_795_271_402_000_000);

fn write_staff(folder: &Path, n: usize) {
    let mut text = "user,name,ids,groups,active\n".to_owned();
    for number in 0..n {
        writeln!(text, "user{number},,GHH/EI:D{number},g4n,true").unwrap();
    }
    std::fs::write(folder.join("staff.csv"), text).unwrap();
}

fn sources(folder: &Path) -> Sources {
    Sources { staff: Some(folder.join("staff.csv")), ..Sources::default() }
}

fn open(folder: &Path) -> Directory {
    let (directory, bad_lines) = Directory::open(sources(folder), Said::default(), NOW).unwrap();
    assert!(bad_lines.is_empty(), "{bad_lines:?}");
    directory
}

#[test]
fn a_change_grows_the_revision_and_the_same_does_not() {
    let folder = tempfile::tempdir().unwrap();
    write_staff(folder.path(), 10);
    let directory = open(folder.path());
    assert_eq!(directory.current().revision, 1);
    assert_eq!(directory.reload(NOW).unwrap(), Reloaded::Unchanged);
    write_staff(folder.path(), 12);
    assert_eq!(directory.reload(NOW).unwrap(), Reloaded::Changed { revision: 2, n_staff: 12 });
    assert_eq!(directory.current().roster.members(&GroupId::from("g4n")).count(), 12);
    let again = open(folder.path());
    assert_eq!(again.current().fingerprint, directory.current().fingerprint);
}

#[test]
fn more_than_a_fifth_gone_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write_staff(folder.path(), 10);
    let directory = open(folder.path());
    write_staff(folder.path(), 7);
    let error = directory.reload(NOW).unwrap_err();
    assert_eq!(
        error.to_string(),
        "3 of 10 in the staff file would be removed, more than a fifth\nhint: put the file right; if that is meant, restart wardroom"
    );
    assert_eq!(directory.current().roster.n_staff(), 10);
    write_staff(folder.path(), 8);
    assert_eq!(directory.reload(NOW).unwrap(), Reloaded::Changed { revision: 2, n_staff: 8 });
}

#[test]
fn what_cannot_be_read_leaves_the_old_one_standing() {
    let folder = tempfile::tempdir().unwrap();
    write_staff(folder.path(), 10);
    let directory = open(folder.path());
    let file = folder.path().join("staff.csv");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() - 12]).unwrap();
    assert!(matches!(directory.reload(NOW), Err(DirectoryError::BadLines { n_bad_lines: 1, .. })));
    std::fs::write(&file, "").unwrap();
    assert!(matches!(directory.reload(NOW), Err(DirectoryError::BadLines { .. })));
    std::fs::remove_file(&file).unwrap();
    let error = directory.reload(NOW).unwrap_err();
    assert!(error.is_transient() && error.to_string().ends_with("staff.csv cannot be read"), "{error}");
    assert_eq!((directory.current().revision, directory.current().roster.n_staff()), (1, 10));
}

#[test]
fn at_the_start_bad_lines_are_left_out_and_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("staff.csv"), "user,ids\na,1\nb,EI:\n").unwrap();
    let (directory, bad_lines) = Directory::open(sources(folder.path()), Said::default(), NOW).unwrap();
    assert_eq!((directory.current().roster.n_staff(), bad_lines.len()), (1, 1));
    std::fs::write(folder.path().join("staff.csv"), "nothing\n").unwrap();
    assert!(Directory::open(sources(folder.path()), Said::default(), NOW).is_err());
}

#[test]
fn without_a_staff_file_everybody_is_themselves() {
    let services = [(HospitalService::from("CAR"), GroupId::from("cardiology"))].into();
    let (directory, _) = Directory::open(Sources { include_unknown_staff: true, services, ..Sources::default() }, Said::default(), NOW).unwrap();
    let roster = directory.current().roster;
    assert!(matches!(roster.resolve_id(&StaffId::new("GHH", "EI", "D100")), Resolved::User(user) if user.as_str() == "GHH:D100"));
    assert_eq!(roster.service_group(&HospitalService::from("CAR")), Some(&GroupId::from("cardiology")));
}

/// What messages have said after they suspended a user of the files, under a version of the store.
fn suspended(user: &str, at: Option<Timestamp>, version: i64) -> Said {
    let change = Change::Staff { key: user.into(), act: Act::Suspend, record: StaffRecord::default() };
    let mut said = Said::default();
    said.apply(&Changes { changes: vec![(at, change)] }, NOW);
    said.under(version)
}

fn may_join(directory: &Directory, user: &str) -> bool {
    directory.current().roster.may_join(&user.into())
}

#[test]
fn what_messages_say_is_known_at_once_and_survives_a_reload_of_the_files() {
    let folder = tempfile::tempdir().unwrap();
    write_staff(folder.path(), 10);
    let directory = open(folder.path());
    let changes = directory.subscribe();
    directory.hear(suspended("user1", None, 1), NOW);
    assert!(changes.has_changed().unwrap());
    assert!(!may_join(&directory, "user1"));
    directory.hear(suspended("user2", None, 1), NOW);
    assert!(may_join(&directory, "user2"), "an older version is left aside");
    write_staff(folder.path(), 12);
    assert_eq!(directory.reload(NOW).unwrap(), Reloaded::Changed { revision: 3, n_staff: 12 });
    assert!(!may_join(&directory, "user1"));
    let (again, _) = Directory::open(sources(folder.path()), suspended("user1", None, 1), NOW).unwrap();
    assert_eq!(again.current().fingerprint, directory.current().fingerprint);
}

#[test]
fn what_messages_said_for_later_is_known_when_its_time_comes() {
    let folder = tempfile::tempdir().unwrap();
    write_staff(folder.path(), 10);
    let later = NOW.plus(Duration::from_hours(1));
    let (directory, _) = Directory::open(sources(folder.path()), suspended("user1", Some(later), 1), NOW).unwrap();
    let before = directory.current();
    directory.pass(NOW.plus(Duration::from_mins(59)));
    assert_eq!(directory.current().revision, 1);
    directory.pass(later);
    assert_eq!(directory.current().revision, 2);
    assert_ne!(directory.current().fingerprint, before.fingerprint);
    assert!(!may_join(&directory, "user1"));
}

#[tokio::test]
async fn a_changed_file_is_noticed_and_watching_ends_when_told() {
    let folder = tempfile::tempdir().unwrap();
    write_staff(folder.path(), 10);
    let directory = Arc::new(open(folder.path()));
    let mut changes = directory.subscribe();
    let stop = CancellationToken::new();
    let tasks = tokio_util::task::TaskTracker::new();
    tasks.spawn(Arc::clone(&directory).watch(Duration::from_millis(2), Arc::new(ManualClock::at(NOW)), stop.clone()));
    write_staff(folder.path(), 11);
    tokio::time::timeout(Duration::from_secs(20), changes.changed()).await.unwrap().unwrap();
    assert_eq!(changes.borrow().roster.n_staff(), 11);
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}
