//! The header as bytes: what must be known of a frame before it is text, and when it never becomes text.

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
        let frame = without_lead(frame);
        frame.split(|byte| matches!(byte, b'\r' | b'\n')).find_map(|line| Self::of_line(line, b"MSH"))
    }

    /// The header in a line that begins with this id.
    pub(crate) fn of_line(line: &'f [u8], id: &[u8; 3]) -> Option<Self> {
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

    /// Whether field `n` is closed by a separator, so that its end was not cut off.
    pub(crate) fn is_closed(&self, n: usize) -> bool {
        let separator = self.separator();
        self.line.iter().filter(|byte| **byte == separator).count() >= n
    }
}

/// The bytes from the first that can begin a line on.
pub(crate) fn without_lead(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_prefix(BOM).unwrap_or(bytes);
    let from = bytes.iter().position(|byte| !byte.is_ascii_whitespace() && !byte.is_ascii_control()).unwrap_or(bytes.len());
    let rest = bytes.get(from..).unwrap_or_default();
    rest.strip_prefix(BOM).unwrap_or(rest)
}

/// The bytes without spaces at either end.
pub(crate) fn trimmed(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii()
}
