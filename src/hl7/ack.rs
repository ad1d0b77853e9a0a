//! Acknowledgements (HL7 v2.5.1 §2.9, §2.14.1).
//!
//! An answer is built from the header's bytes alone, so that MSA-2 is MSH-10 byte for byte, also where the message could not be read. It never holds
//! anything of a patient, and nothing but ASCII besides MSA-2.

use bytes::Bytes;

use crate::hl7::ack::writer::Writer;
use crate::hl7::header::RawHeader;
use crate::time::Timestamp;

pub mod master_file;
pub(super) mod writer;

/// MSA-1 (table 0008).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum AckCode {
    /// Application accept.
    AA,
    /// Application error.
    AE,
    /// Application reject.
    AR,
    /// Commit accept.
    CA,
    /// Commit error.
    CE,
    /// Commit reject.
    CR,
}

impl AckCode {
    /// The two letters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AA => "AA",
            Self::AE => "AE",
            Self::AR => "AR",
            Self::CA => "CA",
            Self::CE => "CE",
            Self::CR => "CR",
        }
    }
}

/// ERR-4 (table 0516).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Severity {
    /// Error.
    #[default]
    E,
    /// Warning.
    W,
    /// Information.
    I,
}

/// ERR-2: where the error is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ErrLocation {
    /// The segment's id.
    pub segment: &'static str,
    /// Which of the segments with this id, counted from one.
    pub occurrence: u16,
    /// The field's number.
    pub field: u16,
}

/// What is wrong, in the terms of the standard.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ErrDetail {
    /// ERR-3 (table 0357).
    pub code: u16,
    /// Where, when it is about a field.
    pub location: Option<ErrLocation>,
    /// How bad.
    pub severity: Severity,
}

/// When a feed is answered.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum AckMode {
    /// As MSH-15 and MSH-16 of each message ask.
    #[default]
    Auto,
    /// Always with AA, AE or AR.
    Original,
    /// Always with CA, CE or CR.
    Enhanced,
    /// Never.
    None,
}

/// What became of a message, as its sender must know it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Outcome {
    /// It is kept.
    Accept,
    /// Something in it is wrong.
    Error,
    /// It is not for us.
    Reject,
}

/// MSH-15 and MSH-16 (table 0155).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Condition {
    /// Empty.
    Unsaid,
    /// `AL`, and whatever is not in the table: better an answer too many than a sender that waits.
    Always,
    /// `NE`.
    Never,
    /// `ER`.
    OnError,
    /// `SU`.
    OnSuccess,
}

impl Condition {
    fn read(text: &[u8]) -> Self {
        match text.to_ascii_uppercase().as_slice() {
            b"" | b"\"\"" => Self::Unsaid,
            b"NE" => Self::Never,
            b"ER" => Self::OnError,
            b"SU" => Self::OnSuccess,
            _ => Self::Always,
        }
    }

    /// Whether an answer is due; in enhanced mode, where one of the two is said, the other counts as never.
    const fn is_met(self, outcome: Outcome) -> bool {
        match (self, outcome) {
            (Self::Unsaid | Self::Never, _) | (Self::OnError, Outcome::Accept) | (Self::OnSuccess, Outcome::Error | Outcome::Reject) => false,
            (Self::Always, _) | (Self::OnError, Outcome::Error | Outcome::Reject) | (Self::OnSuccess, Outcome::Accept) => true,
        }
    }
}

/// What an answer needs of the message it answers.
#[derive(Clone)]
pub struct AckHeader {
    line: Box<[u8]>,
}

impl AckHeader {
    /// Reads what there is of a header in a whole frame. Never fails: what cannot be found is absent.
    pub fn recover(frame: &[u8]) -> Self {
        Self { line: RawHeader::find(frame).map(|header| header.line().into()).unwrap_or_default() }
    }

    /// As [`AckHeader::recover`], from the beginning of a frame whose rest is not there: a field that may have been cut in two is absent.
    pub fn recover_prefix(prefix: &[u8]) -> Self {
        let Some(header) = RawHeader::find(prefix) else { return Self::recover(prefix) };
        let mut line = header.line();
        if prefix.ends_with(line) {
            let closed = line.iter().rposition(|byte| *byte == header.separator()).unwrap_or_default();
            line = line.get(..closed).unwrap_or_default();
        }
        Self { line: line.into() }
    }

    /// MSH-10 byte for byte; `None` when there is none.
    pub fn control_id(&self) -> Option<&[u8]> {
        Some(self.header()?.field(10)).filter(|id| !id.trim_ascii().is_empty())
    }

    /// Whether the message is itself an acknowledgement: such a one is never answered.
    pub fn is_ack(&self) -> bool {
        self.header().is_some_and(|header| header.component(9, 1).eq_ignore_ascii_case(b"ACK"))
    }

    /// MSH-15: when the sender wants to know that its message is kept.
    pub fn accept_condition(&self) -> Condition {
        Condition::read(self.header().map(|header| header.component(15, 1)).unwrap_or_default())
    }

    /// MSH-16: when the sender wants to know what became of its message.
    pub fn application_condition(&self) -> Condition {
        Condition::read(self.header().map(|header| header.component(16, 1)).unwrap_or_default())
    }

    fn header(&self) -> Option<RawHeader<'_>> {
        RawHeader::of_line(&self.line, b"MSH")
    }
}

