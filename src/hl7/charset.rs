//! Character sets: MSH-18 (HL7 v2.5.1 §2.15.9.18, table 0211).
//!
//! It never fails a message: a name that no table has counts as none, and bytes that the character set does not have are replaced, each with a
//! notice. Double-byte Unicode cannot be framed by MLLP and counts as unknown.

use std::borrow::Cow;

use compact_str::CompactString;
use encoding_rs::BIG5;
use encoding_rs::EUC_KR;
use encoding_rs::Encoding;
use encoding_rs::GB18030;
use encoding_rs::ISO_2022_JP;
use encoding_rs::SHIFT_JIS;
use encoding_rs::UTF_8;
use encoding_rs::UTF_16BE;
use encoding_rs::UTF_16LE;
use encoding_rs::WINDOWS_1252;

use crate::care::notice::Notice;
use crate::care::notice::NoticeCode;
use crate::hl7::header::BOM;
use crate::hl7::header::RawHeader;

/// A frame as text.
#[derive(Clone)]
pub struct Decoded<'a> {
    /// The text, borrowed from the frame where that is possible.
    pub text: Cow<'a, str>,
    /// The character set it was read in, as `explain` shows it: `UTF-8`, `windows-1252`, `ASCII`.
    pub charset: &'static str,
    /// What was put right on the way.
    pub notices: Vec<Notice>,
    encoding: &'static Encoding,
}

impl Decoded<'_> {
    /// The character set, for bytes that are written as escapes.
    pub(crate) const fn encoding(&self) -> &'static Encoding {
        self.encoding
    }
}

/// Shows nothing of the text.
impl std::fmt::Debug for Decoded<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoded").field("charset", &self.charset).field("notices", &self.notices).finish_non_exhaustive()
    }
}

/// What a name of a character set means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Named {
    /// Nothing: the bytes decide.
    ByBytes,
    /// This one.
    Is(&'static Encoding),
    /// No table has it.
    Unknown,
}

/// Makes text of a frame: in the feed's character set if it has one, else in MSH-18's (first repetition), else as UTF-8 where the bytes are that and
/// as windows-1252 where they are not.
pub fn decode<'a>(frame: &'a [u8], feed_override: Option<&str>) -> Decoded<'a> {
    let body = frame.strip_prefix(BOM).unwrap_or(frame);
    let marked = body.len() != frame.len();
    let mut notices = Vec::new();
    let declared = match feed_override.map(|name| named(name.as_bytes())) {
        Some(Named::Is(encoding)) => Named::Is(encoding),
        Some(Named::ByBytes) => Named::ByBytes,
        Some(Named::Unknown) | None => in_header(body),
    };
    if declared == Named::Unknown {
        notices.push(Notice::at(NoticeCode::UnknownCharset, "MSH-18"));
    }
    let (encoding, charset) = match declared {
        Named::Is(encoding) => (encoding, encoding.name()),
        Named::ByBytes | Named::Unknown if body.is_ascii() => (UTF_8, "ASCII"),
        Named::ByBytes | Named::Unknown if marked || std::str::from_utf8(body).is_ok() => (UTF_8, UTF_8.name()),
        Named::ByBytes | Named::Unknown => (WINDOWS_1252, WINDOWS_1252.name()),
    };
    let (text, had_bad_bytes) = encoding.decode_without_bom_handling(body);
    if had_bad_bytes {
        notices.push(Notice::of(NoticeCode::BadBytes));
    }
    Decoded { text, charset, notices, encoding }
}

/// Whether a feed may be given this character set: for the configuration to check.
pub fn is_known(name: &str) -> bool {
    named(name.as_bytes()) != Named::Unknown
}

/// What MSH-18 says.
fn in_header(body: &[u8]) -> Named {
    let Some(header) = RawHeader::find(body) else { return Named::ByBytes };
    let repetition = header.field(2).get(1).copied().unwrap_or(b'~');
    let mut names = header.field(18).split(|byte| *byte == repetition).map(named);
    let first = names.next().unwrap_or(Named::ByBytes);
    // `~ISO IR87`, as Japanese senders write: ASCII until an escape switches to the set of a later repetition.
    if first == Named::ByBytes && body.contains(&0x1B) && names.any(|name| name == Named::Is(ISO_2022_JP)) {
        return Named::Is(ISO_2022_JP);
    }
    first
}

