use super::AckCode;
use super::AckHeader;
use super::AckMode;
use super::ErrDetail;
use super::ErrLocation;
use super::Outcome;
use super::Severity;
use super::answers;
use super::build;
use super::master_file;
use super::master_file::MasterFile;
use super::master_file::RecordAnswer;
use crate::hl7::message::Message;
use crate::time::Timestamp;

const NOW: Timestamp = Timestamp::from_micros(1_795_271_402_000_000);
const MISSING_ID: ErrDetail = ErrDetail { code: 101, location: Some(ErrLocation { segment: "PID", occurrence: 1, field: 3 }), severity: Severity::E };
const WRONG_TYPE: ErrDetail = ErrDetail { code: 200, location: None, severity: Severity::E };

fn frame(version: &str) -> Vec<u8> {
    format!("MSH|^~\\&|EPIC^1.2.3^ISO|GHH&x|WARD|ROOM~2|20261121093000||ADT^A01^ADT_A01|MSG 0001|P^T|{version}\rEVN|A01|20261121\r").into_bytes()
}

fn shown(frame: &[u8], code: AckCode, error: Option<&ErrDetail>) -> String {
    let answer = build(&AckHeader::recover(frame), code, error, NOW, "W1");
    assert!(answer.ends_with(b"\r"));
    String::from_utf8_lossy(&answer).replace('\r', "\n")
}

/// Accept, error and reject of one version.
fn all_three(version: &str) -> String {
    let frame = frame(version);
    [shown(&frame, AckCode::AA, None), shown(&frame, AckCode::AE, Some(&MISSING_ID)), shown(&frame, AckCode::AR, Some(&WRONG_TYPE))].concat()
}

