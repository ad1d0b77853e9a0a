//! The daemon: its parts, wired and started, and stopped in order.
//!
//! Order of starting: all ports are taken, and health is heard first, so that whoever watches sees why it is not ready; then the store, the relay, the
//! intake, and the listeners last. It stops the other way round: listeners take nothing new, frames in flight are committed and answered, the relay settles
//! what it sent, the store closes.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin;
use crate::admin::AdminState;
use crate::admin::orders::Door;
use crate::admin::readiness::Readiness;
use crate::cli::orders;
use crate::cli::setting::Setting;
use crate::cli::setting::amqp_options;
use crate::cli::setting::feed;
use crate::config::Config;
use crate::config::feeds::FeedConfig;
use crate::config::publish::PublishConfig;
use crate::directory::Directory;
use crate::directory::LOOK_EVERY;
use crate::ids::FeedName;
use crate::ids::IdSource;
use crate::intake::answer::Feed;
use crate::intake::answer::FeedAnswerer;
use crate::intake::background;
use crate::intake::daemon;
use crate::intake::daemon::Intake;
use crate::intake::daemon::IntakeParts;
use crate::intake::gate::Gate;
use crate::intake::guard;
use crate::intake::guard::Guard;
use crate::intake::guard::Word;
use crate::intake::pulse::Pulse;
use crate::intake::staff;
use crate::intake::wake_at::WakeAt;
use crate::mllp::listener::ListenerOptions;
use crate::mllp::stats::ListenerStats;
use crate::mllp::tls::ServerTls;
use crate::mllp::tls::ServerTlsFiles;
use crate::outbox::amqp::AmqpPublisher;
use crate::outbox::jsonl::JsonlPublisher;
use crate::outbox::relay::Relay;
use crate::outbox::relay::RelayOptions;
use crate::outbox::status::RelayStatus;
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::lease::Share;
use crate::store::master_key::MasterKeyError;
use crate::telemetry::metrics::Metrics;
use crate::time::Clock;
use crate::time::SystemClock;
use crate::wake;

use certificates::Certificate;
use connections::Connections;
use follow::Follow;
use ports::Port;
use pressure::Limits;
use retention::Retention;

mod certificates;
mod connections;
pub(crate) mod follow;
mod ledger;
pub(crate) mod ports;
pub(crate) mod pressure;
mod reasons;
mod retention;
mod rotation;

/// How long listeners have to answer what is in flight.
const INTAKE_GRACE: Duration = Duration::from_secs(8);
/// How long the rest has to end.
const LAST_GRACE: Duration = Duration::from_secs(8);
/// How often gauges are read from the store.
const GAUGES_EVERY: Duration = Duration::from_secs(5);
/// Every how many of these rooms are counted, and quiet feeds told of.
const ROOMS_EVERY: u32 = 12;
/// The statuses of rooms that are not over.
const OPEN_STATUSES: &[&str] = &["expected", "active", "on_leave", "grace", "held"];

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    /// Where each feed listens, in the order of the configuration.
    pub feeds: Vec<SocketAddr>,
    /// Where health and metrics are.
    pub admin: SocketAddr,
    /// The store, for whoever runs the daemon inside their own process.
    pub store: Store,
    stop_listening: CancellationToken,
    stop_working: CancellationToken,
    stop_admin: CancellationToken,
    listeners: TaskTracker,
    workers: TaskTracker,
    admin_task: TaskTracker,
    failed: CancellationToken,
}

/// Why the daemon did not start: the exit code belongs to the reason.
#[derive(Debug)]
pub struct NotStarted {
    /// 64 for what the operator wrote, 69 for what is not reachable.
    pub code: u8,
    /// What is wrong and what to do.
    pub error: anyhow::Error,
}

impl NotStarted {
    fn unavailable(error: impl Into<anyhow::Error>) -> Self {
        Self { code: 69, error: error.into() }
    }

    fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self { code: 64, error: error.into() }
    }
}

impl Daemon {
    /// Starts every part.
    ///
    /// # Errors
    /// When a part cannot start: a port in use, a store that does not open, a file that cannot be read.
    pub async fn start(setting: &Setting, metrics: &Metrics) -> Result<Self, NotStarted> {
        let clock = Arc::new(SystemClock);
        let config = &setting.config;
        let readiness = Readiness::default();
        let (stop_listening, stop_working, stop_admin) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let (listeners, workers, admin_task) = (TaskTracker::new(), TaskTracker::new(), TaskTracker::new());
        let failed = CancellationToken::new();

        let started = reasons::start(&readiness);
        let (admin_listener, admin_address) = take_port(config, "admin.listen", config.admin.listen).and_then(|port| listen(port, "admin.listen"))?;
        let ports = take_ports(config)?;
        let mut watched_tls: Vec<Certificate> = Vec::new();
        let admin_tls = match &config.admin.tls {
            Some(files) => {
                let tls = Arc::new(server_tls(files)?);
                watched_tls.push(Certificate { listener: "admin".to_owned(), tls: Arc::clone(&tls) });
                Some(Arc::new(move || tls.current()) as admin::CurrentTls)
            }
            None => None,
        };
        let state = AdminState { readiness: readiness.clone(), metrics: metrics.renderer() };
        admin_task.spawn(admin::serve(admin_listener, admin_tls, state, stop_admin.clone()));
        admin_task.spawn(metrics.clone().upkeep(stop_admin.clone()));

        let number = daemon_number();
        let store = open_store(setting, number).await?;
        let directory = open_directory(setting, &store, &clock).await?;
        reasons::directory(&readiness, &directory);
        workers.spawn(Arc::clone(&directory).watch(LOOK_EVERY, Arc::clone(&clock), stop_working.clone()));
        workers.spawn(staff::follow(store.clone(), Arc::clone(&directory), LOOK_EVERY, Arc::clone(&clock), stop_working.clone()));

        let outbox = Arc::new(Notify::new());
        let status = Arc::new(RelayStatus::default());
        start_relay(setting, &store, &outbox, &status, &clock, &workers, &stop_working)?;
        reasons::publishing(&readiness, &status);

        let gate = Arc::new(Gate::default());
        pressure::register(&readiness, &gate, &store);
        workers.spawn(pressure::watch(Limits::of(config), Arc::clone(&gate), store.clone(), stop_working.clone()));

        let guard = open_guard(setting, &store, &readiness).await?;
        let wake_at = Arc::new(WakeAt::default());
        let ids = Arc::new(IdSource::new(number));
        let feeds: Vec<Arc<Feed>> = config.feeds.iter().map(|config| Arc::new(feed(config))).collect();
        let connections = Connections::start(listeners.clone(), stop_listening.clone(), stop_working.clone()).map_err(NotStarted::unavailable)?;
        let parts = IntakeParts {
            store: store.clone(),
            ids: Arc::clone(&ids),
            clock: Arc::clone(&clock),
            policy: setting.policy(),
            directory: Arc::clone(&directory),
            feeds: feeds.iter().map(|feed| (feed.profile.name.clone(), Arc::clone(feed))).collect::<HashMap<FeedName, _>>(),
            outbox: Arc::clone(&outbox),
            wake: Arc::clone(&wake_at),
            guard: Arc::clone(&guard),
            connections: connections.runtime(),
        };
        let (intake, look_ups, task) = daemon::start(parts);
        let (runtime, died) = (Handle::current(), failed.clone().drop_guard());
        // Planning keeps a thread busy for milliseconds: on one of its own, connections do not wait for it, and it does not wait for its turn among them.
        workers.spawn_blocking(move || {
            runtime.block_on(task);
            drop(died);
        });
        let (retry_store, retry_intake, stop_retrying) = (store.clone(), intake.clone(), stop_working.clone());
        workers.spawn(async move { background::retry_quarantined(&retry_store, &retry_intake, &stop_retrying).await });
        let (follow_store, follow_intake, follow_guard, stop_following) = (store.clone(), intake.clone(), Arc::clone(&guard), stop_working.clone());
        workers.spawn(async move { guard::follow(&follow_store, &follow_intake, &follow_guard, &stop_following).await });
        let share = watch::Sender::new(None);
        let follow = Follow::of(setting, &directory, &store, &intake);
        follow.enter().await.map_err(NotStarted::unavailable)?;
        workers.spawn(follow.run(share.subscribe(), stop_working.clone()));

        open_door(setting, &intake, &workers, &stop_working);
        let mut all_stats = Vec::new();
        let mut pulses: Vec<(FeedName, Arc<Pulse>)> = Vec::new();
        let mut addresses = Vec::new();
        for ((config, feed), port) in config.feeds.iter().zip(&feeds).zip(ports) {
            let (listener, address) = listen(port, &listen_key(config))?;
            addresses.push(address);
            let mut options = ListenerOptions::new(config.name.clone());
            options.session.max_frame_bytes = config.max_frame_bytes;
            (options.max_connections, options.max_connections_per_address) = (config.max_connections, config.max_connections_per_address);
            options.tls = config.tls.as_ref().map(server_tls).transpose()?.map(Arc::new);
            watched_tls.extend(options.tls.iter().map(|tls| Certificate { listener: format!("feed {}", config.name), tls: Arc::clone(tls) }));
            all_stats.push((config.name.clone(), Arc::clone(&options.stats)));
            let answerer = FeedAnswerer::new(Arc::clone(feed), intake.clone(), Arc::clone(&ids), look_ups.clone(), Arc::clone(&clock));
            let answerer = Arc::new(answerer.behind(Arc::clone(&gate)));
            pulses.push((config.name.clone(), answerer.pulse()));
            guard.listen(config.name.clone(), answerer.pulse());
            connections.serve(listener, options, answerer).map_err(NotStarted::unavailable)?;
            tracing::info!(feed = %config.name, %address, tls = config.tls.is_some(), "listening for MLLP");
        }
        start_timers(setting, &store, intake, &clock, (wake_at, share), &workers, &stop_working);
        workers.spawn(certificates::watch(watched_tls, readiness.clone(), Arc::clone(&clock), stop_working.clone()));
        workers.spawn(ledger::watch(store.clone(), setting.meant_events(), readiness.clone(), Arc::clone(&clock), stop_working.clone()));
        let oldest = Arc::new(AtomicI64::new(0));
        reasons::feeds(&readiness, pulses.clone(), &guard, &clock);
        reasons::connections(&readiness, all_stats.clone());
        let watched = Watched { listeners: all_stats, pulses, guard, oldest_seconds: Arc::clone(&oldest) };
        workers.spawn(gauges(store.clone(), watched, Arc::clone(&clock), stop_working.clone()));
        reasons::outbox(&readiness, oldest);
        started.store(true, Ordering::SeqCst);
        tracing::info!(admin = %admin_address, "wardroom is ready");
        Ok(Self { feeds: addresses, admin: admin_address, store, stop_listening, stop_working, stop_admin, listeners, workers, admin_task, failed })
    }

