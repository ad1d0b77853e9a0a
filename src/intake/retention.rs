//! Retention: whose time is over, and everything that goes with them.
//!
//! A visit goes with all that is tied to it by merges and renumberings, or not at all: none of these may be open, wait for the clock, for an event to be
//! published or for somebody to look at a message. With it go its facts, its look-ups, the messages that left something in it alone, and what waits in
//! quarantine for it since before. A patient goes, key and all, with the last visit, unless something was said of them since. Messages that left nothing
//! in any stay go when they are old. Nothing is deleted here: what is found becomes part of a commit, and a dry run only counts it.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;

use foldhash::HashSet;
use serde::Deserialize;
use serde::Serialize;

use crate::care::room::CareRoom;
use crate::ids::FeedName;
use crate::ids::JournalId;
use crate::intake::answer::Feed;
use crate::intake::batch::BatchError;
use crate::intake::look_ups::LookUps;
use crate::store::Store;
use crate::store::rows::PatientRow;
use crate::store::rows::Purge;
use crate::time::Timestamp;

mod messages;
mod patients;
pub(super) mod step;
mod visits;

/// Under this name the store remembers for how many seconds the daemon that was started last keeps stays.
pub(crate) const KEPT_FOR: &str = "kept_for";
/// How many stays one commit deletes at the most, not counting what they are tied to.
const VISITS: i64 = 64;
/// How many messages one commit deletes at the most, beside those of its stays.
const MESSAGES: i64 = 256;

/// How far a purge has come. What is behind it is gone, or could not go.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum Place {
    /// At the visits that are known to be over, behind this one.
    Over {
        /// Since when it is.
        over_at: Timestamp,
        /// Its row.
        visit: i64,
    },
    /// At the visits that were written before anybody noted that, behind this one.
    Unnoted {
        /// Its row.
        visit: i64,
    },
    /// At the messages that left nothing in any stay, behind this one.
    Messages {
        /// Which.
        message: JournalId,
    },
}

impl Place {
    /// Where a purge begins.
    pub const START: Self = Self::Over { over_at: Timestamp::MIN, visit: i64::MIN };
}

/// What went, or would go.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Purged {
    /// How many visits.
    pub visits: usize,
    /// How many rooms of theirs that were published.
    pub rooms: usize,
    /// How many patients.
    pub patients: usize,
    /// How many messages.
    pub messages: usize,
    /// How many visits whose time is over cannot go yet: an event or a message of theirs waits, or what they were merged with goes on.
    pub waiting: usize,
    /// How many visits that cannot be read.
    pub left_out: usize,
    /// The end of the visit that was over first.
    pub oldest: Option<Timestamp>,
    /// The end of the visit that was over last.
    pub newest: Option<Timestamp>,
}

impl Purged {
    /// Adds what went with another step.
    pub fn add(&mut self, other: &Self) {
        self.visits += other.visits;
        self.rooms += other.rooms;
        self.patients += other.patients;
        self.messages += other.messages;
        self.waiting += other.waiting;
        self.left_out += other.left_out;
        self.oldest = [self.oldest, other.oldest].into_iter().flatten().min();
        self.newest = self.newest.max(other.newest);
    }

    /// Whether nothing went.
    pub const fn is_nothing(&self) -> bool {
        self.visits == 0 && self.patients == 0 && self.messages == 0
    }

    fn saw_end(&mut self, at: Timestamp) {
        self.oldest = Some(self.oldest.map_or(at, |oldest| oldest.min(at)));
        self.newest = self.newest.max(Some(at));
    }
}

/// A room that goes, as it was published last.
#[derive(Debug)]
pub(super) struct Going {
    pub(super) room: CareRoom,
    /// The visit for which it was made.
    pub(super) made_for: Option<i64>,
}

/// What one commit is to delete.
#[derive(Debug, Default)]
pub(super) struct Finding {
    pub(super) purged: Purged,
    pub(super) purge: Purge,
    /// Everything that it stands on: row and version.
    pub(super) read_visits: Vec<(i64, i64)>,
    pub(super) read_patients: Vec<(i64, i64)>,
    /// Patients who stay, and forget the rooms that go.
    pub(super) patients: Vec<PatientRow>,
    pub(super) rooms: Vec<Going>,
    /// When the visits were written last: no event of theirs has a later place in the outbox.
    pub(super) written: Timestamp,
}

