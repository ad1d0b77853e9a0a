//! What keys are wrapped by: the master key, and, while another takes its place, the one before it too.
//!
//! A wrapped key is a sealed value whose header tells by the how-manieth master key of the store it is wrapped (0 for the first), where a content's tells the
//! data key. That says which key is tried first, never which one opens it: a program that knew of no rotation wrote 0 always. It reads and writes no store.

use std::fmt;

use ring::aead::LessSafeKey;
use ring::rand::SystemRandom;

use crate::store::error::StoreError;
use crate::store::master_key::MasterKey;
use crate::store::sealing::Place;
use crate::store::sealing::Table;
use crate::store::sealing::aead;
use crate::store::sealing::key_id;
use crate::store::sealing::unseal_with;
use crate::store::sealing::wrap;

/// Its own place, so that no other key can be put there.
const BEFORE_PLACE: Place = Place::row(Table::Keys, -3);

/// A master key, and how manieth of the store it is.
#[derive(Clone)]
struct Numbered {
    number: i64,
    aead: LessSafeKey,
}

/// What wraps keys now, and what wrapped some of them before.
#[derive(Clone)]
pub(super) struct Wrapping {
    pub(super) master: MasterKey,
    now: Numbered,
    before: Option<Numbered>,
    /// Up to which patient's row all keys are known to be wrapped by the present one, while there is one before it.
    pub(super) done: i64,
    /// The store's own key as it stands in the store, which tells that nobody has put another master key in the place of this one.
    pub(super) own: Vec<u8>,
}

impl fmt::Debug for Wrapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wrapping({})", self.now.number)
    }
}

impl Wrapping {
    /// What wraps the keys of a store: its own key and, where a rotation is under way, the master key before, both as they stand there.
    pub(super) fn open(master: MasterKey, own: Vec<u8>, before: Option<Vec<u8>>) -> Result<Self, StoreError> {
        let mut wrapping = Self::of(master, own)?;
        if let Some(before) = before {
            let bytes = unseal_with(&wrapping.now.aead, BEFORE_PLACE, before)?.bytes;
            wrapping.before = Some(Numbered { number: wrapping.now.number - 1, aead: aead(&bytes)? });
        }
        Ok(wrapping)
    }

    fn of(master: MasterKey, own: Vec<u8>) -> Result<Self, StoreError> {
        let now = Numbered { number: key_id(Table::Keys, &own)?, aead: aead(master.bytes())? };
        Ok(Self { master, now, before: None, done: i64::MIN, own })
    }

    /// Has another master key take the place of this one: `wrapped` are the keys of the store, each with its place. Gives them back as the other one wraps them,
    /// the store's own first, with this one as it has to stand in the store meanwhile.
    pub(super) fn followed_by(
        &self,
        next: MasterKey,
        random: &SystemRandom,
        wrapped: &[(Place, Vec<u8>)],
    ) -> Result<(Self, Vec<Vec<u8>>, Vec<u8>), StoreError> {
        let (number, next_aead) = (self.now.number + 1, aead(next.bytes())?);
        let anew = |(place, wrapped): &(Place, Vec<u8>)| wrap(random, &next_aead, *place, &self.unwrap(*place, wrapped)?, number);
        let anew: Vec<Vec<u8>> = wrapped.iter().map(anew).collect::<Result<_, _>>()?;
        let before = wrap(random, &next_aead, BEFORE_PLACE, self.master.bytes(), number)?;
        let own = anew.first().cloned().ok_or(StoreError::Form { table: Table::Keys })?;
        Ok((Self { before: Some(self.now.clone()), ..Self::of(next, own)? }, anew, before))
    }

    /// The same once nothing is wrapped by the one before any more.
    pub(super) fn alone(&self) -> Self {
        Self { before: None, ..self.clone() }
    }

    /// The same once the master key is in its place.
    pub(super) fn placed(&self, master: MasterKey) -> Self {
        Self { master, ..self.clone() }
    }

    /// The same once all keys up to this patient's row are wrapped by the present one.
    pub(super) fn done_to(&self, done: i64) -> Self {
        Self { done, ..self.clone() }
    }

    /// Whether keys are still being wrapped anew.
    pub(super) const fn is_under_way(&self) -> bool {
        self.before.is_some()
    }

    /// How many master keys the store had before this one.
    pub(super) const fn number(&self) -> i64 {
        self.now.number
    }

    pub(super) fn wrap(&self, random: &SystemRandom, place: Place, key: &[u8]) -> Result<Vec<u8>, StoreError> {
        wrap(random, &self.now.aead, place, key, self.now.number)
    }

    /// Whether the present master key wraps it.
    pub(super) fn opens(&self, place: Place, wrapped: &[u8]) -> bool {
        unseal_with(&self.now.aead, place, wrapped.to_vec()).is_ok()
    }

    /// A key, by whichever of the two it is wrapped.
    pub(super) fn unwrap(&self, place: Place, wrapped: &[u8]) -> Result<Vec<u8>, StoreError> {
        let number = key_id(Table::Keys, wrapped)?;
        let (first, second) = match &self.before {
            Some(before) if before.number == number => (before, Some(&self.now)),
            before => (&self.now, before.as_ref()),
        };
        let open = |by: &Numbered| unseal_with(&by.aead, place, wrapped.to_vec()).map(|document| document.bytes);
        open(first).or_else(|error| match second {
            Some(second) => open(second),
            // Whoever has the next key has put it in the place of this one since the store was opened.
            None if number == self.now.number + 1 => Err(StoreError::KeyReplaced),
            None => Err(error),
        })
    }
}
