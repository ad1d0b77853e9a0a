//! What another configuration would change in the rooms now open, told beside the daemon, and that the daemon does just that when it starts with it.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;

use serde_json::Value;
use serde_json::json;
use wardroom::store::Store;
use wardroom::store::StoreOptions;
use wardroom::store::master_key::MasterKey;

use super::support::daemon::Daemon;
use super::support::daemon::program;
use super::support::peer::Peer;
use super::support::peer::Plain;

/// Only the attending, and names without the bed.
const NARROWER: &str = "[rooms]\nname = \"{{ unit }} {{ code }}\"\n[[team]]\nrole = \"attending\"\nfrom = [\"PV1-7\"]\npermission = \"owner\"\n";

/// Writes a configuration beside the daemon's that says this too, and plans with it: the exit code, what it printed, and what it said.
fn plan(daemon: &Daemon, more: &str, arguments: &[&str]) -> (i32, String, String) {
    let text = fs::read_to_string(daemon.path("wardroom.toml")).unwrap();
    fs::write(daemon.path("new.toml"), format!("{text}\n{more}")).unwrap();
    let output = program(&daemon.dir).args(["plan", "--config", "new.toml"]).args(arguments).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// The changes of each room that would change, by its id, in the order of kinds and users.
fn changes(rooms: &[(String, Value)]) -> Vec<(String, Vec<String>)> {
    let sorted = |changes: &Value| {
        let mut lines: Vec<String> = changes.as_array().unwrap().iter().map(Value::to_string).collect();
        lines.sort();
        lines
    };
    let mut all: Vec<(String, Vec<String>)> = rooms.iter().map(|(id, changes)| (id.clone(), sorted(changes))).collect();
    all.sort();
    all
}

#[tokio::test]
async fn what_the_guard_would_hold_back_is_told() {
    let daemon = Daemon::start("").await;
    let mut peer = Peer::connect(daemon.mllp).await;
    for number in 6101..=6112 {
        assert!(peer.ask(Plain::new(format!("P{number}"), "A01", number, "4N", 1).text()).await.starts_with("AA"));
    }
    let nobody = "[rooms]\nclasses = [\"E\"]\n";
    let (code, printed, said) = plan(&daemon, nobody, &[]);
    assert_eq!(code, 1, "{said}");
    assert!(printed.contains("12 would close") && printed.contains("the guard lets 10 go; the other 2"), "{printed}");
    let (_, printed, _) = plan(&daemon, nobody, &["--json"]);
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap()["held_by_the_guard"], 2);
    let (_, printed, _) = plan(&daemon, "[rooms]\nclasses = [\"E\"]\nmass_guard = false\n", &["--json"]);
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap()["held_by_the_guard"], 0);
}

