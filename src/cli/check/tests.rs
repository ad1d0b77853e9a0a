use std::path::Path;

use super::CheckArgs;
use super::Probe;
use super::examine;
use crate::config::environment::Environment;
use crate::store::Store;
use crate::store::StoreOptions;
use crate::store::master_key::MasterKey;
use crate::time::Timestamp;

const FEED: &str = "[admin]\nlisten = \"127.0.0.1:0\"\n[[feeds]]\nname = \"main\"\nlisten = \"127.0.0.1:0\"\ntime_zone = \"UTC\"\n";

fn no_probes(_: &crate::config::Config) -> Vec<Probe> {
    Vec::new()
}

/// What `check` says of a configuration, with its folder taken out; and its exit code.
async fn check_with(folder: &Path, text: &str, offline: bool, probes: fn(&crate::config::Config) -> Vec<Probe>) -> (String, u8) {
    let file = folder.join("wardroom.toml");
    std::fs::write(&file, text).unwrap();
    let args = CheckArgs { offline };
    let report = examine(&args, Some(&file), &Environment::default(), Timestamp::from_micros(1_790_000_000_000_000), probes).await;
    (report.table(false).replace(&format!("{}/", folder.display()), ""), report.exit_code())
}

#[tokio::test]
async fn a_configuration_without_fault_is_fine() {
    let folder = tempfile::tempdir().unwrap();
    let (table, code) = check_with(folder.path(), FEED, false, no_probes).await;
    assert_eq!(code, 0);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("✓ ok  configuration"), "{table}");
    assert!(lines.iter().any(|line| line.ends_with("wardroom.db can be made")), "{table}");
    assert!(table.ends_with("\n0 wrong, 0 unreachable, 0 warnings\n"), "{table}");
}

#[tokio::test]
async fn what_is_wrong_is_64_with_every_line() {
    let folder = tempfile::tempdir().unwrap();
    let (table, code) = check_with(folder.path(), &format!("{FEED}ack_mod = 1\n[rooms]\nhandover = \"x\"\n"), true, no_probes).await;
    assert_eq!(code, 64);
    assert_eq!(table.split("  ").filter(|part| part.contains(':')).map(str::trim).collect::<Vec<_>>().len(), 4, "{table}");
    assert!(table.contains("feeds[0].ack_mod: unknown key; the nearest known key is `ack_mode`"), "{table}");
    assert!(table.ends_with("\n2 wrong, 0 unreachable, 0 warnings\n"), "{table}");
}

#[tokio::test]
async fn what_cannot_be_reached_is_69() {
    let folder = tempfile::tempdir().unwrap();
    // Bound and let go: nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!("{FEED}[publish]\nto = \"amqp\"\n[publish.amqp]\nurl = \"amqp://u:hunter2@127.0.0.1:{port}/\"\n");
    let (table, code) = check_with(folder.path(), &text, false, no_probes).await;
    assert_eq!(code, 69, "{table}");
    assert!(table.contains(&format!("✗ unreachable  publish        127.0.0.1:{port}: ")), "{table}");
    assert!(!table.contains("hunter2"));
    let (_, offline) = check_with(folder.path(), &text, true, no_probes).await;
    assert_eq!(offline, 0);
}

#[tokio::test]
async fn a_store_that_the_key_does_not_open_is_told_of_before_the_daemon_meets_it() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("wardroom.db").display());
    let master_key = MasterKey::load_or_create(&folder.path().join("wardroom.key")).unwrap();
    Store::open(StoreOptions { url: url.into(), master_key, readers: 1, daemon: 1 }).await.unwrap().close().await;
    let (table, code) = check_with(folder.path(), FEED, false, no_probes).await;
    assert_eq!(code, 0, "{table}");
    assert!(table.contains("and the key opens it"), "{table}");
    std::fs::remove_file(folder.path().join("wardroom.key")).unwrap();
    MasterKey::load_or_create(&folder.path().join("wardroom.key")).unwrap();
    let (table, code) = check_with(folder.path(), FEED, false, no_probes).await;
    assert_eq!(code, 64, "{table}");
    assert!(table.contains("✗ wrong  store") && table.contains("the key does not open this store"), "{table}");
}

