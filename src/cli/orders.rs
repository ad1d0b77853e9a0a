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
use tokio::task::JoinHandle;

use crate::admin::orders::ask;
use crate::app::daemon_number;
use crate::app::follow::plans_otherwise;
use crate::cli::beside;
use crate::cli::setting::Setting;
use crate::cli::setting::feed;
use crate::config::environment::Environment;
use crate::config::store::StoreUrl;
use crate::directory::Directory;
use crate::ids::IdSource;
use crate::intake::daemon;
use crate::intake::daemon::Intake;
use crate::intake::daemon::IntakeParts;
use crate::intake::guard::Guard;
use crate::intake::orders::Operator;
use crate::intake::orders::Order;
use crate::intake::orders::Outcome;
use crate::intake::staff;
use crate::intake::wake_at::WakeAt;
use crate::store::Store;
use crate::store::is_locked;
use crate::store::socket_file;
use crate::time::Clock as _;
use crate::time::SystemClock;

/// Where the daemon on this store takes orders; only one on SQLite does.
pub(crate) fn socket(setting: &Setting) -> Option<PathBuf> {
    match &setting.config.store.url {
        StoreUrl::Sqlite(file) => Some(socket_file(file)),
        StoreUrl::SqliteInMemory | StoreUrl::Postgres { .. } => None,
    }
}

/// Has an order carried out; what is wrong comes with its exit code.
pub(super) async fn give(setting: &Setting, order: Order) -> Result<Outcome, (u8, anyhow::Error)> {
    let mut orders = Orders::of(setting);
    let outcome = orders.give(order).await;
    orders.end().await;
    outcome
}

/// Orders that are given one after another, all of them to the same.
pub(super) struct Orders<'s> {
    setting: &'s Setting,
    by: Operator,
    to: To,
    /// The store, beside the daemon that has it.
    beside: Option<Store>,
}

/// Who carries orders out.
enum To {
    /// Nobody was asked yet.
    Nobody,
    /// The daemon on this store.
    Daemon,
    /// This command, which has the store.
    Us(Box<Own>),
}

impl<'s> Orders<'s> {
    pub(super) fn of(setting: &'s Setting) -> Self {
        Self { setting, by: operator(), to: To::Nobody, beside: None }
    }

    /// Has an order carried out; what is wrong comes with its exit code.
    pub(super) async fn give(&mut self, order: Order) -> Result<Outcome, (u8, anyhow::Error)> {
        if let To::Us(own) = &self.to {
            return own.carry_out(order, self.by.clone()).await;
        }
        if let Some(path) = socket(self.setting) {
            let asked = ask(&path, &order, self.by.login.clone()).await.context("the daemon on this store did not answer; the order may have been carried out, or be later\nhint: read its log, and look again before you repeat it");
            if let Some(outcome) = asked.map_err(|error| (69, error))? {
                self.to = To::Daemon;
                return Ok(outcome);
            }
        }
        if matches!(self.to, To::Daemon) {
            // It may be about to come back, and would find its store taken.
            return Err((
                69,
                anyhow::anyhow!("the daemon on this store has ended\nhint: start it, or see to it that none runs, and repeat the command"),
            ));
        }
        if let Some(beside) = self.beside.take() {
            beside.close().await;
        }
        let own = Own::open(self.setting).await?;
        let outcome = own.carry_out(order, self.by.clone()).await;
        self.to = To::Us(Box::new(own));
        outcome
    }

    /// How many events wait for somebody who publishes them; nothing where nobody can while this command has the store.
    pub(super) async fn n_unpublished(&mut self) -> Result<Option<i64>, (u8, anyhow::Error)> {
        let store = match &self.to {
            To::Us(own) if own.store.is_ours_alone() => return Ok(None),
            To::Us(own) => &own.store,
            To::Nobody if !may_have_a_daemon(self.setting) => return Ok(None),
            To::Nobody | To::Daemon => match &mut self.beside {
                Some(store) => store,
                none => none.insert(beside::open_read_only(self.setting).await?),
            },
        };
        let depth = store.outbox_depth().await.map_err(|error| (69, anyhow::Error::new(error)))?;
        Ok(Some(depth.n_pending))
    }

