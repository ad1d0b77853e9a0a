use std::fs;
use std::path::Path as FilePath;

use proptest::prelude::any;
use proptest::prelude::proptest;

use super::Message;
use super::NotHl7;
use crate::care::notice::NoticeCode;
use crate::hl7::charset::decode;
use crate::hl7::cx::Cx;
use crate::hl7::path::Path;
use crate::hl7::xcn::Xcn;

const ADMIT: &str = "MSH|^~\\&|EPIC|GHH|WARD|GHH|20261121093000-0500||ADT^A01^ADT_A01|MSG1|P|2.5.1\r\
    EVN|A01|20261121092900\r\
    PID|1||000123^^^GHH&1.2.3&ISO^MR~987^^^SSA^SS||SMITH^JANE^ANN^^^^L||19800131|F\r\
    PV1|1|I|4N^12^A^GHH&1.2&ISO||||D100^GARCIA&VON^LUIS^^^^^^GHH^L^^^EI~1234567893^GARCIA^LUIS^^^^^^&2.16.840&ISO^L^^^NPI|||CAR\r";

fn parse(text: &str) -> Message<'_> {
    Message::parse(text).unwrap()
}

fn ids(text: &str) -> String {
    parse(text).segments().map(|segment| segment.id().to_owned()).collect::<Vec<_>>().join(" ")
}

#[test]
fn fields_are_numbered_as_the_standard_does() {
    let message = parse(ADMIT);
    let header = message.header();
    assert_eq!(header.field(1).raw(), "|");
    assert_eq!(header.field(2).raw(), "^~\\&");
    assert_eq!(header.field(2).text(), "^~\\&");
    assert_eq!(header.field(9).component(2).text(), "A01");
    assert_eq!(header.field(12).text(), "2.5.1");
    assert_eq!(header.n_fields(), 12);
    let pid = message.first("PID").unwrap();
    assert_eq!(pid.field(3).repetitions().count(), 2);
    assert_eq!(pid.field(5).component(2).text(), "JANE");
    assert_eq!(pid.field(40).raw(), "");
    assert_eq!(pid.field(0).raw(), "");
    assert_eq!(message.all("PV1").count(), 1);
    assert!(message.first("ZZZ").is_none());
}

#[test]
fn segments_end_in_cr_lf_or_both() {
    let expected = "MSH EVN PID PV1";
    assert_eq!(ids(ADMIT), expected);
    assert_eq!(ids(&ADMIT.replace('\r', "\n")), expected);
    assert_eq!(ids(&ADMIT.replace('\r', "\r\n")), expected);
    assert_eq!(ids(&ADMIT.replace('\r', "\r\r")), expected);
    assert_eq!(ids(&ADMIT.trim_end().replace('\r', "\n").replacen("\nPV1", "\rPV1", 1)), expected);
    assert_eq!(ids(&format!("{}\r", ADMIT.replace('\r', "\n"))), expected);
    assert_eq!(ids(&format!("\u{FEFF}\r\n {ADMIT}\0\0 \u{1A}\u{1C}\r")), expected);
}

#[test]
fn a_line_feed_inside_a_message_that_ends_its_lines_in_cr_is_data() {
    let text = "MSH|^~\\&|A\rPID|1||7||TWO\nLINES|x\r";
    let message = parse(text);
    assert_eq!(message.first("PID").unwrap().field(5).text(), "TWO LINES");
    assert_eq!(message.notices(), []);
}

#[test]
fn a_line_that_is_no_segment_continues_the_field_before_it() {
    let message = parse("MSH|^~\\&|A\rPID|1||7||SMITH\rof the north|x|y\rPV1|1\r");
    let pid = message.first("PID").unwrap();
    assert_eq!(pid.field(5).text(), "SMITH of the north");
    assert_eq!(pid.field(7).text(), "y");
    assert_eq!(message.notices().iter().map(|notice| notice.code).collect::<Vec<_>>(), [NoticeCode::ContinuationLine]);
    assert_eq!(message.segments().count(), 3);
}

#[test]
fn segment_ids_are_compared_in_upper_case() {
    assert_eq!(ids("msh|^~\\&|A\rpid|1\rZp1|x\rEVN\r  PV1|1"), "MSH PID ZP1 EVN PV1");
    assert!(parse("MSH|^~\\&|A\rpid|1||7").first("PID").is_some());
}

