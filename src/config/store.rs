//! `[store]`: where durable state lives and what it is sealed with.

use std::path::PathBuf;

use schemars::JsonSchema;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use serde::Deserialize;
use serde::Serialize;

use crate::config::endpoint::Endpoint;
use crate::config::reader::Reader;
use crate::config::tree::KeyPath;

/// Where durable state lives.
#[derive(Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Store")]
pub(super) struct RawStore {
    /// `sqlite:PATH` (relative to this file), or `postgres://USER@HOST/DATABASE`. A secret: may be `file:PATH` or `env:NAME`.
    url: String,
    /// The master key: 32 bytes in base64. A secret: may be `file:PATH` or `env:NAME`. A file that is not there is made, with mode 0600, beside a new SQLite database.
    key: String,
    /// How much space must stay free on the volume of a SQLite database; with less, no more messages are taken. `0B`: none.
    min_free: String,
}

impl Default for RawStore {
    fn default() -> Self {
        Self { url: "sqlite:wardroom.db".to_owned(), key: "file:wardroom.key".to_owned(), min_free: "64MiB".to_owned() }
    }
}

/// Where durable state lives and what it is sealed with.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The database.
    pub url: StoreUrl,
    /// The master key.
    pub key: KeySource,
    /// How many bytes must stay free on the volume of a SQLite database.
    pub min_free: Option<u64>,
}

/// Which database.
#[derive(Clone, Debug)]
pub enum StoreUrl {
    /// A file.
    Sqlite(PathBuf),
    /// In memory, gone at the end.
    SqliteInMemory,
    /// A server; the URL may hold a password.
    Postgres {
        /// The whole URL.
        url: SecretString,
        /// The server, where the URL names one (it may name a socket instead).
        server: Option<Endpoint>,
    },
}

impl StoreUrl {
    /// The whole URL, with its password, as the store opens it.
    pub fn to_secret(&self) -> SecretString {
        match self {
            Self::Sqlite(file) => SecretString::from(format!("sqlite:{}", file.display())),
            Self::SqliteInMemory => SecretString::from("sqlite::memory:"),
            Self::Postgres { url, .. } => url.clone(),
        }
    }
}

/// Where the master key is.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// In this file, which the store makes beside a new SQLite database.
    File(PathBuf),
    /// Given: base64.
    Given {
        /// The key.
        key: SecretString,
        /// The variable of the environment that holds it, unless it stands in the configuration itself.
        variable: Option<String>,
    },
}

/// Reads the section.
pub(super) fn read(raw: &RawStore, reader: &mut Reader<'_>) -> StoreConfig {
    let section = KeyPath::of("store");
    let min_free = u64::try_from(reader.size(&section.key("min_free"), &raw.min_free)).unwrap_or(u64::MAX);
    StoreConfig {
        url: url(&raw.url, &section.key("url"), reader),
        key: key(&raw.key, &section.key("key"), reader),
        min_free: (min_free > 0).then_some(min_free),
    }
}

fn url(raw: &str, path: &KeyPath, reader: &mut Reader<'_>) -> StoreUrl {
    let secret = reader.secret(path, raw);
    let url = secret.expose_secret();
    if let Some(file) = url.strip_prefix("sqlite:") {
        let file = file.strip_prefix("//").unwrap_or(file);
        let file = file.split_once('?').map_or(file, |(file, _)| file);
        match file {
            ":memory:" => StoreUrl::SqliteInMemory,
            "" => {
                reader.problem(path, "names no file after `sqlite:`");
                StoreUrl::SqliteInMemory
            }
            file => StoreUrl::Sqlite(reader.path(file)),
        }
    } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        let server = Endpoint::of_url(url, 5432);
        StoreUrl::Postgres { url: secret, server }
    } else {
        reader.problem(path, "must begin with `sqlite:` or `postgres://`");
        StoreUrl::SqliteInMemory
    }
}

fn key(raw: &str, path: &KeyPath, reader: &mut Reader<'_>) -> KeySource {
    if let Some(file) = raw.strip_prefix("file:") {
        let file = reader.path(file);
        if std::fs::read_to_string(&file).is_ok_and(|text| !is_key(text.trim())) {
            let rule = format!("the file `{}` must hold 32 bytes in base64", file.display());
            reader.problem_with_hint(path, rule, "of a store that exists already, only its own key will do; for a new one remove the file");
        }
        return KeySource::File(file);
    }
    let secret = reader.secret(path, raw);
    if !is_key(secret.expose_secret()) {
        let hint = "`head -c 32 /dev/urandom | base64` makes one; `file:PATH` reads one from a file";
        reader.problem_with_hint(path, "must be 32 bytes in base64", hint);
    }
    KeySource::Given { key: secret, variable: raw.strip_prefix("env:").map(str::to_owned) }
}

fn is_key(text: &str) -> bool {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).is_ok_and(|bytes| bytes.len() == 32)
}
