//! What the sections read their values with: durations, sizes, addresses, files, secrets. It collects what is wrong and always gives something
//! back, so that one wrong value hides no other.

use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use crate::config::environment::Environment;
use crate::config::problem::Origin;
use crate::config::problem::Problem;
use crate::config::tree::At;
use crate::config::tree::KeyPath;
use crate::config::tree::Node;

/// Stands where an address could not be read, which is reported: no such configuration is ever used.
pub(super) const UNREADABLE_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Reads values and collects what is wrong with them.
pub(super) struct Reader<'a> {
    /// Where values stand.
    pub(super) tree: &'a Node,
    /// The file, if there is one.
    pub(super) file: Option<&'a Path>,
    /// What relative paths are relative to.
    pub(super) base: &'a Path,
    /// For `env:NAME`.
    pub(super) environment: &'a Environment,
    /// Keys that are known to be wrong and were taken out.
    pub(super) taken_out: Vec<KeyPath>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

impl Reader<'_> {
    /// Notes that a rule is broken.
    pub(super) fn problem(&mut self, path: &KeyPath, rule: impl Into<String>) {
        self.note(path, rule.into(), None);
    }

    /// Notes that a rule is broken, and what to do.
    pub(super) fn problem_with_hint(&mut self, path: &KeyPath, rule: impl Into<String>, hint: impl Into<String>) {
        self.note(path, rule.into(), Some(hint.into()));
    }

    fn note(&mut self, path: &KeyPath, rule: String, hint: Option<String>) {
        // What was taken out is reported already; its absence is no second problem.
        if !self.taken_out.contains(path) {
            let problem = Problem { origin: self.origin(self.tree.locate(path)), key: path.to_string(), rule, hint };
            self.problems.push(problem);
        }
    }

    /// Notes what is allowed and probably not meant.
    pub(super) fn warn(&mut self, path: &KeyPath, rule: impl Into<String>, hint: impl Into<String>) {
        let origin = self.origin(self.tree.locate(path));
        self.warnings.push(Problem { origin, key: path.to_string(), rule: rule.into(), hint: Some(hint.into()) });
    }

    /// A place in the tree as people know it.
    pub(super) fn origin(&self, at: &At) -> Origin {
        match (at, self.file) {
            (At::Variable { name, .. }, _) => Origin::Variable(name.to_string()),
            (At::Line(line), Some(path)) => Origin::File { path: path.to_owned(), line: Some(*line) },
            (At::Line(_), None) => Origin::Defaults,
        }
    }

    /// Whether the key was written, and fits so far.
    pub(super) fn is_set(&self, path: &KeyPath) -> bool {
        self.tree.has(path) || self.taken_out.contains(path)
    }

    /// A span: `60m`, `4h`, `7d`, `1h30m`.
    pub(super) fn duration(&mut self, path: &KeyPath, text: &str) -> Duration {
        parse_duration(text).unwrap_or_else(|| {
            self.problem(path, "must be a duration such as `10s`, `60m`, `1h30m` or `7d`");
            Duration::ZERO
        })
    }

    /// A span that is not zero.
    pub(super) fn positive_duration(&mut self, path: &KeyPath, text: &str) -> Duration {
        let span = self.duration(path, text);
        if span.is_zero() && parse_duration(text).is_some() {
            self.problem(path, "must be longer than nothing");
        }
        span
    }

    /// A size in bytes: `8MiB`.
    pub(super) fn size(&mut self, path: &KeyPath, text: &str) -> usize {
        parse_size(text).unwrap_or_else(|| {
            self.problem(path, "must be a size such as `512KiB` or `8MiB`");
            0
        })
    }

    /// An address to listen on.
    pub(super) fn listen(&mut self, path: &KeyPath, text: &str) -> Option<SocketAddr> {
        let parsed = text.parse().ok();
        if parsed.is_none() {
            self.problem(path, "must be an IP address and a port, such as `127.0.0.1:2575` or `[::1]:2575`");
        }
        parsed
    }

    /// A path, relative to the configuration.
    pub(super) fn path(&self, text: &str) -> PathBuf {
        self.base.join(text)
    }

    /// A path of a file that must be there and readable.
    pub(super) fn readable_file(&mut self, path: &KeyPath, text: &str) -> PathBuf {
        let file = self.path(text);
        if text.is_empty() {
            self.problem(path, "must name a file");
        } else if let Err(error) = std::fs::File::open(&file)
            .and_then(|opened| opened.metadata())
            .and_then(|meta| if meta.is_file() { Ok(()) } else { Err(std::io::Error::other("not a file")) })
        {
            self.problem(path, format!("{} cannot be read: {error}", file.display()));
        }
        file
    }

    /// A secret: the value itself, `file:PATH` or `env:NAME`.
    pub(super) fn secret(&mut self, path: &KeyPath, text: &str) -> SecretString {
        let found = if let Some(file) = text.strip_prefix("file:") {
            let file = self.path(file);
            std::fs::read_to_string(&file).map_err(|error| format!("{} cannot be read: {error}", file.display()))
        } else if let Some(name) = text.strip_prefix("env:") {
            self.environment.value(name).map(str::to_owned).ok_or_else(|| format!("the environment variable `{name}` is not set"))
        } else {
            Ok(text.to_owned())
        };
        match found {
            Ok(secret) => SecretString::from(secret.trim_end_matches(['\r', '\n'])),
            Err(rule) => {
                self.problem(path, rule);
                // What could not be read is no reason for a second complaint about what it holds.
                self.taken_out.push(path.clone());
                SecretString::default()
            }
        }
    }
}

