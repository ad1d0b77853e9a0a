//! What a message costs, counted in instructions: the same on a busy machine and on an idle one.
//!
//! Valgrind runs this test binary again and counts while one function is running. The figure is of the build that the tests use, which is not the build
//! that is shipped: it is there to be compared with itself.

use std::hint::black_box;
use std::process::Command;

use one_message::Bench;

#[path = "../../benches/pure_path/one_message.rs"]
mod one_message;

/// From the bytes of a message to the difference that it makes.
const INSTRUCTIONS: u64 = 1_268_000;
/// How many messages are counted.
const MESSAGES: u64 = 16;

/// The name by which valgrind finds it.
#[inline(never)]
fn pure_path_that_is_counted(bench: &Bench) {
    let (state, record, before, second) = bench.admitted();
    for _ in 0..MESSAGES {
        let (mut state, mut record) = (state.clone(), record.clone());
        pure_path_of_one_message(bench, &second, &mut state, &mut record, &before);
    }
}

#[inline(never)]
fn pure_path_of_one_message(
    bench: &Bench,
    message: &str,
    state: &mut wardroom::care::visit::VisitState,
    record: &mut wardroom::care::identity::PatientRecord,
    before: &wardroom::care::room::RoomState,
) {
    assert!(black_box(bench.whole(message, state, record, Some(before))), "the patient has moved");
}

#[test]
fn the_pure_path_comes_to_a_difference() {
    pure_path_that_is_counted(&Bench::new());
}

#[test]
fn a_message_costs_as_many_instructions_as_it_did() {
    let counting = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*pure_path_of_one_message*"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "cost::the_pure_path_comes_to_a_difference", "--test-threads=1"])
        .output();
    let Ok(counting) = counting else {
        assert!(std::env::var_os("CI").is_none(), "valgrind is not installed");
        println!("skipped: valgrind is not installed");
        return;
    };
    let told = String::from_utf8_lossy(&counting.stderr);
    assert!(counting.status.success(), "{told}");
    let counted = told.lines().find_map(|line| line.split_once("Collected :")).map(|(_, count)| count.trim().parse::<u64>().unwrap());
    let each = counted.unwrap() / MESSAGES;
    let range = INSTRUCTIONS / 10 * 9..=INSTRUCTIONS / 10 * 11;
    assert!(range.contains(&each), "{each} instructions, {INSTRUCTIONS} before; where that is meant to be so, write the new figure down");
}