/// Looks for what has to go.
#[derive(Debug)]
pub(crate) struct Finder<'a> {
    pub(crate) store: &'a Store,
    pub(crate) look_ups: &'a LookUps,
    pub(crate) feeds: &'a HashMap<FeedName, Arc<Feed>>,
    /// What ended before this goes.
    pub(crate) until: Timestamp,
    /// Rows that count as gone already: a dry run deletes none, and must not count them twice.
    pub(crate) gone: HashSet<i64>,
}

/// What is looked at next.
#[derive(Debug)]
pub(super) enum Page {
    /// Visits.
    Visits(Vec<i64>),
    /// Messages, each with its patient.
    Messages(Vec<(JournalId, Option<i64>)>),
}

impl Finder<'_> {
    /// The next page behind a place, and where the one after it begins; `None` at the end.
    pub(super) async fn page(&self, mut place: Place) -> Result<(Page, Option<Place>), BatchError> {
        loop {
            match place {
                Place::Over { over_at, visit } => {
                    let page = self.store.over_visits(self.until, (over_at, visit), VISITS).await?;
                    if let Some((over_at, visit)) = page.last().copied() {
                        return Ok((Page::Visits(page.into_iter().map(|(_, visit)| visit).collect()), Some(Place::Over { over_at, visit })));
                    }
                    place = Place::Unnoted { visit: i64::MIN };
                }
                Place::Unnoted { visit } => {
                    let page = self.store.unnoted_visits(self.until, visit, VISITS).await?;
                    if let Some(visit) = page.last().copied() {
                        return Ok((Page::Visits(page), Some(Place::Unnoted { visit })));
                    }
                    place = Place::Messages { message: JournalId(i64::MIN) };
                }
                Place::Messages { message } => {
                    let page = self.store.messages_by_age(self.until, message, MESSAGES).await?;
                    let is_full = i64::try_from(page.len()).is_ok_and(|n_messages| n_messages == MESSAGES);
                    let next = page.last().filter(|_| is_full).map(|(message, _)| Place::Messages { message: *message });
                    return Ok((Page::Messages(page), next));
                }
            }
        }
    }

    /// What of a page goes.
    pub(super) async fn find(&self, page: &Page) -> Result<Finding, BatchError> {
        let mut finding = Finding::default();
        let mut patients: BTreeSet<i64> = BTreeSet::new();
        match page {
            Page::Visits(visits) => {
                let group = self.visits(visits, &mut finding).await?;
                patients.extend(&group.patients);
                patients.extend(self.messages_of(&group, &mut finding).await?);
                self.patients(&patients, &group, &mut finding).await?;
            }
            Page::Messages(messages) => {
                let left: Vec<JournalId> = messages.iter().map(|(message, _)| *message).collect();
                finding.purge.messages.extend(left);
                patients.extend(messages.iter().filter_map(|(_, patient)| *patient));
                self.patients(&patients, &visits::Group::default(), &mut finding).await?;
            }
        }
        finding.purge.messages.sort_unstable();
        finding.purge.messages.dedup();
        finding.purged.messages = finding.purge.messages.len();
        finding.purged.visits = finding.purge.visits.len();
        finding.purged.rooms = finding.rooms.len();
        Ok(finding)
    }

    /// Counts what a purge would delete, and deletes nothing; `progress` is told after each step.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn count(&mut self, mut progress: impl FnMut(&Purged)) -> Result<Purged, BatchError> {
        let (mut all, mut place) = (Purged::default(), Some(Place::START));
        while let Some(at) = place {
            let (page, next) = self.page(at).await?;
            for part in self.readable(page).await? {
                let finding = match part {
                    Ok(finding) => finding,
                    Err(n_left_out) => {
                        all.left_out += n_left_out;
                        continue;
                    }
                };
                self.gone.extend(finding.purge.visits.iter().chain(&finding.purge.patients));
                all.add(&finding.purged);
            }
            progress(&all);
            place = next;
        }
        Ok(all)
    }

    /// What of a page goes; where one of its visits cannot be read, of each of them by itself.
    async fn readable(&self, page: Page) -> Result<Vec<Result<Finding, usize>>, BatchError> {
        let error = match self.find(&page).await {
            Ok(finding) => return Ok(vec![Ok(finding)]),
            Err(error) if crate::intake::daemon::is_about_content(&error) => error,
            Err(error) => return Err(error),
        };
        let Page::Visits(visits) = page else { return Err(error) };
        let mut found = Vec::new();
        for visit in visits {
            match self.find(&Page::Visits(vec![visit])).await {
                Ok(finding) => found.push(Ok(finding)),
                Err(error) if crate::intake::daemon::is_about_content(&error) => found.push(Err(1)),
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}
