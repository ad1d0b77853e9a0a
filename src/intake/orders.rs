//! Orders: what an operator asks of the intake, carried out between two batches like anything else.
//!
//! An order changes nothing by itself: a merge that is taken back plans the rooms again that it had joined, a message in quarantine is taken as if it had
//! just come. Whoever gave the order is written into the audit trail in the same commit. Nothing here parses arguments or opens a door.

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::care::change::CauseKind;
use crate::ids::CareRoomId;
use crate::ids::FeedName;
use crate::ids::JournalId;
use crate::ids::UserId;
use crate::intake::Incoming;
use crate::intake::aftermath::account;
use crate::intake::batch::BatchError;
use crate::intake::batch::TRIES;
use crate::intake::batch::Work;
use crate::intake::daemon::IntakeParts;
use crate::intake::daemon::commit;
use crate::intake::daemon::is_about_content;
use crate::intake::grants::Let;
use crate::intake::grants::Letting;
use crate::intake::grants::Refusal;
use crate::intake::grants::Terms;
use crate::intake::guard::Word;
use crate::intake::look_ups::LookUps;
use crate::intake::read::Arrived;
use crate::intake::read::read;
use crate::intake::recent::Recent;
use crate::intake::retention::Place;
use crate::intake::retention::Purged;
use crate::phi::Phi;
use crate::phi::sealed_form;
use crate::store::error::CommitError;
use crate::store::error::in_words;
use crate::store::look_up::LookUpHash;
use crate::store::rotation::Progress;
use crate::store::rotation::RotationError;
use crate::store::rows::AuditRow;
use crate::store::rows::CommitBatch;
use crate::store::rows::Disposition;
use crate::store::rows::JournalSettled;
use crate::store::sealing::Document;
use crate::store::sealing::Replaced;
use crate::time::Clock;
use crate::time::Timestamp;

/// How many visits' rooms are published again at once.
const PAGE: i64 = 64;

/// Who gives an order.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Operator {
    /// The user of the operating system, which nobody can make up.
    pub uid: u32,
    /// The name that the session goes by; a claim.
    pub login: Option<String>,
}

impl Operator {
    /// Whoever runs this process: what a daemon does by itself goes by their user.
    pub fn of_this_process() -> Self {
        Self { uid: rustix::process::getuid().as_raw(), login: None }
    }
}

/// What an operator asks for.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Take back what a message merged.
    UndoMerge {
        /// The message that said so.
        message: JournalId,
    },
    /// Try messages in quarantine again.
    Retry {
        /// Which.
        messages: Vec<JournalId>,
    },
    /// End a message in quarantine: it is never applied.
    Discard {
        /// Which.
        message: JournalId,
        /// Why, in the operator's words.
        reason: String,
    },
    /// Let leaves and ends go on that wait because many rooms would have ended at once.
    ReleaseGuard,
    /// Publish a room again as it is.
    Resync {
        /// The row of its visit.
        visit: i64,
        /// Which.
        room: CareRoomId,
    },
    /// Publish the next rooms again as they are, of all that stand and those whose visit was written since. So many that messages hardly wait for them.
    ResyncNext {
        /// The visit behind which to go on; the first ones when absent.
        after: Option<i64>,
        /// Since when.
        since: Timestamp,
    },
    /// Delete the next of those whose time is over, for good. So many that messages hardly wait for them.
    Purge {
        /// What ended before this goes.
        until: Timestamp,
        /// Behind which place to go on.
        place: Place,
        /// Whether nobody asked, but the daemon does it every day.
        #[serde(default)]
        is_daily: bool,
        /// Whether what the daemon itself would keep for longer may go too.
        #[serde(default)]
        sooner: bool,
    },
    /// Let somebody into a room for a while, whatever messages say of them.
    Grant {
        /// The row of the room's visit.
        visit: i64,
        /// Which room.
        room: CareRoomId,
        /// Whom.
        user: UserId,
        /// For how many seconds.
        seconds: u64,
        /// Why, in the operator's words.
        #[serde(with = "sealed_form")]
        reason: Phi<String>,
    },
    /// End that before its time.
    Revoke {
        /// The row of the room's visit.
        visit: i64,
        /// Which room.
        room: CareRoomId,
        /// Who was let in.
        user: UserId,
        /// Why, in the operator's words; may be empty.
        #[serde(with = "sealed_form")]
        reason: Phi<String>,
    },
    /// The store was restored from a backup: whatever is published from now on carries the next epoch.
    NewEpoch,
    /// Have another master key take the place of the present one, or go on with that. So many keys that messages hardly wait for them.
    RotateKeys {
        /// The file of the other key; where none is named a new one takes the place of the present one in its file.
        to: Option<PathBuf>,
        /// Whether it begins, unless it is under way.
        begins: bool,
    },
}

