//! What the demo plays on: a folder with everything a daemon needs, the daemon in it, and the events it publishes.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tempfile::TempDir;

use crate::app::Daemon;
use crate::app::NotStarted;
use crate::cli::setting::Setting;
use crate::config::Config;
use crate::config::environment::Environment;
use crate::mllp::client::ClientOptions;
use crate::mllp::client::Endpoint;
use crate::mllp::client::MllpClient;
use crate::telemetry::metrics::Metrics;

const FILES: [(&str, &str); 3] =
    [("wardroom.toml", include_str!("wardroom.toml")), ("staff.csv", include_str!("staff.csv")), ("units.csv", include_str!("units.csv"))];

/// How often the file of events is looked at while events are on their way.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long events may be on their way.
const EVENTS_WITHIN: Duration = Duration::from_secs(20);

/// The demo's folder: gone at the end, or kept.
#[derive(Debug)]
pub(super) enum Folder {
    Throwaway(TempDir),
    Kept(PathBuf),
}

impl Folder {
    /// A folder with the setting in it. One to be kept must be new or empty.
    pub(super) fn make(keep: Option<&Path>) -> anyhow::Result<Self> {
        let folder = match keep {
            None => Self::Throwaway(TempDir::with_prefix("wardroom-demo-").context("cannot make a folder for the demo")?),
            Some(path) => {
                std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
                if std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?.next().is_some() {
                    anyhow::bail!("{} is not empty\nhint: name a folder that is not there yet", path.display());
                }
                Self::Kept(path.to_owned())
            }
        };
        for (name, text) in FILES {
            let file = folder.path().join(name);
            std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
        std::fs::create_dir(folder.path().join("messages")).context("cannot make the folder of messages")?;
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Throwaway(folder) => folder.path(),
            Self::Kept(path) => path,
        }
    }

    pub(super) fn kept(&self) -> Option<&Path> {
        match self {
            Self::Throwaway(_) => None,
            Self::Kept(path) => Some(path),
        }
    }

    /// Where the events go.
    pub(super) fn events(&self) -> PathBuf {
        self.path().join("events.jsonl")
    }

    /// The setting of the folder, on free ports.
    pub(super) fn setting(&self) -> anyhow::Result<Setting> {
        let file = self.path().join("wardroom.toml");
        // The environment of whoever tries this out has no say: the demo is the same everywhere.
        let mut config = Config::load(Some(&file), &Environment::default())?;
        config.admin.listen.set_port(0);
        for feed in &mut config.feeds {
            feed.listen.set_port(0);
        }
        Ok(Setting { config })
    }
}

/// A running daemon, a connection to it, and what it publishes.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) daemon: Daemon,
    pub(super) client: MllpClient,
    events: Tail,
}

impl Stage {
    pub(super) async fn set(folder: &Folder, setting: &Setting, metrics: &Metrics) -> Result<Self, NotStarted> {
        let daemon = Daemon::start(setting, metrics).await?;
        let unavailable = |error: anyhow::Error| NotStarted { code: 69, error };
        let address = daemon.feeds.first().copied().ok_or_else(|| unavailable(anyhow::anyhow!("no feed listens")))?;
        let endpoint = Endpoint { host: address.ip().to_string(), port: address.port() };
        let client = MllpClient::connect(&endpoint, &ClientOptions::default()).await.map_err(|error| unavailable(error.into()))?;
        Ok(Self { daemon, client, events: Tail { path: folder.events(), file: None, rest: Vec::new() } })
    }

    /// Every event of what was acknowledged until now, and not given before.
    ///
    /// The acknowledgement is the commit, so the events are in the outbox by now; when it is empty, all of them are in the file.
    pub(super) async fn events(&mut self) -> anyhow::Result<Vec<Value>> {
        let published = async {
            let mut looks = tokio::time::interval(LOOK_EVERY);
            loop {
                looks.tick().await;
                if self.daemon.store.outbox_depth().await?.n_pending == 0 {
                    return anyhow::Ok(());
                }
            }
        };
        tokio::time::timeout(EVENTS_WITHIN, published).await.context("the events were not published in time")??;
        self.events.read()
    }
}

/// The file of events, read as it grows.
#[derive(Debug)]
struct Tail {
    path: PathBuf,
    file: Option<File>,
    rest: Vec<u8>,
}

impl Tail {
    fn read(&mut self) -> anyhow::Result<Vec<Value>> {
        if self.file.is_none() && self.path.exists() {
            self.file = Some(File::open(&self.path).context("cannot read the events")?);
        }
        let Some(file) = &mut self.file else { return Ok(Vec::new()) };
        file.read_to_end(&mut self.rest).context("cannot read the events")?;
        let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines: Vec<u8> = self.rest.drain(..whole).collect();
        let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).context("an event is not JSON")).collect()
    }
}
