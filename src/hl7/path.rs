//! Paths: `PV1-3.1`, `PID-3[2].4.1`, `ZPV[2]-5`, as profiles and people write them.
//!
//! hl7-parser reads the path and takes the segment apart. Two things are kept from it: text it cannot read (its segments end at a line break, need a
//! separator and four encoding characters), which is put right first, and unescaping, which is ours.

use std::borrow::Cow;

use hl7_parser::query::LocationQuery;

use crate::hl7::field::Field;
use crate::hl7::field::leaf;
use crate::hl7::message::Message;
use crate::hl7::segment::Segment;

/// A path is not one.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a path like `PV1-3.1` or `PID-3[2].4.1`")]
pub struct BadPath;

/// Where in a message something stands.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Path(LocationQuery);

impl Path {
    /// Reads a path. A segment alone is none: it has no value.
    ///
    /// # Errors
    /// [`BadPath`].
    pub fn parse(text: &str) -> Result<Self, BadPath> {
        // hl7-parser takes the longest beginning that is a path, and cannot take numbers that no field has: both are refused before it sees them.
        let mut n_digits = 0;
        let readable = text.chars().all(|c| {
            n_digits = if c.is_ascii_digit() { n_digits + 1 } else { 0 };
            n_digits <= 4 && (c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '[' | ']'))
        });
        if !readable {
            return Err(BadPath);
        }
        let mut query = LocationQuery::parse(&text.to_ascii_uppercase()).map_err(|_quotes_the_text| BadPath)?;
        let same = |c: char| if c == '-' { '.' } else { c.to_ascii_uppercase() };
        if query.field.is_none() || query.to_string() != text.chars().map(same).collect::<String>() {
            return Err(BadPath);
        }
        query.segment.make_ascii_uppercase();
        Ok(Self(query))
    }
}

impl<'t> Message<'t> {
    /// The text at a path, unescaped and trimmed; `None` where there is none, where it says nothing, and for what is not a path.
    ///
    /// A field or component that has parts is given whole, its delimiters as they stand.
    pub fn query(&self, path: &str) -> Option<Cow<'t, str>> {
        self.at(&Path::parse(path).ok()?)
    }

    /// As [`Message::query`], for a path that was read before.
    pub fn at(&self, path: &Path) -> Option<Cow<'t, str>> {
        let query = &path.0;
        let segment = self.segment_at(path)?;
        let (n, syntax) = (query.field?, segment.syntax());
        let undivided = segment.is_header() && n <= 2;
        let text = if undivided { segment.field(n).raw().to_owned() } else { taken_apart(segment, query)? };
        let value = if undivided { text } else { leaf(&text, syntax).into_owned() };
        (!value.is_empty() && !Field::new(&value, syntax).is_empty()).then_some(Cow::Owned(value))
    }

    /// The whole field that a path names, all its repetitions; an empty one where there is none.
    pub fn field_at(&self, path: &Path) -> Option<Field<'t>> {
        self.segment_at(path).zip(path.0.field).map(|(segment, n)| segment.field(n))
    }

    fn segment_at(&self, path: &Path) -> Option<Segment<'t>> {
        self.all(&path.0.segment).nth(path.0.segment_index.unwrap_or(1).checked_sub(1)?)
    }
}

/// The raw text at a place of one segment, as hl7-parser finds it.
fn taken_apart(segment: Segment<'_>, query: &LocationQuery) -> Option<String> {
    let text = readable(segment);
    let tree = hl7_parser::Message::parse(&text).ok()?;
    let query = LocationQuery { segment_index: None, repeat: query.repeat.or_else(|| query.component.map(|_| 1)), ..query.clone() };
    tree.query(query).map(|found| found.raw_value().to_owned())
}

/// One segment as a message that hl7-parser can read: a header with all delimiters, and no line break inside.
pub(crate) fn readable(segment: Segment<'_>) -> String {
    let d = segment.delimiters();
    // A delimiter that the message has not is given to the parser as a control character.
    let filled = [(d.component(), '\u{1}'), (d.repetition(), '\u{2}'), (d.escape(), '\u{3}'), (d.subcomponent(), '\u{4}')];
    let mut text = String::with_capacity(segment.raw().len() + 16);
    text.push_str("MSH");
    text.push(d.field());
    text.extend(filled.map(|(c, other)| if c.is_ascii() { c } else { other }));
    let mut body = segment.raw();
    if segment.is_header() {
        body = body.splitn(3, d.field()).nth(2).unwrap_or_default();
        text.push(d.field());
    } else {
        text.push('\r');
        text.push_str(segment.id());
        body = body.get(3..).unwrap_or_default();
        if !body.starts_with(d.field()) {
            text.push(d.field());
        }
    }
    text.extend(body.chars().map(|c| if c == '\r' { '\n' } else { c }));
    text
}
