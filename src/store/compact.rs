//! The compact form of documents: positional, binary, short.
//!
//! A struct is its fields that are there, each behind the number of its declaration, and a zero; an enum is the number of its variant. Names stand
//! nowhere. A text or a large number that was said before in the same document is said again by its place, because stamps, ids and authorities repeat all
//! over a document.
//!
//! So the form depends on the order of declarations: **new fields and variants go to the end** and have a default, and nothing is ever reordered or
//! removed without a new version in [`form`](super::form). It is not self-describing: types that look before they read (untagged, flattened) do not work
//! in it. Floats and characters are not in it, because no document has any.

mod read;
mod write;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// How many different texts, and how many large numbers, are remembered of a document.
const REMEMBERED: usize = 64;

/// A number below this is written as it is; from here on it is worth remembering.
const LARGE: u64 = 1 << 20;

/// A number as it is.
const PLAIN: u64 = 0;
/// A number or text said before: its place.
const AGAIN: u64 = 1;
/// A large number, in full.
const FULL: u64 = 2;

/// What cannot be written in the form, or is none.
#[derive(Debug, thiserror::Error)]
#[error("not a document of the compact form")]
pub(super) struct NotCompact;

impl serde::ser::Error for NotCompact {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self
    }
}

impl serde::de::Error for NotCompact {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self
    }
}

/// Writes a value.
pub(super) fn to_vec<T: Serialize>(value: &T) -> Result<Vec<u8>, NotCompact> {
    let mut writer = write::Writer::default();
    value.serialize(&mut writer)?;
    Ok(writer.into_bytes())
}

/// Reads a value, which takes all of the bytes.
pub(super) fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, NotCompact> {
    let mut reader = read::Reader::new(bytes);
    let value = T::deserialize(&mut reader)?;
    if reader.is_at_end() { Ok(value) } else { Err(NotCompact) }
}

const fn zigzag(n: i64) -> u64 {
    (n.cast_unsigned() << 1) ^ (n >> 63).cast_unsigned()
}

const fn unzigzag(n: u64) -> i64 {
    (n >> 1).cast_signed() ^ -((n & 1).cast_signed())
}

#[cfg(test)]
mod tests;