/// What became of an order.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It was carried out, on this many messages.
    Done {
        /// How many; fewer than were named when some still wait.
        messages: usize,
        /// How many of those named were not in quarantine.
        #[serde(default)]
        n_not_waiting: usize,
    },
    /// There is no such message.
    NoSuchMessage,
    /// The message merged nothing, or it was taken back before.
    NothingMerged,
    /// The message is not in quarantine.
    NotWaiting,
    /// No leave and no end waits.
    NothingHeld,
    /// Rooms were published again.
    Resynced {
        /// How many.
        n_rooms: usize,
        /// Of how many visits.
        n_visits: usize,
        /// Of how many of those it could not be done.
        n_left_out: usize,
        /// Behind which visit there may be more.
        after: Option<i64>,
    },
    /// What was deleted.
    Purged {
        /// How much.
        purged: Purged,
        /// Behind which place there may be more.
        next: Option<Place>,
    },
    /// Nothing was deleted: who carries it out keeps stays for longer than whoever asked.
    KeptLonger {
        /// For how many seconds.
        seconds: u64,
    },
    /// There is no such room, or it was never published.
    NoSuchRoom,
    /// Somebody is let into a room, or was until now.
    Let {
        /// Until when the grant lasts, or would have.
        until: Timestamp,
    },
    /// Nobody was let in or out.
    Refused {
        /// Why not.
        why: Refusal,
    },
    /// The epoch is another now.
    InEpoch {
        /// Which.
        epoch: u32,
    },
    /// Another master key is taking the place of the one before.
    Rotating {
        /// How many keys were looked at now.
        n_keys: usize,
        /// How many of them cannot be opened, and stay as they are.
        n_unopened: usize,
        /// Whether nothing wraps a key any more but the new one.
        is_done: bool,
        /// Whether it was begun by now, and not before.
        has_begun: bool,
        /// Whether what the old one wrapped stands in the file of the store still, because somebody reads it on and on.
        is_in_file: bool,
        /// Since when the new one is in use.
        since: Option<Timestamp>,
    },
    /// The master key stays as it is.
    NotRotated {
        /// Why.
        why: NoRotation,
    },
    /// The store could not do it; nothing was changed.
    Failed,
}

/// Why no other master key takes the place of the present one.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum NoRotation {
    /// The present one stands in no file, and no other file was named.
    NoPlace,
    /// Its file is mounted by itself.
    Mounted,
    /// It is the present one, or one that the store had before.
    Same,
    /// Others have the store open with the present one.
    Shared {
        /// How many.
        n: i64,
    },
    /// The file of the new key can neither be read nor made, or not be put in its place.
    NoFile {
        /// Why, in words, and then what to do.
        text: String,
    },
}

/// What the audit trail calls orders.
pub(crate) const KINDS: [&str; 11] = [
    "merge.undone",
    "quarantine.retried",
    "quarantine.discarded",
    "guard.released",
    "rooms.resynced",
    "stays.purged",
    GRANTED,
    REVOKED,
    "epoch.raised",
    "keys.rotation_begun",
    "keys.rotated",
];
/// That somebody was let into a room.
pub(crate) const GRANTED: &str = "grant.given";
/// That this was ended before its time.
pub(crate) const REVOKED: &str = "grant.revoked";

