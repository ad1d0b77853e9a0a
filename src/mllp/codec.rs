//! The MLLP frame: `0x0B` payload `0x1C 0x0D` (MLLP release 1), found in a stream of bytes.
//!
//! Every byte is looked at once, and a peer that never ends a frame cannot make the buffer grow past the limit. A frame that is too long is an item
//! of its own, with the first bytes kept, so that the caller can still answer it; [`CodecError`] means only that the connection must be closed.
//!
//! What is tolerated:
//! - bytes before `0x0B` are skipped and counted;
//! - `0x1C` ends a frame when `0x0D`, `0x0A` (seen in place of `0x0D`) or the `0x0B` of the next frame follows, or nothing, once the caller has waited a
//!   moment and called [`MllpCodec::accept_bare_end`], or the stream has ended; `0x1C` followed by any other byte is payload;
//! - `0x0B` inside a frame begins it anew, what came before is abandoned and counted, and was never acknowledged;
//! - a frame that holds nothing but white space is a heartbeat, and one that holds a single `0x06` or `0x15` is a block acknowledgement of MLLP release
//!   2: both are counted and yield nothing, since an answer to the latter would be answered again for ever.
//!
//! It never looks into the payload, and never logs any of it.

use std::fmt;
use std::io;

use bytes::Buf;
use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;
use tokio_util::codec::Decoder;
use tokio_util::codec::Encoder;

/// Begins a frame: vertical tab.
pub const START: u8 = 0x0B;
/// Ends a payload: file separator.
pub const END: u8 = 0x1C;
/// Ends a frame, after [`END`].
pub const CR: u8 = 0x0D;
const LF: u8 = 0x0A;

/// How many bytes of a refused frame are kept: enough for its MSH segment.
pub const PREFIX_BYTES: usize = 4096;

/// The longest payload taken when nothing else is said: 8 MiB.
pub const DEFAULT_MAX_FRAME_BYTES: usize = 8 * 1024 * 1024;

/// What a connection yields.
#[derive(Clone, Eq, PartialEq)]
pub enum Frame {
    /// A payload, as it stood between the marks.
    Message(Bytes),
    /// A frame that was not kept; the connection goes on with the next.
    Refused {
        /// Why.
        fault: FrameFault,
        /// The first bytes of the payload, at most [`PREFIX_BYTES`].
        prefix: Bytes,
    },
}

/// Says how long, never what: a payload is PHI.
impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(payload) => f.debug_tuple("Message").field(&payload.len()).finish(),
            Self::Refused { fault, prefix } => f.debug_struct("Refused").field("fault", fault).field("prefix", &prefix.len()).finish(),
        }
    }
}

/// Why a frame was not kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameFault {
    /// Its payload is longer than the feed takes.
    #[error("frame is longer than {max_frame_bytes} bytes")]
    TooLong {
        /// The limit.
        max_frame_bytes: usize,
    },
}

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// More bytes in a row without a start byte than the longest frame has.
    #[error("peer sent more than {n_bytes} bytes without beginning a frame\nhint: it does not speak MLLP; check which program connects here")]
    NotMllp {
        /// How many bytes were put up with.
        n_bytes: usize,
    },
    /// The connection opened with a TLS handshake, on a listener without TLS.
    #[error("peer speaks TLS and this listener does not\nhint: give the feed a `tls` section, or turn TLS off at the sender")]
    PeerSpeaksTls,
    /// The connection broke.
    #[error("connection failed")]
    Io(#[from] io::Error),
}

/// What was passed over since the last [`MllpCodec::take_tally`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Bytes that were in no frame, those of abandoned frames included.
    pub n_skipped_bytes: u64,
    /// Frames that began anew, or that the connection ended in the middle of.
    pub n_abandoned_frames: u64,
    /// Empty frames and block acknowledgements.
    pub n_heartbeats: u64,
}

/// How far the bytes seen so far reach.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// No frame has begun.
    Between,
    /// A frame has begun and not ended.
    Inside,
    /// A frame has begun and its last byte so far is [`END`]: only the closing carriage return is missing.
    Ending,
}

#[derive(Debug)]
enum State {
    Between,
    /// `n_scanned` bytes at the front of the buffer are payload and need not be looked at again.
    Inside {
        n_scanned: usize,
    },
    /// The frame is too long: its bytes are dropped as they come.
    Discarding {
        prefix: BytesMut,
    },
}

