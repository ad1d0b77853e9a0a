//! Connections that were used a moment ago, for whoever comes next.
//!
//! The pool gives its connections out in turn, and asks the server before and behind each use whether they still work: two more questions for what is a
//! handful of them, to another process of the server each time, which has nothing of what it needs at hand. What is kept here is used again by the next,
//! the one that was used last first. What has stood for a while, and everything where something has failed, goes back to the pool, which asks.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use tokio::time::Instant;

/// How long a connection is believed to work without being asked.
const BELIEVED: Duration = Duration::from_secs(1);

/// The connections, the one that was used last at the end.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    connections: Arc<Mutex<Vec<(Instant, PoolConnection<Postgres>)>>>,
    /// No more than this, so that others find some in the pool.
    at_most: usize,
}

impl Kept {
    pub(super) fn new(at_most: u32) -> Self {
        Self { connections: Arc::default(), at_most: usize::try_from(at_most).unwrap_or(usize::MAX) }
    }

    fn connections(&self) -> MutexGuard<'_, Vec<(Instant, PoolConnection<Postgres>)>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one that was used last, or one of the pool.
    pub(super) async fn take(&self, pool: &PgPool) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        let kept = self.connections().pop();
        match kept {
            Some((since, connection)) if since.elapsed() < BELIEVED => Ok(connection),
            Some(_) => {
                self.forget();
                pool.acquire().await
            }
            None => pool.acquire().await,
        }
    }

    /// Keeps a connection of which the last use went well, with nothing left open.
    pub(super) fn keep(&self, connection: PoolConnection<Postgres>) {
        let mut connections = self.connections();
        if connections.len() < self.at_most {
            connections.push((Instant::now(), connection));
        }
    }

    /// Gives all of them back to the pool.
    pub(super) fn forget(&self) {
        self.connections().clear();
    }
}