/// Reads a name of table 0211, or what senders write for one.
fn named(name: &[u8]) -> Named {
    let key: CompactString = name.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(|byte| char::from(byte.to_ascii_uppercase())).collect();
    let encoding = match key.as_str() {
        "" | "ASCII" | "USASCII" | "ISOIR6" | "ISO646" | "NULL" | "NONE" => return Named::ByBytes,
        "UNICODEUTF8" | "UNICODE" | "UTF8" => UTF_8,
        "88591" | "ISO88591" | "ISOIR100" | "ANSI" | "WINDOWS1252" | "CP1252" | "1252" | "LATIN1" | "ISOLATIN1" => WINDOWS_1252,
        "88592" | "ISOIR101" => encoding_rs::ISO_8859_2,
        "88593" | "ISOIR109" => encoding_rs::ISO_8859_3,
        "88594" | "ISOIR110" => encoding_rs::ISO_8859_4,
        "88595" | "ISOIR144" => encoding_rs::ISO_8859_5,
        "88596" | "ISOIR127" => encoding_rs::ISO_8859_6,
        "88597" | "ISOIR126" => encoding_rs::ISO_8859_7,
        "88598" | "ISOIR138" => encoding_rs::ISO_8859_8,
        // ISO 8859-9 as its superset, which is what its senders have.
        "88599" | "ISO88599" | "ISOIR148" => encoding_rs::WINDOWS_1254,
        "885915" | "ISOIR203" => encoding_rs::ISO_8859_15,
        "GB180302000" => GB18030,
        "KSX1001" | "ISOIR149" => EUC_KR,
        "BIG5" => BIG5,
        "ISOIR14" | "ISOIR13" => SHIFT_JIS,
        "ISOIR87" | "ISOIR159" | "JISX0202" | "JAS2020" => ISO_2022_JP,
        _ => match Encoding::for_label(name).or_else(|| Encoding::for_label(key.as_bytes())) {
            Some(encoding) if encoding != UTF_16LE && encoding != UTF_16BE && encoding != encoding_rs::REPLACEMENT => encoding,
            Some(_) | None => return Named::Unknown,
        },
    };
    Named::Is(encoding)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::any;
    use proptest::prelude::proptest;

    use super::decode;
    use super::is_known;
    use crate::care::notice::NoticeCode;
    use crate::hl7::ack::AckHeader;
    use crate::hl7::batch::split;
    use crate::hl7::message::Message;

    fn frame(msh_18: &str, name: &[u8]) -> Vec<u8> {
        let mut frame = format!("MSH|^~\\&|A|B|C|D|20261121||ADT^A01|1|P|2.5||||||{msh_18}\rPID|1||7||").into_bytes();
        frame.extend_from_slice(name);
        frame
    }

    fn check(msh_18: &str, name: &[u8], charset: &str, text: &str) {
        let frame = frame(msh_18, name);
        let decoded = decode(&frame, None);
        assert_eq!((decoded.charset, decoded.text.rsplit('|').next().unwrap()), (charset, text), "{msh_18}");
        assert_eq!(decoded.notices, []);
    }

    fn notices(msh_18: &str, name: &[u8]) -> Vec<NoticeCode> {
        decode(&frame(msh_18, name), None).notices.iter().map(|notice| notice.code).collect()
    }

    #[test]
    fn an_empty_msh_18_lets_the_bytes_decide() {
        check("", b"Muller", "ASCII", "Muller");
        check("", "Müller".as_bytes(), "UTF-8", "Müller");
        check("", b"M\xFCller", "windows-1252", "Müller");
        check("ASCII", b"M\xFCller", "windows-1252", "Müller");
        check("ISO IR6", "Müller".as_bytes(), "UTF-8", "Müller");
    }

    #[test]
    fn the_first_repetition_of_msh_18_counts() {
        check("8859/1", b"M\xFCller", "windows-1252", "Müller");
        check("8859/1", "Müller".as_bytes(), "windows-1252", "MÃ¼ller");
        check("UNICODE UTF-8~8859/1", "Müller".as_bytes(), "UTF-8", "Müller");
        check("8859/2", b"\xB1", "ISO-8859-2", "ą");
        check("8859/15", b"\xA4", "ISO-8859-15", "€");
        check("GB 18030-2000", b"\xC4\xE3", "gb18030", "你");
        check("ISO IR14", b"\xB1", "Shift_JIS", "ｱ");
    }

    #[test]
    fn names_that_no_standard_has_are_understood() {
        for name in ["utf-8", "UTF8", "UNICODE", "Unicode UTF-8"] {
            check(name, "é".as_bytes(), "UTF-8", "é");
        }
        for name in ["ISO-8859-1", "ISO8859-1", "8859-1", "WINDOWS-1252", "ANSI", "ISO_IR 100", "latin1"] {
            check(name, b"\xE9", "windows-1252", "é");
        }
        check("windows-1250", b"\xB9", "windows-1250", "ą");
    }

    #[test]
    fn escapes_switch_to_japanese_where_a_later_repetition_says_so() {
        check("~ISO IR87", b"\x1B$B;3\x1B(B", "ISO-2022-JP", "山");
        check("ISO IR87", b"\x1B$B;3\x1B(B", "ISO-2022-JP", "山");
    }

    #[test]
    fn an_unknown_name_counts_as_empty_and_is_told() {
        assert_eq!(notices("KLINGON", b"M\xFCller"), [NoticeCode::UnknownCharset]);
        assert_eq!(notices("UNICODE UTF-16", b"Muller"), [NoticeCode::UnknownCharset]);
        assert!(!is_known("UTF-16") && !is_known("KLINGON") && is_known("utf-8") && is_known("8859/1"));
    }

    #[test]
    fn bad_bytes_are_replaced_and_told() {
        assert_eq!(notices("UNICODE UTF-8", b"M\xFCller"), [NoticeCode::BadBytes]);
        assert!(decode(&frame("UNICODE UTF-8", b"M\xFCller"), None).text.ends_with("M\u{FFFD}ller"));
    }

    #[test]
    fn a_byte_order_mark_is_stripped_and_says_utf_8() {
        let mut marked = b"\xEF\xBB\xBF".to_vec();
        marked.extend(frame("", "é".as_bytes()));
        let decoded = decode(&marked, None);
        assert!(decoded.text.starts_with("MSH") && decoded.text.ends_with('é'));
        assert_eq!(decoded.charset, "UTF-8");
    }

    #[test]
    fn what_the_feed_says_overrides_the_message() {
        let frame = frame("UNICODE UTF-8", b"\xB1");
        let decoded = decode(&frame, Some("8859/2"));
        assert!(decoded.text.ends_with('ą'));
        assert_eq!(decoded.charset, "ISO-8859-2");
    }

    #[test]
    fn text_that_needs_no_change_is_borrowed() {
        assert!(matches!(decode(&frame("", "é".as_bytes()), None).text, Cow::Borrowed(_)));
        assert!(matches!(decode(&frame("8859/1", b"plain"), None).text, Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(head in 0..4_usize, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let heads: [&[u8]; 4] = [b"", b"MSH|^~\\&|", b"\xEF\xBB\xBFMSH|^~\\&|A|B|C|D|||ADT^A01|1|P|2.5||||||", b"BHS|^~\\&|\rMSH|"];
            let frame = [heads[head], bytes.as_slice()].concat();
            for message in split(&frame).messages.into_iter().chain([frame.as_slice()]) {
                let _header = AckHeader::recover(message);
                let _header = AckHeader::recover_prefix(message);
                let decoded = decode(message, None);
                if let Ok(message) = Message::of(&decoded) {
                    for segment in message.segments() {
                        for n in 0..=segment.n_fields() {
                            let _text = segment.field(n).whole();
                        }
                    }
                }
            }
        }
    }
}
