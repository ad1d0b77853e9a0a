//! `[admin]`: health, metrics and the operator's interface.

use std::net::SocketAddr;

use schemars::JsonSchema;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use serde::Deserialize;
use serde::Serialize;

use crate::config::reader;
use crate::config::reader::Reader;
use crate::config::reader::is_blank_or_padded;
use crate::config::tls;
use crate::config::tls::RawTls;
use crate::config::tree::KeyPath;
use crate::mllp::tls::ServerTlsFiles;

/// Health, metrics and the operator's interface.
#[derive(Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Admin")]
pub(super) struct RawAdmin {
    /// An IP address and a port. Outside loopback, tokens need `[admin.tls]`.
    pub(super) listen: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawTls")]
    tls: Option<RawTls>,
    /// Who may see and change data. Health and metrics need no token.
    tokens: Vec<RawToken>,
}

impl Default for RawAdmin {
    fn default() -> Self {
        Self { listen: "127.0.0.1:8575".to_owned(), tls: None, tokens: Vec::new() }
    }
}

/// A bearer token.
#[derive(Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Token")]
struct RawToken {
    /// Who it belongs to, as the audit trail names them.
    name: String,
    /// What it may do.
    role: TokenRole,
    /// The token, at least 20 characters. A secret: may be `file:PATH` or `env:NAME`.
    token: String,
}

/// What a token may do; each may also do what those before it may.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenRole {
    /// Sees rooms and quarantine.
    #[default]
    Viewer,
    /// Also changes them.
    Operator,
    /// Also sees the audit trail, breaks the glass and purges.
    Privacy,
}

/// Health, metrics and the operator's interface.
#[derive(Clone, Debug)]
pub struct AdminConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// TLS.
    pub tls: Option<ServerTlsFiles>,
    /// Who may see and change data.
    pub tokens: Vec<AdminToken>,
}

/// A bearer token.
#[derive(Clone, Debug)]
pub struct AdminToken {
    /// Who it belongs to.
    pub name: String,
    /// What it may do.
    pub role: TokenRole,
    /// The token.
    pub token: SecretString,
}

/// Shorter tokens can be guessed.
const MIN_TOKEN_LENGTH: usize = 20;

/// Reads the section; the address is absent where it could not be read.
pub(super) fn read(raw: &RawAdmin, reader: &mut Reader<'_>) -> (AdminConfig, Option<SocketAddr>) {
    let section = KeyPath::of("admin");
    let listen = reader.listen(&section.key("listen"), &raw.listen);
    // Health and metrics hold nothing of a patient; what shows or changes data is asked for with a token, which must not go in the clear.
    if listen.is_some_and(|address| !address.ip().is_loopback()) && raw.tls.is_none() && !raw.tokens.is_empty() {
        reader.problem_with_hint(
            &section.key("listen"),
            "is outside loopback, and its tokens would go in the clear",
            "add `[admin.tls]`, listen on 127.0.0.1, or give no tokens",
        );
    }
    let tls = raw.tls.as_ref().map(|raw| tls::read(raw, &section.key("tls"), reader));
    let mut tokens: Vec<AdminToken> = Vec::new();
    for (index, raw) in raw.tokens.iter().enumerate() {
        let path = section.key("tokens").index(index);
        if is_blank_or_padded(&raw.name) {
            reader.problem(&path.key("name"), "must name who the token belongs to");
        } else if tokens.iter().any(|other| other.name == raw.name) {
            reader.problem(&path.key("name"), "is the name of an earlier token too");
        }
        let token = reader.secret(&path.key("token"), &raw.token);
        if token.expose_secret().len() < MIN_TOKEN_LENGTH {
            reader.problem_with_hint(
                &path.key("token"),
                format!("must have at least {MIN_TOKEN_LENGTH} characters"),
                "`openssl rand -hex 24` makes one",
            );
        }
        tokens.push(AdminToken { name: raw.name.clone(), role: raw.role, token });
    }
    let address = listen.unwrap_or(reader::UNREADABLE_ADDRESS);
    (AdminConfig { listen: address, tls, tokens }, listen)
}
