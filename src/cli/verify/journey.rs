//! A journey as it stands in its folder: read, run, and rewritten when it is blessed.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;
use toml_edit::DocumentMut;

use crate::cli::messages::read_messages;
use crate::cli::setting::Setting;
use crate::cli::verify::outcome::Outcome;
use crate::config::Config;
use crate::config::environment::Environment;
use crate::intake::rehearsal::Rehearsal;
use crate::time::Timestamp;

/// The file that makes a folder a journey.
const FILE: &str = "journey.toml";

/// Why a journey cannot be run.
#[derive(Debug, thiserror::Error)]
pub(super) enum JourneyError {
    /// A file that cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The journey's own file says something it should not.
    #[error("`{}`: {message}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What, and where.
        message: String,
    },
    /// The configuration or the directory of the journey.
    #[error("{0}")]
    Setting(String),
}

/// `journey.toml`.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
#[schemars(title = "wardroom journey", extend("$id" = "urn:wardroom:schema:journey:1"))]
pub(super) struct JourneyFile {
    /// What the journey shows, in one sentence.
    title: String,
    /// Where the clock begins (RFC 3339).
    now: String,
    /// The configuration beside it; without one, the nearest `wardroom.toml` of the parents, else the defaults.
    #[serde(default)]
    config: Option<String>,
    /// The staff beside it; without one, that of the configuration, else the nearest `staff.csv` of the parents.
    #[serde(default)]
    staff: Option<String>,
    /// The units beside it; likewise `units.csv`.
    #[serde(default)]
    units: Option<String>,
    /// What happens, in order.
    #[serde(default)]
    step: Vec<Step>,
}

/// One step: messages are sent, or time passes, and then something holds.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    /// A message file, or several. The clock moves to each message's own time, if that is later.
    #[serde(default)]
    pub(super) send: Option<OneOrMany>,
    /// The feed by which they come; without it, the first of the configuration.
    #[serde(default)]
    pub(super) feed: Option<String>,
    /// How far the clock moves: `61m`, `4h`, `1d`.
    #[serde(default)]
    pub(super) advance: Option<String>,
    /// Whether an operator first says that leaves and ends may go on, which many at once have stopped.
    #[serde(default)]
    pub(super) go_on: bool,
    /// What holds then.
    #[serde(default)]
    pub(super) expect: Option<Expect>,
}

/// A value or a list.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// What a step expects; what is not named is not looked at.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    /// The code of the last message's answer: `AA`; `none` where none is given.
    #[serde(default)]
    pub(super) ack: Option<String>,
    /// What became of the last message.
    #[serde(default)]
    pub(super) disposition: Option<String>,
    /// The types of the step's events, in order.
    #[serde(default)]
    pub(super) events: Option<Vec<String>>,
    /// The codes of what the step's events say in rooms, in order.
    #[serde(default)]
    pub(super) notices: Option<Vec<String>>,
    /// A room.
    #[serde(default)]
    pub(super) room: Option<ExpectedRoom>,
    /// Several rooms.
    #[serde(default)]
    pub(super) rooms: Vec<ExpectedRoom>,
}

/// What is expected of the room of a visit.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectedRoom {
    /// The visit number, `AUTHORITY/NUMBER` where two feeds number alike.
    pub(super) visit: String,
    /// Whether there is none that anybody could see.
    #[serde(default)]
    pub(super) absent: Option<bool>,
    /// Where it is in its life.
    #[serde(default)]
    pub(super) status: Option<String>,
    /// `GHH 4N 12-A`.
    #[serde(default)]
    pub(super) place: Option<String>,
    /// The name without its code.
    #[serde(default)]
    pub(super) name: Option<String>,
    /// The level.
    #[serde(default)]
    pub(super) confidentiality: Option<String>,
    /// The value of the patient id.
    #[serde(default)]
    pub(super) patient: Option<String>,
    /// Exactly these users.
    #[serde(default)]
    pub(super) members: Option<Vec<String>>,
    /// Exactly these: the first id value of each whom nobody knows.
    #[serde(default)]
    pub(super) unresolved: Option<Vec<String>>,
    /// Exactly these.
    #[serde(default)]
    pub(super) flags: Option<Vec<String>>,
    /// The visit of the room that this one was merged into.
    #[serde(default)]
    pub(super) merged_into: Option<String>,
    /// The visit of the room that this one goes on from.
    #[serde(default)]
    pub(super) continues: Option<String>,
}

/// The JSON Schema of `journey.toml`.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(JourneyFile).to_value()
}

/// A journey, read and ready to run.
#[derive(Debug)]
pub(super) struct Journey {
    folder: PathBuf,
    file: JourneyFile,
    now: Timestamp,
    setting: Setting,
}

