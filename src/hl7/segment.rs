//! Segments: one line of a message, and its fields by number (HL7 v2.5.1 §2.5.1, §2.5.3).

use crate::hl7::delimiters::Delimiters;
use crate::hl7::delimiters::piece;
use crate::hl7::field::Field;
use crate::hl7::field::Syntax;

/// How many separators of a segment are remembered: enough for the fields that are read of every message.
const REMEMBERED: usize = 48;

/// One segment. Where its first fields end is found once; nothing else is kept for those that nobody asks for.
#[derive(Clone, Copy)]
pub struct Segment<'m> {
    id: [u8; 3],
    /// How many of `ends` are there.
    n_ends: u8,
    /// Where the first separators stand.
    ends: [u16; REMEMBERED],
    text: &'m str,
    syntax: Syntax,
}

impl<'m> Segment<'m> {
    /// The segment that stands from `start` to `end`; `None` when there is none.
    pub(crate) fn of(text: &'m str, start: usize, end: usize, syntax: Syntax) -> Option<Self> {
        let text = text.get(start..end)?.trim_start();
        let id: [u8; 3] = text.as_bytes().get(..3)?.try_into().ok()?;
        let (mut ends, mut n_ends) = ([0; REMEMBERED], 0);
        let separators = memchr::memchr_iter(syntax.delimiters.field_byte(), text.as_bytes());
        for (end, at) in ends.iter_mut().zip(separators) {
            let Ok(at) = u16::try_from(at) else { break };
            *end = at;
            n_ends += 1;
        }
        Some(Self { id: id.map(|byte| byte.to_ascii_uppercase()), n_ends, ends, text, syntax })
    }

    /// The three characters of its id, upper case.
    pub fn id(&self) -> &str {
        std::str::from_utf8(&self.id).unwrap_or_default()
    }

    /// Whether this is its id.
    pub fn is(&self, id: &str) -> bool {
        self.id.eq_ignore_ascii_case(id.as_bytes())
    }

    /// Field `n`, as HL7 counts: `field(3)` of PID is PID-3, and of MSH, FHS and BHS the first is the separator itself. Empty where there is none.
    pub fn field(&self, n: usize) -> Field<'m> {
        let separator = self.syntax.delimiters.field();
        let undivided = Syntax { delimiters: self.syntax.delimiters.undivided(), charset: self.syntax.charset };
        match (self.is_header(), n) {
            (_, 0) => Field::new("", self.syntax),
            (true, 1) => {
                let from = 3;
                Field::new(self.text.get(from..from + separator.len_utf8()).unwrap_or_default(), undivided)
            }
            (true, 2) => Field::new(self.piece(1), undivided),
            (true, n) => Field::new(self.piece(n - 1), self.syntax),
            (false, n) => Field::new(self.piece(n), self.syntax),
        }
    }

    /// What stands between separators, counted from zero; empty where there is none.
    fn piece(&self, n: usize) -> &'m str {
        let ends = self.ends.get(..usize::from(self.n_ends)).unwrap_or_default();
        let behind = |end: &u16| usize::from(*end) + 1;
        if n > ends.len() {
            // Nobody remembers where it begins: it is looked for behind the last separator that is remembered.
            let rest = self.text.get(ends.last().map_or(0, behind)..).unwrap_or_default();
            return piece(rest, self.syntax.delimiters.field(), n - ends.len());
        }
        let from = n.checked_sub(1).and_then(|before| ends.get(before)).map_or(0, behind);
        match ends.get(n) {
            Some(end) => self.text.get(from..usize::from(*end)).unwrap_or_default(),
            None => piece(self.text.get(from..).unwrap_or_default(), self.syntax.delimiters.field(), 0),
        }
    }

    /// The number of the last field that is there, empty or not.
    pub fn n_fields(&self) -> usize {
        let n_separators = self.text.matches(self.syntax.delimiters.field()).count();
        if self.is_header() { n_separators + 1 } else { n_separators }
    }

    /// The delimiters of the message.
    pub fn delimiters(&self) -> Delimiters {
        self.syntax.delimiters
    }

    /// The text as it stands, lines that continue it included.
    pub fn raw(&self) -> &'m str {
        self.text
    }

    pub(crate) fn syntax(&self) -> Syntax {
        self.syntax
    }

    pub(crate) fn is_header(&self) -> bool {
        matches!(&self.id, b"MSH" | b"FHS" | b"BHS")
    }
}

/// Shows the id and nothing of what the segment says.
impl std::fmt::Debug for Segment<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}(‹phi›)", self.id())
    }
}

/// Whether a line begins a segment: an id in upper case and then the separator or the end, or an id in any case and then the separator. Anything
/// else continues the segment before.
pub(crate) fn is_segment(piece: &str, delimiters: Delimiters) -> bool {
    let piece = piece.trim_start();
    let Some((id, rest)) = piece.split_at_checked(3) else { return false };
    let [first, others @ ..] = id.as_bytes() else { return false };
    let named = first.is_ascii_alphabetic() && others.iter().all(u8::is_ascii_alphanumeric);
    let ends = rest.trim_end().is_empty() && !id.bytes().any(|byte| byte.is_ascii_lowercase());
    named && (ends || rest.starts_with(delimiters.field()))
}
