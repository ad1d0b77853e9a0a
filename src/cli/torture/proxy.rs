//! What stands between the parts of a torture: a TCP proxy, whose connections go in turn to those of its targets that take them.
//!
//! It is the balancer before the replicas, and the network between a replica and its database or broker, which can be cut, held still or slowed. It looks
//! into nothing that passes through it.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;
use tokio_util::task::TaskTracker;

use crate::config::endpoint::Endpoint;

const DIAL_WITHIN: Duration = Duration::from_secs(2);
const CHUNK_BYTES: usize = 16 * 1024;
/// What each chunk waits on a slow connection.
const SLOWNESS: Duration = Duration::from_millis(40);

/// How it fares.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Condition {
    /// Everything passes.
    Open,
    /// Everything passes, and takes its time.
    Slow,
    /// Connections stay, and nothing passes.
    Still,
    /// Connections end, and new ones do too.
    Cut,
}

/// A proxy that works until it is dropped.
#[derive(Clone, Debug)]
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    condition: watch::Sender<Condition>,
    targets: Arc<Vec<Target>>,
    _stop: Arc<DropGuard>,
}

#[derive(Debug)]
struct Target {
    endpoint: Endpoint,
    n_connections: AtomicU64,
}

impl Proxy {
    /// One before these targets, at an address of its own.
    pub(super) async fn open(targets: impl IntoIterator<Item = Endpoint>, tasks: &TaskTracker) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("cannot listen")?;
        let address = listener.local_addr()?;
        let targets = targets.into_iter().map(|endpoint| Target { endpoint, n_connections: AtomicU64::new(0) });
        let targets: Arc<Vec<Target>> = Arc::new(targets.collect());
        let (condition, seen) = watch::channel(Condition::Open);
        let stop = CancellationToken::new();
        let serving = serve(listener, Arc::clone(&targets), seen, tasks.clone(), stop.clone());
        tasks.spawn(stop.clone().run_until_cancelled_owned(serving));
        Ok(Self { address, condition, targets, _stop: Arc::new(stop.drop_guard()) })
    }

    /// From now on it fares so.
    pub(super) fn set(&self, condition: Condition) {
        self.condition.send_replace(condition);
    }

    /// How many connections went to each target.
    pub(super) fn n_connections(&self) -> Vec<u64> {
        self.targets.iter().map(|target| target.n_connections.load(Ordering::Relaxed)).collect()
    }
}

async fn serve(listener: TcpListener, targets: Arc<Vec<Target>>, condition: watch::Receiver<Condition>, tasks: TaskTracker, stop: CancellationToken) {
    let mut turn = 0;
    while let Ok((incoming, _)) = listener.accept().await {
        let carrying = carry(incoming, Arc::clone(&targets), turn, condition.clone());
        tasks.spawn(stop.clone().run_until_cancelled_owned(carrying));
        turn += 1;
    }
}

async fn carry(incoming: TcpStream, targets: Arc<Vec<Target>>, turn: usize, mut condition: watch::Receiver<Condition>) {
    if *condition.borrow() == Condition::Cut {
        return;
    }
    let Some(outgoing) = dial(&targets, turn).await else { return };
    // Whatever goes wrong with a connection ends it, and its two ends see that.
    drop((incoming.set_nodelay(true), outgoing.set_nodelay(true)));
    let ((from_peer, to_peer), (from_target, to_target)) = (incoming.into_split(), outgoing.into_split());
    let (there, back) = (pump(from_peer, to_target, condition.clone()), pump(from_target, to_peer, condition.clone()));
    tokio::select! {
        _ = async { tokio::try_join!(there, back) } => {}
        _ = condition.wait_for(|now| *now == Condition::Cut) => {}
    }
}

/// The first target, from this turn on, that takes a connection.
async fn dial(targets: &[Target], turn: usize) -> Option<TcpStream> {
    for target in targets.iter().cycle().skip(turn % targets.len().max(1)).take(targets.len()) {
        let Endpoint { host, port } = &target.endpoint;
        if let Ok(Ok(stream)) = tokio::time::timeout(DIAL_WITHIN, TcpStream::connect((host.as_str(), *port))).await {
            target.n_connections.fetch_add(1, Ordering::Relaxed);
            return Some(stream);
        }
    }
    None
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut condition: watch::Receiver<Condition>) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let n_bytes = from.read(&mut buffer).await?;
        let now = condition.wait_for(|now| *now != Condition::Still).await.map_or(Condition::Cut, |now| *now);
        match now {
            Condition::Open | Condition::Still => {}
            Condition::Slow => tokio::time::sleep(SLOWNESS).await,
            Condition::Cut => return Ok(()),
        }
        match buffer.get(..n_bytes) {
            None | Some([]) => return to.shutdown().await,
            Some(bytes) => to.write_all(bytes).await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;
    use tokio::net::TcpStream;
    use tokio_util::task::TaskTracker;

    use super::Condition;
    use super::Proxy;
    use crate::config::endpoint::Endpoint;

    async fn target() -> (TcpListener, Endpoint) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, Endpoint { host: "127.0.0.1".to_owned(), port })
    }

    /// A connection through the proxy and its other end.
    async fn through(proxy: &Proxy, target: &TcpListener) -> (TcpStream, TcpStream) {
        let (near, far) = tokio::join!(TcpStream::connect(proxy.address), target.accept());
        (near.unwrap(), far.unwrap().0)
    }

    #[tokio::test]
    async fn connections_go_in_turn_to_the_targets_that_take_them() {
        let tasks = TaskTracker::new();
        let ((first, its), (second, other), (gone, dead)) = (target().await, target().await, target().await);
        drop(gone);
        let proxy = Proxy::open([its, dead, other], &tasks).await.unwrap();
        for listener in [&first, &second, &second, &first] {
            let (mut near, mut far) = through(&proxy, listener).await;
            near.write_all(b"there").await.unwrap();
            far.write_all(b"back").await.unwrap();
            drop(far.shutdown().await);
            let (mut there, mut back) = ([0; 5], String::new());
            far.read_exact(&mut there).await.unwrap();
            near.read_to_string(&mut back).await.unwrap();
            assert_eq!((&there, back.as_str()), (b"there", "back"));
        }
        assert_eq!(proxy.n_connections(), [2, 0, 2]);
    }

    #[tokio::test]
    async fn what_is_cut_ends_and_what_stands_still_goes_on_later() {
        let tasks = TaskTracker::new();
        let (listener, endpoint) = target().await;
        let proxy = Proxy::open([endpoint], &tasks).await.unwrap();
        let (mut near, mut far) = through(&proxy, &listener).await;
        proxy.set(Condition::Still);
        near.write_all(b"late").await.unwrap();
        let mut late = [0; 4];
        assert!(tokio::time::timeout(std::time::Duration::from_millis(50), far.read_exact(&mut late)).await.is_err());
        proxy.set(Condition::Slow);
        far.read_exact(&mut late).await.unwrap();
        proxy.set(Condition::Cut);
        assert_eq!(far.read(&mut late).await.unwrap(), 0);
        let mut refused = TcpStream::connect(proxy.address).await.unwrap();
        assert_eq!(refused.read(&mut late).await.unwrap_or(0), 0);
        proxy.set(Condition::Open);
        through(&proxy, &listener).await;
    }
}