#[test]
fn answers_have_the_shape_of_version_2_1() {
    insta::assert_snapshot!(all_three("2.1"), @r"
    MSH|^~\&|WARD|ROOM~2|EPIC^1.2.3^ISO|GHH&x|20261121143002+0000||ACK|W1|P^T|2.1
    MSA|AA|MSG 0001
    MSH|^~\&|WARD|ROOM~2|EPIC^1.2.3^ISO|GHH&x|20261121143002+0000||ACK|W1|P^T|2.1
    MSA|AE|MSG 0001|Required field missing
    ERR|PID^1^3^101&Required field missing&HL70357
    MSH|^~\&|WARD|ROOM~2|EPIC^1.2.3^ISO|GHH&x|20261121143002+0000||ACK|W1|P^T|2.1
    MSA|AR|MSG 0001|Unsupported message type
    ERR|^^^200&Unsupported message type&HL70357
    ");
}

#[test]
fn answers_have_the_shape_of_version_2_3() {
    insta::assert_snapshot!(all_three("2.3"), @r"
    MSH|^~\&|WARD|ROOM~2|EPIC^1.2.3^ISO|GHH&x|20261121143002+0000||ACK^A01|W1|P^T|2.3
    MSA|AA|MSG 0001
    MSH|^~\&|WARD|ROOM~2|EPIC^1.2.3^ISO|GHH&x|20261121143002+0000||ACK^A01|W1|P^T|2.3
    MSA|AE|MSG 0001|Required field missing
    ERR|PID^1^3^101&Required field missing&HL70357
    MSH|^~\&|WARD|ROOM~2|EPIC^1.2.3^ISO|GHH&x|20261121143002+0000||ACK^A01|W1|P^T|2.3
    MSA|AR|MSG 0001|Unsupported message type
    ERR|^^^200&Unsupported message type&HL70357
    ");
}

#[test]
fn answers_have_the_shape_of_version_2_4() {
    insta::assert_snapshot!(all_three("2.4"), @r"
    MSH|^~\&|WARD|ROOM~2|EPIC^1.2.3^ISO|GHH&x|20261121143002+0000||ACK^A01|W1|P^T|2.4
    MSA|AA|MSG 0001
    MSH|^~\&|WARD|ROOM~2|EPIC^1.2.3^ISO|GHH&x|20261121143002+0000||ACK^A01|W1|P^T|2.4
    MSA|AE|MSG 0001|Required field missing
    ERR|PID^1^3^101&Required field missing&HL70357
    MSH|^~\&|WARD|ROOM~2|EPIC^1.2.3^ISO|GHH&x|20261121143002+0000||ACK^A01|W1|P^T|2.4
    MSA|AR|MSG 0001|Unsupported message type
    ERR|^^^200&Unsupported message type&HL70357
    ");
}

#[test]
fn answers_have_the_shape_of_version_2_5_1() {
    insta::assert_snapshot!(all_three("2.5.1"), @r"
    MSH|^~\&|WARD|ROOM~2|EPIC^1.2.3^ISO|GHH&x|20261121143002+0000||ACK^A01^ACK|W1|P^T|2.5.1
    MSA|AA|MSG 0001
    MSH|^~\&|WARD|ROOM~2|EPIC^1.2.3^ISO|GHH&x|20261121143002+0000||ACK^A01^ACK|W1|P^T|2.5.1
    MSA|AE|MSG 0001
    ERR||PID^1^3|101^Required field missing^HL70357|E
    MSH|^~\&|WARD|ROOM~2|EPIC^1.2.3^ISO|GHH&x|20261121143002+0000||ACK^A01^ACK|W1|P^T|2.5.1
    MSA|AR|MSG 0001
    ERR|||200^Unsupported message type^HL70357|E
    ");
}

#[test]
fn answers_have_the_shape_of_version_2_7() {
    insta::assert_snapshot!(all_three("2.7"), @r"
    MSH|^~\&|WARD|ROOM~2|EPIC^1.2.3^ISO|GHH&x|20261121143002+0000||ACK^A01^ACK|W1|P^T|2.7
    MSA|AA|MSG 0001
    MSH|^~\&|WARD|ROOM~2|EPIC^1.2.3^ISO|GHH&x|20261121143002+0000||ACK^A01^ACK|W1|P^T|2.7
    MSA|AE|MSG 0001
    ERR||PID^1^3|101^Required field missing^HL70357|E
    MSH|^~\&|WARD|ROOM~2|EPIC^1.2.3^ISO|GHH&x|20261121143002+0000||ACK^A01^ACK|W1|P^T|2.7
    MSA|AR|MSG 0001
    ERR|||200^Unsupported message type^HL70357|E
    ");
}

#[test]
fn a_frame_that_is_not_hl7_is_rejected_in_the_usual_delimiters() {
    let sequence = ErrDetail { code: 100, location: None, severity: Severity::E };
    insta::assert_snapshot!(shown(b"GET / HTTP/1.1", AckCode::AR, Some(&sequence)), @r"
    MSH|^~\&|||||20261121143002+0000||ACK|W1|P|2.5.1
    MSA|AR|
    ERR|||100^Segment sequence error^HL70357|E
    ");
}

#[test]
fn unusual_delimiters_are_copied() {
    insta::assert_snapshot!(shown(b"MSH$%*?@#$A%1$B$C$D$1$$ADT%A08$M$P$2.7\r", AckCode::CE, Some(&MISSING_ID)), @r"
    MSH$%*?@#$C$D$A%1$B$20261121143002+0000$$ACK%A08%ACK$W1$P$2.7
    MSA$CE$M
    ERR$$PID%1%3$101%Required field missing%HL70357$E
    ");
}

#[test]
fn the_control_id_comes_back_byte_for_byte_and_everything_else_is_ascii() {
    let frame = b"MSH|^~\\&|M\xFCLLER|B|C|D|1||ADT^A01| \xC3\x84 \xFF|P|2.5||||||8859/1\r";
    let answer = build(&AckHeader::recover(frame), AckCode::AA, None, NOW, "W1");
    let lines: Vec<&[u8]> = answer.split(|byte| *byte == b'\r').collect();
    assert_eq!(lines[1], b"MSA|AA| \xC3\x84 \xFF");
    assert!(lines[0].is_ascii());
    assert_eq!(String::from_utf8_lossy(lines[0]), "MSH|^~\\&|C|D|M?LLER|B|20261121143002+0000||ACK^A01^ACK|W1|P|2.5||||||8859/1");
}

#[test]
fn a_header_is_found_behind_what_stands_before_it() {
    for lead in [&b""[..], b"\xEF\xBB\xBF", b"\r\n  ", b"BHS|^~\\&|A\n", b"\x0B"] {
        let frame = [lead, b"MSH|^~\\&|A|B|C|D|1||ADT^A01|M1\nPID|1\n\r"].concat();
        assert_eq!(AckHeader::recover(&frame).control_id(), Some(&b"M1"[..]), "{lead:?}");
    }
}

#[test]
fn a_field_that_was_cut_in_two_is_not_taken_from_a_prefix() {
    let whole = b"MSH|^~\\&|A|B|C|D|1||ADT^A01|M1234|P|2.5\rPID|1||77";
    let id = |prefix: &[u8]| AckHeader::recover_prefix(prefix).control_id().map(<[u8]>::to_vec);
    assert_eq!(id(whole), Some(b"M1234".to_vec()));
    assert_eq!(id(&whole[..36]), Some(b"M1234".to_vec()));
    assert_eq!(id(&whole[..31]), None);
    assert_eq!(id(b"MSH|^~\\&|A|B|C|D|1||ADT^A01|M1234\r"), Some(b"M1234".to_vec()));
    assert_eq!(id(b"MS"), None);
    assert_eq!(id(b""), None);
}

#[test]
fn an_acknowledgement_is_known_as_one() {
    assert!(AckHeader::recover(b"MSH|^~\\&|A|B|C|D|1||ACK^A01^ACK|M1|P|2.5\rMSA|AA|1").is_ack());
    assert!(!AckHeader::recover(&frame("2.5")).is_ack());
}

#[test]
fn each_combination_of_msh_15_and_msh_16_gets_the_answer_that_is_due() {
    // MSH-15, MSH-16, and the answer to accept, error and reject.
    let table = [
        ("", "", "AA AE AR"),
        ("\"\"", "\"\"", "AA AE AR"),
        ("AL", "", "CA CE CR"),
        ("AL", "AL", "CA CE CR"),
        ("AL", "NE", "CA CE CR"),
        ("AL", "ER", "CA CE CR"),
        ("AL", "SU", "CA CE CR"),
        ("NE", "", "- - -"),
        ("NE", "AL", "AA AE AR"),
        ("NE", "NE", "- - -"),
        ("NE", "ER", "- AE AR"),
        ("NE", "SU", "AA - -"),
        ("ER", "", "- CE CR"),
        ("ER", "AL", "AA CE CR"),
        ("ER", "NE", "- CE CR"),
        ("ER", "ER", "- CE CR"),
        ("ER", "SU", "AA CE CR"),
        ("SU", "", "CA - -"),
        ("SU", "AL", "CA AE AR"),
        ("SU", "NE", "CA - -"),
        ("SU", "ER", "CA AE AR"),
        ("SU", "SU", "CA - -"),
        ("", "AL", "AA AE AR"),
        ("", "NE", "- - -"),
        ("", "ER", "- AE AR"),
        ("", "SU", "AA - -"),
        ("al", "ne", "CA CE CR"),
        ("Y", "NE", "CA CE CR"),
    ];
    for (accept, application, expected) in table {
        let frame = format!("MSH|^~\\&|A|B|C|D|1||ADT^A01|M1|P|2.5|||{accept}|{application}\r");
        assert_eq!(all_outcomes(&frame, AckMode::Auto), expected, "{accept} {application}");
        // What the feed says overrides whatever the sender declares.
        assert_eq!(all_outcomes(&frame, AckMode::Original), "AA AE AR", "{accept} {application}");
        assert_eq!(all_outcomes(&frame, AckMode::Enhanced), "CA CE CR", "{accept} {application}");
        assert_eq!(all_outcomes(&frame, AckMode::None), "- - -", "{accept} {application}");
    }
}

#[test]
fn a_warning_stands_beside_the_answer_and_not_in_it() {
    let warning = ErrDetail { code: 207, location: None, severity: Severity::W };
    let check = |version: &str, msa: &str, err: &str| {
        let shown = shown(&frame(version), AckCode::AA, Some(&warning));
        let lines: Vec<&str> = shown.lines().filter(|line| !line.starts_with("MSH")).collect();
        assert_eq!(lines, [msa, err], "{version}");
    };
    check("2.3", "MSA|AA|MSG 0001", "ERR|^^^207&Application error&HL70357");
    check("2.4", "MSA|AA|MSG 0001", "ERR|^^^207&Application error&HL70357");
    check("2.5.1", "MSA|AA|MSG 0001", "ERR|||207^Application error^HL70357|W");
    check("2.7", "MSA|AA|MSG 0001", "ERR|||207^Application error^HL70357|W");
}

fn all_outcomes(frame: &str, mode: AckMode) -> String {
    let header = AckHeader::recover(frame.as_bytes());
    let due = |outcome| answers(&header, mode, outcome).map_or("-", AckCode::as_str);
    [Outcome::Accept, Outcome::Error, Outcome::Reject].map(due).join(" ")
}

/// The answer to a master file of three records, the second of which was not taken.
fn master_file_answer(version: &str, wanted: &str, code: AckCode, error: Option<&ErrDetail>) -> String {
    let frame = format!(
        "MSH|^~\\&|HR|GHH|WR|GHH|20261121090000||MFN^M02^MFN_M02|M1|P|{version}\rMFI|STF^Staff^HL70175|DIR|UPD|20261121||{wanted}\r\
         MFE|MAD|r1|20261121|jdoe^^99X|CWE\rSTF|jdoe||DOE^JANE\rMFE|MXX|r2||x y\rMFE|MDC|r3||kroe|CWE\r"
    );
    let message = Message::parse(&frame).unwrap();
    let mut file = MasterFile::of(message.first("MFI").unwrap());
    file.records.extend(message.all("MFE").enumerate().map(|(at, mfe)| RecordAnswer::of(mfe, at != 1)));
    if error.is_some() {
        file.refuse_all();
    }
    let answer = master_file::build(&AckHeader::recover(frame.as_bytes()), &file, code, error, NOW, "W1");
    assert!(!format!("{file:?}").contains("jdoe"));
    String::from_utf8(answer.to_vec()).unwrap().replace('\r', "\n")
}

#[test]
fn a_master_file_is_answered_record_by_record() {
    insta::assert_snapshot!(master_file_answer("2.5.1", "AL", AckCode::AA, None), @r"
    MSH|^~\&|WR|GHH|HR|GHH|20261121143002+0000||MFK^M02^MFK_M01|W1|P|2.5.1
    MSA|AA|M1
    MFI|STF^Staff^HL70175|DIR|UPD|||AL
    MFA|MAD|r1|20261121143002+0000|S|jdoe^^99X|CWE
    MFA|MXX|r2|20261121143002+0000|U|x y|
    MFA|MDC|r3|20261121143002+0000|S|kroe|CWE
    ");
}

#[test]
fn a_master_file_of_an_older_version_or_refused_is_answered_in_kind() {
    insta::assert_snapshot!(master_file_answer("2.3", "", AckCode::AR, Some(&WRONG_TYPE)), @r"
    MSH|^~\&|WR|GHH|HR|GHH|20261121143002+0000||MFK^M02|W1|P|2.3
    MSA|AR|M1|Unsupported message type
    ERR|^^^200&Unsupported message type&HL70357
    MFI|STF^Staff^HL70175|DIR|UPD|||AL
    MFA|MAD|r1|20261121143002+0000|U|jdoe^^99X|CWE
    MFA|MXX|r2|20261121143002+0000|U|x y|
    MFA|MDC|r3|20261121143002+0000|U|kroe|CWE
    ");
}

#[test]
fn only_the_records_that_the_sender_asks_for_are_answered() {
    let asked = |wanted: &str| master_file_answer("2.5.1", wanted, AckCode::AA, None).lines().filter(|line| line.starts_with("MFA")).count();
    assert_eq!(["AL", "", "ER", "SU", "NE"].map(asked), [3, 3, 1, 2, 0]);
}
