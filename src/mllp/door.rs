//! Who is let in: so many connections in all, and so many from one address.
//!
//! A connection that the peer has closed gives its place among those of its address back at once, although its message is still being answered: a
//! sender that gives up on a slow answer and connects anew is not turned away for what it has left behind. Among all it counts until it has ended. Who
//! finds no place is looked at a second time before it is turned away, since it may have closed another connection in the same moment.

use std::collections::HashMap;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio::time::sleep;

use super::listener::ListenerOptions;
use super::stats::Limit;
use super::stats::ListenerStats;

/// After how long somebody who found no place is looked at again: longer than it takes to see that a peer has closed.
const SECOND_LOOK: Duration = Duration::from_millis(200);
/// So many may wait for that at one time; whoever else finds no place is turned away at once.
const N_WAITING: usize = 64;
/// A refusal is logged at most this often; all are counted.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(10);

pub(super) struct Door {
    options: Arc<ListenerOptions>,
    addresses: Arc<Addresses>,
    waiting: Semaphore,
    n_admitted: AtomicU64,
    last_refusal_logged: Mutex<Option<Instant>>,
}

/// There is no place.
#[derive(Debug)]
pub(super) struct Full {
    /// How many connections the address has.
    n_from_here: usize,
    /// Which limit stands in the way.
    limit: Limit,
}

/// How many connections each address has, those aside that the peer has closed.
#[derive(Default)]
struct Addresses(Mutex<HashMap<IpAddr, usize>>);

impl Addresses {
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, address: IpAddr) {
        let mut addresses = self.lock();
        match addresses.get_mut(&address) {
            Some(n_open) if *n_open > 1 => *n_open -= 1,
            Some(_) | None => drop(addresses.remove(&address)),
        }
    }
}

impl Door {
    pub(super) fn new(options: Arc<ListenerOptions>) -> Self {
        let (addresses, n_admitted, last_refusal_logged) = (Arc::default(), AtomicU64::new(0), Mutex::default());
        Self { options, addresses, waiting: Semaphore::new(N_WAITING), n_admitted, last_refusal_logged }
    }

    /// A place, or what stands in the way.
    pub(super) fn knock(&self, address: SocketAddr) -> Result<Place, Full> {
        let stats = &self.options.stats;
        let ip = address.ip().to_canonical();
        let ListenerOptions { max_connections, max_connections_per_address, .. } = *self.options;
        let mut addresses = self.addresses.lock();
        let n_from_here = addresses.get(&ip).copied().unwrap_or_default();
        if n_from_here >= max_connections_per_address {
            return Err(Full { n_from_here, limit: Limit { key: "max_connections_per_address", limit: max_connections_per_address } });
        }
        if stats.n_connections() >= max_connections {
            return Err(Full { n_from_here, limit: Limit { key: "max_connections", limit: max_connections } });
        }
        addresses.insert(ip, n_from_here + 1);
        stats.n_connections.fetch_add(1, Ordering::Relaxed);
        drop(addresses);
        stats.n_accepted.fetch_add(1, Ordering::Relaxed);
        Ok(Place {
            connection: self.n_admitted.fetch_add(1, Ordering::Relaxed) + 1,
            address,
            ip,
            has_left: AtomicBool::new(false),
            addresses: Arc::clone(&self.addresses),
            stats: Arc::clone(stats),
        })
    }

    /// A place in a moment, for somebody who found none; where there is none then the refusal is counted and logged.
    pub(super) async fn wait(&self, address: SocketAddr, mut full: Full) -> Option<Place> {
        if let Ok(_waiting) = self.waiting.try_acquire() {
            sleep(SECOND_LOOK).await;
            match self.knock(address) {
                Ok(place) => return Some(place),
                Err(still) => full = still,
            }
        }
        self.refuse(address, full);
        None
    }

