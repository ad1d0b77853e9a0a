//! The little of HL7 that a sender must read: the control id it sends, and what the answer says (HL7 v2.5.1 §2.9.2, §2.14.8, §2.14.5).
//!
//! Answers of any receiver are read, also malformed ones, and are shown to the operator without control characters.

use std::ops::Range;

use crate::cli::messages::header_offsets;

/// What is to be known of a message that is sent.
#[derive(Clone, Eq, PartialEq)]
pub(super) struct Header {
    /// MSH-10.
    pub(super) control_id: Vec<u8>,
    /// False when both MSH-15 and MSH-16 say `NE`.
    pub(super) asks_for_an_answer: bool,
    /// Whether it answers a message itself (MSH-9.1 is `ACK` or `MCF`): nobody answers that.
    pub(super) is_acknowledgement: bool,
}

impl Header {
    /// Whether a receiver answers it.
    pub(super) const fn is_answered(&self) -> bool {
        self.asks_for_an_answer && !self.is_acknowledgement
    }
}

/// One MSA of an answer.
#[derive(Clone, Eq, PartialEq)]
pub(super) struct Acknowledgement {
    /// MSA-1, to be shown.
    pub(super) code: String,
    /// MSA-2.
    pub(super) control_id: Vec<u8>,
    /// The error code and its text, from the ERR after it.
    pub(super) error: Option<String>,
}

/// The headers in a payload.
pub(super) fn headers(payload: &[u8]) -> Vec<Header> {
    let header = |at| {
        let segment = segment_at(payload, at);
        Header {
            control_id: header_field(segment, 10).to_vec(),
            asks_for_an_answer: [15, 16].iter().any(|n| !header_field(segment, *n).eq_ignore_ascii_case(b"NE")),
            is_acknowledgement: is_acknowledgement(segment),
        }
    };
    header_offsets(payload).into_iter().map(header).collect()
}

/// Whether MSH-9.1 is `ACK`, or `MCF`, a delayed one.
fn is_acknowledgement(header: &[u8]) -> bool {
    let separator = header.get(4).copied().unwrap_or(b'^');
    header_field(header, 9)
        .split(|byte| *byte == separator)
        .next()
        .is_some_and(|code| [&b"ACK"[..], b"MCF"].iter().any(|answer| code.eq_ignore_ascii_case(answer)))
}

/// The payload, with each MSH-10 replaced. A header too short to have one stays as it is.
pub(super) fn with_fresh_ids(payload: &[u8], mut fresh_id: impl FnMut() -> String) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(payload.len() + 32);
    let mut done = 0;
    for at in header_offsets(payload) {
        if let Some(id) = header_field_range(segment_at(payload, at), 10) {
            replaced.extend_from_slice(payload.get(done..at + id.start).unwrap_or_default());
            replaced.extend_from_slice(fresh_id().as_bytes());
            done = at + id.end;
        }
    }
    replaced.extend_from_slice(payload.get(done..).unwrap_or_default());
    replaced
}

/// The acknowledgements in an answer, each with the error that follows it.
pub(super) fn read_acknowledgements(answer: &[u8]) -> Vec<Acknowledgement> {
    let mut found: Vec<Acknowledgement> = Vec::new();
    for segment in answer.split(|byte| matches!(*byte, b'\r' | b'\n')) {
        if segment.starts_with(b"MSA") {
            let code = printable(field(segment, 1));
            found.push(Acknowledgement { code, control_id: field(segment, 2).to_vec(), error: None });
        } else if segment.starts_with(b"ERR")
            && let Some(last) = found.last_mut()
            && last.error.is_none()
        {
            last.error = error_text(segment);
        }
    }
    found
}

/// ERR-3 since 2.5; before that the fourth component of ERR-1, whose parts are subcomponents.
fn error_text(segment: &[u8]) -> Option<String> {
    let since_2_5 = field(segment, 3);
    let coded: Vec<&[u8]> = if since_2_5.is_empty() {
        field(segment, 1).split(|byte| *byte == b'^').nth(3)?.split(|byte| *byte == b'&').collect()
    } else {
        since_2_5.split(|byte| *byte == b'^').collect()
    };
    let shown = coded.into_iter().take(2).map(printable).collect::<Vec<_>>().join(" ");
    Some(shown).filter(|shown| !shown.trim().is_empty())
}

/// A segment from `at` to its end.
fn segment_at(payload: &[u8], at: usize) -> &[u8] {
    payload.get(at..).unwrap_or_default().split(|byte| matches!(*byte, b'\r' | b'\n')).next().unwrap_or_default()
}