#[tokio::test]
async fn a_key_that_cannot_be_made_or_read_is_told_of_before_there_is_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let with_key = |key: &str| format!("[store]\nkey = \"file:{key}\"\n{FEED}");
    let (table, code) = check_with(folder.path(), &with_key("missing/wardroom.key"), false, no_probes).await;
    assert!(
        code == 69 && table.contains("✗ unreachable  store          missing/wardroom.key: ") && table.contains("hint: make the folder"),
        "{table}"
    );
    std::fs::create_dir(folder.path().join("wardroom.key")).unwrap();
    let (table, code) = check_with(folder.path(), &with_key("wardroom.key"), false, no_probes).await;
    assert!(code == 64 && table.contains("✗ wrong  store") && table.contains("is a directory"), "{table}");
    assert!(!folder.path().join("wardroom.db").exists(), "nothing is made");
}

#[tokio::test]
async fn a_port_that_somebody_has_is_a_warning_where_that_may_be_the_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("wardroom.db").display());
    let master_key = MasterKey::load_or_create(&folder.path().join("wardroom.key")).unwrap();
    let daemon = Store::open(StoreOptions { url: url.into(), master_key, readers: 1, daemon: 1 }).await.unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let text = FEED.replace("listen = \"127.0.0.1:0\"\ntime", &format!("listen = \"{address}\"\ntime"));
    let (table, code) = check_with(folder.path(), &text, false, no_probes).await;
    assert!(code == 0 && table.contains(&format!("feed main      {address}: ")), "{table}");
    assert!(table.ends_with("\n0 wrong, 0 unreachable, 1 warning\n"), "{table}");
    daemon.close().await;
    drop(daemon);
    let (table, code) = check_with(folder.path(), &text, false, no_probes).await;
    assert!(code == 69 && table.contains("see what uses the port"), "no daemon has the store: {table}");
    let (table, code) = check_with(folder.path(), &format!("[store]\nurl = \"sqlite::memory:\"\n{text}"), false, no_probes).await;
    assert!(code == 0 && table.contains("1 warning\n"), "nobody can tell: {table}");
    drop(taken);
    let (table, _) = check_with(folder.path(), &text, false, no_probes).await;
    assert!(table.contains(&format!("{address} can be listened on")), "{table}");
}

#[tokio::test]
async fn probes_of_other_parts_are_asked() {
    let folder = tempfile::tempdir().unwrap();
    let probes =
        |_: &crate::config::Config| -> Vec<Probe> { vec![("broker".to_owned(), Box::pin(async { Err("refuses the password".to_owned().into()) }))] };
    let (table, code) = check_with(folder.path(), FEED, false, probes).await;
    assert_eq!(code, 69);
    assert!(table.contains("broker         refuses the password"), "{table}");
}

