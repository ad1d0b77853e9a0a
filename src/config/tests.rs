use std::path::Path;

use proptest::prelude::any;
use proptest::prelude::proptest;
use secrecy::ExposeSecret;

use super::Config;
use super::RawConfig;
use super::default_toml;
use super::environment::Environment;
use super::schema;
use crate::care::policy::Policy;
use crate::care::policy::TeamSource;

const FEED: &str = "[[feeds]]\nname = \"main\"\nlisten = \"127.0.0.1:2575\"\ntime_zone = \"America/New_York\"\n";

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, super::ConfigErrors> {
    Config::from_text(text, Some(Path::new("/nowhere/wardroom.toml")), &environment.iter().copied().collect())
}

/// What is wrong with a file and an environment, word for word, each on its line.
#[track_caller]
fn check_with(text: &str, environment: &[(&str, &str)], expected: &[&str]) {
    let errors = load(text, environment).err().map_or_else(Vec::new, |errors| errors.0);
    let shown: Vec<String> = errors.iter().map(|problem| problem.to_string().replace("/nowhere/", "")).collect();
    assert_eq!(shown, expected, "{text}");
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    check_with(text, &[], expected);
}

/// One more line in the feed, which is line 5.
#[track_caller]
fn check_feed(line: &str, expected: &[&str]) {
    check(&format!("{FEED}{line}\n"), expected);
}

#[test]
fn the_default_file_equals_the_defaults() {
    let (tree, errors) = super::tree::read(default_toml());
    assert!(errors.is_empty());
    let read: RawConfig = serde_json::from_value(tree.to_json()).unwrap();
    let mut read = serde_json::to_value(read).unwrap();
    let mut defaults = serde_json::to_value(RawConfig::default()).unwrap();
    let mut feed = serde_json::to_value(super::feeds::RawFeed::default()).unwrap();
    for (key, example) in
        [("name", "main"), ("listen", "127.0.0.1:2575"), ("facility", "GHH"), ("time_zone", "America/New_York"), ("authority", "GHH")]
    {
        feed[key] = example.into();
    }
    defaults["feeds"] = vec![feed].into();
    // The rules are compared as a policy below: no rule at all means the same as these.
    read["team"] = serde_json::json!([]);
    assert_eq!(read, defaults);
}

#[test]
fn the_default_file_has_the_default_policy() {
    let config = Config::from_text(default_toml(), None, &Environment::default()).unwrap();
    assert_eq!(format!("{:?}", config.policy), format!("{:?}", Policy::default()));
    let without_rules = load(FEED, &[]).unwrap();
    assert_eq!(format!("{:?}", without_rules.policy), format!("{:?}", Policy::default()));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert!(config.directory.include_unknown_staff);
}