#[test]
fn what_is_no_message_is_told_apart_without_a_word_of_it() {
    let refused = |text| Message::parse(text).map(|_| ()).unwrap_err();
    assert_eq!(refused(""), NotHl7::Empty);
    assert_eq!(refused("\r\n\0"), NotHl7::Empty);
    assert_eq!(refused("PID|1||7"), NotHl7::NoHeader);
    assert_eq!(refused("ü"), NotHl7::NoHeader);
    assert_eq!(refused("MSH"), NotHl7::BadDelimiters);
    assert_eq!(refused("MSHA^~\\&A"), NotHl7::BadDelimiters);
    assert_eq!(refused("BHS|^~\\&|A\rPID|1"), NotHl7::NoHeader);
}

#[test]
fn batch_headers_before_the_header_are_skipped() {
    assert_eq!(ids(&format!("FHS|^~\\&|A\rBHS|^~\\&|A\r{ADMIT}")), "MSH EVN PID PV1");
}

#[test]
fn delimiters_of_any_kind_divide() {
    let message = parse("MSH$%*?@$A\rPID$1$$7%%%GHH@1@ISO*8$$SMITH?F?X\r");
    let pid = message.first("PID").unwrap();
    assert_eq!(pid.field(3).component(4).sub(2), "1");
    assert_eq!(pid.field(3).repetitions().nth(1).unwrap().text(), "8");
    assert_eq!(pid.field(5).text(), "SMITH$X");
}

#[test]
fn nothing_null_and_a_value_are_told_apart() {
    for (text, empty, null) in [
        ("", true, false),
        ("   ", true, false),
        ("^^ ~&", true, false),
        ("UNKNOWN", true, false),
        ("null", true, false),
        ("\"\"", false, true),
        ("\"", false, true),
        ("\"\" \"\"", false, true),
        ("\\E\"\\E\"", false, true),
        ("\\E\"\\E", false, true),
        ("\"\"^\"\"^", false, true),
        ("^^\"\"", false, false),
        ("\"SMITH\"", false, false),
        ("E\"", false, false),
        ("SMITH", false, false),
        ("UNKNOWN^JANE", false, false),
    ] {
        let text = format!("MSH|^~\\&|A\rPID|{text}|x");
        let field = parse(&text).first("PID").unwrap().field(1);
        assert_eq!((field.is_empty(), field.is_null()), (empty, null), "{text}");
        assert!(!null || field.text().is_empty(), "{text}");
    }
    let text = "MSH|^~\\&|A\rPV1|1|I|4N^12^\"\"";
    let location = parse(text).first("PV1").unwrap().field(3);
    assert!(location.component(3).is_null() && !location.component(2).is_null());
}

#[test]
fn escapes_are_resolved_in_the_character_set_of_the_message() {
    let frame = b"MSH|^~\\&|A|B|C|D|1||ADT^A01|1|P|2.5||||||8859/2\rPID|1||7||\\XB1\\\xB1";
    let decoded = decode(frame, None);
    assert_eq!(Message::of(&decoded).unwrap().first("PID").unwrap().field(5).text(), "ąą");
}

#[test]
fn a_cut_off_value_is_never_an_id() {
    let cut = "MSH|^~\\&#|A\rPID|1||12345#^^^GHH^MR\r";
    let field = parse(cut).first("PID").unwrap().field(3);
    assert!(Cx::read(field).is_none() && Cx::is_cut(field));
    let whole = "MSH|^~\\&|A\rPID|1||12345#^^^GHH^MR\r";
    assert_eq!(Cx::read(parse(whole).first("PID").unwrap().field(3)).unwrap().id, "12345#");
}

#[test]
fn identifiers_are_read_with_their_authority_and_type() {
    let cx = |text: &str| {
        let text = format!("MSH|^~\\&|A\rPID|1||{text}\r");
        Cx::read(parse(&text).first("PID").unwrap().field(3)).map(|cx| format!("{} {} {}", cx.authority, cx.id_type, cx.id))
    };
    assert_eq!(cx(" 00123 ^9^M10^ghh&1.2&ISO^mr").as_deref(), Some("GHH MR 00123"));
    assert_eq!(cx("1^^^&1.2.3&ISO^MR").as_deref(), Some("1.2.3&ISO MR 1"));
    assert_eq!(cx("1").as_deref(), Some("  1"));
    for nothing in ["^^^GHH^MR", "\"\"", "UNKNOWN^^^GHH^MR", ""] {
        assert_eq!(cx(nothing), None, "{nothing}");
    }
}