#[tokio::test]
async fn another_configuration_is_planned_beside_the_daemon_which_then_does_just_that() {
    let mut daemon = Daemon::start("").await;
    let mut peer = Peer::connect(daemon.mllp).await;
    for (number, unit) in [(6001, "4N"), (6002, "5S"), (6003, "PSY")] {
        assert!(peer.ask(Plain::new(format!("P{number}"), "A01", number, unit, 1).text()).await.starts_with("AA"));
        daemon.room_is(&format!("V{number}"), "open", |room| room["status"] == "active").await;
    }
    let n_before = daemon.events().len();

    let (code, printed, said) = plan(&daemon, "", &[]);
    assert_eq!((code, printed.as_str()), (0, "0 rooms of 3 would change\n"), "{said}");
    let (code, printed, _) = plan(&daemon, NARROWER, &[]);
    assert_eq!(code, 1);
    let lines: Vec<&str> = printed.lines().collect();
    assert!(lines[0].starts_with("change  room ") && lines[1].starts_with("leave   4N 12-A "), "{printed}");
    assert!(lines[1].ends_with("  nurse.4n.1 (unit), nurse.4n.2 (unit)") && lines[4].starts_with("name    4N 12-A "), "{printed}");
    assert!(lines[4].contains(" → 4N "), "{printed}");
    assert_eq!(lines.last().unwrap(), &"3 rooms of 3 would change: 4 leaves", "in the third nobody was by the unit");
    let (code, printed, _) = plan(&daemon, NARROWER, &["--json"]);
    let planned: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((code, &planned["open"], &planned["changed"], &planned["joins"], &planned["leaves"]), (1, &json!(3), &json!(3), &json!(0), &json!(4)));

    // A class that gets no room any more, and staff who are gone.
    let (code, printed, _) = plan(&daemon, "[rooms]\nclasses = [\"E\"]\n", &[]);
    assert!(code == 1 && printed.contains("closes  4N 12-A ") && printed.contains("active → cancelled"), "{printed}");
    assert!(printed.contains("3 rooms of 3 would change: ") && printed.ends_with(", 3 would close\n"), "{printed}");
    let staff = fs::read_to_string(daemon.path("staff.csv")).unwrap();
    fs::write(daemon.path("staff2.csv"), staff.replace("GHH/EI:N401,nurse.4n,true", "GHH/EI:N401,nurse.5s,true")).unwrap();
    let text = fs::read_to_string(daemon.path("wardroom.toml")).unwrap();
    fs::write(daemon.path("new.toml"), text.replace("staff.csv", "staff2.csv")).unwrap();
    let output = program(&daemon.dir).args(["plan", "--config", "new.toml"]).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("  nurse.4n.1 (unit)\njoin ") && printed.ends_with("2 rooms of 3 would change: 1 join, 1 leave\n"), "{printed}");

    fs::write(daemon.path("staff2.csv"), staff.lines().filter(|line| !line.starts_with("lgarcia")).collect::<Vec<_>>().join("\n")).unwrap();
    let units = fs::read_to_string(daemon.path("units.csv")).unwrap();
    let renamed = units.lines().map(|line| if line.contains(",4N,") { "GHH,4N,nurse.4n,Four North and a half," } else { line });
    fs::write(daemon.path("units2.csv"), renamed.collect::<Vec<_>>().join("\n")).unwrap();
    fs::write(daemon.path("new.toml"), text.replace("staff.csv", "staff2.csv").replace("units.csv", "units2.csv")).unwrap();
    let output = program(&daemon.dir).args(["plan", "--config", "new.toml"]).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("→ Four North and a half"), "{printed}");
    assert!(printed.contains("1 person whom messages name and the staff directory does not know"), "{printed}");

    let (code, _, said) = plan(&daemon, "[rooms]\nhandover = \"soon\"\n", &[]);
    assert!(code == 64 && said.contains("new.toml"), "{said}");
    assert_eq!(daemon.events().len(), n_before, "nothing of that published anything");

    // The daemon does the same when it starts with it.
    drop(peer);
    assert!(daemon.terminate().await.success());
    fs::write(daemon.path("wardroom.toml"), format!("{text}\n{NARROWER}")).unwrap();
    daemon.up().await;
    for number in [6001, 6002, 6003] {
        daemon.room_is(&format!("V{number}"), "narrower", |room| !room["name"].as_str().unwrap().contains("12-A")).await;
    }
    let published: Vec<(String, Value)> = daemon
        .events()
        .split_off(n_before)
        .into_iter()
        .map(|event| (event["subject"].as_str().unwrap().to_owned(), event["data"]["changes"].clone()))
        .collect();
    let foreseen: Vec<(String, Value)> =
        planned["rooms"].as_array().unwrap().iter().map(|room| (room["room"].as_str().unwrap().to_owned(), room["changes"].clone())).collect();
    assert_eq!(changes(&published), changes(&foreseen));
    let output = program(&daemon.dir).arg("plan").output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stdout).unwrap().as_str()), (Some(0), "0 rooms of 3 would change\n"));
    assert!(daemon.terminate().await.success());
    who_looked_is_written_down(&daemon).await;
}

async fn who_looked_is_written_down(daemon: &Daemon) {
    let url = format!("sqlite:{}", daemon.path("wardroom.db").display()).into();
    let options = StoreOptions { url, master_key: MasterKey::load(&daemon.path("wardroom.key")).unwrap(), readers: 1, daemon: 0 };
    let store = Store::open_read_only(options).await.unwrap();
    let rows = store.audit_page(None, i64::MIN, 1000).await.unwrap();
    let bodies = rows.iter().filter(|row| row.kind == "rooms.viewed").filter_map(|row| row.body.as_ref());
    let viewed: Vec<Value> = bodies.map(|body| serde_json::from_slice(&body.bytes).unwrap()).collect();
    let seen: Vec<usize> = viewed.iter().filter(|view| view["command"] == "plan").map(|view| view["rooms"].as_array().map_or(0, Vec::len)).collect();
    assert_eq!(seen, [0, 3, 3, 3, 2, 3, 0]);
    store.close().await;
}
