//! Escape sequences (HL7 v2.5.1 §2.7).
//!
//! Values are split on raw delimiters first and unescaped last, one leaf at a time. An unknown or unterminated sequence stays as it stands: it
//! usually is a Windows path that somebody pasted.

use std::borrow::Cow;

use encoding_rs::Encoding;
use encoding_rs::UTF_8;
use encoding_rs::WINDOWS_1252;

use crate::hl7::delimiters::Delimiters;

/// The text with its escape sequences resolved; borrowed when there are none. `charset` is that of the message, for `\Xhh..\`.
pub fn unescape<'m>(text: &'m str, delimiters: Delimiters, charset: &'static Encoding) -> Cow<'m, str> {
    let escape = delimiters.escape();
    if !text.contains(escape) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(escape) {
        out.push_str(before);
        match after.split_once(escape) {
            Some((sequence, behind)) if resolve(sequence, delimiters, charset, &mut out) => rest = behind,
            Some(_) | None => {
                // The closing character may open the next sequence, so only the opening one is taken.
                out.push(escape);
                rest = after;
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Writes what one sequence stands for; `false` when it is no sequence.
fn resolve(sequence: &str, delimiters: Delimiters, charset: &'static Encoding, out: &mut String) -> bool {
    match sequence {
        "F" => out.push(delimiters.field()),
        "S" => out.push(delimiters.component()),
        "T" => out.push(delimiters.subcomponent()),
        "R" => out.push(delimiters.repetition()),
        "E" => out.push(delimiters.escape()),
        "P" => out.push(delimiters.truncation().unwrap_or('#')),
        "H" | "N" => {}
        _ => return resolve_longer(sequence, charset, out),
    }
    true
}

fn resolve_longer(sequence: &str, charset: &'static Encoding, out: &mut String) -> bool {
    if let Some(digits) = sequence.strip_prefix('X') {
        return hexadecimal(digits, charset, out);
    }
    if let Some(command) = sequence.strip_prefix('.') {
        return formatting(command, out);
    }
    // Switches of the character set and local sequences say nothing here, and are left out.
    let switch = |digits: &str, lengths: &[usize]| lengths.contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    sequence.strip_prefix('C').is_some_and(|digits| switch(digits, &[4]))
        || sequence.strip_prefix('M').is_some_and(|digits| switch(digits, &[4, 6]))
        || sequence.strip_prefix('Z').is_some_and(|digits| switch(digits, &[2, 4, 6]))
}

/// `\Xhh..\`: bytes in the message's own character set. Where that is ASCII or UTF-8, bytes that are not UTF-8 are windows-1252. NUL is left out.
fn hexadecimal(digits: &str, charset: &'static Encoding, out: &mut String) -> bool {
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return false;
    }
    let nibble = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    for pair in digits.as_bytes().chunks_exact(2) {
        let [high, low] = pair else { return false };
        let (Some(high), Some(low)) = (nibble(*high), nibble(*low)) else { return false };
        let byte = (high << 4) | low;
        if byte != 0 {
            bytes.push(byte);
        }
    }
    let text = match charset.decode_without_bom_handling_and_without_replacement(&bytes) {
        Some(text) => text,
        None if charset == UTF_8 => WINDOWS_1252.decode_without_bom_handling(&bytes).0,
        None => charset.decode_without_bom_handling(&bytes).0,
    };
    out.push_str(&text);
    true
}

/// Commands of formatted text: `\.br\` and its like are line breaks, the others are left out.
fn formatting(command: &str, out: &mut String) -> bool {
    let (name, count) = command.split_at_checked(2).unwrap_or((command, ""));
    if !count.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | '-' | ' ')) {
        return false;
    }
    match name {
        "br" | "sp" | "ce" => out.push('\n'),
        "sk" => out.push(' '),
        "fi" | "nf" | "in" | "ti" => {}
        _ => return false,
    }
    true
}

/// The text as it may stand in a message with these delimiters; borrowed when it needs no escape.
pub fn escape(text: &str, delimiters: Delimiters) -> Cow<'_, str> {
    let letter = |c: char| match c {
        '\r' => Some("X0D"),
        '\n' => Some("X0A"),
        c if c == delimiters.field() => Some("F"),
        c if c == delimiters.component() => Some("S"),
        c if c == delimiters.subcomponent() => Some("T"),
        c if c == delimiters.repetition() => Some("R"),
        c if c == delimiters.escape() => Some("E"),
        c if Some(c) == delimiters.truncation() => Some("P"),
        _ => None,
    };
    if !text.contains(|c| letter(c).is_some()) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match letter(c) {
            Some(sequence) => {
                out.push(delimiters.escape());
                out.push_str(sequence);
                out.push(delimiters.escape());
            }
            None => out.push(c),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use encoding_rs::Encoding;
    use encoding_rs::ISO_8859_2;
    use encoding_rs::UTF_8;
    use encoding_rs::WINDOWS_1252;
    use proptest::prelude::any;
    use proptest::prelude::proptest;

    use super::escape;
    use super::unescape;
    use crate::hl7::delimiters::Delimiters;

    fn check(text: &str, expected: &str) {
        check_in(UTF_8, text, expected);
    }

    fn check_in(charset: &'static Encoding, text: &str, expected: &str) {
        assert_eq!(unescape(text, Delimiters::default(), charset), expected, "{text}");
    }

    #[test]
    fn delimiters_come_back() {
        check(r"a\F\b\S\c\T\d\R\e\E\f\P\", r"a|b^c&d~e\f#");
    }

    #[test]
    fn text_without_escapes_is_borrowed() {
        assert!(matches!(unescape("plain", Delimiters::default(), UTF_8), Cow::Borrowed("plain")));
        assert!(matches!(escape("plain", Delimiters::default()), Cow::Borrowed("plain")));
    }

    #[test]
    fn unknown_and_unterminated_sequences_stay_as_they_stand() {
        check(r"C:\Users\jane", r"C:\Users\jane");
        check(r"C:\Users\E\x", r"C:\Users\x");
        check("50\\", "50\\");
        check(r"\\", r"\\");
        check(r"\Q\ü\ä", r"\Q\ü\ä");
        check(r"\XZZ\", r"\XZZ\");
        check(r"\X4\", r"\X4\");
        check(r"\.xx\", r"\.xx\");
    }

    #[test]
    fn hexadecimal_bytes_are_read_in_the_character_set_of_the_message() {
        check(r"M\XC3BC\ller", "Müller");
        check(r"M\XFC\ller", "Müller");
        check(r"a\X0D0A\b", "a\r\nb");
        check(r"a\X00\b", "ab");
        check_in(ISO_8859_2, r"\XB1\", "ą");
        check_in(WINDOWS_1252, r"\XC3BC\", "Ã¼");
    }

    #[test]
    fn formatted_text_keeps_its_line_breaks_and_loses_its_looks() {
        check(r"one\.br\two\.sp2\three\H\bold\N\\.in+4\.", "one\ntwo\nthreebold.");
        check(r"\C2842\a\M2442\b\Z01\c", "abc");
    }

    #[test]
    fn other_delimiters_have_the_same_letters() {
        let delimiters = Delimiters::read(b"$%*?@").unwrap();
        assert_eq!(unescape("a?F?b?E?", delimiters, UTF_8), "a$b?");
    }

    proptest! {
        #[test]
        fn what_was_escaped_comes_back(text in any::<String>()) {
            for delimiters in [Delimiters::default(), Delimiters::read(b"|^~\\&#").unwrap(), Delimiters::read(b"$%*?@").unwrap()] {
                assert_eq!(unescape(&escape(&text, delimiters), delimiters, UTF_8), text);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in r"[\\XFSE.brü|0-9a-f]{0,40}") {
            let _text = unescape(&text, Delimiters::default(), UTF_8);
        }
    }
}
