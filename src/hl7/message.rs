//! Messages: the index over one message's text (HL7 v2.5.1 §2.5, §2.6).
//!
//! It knows where segments begin and end and decodes nothing. It never fails for anything but a missing header: lines that are no segments belong
//! to the segment before them, unknown segments are kept like any other.

use encoding_rs::Encoding;
use encoding_rs::UTF_8;

use crate::care::notice::Notice;
use crate::care::notice::NoticeCode;
use crate::hl7::ack::ErrDetail;
use crate::hl7::ack::Severity;
use crate::hl7::charset::Decoded;
use crate::hl7::delimiters::Delimiters;
use crate::hl7::field::Syntax;
use crate::hl7::header;
use crate::hl7::header::Terminators;
use crate::hl7::segment::Segment;
use crate::hl7::segment::is_segment;

/// Why a text is no HL7 v2 message. It says nothing of the text.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotHl7 {
    /// There is no text.
    #[error("the frame is empty")]
    Empty,
    /// It does not begin with MSH.
    #[error("there is no MSH segment")]
    NoHeader,
    /// MSH-1 or MSH-2 cannot be delimiters.
    #[error("MSH-1 and MSH-2 are not delimiters")]
    BadDelimiters,
}

impl NotHl7 {
    /// How the sender is told: the message is rejected with code 100.
    pub const fn detail(self) -> ErrDetail {
        ErrDetail { code: 100, location: None, severity: Severity::E }
    }
}

/// One message, borrowed from its text.
#[derive(Clone)]
pub struct Message<'t> {
    header: Segment<'t>,
    segments: Vec<Segment<'t>>,
    notices: Vec<Notice>,
}

impl<'t> Message<'t> {
    /// Indexes a text.
    ///
    /// # Errors
    /// [`NotHl7`] when there is no header to read the rest by.
    pub fn parse(text: &'t str) -> Result<Self, NotHl7> {
        Self::index(text, UTF_8)
    }

    /// Indexes a decoded frame; `\Xhh..\` is then read in its character set.
    ///
    /// # Errors
    /// [`NotHl7`] when there is no header to read the rest by.
    pub fn of(decoded: &'t Decoded<'_>) -> Result<Self, NotHl7> {
        Self::index(&decoded.text, decoded.encoding())
    }

    fn index(text: &'t str, charset: &'static Encoding) -> Result<Self, NotHl7> {
        let text = text.trim_start_matches(is_lead).trim_end_matches(is_tail);
        if text.is_empty() {
            return Err(NotHl7::Empty);
        }
        let terminators = Terminators::of(text.as_bytes());
        let ends_segment = |c: char| u8::try_from(c).is_ok_and(|byte| terminators.have(byte));
        let text = from_header(text, ends_segment).ok_or(NotHl7::NoHeader)?;
        let delimiters = Delimiters::read(text.as_bytes().get(3..).unwrap_or_default()).ok_or(NotHl7::BadDelimiters)?;
        let syntax = Syntax { delimiters, charset };

        // Invariant: `spans` is never empty once the first piece, which is the header, was seen.
        let mut segments: Vec<Segment<'t>> = Vec::with_capacity(16);
        let mut notices = Vec::new();
        let mut start = 0;
        let mut end = 0;
        let mut next = 0;
        for until in terminators.positions(text.as_bytes()).chain([text.len()]) {
            let from = next;
            next = until + 1;
            let piece = text.get(from..until).unwrap_or_default();
            if piece.bytes().all(header::is_tail) {
                continue;
            }
            if is_segment(piece, delimiters) {
                segments.extend(Segment::of(text, start, end, syntax));
                start = from;
            } else {
                notices.push(Notice::of(NoticeCode::ContinuationLine));
            }
            end = from + piece.len();
        }
        segments.extend(Segment::of(text, start, end, syntax));
        let header = segments.first().copied().ok_or(NotHl7::NoHeader)?;
        Ok(Self { header, segments, notices })
    }

    /// MSH-1 and MSH-2.
    pub fn delimiters(&self) -> Delimiters {
        self.header.delimiters()
    }

    /// What was put right on the way.
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// MSH.
    pub fn header(&self) -> Segment<'t> {
        self.header
    }

    /// All segments in order, the header first.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'t>> {
        self.segments.iter().copied()
    }

    pub(crate) fn all_segments(&self) -> &[Segment<'t>] {
        &self.segments
    }

    /// The first segment with this id.
    pub fn first(&self, id: &str) -> Option<Segment<'t>> {
        self.segments.iter().find(|segment| segment.is(id)).copied()
    }

    /// All segments with this id, in order.
    pub fn all(&self, id: &str) -> impl Iterator<Item = Segment<'t>> {
        self.segments().filter(move |segment| segment.is(id))
    }
}

/// Shows how many segments there are, and nothing of what they say.
impl std::fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message").field("n_segments", &self.segments.len()).field("notices", &self.notices).finish_non_exhaustive()
    }
}

/// What may stand before the header: a byte order mark, white space, framing left over.
fn is_lead(c: char) -> bool {
    c == '\u{FEFF}' || c.is_whitespace() || c.is_control()
}

fn is_tail(c: char) -> bool {
    u8::try_from(c).is_ok_and(header::is_tail)
}

/// The text from its MSH on; batch headers before it are skipped.
fn from_header(text: &str, ends_segment: impl Fn(char) -> bool) -> Option<&str> {
    let mut rest = text;
    loop {
        let id = rest.get(..3)?;
        if id.eq_ignore_ascii_case("MSH") {
            return Some(rest);
        }
        if !id.eq_ignore_ascii_case("FHS") && !id.eq_ignore_ascii_case("BHS") {
            return None;
        }
        rest = rest.split_once(&ends_segment)?.1.trim_start_matches(is_lead);
    }
}

#[cfg(test)]
mod tests;
