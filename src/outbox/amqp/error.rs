//! What can go wrong with a broker, and what an operator can do about it.
//!
//! Errors never hold the URL, and of what the broker says only its own words about connections, exchanges and queues.

use std::fmt;
use std::time::Duration;

use lapin::ErrorKind;

/// What the broker said when it closed a channel or a connection. It names exchanges, queues and users, never a message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reply {
    /// The reply code: 403, 404, 406, …
    pub code: u16,
    /// The broker's words.
    pub text: String,
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.text)
    }
}

impl Reply {
    pub(super) fn of(error: &lapin::Error) -> Option<Self> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "lapin's list is not stable, and only this kind carries a reply")]
        match error.kind() {
            ErrorKind::ProtocolError(said) => Some(Self { code: said.get_id(), text: said.get_message().as_str().to_owned() }),
            _ => None,
        }
    }
}

/// Why the broker could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AmqpError {
    /// The URL is none.
    #[error("`publish.amqp.url` is not an AMQP URL")]
    Url,
    /// A name is too long for AMQP.
    #[error("`publish.amqp.{key}` is longer than 255 bytes")]
    Name {
        /// Which: `exchange` or `queue`.
        key: &'static str,
    },
    /// The broker cannot be reached, or ends the connection while it is made.
    #[error("the broker cannot be reached: {source}")]
    Unreachable {
        /// Why.
        #[source]
        source: lapin::Error,
    },
    /// The broker lets nobody in with this user, password or virtual host.
    #[error("the broker refuses the connection: {reply}")]
    LoginRefused {
        /// What it said.
        reply: Reply,
    },
    /// The broker is silent.
    #[error("the broker did not answer within {after:?} while {doing}")]
    Silent {
        /// What was asked of it.
        doing: &'static str,
        /// How long it had.
        after: Duration,
    },
    /// The exchange or queue is not there, not as it should be, or not ours to declare.
    #[error("the broker's {what} `{name}` cannot be used: {reply}")]
    Topology {
        /// `exchange`, `queue` or `binding`.
        what: &'static str,
        /// Its name.
        name: String,
        /// What the broker said.
        reply: Reply,
    },
    /// The session broke.
    #[error("the connection to the broker broke: {source}")]
    Broken {
        /// Why.
        #[source]
        source: lapin::Error,
    },
    /// The broker said something that makes no sense.
    #[error("the broker broke the protocol: {what}")]
    Nonsense {
        /// What.
        what: &'static str,
    },
}

impl AmqpError {
    /// The kind, as a metric label and for readiness.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Url => "url",
            Self::Name { .. } => "name",
            Self::Unreachable { .. } => "unreachable",
            Self::LoginRefused { .. } => "login_refused",
            Self::Silent { .. } => "silent",
            Self::Topology { .. } => "topology",
            Self::Broken { .. } => "broken",
            Self::Nonsense { .. } => "protocol",
        }
    }

    /// What an operator can do.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Url => "write it as `amqp://user:password@host:5672/%2f`, or `amqps://` for TLS, with special characters percent-encoded",
            Self::Name { .. } => "choose a shorter name",
            Self::Unreachable { .. } => "check that the broker runs, and host, port and TLS in `publish.amqp.url`",
            Self::LoginRefused { .. } => "check user, password and virtual host in `publish.amqp.url`; the default virtual host is written `%2f`",
            Self::Silent { .. } => "check the broker's load and the network between; a firewall may drop packets",
            Self::Topology { reply, .. } => match reply.code {
                403 => "give the user the right to configure and write what `publish.amqp` names, or declare it yourself and set `queue = \"\"`",
                404 => "declare the exchange (topic, durable) on the broker, or name a queue in `publish.amqp.queue` and wardroom declares both",
                406 => {
                    "it exists with other properties: wardroom wants a durable topic exchange and a durable quorum queue; delete it or choose another name"
                }
                _ => "look at the broker's log",
            },
            Self::Broken { .. } => "it is opened again by itself; when this goes on, look at the broker's log",
            Self::Nonsense { .. } => "look at what stands between wardroom and the broker",
        }
    }

    /// Whether it may pass by itself.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Url | Self::Name { .. } | Self::LoginRefused { .. } | Self::Topology { .. } => false,
            Self::Unreachable { .. } | Self::Silent { .. } | Self::Broken { .. } | Self::Nonsense { .. } => true,
        }
    }

    /// An error while the connection was made.
    pub(super) fn connecting(source: lapin::Error) -> Self {
        match Reply::of(&source) {
            // ACCESS_REFUSED: the login; NOT_ALLOWED: the virtual host.
            Some(reply) if matches!(reply.code, 403 | 530) => Self::LoginRefused { reply },
            _ => Self::Unreachable { source },
        }
    }
}
