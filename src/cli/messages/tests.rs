use std::fs;
use std::path::Path;
use std::path::PathBuf;

use bytes::Bytes;
use proptest::prelude::any;
use proptest::prop_assert;
use proptest::prop_assert_eq;
use proptest::proptest;

use super::messages_in;
use super::read_messages;

#[track_caller]
fn check(file: &[u8], expected: &[&str]) {
    let found: Vec<String> = messages_in(Path::new("file"), &Bytes::copy_from_slice(file))
        .messages
        .into_iter()
        .map(|message| String::from_utf8_lossy(&message.bytes).into_owned())
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn messages_are_cut_at_headers_whatever_ends_a_segment() {
    for end in ["\r", "\n", "\r\n"] {
        let (one, two) = (format!("MSH|^~\\&|1{end}PID|1{end}"), format!("MSH|^~\\&|2{end}PID|2{end}"));
        check(format!("{one}{two}").as_bytes(), &[&one, &two]);
        check(format!("{end}{one}{end}{end}{two}{end}").as_bytes(), &[&one, &two]);
    }
}

#[test]
fn one_file_may_mix_the_ends() {
    check(b"MSH|^~\\&|1\rPID|1\rMSH|^~\\&|2\nPID|2\nMSH|x\r\nPID|3\r\n", &["MSH|^~\\&|1\rPID|1\r", "MSH|^~\\&|2\nPID|2\n", "MSH|x\r\nPID|3\r\n"]);
}

#[test]
fn a_bare_line_feed_is_data_in_a_message_that_ends_segments_in_cr() {
    let message = "MSH|^~\\&|1\rNTE|1||first\nMSH|is only a word here\nBTS|too\rPV1|1\r";
    check(message.as_bytes(), &[message]);
}

#[test]
fn messages_that_end_in_cr_may_be_joined_by_a_line_feed() {
    check(b"MSH|^~\\&|1\rPID|1\nMSH|^~\\&|2\rPID|2\n", &["MSH|^~\\&|1\rPID|1", "MSH|^~\\&|2\rPID|2"]);
    check(b"MSH|^~\\&|1\rPID|1\r\nMSH|^~\\&|2\rPID|2\r\n", &["MSH|^~\\&|1\rPID|1\r\n", "MSH|^~\\&|2\rPID|2\r\n"]);
}

#[test]
fn batch_wrappers_are_left_out() {
    check(b"FHS|^~\\&|\rBHS|^~\\&|\rMSH|^~\\&|1\rPID|1\rMSH|^~\\&|2\rBTS|2\rFTS|1\r", &["MSH|^~\\&|1\rPID|1\r", "MSH|^~\\&|2\r"]);
    check(b"FHS|^~\\&|\nMSH|^~\\&|1\nFTS\n", &["MSH|^~\\&|1\n"]);
}

#[test]
fn frames_are_read_as_frames() {
    check(b"\x0bMSH|1\rPID|1\r\x1c\r\x0b\x1c\r\x0bMSH|2\rMSH|3\r\x1c", &["MSH|1\rPID|1\r", "MSH|2\rMSH|3\r"]);
    check(b"\r\nnoise\x0bMSH|1\r\x1c\r\x0bMSH|half", &["MSH|1\r"]);
}

#[test]
fn frames_that_do_not_end_are_told_by_their_place() {
    #[track_caller]
    fn check(file: &'static [u8], expected: &[&str]) {
        let found: Vec<String> = messages_in(Path::new("file"), &Bytes::from_static(file)).left_out.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }
    check(b"\x0bMSH|1\r\x1c\r\x0bMSH|half", &["`file`: frame 2 begins and does not end; it was left out"]);
    check(
        b"\x0bMSH|1\r\x1c\r\x0b\x1c\r\x0bMSH|half\r\x0bMSH|2\r\x1c\r\x0bMSH|ha",
        &["`file`: 2 frames begin and do not end, the first of them frame 2; they were left out"],
    );
    check(b"\x0bMSH|1\r\x1c", &[]);
    check(b"MSH|1\rPID|ha", &[]);
}

#[test]
fn what_is_no_message_is_kept_so_that_it_can_be_refused() {
    check(b"hello\rMSHX|1\r", &["hello\rMSHX|1\r"]);
    check(b"hello\rMSH|^~\\&|1\r", &["hello\r", "MSH|^~\\&|1\r"]);
    check(b"", &[]);
    check(b"\xef\xbb\xbf \r\n", &[]);
}

#[test]
fn a_byte_order_mark_and_trailing_junk_are_no_part_of_a_message() {
    check(b"\xef\xbb\xbfMSH|^~\\&|1\r\nPID|1\r\n\x1a", &["MSH|^~\\&|1\r\nPID|1\r\n"]);
    check(b"MSH|^~\\&|1\rPID|1", &["MSH|^~\\&|1\rPID|1"]);
}

#[test]
fn directories_are_walked_in_name_order() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    fs::create_dir(folder.path().join("b")).unwrap();
    write("c.txt", "MSH|^~\\&|c1\rMSH|^~\\&|c2\r");
    write("b/1.hl7", "MSH|^~\\&|b1\r");
    write("a.hl7", "garbage");
    write(".hidden.hl7", "MSH|^~\\&|hidden\r");
    write("journey.toml", "title = \"MSH\"");
    let found = read_messages(&[folder.path().to_owned()]).unwrap();
    let names: Vec<String> =
        found.messages.iter().map(|message| format!("{}#{}", message.path.strip_prefix(folder.path()).unwrap().display(), message.index)).collect();
    assert_eq!(names, ["a.hl7#1", "b/1.hl7#1", "c.txt#1", "c.txt#2"]);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = read_messages(&[PathBuf::from("nowhere.hl7")]).unwrap_err();
    assert_eq!(error.to_string(), "cannot read `nowhere.hl7`");
}

#[test]
fn debug_never_shows_a_message() {
    let shown = format!("{:?}", messages_in(Path::new("file"), &Bytes::from_static(b"MSH|^~\\&|SMITH\r\x0bMSH|JONES")));
    assert!(!shown.contains("SMITH") && !shown.contains("JONES"), "{shown}");
}

proptest! {
    #[test]
    fn no_bytes_are_invented_and_none_make_it_panic(parts in proptest::collection::vec("(MSH\\|\\^~|BTS\\|1|FHS|PID\\|1|\r|\n|\x0b|\x1c|x){0,6}", 0..10), tail in any::<Vec<u8>>()) {
        let mut file = parts.concat().into_bytes();
        file.extend(tail);
        let n_found: usize = messages_in(Path::new("file"), &Bytes::from(file.clone())).messages.iter().map(|message| message.bytes.len()).sum();
        prop_assert!(n_found <= file.len());
    }

    #[test]
    fn messages_joined_are_messages_cut(bodies in proptest::collection::vec("[A-Z]{4}\\|[a-z]{0,9}", 1..8), end in "(\r|\n|\r\n)") {
        let messages: Vec<String> = bodies.iter().map(|body| format!("MSH|^~\\&|x{end}{body}{end}")).collect();
        let found = messages_in(Path::new("file"), &Bytes::from(messages.concat())).messages;
        let found: Vec<_> = found.iter().map(|message| String::from_utf8_lossy(&message.bytes).into_owned()).collect();
        prop_assert_eq!(found, messages);
    }
}