    fn refuse(&self, address: SocketAddr, Full { n_from_here, limit }: Full) {
        let (feed, stats) = (&self.options.feed, &self.options.stats);
        stats.refuse(limit);
        let mut last_logged = self.last_refusal_logged.lock().unwrap_or_else(PoisonError::into_inner);
        if last_logged.is_some_and(|at| at.elapsed() < REFUSAL_LOG_INTERVAL) {
            return;
        }
        *last_logged = Some(Instant::now());
        drop(last_logged);
        let (n_open, n_refused) = (stats.n_connections(), stats.n_refused());
        let Limit { key, limit } = limit;
        tracing::warn!(
            %feed, peer = %address, n_from_here, n_open, limit, n_refused,
            "too many connections: refused, because `{key}` of the feed is {limit}\nhint: {hint}", hint = Limit::HINT
        );
    }
}

/// A place among the connections, given back when dropped.
pub(super) struct Place {
    pub(super) connection: u64,
    pub(super) address: SocketAddr,
    ip: IpAddr,
    has_left: AtomicBool,
    addresses: Arc<Addresses>,
    stats: Arc<ListenerStats>,
}

impl Place {
    /// The peer has closed: from now on the connection is not one of its address.
    pub(super) fn peer_left(&self) {
        if !self.has_left.swap(true, Ordering::Relaxed) {
            self.addresses.give_back(self.ip);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.peer_left();
        self.stats.n_connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use super::Door;
    use super::N_WAITING;
    use super::Place;
    use crate::ids::FeedName;
    use crate::mllp::listener::ListenerOptions;

    async fn come(door: &Door, address: SocketAddr) -> Option<Place> {
        match door.knock(address) {
            Ok(place) => Some(place),
            Err(full) => door.wait(address, full).await,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_left_makes_room_for_its_address_and_not_among_all() {
        let options = ListenerOptions { max_connections_per_address: 2, max_connections: 4, ..ListenerOptions::new(FeedName::from("main")) };
        let options = Arc::new(options);
        let door = Door::new(Arc::clone(&options));
        let admit = |address: &str| come(&door, address.parse().unwrap());
        let refused = || options.stats.last_refusal().map(|(_, limit)| (limit.key, limit.limit));
        let (first, second) = (admit("192.0.2.1:1").await.unwrap(), admit("192.0.2.1:2").await.unwrap());
        assert!(admit("192.0.2.1:3").await.is_none());
        assert_eq!(refused(), Some(("max_connections_per_address", 2)));
        first.peer_left();
        first.peer_left();
        let third = admit("[::ffff:192.0.2.1]:3").await.unwrap();
        assert!(admit("192.0.2.1:4").await.is_none(), "one has left, and one only");
        drop(first);
        assert!(admit("192.0.2.1:4").await.is_none(), "its place was given back before");
        second.peer_left();
        third.peer_left();
        let others = (admit("192.0.2.1:4").await.unwrap(), admit("192.0.2.2:1").await.unwrap());
        assert!(admit("192.0.2.3:1").await.is_none());
        assert_eq!(refused(), Some(("max_connections", 4)));
        assert_eq!((options.stats.n_connections(), options.stats.n_accepted(), options.stats.n_refused()), (4, 5, 4));
        drop((second, third, others));
        assert!(door.addresses.lock().is_empty() && options.stats.n_connections() == 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_place_is_looked_at_again_but_not_more_of_them_than_may_wait() {
        let options = ListenerOptions { max_connections_per_address: 1, ..ListenerOptions::new(FeedName::from("main")) };
        let door = Door::new(Arc::new(options));
        let admit = || come(&door, "192.0.2.1:1".parse().unwrap());
        let first = admit().await.unwrap();
        let (second, ()) = tokio::join!(admit(), async { first.peer_left() });
        assert!(second.is_some());
        let mut waiting: Vec<_> = (0..N_WAITING).map(|_| Box::pin(admit())).collect();
        for one in &mut waiting {
            assert!(futures_util::poll!(one).is_pending());
        }
        assert!(matches!(futures_util::poll!(std::pin::pin!(admit())), std::task::Poll::Ready(None)));
    }
}