/// Shows nothing of the header.
impl std::fmt::Debug for AckHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AckHeader(‹phi›)")
    }
}

/// Which answer is due, if any (HL7 v2.5.1 §2.9.2, §2.9.3).
///
/// In enhanced mode one answer is given on the connection: the commit answer where MSH-15 asks for it, else the application answer where MSH-16
/// does, which the standard sends elsewhere and senders expect here. An override of the feed disregards what the sender declares.
pub fn answers(header: &AckHeader, mode: AckMode, outcome: Outcome) -> Option<AckCode> {
    match mode {
        AckMode::None => None,
        AckMode::Original => Some(application(outcome)),
        AckMode::Enhanced => Some(commit(outcome)),
        AckMode::Auto => {
            let (accept, of_application) = (header.accept_condition(), header.application_condition());
            let is_original = (accept, of_application) == (Condition::Unsaid, Condition::Unsaid);
            if !is_original && accept.is_met(outcome) {
                Some(commit(outcome))
            } else {
                (is_original || of_application.is_met(outcome)).then(|| application(outcome))
            }
        }
    }
}

const fn application(outcome: Outcome) -> AckCode {
    match outcome {
        Outcome::Accept => AckCode::AA,
        Outcome::Error => AckCode::AE,
        Outcome::Reject => AckCode::AR,
    }
}

const fn commit(outcome: Outcome) -> AckCode {
    match outcome {
        Outcome::Accept => AckCode::CA,
        Outcome::Error => AckCode::CE,
        Outcome::Reject => AckCode::CR,
    }
}

/// Builds an answer; `id` is its own, new MSH-10. It ends with CR.
pub fn build(header: &AckHeader, code: AckCode, error: Option<&ErrDetail>, now: Timestamp, id: &str) -> Bytes {
    begin(header, Kind::Plain, code, error, now, id).into_bytes()
}

/// Which message an answer is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// ACK.
    Plain,
    /// MFK.
    MasterFile,
}

/// MSH, MSA and ERR, which every answer begins with.
fn begin(header: &AckHeader, kind: Kind, code: AckCode, error: Option<&ErrDetail>, now: Timestamp, id: &str) -> Writer {
    let inbound = header.header();
    let version = Version::read(inbound.map(|inbound| inbound.component(12, 1)).unwrap_or_default());
    let mut writer = Writer::like(inbound);
    let control_id = header.control_id().unwrap_or_default();

    let field = |n| inbound.map(|inbound| inbound.field(n)).unwrap_or_default();
    let event = inbound.map(|inbound| inbound.component(9, 2)).filter(|event| event.len() == 3 && event.iter().all(u8::is_ascii_alphanumeric));
    writer.header(b"MSH");
    writer.names([field(5), field(6), field(3), field(4)]);
    writer.time(now);
    writer.field(b"");
    let (message, structure): (&[u8], &[u8]) = match kind {
        Kind::Plain => (b"ACK", b"ACK"),
        Kind::MasterFile => (b"MFK", b"MFK_M01"),
    };
    match (version, event) {
        (Version::UpTo22, _) | (_, None) => writer.field(message),
        (Version::Of23And24, Some(event)) => writer.components([message, event]),
        (Version::From25, Some(event)) => writer.components([message, event, structure]),
    }
    writer.field(id.as_bytes());
    writer.field(or(field(11), b"P"));
    writer.field(or(field(12), b"2.5.1"));
    if !control_id.is_ascii() {
        // MSH-13 to MSH-17 stay empty: only an id that is not ASCII needs its character set named.
        writer.fields([b"", b"", b"", b"", b"", field(18)]);
    }
    writer.end();

    writer.raw(b"MSA");
    writer.field(code.as_str().as_bytes());
    writer.separator();
    writer.raw(control_id);
    // A warning is no answer to the sender's question, which MSA answers.
    if let Some(error) = error.filter(|error| version != Version::From25 && error.severity == Severity::E) {
        writer.field(meaning(error.code).as_bytes());
    }
    writer.end();

    if let Some(error) = error {
        writer.raw(b"ERR");
        writer.error(error, version);
        writer.end();
    }
    writer
}

/// Which shape of answer a version has.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Version {
    UpTo22,
    Of23And24,
    /// And whatever is no version of 2.
    From25,
}

impl Version {
    fn read(text: &[u8]) -> Self {
        match text {
            [b'2', b'.', b'1' | b'2'] | [b'2', b'.', b'1' | b'2', b'.', ..] => Self::UpTo22,
            [b'2', b'.', b'3' | b'4'] | [b'2', b'.', b'3' | b'4', b'.', ..] => Self::Of23And24,
            _ => Self::From25,
        }
    }
}

/// The words of table 0357.
const fn meaning(code: u16) -> &'static str {
    match code {
        0 => "Message accepted",
        100 => "Segment sequence error",
        101 => "Required field missing",
        102 => "Data type error",
        103 => "Table value not found",
        104 => "Value too long",
        200 => "Unsupported message type",
        201 => "Unsupported event code",
        202 => "Unsupported processing id",
        203 => "Unsupported version id",
        204 => "Unknown key identifier",
        205 => "Duplicate key identifier",
        206 => "Application record locked",
        _ => "Application error",
    }
}

fn or<'a>(text: &'a [u8], default: &'a [u8]) -> &'a [u8] {
    if text.trim_ascii().is_empty() { default } else { text }
}

#[cfg(test)]
mod tests;