    /// Comes true when a part that must not end has ended.
    pub async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Stops every part in order: first what brings messages, then what works on them, then what tells of it.
    pub async fn stop(self) {
        self.stop_listening.cancel();
        self.listeners.close();
        if tokio::time::timeout(INTAKE_GRACE, self.listeners.wait()).await.is_err() {
            tracing::warn!("some connections did not end in time; their senders send again");
        }
        self.stop_working.cancel();
        self.workers.close();
        if tokio::time::timeout(LAST_GRACE, self.workers.wait()).await.is_err() {
            tracing::warn!("some work did not end in time; it is taken up at the next start");
        }
        self.store.close().await;
        self.stop_admin.cancel();
        self.admin_task.close();
        drop(tokio::time::timeout(Duration::from_secs(1), self.admin_task.wait()).await);
    }
}

async fn open_directory(setting: &Setting, store: &Store, clock: &SystemClock) -> Result<Arc<Directory>, NotStarted> {
    let said = staff::stored(store).await.map_err(NotStarted::unavailable)?;
    let (directory, bad_lines) = Directory::open(setting.sources(), said, clock.now()).map_err(NotStarted::usage)?;
    for line in bad_lines {
        tracing::warn!(file = %line.file.display(), line = line.line, "a line of the directory is not used: {}", line.rule);
    }
    Ok(Arc::new(directory))
}