/// A field of a segment other than MSH, counted from 1.
fn field(segment: &[u8], n: usize) -> &[u8] {
    let Some(separator) = segment.get(3) else { return b"" };
    segment.split(|byte| byte == separator).nth(n).unwrap_or_default()
}

/// A field of an MSH segment. MSH-1 is the separator itself.
fn header_field(segment: &[u8], n: usize) -> &[u8] {
    header_field_range(segment, n).and_then(|range| segment.get(range)).unwrap_or_default()
}

fn header_field_range(segment: &[u8], n: usize) -> Option<Range<usize>> {
    let separator = segment.get(3)?;
    let mut begin = 0;
    for (nth, part) in segment.split(|byte| byte == separator).enumerate() {
        if nth + 1 == n {
            return Some(begin..begin + part.len());
        }
        begin += part.len() + 1;
    }
    None
}

/// Text from outside, fit for a terminal.
fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::headers;
    use super::read_acknowledgements;
    use super::with_fresh_ids;

    fn fresh(payload: &str) -> String {
        let mut n = 0;
        let next = || {
            n += 1;
            format!("NEW{n}")
        };
        String::from_utf8(with_fresh_ids(payload.as_bytes(), next)).unwrap()
    }

    #[test]
    fn fresh_ids_replace_the_control_id_and_nothing_else() {
        assert_eq!(fresh("MSH|^~\\&|A|B|C|D|T||ADT^A01|OLD|P|2.5\rPID|OLD\r"), "MSH|^~\\&|A|B|C|D|T||ADT^A01|NEW1|P|2.5\rPID|OLD\r");
        assert_eq!(fresh("MSH*^~\\&*A*B*C*D*T**ADT^A01*OLD\nPID*1\n"), "MSH*^~\\&*A*B*C*D*T**ADT^A01*NEW1\nPID*1\n");
        assert_eq!(
            fresh("MSH|^~\\&|||||||ADT^A01||P\rMSH|^~\\&|||||||ADT^A02|2|P\r"),
            "MSH|^~\\&|||||||ADT^A01|NEW1|P\rMSH|^~\\&|||||||ADT^A02|NEW2|P\r"
        );
        assert_eq!(fresh("MSH|^~\\&|A\rPID|1\r"), "MSH|^~\\&|A\rPID|1\r");
        assert_eq!(fresh("garbage"), "garbage");
    }

    #[test]
    fn a_message_that_wants_no_answer_says_so_twice() {
        let asks = |tail: &str| headers(format!("MSH|^~\\&|||||||ADT^A01|1|P|2.5|||{tail}\r").as_bytes())[0].asks_for_an_answer;
        assert!(asks("") && asks("AL|NE") && asks("NE|AL") && asks("NE"));
        assert!(!asks("NE|NE"));
    }

    #[test]
    fn a_message_that_is_an_answer_gets_none() {
        let is_answered = |msh: &str| headers(format!("{msh}\rMSA|AA|1\r").as_bytes())[0].is_answered();
        assert!(is_answered("MSH|^~\\&|||||||ADT^ACK^ACK|1") && is_answered("MSH|^~\\&|||||||ACKNOWLEDGE|1") && is_answered("MSH|^~\\&"));
        assert!(!is_answered("MSH|^~\\&|||||||ACK|1") && !is_answered("MSH|^~\\&|||||||ack^A01^ACK|1") && !is_answered("MSH|$~\\&|||||||ACK$A01|1"));
    }

    #[track_caller]
    fn check(answer: &str, expected: &[(&str, &str, Option<&str>)]) {
        let found = read_acknowledgements(answer.as_bytes());
        let found: Vec<_> = found.iter().map(|it| (it.code.as_str(), std::str::from_utf8(&it.control_id).unwrap(), it.error.as_deref())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn answers_old_and_new_are_read() {
        check("MSH|^~\\&|\rMSA|AA|1\r", &[("AA", "1", None)]);
        check("MSH|^~\\&|\rMSA|AR|1\rERR||MSH^1^11|202^Unsupported processing id^HL70357|E\r", &[("AR", "1", Some("202 Unsupported processing id"))]);
        check("MSH|^~\\&|\rMSA|AE|1\rERR|PID^1^3^101&Required field missing&HL70357\r", &[("AE", "1", Some("101 Required field missing"))]);
        check("BHS|^~\\&|\rMSH|^~\\&|\rMSA|CA|1\rMSH|^~\\&|\rMSA|CR|2\rERR|||203\rBTS|2\r", &[("CA", "1", None), ("CR", "2", Some("203"))]);
        check("nonsense", &[]);
    }

    #[test]
    fn what_an_answer_says_cannot_steer_the_terminal() {
        check("MSA|A\u{1b}[2J|1", &[("A\u{fffd}[2J", "1", None)]);
    }
}
