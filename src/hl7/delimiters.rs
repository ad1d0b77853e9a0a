//! Delimiters: MSH-1 and MSH-2 (HL7 v2.5.1 §2.5.4, truncation v2.7 §2.5.5.2).
//!
//! Senders write one to five encoding characters; what is missing gets its default. Never anything but ASCII.

/// The field separator and the encoding characters of one message.
///
/// A role that no character is left for (a sender used its default for another role) matches nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Delimiters {
    field: u8,
    component: u8,
    repetition: u8,
    escape: u8,
    subcomponent: u8,
    truncation: u8,
}

/// Stands for "no such delimiter": no byte of a delimiter is above 0x7F.
const NONE: u8 = 0xFF;
/// What a delimiter that does not exist is as a character: one that no text has.
const NO_CHARACTER: char = '\u{FFFF}';
/// The defaults of component, repetition, escape and subcomponent, in the order of MSH-2.
const DEFAULTS: [u8; 4] = *b"^~\\&";

impl Default for Delimiters {
    fn default() -> Self {
        let [component, repetition, escape, subcomponent] = DEFAULTS;
        Self { field: b'|', component, repetition, escape, subcomponent, truncation: NONE }
    }
}

impl Delimiters {
    /// Reads them from what follows `MSH`, up to the end of the line; `None` when they are missing or could be data.
    pub fn read(after_msh: &[u8]) -> Option<Self> {
        let (field, rest) = after_msh.split_first()?;
        if !is_delimiter(*field) {
            return None;
        }
        let encoding = rest.split(|byte| *byte == *field || matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
        Self::with_encoding_characters(*field, encoding)
    }

    fn with_encoding_characters(field: u8, encoding: &[u8]) -> Option<Self> {
        let mut given = [NONE; 5];
        let mut n_given = 0;
        // A doubled escape character is a backslash that somebody escaped on the way, as in `^~\\&`.
        let mut previous = NONE;
        for byte in encoding.iter().copied().filter(|byte| !std::mem::replace(&mut previous, *byte).eq(byte) || *byte != b'\\') {
            let Some(slot) = given.get_mut(n_given) else { break };
            if !is_delimiter(byte) {
                break;
            }
            *slot = byte;
            n_given += 1;
        }
        if n_given == 0 && !encoding.is_empty() {
            return None;
        }
        let [first, second, third, fourth, fifth] = given;
        let four = if n_given >= 4 { [first, second, third, fourth] } else { fill([first, second, third]) };
        let truncation = if encoding.len() == n_given { fifth } else { NONE };
        let [component, repetition, escape, subcomponent] = four;
        let read = Self { field, component, repetition, escape, subcomponent, truncation };
        read.is_unambiguous().then_some(read)
    }

    fn is_unambiguous(self) -> bool {
        let all = [self.field, self.component, self.repetition, self.escape, self.subcomponent, self.truncation];
        all.iter().enumerate().all(|(at, byte)| *byte == NONE || !all.iter().skip(at + 1).any(|other| other == byte))
    }

    /// These delimiters with none below the field: what stands in MSH-2 is not to be taken apart.
    pub(crate) const fn undivided(self) -> Self {
        Self { field: self.field, component: NONE, repetition: NONE, escape: NONE, subcomponent: NONE, truncation: NONE }
    }

    /// MSH-1, usually `|`.
    pub const fn field(self) -> char {
        character(self.field)
    }

    pub(crate) const fn field_byte(self) -> u8 {
        self.field
    }

    /// Usually `^`.
    pub const fn component(self) -> char {
        character(self.component)
    }

    /// Usually `~`.
    pub const fn repetition(self) -> char {
        character(self.repetition)
    }

    /// Usually `\`.
    pub const fn escape(self) -> char {
        character(self.escape)
    }

    /// Usually `&`.
    pub const fn subcomponent(self) -> char {
        character(self.subcomponent)
    }

    /// The fifth encoding character, usually `#`, where the sender declares one.
    pub const fn truncation(self) -> Option<char> {
        if self.truncation == NONE { None } else { Some(character(self.truncation)) }
    }

    /// Whether the character divides a field.
    pub(crate) fn divides(self, c: char) -> bool {
        c == self.component() || c == self.repetition() || c == self.subcomponent()
    }
}

const fn character(byte: u8) -> char {
    if byte.is_ascii() { byte as char } else { NO_CHARACTER }
}

/// The piece with this number, counted from zero, of what the delimiter divides; empty where there is none.
pub(crate) fn piece(text: &str, delimiter: char, n: usize) -> &str {
    // One pass over the bytes: most pieces are a few bytes long, too few to search for the end of each.
    let (mut from, mut left) = (0, n);
    let Ok(delimiter) = u8::try_from(delimiter) else { return if n == 0 { text } else { "" } };
    for (at, byte) in text.bytes().enumerate() {
        if byte == delimiter {
            if left == 0 {
                return text.get(from..at).unwrap_or_default();
            }
            left -= 1;
            from = at + 1;
        }
    }
    if left == 0 { text.get(from..).unwrap_or_default() } else { "" }
}

/// The first pieces of what a delimiter divides, up to where `end` stands; empty where there is none.
pub(crate) fn pieces<const N: usize>(text: &str, delimiter: char, end: char) -> [&str; N] {
    let byte = |c: char| u8::try_from(c).unwrap_or(NONE);
    let (delimiter, end) = (byte(delimiter), byte(end));
    let mut pieces = [""; N];
    let mut slots = pieces.iter_mut();
    let mut slot = slots.next();
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte == delimiter || byte == end {
            let Some(piece) = slot.take() else { break };
            *piece = text.get(from..at).unwrap_or_default();
            from = at + 1;
            if byte == end {
                break;
            }
            slot = slots.next();
        }
    }
    if let Some(piece) = slot {
        *piece = text.get(from..).unwrap_or_default();
    }
    pieces
}