impl Journey {
    /// Reads a journey and everything it stands on. `config` is the configuration of the command line, for journeys that find none of their own.
    pub(super) fn read(folder: &Path, config: Option<&Path>) -> Result<Self, JourneyError> {
        let path = folder.join(FILE);
        let text = read_text(&path)?;
        let file: JourneyFile =
            toml::from_str(&text).map_err(|error| JourneyError::Form { path: path.clone(), message: error.to_string().trim().replace('\n', " ") })?;
        let now: jiff::Timestamp = file
            .now
            .parse()
            .map_err(|_| JourneyError::Form { path, message: "`now` is no time: write it as `2026-11-21T08:00:00-05:00`".to_owned() })?;
        let beside = |name: &Option<String>| name.as_ref().map(|name| folder.join(name));
        let named = beside(&file.config).or_else(|| nearest(folder, "wardroom.toml")).or_else(|| config.map(Path::to_owned));
        let environment = Environment::default();
        let config = match &named {
            Some(path) => Config::from_text(&read_text(path)?, Some(path), &environment),
            None => Config::from_text(crate::config::default_toml(), None, &environment),
        };
        let mut config = config.map_err(|errors| JourneyError::Setting(errors.to_string().replace('\n', " ")))?;
        let own_staff = beside(&file.staff).or_else(|| config.directory.staff.is_none().then(|| nearest(folder, "staff.csv")).flatten());
        let own_units = beside(&file.units).or_else(|| config.directory.units.is_none().then(|| nearest(folder, "units.csv")).flatten());
        if let Some(staff) = own_staff {
            config.directory.staff = Some(staff);
            config.directory.include_unknown_staff = false;
        }
        config.directory.units = own_units.or(config.directory.units);
        Ok(Self { folder: folder.to_owned(), file, now: now.into(), setting: Setting { config } })
    }

    pub(super) fn title(&self) -> &str {
        &self.file.title
    }

    /// Runs it; every difference is a line.
    pub(super) fn run(&self) -> Result<Vec<String>, JourneyError> {
        let mut differences = Vec::new();
        self.walk(|index, step, outcome| {
            let Some(expect) = &step.expect else { return };
            for difference in outcome.compare(expect) {
                differences.push(format!("step {} ({}): {difference}", index + 1, label(step)));
            }
        })?;
        Ok(differences)
    }

    /// Runs it, and writes what happened into its file, wherever it expected something else.
    pub(super) fn bless(&self) -> Result<Vec<String>, JourneyError> {
        let path = self.folder.join(FILE);
        let mut document: DocumentMut = read_text(&path)?
            .parse()
            .map_err(|error: toml_edit::TomlError| JourneyError::Form { path: path.clone(), message: error.message().to_owned() })?;
        self.walk(|index, step, outcome| {
            let Some(expect) = step.expect.as_ref().filter(|expect| !outcome.compare(expect).is_empty()) else { return };
            let steps = document.get_mut("step").and_then(|steps| steps.as_array_of_tables_mut());
            if let Some(table) = steps.and_then(|steps| steps.get_mut(index)) {
                outcome.write_into(expect, table);
            }
        })?;
        std::fs::write(&path, document.to_string()).map_err(|source| JourneyError::File { path, source })?;
        Ok(Vec::new())
    }

    fn walk(&self, mut look: impl FnMut(usize, &Step, &Outcome)) -> Result<(), JourneyError> {
        let roster = self.setting.roster().map_err(|error| JourneyError::Setting(error.to_string()))?;
        let feed = self.setting.feed(None).ok_or_else(|| JourneyError::Setting("there is no feed".to_owned()))?;
        let mut rehearsal = Rehearsal::new(feed, self.setting.policy(), Arc::clone(&roster), self.now);
        rehearsal.guard();
        for (index, step) in self.file.step.iter().enumerate() {
            if step.go_on {
                rehearsal.go_on();
            }
            if let Some(span) = &step.advance {
                let span: jiff::SignedDuration =
                    span.parse::<jiff::Span>().ok().and_then(|span| span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok()).ok_or_else(
                        || JourneyError::Form {
                            path: self.folder.join(FILE),
                            message: format!("step {}: `advance` is no span: write `61m` or `4h`", index + 1),
                        },
                    )?;
                rehearsal.advance(span.unsigned_abs());
            }
            let feed = self.setting.feed(step.feed.as_deref()).ok_or_else(|| JourneyError::Form {
                path: self.folder.join(FILE),
                message: format!("step {}: there is no feed `{}`", index + 1, step.feed.as_deref().unwrap_or_default()),
            })?;
            rehearsal.hear(feed);
            let files = match &step.send {
                None => Vec::new(),
                Some(OneOrMany::One(file)) => vec![file.clone()],
                Some(OneOrMany::Many(files)) => files.clone(),
            };
            let mut last = None;
            for file in files {
                let path = self.folder.join(file);
                let input = read_messages(std::slice::from_ref(&path)).map_err(|error| JourneyError::File { path, source: error.source })?;
                if let Some(left_out) = input.left_out.first() {
                    return Err(JourneyError::Form { path: self.folder.join(FILE), message: format!("step {}: {left_out}", index + 1) });
                }
                for message in input.messages {
                    if let Some(at) = rehearsal.own_time(&message.bytes) {
                        rehearsal.move_to(at);
                    }
                    last = rehearsal.send(&message.bytes).pop().or(last);
                }
            }
            let events = rehearsal.take_events();
            look(index, step, &Outcome { last, events, rehearsal: &rehearsal });
        }
        Ok(())
    }
}

fn label(step: &Step) -> String {
    match (&step.send, &step.advance) {
        (Some(OneOrMany::One(file)), _) => file.clone(),
        (Some(OneOrMany::Many(files)), _) => files.join(", "),
        (None, Some(span)) => format!("after {span}"),
        (None, None) => "nothing".to_owned(),
    }
}

/// A file of this name in the folder or the nearest of its parents.
fn nearest(folder: &Path, name: &str) -> Option<PathBuf> {
    let folder = folder.canonicalize().ok()?;
    folder.ancestors().map(|parent| parent.join(name)).find(|path| path.is_file())
}

fn read_text(path: &Path) -> Result<String, JourneyError> {
    std::fs::read_to_string(path).map_err(|source| JourneyError::File { path: path.to_owned(), source })
}
