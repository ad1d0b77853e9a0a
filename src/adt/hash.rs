//! The identity of a fact: what its message says, without the stamps of its transmission (MSH-7 and MSH-10).
//!
//! The same message under a new control id, by another feed or with other line ends says the same fact. Where the sender's own recorded time is not
//! among the content, what stands in for it is made part of the identity, so that two transfers to one bed are not taken for one.

use compact_str::ToCompactString as _;
use ring::digest::Context;
use ring::digest::SHA256;

use crate::care::fact::FactHash;
use crate::hl7::message::Message;

/// MSH-7 and MSH-10, as pieces of the line between separators.
const STAMPS: [usize; 2] = [6, 9];

/// The content of one message, hashed once for all its facts.
pub(crate) struct Content(Context);

impl Content {
    /// Hashes a message, and what stands in for its recorded time.
    pub(crate) fn of(message: &Message<'_>, salt: &str) -> Self {
        let mut hash = Context::new(&SHA256);
        let separator = message.delimiters().field();
        for (at, segment) in message.segments().enumerate() {
            let raw = segment.raw().trim_end();
            if at == 0 {
                for (piece, text) in raw.split(separator).enumerate() {
                    if !STAMPS.contains(&piece) {
                        line(&mut hash, text);
                    }
                    hash.update(b"|");
                }
            } else {
                line(&mut hash, raw);
            }
            hash.update(b"\r");
        }
        hash.update(b"\x1c");
        hash.update(salt.as_bytes());
        Self(hash)
    }

    /// The identity of the message's fact with this index.
    pub(crate) fn fact(&self, index: usize) -> FactHash {
        let mut hash = self.0.clone();
        hash.update(b"\x1c");
        hash.update(index.to_compact_string().as_bytes());
        let mut out = [0; 16];
        for (to, from) in out.iter_mut().zip(hash.finish().as_ref()) {
            *to = *from;
        }
        FactHash(out)
    }
}

/// Hashes text, whatever its line ends.
fn line(hash: &mut Context, text: &str) {
    for (at, piece) in text.split('\r').enumerate() {
        if at > 0 {
            hash.update(b"\n");
        }
        hash.update(if at > 0 { piece.strip_prefix('\n').unwrap_or(piece) } else { piece }.as_bytes());
    }
}
