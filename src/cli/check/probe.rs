//! Reaching what the configuration names, the way the daemon does it, and changing nothing: files that can be written, a store that the key
//! opens, a broker that lets us in, ports that are free.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use crate::app::ports;
use crate::app::pressure;
use crate::cli::check::Attempt;
use crate::cli::check::Failed;
use crate::cli::check::Probe;
use crate::cli::setting::Setting;
use crate::cli::setting::amqp_options;
use crate::config::Config;
use crate::config::publish::AmqpConfig;
use crate::config::publish::PublishConfig;
use crate::config::store::KeySource;
use crate::config::store::StoreUrl;
use crate::outbox::amqp::AmqpError;
use crate::outbox::amqp::AmqpOptions;
use crate::outbox::amqp::AmqpPublisher;
use crate::store;
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::error::in_words;
use crate::store::master_key::MasterKey;

const TIMEOUT: Duration = Duration::from_secs(5);
/// The reply code of AMQP for what is not there.
const NOT_FOUND: u16 = 404;

/// The probes of every configuration.
pub(super) fn standard(config: &Config) -> Vec<Probe> {
    let store = match &config.store.url {
        StoreUrl::Sqlite(file) if file.exists() => Some(can_write_and_open(file.clone(), config.clone())),
        StoreUrl::Sqlite(file) => Some(can_make(file.clone(), config.store.key.clone())),
        StoreUrl::SqliteInMemory => None,
        StoreUrl::Postgres { .. } => Some(can_open(config.clone())),
    };
    let publish = match &config.publish {
        PublishConfig::Stdout => None,
        PublishConfig::File(file) => Some(can_write(file.clone())),
        PublishConfig::Amqp(amqp) => Some(can_publish(amqp.clone())),
    };
    let named = |name: &str, attempt: Option<_>| attempt.map(|attempt| (name.to_owned(), attempt));
    let disk = match (&config.store.url, config.store.min_free) {
        (StoreUrl::Sqlite(file), Some(min_free)) => Some(has_space(file.clone(), min_free)),
        (StoreUrl::Sqlite(_) | StoreUrl::SqliteInMemory | StoreUrl::Postgres { .. }, _) => None,
    };
    let listeners = config.feeds.iter().map(|feed| (format!("feed {}", feed.name), feed.listen)).chain([("admin".to_owned(), config.admin.listen)]);
    let ports = listeners.filter(|(_, address)| address.port() != 0).map(|(name, address)| (name, can_listen(address, config.store.url.clone())));
    named("store", store).into_iter().chain(named("disk", disk)).chain(named("publish", publish)).chain(ports).collect()
}

/// An attempt, for as long as anybody would wait.
pub(super) async fn in_time(attempt: impl Future<Output = Result<String, Failed>>) -> Result<String, Failed> {
    tokio::time::timeout(TIMEOUT, attempt).await.unwrap_or_else(|_| Err(format!("does not answer within {} s", TIMEOUT.as_secs()).into()))
}

/// Logs in, and looks whether the key opens what is there; `false` when nothing is there yet. Nothing is made or brought up to date.
async fn opens(config: Config) -> Result<bool, Failed> {
    let setting = Setting { config };
    let options = setting.store(store::BESIDE_LANE, false).map_err(|error| Failed::Wrong(in_words(&error)))?;
    match Store::open_read_only(options).await {
        Ok(store) => {
            store.close().await;
            Ok(true)
        }
        Err(StoreError::NotMigrated) => Ok(false),
        Err(error @ (StoreError::Url | StoreError::WrongKey | StoreError::NotAStore)) => Err(Failed::Wrong(in_words(&error))),
        Err(error) => Err(in_words(&error).into()),
    }
}

fn can_open(config: Config) -> Attempt {
    Box::pin(async move {
        let is_made = opens(config).await?;
        Ok(if is_made { "lets us in, and the key opens it" } else { "lets us in; its tables are made when the daemon starts" }.to_owned())
    })
}

/// Whether the file and a key for it can be made, or the key is there already.
fn can_make(file: PathBuf, key: KeySource) -> Attempt {
    Box::pin(async move {
        if let KeySource::File(key) = key {
            if key.exists() {
                MasterKey::load(&key).map_err(|error| Failed::Wrong(in_words(&error)))?;
            } else {
                can_write(key).await?;
            }
        }
        can_lock(&file).await?;
        can_write(file).await
    })
}