/// The guard, with what the store remembers of it. Whoever turns it off says go on.
async fn open_guard(setting: &Setting, store: &Store, readiness: &Readiness) -> Result<Arc<Guard>, NotStarted> {
    let guards = setting.config.rooms.mass_guard;
    let guard = Arc::new(Guard::new(guards));
    let mut word = Word::read(store).await.map_err(NotStarted::unavailable)?;
    if !guards && matches!(word, Word::On(_)) {
        tracing::warn!("leaves and ends that waited go on: `rooms.mass_guard` is off now");
        word = Word::GoOn;
        word.write(store).await.map_err(NotStarted::unavailable)?;
    }
    guard.hear(word);
    guard.open_rooms(n_open(&store.open_visits_by_status().await.map_err(NotStarted::unavailable)?));
    reasons::guard(readiness, &guard);
    Ok(guard)
}

/// The door for operators; without one the daemon does its work all the same.
fn open_door(setting: &Setting, intake: &Intake, workers: &TaskTracker, stop: &CancellationToken) {
    let Some(path) = orders::socket(setting) else { return };
    match Door::open(path) {
        Ok(door) => {
            workers.spawn(door.serve(intake.clone(), stop.clone()));
        }
        Err(error) => tracing::warn!(
            kind = %error.kind(),
            "no socket for operators beside the store: commands that change something will not reach this daemon\n\
             hint: look at the folder's permissions, and at the length of its path"
        ),
    }
}

/// A number of this daemon's own among the replicas on one store; a clash is found by the store's keys and tried again.
pub(crate) fn daemon_number() -> u16 {
    u16::try_from(uuid::Uuid::new_v4().as_u128() % u128::from(crate::store::BESIDE_LANE)).unwrap_or(0)
}

async fn open_store(setting: &Setting, number: u16) -> Result<Store, NotStarted> {
    // Where nothing can be written no key can be made, and no lock file either: both are the folder's matter, not the configuration's.
    let options = setting.store(number, true).map_err(|error| {
        let code = if matches!(error, MasterKeyError::Create { .. }) { 69 } else { 64 };
        NotStarted { code, error: error.into() }
    })?;
    Store::open(options).await.map_err(|error| {
        let code = if matches!(error, StoreError::Url | StoreError::WrongKey | StoreError::NotMigrated | StoreError::NotAStore) { 64 } else { 69 };
        NotStarted { code, error: anyhow::Error::new(error).context("cannot open the store") }
    })
}

/// The port of each feed.
fn take_ports(config: &Config) -> Result<Vec<Port>, NotStarted> {
    config.feeds.iter().map(|feed| take_port(config, &listen_key(feed), feed.listen)).collect()
}

fn listen_key(feed: &FeedConfig) -> String {
    format!("feeds.{}.listen", feed.name)
}

fn take_port(config: &Config, key: &str, address: SocketAddr) -> Result<Port, NotStarted> {
    Port::take(address).map_err(|error| no_port(key, address, error, ports::is_running(&config.store.url)))
}

fn listen(port: Port, key: &str) -> Result<(TcpListener, SocketAddr), NotStarted> {
    let address = port.address();
    // Whether a daemon has the store says nothing any more: it may be this one.
    port.listen().map_err(|error| no_port(key, address, error, None))
}

