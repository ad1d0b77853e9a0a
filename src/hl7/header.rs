//! The header as bytes: what must be known of a frame before it is text, and when it never becomes text.

use crate::hl7::delimiters::Delimiters;

/// The fields of one MSH (or BHS, FHS) line, undecoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawHeader<'f> {
    line: &'f [u8],
}

/// The byte order mark of UTF-8.
pub(crate) const BOM: &[u8] = b"\xEF\xBB\xBF";

impl<'f> RawHeader<'f> {
    /// Finds the MSH line: at the beginning of the frame, or at that of any of its lines. `None` when there is none with a separator.
    pub(crate) fn find(frame: &'f [u8]) -> Option<Self> {
        let terminators = Terminators::of(frame);
        frame.split(|byte| terminators.have(*byte)).find_map(|line| Self::of_line(line, b"MSH"))
    }

    /// The header in a line that begins with this id.
    pub(crate) fn of_line(line: &'f [u8], id: &[u8]) -> Option<Self> {
        let line = without_lead(line);
        let (head, rest) = line.split_first_chunk::<3>()?;
        (head.eq_ignore_ascii_case(id) && rest.first()?.is_ascii_punctuation()).then_some(Self { line })
    }

    /// The line, from its id on.
    pub(crate) const fn line(&self) -> &'f [u8] {
        self.line
    }

    /// What follows the id: the delimiters and all fields.
    pub(crate) fn after_id(&self) -> &'f [u8] {
        self.line.get(3..).unwrap_or_default()
    }

    /// MSH-1.
    pub(crate) fn separator(&self) -> u8 {
        self.line.get(3).copied().unwrap_or(b'|')
    }

    /// Field `n` for `n` from 2 on; empty where there is none.
    pub(crate) fn field(&self, n: usize) -> &'f [u8] {
        let separator = self.separator();
        n.checked_sub(1).and_then(|at| self.line.split(|byte| *byte == separator).nth(at)).unwrap_or_default()
    }

    /// Component `n` of field `at`, without spaces.
    pub(crate) fn component(&self, at: usize, n: usize) -> &'f [u8] {
        let separator = Delimiters::read(self.after_id()).unwrap_or_default().component();
        let text = self.field(at).split(|byte| char::from(*byte) == separator).nth(n.saturating_sub(1));
        text.unwrap_or_default().trim_ascii()
    }
}

/// What ends a segment in a frame (HL7 v2.5.1 §2.5.1 says CR).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Terminators {
    /// CR; a LF is data, but for one at the beginning of a line.
    Cr,
    /// LF: there is no CR in front of anything.
    Lf,
    /// Either: the header itself ends in LF, and there are CRs too, or there is none but at the very end.
    Both,
}

impl Terminators {
    /// Those of a frame.
    pub(crate) fn of(frame: &[u8]) -> Self {
        let frame = without_lead(frame);
        let ends = frame.iter().rposition(|byte| !is_tail(*byte)).map_or(0, |last| last + 1);
        let (frame, tail) = frame.split_at_checked(ends).unwrap_or_default();
        if !frame.contains(&b'\r') {
            return if tail.contains(&b'\r') { Self::Both } else { Self::Lf };
        }
        let header = frame.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
        let is_id = |id: &[u8]| id.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        match (frame.get(header.len()..).unwrap_or_default(), frame.get(3)) {
            ([b'\n', id @ .., _], separator) if id.get(..3).is_some_and(is_id) && id.get(3) == separator => Self::Both,
            _ => Self::Cr,
        }
    }

    /// Where they stand in a text.
    pub(crate) fn positions(self, text: &[u8]) -> impl Iterator<Item = usize> + '_ {
        let (one, other) = match self {
            Self::Cr => (b'\r', b'\r'),
            Self::Lf => (b'\n', b'\n'),
            Self::Both => (b'\r', b'\n'),
        };
        memchr::memchr2_iter(one, other, text)
    }

    /// Whether a byte is one.
    pub(crate) const fn have(self, byte: u8) -> bool {
        match self {
            Self::Cr => byte == b'\r',
            Self::Lf => byte == b'\n',
            Self::Both => byte == b'\r' || byte == b'\n',
        }
    }
}

/// What may stand behind the last segment: line ends, spaces, NUL, SUB (DOS end of file), FS (framing left over).
pub(crate) const fn is_tail(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n' | b' ' | b'\t' | b'\0' | 0x1A | 0x1C)
}

/// The bytes from the first that can begin a line on.
pub(crate) fn without_lead(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_prefix(BOM).unwrap_or(bytes);
    let from = bytes.iter().position(|byte| !byte.is_ascii_whitespace() && !byte.is_ascii_control()).unwrap_or(bytes.len());
    let rest = bytes.get(from..).unwrap_or_default();
    rest.strip_prefix(BOM).unwrap_or(rest)
}