/// What the audit row tells of an order.
#[derive(Serialize)]
struct Record<'a> {
    by: &'a Operator,
    order: &'a Order,
    /// Which epoch began with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u32>,
}

impl Record<'_> {
    fn document(&self) -> Document {
        Document::new(1, serde_json::to_vec(self).unwrap_or_default())
    }
}

/// The audit row of an order.
fn record(order: &Order, by: &Operator, at: Timestamp) -> AuditRow {
    let (kind, journal_id) = match order {
        Order::UndoMerge { message } => ("merge.undone", Some(*message)),
        Order::Retry { .. } => ("quarantine.retried", None),
        Order::Discard { message, .. } => ("quarantine.discarded", Some(*message)),
        Order::ReleaseGuard => ("guard.released", None),
        Order::Resync { .. } | Order::ResyncNext { .. } => ("rooms.resynced", None),
        Order::Purge { .. } => ("stays.purged", None),
        Order::Grant { .. } => (GRANTED, None),
        Order::Revoke { .. } => (REVOKED, None),
        Order::NewEpoch => ("epoch.raised", None),
        Order::RotateKeys { begins: true, .. } => ("keys.rotation_begun", None),
        Order::RotateKeys { begins: false, .. } => ("keys.rotated", None),
    };
    let room_id = match order {
        Order::Resync { room, .. } | Order::Grant { room, .. } | Order::Revoke { room, .. } => Some(*room),
        Order::UndoMerge { .. }
        | Order::Retry { .. }
        | Order::Discard { .. }
        | Order::ReleaseGuard
        | Order::ResyncNext { .. }
        | Order::Purge { .. }
        | Order::NewEpoch
        | Order::RotateKeys { .. } => None,
    };
    AuditRow {
        at,
        kind: kind.to_owned(),
        room_id,
        room_version: None,
        made_for: None,
        journal_id,
        key: None,
        body: Record { by, order, epoch: None }.document(),
    }
}

/// Carries an order out. Gives back, too, what messages in quarantine may have waited for.
pub(super) async fn carry_out<C: Clock>(hands: &mut Hands<'_, C>, order: &Order, by: &Operator) -> (Outcome, Vec<LookUpHash>) {
    let audit = record(order, by, hands.parts.clock.now());
    let outcome = match order {
        Order::UndoMerge { message } => hands.undo(*message, audit).await,
        Order::Retry { messages } => hands.retry(messages, audit).await,
        Order::Discard { message, .. } => hands.discard(*message, audit).await.map(|outcome| (outcome, Vec::new())),
        Order::ReleaseGuard => hands.release(audit).await.map(|outcome| (outcome, Vec::new())),
        Order::Resync { visit, room } => hands.resync(*visit, *room, audit).await.map(|outcome| (outcome, Vec::new())),
        Order::ResyncNext { after, since } => hands.resync_next(*after, *since, audit).await.map(|outcome| (outcome, Vec::new())),
        Order::Purge { until, place, is_daily, sooner } => {
            let kind = if *is_daily { CauseKind::Wake } else { CauseKind::Operator };
            hands.purge(*until, *place, *sooner || *is_daily, kind, audit).await.map(|outcome| (outcome, Vec::new()))
        }
        Order::Grant { visit, room, user, seconds, reason } => {
            let terms = Terms { span: Duration::from_secs(*seconds), reason: reason.clone(), uid: by.uid, login: by.login.clone() };
            let letting = Letting { visit: *visit, room: *room, user: user.clone(), on: Some(terms), audit };
            hands.let_in_or_out(letting).await.map(|outcome| (outcome, Vec::new()))
        }
        Order::Revoke { visit, room, user, .. } => {
            let letting = Letting { visit: *visit, room: *room, user: user.clone(), on: None, audit };
            hands.let_in_or_out(letting).await.map(|outcome| (outcome, Vec::new()))
        }
        Order::NewEpoch => hands.raise_epoch(&audit, by).await.map(|outcome| (outcome, Vec::new())),
        Order::RotateKeys { to, begins: true } => hands.begin_rotation(to.as_deref(), by, audit).await.map(|outcome| (outcome, Vec::new())),
        Order::RotateKeys { begins: false, .. } => hands.go_on_rotating(audit).await.map(|outcome| (outcome, Vec::new())),
    };
    outcome.unwrap_or_else(|error| {
        tracing::error!(%error, "an operator's order could not be carried out; nothing was changed");
        (Outcome::Failed, Vec::new())
    })
}

