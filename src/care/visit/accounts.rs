//! Of which account a visit was, and when: what decides whether it goes along when an account goes over to another patient.
//!
//! A visit is of the account that it was named with last, and was of the first one before that. One that leaves an account, alone, stays where it is when
//! that account is moved afterwards, and so does one that came only later. Numbers count as they stood then: an account that was renumbered is one under
//! both from then on. It knows nothing of the other visits of an account.

use serde::Deserialize;
use serde::Serialize;

use crate::care::account::Says;
use crate::care::fact::Fact;
use crate::care::fact::FieldUpdate;
use crate::care::fact::Stamp;
use crate::care::identity::Edges;
use crate::care::runs::Run;
use crate::care::runs::Runs;
use crate::ids::VisitId;
use crate::time::Timestamp;

/// The accounts of a visit, as its own messages and those about whole accounts tell of them.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(from = "Stored")]
pub struct AccountsOfVisit {
    /// Which account it was of, from when on.
    #[serde(default, skip_serializing_if = "Runs::is_empty")]
    named: Runs<VisitId>,
    /// Which account became which, or a part of which.
    #[serde(default, skip_serializing_if = "Edges::is_empty")]
    renumbered: Edges<VisitId>,
    /// When something was said of a whole account of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    told: Vec<Timestamp>,
}

/// As it stands in documents, with the fields above in the same order.
#[derive(Deserialize)]
#[serde(untagged)]
enum Stored {
    Told {
        #[serde(default)]
        named: Runs<VisitId>,
        #[serde(default)]
        renumbered: Edges<VisitId>,
        #[serde(default)]
        told: Vec<Timestamp>,
    },
    /// The accounts that it was named with, of which documents did not tell when before.
    Named(Vec<VisitId>),
}

impl From<Stored> for AccountsOfVisit {
    fn from(stored: Stored) -> Self {
        let mut accounts = Self::default();
        match stored {
            Stored::Told { named, renumbered, told } => accounts = Self { named, renumbered, told },
            // The only one that it was ever named with was its account all the time. Of several nobody knows when until its facts are folded again.
            Stored::Named(mut named) => {
                if let Some(only) = named.pop().filter(|_| named.is_empty()) {
                    accounts.named.say(&FieldUpdate::Set(only), Stamp::default(), None);
                }
            }
        }
        accounts
    }
}

impl AccountsOfVisit {
    /// What facts about one visit say, in the order in which they were recorded.
    pub fn heard<'a>(sorted: impl IntoIterator<Item = &'a Fact>) -> Self {
        let mut accounts = Self::default();
        sorted.into_iter().for_each(|fact| accounts.hear(fact));
        accounts
    }

    /// Takes what a fact says. It must be later than all before it.
    pub(super) fn hear(&mut self, fact: &Fact) {
        let pairs = || fact.relation.iter().flat_map(|relation| &relation.accounts);
        match Says::of(fact) {
            Some(Says::OfOneStay) => {
                for pair in pairs() {
                    if self.named.is_empty() {
                        // It counts for the time before it as well, and has had the numbers until now that it had by now.
                        self.named.say(&FieldUpdate::Set(pair.from.clone()), fact.stamp, None);
                    }
                    self.named.say(&FieldUpdate::Set(pair.into.clone()), fact.stamp, None);
                }
            }
            Some(Says::OfWholeAccounts | Says::OfMergedAccounts) => {
                self.told.push(fact.stamp.recorded);
                for pair in pairs() {
                    self.renumbered.add(pair.from.clone(), pair.into.clone(), fact.stamp);
                }
            }
            None => {}
        }
        if let Some(account) = Self::named_by(fact) {
            self.named.say(&FieldUpdate::Set(account.clone()), fact.stamp, None);
        }
    }

    /// The account that a fact names beside the number of the visit. What names the account alone is a guess at the visit.
    fn named_by(fact: &Fact) -> Option<&VisitId> {
        fact.visit.as_ref().and_then(|visit| visit.account.as_ref())
    }

    /// Whether it is the first to name the visit with an account, which then counts for the time before it as well.
    pub(super) fn is_first_named_by(&self, fact: &Fact) -> bool {
        self.named.is_empty() && (Self::named_by(fact).is_some() || Says::of(fact) == Some(Says::OfOneStay))
    }

    /// Whether what was recorded then was said of a whole account and is known.
    pub fn was_told(&self, recorded: Timestamp) -> bool {
        self.told.contains(&recorded)
    }

    /// Whether the visit was of an account at an instant; unknown, where it was never named with one.
    pub fn was_of(&self, account: &VisitId, at: Stamp) -> Option<bool> {
        let Run { value, since, .. } = self.named.at(at)?;
        let named = value.as_ref()?;
        // The one may have been renumbered between the two words.
        Some(named == account || self.renumbered.before(at.max(*since)).are_one(named, account))
    }

    /// Whether the visit goes where a fact says that its account goes.
    pub fn go_along(&self, word: &Fact) -> bool {
        let mut pairs = word.relation.iter().flat_map(|relation| &relation.accounts);
        pairs.any(|pair| self.was_of(&pair.from, word.stamp).unwrap_or(true))
    }
}

#[cfg(test)]
mod tests {
    use super::AccountsOfVisit;
    use crate::care::fact::Stamp;
    use crate::ids::Identifier;
    use crate::ids::VisitId;

    #[test]
    fn a_document_from_before_tells_the_only_account_and_not_when_it_was_of_which_of_several() {
        let account = |value: &str| VisitId(Identifier::new("GHH", "AN", value));
        let read = |accounts: &[VisitId]| {
            let json = serde_json::to_vec(accounts).unwrap();
            let packed = rmp_serde::to_vec_named(accounts).unwrap();
            let read: AccountsOfVisit = serde_json::from_slice(&json).unwrap();
            assert_eq!(rmp_serde::from_slice::<AccountsOfVisit>(&packed).unwrap(), read);
            read
        };
        let at = Stamp::default();
        let only = read(&[account("A")]);
        assert_eq!([only.was_of(&account("A"), at), only.was_of(&account("B"), at)], [Some(true), Some(false)]);
        for unknown in [read(&[]), read(&[account("A"), account("B")])] {
            assert_eq!(unknown, AccountsOfVisit::default());
            assert_eq!(unknown.was_of(&account("A"), at), None);
        }
        assert_eq!(serde_json::from_slice::<AccountsOfVisit>(&serde_json::to_vec(&only).unwrap()).unwrap(), only);
    }
}