fn no_port(key: &str, address: SocketAddr, error: std::io::Error, is_running: Option<bool>) -> NotStarted {
    let hint = ports::hint(error.kind(), is_running);
    NotStarted::unavailable(anyhow::Error::new(error).context(format!("cannot listen on {address} (`{key}`)\nhint: {hint}")))
}

fn server_tls(files: &ServerTlsFiles) -> Result<ServerTls, NotStarted> {
    ServerTls::load(files.clone()).map_err(NotStarted::usage)
}

fn start_relay(
    setting: &Setting,
    store: &Store,
    outbox: &Arc<Notify>,
    status: &Arc<RelayStatus>,
    clock: &Arc<SystemClock>,
    workers: &TaskTracker,
    stop: &CancellationToken,
) -> Result<(), NotStarted> {
    let clock: Arc<dyn Clock> = Arc::<SystemClock>::clone(clock);
    let (store, outbox, stop) = (store.clone(), Arc::clone(outbox), stop.clone());
    let own_status = Arc::clone(status);
    let jsonl = |path: &std::path::Path| JsonlPublisher::new(path, Arc::clone(status));
    match &setting.config.publish {
        PublishConfig::Stdout => {
            workers.spawn(Relay::new(store, jsonl("-".as_ref()), outbox, own_status, clock, RelayOptions::default()).run(stop));
        }
        PublishConfig::File(path) => {
            workers.spawn(Relay::new(store, jsonl(path), outbox, own_status, clock, RelayOptions::default()).run(stop));
        }
        PublishConfig::Amqp(amqp) => {
            let options = amqp_options(amqp).map_err(NotStarted::usage)?;
            let publisher = AmqpPublisher::new(options, Arc::clone(status), workers.clone());
            let options = RelayOptions { window: amqp.window, ..RelayOptions::default() };
            workers.spawn(Relay::new(store, publisher, outbox, own_status, clock, options).run(stop));
        }
    }
    Ok(())
}

/// What time brings: visits that are due, and those that are kept long enough.
fn start_timers(
    setting: &Setting,
    store: &Store,
    intake: Intake,
    clock: &Arc<SystemClock>,
    (wake_at, share): (Arc<WakeAt>, watch::Sender<Option<Share>>),
    workers: &TaskTracker,
    stop: &CancellationToken,
) {
    let purge_after = setting.config.rooms.purge_after;
    let retention = Retention { store: store.clone(), intake: intake.clone(), clock: Arc::clone(clock), purge_after };
    workers.spawn(retention.run(share.subscribe(), stop.clone()));
    workers.spawn(rotation::go_on(store.clone(), intake.clone(), stop.clone()));
    workers.spawn(wake::run(store.clone(), intake, wake_at, Arc::clone(clock), share, stop.clone()));
}

/// How many rooms have people in them.
fn n_open(counts: &[(String, i64)]) -> usize {
    let open = counts.iter().filter(|(status, _)| matches!(status.as_str(), "active" | "on_leave" | "grace"));
    usize::try_from(open.map(|(_, count)| count).sum::<i64>()).unwrap_or(0)
}

/// What is read into gauges.
struct Watched {
    listeners: Vec<(FeedName, Arc<ListenerStats>)>,
    pulses: Vec<(FeedName, Arc<Pulse>)>,
    guard: Arc<Guard>,
    oldest_seconds: Arc<AtomicI64>,
}