/// Decodes and encodes MLLP frames.
#[derive(Debug)]
pub struct MllpCodec {
    max_frame_bytes: usize,
    state: State,
    /// The last `decode` stopped at an [`END`] that nothing follows yet.
    ending: bool,
    /// The next `decode` takes an [`END`] that nothing follows as the end of the frame.
    end_of_data: bool,
    /// Not a byte of this connection has been used up yet.
    opening: bool,
    /// Bytes skipped since the last frame.
    n_skipped_in_a_row: usize,
    tally: Tally,
}

impl MllpCodec {
    /// A codec that refuses payloads of more than `max_frame_bytes`.
    pub const fn new(max_frame_bytes: usize) -> Self {
        Self {
            max_frame_bytes,
            state: State::Between,
            ending: false,
            end_of_data: false,
            opening: true,
            n_skipped_in_a_row: 0,
            tally: Tally { n_skipped_bytes: 0, n_abandoned_frames: 0, n_heartbeats: 0 },
        }
    }

    /// How far the bytes given to the last `decode` reach, once it has yielded nothing more.
    pub const fn progress(&self) -> Progress {
        match self.state {
            State::Between => Progress::Between,
            State::Inside { .. } | State::Discarding { .. } if self.ending => Progress::Ending,
            State::Inside { .. } | State::Discarding { .. } => Progress::Inside,
        }
    }

    /// Lets the next `decode` take a frame whose closing carriage return has not come: the peer had time enough to send it.
    pub const fn accept_bare_end(&mut self) {
        self.end_of_data = true;
    }

    /// What was passed over since this was last asked.
    pub const fn take_tally(&mut self) -> Tally {
        std::mem::replace(&mut self.tally, Tally { n_skipped_bytes: 0, n_abandoned_frames: 0, n_heartbeats: 0 })
    }

    /// Skips to the next start byte. True when a frame has begun.
    fn seek(&mut self, src: &mut BytesMut) -> Result<bool, CodecError> {
        if self.opening && src.first() == Some(&0x16) {
            match src.get(1) {
                Some(0x03) => return Err(CodecError::PeerSpeaksTls),
                Some(_) => {}
                None => return Ok(false),
            }
        }
        self.opening &= src.is_empty();
        let start = src.iter().position(|byte| *byte == START);
        let n_borne = self.max_frame_bytes.saturating_sub(self.n_skipped_in_a_row);
        let n_skipped = start.unwrap_or(src.len());
        if n_skipped > n_borne {
            self.tally.n_skipped_bytes += n_borne as u64;
            return Err(CodecError::NotMllp { n_bytes: self.max_frame_bytes });
        }
        self.n_skipped_in_a_row = self.n_skipped_in_a_row.saturating_add(n_skipped);
        self.tally.n_skipped_bytes += n_skipped as u64;
        src.advance(n_skipped);
        if start.is_some() {
            src.advance(1);
            self.n_skipped_in_a_row = 0;
        }
        Ok(start.is_some())
    }

    /// A start byte stands at `at`, inside a frame: what came before it is abandoned.
    fn restart(&mut self, src: &mut BytesMut, at: usize) {
        src.advance(at.saturating_add(1));
        self.tally.n_skipped_bytes += at as u64 + 1;
        self.tally.n_abandoned_frames += 1;
        self.state = State::Inside { n_scanned: 0 };
    }

    /// Looks on inside a frame. `None`: more bytes are needed, or the state has changed.
    fn scan(&mut self, src: &mut BytesMut, n_scanned: usize, end_of_data: bool) -> Step {
        let found = next_mark(src, n_scanned);
        if found.map_or(src.len(), |(at, _)| at) > self.max_frame_bytes {
            self.state = State::Discarding { prefix: BytesMut::new() };
            return Step::Again;
        }
        match found {
            None => {
                self.state = State::Inside { n_scanned: src.len() };
                Step::NeedsMore
            }
            Some((at, Mark::Start)) => {
                self.restart(src, at);
                Step::Again
            }
            Some((at, Mark::End)) => match tail_after(src, at, end_of_data) {
                Tail::Unknown => {
                    self.state = State::Inside { n_scanned: at };
                    self.ending = true;
                    Step::NeedsMore
                }
                Tail::Payload => {
                    self.state = State::Inside { n_scanned: at.saturating_add(1) };
                    Step::Again
                }
                Tail::Ends { n_bytes } => {
                    let payload = src.split_to(at).freeze();
                    src.advance(n_bytes);
                    self.state = State::Between;
                    if is_heartbeat(&payload) {
                        self.tally.n_heartbeats += 1;
                        Step::Again
                    } else {
                        Step::Yield(Frame::Message(payload))
                    }
                }
            },
        }
    }

