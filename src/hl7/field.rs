//! Fields and components: where a value begins, whether it says anything, and its text (HL7 v2.5.1 §2.5.3, §2.6).
//!
//! Three things a field can say: nothing (keep what is known), null (`""`: it is no more), a value. What real senders write for the first two
//! is told apart here and nowhere else.

use std::borrow::Cow;

use encoding_rs::Encoding;

use crate::care::fact::FieldUpdate;
use crate::hl7::delimiters::Delimiters;
use crate::hl7::delimiters::piece;
use crate::hl7::delimiters::pieces;
use crate::hl7::escape::unescape;

/// By what a text is to be taken apart.
#[derive(Clone, Copy)]
pub(crate) struct Syntax {
    pub(crate) delimiters: Delimiters,
    pub(crate) charset: &'static Encoding,
}

/// One field, or one repetition of it.
#[derive(Clone, Copy)]
pub struct Field<'m> {
    text: &'m str,
    syntax: Syntax,
}

impl<'m> Field<'m> {
    pub(crate) const fn new(text: &'m str, syntax: Syntax) -> Self {
        Self { text, syntax }
    }

    /// The text as it stands, with all delimiters and escapes.
    pub const fn raw(&self) -> &'m str {
        self.text
    }

    /// Whether it says nothing: absent, only spaces, only delimiters, or a word that stands for nothing (`NULL`, `NONE`, `UNKNOWN`).
    pub fn is_empty(&self) -> bool {
        // Nearly every field that says something says so with its first letter or digit.
        if self.text.bytes().next().is_none_or(|first| first.is_ascii_alphanumeric() && !matches!(first, b'N' | b'n' | b'U' | b'u')) {
            return self.text.is_empty();
        }
        self.says_nothing()
    }

    fn says_nothing(&self) -> bool {
        let divider = |c: char| self.syntax.delimiters.divides(c) || c.is_whitespace();
        let inner = self.text.trim_matches(divider);
        inner.is_empty() || is_word_for_nothing(inner)
    }

    /// Whether it says that the value is no more: `""`, and what senders write for it. `^^""` is not: it clears one component.
    pub fn is_null(&self) -> bool {
        if !self.text.as_bytes().contains(&b'"') {
            return false;
        }
        let escape = self.syntax.delimiters.escape();
        let mut pieces = self.text.split(|c| self.syntax.delimiters.divides(c)).map(str::trim);
        pieces.next().is_some_and(|first| is_null_token(first, escape)) && pieces.all(|piece| piece.is_empty() || is_null_token(piece, escape))
    }

    /// What the field says: [`FieldUpdate::Clear`] for null, and otherwise what `read` makes of it, where `None` says nothing.
    pub fn update<T>(&self, read: impl FnOnce(Self) -> Option<T>) -> FieldUpdate<T> {
        if self.is_null() {
            FieldUpdate::Clear
        } else if self.is_empty() {
            FieldUpdate::Keep
        } else {
            read(*self).into()
        }
    }

    /// Its repetitions, each a field of one repetition, empty ones too; none when the field is absent.
    pub fn repetitions(&self) -> impl Iterator<Item = Self> + use<'m> {
        let syntax = self.syntax;
        let absent = self.text.is_empty();
        self.text.split(syntax.delimiters.repetition()).filter(move |_| !absent).map(move |text| Self { text, syntax })
    }

    /// Component `n` of the first repetition, counted from one; empty where there is none.
    pub fn component(&self, n: usize) -> Component<'m> {
        let text = n.checked_sub(1).map(|at| piece(self.first_repetition(), self.syntax.delimiters.component(), at)).unwrap_or_default();
        Component { text, syntax: self.syntax }
    }

    /// The first components of the first repetition, found in one pass; empty where there is none.
    pub fn components<const N: usize>(&self) -> [Component<'m>; N] {
        let delimiters = self.syntax.delimiters;
        pieces(self.text, delimiters.component(), delimiters.repetition()).map(|text| Component { text, syntax: self.syntax })
    }

    /// The first subcomponent of the first component of the first repetition, unescaped and trimmed. Empty for null.
    pub fn text(&self) -> Cow<'m, str> {
        self.component(1).text()
    }

    /// The first repetition as a whole, unescaped and trimmed: for fields that a sender should not have divided. Empty for null.
    pub fn whole(&self) -> Cow<'m, str> {
        leaf(self.first_repetition(), self.syntax)
    }

    /// Whether the sender cut the value off (its last character is the truncation character that MSH-2 declares).
    pub fn is_truncated(&self) -> bool {
        is_cut(self.text, self.syntax)
    }

    fn first_repetition(&self) -> &'m str {
        piece(self.text, self.syntax.delimiters.repetition(), 0)
    }
}

/// Shows nothing of what it says.
impl std::fmt::Debug for Field<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Field(‹phi›)")
    }
}

/// One component of one repetition.
#[derive(Clone, Copy)]
pub struct Component<'m> {
    text: &'m str,
    syntax: Syntax,
}