/// ASCII punctuation; letters, digits, spaces and controls are data.
const fn is_delimiter(byte: u8) -> bool {
    byte.is_ascii_punctuation() && byte != b'"'
}

/// Gives fewer than four characters their roles: a character that is the default of a role takes that role (`^~&` has no escape character), any
/// other the role of its position, and the rest get their defaults unless these are taken.
fn fill(given: [u8; 3]) -> [u8; 4] {
    let mut roles = [NONE; 4];
    for byte in given {
        if let Some(at) = DEFAULTS.iter().position(|default| *default == byte)
            && let Some(role) = roles.get_mut(at)
        {
            *role = byte;
        }
    }
    for (at, byte) in given.iter().enumerate() {
        if *byte != NONE
            && !DEFAULTS.contains(byte)
            && let Some(role) = roles.get_mut(at)
        {
            *role = *byte;
        }
    }
    let taken = roles;
    for (role, default) in roles.iter_mut().zip(DEFAULTS) {
        if *role == NONE && !taken.contains(&default) {
            *role = default;
        }
    }
    roles
}

#[cfg(test)]
mod tests {
    use super::Delimiters;

    fn check(after_msh: &str, expected: Option<&str>) {
        let shown = Delimiters::read(after_msh.as_bytes())
            .map(|d| [d.field(), d.component(), d.repetition(), d.escape(), d.subcomponent()].into_iter().chain(d.truncation()).collect::<String>());
        assert_eq!(shown.as_deref(), expected, "{after_msh}");
    }

    #[test]
    fn one_to_five_encoding_characters_are_read_and_the_rest_get_defaults() {
        check(r"|^~\&|APP", Some(r"|^~\&"));
        check(r"|^~\&#|APP", Some(r"|^~\&#"));
        check(r"|^~\|APP", Some(r"|^~\&"));
        check(r"|^~|APP", Some(r"|^~\&"));
        check(r"|^|APP", Some(r"|^~\&"));
        check("||APP", Some(r"|^~\&"));
        check("|", Some(r"|^~\&"));
        check(r"$%*?@$APP", Some(r"$%*?@"));
        check(r"|@|APP", Some(r"|@~\&"));
    }

    #[test]
    fn a_left_out_escape_character_does_not_take_the_subcomponents_role() {
        check("|^~&|APP", Some(r"|^~\&"));
    }

    #[test]
    fn what_a_careless_relay_made_of_the_usual_ones_is_understood() {
        check(r"|^~\\&|APP", Some(r"|^~\&"));
        check(r"|^~\&amp;|APP", Some(r"|^~\&"));
    }

    #[test]
    fn letters_spaces_and_doubles_are_no_delimiters() {
        check("A^~", None);
        check(" ^~", None);
        check("|ABC|", None);
        check("|^^^^|", None);
        check("", None);
        check("é^~", None);
    }
}