#[test]
fn the_default_file_names_every_key() {
    fn names(schema: &serde_json::Value, into: &mut Vec<String>) {
        if let Some(properties) = schema.get("properties").and_then(|properties| properties.as_object()) {
            into.extend(properties.keys().cloned());
        }
        for inner in schema.as_object().into_iter().flat_map(|object| object.values()) {
            names(inner, into);
        }
    }
    let mut all = Vec::new();
    names(&schema(), &mut all);
    assert!(all.len() > 60, "{all:?}");
    let missing: Vec<_> = all.into_iter().filter(|name| !default_toml().contains(name.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_key_is_described() {
    let schema = schema();
    let definitions = schema["$defs"].as_object().unwrap().values().chain([&schema]);
    let mut bare = Vec::new();
    for (key, property) in definitions.filter_map(|definition| definition.get("properties")?.as_object()).flatten() {
        let referred = property.get("$ref").or_else(|| property.get("items")?.get("$ref")).and_then(|name| name.as_str());
        let target = referred.and_then(|name| schema.pointer(name.trim_start_matches('#')));
        if property.get("description").or_else(|| target?.get("description")).is_none() {
            bare.push(key);
        }
    }
    assert!(bare.is_empty(), "{bare:?}");
}

#[test]
fn everything_wrong_is_said_at_once_with_its_line() {
    check(
        "[store]\nurl = \"mysql:x\"\n[[feeds]]\nname = \"main\"\nlisten = \"here\"\nack_mod = \"auto\"\nmax_frame = 8\nack_mode = \"maybe\"\ntime_zone = \"UTC\"\n[rooms]\nhandover = \"soon\"\n",
        &[
            "wardroom.toml:2: store.url: must begin with `sqlite:` or `postgres://`",
            "wardroom.toml:5: feeds[0].listen: must be an IP address and a port, such as `127.0.0.1:2575` or `[::1]:2575`",
            "wardroom.toml:6: feeds[0].ack_mod: unknown key; the nearest known key is `ack_mode`",
            "wardroom.toml:7: feeds[0].max_frame: must be a string, not an integer",
            "wardroom.toml:8: feeds[0].ack_mode: must be one of `auto`, `original`, `enhanced`, `none`",
            "wardroom.toml:11: rooms.handover: must be a duration such as `10s`, `60m`, `1h30m` or `7d`",
        ],
    );
}

#[test]
fn what_is_not_toml_says_where_and_quotes_nothing() {
    let errors = load("[store]\nkey = \"hunter2\nurl = 1\n", &[]).unwrap_err();
    let shown = errors.to_string();
    assert!(shown.starts_with("/nowhere/wardroom.toml:2: is not TOML: "), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    check("feeds = 3\n", &["wardroom.toml:1: feeds: must be a list, not an integer"]);
    check(&format!("rooms = true\n{FEED}"), &["wardroom.toml:1: rooms: must be a table, not a boolean"]);
    check_feed("processing_ids = [1]", &["wardroom.toml:5: feeds[0].processing_ids[0]: must be a string, not an integer"]);
    check_feed("adopt_on_update = \"yes\"", &["wardroom.toml:5: feeds[0].adopt_on_update: must be true or false, not a string"]);
    check_feed("dedupe_days = 0", &["wardroom.toml:5: feeds[0].dedupe_days: must be between 1 and 3650"]);
    check_feed("dedupe_days = 1.5", &["wardroom.toml:5: feeds[0].dedupe_days: must be an integer, not another number"]);
    check_feed("dedupe_days = 99999999999999999999", &["wardroom.toml:5: feeds[0].dedupe_days: must be an integer, not another number"]);
    check(&format!("[room]\n{FEED}"), &["wardroom.toml:1: room: unknown key; the nearest known key is `rooms`"]);
}

#[test]
fn a_feed_is_needed_and_has_a_name_of_its_own() {
    check("feeds = []", &["wardroom.toml:1: feeds: at least one feed is needed\n  hint: add `[[feeds]]` with a `name` and a `listen` address"]);
    check(
        "[[feeds]]\ntime_zone = \"UTC\"\n",
        &[
            "wardroom.toml:1: feeds[0].listen: must be an IP address and a port, such as `127.0.0.1:2575` or `[::1]:2575`",
            "wardroom.toml:1: feeds[0].name: is required: letters, digits, `-`, `_` and `.`",
        ],
    );
    check(
        &format!("{FEED}[[feeds]]\nname = \"main\"\nlisten = \"127.0.0.1:2576\"\n"),
        &["wardroom.toml:6: feeds[1].name: is the name of an earlier feed too"],
    );
}

#[test]
fn an_address_is_used_once() {
    check(&format!("[admin]\nlisten = \"127.0.0.1:2575\"\n{FEED}"), &["wardroom.toml:2: admin.listen: is the address of feeds[0].listen too"]);
    check(
        &format!("{FEED}[[feeds]]\nname = \"other\"\nlisten = \"0.0.0.0:2575\"\nallow_plaintext = true\n"),
        &["wardroom.toml:7: feeds[1].listen: is the address of feeds[0].listen too"],
    );
    check("[[feeds]]\nname = \"a\"\nlisten = \"127.0.0.1:0\"\n[[feeds]]\nname = \"b\"\nlisten = \"127.0.0.1:0\"\n", &[]);
}

#[test]
fn patient_data_in_the_clear_stays_on_this_machine() {
    let feed = "[[feeds]]\nname = \"main\"\nlisten = \"0.0.0.0:2575\"\n";
    check(
        feed,
        &[
            "wardroom.toml:3: feeds[0].listen: is outside loopback and would take patient data in the clear\n  hint: add `[feeds.tls]`, or set `allow_plaintext = true` where something else protects the line",
        ],
    );
    check(&format!("{feed}allow_plaintext = true\n"), &[]);
    check(
        &format!("[admin]\nlisten = \"[::]:8575\"\n[[admin.tokens]]\nname = \"ops\"\ntoken = \"hunter2-hunter2-hunter2\"\n{FEED}"),
        &[
            "wardroom.toml:2: admin.listen: is outside loopback, and its tokens would go in the clear\n  hint: add `[admin.tls]`, listen on 127.0.0.1, or give no tokens",
        ],
    );
}

#[test]
fn tls_files_are_there() {
    check(
        &format!("{FEED}[feeds.tls]\ncertificate = \"server.pem\"\n"),
        &[
            "wardroom.toml:5: feeds[0].tls.key: must name a file",
            "wardroom.toml:6: feeds[0].tls.certificate: server.pem cannot be read: No such file or directory (os error 2)",
        ],
    );
}

#[test]
fn the_rules_of_a_feed() {
    check_feed("visit_id = [\"PV1-18\"]", &["wardroom.toml:5: feeds[0].visit_id[0]: must be one of `PV1-19`, `PID-18`, `PV1-50`"]);
    check_feed("visit_id = []", &["wardroom.toml:5: feeds[0].visit_id: must hold one or more of `PV1-19`, `PID-18`, `PV1-50`"]);
    check_feed("visit_id = [\"PV1-19\", \"PV1-19\"]", &["wardroom.toml:5: feeds[0].visit_id[1]: stands in the list twice"]);
    check_feed(
        "time_zones = { S = \"Mars\" }",
        &["wardroom.toml:5: feeds[0].time_zones.S: must be a time zone of the IANA database, such as `America/New_York`"],
    );
    check_feed("processing_ids = [\"X\"]", &["wardroom.toml:5: feeds[0].processing_ids: must hold one or more of `P`, `T`, `D`"]);
    check_feed("max_frame = \"1B\"", &["wardroom.toml:5: feeds[0].max_frame: must be between `1KiB` and `1GiB`"]);
    check_feed("max_connections = 0", &["wardroom.toml:5: feeds[0].max_connections: must be between 1 and 65535"]);
    check_feed("max_connections_per_address = 70000", &["wardroom.toml:5: feeds[0].max_connections_per_address: must be between 1 and 65535"]);
    check_feed("commit_timeout = \"0s\"", &["wardroom.toml:5: feeds[0].commit_timeout: must be longer than nothing"]);
    check_feed("recorded_from = [\"EVN-6\"]", &["wardroom.toml:5: feeds[0].recorded_from[0]: must be one of `EVN-2`, `MSH-7`"]);
    check_feed("location_from = [\"A1\"]", &["wardroom.toml:5: feeds[0].location_from[0]: must be a trigger event such as `A08`"]);
    check_feed("event_map = { A08 = \"drop\" }", &["wardroom.toml:5: feeds[0].event_map.A08: must be a trigger event such as `A08` for another"]);
    check_feed("class_map = { OBS = \"\" }", &["wardroom.toml:5: feeds[0].class_map.OBS: must be a class such as `I`, `E` or `O`"]);
    check_feed("vip_map = { V = \"secret\" }", &["wardroom.toml:5: feeds[0].vip_map.V: must be one of `normal`, `restricted`, `very_restricted`"]);
    check_feed(
        "charset = \"KLINGON\"",
        &["wardroom.toml:5: feeds[0].charset: must be a character set of table 0211, such as `UNICODE UTF-8` or `8859/1`"],
    );
    check_feed(
        "empty_clears = [\"PV1-9 on A8\"]",
        &["wardroom.toml:5: feeds[0].empty_clears[0]: must be a field such as `PV1-9`, or a field on trigger events such as `PV1-9 on A08,A61`"],
    );
    check_feed(
        "source_until = \"soon\"",
        &["wardroom.toml:5: feeds[0].source_until: must be a time such as `2026-11-21T06:00:00-05:00`, or without the offset"],
    );
    check_feed(
        "senders = [{}]",
        &["wardroom.toml:5: feeds[0].senders[0]: must say something: `application`, `facility`, `certificate` or `addresses`"],
    );
    check_feed(
        "senders = [{ certificate = \"emr\" }]",
        &["wardroom.toml:5: feeds[0].senders[0].certificate: needs `tls.client_ca`: without it no client shows a certificate"],
    );
    check_feed(
        "senders = [{ addresses = [\"10/8\"] }]",
        &["wardroom.toml:5: feeds[0].senders[0].addresses[0]: must be an IP address or a range such as `10.1.0.0/16`"],
    );
    check_feed(
        "z = [{ path = \"ZTM\" }]",
        &[
            "wardroom.toml:5: feeds[0].z[0].path: must be a segment and a field, such as `ZTM-3`",
            "wardroom.toml:5: feeds[0].z[0].role: is required: as what do they belong?",
        ],
    );
}

#[test]
fn what_a_feed_may_say_is_read() {
    let text = format!(
        "{FEED}charset = \"8859/1\"\nempty_clears = [\"PV1-9 on A08, A61\", \"PV1-8\"]\nsource_until = 2026-11-21T06:00:00\nevent_map = {{ A08 = \"A02\" }}\n\
         class_map = {{ \"AM admit\" = \"I\" }}\nrole_map = {{ rn = \"nurse\" }}\nvip_map = {{ V = \"very_restricted\" }}\nstrictness = \"pam\"\nowner = [\"team\"]\nauthority = \"ghh\"\n"
    );
    let config = load(&text, &[]).unwrap();
    let reading = &config.feeds[0].profile;
    assert_eq!(config.feeds[0].profile.source_until.unwrap().to_string(), "2026-11-21T11:00:00Z");
    assert_eq!(format!("{:?}", reading.event_map), "{A08: A02}");
    assert_eq!(format!("{:?}", reading.class_map), "{\"AM ADMIT\": PatientClass(\"I\")}");
    assert_eq!(format!("{:?}", reading.role_map), "{\"RN\": Role(\"nurse\")}");
    assert_eq!(format!("{:?}", reading.vip_map), "{\"V\": VeryRestricted}");
    assert_eq!(format!("{:?}", reading.empty_clears[0].triggers), "[A08, A61]");
    assert!(reading.strict && reading.refuses_unsupported());
    assert_eq!(reading.authority.as_str(), "GHH");
    assert_eq!(config.feeds[0].max_frame_bytes, 8 << 20);
}

#[test]
fn feeds_agree_where_a_visit_is_folded_once() {
    check(
        &format!(
            "{FEED}owner = [\"team\"]\n[[feeds]]\nname = \"b\"\nlisten = \"127.0.0.1:2576\"\nadopt_on_update = false\nowner = [\"location\", \"team\"]\n"
        ),
        &[
            "wardroom.toml:9: feeds[1].adopt_on_update: differs from that of the first feed: a visit is folded once for all feeds",
            "wardroom.toml:10: feeds[1].owner[1]: is owned by an earlier feed: one feed's word can count",
        ],
    );
    let config = load(&format!("{FEED}adopt_on_update = false\nreopen_on_update = true\n"), &[]).unwrap();
    assert!(!config.policy.adopt_on_update && config.policy.reopen_on_update && config.policy.reopen_on_admit);
}

#[test]
fn the_rules_of_rooms() {
    let check_rooms = |line: &str, expected: &str| check(&format!("{FEED}[rooms]\n{line}\n"), &[expected]);
    check_rooms("classes = []", "wardroom.toml:6: rooms.classes: is empty and there is no `when`: no stay would get a room");
    check_rooms("name = \"{{ place }}\"", "wardroom.toml:6: rooms.name: must contain `{{ code }}`, so that no two rooms share a name");
    check_rooms("max_age = { E = \"0d\" }", "wardroom.toml:6: rooms.max_age.E: must be longer than nothing");
    check_rooms("very_restricted = \"all\"", "wardroom.toml:6: rooms.very_restricted: must be one of `explicit`, `none`");
    check_rooms(
        "when = \"age > 3\"",
        "wardroom.toml:6: rooms.when: asks for `age`, which is none of `class`, `facility`, `point_of_care`, `room`, `bed`, `service`, `status`, `confidentiality`, `admitted`, `has_bed`",
    );
    let config = load(&format!("{FEED}[rooms]\nwhen = \"has_bed\"\nmax_age = {{ E = \"24h\" }}\n"), &[]).unwrap();
    assert!(config.policy.when.is_some());
    assert_eq!(config.policy.max_age.default, Policy::default().max_age.default);
}

#[test]
fn the_rules_of_the_team() {
    let check_team = |lines: &str, expected: &[&str]| check(&format!("{FEED}[[team]]\n{lines}\n"), expected);
    check_team(
        "permission = \"boss\"",
        &[
            "wardroom.toml:5: team[0].from: is required: where do they come from?",
            "wardroom.toml:5: team[0].role: is required: as what do they belong?",
            "wardroom.toml:6: team[0].permission: must be one of `owner`, `member`, `observer`",
        ],
    );
    check_team(
        "role = \"a\"\nfrom = [\"PV1-5\"]\nonly_without = \"b\"",
        &[
            "wardroom.toml:7: team[0].from[0]: must be one of `PV1-7`, `PV1-8`, `PV1-9`, `PV1-17`, `PV1-52`, `PD1-4`, `ROL:CODE`, `PRT:CODE`, `ROL:*`, `unit`, `service`",
            "wardroom.toml:8: team[0].only_without: must be the role of another rule",
        ],
    );
    check_team(
        "role = \"a\"\nfrom = [\"unit\"]\n[[team]]\nrole = \"a\"\nfrom = [\"unit\"]",
        &[
            "wardroom.toml:9: team[1].role: is the role of team[0] too\n  hint: one rule can take people from several places: `from` is a list",
            "wardroom.toml:10: team[1].from[0]: is taken by team[0] already",
        ],
    );
    check_team("role = \"a\"\nfrom = [\"unit\"]\nwhen = \"has_bed\"\n[[team]]\nrole = \"b\"\nfrom = [\"unit\"]\nwhen = \"!has_bed\"", &[]);
    let config =
        load(&format!("{FEED}[[team]]\nrole = \"nurse\"\nfrom = [\"ROL:rn\", \"PRT:RN\", \"service\"]\npermission = \"observer\"\n"), &[]).unwrap();
    assert_eq!(config.policy.team.len(), 1);
    assert_eq!(config.policy.team[0].from, [TeamSource::Assignment("RN".to_owned()), TeamSource::Service]);
}

#[test]
fn variables_override_and_unknown_ones_are_named() {
    let config = load(
        FEED,
        &[
            ("WARDROOM_ROOMS__HANDOVER", "90m"),
            ("WARDROOM_FEEDS__0__LISTEN", "127.0.0.1:2600"),
            ("WARDROOM_FEEDS__0__FACILITY", "7"),
            ("WARDROOM_FEEDS__0__CLASS_MAP__OBS", "O"),
            ("WARDROOM_FEEDS__1__NAME", "second"),
            ("WARDROOM_FEEDS__1__LISTEN", "127.0.0.1:2601"),
            ("WARDROOM_ROOMS__CLASSES", "I, O"),
            ("WARDROOM_ROOMS__DAY_CLASSES", "[\"O\"]"),
            ("WARDROOM_ROOMS__PUBLISH_EXPECTED", "true"),
            ("WARDROOM_SERVICE_HOST", "10.0.0.1"),
            ("WARDROOM_LOG", "debug"),
            ("OTHER__THING", "x"),
        ],
    )
    .unwrap();
    assert_eq!(config.policy.handover.as_secs(), 5400);
    assert_eq!(config.feeds[0].listen.port(), 2600);
    assert_eq!(config.feeds[0].profile.facility.as_str(), "7");
    assert_eq!(config.feeds[0].profile.class_map["OBS"].as_str(), "O");
    assert_eq!(config.feeds[1].name.as_str(), "second");
    assert_eq!(config.policy.classes.iter().map(crate::ids::PatientClass::as_str).collect::<Vec<_>>(), ["I", "O"]);
    assert_eq!(config.policy.day_classes.len(), 1);
    assert!(config.policy.publish_expected);
    check_with(
        FEED,
        &[
            ("WARDROOM_ROOMS__HANDOVR", "90m"),
            ("WARDROOM_ROOMS__HANDOVER", "later"),
            ("WARDROOM_FEEDS__MAIN__LISTEN", "x"),
            ("WARDROOM_FEEDS__3__NAME", "x"),
            ("WARDROOM_ROOMS__PUBLISH_EXPECTED", "maybe"),
            ("WARDROOM_STORE__URL__X", "y"),
        ],
        &[
            "WARDROOM_FEEDS__3__NAME: feeds[3]: leaves a gap: the next entry is number 1",
            "WARDROOM_FEEDS__MAIN__LISTEN: feeds.MAIN: is a list: its entries are numbered from 0",
            "WARDROOM_ROOMS__HANDOVER: rooms.handover: must be a duration such as `10s`, `60m`, `1h30m` or `7d`",
            "WARDROOM_ROOMS__HANDOVR: rooms.handovr: unknown key; the nearest known key is `handover`",
            "WARDROOM_ROOMS__PUBLISH_EXPECTED: rooms.publish_expected: must be true or false, not a string",
            "WARDROOM_STORE__URL__X: store.url.x: unknown key",
        ],
    );
}

#[test]
fn variables_also_override_the_built_in_defaults() {
    let environment = [("WARDROOM_FEEDS__0__LISTEN", "nowhere")].into_iter().collect();
    let errors = Config::from_text(default_toml(), None, &environment).unwrap_err().to_string();
    assert_eq!(errors, "WARDROOM_FEEDS__0__LISTEN: feeds[0].listen: must be an IP address and a port, such as `127.0.0.1:2575` or `[::1]:2575`");
}

#[test]
fn secrets_come_from_files_and_variables_and_are_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "hunter2-hunter2-hunter2\r\n").unwrap();
    let file = folder.path().join("wardroom.toml");
    let text = format!(
        "[store]\nurl = \"env:STORE\"\nkey = \"aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMmh1bnQ=\"\n[publish]\nto = \"amqp\"\n[publish.amqp]\nurl = \"amqp://u:hunter2@127.0.0.1/\"\n\
         [[admin.tokens]]\nname = \"ops\"\ntoken = \"file:token\"\n{FEED}"
    );
    let environment: Environment = [("STORE", "postgres://u:hunter2@db.example/wardroom")].into_iter().collect();
    let config = Config::from_text(&text, Some(&file), &environment).unwrap();
    assert_eq!(config.admin.tokens[0].token.expose_secret(), "hunter2-hunter2-hunter2");
    let shown = format!("{config:?} {config:#?} {environment:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("aHVudGVy"), "{shown}");
    assert!(shown.contains("db.example"));
}

#[test]
fn errors_about_secrets_do_not_quote_them() {
    let hunter = "hunter2";
    let errors = load(
        &format!(
            "[store]\nurl = \"hunter2\"\nkey = \"hunter2\"\n[publish]\nto = \"amqp\"\n[publish.amqp]\nurl = \"hunter2\"\nwindow = \"hunter2\"\n[[admin.tokens]]\nname = \"ops\"\ntoken = \"hunter2\"\n{FEED}"
        ),
        &[("WARDROOM_ADMIN__LISTEN", hunter)],
    );
    let shown = errors.unwrap_err().to_string();
    assert_eq!(shown.matches(": store.").count(), 2, "{shown}");
    assert!(!shown.contains(hunter), "{shown}");
    check(&format!("[store]\nurl = \"env:NOT_SET\"\n{FEED}"), &["wardroom.toml:2: store.url: the environment variable `NOT_SET` is not set"]);
}

#[test]
fn paths_are_relative_to_the_file() {
    let config =
        load(&format!("[store]\nurl = \"sqlite:data/w.db\"\n[directory]\nstaff = \"staff.csv\"\nunits = \"/etc/units.csv\"\n{FEED}"), &[]).unwrap();
    assert!(matches!(&config.store.url, super::store::StoreUrl::Sqlite(path) if path == Path::new("/nowhere/data/w.db")));
    assert_eq!(config.directory.staff.as_deref(), Some(Path::new("/nowhere/staff.csv")));
    assert_eq!(config.directory.units.as_deref(), Some(Path::new("/etc/units.csv")));
    assert!(!config.directory.include_unknown_staff);
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let text = "[publish]\nto = \"amqp\"\n[publish.amqp]\nurl = \"amqp://u@broker.example/\"\n[[feeds]]\nname = \"m\"\nlisten = \"127.0.0.1:1\"\ncommit_timeout = \"1s\"\n\
                [directory]\nstaff = \"s.csv\"\nunknown_staff = \"include\"\n";
    let shown: Vec<String> = load(text, &[]).unwrap().warnings.iter().map(|warning| format!("{}: {}", warning.key, warning.rule)).collect();
    assert_eq!(
        shown,
        [
            "publish.amqp.url: carries patient data over the network in the clear",
            "feeds[0].commit_timeout: is very short: a slow disk closes connections",
            "feeds[0].time_zone: is not set: times without an offset are read as UTC",
            "directory.unknown_staff: lets everybody a message names join, known or not",
        ]
    );
}

#[test]
fn a_named_file_that_is_not_there_is_an_error() {
    let errors = Config::load(Some(Path::new("/nowhere/x.toml")), &Environment::default()).unwrap_err();
    assert_eq!(errors.to_string(), "/nowhere/x.toml: cannot be read: No such file or directory (os error 2)");
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        drop(load(&text, &[]));
    }

    #[test]
    fn no_value_anywhere_makes_it_panic(line in 0usize..200, value in "[\\[\\]{}\"'a-zA-Z0-9:./ =,-]{0,20}") {
        let mutated = default_toml().lines().enumerate().map(|(index, text)| {
            if index == line { text.split_once('=').map_or_else(|| value.clone(), |(key, _)| format!("{key}= {value}")) } else { text.to_owned() }
        });
        let text = mutated.collect::<Vec<_>>().join("\n");
        drop(load(&text, &[("WARDROOM_ROOMS__NAME", &value)]));
    }

    #[test]
    fn no_variable_makes_it_panic(name in "[A-Z0-9_]{0,20}", value in any::<String>()) {
        drop(load(FEED, &[(&format!("WARDROOM_{name}"), &value), (&format!("WARDROOM_FEEDS__{name}"), &value), (&format!("WARDROOM_ROOMS__{name}"), &value)]));
    }
}
