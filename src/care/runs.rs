//! The history of one facet as runs of equal values.
//!
//! A message that repeats what stands adds nothing, so the history grows with what really changed and not with the number of messages. A strike takes
//! out the runs that the struck fact began or that merely repeat its value up to the cancel. Nothing here knows what the facet means.

use serde::Deserialize;
use serde::Serialize;

use crate::care::fact::FieldUpdate;
use crate::care::fact::Stamp;
use crate::time::Timestamp;

/// A value and who said it first.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Run<T> {
    /// The value; `None` when it was cleared.
    #[serde(rename = "v")]
    pub(crate) value: Option<T>,
    /// The fact that said it first in this run.
    #[serde(rename = "s")]
    pub(crate) since: Stamp,
    /// When that fact says it happened (EVN-6).
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub(crate) occurred_at: Option<Timestamp>,
}

/// The runs of one facet, oldest first.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub(crate) struct Runs<T>(Vec<Run<T>>);

impl<T> Default for Runs<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Clone + PartialEq> Runs<T> {
    /// Folds what a fact says onto the history. The fact must be later than all before it.
    pub(crate) fn say(&mut self, update: &FieldUpdate<T>, since: Stamp, occurred_at: Option<Timestamp>) {
        let value = match update {
            FieldUpdate::Keep => return,
            FieldUpdate::Clear => None,
            FieldUpdate::Set(value) => Some(value),
        };
        match self.0.last() {
            Some(last) if last.value.as_ref() == value => {}
            None if value.is_none() => {}
            _ => self.0.push(Run { value: value.cloned(), since, occurred_at }),
        }
    }

    /// Takes out what a struck fact said, from that fact up to its cancel.
    pub(crate) fn strike(&mut self, said: &FieldUpdate<T>, from: Stamp, until: Stamp) {
        let value = match said {
            FieldUpdate::Keep => return,
            FieldUpdate::Clear => None,
            FieldUpdate::Set(value) => Some(value),
        };
        self.0.retain(|run| run.since < from || run.since >= until || run.value.as_ref() != value);
    }

    /// The value that stands.
    pub(crate) fn standing(&self) -> Option<&T> {
        self.0.last().and_then(|run| run.value.as_ref())
    }

    /// The run that stands.
    pub(crate) fn last(&self) -> Option<&Run<T>> {
        self.0.last()
    }

    /// The run that stood at a stamp; the first one, where that began only later.
    pub(crate) fn at(&self, stamp: Stamp) -> Option<&Run<T>> {
        self.until(Some(stamp)).last().or_else(|| self.0.first())
    }

    /// All runs up to and including a stamp, oldest first.
    pub(crate) fn until(&self, end: Option<Stamp>) -> &[Run<T>] {
        let n = end.map_or(self.0.len(), |end| self.0.partition_point(|run| run.since <= end));
        self.0.get(..n).unwrap_or_default()
    }

    /// Every value ever said and not struck.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> + Clone {
        self.0.iter().filter_map(|run| run.value.as_ref())
    }

    /// Whether nothing was ever said.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One value where the latest word counts and nothing is ever struck.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Register<T> {
    /// The value; `None` when it was cleared.
    #[serde(rename = "v")]
    pub(crate) value: Option<T>,
    /// Who said so.
    #[serde(rename = "s")]
    pub(crate) since: Stamp,
    /// Whether it is the word of the feed whose word counts; no other outweighs it.
    #[serde(rename = "w", default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) owned: bool,
}

impl<T> Register<T> {
    /// What weighs more counts: an owner's word, then the later.
    pub(crate) const fn weight(&self) -> (bool, Stamp) {
        (self.owned, self.since)
    }
}

impl<T: Clone + PartialEq> Register<T> {
    /// Takes what a fact says where it is no older than what stands, whatever the order of arrival.
    pub(crate) fn say(slot: &mut Option<Self>, update: &FieldUpdate<T>, since: Stamp) {
        Self::say_as(slot, update, since, false);
    }

    /// The same, for what a feed may own.
    pub(crate) fn say_as(slot: &mut Option<Self>, update: &FieldUpdate<T>, since: Stamp, owned: bool) {
        match update {
            FieldUpdate::Keep => {}
            FieldUpdate::Clear => Self::hear(slot, None, since, owned),
            FieldUpdate::Set(value) => Self::hear(slot, Some(value), since, owned),
        }
    }

    /// Takes a value, or that there is none.
    pub(crate) fn hear(slot: &mut Option<Self>, value: Option<&T>, since: Stamp, owned: bool) {
        match slot {
            Some(standing) if standing.weight() > (owned, since) => {}
            // The same word again counts from its last stamp: nothing says what stood between.
            Some(standing) if standing.value.as_ref() == value => (standing.since, standing.owned) = (since, owned),
            _ => *slot = Some(Self { value: value.cloned(), since, owned }),
        }
    }
}
