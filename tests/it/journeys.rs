//! The journeys of `fixtures/journeys` are the acceptance tests: each goes as it expects.

use std::process::Command;

#[test]
fn every_journey_goes_as_it_expects() {
    let out = Command::new(env!("CARGO_BIN_EXE_wardroom")).args(["verify", "fixtures/journeys"]).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    let failed: Vec<&str> = text.lines().filter(|line| !line.starts_with("ok ")).collect();
    assert!(out.status.success(), "{}\n{}", failed.join("\n"), String::from_utf8_lossy(&out.stderr));
}

#[test]
fn a_journey_that_goes_another_way_is_told_step_by_step() {
    let folder = tempfile::tempdir().unwrap();
    let journey = folder.path().join("s01");
    std::fs::create_dir(&journey).unwrap();
    for file in ["wardroom.toml", "staff.csv", "units.csv"] {
        std::fs::copy(format!("fixtures/journeys/{file}"), folder.path().join(file)).unwrap();
    }
    let text = std::fs::read_to_string("fixtures/journeys/s01-admit-opens-a-room/journey.toml").unwrap();
    std::fs::write(journey.join("journey.toml"), text.replace("\"active\"", "\"closed\"").replace("lgarcia", "somebody")).unwrap();
    for entry in std::fs::read_dir("fixtures/journeys/s01-admit-opens-a-room").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "hl7") {
            std::fs::copy(&path, journey.join(path.file_name().unwrap())).unwrap();
        }
    }
    let run = |bless: bool| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wardroom"));
        command.arg("verify").arg(folder.path());
        if bless {
            command.arg("--bless");
        }
        command.output().unwrap()
    };
    let out = run(false);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(out.status.code(), Some(1), "{text}");
    assert!(text.contains("status: expected closed, got active"), "{text}");
    assert!(text.contains("too much lgarcia") && text.contains("missing somebody"), "{text}");
    assert_eq!(run(true).status.code(), Some(0));
    assert_eq!(run(false).status.code(), Some(0), "a blessed journey goes as it expects");
}