/// Reads what the store and the listeners know into gauges.
#[expect(clippy::cast_precision_loss, reason = "gauges are floats; no count here comes near 2^53")]
async fn gauges(store: Store, watched: Watched, clock: Arc<SystemClock>, stop: CancellationToken) {
    let Watched { listeners, pulses, guard, oldest_seconds } = watched;
    let mut turn: u32 = 0;
    let mut kept = BTreeMap::new();
    let began = clock.now();
    loop {
        if !store.is_ours_alone()
            && let Ok(kept_now) = store.messages_kept(began).await
        {
            // A balancer may have led the feed to another daemon: that is no silence.
            for (feed, pulse) in &pulses {
                if kept_now.get(feed.as_str()) > kept.get(feed.as_str()) {
                    pulse.heard_elsewhere(clock.now());
                }
            }
            kept = kept_now;
        }
        if turn.is_multiple_of(ROOMS_EVERY)
            && let Ok(counts) = store.open_visits_by_status().await
        {
            guard.open_rooms(n_open(&counts));
            for status in OPEN_STATUSES {
                let count = counts.iter().find(|(known, _)| known == status).map_or(0, |(_, count)| *count);
                metrics::gauge!("wardroom_rooms", "status" => *status).set(count as f64);
            }
        }
        turn = turn.wrapping_add(1);
        metrics::gauge!("wardroom_guard_on").set(if guard.since().is_some() { 1.0 } else { 0.0 });
        let waits = guard.waits(clock.now());
        for (feed, pulse) in &pulses {
            let Some(idle) = pulse.idle(clock.now()) else { continue };
            metrics::gauge!("wardroom_feed_idle_seconds", "feed" => feed.as_str().to_owned()).set(idle.as_secs_f64());
            metrics::gauge!("wardroom_feed_clock_skew_seconds", "feed" => feed.as_str().to_owned()).set(pulse.skew_seconds());
            let until = waits.iter().find(|(other, _)| other == feed).map(|(_, until)| until);
            metrics::gauge!("wardroom_feed_silent", "feed" => feed.as_str().to_owned()).set(if until.is_some() { 1.0 } else { 0.0 });
            if let Some(quiet) = pulse.quiet(clock.now()).filter(|_| turn.is_multiple_of(ROOMS_EVERY)) {
                let leaves_wait_until = until.map(tracing::field::display);
                tracing::warn!(
                    %feed, seconds = quiet.as_secs(), leaves_wait_until,
                    "this feed has gone quiet; ask the interface team whether its sender runs"
                );
            }
        }
        if let Ok(depth) = store.outbox_depth().await {
            let age = depth.oldest.map_or(Duration::ZERO, |oldest| clock.now().since(oldest));
            oldest_seconds.store(i64::try_from(age.as_secs()).unwrap_or(i64::MAX), Ordering::SeqCst);
            metrics::gauge!("wardroom_outbox_events").set(depth.n_pending as f64);
            metrics::gauge!("wardroom_outbox_oldest_seconds").set(age.as_secs_f64());
        }
        if let Some(n_bytes) = store.log_bytes() {
            metrics::gauge!("wardroom_store_log_bytes").set(n_bytes as f64);
        }
        if let Ok(count) = store.quarantine_count().await {
            metrics::gauge!("wardroom_quarantine_messages").set(count as f64);
        }
        for (feed, stats) in &listeners {
            let feed = feed.as_str();
            metrics::gauge!("wardroom_connections", "feed" => feed.to_owned()).set(stats.n_connections() as f64);
            metrics::counter!("wardroom_connections_total", "feed" => feed.to_owned()).absolute(stats.n_accepted());
            metrics::counter!("wardroom_connections_refused_total", "feed" => feed.to_owned()).absolute(stats.n_refused());
            let oldest = stats.oldest_unfinished().unwrap_or_default();
            metrics::gauge!("wardroom_frames_unfinished", "feed" => feed.to_owned()).set(stats.n_unfinished() as f64);
            metrics::gauge!("wardroom_frames_unfinished_bytes", "feed" => feed.to_owned()).set(stats.n_unfinished_bytes() as f64);
            metrics::gauge!("wardroom_frames_unfinished_seconds", "feed" => feed.to_owned()).set(oldest.as_secs_f64());
        }
        tokio::select! {
            () = tokio::time::sleep(GAUGES_EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}