    /// Gives the store back, as far as this command has it.
    pub(super) async fn end(self) {
        if let Some(beside) = self.beside {
            beside.close().await;
        }
        if let To::Us(own) = self.to {
            own.close().await;
        }
    }
}

/// Whether somebody may have this store who publishes.
fn may_have_a_daemon(setting: &Setting) -> bool {
    match &setting.config.store.url {
        StoreUrl::Sqlite(file) => is_locked(file) != Some(false),
        StoreUrl::SqliteInMemory => false,
        StoreUrl::Postgres { .. } => true,
    }
}

/// Who runs this command.
pub(super) fn operator() -> Operator {
    let environment = Environment::of_process();
    let login = ["SUDO_USER", "LOGNAME", "USER"].into_iter().find_map(|name| environment.value(name)).map(str::to_owned);
    Operator { login, ..Operator::of_this_process() }
}

/// The store and an intake on it, for as long as this command runs.
struct Own {
    store: Store,
    policy: String,
    directory: Arc<Directory>,
    intake: Intake,
    running: JoinHandle<()>,
}

impl Own {
    async fn open(setting: &Setting) -> Result<Self, (u8, anyhow::Error)> {
        beside::is_there(setting)?;
        let number = daemon_number();
        let options = setting.store(number, false).map_err(|error| (64, anyhow::Error::new(error)))?;
        let store = Store::open(options).await.map_err(beside::not_open)?;
        match Self::begin(setting, &store, number).await {
            Ok((directory, intake, running)) => Ok(Self { store, policy: setting.fingerprint(), directory, intake, running }),
            Err(error) => {
                store.close().await;
                Err((69, error))
            }
        }
    }

    async fn begin(setting: &Setting, store: &Store, number: u16) -> anyhow::Result<(Arc<Directory>, Intake, JoinHandle<()>)> {
        let clock = Arc::new(SystemClock);
        let said = staff::stored(store).await?;
        let (directory, _) = Directory::open(setting.sources(), said, clock.now())?;
        // Whatever is planned here is planned under this command's configuration, which may be none that a daemon has.
        plans_otherwise(store, &setting.fingerprint(), &directory.current()).await?;
        let directory = Arc::new(directory);
        let feeds = setting.config.feeds.iter().map(|config| (config.name.clone(), Arc::new(feed(config))));
        let parts = IntakeParts {
            store: store.clone(),
            ids: Arc::new(IdSource::new(number)),
            clock,
            policy: setting.policy(),
            directory: Arc::clone(&directory),
            feeds: feeds.collect::<HashMap<_, _>>(),
            outbox: Arc::new(Notify::new()),
            wake: Arc::new(WakeAt::default()),
            guard: Arc::new(Guard::default()),
            connections: Handle::current(),
        };
        let (intake, _, task) = daemon::start(parts);
        #[expect(clippy::disallowed_methods, reason = "the command waits for it when it closes the store")]
        let running = tokio::spawn(task);
        Ok((directory, intake, running))
    }

    async fn carry_out(&self, order: Order, by: Operator) -> Result<Outcome, (u8, anyhow::Error)> {
        let outcome = self.intake.order(order, by).await;
        outcome.context("the intake ended early").map_err(|error| (69, error))
    }

    async fn close(self) {
        let Self { store, policy, directory, intake, running } = self;
        // It ends once nobody can ask it for anything.
        drop(intake);
        if let Err(error) = running.await {
            tracing::error!(%error, "the intake ended early");
        }
        // A daemon on a shared store may have planned all rooms again before the last order was carried out.
        if let Err(error) = plans_otherwise(&store, &policy, &directory.current()).await {
            tracing::warn!(%error, "it could not be noted that rooms were planned with another configuration");
        }
        store.close().await;
    }
}
