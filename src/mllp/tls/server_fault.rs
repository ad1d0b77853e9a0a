//! What a client says of a server with which no TLS came about: what was wrong, as exactly as the library knows, and what to do on this end.
//!
//! Names and dates are those of the server's certificate, which everybody may see who connects; nothing of a message is ever in it.

use std::fmt;
use std::io;

use rustls::CertificateError;

use super::HandshakeFault;
use crate::time::Timestamp;

/// Why there is no TLS with a server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerFault {
    kind: HandshakeFault,
    /// What is known beyond the kind.
    detail: String,
}

impl ServerFault {
    /// The reason behind an error of a handshake, or of the first reads and writes after one.
    pub fn of(error: &io::Error) -> Self {
        let rustls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let detail = if let Some(rustls::Error::InvalidCertificate(error)) = rustls { detail(error) } else { String::new() };
        Self { kind: HandshakeFault::of(error), detail }
    }

    /// A server that has not finished the handshake in time.
    pub(in crate::mllp) const fn timed_out() -> Self {
        Self { kind: HandshakeFault::TimedOut, detail: String::new() }
    }

    /// The kind.
    pub const fn kind(&self) -> HandshakeFault {
        self.kind
    }

    const fn reason_and_hint(&self) -> (&'static str, &'static str) {
        match self.kind {
            HandshakeFault::Gone => {
                ("the server closed the connection in the middle of it", "it may not speak TLS: try without `--tls`; otherwise its log says why")
            }
            HandshakeFault::TimedOut => ("the server did not finish it in time", "it may be waiting for a plain connection: try without `--tls`"),
            HandshakeFault::NotTls => ("what the server sends is not TLS", "leave `--tls` away, or turn TLS on at the server"),
            HandshakeFault::NoCertificate => {
                ("the server requires a client certificate", "show one that it trusts with `--tls-certificate` and `--tls-key`")
            }
            HandshakeFault::UnknownIssuer => (
                "the server's certificate is signed by no authority that is trusted here",
                "name the authority's file with `--tls-ca`, and have the server send its whole chain",
            ),
            HandshakeFault::Expired => ("the server's certificate has expired", "have it renewed, or compare the clocks of both machines"),
            HandshakeFault::NotYetValid => ("the server's certificate is not valid yet", "compare the clocks of both machines"),
            HandshakeFault::WrongName => {
                ("the server's certificate bears another name", "connect by a name that it bears, or say which with `--tls-name`")
            }
            HandshakeFault::BadCertificate => ("the server's certificate is not acceptable", "check its purpose, its signature and its form"),
            HandshakeFault::PeerDistrustsUs => (
                "the server does not accept our certificate",
                "it must be signed by an authority that the server trusts for clients, and be valid today",
            ),
            HandshakeFault::PeerRefused => ("the server refused it", "its log says why"),
            HandshakeFault::Version | HandshakeFault::NothingInCommon | HandshakeFault::Other => self.kind.reason_and_hint(),
        }
    }
}

/// What the library says of a certificate beyond the kind of its error.
fn detail(error: &CertificateError) -> String {
    if let CertificateError::NotValidForNameContext { expected, presented } = error {
        let names: Vec<String> = presented.iter().map(|name| name_of(name)).collect();
        let expected = expected.to_str();
        if names.is_empty() { format!(": none, and `{expected}` was expected") } else { format!(": {}, not `{expected}`", names.join(", ")) }
    } else if let CertificateError::ExpiredContext { not_after, .. } = error {
        format!(": it ended at {}", moment(not_after.as_secs()))
    } else if let CertificateError::NotValidYetContext { not_before, .. } = error {
        format!(": it begins at {}", moment(not_before.as_secs()))
    } else {
        String::new()
    }
}

/// `DnsName("ward.example")`, as the library has it, is `ward.example` for people. What is in a certificate may not speak to the terminal.
fn name_of(presented: &str) -> String {
    let bare = presented.split('"').nth(1).unwrap_or(presented);
    format!("`{}`", bare.chars().filter(|letter| !letter.is_control()).take(80).collect::<String>())
}

fn moment(seconds: u64) -> Timestamp {
    Timestamp::from_micros(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000))
}

impl fmt::Display for ServerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (reason, hint) = self.reason_and_hint();
        write!(f, "{reason}{}\nhint: {hint}", self.detail)
    }
}
