//! Shares of work: which part of what has to be done is this daemon's.
//!
//! Several daemons on one PostgreSQL database share out the events to publish and the visits to wake. Work is split into [`PARTS`] parts; each is held
//! by one daemon for [`LASTS`] and taken up by another when it was not renewed. What counts is the database's clock; a holder measures from before it
//! asked, by its own monotonic clock, so that it stops before anybody else may begin. A lease keeps work from being done twice. It does not have to
//! keep it from being done wrongly: whoever publishes sends a room's events one after another from the first that is not settled, and whoever plans
//! commits on versions. It never waits for another holder.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::store::Backend;
use crate::store::Store;
use crate::store::error::StoreError;

/// Into how many parts each kind of work is split; a power of two. The most daemons that can share it.
pub const PARTS: i16 = 16;
/// How long a part is held without being renewed: so long does its work stand still when its holder dies.
pub const LASTS: Duration = Duration::from_secs(10);
/// How soon a holder renews.
const RENEWED_AFTER: Duration = Duration::from_secs(3);

/// What is shared out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Work {
    /// Events to publish, by room.
    Publish,
    /// Visits whose time has come, by patient.
    Wake,
}

impl Work {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Wake => "wake",
        }
    }
}

/// What of some work is this daemon's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Share {
    /// All of it, for as long as the store is open.
    All,
    /// These parts, for a time.
    Leased(Lease),
}

/// Parts of some work, for a time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lease {
    parts: BTreeMap<i16, i64>,
    asked: Instant,
}

impl Share {
    /// Whether it holds now.
    pub fn holds(&self) -> bool {
        match self {
            Self::All => true,
            Self::Leased(lease) => lease.asked.elapsed() < LASTS,
        }
    }

    /// How long until it should be asked for again; `None` when never.
    pub fn renew_in(&self) -> Option<Duration> {
        match self {
            Self::All => None,
            Self::Leased(lease) => Some(RENEWED_AFTER.saturating_sub(lease.asked.elapsed())),
        }
    }

    /// Whether the same parts were held all the time from one to the other.
    pub fn is_continued_by(&self, later: &Self) -> bool {
        match (self, later) {
            (Self::All, Self::All) => true,
            (Self::Leased(lease), Self::Leased(later)) => lease.parts == later.parts,
            (Self::All, Self::Leased(_)) | (Self::Leased(_), Self::All) => false,
        }
    }

    /// Whether it is this daemon's turn to do what only one has to do.
    pub fn leads(&self) -> bool {
        match self {
            Self::All => true,
            Self::Leased(lease) => self.holds() && lease.parts.contains_key(&0),
        }
    }

    /// Parts and their epochs, held from now on.
    #[cfg(test)]
    pub(crate) fn of(parts: impl IntoIterator<Item = (i16, i64)>) -> Self {
        Self::Leased(Lease { parts: parts.into_iter().collect(), asked: Instant::now() })
    }

    /// The parts; `None` when all.
    pub(super) fn parts(&self) -> Option<Vec<i16>> {
        match self {
            Self::All => None,
            Self::Leased(lease) => Some(lease.parts.keys().copied().collect()),
        }
    }
}

impl Store {
    /// Asks for a fair share of some work, or renews it. Where no other process changes the store, all of it.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn share(&self, work: Work) -> Result<Share, StoreError> {
        match &self.backend {
            Backend::Sqlite(_) => Ok(Share::All),
            Backend::Postgres(backend) => {
                let asked = Instant::now();
                let parts = backend.lease(work.as_str(), self.holder, LASTS).await?.into_iter().collect();
                Ok(Share::Leased(Lease { parts, asked }))
            }
        }
    }

    /// Gives a share up, so that others need not wait until it has run out.
    ///
    /// # Errors
    /// When the store cannot be written. Then it runs out.
    pub async fn give_up(&self, work: Work) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Sqlite(_) => Ok(()),
            Backend::Postgres(backend) => backend.give_up(work.as_str(), self.holder).await,
        }
    }
}