impl<'m> Component<'m> {
    /// The text as it stands.
    pub const fn raw(&self) -> &'m str {
        self.text
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.field().is_empty()
    }

    /// Whether it says that the value is no more.
    pub fn is_null(&self) -> bool {
        self.field().is_null()
    }

    /// Its first subcomponent, unescaped and trimmed. Empty for null.
    pub fn text(&self) -> Cow<'m, str> {
        self.sub(1)
    }

    /// Subcomponent `n`, counted from one, unescaped and trimmed; empty where there is none, and for null.
    pub fn sub(&self, n: usize) -> Cow<'m, str> {
        leaf(self.sub_raw(n), self.syntax)
    }

    /// Subcomponent `n` as it stands.
    pub(crate) fn sub_raw(&self, n: usize) -> &'m str {
        n.checked_sub(1).map(|at| piece(self.text, self.syntax.delimiters.subcomponent(), at)).unwrap_or_default()
    }

    /// Whether the sender cut the value off.
    pub fn is_truncated(&self) -> bool {
        is_cut(self.text, self.syntax)
    }

    const fn field(&self) -> Field<'m> {
        Field::new(self.text, self.syntax)
    }
}

/// Shows nothing of what it says.
impl std::fmt::Debug for Component<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Component(‹phi›)")
    }
}

/// The value of a text that is not divided further.
pub(crate) fn leaf(text: &str, syntax: Syntax) -> Cow<'_, str> {
    let escape = u8::try_from(syntax.delimiters.escape()).unwrap_or(b'"');
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != escape) {
        // Nothing stands for anything else: nearly every value.
        return Cow::Borrowed(text.trim_ascii());
    }
    any_leaf(text, syntax)
}

fn any_leaf(text: &str, syntax: Syntax) -> Cow<'_, str> {
    let text = text.trim();
    if is_null_token(text, syntax.delimiters.escape()) {
        return Cow::Borrowed("");
    }
    match printable(unescape(text, syntax.delimiters, syntax.charset)) {
        Cow::Borrowed(text) => Cow::Borrowed(text),
        Cow::Owned(text) => match text.trim() {
            trimmed if trimmed.len() == text.len() => Cow::Owned(text),
            trimmed => Cow::Owned(trimmed.to_owned()),
        },
    }
}

/// One line that anybody may show: a name becomes a line of a terminal, of a chat and of a log of somebody else's. Line breaks and tabs become blanks; other
/// control characters, and those that turn the direction of writing, stand as the replacement character.
fn printable(text: Cow<'_, str>) -> Cow<'_, str> {
    let turns = |letter| matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~');
    if text.bytes().all(is_plain) || !text.chars().any(|letter| letter.is_control() || turns(letter)) {
        return text;
    }
    let shown = |letter: char| match letter {
        '\n' | '\r' | '\t' | '\u{85}' => ' ',
        letter if letter.is_control() || turns(letter) => '\u{fffd}',
        letter => letter,
    };
    Cow::Owned(text.chars().map(shown).collect())
}

/// An identifier's part: as [`leaf`], and empty where a word stands for nothing, so that no two patients ever share the id `UNKNOWN`.
pub(crate) fn code(text: Cow<'_, str>) -> Cow<'_, str> {
    if is_word_for_nothing(&text) { Cow::Borrowed("") } else { text }
}

/// Upper case, borrowed when it is already.
pub(crate) fn upper(text: Cow<'_, str>) -> Cow<'_, str> {
    let is_upper =
        |text: &str| if text.is_ascii() { !text.bytes().any(|byte| byte.is_ascii_lowercase()) } else { !text.chars().any(char::is_lowercase) };
    if is_upper(&text) { text } else { Cow::Owned(text.to_uppercase()) }
}

/// `""`, and what was seen for it: `"`, `"" ""`, `\E"\E`.
fn is_null_token(text: &str, escape: char) -> bool {
    if text.len() > 12 || !text.contains('"') {
        return false;
    }
    let quotes = |piece: &str| piece.chars().all(|c| matches!(c, '"' | ' '));
    let mut pieces = text.split(escape);
    pieces.next().is_some_and(quotes) && pieces.all(|piece| quotes(piece.strip_prefix('E').unwrap_or(piece)))
}

fn is_word_for_nothing(text: &str) -> bool {
    ["NULL", "NONE", "UNKNOWN"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

fn is_cut(text: &str, syntax: Syntax) -> bool {
    syntax.delimiters.truncation().is_some_and(|mark| text.trim_end().ends_with(mark))
}

#[cfg(test)]
mod tests {
    use encoding_rs::UTF_8;
    use proptest::prelude::proptest;

    use super::Field;
    use super::Syntax;
    use super::any_leaf;
    use super::leaf;
    use super::upper;
    use crate::hl7::delimiters::Delimiters;

    proptest! {
        #[test]
        fn plain_text_is_read_as_any_text_is(text in r#"[ A-Za-z0-9^~&"\\\t\u{a0}é.]{0,12}|(?i)(null|none|unknown)[ ^&]{0,2}"#, latin in "[A-Za-z é]{0,6}") {
            for delimiters in [Delimiters::default(), Delimiters::default().undivided()] {
                let syntax = Syntax { delimiters, charset: UTF_8 };
                assert_eq!(leaf(&text, syntax), any_leaf(&text, syntax));
                assert_eq!(Field::new(&text, syntax).is_empty(), Field::new(&text, syntax).says_nothing());
            }
            assert_eq!(upper(latin.as_str().into()), latin.to_uppercase());
        }
    }
}
