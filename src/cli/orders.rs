//! How commands that change something reach the store: through the daemon that has it, or, where none runs, by themselves.
//!
//! A SQLite file belongs to one process; on PostgreSQL a command is one replica more, for as long as it takes. It never changes a row by itself: every
//! order goes through the intake, like a message.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::admin::orders::ask;
use crate::app::daemon_number;
use crate::cli::beside;
use crate::cli::setting::Setting;
use crate::cli::setting::feed;
use crate::config::environment::Environment;
use crate::config::store::StoreUrl;
use crate::directory::Directory;
use crate::ids::IdSource;
use crate::intake::daemon;
use crate::intake::daemon::IntakeParts;
use crate::intake::guard::Guard;
use crate::intake::orders::Operator;
use crate::intake::orders::Order;
use crate::intake::orders::Outcome;
use crate::intake::staff;
use crate::intake::wake_at::WakeAt;
use crate::store::Store;
use crate::time::Clock as _;
use crate::time::SystemClock;

/// Where the daemon on this store takes orders; only one on SQLite does.
pub(crate) fn socket(setting: &Setting) -> Option<PathBuf> {
    match &setting.config.store.url {
        StoreUrl::Sqlite(file) => {
            let mut path = file.clone().into_os_string();
            path.push(".sock");
            Some(PathBuf::from(path))
        }
        StoreUrl::SqliteInMemory | StoreUrl::Postgres { .. } => None,
    }
}

/// Has an order carried out; what is wrong comes with its exit code.
pub(super) async fn give(setting: &Setting, order: Order) -> Result<Outcome, (u8, anyhow::Error)> {
    let by = operator();
    if let Some(path) = socket(setting) {
        let asked = ask(&path, &order, by.login.clone()).await.context("the daemon on this store did not answer; the order may have been carried out, or be later\nhint: read its log, and look again before you repeat it");
        if let Some(outcome) = asked.map_err(|error| (69, error))? {
            return Ok(outcome);
        }
    }
    alone(setting, order, by).await
}

/// Who runs this command.
pub(super) fn operator() -> Operator {
    let environment = Environment::of_process();
    let login = ["SUDO_USER", "LOGNAME", "USER"].into_iter().find_map(|name| environment.value(name)).map(str::to_owned);
    Operator { uid: rustix::process::getuid().as_raw(), login }
}

async fn alone(setting: &Setting, order: Order, by: Operator) -> Result<Outcome, (u8, anyhow::Error)> {
    beside::is_there(setting)?;
    let number = daemon_number();
    let options = setting.store(number, false).map_err(|error| (64, anyhow::Error::new(error)))?;
    let store = Store::open(options).await.map_err(beside::not_open)?;
    let done = carry_out(setting, &store, number, order, by).await;
    store.close().await;
    done.map_err(|error| (69, error))
}

async fn carry_out(setting: &Setting, store: &Store, number: u16, order: Order, by: Operator) -> anyhow::Result<Outcome> {
    let clock = Arc::new(SystemClock);
    let said = staff::stored(store).await?;
    let (directory, _) = Directory::open(setting.sources(), said, clock.now())?;
    let feeds = setting.config.feeds.iter().map(|config| (config.name.clone(), Arc::new(feed(config))));
    let parts = IntakeParts {
        store: store.clone(),
        ids: Arc::new(IdSource::new(number)),
        clock,
        policy: setting.policy(),
        directory: Arc::new(directory),
        feeds: feeds.collect::<HashMap<_, _>>(),
        outbox: Arc::new(Notify::new()),
        wake: Arc::new(WakeAt::default()),
        guard: Arc::new(Guard::default()),
        connections: Handle::current(),
    };
    let (intake, _, task) = daemon::start(parts);
    #[expect(clippy::disallowed_methods, reason = "the command waits for it a few lines further down")]
    let running = tokio::spawn(task);
    let outcome = intake.order(order, by).await;
    drop(intake);
    running.await.context("the intake ended early")?;
    outcome.context("the intake ended early")
}