#[test]
fn persons_are_read_whatever_the_version_puts_where() {
    let xcn = |text: &str| {
        let text = format!("MSH|^~\\&|A\rPV1|1|I|||||{text}\r");
        Xcn::read(parse(&text).first("PV1").unwrap().field(7))
            .map(|xcn| format!("{}/{}:{} {}, {} {}", xcn.authority, xcn.id_type, xcn.id, xcn.family, xcn.given, xcn.name_type).trim_end().to_owned())
    };
    let cases = [
        ("D100^GARCIA&VON^LUIS^^^^^^GHH^L^^^EI", "GHH/EI:D100 GARCIA, LUIS L"),
        ("D100^GARCIA^LUIS^^^^^^&2.16&ISO^L", "2.16&ISO/:D100 GARCIA, LUIS L"),
        ("D100^GARCIA^LUIS^^^DR^MD^UPIN", "UPIN/:D100 GARCIA, LUIS"),
        ("D100^GARCIA^LUIS^^^^^^^^^^^NORTH", "NORTH/:D100 GARCIA, LUIS"),
        ("^^^^^^^^&1234567&UPIN", "/UPIN:1234567 ,"),
        ("^GARCIA^LUIS^^^^^^&1.2.3&ISO", "1.2.3&ISO/: GARCIA, LUIS"),
        ("^GARCIA^LUIS^^^^^^GHH", "GHH/: GARCIA, LUIS"),
    ];
    for (text, expected) in cases {
        assert_eq!(xcn(text).as_deref(), Some(expected), "{text}");
    }
    assert_eq!(xcn("^^^^^^^^GHH"), None);
    assert_eq!(xcn(""), None);
}

#[test]
fn paths_lead_to_what_stands_there() {
    let text = format!("{ADMIT}ZPV|first||D1^DOE\rZPV|second\\T\\more|a\\F\\b|bare\rNTE\r");
    let message = parse(&text);
    for (path, expected) in [
        ("PV1-3.1", Some("4N")),
        ("PV1.3", Some("4N^12^A^GHH&1.2&ISO")),
        ("pv1-3.4.2", Some("1.2")),
        ("PID-3[2].4.1", Some("SSA")),
        ("PID-3[2]", Some("987^^^SSA^SS")),
        ("PV1-7.2", Some("GARCIA&VON")),
        ("PV1-7[2].9.2", Some("2.16.840")),
        ("ZPV-1", Some("first")),
        ("ZPV[2]-1", Some("second&more")),
        ("ZPV[2]-2", Some("a|b")),
        ("MSH-2", Some("^~\\&")),
        ("MSH-9.2", Some("A01")),
        ("MSH-12", Some("2.5.1")),
        ("PID-40", None),
        ("PID-3[7].1", None),
        ("ZZZ-1", None),
        ("NTE-1", None),
        ("PV1", None),
        ("PV1-3.1x", None),
        ("PV1-99999999999999999999999", None),
        ("PV1-0", None),
        ("", None),
        ("ü", None),
    ] {
        assert_eq!(message.query(path).as_deref(), expected, "{path}");
    }
    assert_eq!(message.field_at(&Path::parse("PV1-7").unwrap()).unwrap().repetitions().count(), 2);
}

#[test]
fn paths_lead_also_through_what_hl7_parser_cannot_read() {
    let message = parse("MSH|^~\\&#|A|B\rPID|1||7||SMI\nTH^JANE\rof^x\rPV1\r");
    assert_eq!(message.query("MSH-3").as_deref(), Some("A"));
    assert_eq!(message.query("PID-5.1").as_deref(), Some("SMI TH"));
    let short = parse("MSH|^~|A\rPID|1||7&8^9~10\r");
    assert_eq!(short.query("PID-3.1.2").as_deref(), Some("8"));
    assert_eq!(short.query("PID-3[2].1").as_deref(), Some("10"));
}

/// Shapes that senders send and that hl7-parser can read too, so that both readers can be held against each other.
const SHAPES: [&str; 11] = [
    ADMIT,
    "MSH|^~\\&|\r",
    "MSH|^~\\&|A\rPID|1||7~8~~9^a^^b&c&&d~|\rPV1|1||||||||\r",
    "MSH$%*?@$A%B$C@D*E\rPID$1$$7%%%GHH@1@ISO*8$$SMITH?F?X\r",
    "MSH|^~\\&|A|B|C|D|20261121||ADT^A08|1|P|2.3\rPID||\"\"|\"\"^^\"\"||~^~&|\r",
    "MSH|^~\\&|A|B|C|D|||ADT^A40|2|P|2.4\rPID|1||1^^^G^MR\rMRG|2^^^G^MR~3||4\rPID|2||5\rMRG|6\r",
    "MSH|^~\\&|A\rROL|1|AD|AT^Attending^HL70443|D1^DOE&VAN^JO^^^^^^G&1&ISO|20260101\rROL|2|UP|RN\r",
    "MSH|^~\\&|Ü|Ä^ö\rPID|1||7||MÜLLER^JÖRG^日本\r",
    "MSH|^~\\&|A\rOBX|1|TX|1^x||\\.br\\a\\F\\b\\X41\\C:\\temp\\|\\\rZZ1|^^^~~~&&&|\r",
    "MSH|^~\\&|A|||||||||||||||||\rEVN||\rPV1|||4N^^^G^^N^^^2 SOUTH|||||||||||||||V^9^M10^G^VN\r",
    "MSH|^~\\&|A\rPD1||||D1^A~D2^B|||||||Y\rARV|1|A|DE^x|EMP~VIP\rZBE|1^G|20261121|||Y|A02\r",
];

