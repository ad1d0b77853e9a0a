//! The configuration: from a TOML file and the environment to values that are checked and can be used.
//!
//! Three steps. The file becomes a tree in which every value knows its line (`tree`); environment variables are laid over it and the whole is held
//! against the schema that is also published (`shape`); then each section reads its values (`store`, `publish`, `feeds`, …). Everything that is wrong
//! is said at once, and no message ever quotes a value. Conditions and the name's template are compiled here, once.
//!
//! Only this module reads the environment, and only `app` and `cli` know it.

pub mod admin;
mod condition;
mod directory;
pub mod endpoint;
pub mod environment;
pub mod feed_values;
pub mod feeds;
mod name;
pub mod problem;
pub mod publish;
mod reader;
pub mod rooms;
mod shape;
pub mod store;
mod team;
pub mod telemetry;
mod tls;
mod tree;

use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::care::policy::Policy;
use crate::config::admin::AdminConfig;
use crate::config::environment::Environment;
use crate::config::feeds::FeedConfig;
use crate::config::problem::ConfigErrors;
use crate::config::problem::Origin;
use crate::config::problem::Problem;
use crate::config::publish::PublishConfig;
use crate::config::reader::Reader;
use crate::config::rooms::RoomsConfig;
use crate::config::store::StoreConfig;
use crate::config::telemetry::TelemetryConfig;
use crate::config::tree::KeyPath;
use crate::directory::Sources;

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "wardroom.toml";

/// The configuration of wardroom.
#[derive(Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "wardroom configuration", extend("$id" = "urn:wardroom:schema:config:1"))]
struct RawConfig {
    store: store::RawStore,
    publish: publish::RawPublish,
    /// At least one.
    feeds: Vec<feeds::RawFeed>,
    rooms: rooms::RawRooms,
    team: Vec<team::RawTeamRule>,
    directory: directory::RawDirectory,
    admin: admin::RawAdmin,
    telemetry: telemetry::RawTelemetry,
}

/// The configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it came from; none for the built-in defaults.
    pub file: Option<PathBuf>,
    /// Where durable state lives.
    pub store: StoreConfig,
    /// Where the events go.
    pub publish: PublishConfig,
    /// How many events may wait for the backend before no more messages are taken.
    pub max_pending: Option<i64>,
    /// Where messages come from; at least one.
    pub feeds: Vec<FeedConfig>,
    /// Which rooms there are and who belongs in them.
    pub policy: Policy,
    /// What `[rooms]` says beside the policy.
    pub rooms: RoomsConfig,
    /// Who the staff are.
    pub directory: Sources,
    /// Health, metrics and the operator's interface.
    pub admin: AdminConfig,
    /// Where traces go.
    pub telemetry: TelemetryConfig,
    /// What is allowed and probably not meant.
    pub warnings: Vec<Problem>,
}

