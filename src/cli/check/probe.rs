//! Reaching what the configuration names, as far as that needs no knowledge of what is there: files that can be written, servers that answer.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use crate::cli::check::Probe;
use crate::config::Config;
use crate::config::endpoint::Endpoint;
use crate::config::publish::PublishConfig;
use crate::config::store::StoreUrl;

const TIMEOUT: Duration = Duration::from_secs(5);

/// The probes of every configuration.
pub(super) fn standard(config: &Config) -> Vec<Probe> {
    let store = match &config.store.url {
        StoreUrl::Sqlite(file) => Some(can_write(file.clone())),
        StoreUrl::SqliteInMemory => None,
        StoreUrl::Postgres { server, .. } => server.clone().map(can_connect),
    };
    let publish = match &config.publish {
        PublishConfig::Stdout => None,
        PublishConfig::File(file) => Some(can_write(file.clone())),
        PublishConfig::Amqp(amqp) => Some(can_connect(amqp.server.clone())),
    };
    let named = |name: &str, attempt: Option<_>| attempt.map(|attempt| (name.to_owned(), attempt));
    named("store", store).into_iter().chain(named("publish", publish)).collect()
}

/// An attempt, for as long as anybody would wait.
pub(super) async fn in_time(attempt: impl Future<Output = Result<String, String>>) -> Result<String, String> {
    tokio::time::timeout(TIMEOUT, attempt).await.unwrap_or_else(|_| Err(format!("does not answer within {} s", TIMEOUT.as_secs())))
}

type Attempt = std::pin::Pin<Box<dyn Future<Output = Result<String, String>> + Send>>;

fn can_connect(server: Endpoint) -> Attempt {
    Box::pin(async move {
        match tokio::net::TcpStream::connect((server.host.as_str(), server.port)).await {
            Ok(_) => Ok(format!("{server} takes connections")),
            Err(error) => Err(format!("{server}: {error}")),
        }
    })
}

fn can_write(file: PathBuf) -> Attempt {
    Box::pin(async move {
        let shown = file.display().to_string();
        let tried = tokio::task::spawn_blocking(move || try_to_write(&file)).await;
        match tried {
            Ok(Ok(text)) => Ok(format!("{shown} {text}")),
            Ok(Err(error)) => Err(format!("{shown}: {error}")),
            Err(_) => Err(format!("{shown}: the attempt broke off")),
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