/// What carrying out takes.
pub(super) struct Hands<'a, C> {
    pub(super) parts: &'a IntakeParts<C>,
    pub(super) look_ups: &'a LookUps,
    pub(super) recent: &'a mut Recent,
}

impl<C: Clock> Hands<'_, C> {
    async fn undo(&mut self, message: JournalId, audit: AuditRow) -> Result<(Outcome, Vec<LookUpHash>), BatchError> {
        let Some(message) = self.stored(message).await? else { return Ok((Outcome::NoSuchMessage, Vec::new())) };
        let work = Work { undo: vec![Arc::new(message)], audit: vec![audit], ..Work::default() };
        let mut done = commit(self.parts, self.look_ups, self.recent, &work).await?;
        account(self.parts, &work, &mut done);
        Ok((if done.has_undone { Outcome::Done { messages: 1, n_not_waiting: 0 } } else { Outcome::NothingMerged }, done.explained))
    }

    async fn retry(&mut self, ids: &[JournalId], audit: AuditRow) -> Result<(Outcome, Vec<LookUpHash>), BatchError> {
        let mut work = Work { audit: vec![audit], ..Work::default() };
        let ids: BTreeSet<JournalId> = ids.iter().copied().collect();
        for id in &ids {
            if self.parts.store.waits(*id).await?
                && let Some(message) = self.stored(*id).await?
            {
                work.messages.push(Arc::new(message));
            }
        }
        if work.messages.is_empty() {
            return Ok((Outcome::NotWaiting, Vec::new()));
        }
        let mut done = commit(self.parts, self.look_ups, self.recent, &work).await?;
        account(self.parts, &work, &mut done);
        let messages = done.verdicts.iter().filter(|verdict| verdict.disposition != Disposition::Quarantined).count();
        Ok((Outcome::Done { messages, n_not_waiting: ids.len().saturating_sub(work.messages.len()) }, done.explained))
    }

    async fn discard(&mut self, id: JournalId, audit: AuditRow) -> Result<Outcome, BatchError> {
        if !self.parts.store.waits(id).await? {
            return Ok(Outcome::NotWaiting);
        }
        // With what the message says, a room that showed that it waits shows it no more; of a feed that is gone only the rows are left to end.
        let Some(message) = self.stored(id).await? else {
            let (settled, quarantine_left) = (vec![JournalSettled::discarded(id)], vec![id]);
            self.parts.store.commit(&CommitBatch { journal_settled: settled, quarantine_left, audit: vec![audit], ..CommitBatch::default() }).await?;
            return Ok(Outcome::Done { messages: 1, n_not_waiting: 0 });
        };
        let work = Work { ended: vec![Arc::new(message)], audit: vec![audit], ..Work::default() };
        let mut done = commit(self.parts, self.look_ups, self.recent, &work).await?;
        account(self.parts, &work, &mut done);
        Ok(Outcome::Done { messages: 1, n_not_waiting: 0 })
    }

    /// Says go on, in the store: whoever follows it there plans what waited.
    async fn release(&self, audit: AuditRow) -> Result<Outcome, BatchError> {
        if !matches!(Word::read(&self.parts.store).await?, Word::On(_)) {
            return Ok(Outcome::NothingHeld);
        }
        self.parts.store.commit(&CommitBatch { audit: vec![audit], ..CommitBatch::default() }).await?;
        Word::GoOn.write(&self.parts.store).await?;
        Ok(Outcome::Done { messages: 0, n_not_waiting: 0 })
    }

    async fn resync(&mut self, visit: i64, room: CareRoomId, audit: AuditRow) -> Result<Outcome, BatchError> {
        let n_rooms = self.publish_again(vec![(visit, Some(room))], vec![audit]).await?;
        Ok(if n_rooms > 0 { Outcome::Resynced { n_rooms, n_visits: 1, n_left_out: 0, after: None } } else { Outcome::NoSuchRoom })
    }

    async fn resync_next(&mut self, after: Option<i64>, since: Timestamp, audit: AuditRow) -> Result<Outcome, BatchError> {
        let visits = self.parts.store.recent_rooms_page(since, after.unwrap_or(i64::MIN), PAGE).await?;
        let (mut n_rooms, mut n_left_out) = (0, 0);
        match self.publish_again(visits.iter().map(|visit| (*visit, None)).collect(), vec![audit.clone()]).await {
            Ok(n) => n_rooms = n,
            // One that cannot be read is in the way of no other.
            Err(error) if is_about_content(&error) => {
                self.publish_again(Vec::new(), vec![audit]).await?;
                for visit in &visits {
                    match self.publish_again(vec![(*visit, None)], Vec::new()).await {
                        Ok(n) => n_rooms += n,
                        Err(error) if is_about_content(&error) => {
                            n_left_out += 1;
                            tracing::error!(%error, "the rooms of a visit cannot be published again");
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
            Err(error) => return Err(error),
        }
        let is_full = i64::try_from(visits.len()).is_ok_and(|n_visits| n_visits == PAGE);
        let after = visits.last().copied().filter(|_| is_full);
        Ok(Outcome::Resynced { n_rooms, n_visits: visits.len(), n_left_out, after })
    }

    /// Publishes rooms of visits again as they are; gives back how many.
    async fn publish_again(&mut self, resync: Vec<(i64, Option<CareRoomId>)>, audit: Vec<AuditRow>) -> Result<usize, BatchError> {
        let work = Work { resync, audit, ..Work::default() };
        let mut done = commit(self.parts, self.look_ups, self.recent, &work).await?;
        account(self.parts, &work, &mut done);
        Ok(done.n_events)
    }

    async fn let_in_or_out(&mut self, letting: Letting) -> Result<Outcome, BatchError> {
        let work = Work { letting: Some(Box::new(letting)), ..Work::default() };
        let mut done = commit(self.parts, self.look_ups, self.recent, &work).await?;
        account(self.parts, &work, &mut done);
        Ok(match done.letting {
            Some(Ok(Let { until, .. })) => Outcome::Let { until },
            Some(Err(why)) => Outcome::Refused { why },
            None => Outcome::Failed,
        })
    }

    async fn begin_rotation(&self, to: Option<&Path>, by: &Operator, audit: AuditRow) -> Result<Outcome, BatchError> {
        let replaced = Replaced { at: audit.at, uid: by.uid, login: by.login.clone() };
        let since = Some(audit.at);
        let why = match self.parts.store.begin_rotation(to, &replaced, audit).await {
            Ok(has_begun) => return Ok(Outcome::Rotating { n_keys: 0, n_unopened: 0, is_done: false, has_begun, is_in_file: false, since }),
            Err(RotationError::NoPlace) => NoRotation::NoPlace,
            Err(RotationError::Mounted) => NoRotation::Mounted,
            Err(RotationError::Same) => NoRotation::Same,
            Err(RotationError::Shared { n }) => NoRotation::Shared { n },
            Err(RotationError::Store(error)) => return Err(error.into()),
            Err(RotationError::File(error)) => {
                tracing::error!(%error, "no other master key takes the place of the present one");
                NoRotation::NoFile { text: in_words(&error) }
            }
        };
        Ok(Outcome::NotRotated { why })
    }

    async fn go_on_rotating(&self, audit: AuditRow) -> Result<Outcome, BatchError> {
        match self.parts.store.go_on_rotating(audit).await {
            Ok(Progress { n_keys, n_unopened, is_done, is_in_file, since }) => {
                Ok(Outcome::Rotating { n_keys, n_unopened, is_done, has_begun: false, is_in_file, since })
            }
            Err(RotationError::Store(error)) => Err(error.into()),
            Err(error) => {
                tracing::error!(%error, "the new master key is in use and lies beside its place (`.next`), where it could not be put");
                Ok(Outcome::NotRotated { why: NoRotation::NoFile { text: in_words(&error) } })
            }
        }
    }

    async fn raise_epoch(&self, audit: &AuditRow, by: &Operator) -> Result<Outcome, BatchError> {
        let store = &self.parts.store;
        for _ in 0..TRIES {
            let epoch = store.read_epoch().await?.saturating_add(1);
            let body = Record { by, order: &Order::NewEpoch, epoch: Some(epoch) }.document();
            let audit = vec![AuditRow { body, ..audit.clone() }];
            let batch = CommitBatch { audit, next_epoch: Some(epoch), ..CommitBatch::default() };
            match store.commit(&batch).await {
                Ok(()) => {
                    // For whatever is planned from here on; where it cannot be read now, the first of that meets a conflict and reads it then.
                    drop(store.read_epoch().await);
                    return Ok(Outcome::InEpoch { epoch });
                }
                // Somebody else has raised it meanwhile; each of them gets an epoch of their own.
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(BatchError::Contended)
    }

    /// A message of the journal, read again under the profile of its feed as it is now.
    async fn stored(&self, id: JournalId) -> Result<Option<Incoming>, BatchError> {
        let Some(message) = self.parts.store.journal_message(id).await? else { return Ok(None) };
        let Some(feed) = self.parts.feeds.get(&FeedName::new(message.feed)) else { return Ok(None) };
        let arrived = Arrived { journal: message.id, at: message.received_at, is_retry: true };
        Ok(Some(read(message.raw.bytes.into(), &feed.profile, arrived, self.look_ups).incoming))
    }
}

#[cfg(test)]
mod tests {
    use super::KINDS;
    use super::Operator;
    use super::Order;
    use super::Place;
    use super::record;
    use crate::ids::CareRoomId;
    use crate::ids::JournalId;
    use crate::ids::UserId;
    use crate::phi::Phi;
    use crate::time::Timestamp;

    #[test]
    fn whoever_searches_the_trail_can_ask_for_every_order() {
        let (message, room) = (JournalId(1), CareRoomId(uuid::Uuid::nil()));
        let orders = [
            Order::UndoMerge { message },
            Order::Retry { messages: vec![message] },
            Order::Discard { message, reason: "sent twice".to_owned() },
            Order::ReleaseGuard,
            Order::Resync { visit: 1, room },
            Order::ResyncNext { after: None, since: Timestamp::MIN },
            Order::Purge { until: Timestamp::MIN, place: Place::START, is_daily: false, sooner: false },
            Order::Grant { visit: 1, room, user: UserId::from("lgarcia"), seconds: 3600, reason: Phi::from("looks after the patient") },
            Order::Revoke { visit: 1, room, user: UserId::from("lgarcia"), reason: Phi::from("") },
            Order::NewEpoch,
            Order::RotateKeys { to: None, begins: true },
            Order::RotateKeys { to: None, begins: false },
        ];
        let by = Operator { uid: 0, login: None };
        let mut kinds: Vec<String> = orders.iter().map(|order| record(order, &by, Timestamp::MIN).kind).collect();
        kinds.dedup();
        assert_eq!(kinds, KINDS);
    }
}
