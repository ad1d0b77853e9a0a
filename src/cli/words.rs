//! Words that go with numbers.

/// `1 message`, `2 messages`: a number and what it counts.
pub(crate) fn counted(n: usize, one: &str) -> String {
    counted_as(n, one, &format!("{one}s"))
}

/// The same, where several are not called what one is with an `s`.
pub(crate) fn counted_as(n: usize, one: &str, several: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { several })
}

#[cfg(test)]
mod tests {
    use super::counted;
    use super::counted_as;

    #[test]
    fn one_is_no_plural() {
        assert_eq!([0, 1, 2].map(|n| counted(n, "message")), ["0 messages", "1 message", "2 messages"]);
        assert_eq!(counted_as(1, "member of staff", "members of staff"), "1 member of staff");
        assert_eq!(counted_as(5, "member of staff", "members of staff"), "5 members of staff");
    }
}
