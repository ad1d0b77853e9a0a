//! Policy and directory followed: when they are others than those that the open rooms were planned with, also while no daemon ran, all open rooms are planned
//! again.
//!
//! Where several daemons share a store, one of them does it, and none whose policy is not the one in force: while daemons are replaced one by one, those
//! of yesterday do not plan back what those of today have planned. It changes no room by itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::care::change::CauseKind;
use crate::cli::setting::Setting;
use crate::directory::Directory;
use crate::directory::Snapshot;
use crate::intake::background;
use crate::intake::daemon::Intake;
use crate::intake::retention::KEPT_FOR;
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::lease::Share;

/// Under this name the store remembers what the open rooms were planned with: the policy's fingerprint and the directory's.
const PLANNED_WITH: &str = "planned_with";
/// Under this name it remembers the policy in force: that of the daemon that was started last.
const IN_FORCE: &str = "policy";
/// How often to look: other daemons may have changed something, and the store may not have answered.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What is followed.
#[derive(Debug)]
pub(super) struct Follow {
    /// The policy's fingerprint.
    policy: String,
    /// How long it keeps stays: commands with another configuration ask the store.
    purge_after: Duration,
    directory: Arc<Directory>,
    store: Store,
    intake: Intake,
}

impl Follow {
    pub(super) fn of(setting: &Setting, directory: &Arc<Directory>, store: &Store, intake: &Intake) -> Self {
        let (policy, purge_after) = (setting.fingerprint(), setting.config.rooms.purge_after);
        Self { policy, purge_after, directory: Arc::clone(directory), store: store.clone(), intake: intake.clone() }
    }

    /// Puts this daemon's policy into force.
    pub(super) async fn enter(&self) -> Result<(), StoreError> {
        if self.store.setting(IN_FORCE).await?.is_none_or(|policy| policy != self.policy.as_bytes()) {
            self.store.put_setting(IN_FORCE, self.policy.clone().into_bytes()).await?;
        }
        let kept_for = self.purge_after.as_secs().to_be_bytes();
        if self.store.setting(KEPT_FOR).await?.is_none_or(|known| known != kept_for) {
            self.store.put_setting(KEPT_FOR, kept_for.to_vec()).await?;
        }
        Ok(())
    }

    /// Works until it is told to stop. `share` tells whether it is this daemon's turn.
    pub(super) async fn run(self, mut share: watch::Receiver<Option<Share>>, stop: CancellationToken) {
        let mut changes = self.directory.subscribe();
        let mut is_behind = false;
        while !stop.is_cancelled() {
            let leads = share.borrow_and_update().as_ref().is_some_and(Share::leads);
            changes.borrow_and_update();
            let looked = if leads { self.look(&mut is_behind, &stop).await } else { Ok(()) };
            if let Err(error) = looked {
                tracing::warn!(%error, "the store could not say, or note, what rooms were planned with; it is asked again");
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                changed = share.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn look(&self, is_behind: &mut bool, stop: &CancellationToken) -> Result<(), StoreError> {
        let snapshot = self.directory.current();
        let planned_with = planned_with(&self.policy, &snapshot);
        if self.store.setting(PLANNED_WITH).await?.is_some_and(|known| known == planned_with) {
            return Ok(());
        }
        let was_behind = std::mem::replace(is_behind, self.store.setting(IN_FORCE).await?.is_some_and(|policy| policy != self.policy.as_bytes()));
        if *is_behind {
            if !was_behind {
                tracing::warn!("a daemon that was started later on this store has another policy: this one does not plan open rooms again");
            }
            return Ok(());
        }
        let kind = if snapshot.revision > 1 { CauseKind::Directory } else { CauseKind::Policy };
        tracing::info!("policy or directory have changed: open rooms are planned again");
        background::replan_all(&self.store, &self.intake, kind, stop).await;
        if stop.is_cancelled() { Ok(()) } else { self.store.put_setting(PLANNED_WITH, planned_with).await }
    }
}

fn planned_with(policy: &str, snapshot: &Snapshot) -> Vec<u8> {
    [policy.as_bytes(), &snapshot.fingerprint].concat()
}

/// Notes that open rooms may be planned with another policy or directory from now on, where these are not the ones they were planned with: the next daemon
/// that looks plans all of them again.
pub(crate) async fn plans_otherwise(store: &Store, policy: &str, snapshot: &Snapshot) -> Result<(), StoreError> {
    let known = store.setting(PLANNED_WITH).await?;
    if known.is_some_and(|known| !known.is_empty() && known != planned_with(policy, snapshot)) {
        store.put_setting(PLANNED_WITH, Vec::new()).await
    } else {
        Ok(())
    }
}
