//! The redacting wrapper for protected health information (45 CFR 160.103: anything that identifies a patient, or says that one was treated).
//!
//! What it never does: print, log or serialise what it holds. There is no `Deref`, no `Display` and no `Serialize`, and `Debug` is redacted in
//! every build. A value leaves only through [`Phi::expose`], which is easy to find with grep; documents that are stored sealed or published say so
//! field by field with [`sealed_form`].

use std::fmt;

use compact_str::CompactString;

/// A value that is protected health information.
#[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Phi<T>(T);

impl<T> Phi<T> {
    /// Wraps a value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Only where it is compared, sealed, published to the backend, or shown to somebody who asked for it.
    pub const fn expose(&self) -> &T {
        &self.0
    }

    /// Gives the value up.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T: AsRef<str>> Phi<T> {
    /// The text, borrowed.
    pub fn as_str(&self) -> &str {
        self.0.as_ref()
    }
}

impl<T> Phi<Vec<T>> {
    /// Whether there is nothing in it.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for Phi<String> {
    fn from(value: &str) -> Self {
        Self(value.to_owned())
    }
}

impl From<&str> for Phi<CompactString> {
    fn from(value: &str) -> Self {
        Self(value.into())
    }
}

impl<T> fmt::Debug for Phi<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("‹phi›")
    }
}

/// `#[serde(with = "sealed_form")]`: how a [`Phi`] stands in a document that the store seals before it is written.
///
/// Not implemented on `Phi` itself, so that no struct becomes serialisable by accident: each field has to ask.
pub mod sealed_form {
    use serde::Deserialize;
    use serde::Deserializer;
    use serde::Serialize;
    use serde::Serializer;

    use super::Phi;

    /// Writes the value in the clear, into bytes that are about to be sealed.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<T: Serialize, S: Serializer>(value: &Phi<T>, serializer: S) -> Result<S::Ok, S::Error> {
        value.expose().serialize(serializer)
    }

    /// Reads the value from bytes that were just unsealed.
    ///
    /// # Errors
    /// Those of the deserializer.
    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Phi<T>, D::Error> {
        T::deserialize(deserializer).map(Phi::new)
    }
}

#[cfg(test)]
mod tests {
    use super::Phi;

    #[test]
    fn debug_never_shows_the_value() {
        let shown = format!("{:?} {:#?}", Phi::<String>::from("SMITH"), Some(Phi::new(vec!["SMITH"])));
        assert!(!shown.contains("SMITH"));
        assert!(shown.contains("‹phi›"));
    }
}
