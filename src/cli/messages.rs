//! Messages from files: what `replay`, `explain` and the journeys read.
//!
//! A file holds one message or several one after another, or MLLP frames, or a batch (HL7 v2.5.1 §2.10.3), whose wrapper is left out. Messages are
//! cut apart at the lines that begin with `MSH`, and otherwise stay byte for byte what they are: segments may end in CR, LF or CRLF, and which it is
//! is for the reader of the message to find out. In a message whose segments end in CR a bare LF is data, and a text that merely begins with `MSH`
//! after one begins no message; a whole header does, since files are joined by LF more often than headers are quoted.

use std::fmt;
use std::fs;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use bytes::Bytes;
use bytes::BytesMut;
use tokio_util::codec::Decoder;

use crate::mllp::codec::Frame;
use crate::mllp::codec::MllpCodec;
use crate::mllp::codec::START;

/// What to say when nothing was found to work on.
pub const NO_MESSAGE: &str = "there is no message in what was named\nhint: a message begins with `MSH` at the start of a line";

/// One message as it stands in a file.
#[derive(Clone, Eq, PartialEq)]
pub struct InputMessage {
    /// The file; `-` for standard input.
    pub path: PathBuf,
    /// Which message of the file, from 1.
    pub index: usize,
    /// The message, or the payload of one frame.
    pub bytes: Bytes,
}

/// Says where, never what: a message is PHI.
impl fmt::Debug for InputMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InputMessage").field("path", &self.path).field("index", &self.index).field("n_bytes", &self.bytes.len()).finish()
    }
}

/// `path#index`.
impl fmt::Display for InputMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.path.display(), self.index)
    }
}

/// Why messages could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read `{}`", path.display())]
pub struct InputError {
    /// The file or directory.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// What was read.
#[derive(Debug, Default)]
pub struct Input {
    /// The messages, in the order in which they stand.
    pub messages: Vec<InputMessage>,
    /// What holds no whole message, in the order of the files.
    pub left_out: Vec<LeftOut>,
}

/// Frames of one file that begin and do not end: a receiver would not have taken them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeftOut {
    /// The file; `-` for standard input.
    pub path: PathBuf,
    /// How many such frames there are.
    pub n_torn: u64,
    /// How many whole frames with something in them stand before the first of those.
    pub n_before: usize,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, n_torn, n_before } = self;
        let (path, first) = (path.display(), n_before + 1);
        match n_torn {
            1 => write!(f, "`{path}`: frame {first} begins and does not end; it was left out"),
            _ => write!(f, "`{path}`: {n_torn} frames begin and do not end, the first of them frame {first}; they were left out"),
        }
    }
}

/// Reads messages from files, directories (walked in name order, at every depth) and `-`, standard input.
///
/// In a directory, hidden files are passed over, and so is what neither looks like messages nor is named like them (`.hl7`, `.er7`, `.mllp`).
///
/// # Errors
/// When a file or directory cannot be read.
pub fn read_messages(paths: &[PathBuf]) -> Result<Input, InputError> {
    let mut input = Input::default();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut bytes = Vec::new();
            io::stdin().lock().read_to_end(&mut bytes).map_err(|source| failed(path, source))?;
            add(&mut input, path, &bytes.into());
        } else if path.is_dir() {
            walk(&mut input, path)?;
        } else {
            add(&mut input, path, &read(path)?);
        }
    }
    Ok(input)
}

/// The messages in these bytes, of a file called `path`: as [`read_messages`] would read it.
pub fn messages_in(path: &Path, bytes: &Bytes) -> Input {
    let mut input = Input::default();
    add(&mut input, path, bytes);
    input
}

fn failed(path: &Path, source: io::Error) -> InputError {
    InputError { path: path.to_owned(), source }
}

fn read(path: &Path) -> Result<Bytes, InputError> {
    fs::read(path).map(Bytes::from).map_err(|source| failed(path, source))
}

fn walk(input: &mut Input, folder: &Path) -> Result<(), InputError> {
    let entries: Result<Vec<_>, _> = fs::read_dir(folder).and_then(Iterator::collect);
    let mut entries = entries.map_err(|source| failed(folder, source))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        // Links to directories are not followed: they may lead back here.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(input, &path)?;
        } else if path.is_file() {
            let bytes = read(&path)?;
            let named_so = path.extension().is_some_and(|name| ["hl7", "er7", "mllp"].iter().any(|known| name.eq_ignore_ascii_case(known)));
            if named_so || looks_like_messages(&bytes) {
                add(input, &path, &bytes);
            } else {
                tracing::debug!(path = %path.display(), "passed over: holds no message");
            }
        }
    }
    Ok(())
}

fn looks_like_messages(bytes: &[u8]) -> bool {
    let bytes = bytes.get(content_start(bytes)..).unwrap_or_default();
    bytes.first() == Some(&START) || matches!(kind_of_line(bytes), Line::Header | Line::Wrapper)
}

fn add(input: &mut Input, path: &Path, bytes: &Bytes) {
    let payloads = if is_framed(bytes) { unframe(input, path, bytes) } else { split_messages(bytes) };
    input.messages.extend(payloads.into_iter().zip(1..).map(|(bytes, index)| InputMessage { path: path.to_owned(), index, bytes }));
}