/// Whether the file beside the store that keeps other daemons out can be opened, as far as it is there already.
async fn can_lock(file: &Path) -> Result<(), Failed> {
    let lock = store::lock_file(file);
    if lock.exists() { can_write(lock).await.map(drop) } else { Ok(()) }
}

/// Whether the daemon could listen there. While it runs it is what listens, so that this may be for somebody to look at.
fn can_listen(address: SocketAddr, store: StoreUrl) -> Attempt {
    Box::pin(async move {
        let Err(error) = TcpListener::bind(address).await else { return Ok(format!("{address} can be listened on")) };
        let is_running = ports::is_running(&store);
        let text = format!("{address}: {error}\nhint: {}", ports::hint(error.kind(), is_running));
        Err(match (error.kind(), is_running) {
            (ErrorKind::AddrInUse, Some(true) | None) | (ErrorKind::PermissionDenied, _) => Failed::Doubtful(text),
            _ => text.into(),
        })
    })
}

/// Whether the file can be written, and the key opens what is in it.
fn can_write_and_open(file: PathBuf, config: Config) -> Attempt {
    Box::pin(async move {
        can_lock(&file).await?;
        let written = can_write(file).await?;
        Ok(if opens(config).await? { format!("{written}, and the key opens it") } else { written })
    })
}

/// Whether the daemon would take messages, as far as the space is concerned.
fn has_space(file: PathBuf, min_free: u64) -> Attempt {
    Box::pin(async move {
        let Some(n_free) = pressure::free_bytes(&file) else { return Err("how much space is free cannot be found out".to_owned().into()) };
        let text = pressure::space(n_free, min_free);
        if n_free < min_free { Err(format!("{text}: no message would be taken\nhint: {}", pressure::MAKE_SPACE).into()) } else { Ok(text) }
    })
}

/// Logs in, with TLS where that is asked for, and looks for the exchange. Nothing is declared.
fn can_publish(amqp: AmqpConfig) -> Attempt {
    Box::pin(async move {
        let server = amqp.server.clone();
        let options = AmqpOptions { queue: String::new(), ..amqp_options(&amqp).map_err(|error| format!("{error:#}"))? };
        let publisher = AmqpPublisher::new(options, Arc::default(), TaskTracker::new());
        match publisher.check().await {
            Ok(()) => Ok(format!("{server} lets us in and has the exchange `{}`", amqp.exchange)),
            Err(AmqpError::Topology { reply, .. }) if reply.code == NOT_FOUND && amqp.queue.is_some() => {
                Ok(format!("{server} lets us in; exchange and queue are declared when the daemon starts"))
            }
            Err(error) => Err(format!("{server}: {}", in_words(&error)).into()),
        }
    })
}

fn can_write(file: PathBuf) -> Attempt {
    Box::pin(async move {
        let shown = file.display().to_string();
        let tried = tokio::task::spawn_blocking(move || try_to_write(&file)).await;
        match tried {
            Ok(Ok(text)) => Ok(format!("{shown} {text}")),
            Ok(Err(error)) => {
                let kind = error.kind();
                let hint = if kind == ErrorKind::NotFound {
                    "\nhint: make the folder"
                } else if kind == ErrorKind::IsADirectory {
                    "\nhint: it is a folder; name a file"
                } else if kind == ErrorKind::PermissionDenied || kind == ErrorKind::ReadOnlyFilesystem {
                    "\nhint: the daemon's user must be allowed to write there"
                } else {
                    ""
                };
                Err(format!("{shown}: {error}{hint}").into())
            }
            Err(_) => Err(format!("{shown}: the attempt broke off").into()),
        }
    })
}

/// Whether a file can be written, or made, without doing either.
fn try_to_write(file: &Path) -> std::io::Result<&'static str> {
    if file.exists() {
        std::fs::OpenOptions::new().append(true).open(file)?;
        return Ok("can be written");
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    tempfile::tempfile_in(folder)?;
    Ok("can be made")
}