#[test]
fn this_reader_and_hl7_parser_read_the_same() {
    for text in SHAPES {
        compare(text);
    }
}

/// Every message of the fixtures, once there are some.
#[test]
fn this_reader_and_hl7_parser_read_the_same_in_every_fixture() {
    let mut folders = vec![FilePath::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "hl7") {
                let frame = fs::read(&path).unwrap();
                for message in crate::hl7::batch::split(&frame).messages {
                    let decoded = decode(message, None);
                    if let Ok(message) = Message::of(&decoded) {
                        compare_segments(&message);
                    }
                }
            }
        }
    }
}

/// Holds the readers against each other over a text that both can read.
fn compare(text: &str) {
    let ours = parse(text);
    let theirs = hl7_parser::Message::parse(text).unwrap();
    let names: Vec<&str> = theirs.segments().map(|segment| segment.name).collect();
    assert_eq!(ids(text), names.join(" "));
    for (segment, other) in ours.segments().zip(theirs.segments()) {
        compare_segment(segment, other);
    }
    compare_segments(&ours);
}

/// Holds the readers against each other segment by segment, each made readable for hl7-parser.
fn compare_segments(message: &Message<'_>) {
    for segment in message.segments() {
        let readable = crate::hl7::path::readable(segment);
        let tree = hl7_parser::Message::parse(&readable).unwrap();
        assert_eq!(tree.raw_value(), readable);
        let other = tree.segments().last().unwrap();
        if !segment.raw().contains('\r') {
            compare_segment(segment, other);
        }
    }
}

fn compare_segment(segment: crate::hl7::segment::Segment<'_>, other: &hl7_parser::message::Segment<'_>) {
    assert_eq!(segment.id(), other.name);
    for (at, theirs) in other.fields().enumerate().skip(if segment.id() == "MSH" { 2 } else { 0 }) {
        let ours = segment.field(at + 1);
        assert_eq!(ours.raw(), theirs.raw_value());
        if ours.raw().is_empty() {
            continue;
        }
        assert_eq!(ours.repetitions().count(), theirs.repeats().count());
        for (ours, theirs) in ours.repetitions().zip(theirs.repeats()) {
            assert_eq!(ours.raw(), theirs.raw_value());
            for (n, theirs) in (1..).zip(theirs.components()) {
                assert_eq!(ours.component(n).raw(), theirs.raw_value());
                for (m, theirs) in (1..).zip(theirs.subcomponents()) {
                    assert_eq!(ours.component(n).sub_raw(m), theirs.raw_value());
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>(), lines in r"([A-Za-z]{3}|ü)?([|^~\\&\r\nA-Z0-9 ü#]{0,20})") {
        for text in [text.clone(), format!("MSH|^~\\&|{text}"), format!("MSH{text}"), format!("MSH|^~\\&#|A\r{lines}{text}"), lines] {
            let Ok(message) = Message::parse(&text) else { continue };
            for segment in message.segments() {
                for n in 0..=segment.n_fields() {
                    let field = segment.field(n);
                    let _said = (field.is_empty(), field.is_null(), field.is_truncated(), Cx::read(field), Xcn::read(field));
                    let _texts: Vec<_> = field.repetitions().map(|repetition| repetition.text()).collect();
                }
                let _value = message.query(&format!("{}-3.1", segment.id()));
            }
        }
    }

    #[test]
    fn every_segment_of_a_text_reads_the_same_in_hl7_parser(body in r"(Z[A-Z0-9]{2}\|[|^~&A-Z0-9 ü\\]{0,30}\r){1,6}") {
        compare(&format!("MSH|^~\\&|A\r{body}ZZZ|end"));
    }
}