/// Whether a start byte comes before any header.
fn is_framed(bytes: &[u8]) -> bool {
    let start = bytes.iter().position(|byte| *byte == START);
    start.is_some_and(|start| header_offsets(bytes).first().is_none_or(|header| start < *header))
}

fn unframe(input: &mut Input, path: &Path, bytes: &Bytes) -> Vec<Bytes> {
    // No frame is longer than the file, so none is refused.
    let mut codec = MllpCodec::new(bytes.len());
    let mut buffer = BytesMut::from(bytes.as_ref());
    let mut payloads = Vec::new();
    let mut torn: Option<LeftOut> = None;
    loop {
        let n_before = payloads.len();
        let decoded = codec.decode_eof(&mut buffer);
        let n_torn = codec.take_tally().n_abandoned_frames;
        if n_torn > 0 {
            torn.get_or_insert_with(|| LeftOut { path: path.to_owned(), n_torn: 0, n_before }).n_torn += n_torn;
        }
        match decoded {
            Ok(Some(Frame::Message(payload))) => payloads.push(payload),
            Ok(Some(Frame::Refused { .. })) => {}
            Ok(None) | Err(_) => break,
        }
    }
    input.left_out.extend(torn);
    payloads
}

/// What begins at a line.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Line {
    /// MSH.
    Header,
    /// FHS, BHS, BTS, FTS.
    Wrapper,
    Other,
}

fn kind_of_line(line: &[u8]) -> Line {
    let Some((id, rest)) = line.split_at_checked(3) else { return Line::Other };
    let is = |name: &[u8]| id.eq_ignore_ascii_case(name);
    if rest.first().is_some_and(u8::is_ascii_alphanumeric) {
        Line::Other
    } else if is(b"MSH") {
        Line::Header
    } else if is(b"FHS") || is(b"BHS") || is(b"BTS") || is(b"FTS") {
        Line::Wrapper
    } else {
        Line::Other
    }
}

/// Whether a line is a whole header: an id, a separator, one to five delimiters, and the separator again.
fn is_whole_header(line: &[u8]) -> bool {
    let Some((separator, rest)) = line.get(3..).and_then(<[u8]>::split_first) else { return false };
    let n_delimiters = rest.iter().take_while(|byte| byte.is_ascii_punctuation() && *byte != separator).count();
    separator.is_ascii_punctuation() && (1..=5).contains(&n_delimiters) && rest.get(n_delimiters) == Some(separator)
}

/// Where the lines are that are headers or wrappers.
fn marked_lines(bytes: &[u8]) -> Vec<(usize, Line)> {
    let mut marked = Vec::new();
    let start = content_start(bytes);
    // Whether the message now begun has a CR in it, and the two bytes before this one.
    let mut saw_cr = false;
    let mut before = [b'\r'; 2];
    for (at, byte) in bytes.iter().enumerate().skip(start) {
        if at == start || matches!(before, [_, b'\r' | b'\n']) {
            let line = bytes.get(at..).unwrap_or_default();
            let kind = kind_of_line(line);
            let is_after_bare_lf = matches!(before, [first, b'\n'] if first != b'\r');
            if kind != Line::Other && (!is_after_bare_lf || !saw_cr || is_whole_header(line)) {
                marked.push((at, kind));
                saw_cr = false;
            }
        }
        saw_cr |= *byte == b'\r';
        before = [before[1], *byte];
    }
    marked
}

/// Where the MSH segments of a file or of a frame begin.
pub(super) fn header_offsets(bytes: &[u8]) -> Vec<usize> {
    marked_lines(bytes).into_iter().filter(|(_, kind)| *kind == Line::Header).map(|(at, _)| at).collect()
}

/// Where the content begins, after a byte order mark and white space.
fn content_start(bytes: &[u8]) -> usize {
    let n_mark = if bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    n_mark + bytes.iter().skip(n_mark).take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// Cuts at headers, and leaves out wrappers. What stands before the first header is a message of its own, so that it is refused and not forgotten.
fn split_messages(bytes: &Bytes) -> Vec<Bytes> {
    let mut messages = Vec::new();
    let mut begun = Some(content_start(bytes));
    let end = (bytes.len(), Line::Wrapper);
    for (at, kind) in marked_lines(bytes).into_iter().chain([end]) {
        if let Some(begun) = begun {
            messages.extend(trimmed(bytes, begun, at));
        }
        begun = (kind == Line::Header).then_some(at);
    }
    messages
}

/// A message without what stands between it and the next one; its last segment keeps its end.
fn trimmed(bytes: &Bytes, begun: usize, end: usize) -> Option<Bytes> {
    let part = bytes.get(begun..end)?;
    let n_kept = part.iter().rposition(|byte| !matches!(*byte, b'\r' | b'\n' | 0 | 0x1A))?.saturating_add(1);
    let (body, rest) = part.split_at_checked(n_kept)?;
    let n_end = match rest {
        [b'\r', b'\n', ..] => 2,
        [b'\r', ..] => 1,
        // In a message whose segments end in CR this LF belongs to the file, and would be read as data.
        [b'\n', ..] if !body.contains(&b'\r') => 1,
        _ => 0,
    };
    let whole = bytes.get(begun..begun.saturating_add(n_kept).saturating_add(n_end))?;
    Some(bytes.slice_ref(whole))
}

#[cfg(test)]
mod tests;