#[tokio::test]
async fn the_directory_is_looked_through() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("staff.csv"), "user,name,ids,groups,active\na,,EI:1,g4n spare,true\nb,,GHH/1,,true\n").unwrap();
    std::fs::write(
        folder.path().join("units.csv"),
        "facility,point_of_care,group,name,flags\nGHH,4N,g4n,4 North,\nGHH,PSY2,gpsy,Ward 2,\nGHH,7W,g7w,Detox,part2\n",
    )
    .unwrap();
    let text = format!("{FEED}[directory]\nstaff = \"staff.csv\"\nunits = \"units.csv\"\n");
    let (table, code) = check_with(folder.path(), &text, true, no_probes).await;
    assert_eq!(code, 0, "{table}");
    for expected in [
        "! warning  unit GHH/PSY2  looks like psychiatry, detox or forensic care and is not flagged\n",
        "hint: add the flag `sensitive` or `part2` in the units file\n",
        "! warning  unit PSY2      nobody active is in its group gpsy\n",
        "! warning  unit 7W        nobody active is in its group g7w\n",
        "! warning  group spare    is the team of no unit and no service\n",
        "! warning  directory      the id 1 fits a and b: it stands for none of them\n",
        "✓ ok       directory      2 members of staff, 3 units\n",
        "\n0 wrong, 0 unreachable, 5 warnings\n",
    ] {
        assert!(table.contains(expected), "{expected}\n{table}");
    }
    std::fs::write(folder.path().join("staff.csv"), "user,ids\na b,1\n").unwrap();
    let (table, code) = check_with(folder.path(), &text, true, no_probes).await;
    assert_eq!(code, 64);
    assert!(table.contains("staff.csv:2: the user is empty or holds a blank: write the name that the chat knows"), "{table}");
    std::fs::remove_file(folder.path().join("staff.csv")).unwrap();
    let (table, code) = check_with(folder.path(), &text, true, no_probes).await;
    assert_eq!(code, 64);
    assert!(table.contains("staff.csv cannot be read: No such file") && table.contains("\n1 wrong, 0 unreachable, 0 warnings\n"), "{table}");
    std::fs::write(folder.path().join("units.csv"), "facility,point_of_care,group\nGHH,,g4n\n").unwrap();
    let (table, _) = check_with(folder.path(), &text, true, no_probes).await;
    assert!(table.contains("staff.csv cannot be read") && table.contains("units.csv:2: the point of care is empty"), "{table}");
    std::fs::remove_file(folder.path().join("units.csv")).unwrap();
    let (table, _) = check_with(folder.path(), &text, true, no_probes).await;
    assert!(table.contains("staff.csv cannot be read") && table.contains("units.csv cannot be read"), "{table}");
    assert!(table.contains("\n2 wrong, 0 unreachable, 0 warnings\n"), "{table}");
}

#[tokio::test]
async fn space_that_the_daemon_would_not_take_messages_on_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let text = |min_free: &str| format!("[store]\nmin_free = \"{min_free}\"\n{FEED}");
    let (table, code) = check_with(folder.path(), &text("1B"), false, no_probes).await;
    assert!(code == 0 && table.contains("ok  disk") && table.contains("MiB are free, and `store.min_free` is 0 MiB"), "{table}");
    let (table, code) = check_with(folder.path(), &text("8000000GiB"), false, no_probes).await;
    assert!(code == 69 && table.contains("is 8192000000 MiB: no message would be taken\n"), "{table}");
    assert!(table.contains("hint: free some space on the volume of the store"), "{table}");
    let (table, code) = check_with(folder.path(), &text("0B"), false, no_probes).await;
    assert!(code == 0 && !table.contains("disk"), "{table}");
}

#[tokio::test]
async fn tls_files_are_a_pair_and_their_end_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, days: i64| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let (year, month, day) = if days > 0 { (2050, 1, 1) } else { (2001, 1, 1) };
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, month, day);
        std::fs::write(folder.path().join(format!("{name}.pem")), params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(folder.path().join(format!("{name}.key")), key.serialize_pem()).unwrap();
    };
    write("good", 1);
    write("old", 0);
    let tls = |certificate: &str, key: &str| format!("{FEED}[feeds.tls]\ncertificate = \"{certificate}.pem\"\nkey = \"{key}.key\"\n");
    let (table, code) = check_with(folder.path(), &tls("good", "good"), true, no_probes).await;
    assert!(code == 0 && table.contains("TLS of feed main  certificate and key fit; it ends at 2050-01-01T00:00:00Z"), "{table}");
    let (table, code) = check_with(folder.path(), &tls("old", "old"), true, no_probes).await;
    assert!(code == 64 && table.contains("the certificate ended at 2001-01-01T00:00:00Z"), "{table}");
    let (table, code) = check_with(folder.path(), &tls("good", "old"), true, no_probes).await;
    assert!(code == 64 && table.contains("do not make a pair"), "{table}");
    let (table, code) = check_with(folder.path(), &tls("gone", "away"), true, no_probes).await;
    assert!(code == 64 && table.contains("gone.pem cannot be read: ") && table.contains("away.key cannot be read: "), "{table}");
}

#[test]
fn colour_is_an_addition() {
    let mut report = super::Report::default();
    report.add(super::Finding::new(super::State::Wrong, "x", "is bad".to_owned()));
    assert!(report.table(true).contains("\u{1b}[31m✗ wrong\u{1b}[0m"));
    assert!(!report.table(false).contains('\u{1b}'));
}