impl Config {
    /// Reads the named file, else `wardroom.toml` in the working directory if there is one, else the built-in defaults.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(file: Option<&Path>, environment: &Environment) -> Result<Self, ConfigErrors> {
        let here = Path::new(DEFAULT_FILE);
        let Some(file) = file.or_else(|| here.exists().then_some(here)) else {
            return Self::from_text(default_toml(), None, environment);
        };
        let text = std::fs::read_to_string(file).map_err(|error| {
            let origin = Origin::File { path: file.to_owned(), line: None };
            ConfigErrors(vec![Problem { origin, key: String::new(), rule: format!("cannot be read: {error}"), hint: None }])
        })?;
        Self::from_text(&text, Some(file), environment)
    }

    /// Reads a text that stands, or might stand, in a file: its name is for messages, its folder for relative paths.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn from_text(text: &str, file: Option<&Path>, environment: &Environment) -> Result<Self, ConfigErrors> {
        let (mut tree, syntax_errors) = tree::read(text.strip_prefix('\u{feff}').unwrap_or(text));
        if !syntax_errors.is_empty() {
            // What could be read of a broken file says nothing reliable about the rest.
            let problem = |error: tree::SyntaxError| Problem {
                origin: file.map_or(Origin::Defaults, |path| Origin::File { path: path.to_owned(), line: Some(error.line) }),
                key: String::new(),
                rule: format!("is not TOML: {}", error.message),
                hint: None,
            };
            return Err(ConfigErrors(syntax_errors.into_iter().map(problem).collect()));
        }
        let schema = schema();
        let mut misfits = shape::overlay(&mut tree, &schema, environment.overrides());
        misfits.extend(shape::check(&mut tree, &schema));
        let base = file.and_then(Path::parent).unwrap_or_else(|| Path::new(""));
        let mut reader = Reader {
            tree: &tree,
            file,
            base,
            environment,
            taken_out: misfits.iter().map(|misfit| misfit.path.clone()).collect(),
            problems: Vec::new(),
            warnings: Vec::new(),
        };
        for misfit in misfits {
            let problem = Problem { origin: reader.origin(&misfit.at), key: misfit.path.to_string(), rule: misfit.rule, hint: None };
            reader.problems.push(problem);
        }
        let raw: RawConfig = serde_json::from_value(tree.to_json()).unwrap_or_else(|_| {
            reader.problem(&KeyPath::default(), "cannot be read as a configuration");
            RawConfig::default()
        });
        // A file that speaks of no feed leaves the built-in one standing, as with every other key.
        let raw = if tree.to_json().get("feeds").is_none() { RawConfig { feeds: default_feeds(), ..raw } } else { raw };
        let config = Self::read(&raw, &mut reader);
        let mut problems = reader.problems;
        if problems.is_empty() {
            return Ok(config);
        }
        problems.sort();
        problems.dedup();
        Err(ConfigErrors(problems))
    }

    fn read(raw: &RawConfig, reader: &mut Reader<'_>) -> Self {
        let store = store::read(&raw.store, reader);
        let publish = publish::read(&raw.publish, reader);
        let max_pending = publish::max_pending(&raw.publish);
        let feeds = feeds::read(&raw.feeds, reader);
        let (policy, rooms) = rooms::read(&raw.rooms, reader);
        let team = team::read(&raw.team, reader);
        let directory = directory::read(&raw.directory, reader);
        let (admin, admin_address) = admin::read(&raw.admin, reader);
        let telemetry = telemetry::read(&raw.telemetry, reader);

        let feed_addresses = feeds.iter().enumerate().map(|(index, (_, address))| (KeyPath::of("feeds").index(index).key("listen"), *address));
        let addresses: Vec<_> = feed_addresses.chain([(KeyPath::of("admin").key("listen"), admin_address)]).collect();
        check_addresses(&addresses, reader);

        let feeds: Vec<FeedConfig> = feeds.into_iter().map(|(feed, _)| feed).collect();
        let first = feeds.first();
        let policy = Policy {
            adopt_on_update: first.map_or(policy.adopt_on_update, |feed| feed.adopt_on_update),
            reopen_on_update: first.map_or(policy.reopen_on_update, |feed| feed.reopen_on_update),
            reopen_on_admit: first.map_or(policy.reopen_on_admit, |feed| feed.reopen_on_admit),
            team,
            ..policy
        };
        let warnings = std::mem::take(&mut reader.warnings);
        Self { file: reader.file.map(Path::to_owned), store, publish, max_pending, feeds, policy, rooms, directory, admin, telemetry, warnings }
    }
}

/// No two listeners on one address; port 0 is whichever is free.
fn check_addresses(addresses: &[(KeyPath, Option<SocketAddr>)], reader: &mut Reader<'_>) {
    let overlap = |a: SocketAddr, b: SocketAddr| {
        let wide = a.ip().is_unspecified() || b.ip().is_unspecified();
        a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || wide)
    };
    for (index, (path, address)) in addresses.iter().enumerate() {
        let earlier = addresses.iter().take(index).find(|(_, other)| address.zip(*other).is_some_and(|(a, b)| overlap(a, b)));
        if let Some((other, _)) = earlier {
            reader.problem(path, format!("is the address of {other} too"));
        }
    }
}

/// The built-in defaults, which are also the documentation of every key.
pub const fn default_toml() -> &'static str {
    include_str!("default.toml")
}

/// The feed of the built-in defaults.
fn default_feeds() -> Vec<feeds::RawFeed> {
    let (tree, _) = tree::read(default_toml());
    serde_json::from_value::<RawConfig>(tree.to_json()).map(|raw| raw.feeds).unwrap_or_default()
}

/// The JSON Schema of the configuration.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(RawConfig).to_value()
}

#[cfg(test)]
mod tests;