/// Whether a name is worth nothing to people: empty, or with blanks around it.
pub(super) fn is_blank_or_padded(text: &str) -> bool {
    text.is_empty() || text.trim() != text
}

/// `10s`, `1h30m`, `7d`: numbers with units, the larger first or not, each more than once or not.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = (!rest.is_empty()).then_some(Duration::ZERO)?;
    while !rest.is_empty() {
        let (number, after) = rest.split_at_checked(rest.find(|c: char| !c.is_ascii_digit())?)?;
        let (unit, after) = after.split_at_checked(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()))?;
        let number: u64 = number.parse().ok()?;
        let part = match unit {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "h" => Duration::from_secs(number.checked_mul(3600)?),
            "d" => Duration::from_secs(number.checked_mul(86_400)?),
            _ => return None,
        };
        total = total.checked_add(part)?;
        rest = after;
    }
    // A thousand years is a slip of the finger, and beyond what calendars here can add.
    (total <= Duration::from_hours(24 * 366 * 1000)).then_some(total)
}

/// `8MiB`, `512KiB`, `100B`.
pub(super) fn parse_size(text: &str) -> Option<usize> {
    let text = text.trim();
    let (number, unit) = text.split_at_checked(text.find(|c: char| !c.is_ascii_digit())?)?;
    let factor: usize = match unit.trim_start() {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "KB" | "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::parse_duration;
    use super::parse_size;

    #[test]
    fn durations_are_numbers_with_units() {
        let check = |text, seconds: Option<u64>| assert_eq!(parse_duration(text), seconds.map(Duration::from_secs), "{text:?}");
        check("10s", Some(10));
        check("60m", Some(3600));
        check("4h", Some(14_400));
        check("7d", Some(604_800));
        check("1h30m", Some(5400));
        check("0s", Some(0));
        for bad in ["", "10", "m", "1x", "-5m", "1.5h", "5 m", "1h30", "99999999999999999999d", "9999999999999999d"] {
            check(bad, None);
        }
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
    }

    #[test]
    fn sizes_carry_a_unit() {
        assert_eq!(parse_size("8MiB"), Some(8 << 20));
        assert_eq!(parse_size("512 KiB"), Some(512 << 10));
        assert_eq!(parse_size("1MB"), Some(1_000_000));
        for bad in ["", "8", "MiB", "8M", "-1MiB", "99999999999999999GiB"] {
            assert_eq!(parse_size(bad), None, "{bad:?}");
        }
    }
}