    /// Looks on inside a frame that is too long, dropping what it has seen.
    fn discard(&mut self, src: &mut BytesMut, mut prefix: BytesMut, end_of_data: bool) -> Step {
        let found = next_mark(src, 0);
        let at = found.map_or(src.len(), |(at, _)| at);
        let n_kept = at.min(PREFIX_BYTES.saturating_sub(prefix.len()));
        prefix.extend(src.iter().take(n_kept));
        src.advance(at);
        match found {
            None => {
                self.state = State::Discarding { prefix };
                Step::NeedsMore
            }
            Some((_, Mark::Start)) => {
                self.restart(src, 0);
                Step::Again
            }
            Some((_, Mark::End)) => match tail_after(src, 0, end_of_data) {
                Tail::Unknown => {
                    self.state = State::Discarding { prefix };
                    self.ending = true;
                    Step::NeedsMore
                }
                Tail::Payload => {
                    if prefix.len() < PREFIX_BYTES {
                        prefix.put_u8(END);
                    }
                    src.advance(1);
                    self.state = State::Discarding { prefix };
                    Step::Again
                }
                Tail::Ends { n_bytes } => {
                    src.advance(n_bytes);
                    self.state = State::Between;
                    let fault = FrameFault::TooLong { max_frame_bytes: self.max_frame_bytes };
                    Step::Yield(Frame::Refused { fault, prefix: prefix.freeze() })
                }
            },
        }
    }
}

impl Decoder for MllpCodec {
    type Item = Frame;
    type Error = CodecError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, CodecError> {
        let end_of_data = std::mem::take(&mut self.end_of_data);
        self.ending = false;
        loop {
            let step = match std::mem::replace(&mut self.state, State::Between) {
                State::Between => {
                    if !self.seek(src)? {
                        return Ok(None);
                    }
                    self.state = State::Inside { n_scanned: 0 };
                    Step::Again
                }
                State::Inside { n_scanned } => self.scan(src, n_scanned, end_of_data),
                State::Discarding { prefix } => self.discard(src, prefix, end_of_data),
            };
            match step {
                Step::Again => {}
                Step::NeedsMore => return Ok(None),
                Step::Yield(frame) => return Ok(Some(frame)),
            }
        }
    }

    /// The stream has ended: a frame that lacks only its carriage return is taken, one that lacks more is abandoned.
    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, CodecError> {
        self.accept_bare_end();
        let frame = self.decode(src)?;
        if frame.is_none() && self.progress() != Progress::Between {
            self.tally.n_abandoned_frames += 1;
            self.tally.n_skipped_bytes += src.len() as u64;
            src.clear();
            self.state = State::Between;
        }
        Ok(frame)
    }
}

/// Frames a payload. Marks inside it are not escaped: MLLP knows no escape.
impl Encoder<&[u8]> for MllpCodec {
    type Error = CodecError;

    fn encode(&mut self, payload: &[u8], dst: &mut BytesMut) -> Result<(), CodecError> {
        dst.reserve(payload.len().saturating_add(3));
        dst.put_u8(START);
        dst.put_slice(payload);
        dst.put_u8(END);
        dst.put_u8(CR);
        Ok(())
    }
}

enum Step {
    /// The state has changed: look again.
    Again,
    NeedsMore,
    Yield(Frame),
}

#[derive(Clone, Copy)]
enum Mark {
    Start,
    End,
}

/// What an [`END`] turns out to be, by what follows it.
enum Tail {
    /// The end of the frame, in this many bytes.
    Ends {
        n_bytes: usize,
    },
    Payload,
    /// Nothing has come after it yet.
    Unknown,
}

fn next_mark(src: &BytesMut, from: usize) -> Option<(usize, Mark)> {
    let rest = src.get(from..)?;
    let offset = memchr::memchr2(START, END, rest)?;
    let mark = if rest.get(offset) == Some(&START) { Mark::Start } else { Mark::End };
    Some((from.saturating_add(offset), mark))
}

fn tail_after(src: &BytesMut, at: usize, end_of_data: bool) -> Tail {
    match src.get(at.saturating_add(1)) {
        Some(&CR | &LF) => Tail::Ends { n_bytes: 2 },
        Some(&START) => Tail::Ends { n_bytes: 1 },
        Some(_) => Tail::Payload,
        None if end_of_data => Tail::Ends { n_bytes: 1 },
        None => Tail::Unknown,
    }
}

fn is_heartbeat(payload: &[u8]) -> bool {
    matches!(payload, [0x06 | 0x15]) || payload.iter().all(u8::is_ascii_whitespace)
}

#[cfg(test)]
mod tests;
