//! The host and port in a URL, to say what is reached and to try to reach it. Never the user or the password.

use std::fmt;

/// A host and a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Endpoint {
    /// The endpoint of `scheme://user:password@host:port/path`; none where no host is named.
    pub(crate) fn of_url(url: &str, default_port: u16) -> Option<Self> {
        let (_, rest) = url.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
        let (host, port) = match place.strip_prefix('[') {
            Some(v6) => {
                let (host, after) = v6.split_once(']')?;
                (host, after.strip_prefix(':').unwrap_or_default())
            }
            None => place.rsplit_once(':').unwrap_or((place, "")),
        };
        let port = if port.is_empty() { default_port } else { port.parse().ok()? };
        (!host.is_empty()).then(|| Self { host: host.to_owned(), port })
    }

    /// Whether it is this machine.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') { write!(f, "[{}]:{}", self.host, self.port) } else { write!(f, "{}:{}", self.host, self.port) }
    }
}

#[cfg(test)]
mod tests {
    use super::Endpoint;

    #[test]
    fn a_url_names_a_host_and_perhaps_a_port() {
        let check = |url, expected: Option<&str>| assert_eq!(Endpoint::of_url(url, 5672).map(|e| e.to_string()).as_deref(), expected, "{url}");
        check("amqp://guest:gu@est@127.0.0.1:5673/%2f", Some("127.0.0.1:5673"));
        check("amqps://broker", Some("broker:5672"));
        check("amqp://u:p@[::1]:1/", Some("[::1]:1"));
        check("postgres:///db?host=/run/postgresql", None);
        check("amqp://host:port", None);
        check("nonsense", None);
    }
}
