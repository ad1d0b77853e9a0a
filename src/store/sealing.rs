//! Sealing: what is written at rest, so that the file alone tells nothing.
//!
//! AES-256-GCM (NIST SP 800-38D) with random 96-bit nonces. Every patient has a data key of their own, the store has one (key id 0) for what belongs
//! to no patient; both are wrapped by the master key, which stands outside the database and may be replaced (see `rotation`). A sealed value is
//!
//! ```text
//! format 1 | document format 1 | key id 8 (big-endian) | nonce 12 | ciphertext | tag 16
//! ```
//!
//! whose format says whether the content was packed before it was encrypted, and with which dictionary. It is bound to its header, its table and its row, so
//! that no value can be moved to another row. It never logs, and no `Debug` shows a key.

use std::fmt;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;

use ring::aead::AES_256_GCM;
use ring::aead::Aad;
use ring::aead::LessSafeKey;
use ring::aead::NONCE_LEN;
use ring::aead::Nonce;
use ring::aead::UnboundKey;
use ring::rand::SecureRandom;
use ring::rand::SystemRandom;
use serde::Deserialize;
use serde::Serialize;

use crate::store::error::StoreError;
use crate::store::look_up::LookUpKey;
use crate::store::master_key::KEY_BYTES;
use crate::store::master_key::MasterKey;
use crate::store::packing::Packer;
use crate::store::packing::With;
use crate::store::packing::unpack;
use crate::store::wrapping::Wrapping;
use crate::time::Timestamp;

/// The form of a sealed value whose content is as it came.
const PLAIN: u8 = 1;
/// The form of a sealed value whose content was packed; with a dictionary, as much more as its number.
const PACKED: u8 = 2;
const HEADER_BYTES: usize = 10;
const TAG_BYTES: usize = 16;
const NONCES_AT_ONCE: usize = 64;

/// The key id of the store's own key.
const OWN_KEY: i64 = 0;

/// Where a sealed value stands. The number is part of what it is bound to: never change one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Table {
    /// Messages as they arrived.
    Journal = 1,
    /// Patient documents.
    Patients = 2,
    /// Visit documents.
    Visits = 3,
    /// Facts.
    Facts = 4,
    /// Events to be published.
    Outbox = 5,
    /// Audit rows.
    Audit = 6,
    /// Wrapped keys.
    Keys = 7,
    /// Quarantined messages; nothing sealed stands there.
    Quarantine = 8,
    /// Look-ups; nothing sealed stands there.
    LookUps = 9,
    /// What messages said of staff and units.
    Directory = 10,
    /// What is known of the store as a whole.
    Meta = 11,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Journal => "journal",
            Self::Patients => "patients",
            Self::Visits => "visits",
            Self::Facts => "facts",
            Self::Outbox => "outbox",
            Self::Audit => "audit",
            Self::Keys => "keys",
            Self::Quarantine => "quarantine",
            Self::LookUps => "look_ups",
            Self::Directory => "directory",
            Self::Meta => "meta",
        })
    }
}

/// The row that a sealed value is bound to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) table: Table,
    pub(super) row: i64,
    /// What else tells rows of one owner apart; zeros where nothing does.
    pub(super) detail: [u8; 16],
}

impl Place {
    pub(super) const fn row(table: Table, row: i64) -> Self {
        Self { table, row, detail: [0; 16] }
    }
}

/// Opaque content in the clear, on its way into or out of the store. `Debug` shows its size only.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Document {
    /// The version of the content's own form, so that an older one can be read by a newer program.
    pub format: u8,
    /// The content.
    pub bytes: Vec<u8>,
}

impl Document {
    /// A document.
    pub const fn new(format: u8, bytes: Vec<u8>) -> Self {
        Self { format, bytes }
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Document(format {}, {} bytes)", self.format, self.bytes.len())
    }
}

/// A key that contents are sealed under: a patient's, or the store's own.
#[derive(Clone)]
pub struct SealingKey(Arc<KeyParts>);

struct KeyParts {
    id: i64,
    aead: LessSafeKey,
    wrapped: Vec<u8>,
}

impl SealingKey {
    /// The patient's row id, 0 for the store's own key.
    pub fn id(&self) -> i64 {
        self.0.id
    }

    /// The key as it stands in the store.
    pub(super) fn wrapped(&self) -> &[u8] {
        &self.0.wrapped
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({})", self.0.id)
    }
}

pub(super) fn aead(bytes: &[u8]) -> Result<LessSafeKey, StoreError> {
    Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).map_err(|_| StoreError::Form { table: Table::Keys })?))
}

/// Seals one value after another, drawing nonces many at a time.
pub(super) struct Sealer<'a> {
    keys: &'a Keys,
    nonces: [u8; NONCE_LEN * NONCES_AT_ONCE],
    next: usize,
    packer: Packer,
}

impl<'a> Sealer<'a> {
    pub(super) fn new(keys: &'a Keys) -> Self {
        Self { keys, nonces: [0; NONCE_LEN * NONCES_AT_ONCE], next: NONCES_AT_ONCE, packer: Packer::default() }
    }

    fn nonce(&mut self) -> Result<[u8; NONCE_LEN], StoreError> {
        if self.next >= NONCES_AT_ONCE {
            self.keys.random.fill(&mut self.nonces).map_err(|_| StoreError::Random)?;
            self.next = 0;
        }
        let nonce = self.nonces.as_chunks::<NONCE_LEN>().0.get(self.next).copied().ok_or(StoreError::Random)?;
        self.next += 1;
        Ok(nonce)
    }

    pub(super) fn seal(&mut self, key: &SealingKey, place: Place, document: &Document) -> Result<Vec<u8>, StoreError> {
        let nonce = self.nonce()?;
        let packed = self.packer.pack(place.table, &document.bytes);
        let (form, content) = packed.map_or((PLAIN, document.bytes.as_slice()), |(With(number), packed)| (PACKED + number, packed));
        encrypt(&key.0.aead, nonce, header(form, document.format, key.0.id), place, content)
    }
}

/// Seals a key under a master key, with how manieth that is.
pub(super) fn wrap(random: &SystemRandom, aead: &LessSafeKey, place: Place, key: &[u8], number: i64) -> Result<Vec<u8>, StoreError> {
    let mut nonce = [0; NONCE_LEN];
    random.fill(&mut nonce).map_err(|_| StoreError::Random)?;
    encrypt(aead, nonce, header(PLAIN, 0, number), place, key)
}

/// A key that was never drawn before.
fn new_key(random: &SystemRandom) -> Result<[u8; KEY_BYTES], StoreError> {
    let mut bytes = [0; KEY_BYTES];
    random.fill(&mut bytes).map_err(|_| StoreError::Random)?;
    Ok(bytes)
}

fn encrypt(aead: &LessSafeKey, nonce: [u8; NONCE_LEN], header: [u8; HEADER_BYTES], place: Place, content: &[u8]) -> Result<Vec<u8>, StoreError> {
    let mut sealed = Vec::with_capacity(HEADER_BYTES + NONCE_LEN + content.len() + TAG_BYTES);
    sealed.extend_from_slice(&header);
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(content);
    let failed = || StoreError::Form { table: place.table };
    let body = sealed.get_mut(HEADER_BYTES + NONCE_LEN..).ok_or_else(failed)?;
    let tag = aead.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), bound_to(&header, place), body).map_err(|_| failed())?;
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

fn header(form: u8, format: u8, key_id: i64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    for (to, from) in header.iter_mut().zip([form, format].into_iter().chain(key_id.to_be_bytes())) {
        *to = from;
    }
    header
}

fn bound_to(header: &[u8; HEADER_BYTES], place: Place) -> Aad<[u8; HEADER_BYTES + 25]> {
    let mut bytes = [0; HEADER_BYTES + 25];
    let parts = header.iter().copied().chain([place.table as u8]).chain(place.row.to_be_bytes()).chain(place.detail);
    for (to, from) in bytes.iter_mut().zip(parts) {
        *to = from;
    }
    Aad::from(bytes)
}

/// The key id in a sealed value's header; in a wrapped key's, how manieth the master key is.
pub(super) fn key_id(table: Table, sealed: &[u8]) -> Result<i64, StoreError> {
    match sealed.first_chunk::<HEADER_BYTES>() {
        Some([PLAIN..=u8::MAX, _, id @ ..]) => Ok(i64::from_be_bytes(*id)),
        _ => Err(StoreError::Form { table }),
    }
}

/// Opens a sealed value in its own memory.
pub(super) fn unseal(key: &SealingKey, place: Place, sealed: Vec<u8>) -> Result<Document, StoreError> {
    unseal_with(&key.0.aead, place, sealed)
}

pub(super) fn unseal_with(aead: &LessSafeKey, place: Place, mut sealed: Vec<u8>) -> Result<Document, StoreError> {
    let table = place.table;
    let header = *sealed.first_chunk::<HEADER_BYTES>().ok_or(StoreError::Form { table })?;
    let [form @ PLAIN..=u8::MAX, format, ..] = header else { return Err(StoreError::Form { table }) };
    let nonce = *sealed.get(HEADER_BYTES..).and_then(<[u8]>::first_chunk::<NONCE_LEN>).ok_or(StoreError::Form { table })?;
    let content = HEADER_BYTES + NONCE_LEN;
    if sealed.len() < content + TAG_BYTES {
        return Err(StoreError::Form { table });
    }
    let length = aead
        .open_within(Nonce::assume_unique_for_key(nonce), bound_to(&header, place), &mut sealed, content..)
        .map_err(|_| StoreError::Unsealed { table })?
        .len();
    sealed.truncate(length);
    let bytes = match form.checked_sub(PACKED) {
        Some(number) => unpack(&sealed, With(number)).ok_or(StoreError::Form { table })?,
        None => sealed,
    };
    Ok(Document { format, bytes })
}

/// The keys of an open store.
pub(super) struct Keys {
    pub(super) random: SystemRandom,
    pub(super) own: SealingKey,
    wrapping: RwLock<Arc<Wrapping>>,
    pub(super) look_up: LookUpKey,
}

/// What stands in `meta` of keys: the two that a store is made with, wrapped; and what is left of putting another master key in the place of the first.
#[derive(Clone, Debug)]
pub(super) struct WrappedKeys {
    pub(super) own: Vec<u8>,
    pub(super) look_up: Vec<u8>,
    /// The master key before, wrapped by the present one, while some keys are still wrapped by it.
    pub(super) before: Option<Vec<u8>>,
    /// When the present master key took its place, and by whose order.
    pub(super) replaced: Option<Vec<u8>>,
}

/// That a master key took the place of the one before.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Replaced {
    /// When.
    pub at: Timestamp,
    /// The user of the operating system by whose order.
    pub uid: u32,
    /// The name that their session went by; a claim.
    pub login: Option<String>,
}

const OWN_PLACE: Place = Place::row(Table::Keys, OWN_KEY);
/// Of stores whose look-ups are scattered.
const SCATTERED_LOOK_UP_PLACE: Place = Place::row(Table::Keys, -1);
/// Its own, so that a program which knows only of scattered look-ups does not open the store: it would find nobody in it.
const LOOK_UP_PLACE: Place = Place::row(Table::Keys, -2);
const REPLACED_PLACE: Place = Place::row(Table::Meta, 1);

impl Keys {
    /// Makes the keys of a new store.
    pub(super) fn generate(master: &MasterKey) -> Result<WrappedKeys, StoreError> {
        let random = SystemRandom::new();
        let master = aead(master.bytes())?;
        let wrapped = |place| wrap(&random, &master, place, &new_key(&random)?, 0);
        Ok(WrappedKeys { own: wrapped(OWN_PLACE)?, look_up: wrapped(LOOK_UP_PLACE)?, before: None, replaced: None })
    }

    /// Opens the keys of a store; they are the canary that tells a wrong master key.
    pub(super) fn open(master: &MasterKey, wrapped: WrappedKeys) -> Result<Self, StoreError> {
        let wrong = |error| if matches!(error, StoreError::Unsealed { .. } | StoreError::KeyReplaced) { StoreError::WrongKey } else { error };
        let wrapping = Wrapping::open(master.clone(), wrapped.own, wrapped.before).map_err(wrong)?;
        let own = wrapping.unwrap(OWN_PLACE, &wrapping.own).map_err(wrong)?;
        let look_up_place = look_up_place(&wrapping, &wrapped.look_up);
        let look_up = wrapping.unwrap(look_up_place, &wrapped.look_up).map_err(wrong)?;
        let own = SealingKey(Arc::new(KeyParts { id: OWN_KEY, aead: aead(&own)?, wrapped: wrapping.own.clone() }));
        let look_up = LookUpKey::new(&look_up, look_up_place.row == LOOK_UP_PLACE.row);
        Ok(Self { random: SystemRandom::new(), own, wrapping: RwLock::new(Arc::new(wrapping)), look_up })
    }

    /// What keys are wrapped by.
    pub(super) fn wrapping(&self) -> Arc<Wrapping> {
        Arc::clone(&self.wrapping.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Goes by what stands in the store now.
    pub(super) fn wrap_with(&self, wrapping: Wrapping) {
        *self.wrapping.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(wrapping);
    }

    /// Has another master key take the place of the present one: what it wraps keys with, and what has to stand in `meta`.
    pub(super) fn followed_by(&self, next: MasterKey, wrapped: WrappedKeys, replaced: &Replaced) -> Result<(Wrapping, WrappedKeys), StoreError> {
        let now = self.wrapping();
        let look_up_place = look_up_place(&now, &wrapped.look_up);
        let (wrapping, anew, before) = now.followed_by(next, &self.random, &[(OWN_PLACE, wrapped.own), (look_up_place, wrapped.look_up)])?;
        let [own, look_up] = <[Vec<u8>; 2]>::try_from(anew).map_err(|_| StoreError::Form { table: Table::Keys })?;
        let form = |_| StoreError::Form { table: Table::Meta };
        let document = Document::new(1, serde_json::to_vec(replaced).map_err(form)?);
        let replaced = Sealer::new(self).seal(&self.own, REPLACED_PLACE, &document)?;
        Ok((wrapping, WrappedKeys { own, look_up, before: Some(before), replaced: Some(replaced) }))
    }

    /// When a master key took the place of the one before, and by whose order.
    pub(super) fn replaced(&self, stands: Vec<u8>) -> Result<Replaced, StoreError> {
        let document = unseal(&self.own, REPLACED_PLACE, stands)?;
        serde_json::from_slice(&document.bytes).map_err(|_| StoreError::Form { table: Table::Meta })
    }

    /// A new data key for the patient with this row id.
    pub(super) fn new_patient_key(&self, patient: i64) -> Result<SealingKey, StoreError> {
        let bytes = new_key(&self.random)?;
        let wrapped = self.wrapping().wrap(&self.random, patient_place(patient), &bytes)?;
        Ok(SealingKey(Arc::new(KeyParts { id: patient, aead: aead(&bytes)?, wrapped })))
    }

    /// A patient's data key as it stands in their row.
    pub(super) fn unwrap(&self, patient: i64, wrapped: Vec<u8>) -> Result<SealingKey, StoreError> {
        let bytes = self.wrapping().unwrap(patient_place(patient), &wrapped)?;
        Ok(SealingKey(Arc::new(KeyParts { id: patient, aead: aead(&bytes)?, wrapped })))
    }
}

/// Where a patient's data key stands.
pub(super) const fn patient_place(patient: i64) -> Place {
    Place::row(Table::Keys, patient)
}

/// Where the look-up key of a store stands: that tells of which kind its look-ups are.
fn look_up_place(wrapping: &Wrapping, look_up: &[u8]) -> Place {
    if wrapping.unwrap(LOOK_UP_PLACE, look_up).is_ok() { LOOK_UP_PLACE } else { SCATTERED_LOOK_UP_PLACE }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(‹secret›)")
    }
}

#[cfg(test)]
mod tests {
    use super::Document;
    use super::Keys;
    use super::LOOK_UP_PLACE;
    use super::Place;
    use super::Replaced;
    use super::SCATTERED_LOOK_UP_PLACE;
    use super::Sealer;
    use super::SealingKey;
    use super::StoreError;
    use super::Table;
    use super::WrappedKeys;
    use super::aead;
    use super::key_id;
    use super::unseal;
    use super::unseal_with;
    use super::wrap;
    use crate::store::look_up::LookUpKind;
    use crate::store::master_key::MasterKey;
    use crate::time::Timestamp;

    fn keys() -> Keys {
        let master = MasterKey::from_base64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        Keys::open(&master, Keys::generate(&master).unwrap()).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_and_nowhere_else() {
        let keys = keys();
        let key = keys.new_patient_key(77).unwrap();
        for document in [Document::new(3, b"SMITH^JANE".to_vec()), Document::new(3, b"SMITH^JANE".repeat(20))] {
            opens_in_its_place(&keys, &key, &document);
        }
    }

    fn opens_in_its_place(keys: &Keys, key: &SealingKey, document: &Document) {
        let place = Place::row(Table::Visits, 5);
        let sealed = Sealer::new(keys).seal(key, place, document).unwrap();
        assert_eq!(key_id(Table::Visits, &sealed).unwrap(), 77);
        assert!(!sealed.windows(5).any(|window| window == b"SMITH"));
        assert_eq!(unseal(key, place, sealed.clone()).unwrap(), *document);
        for elsewhere in [Place::row(Table::Visits, 6), Place::row(Table::Patients, 5), Place { detail: [1; 16], ..place }] {
            assert!(matches!(unseal(key, elsewhere, sealed.clone()), Err(StoreError::Unsealed { .. })));
        }
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(unseal(key, place, changed).is_err(), "byte {at} may be changed");
        }
        for length in 0..sealed.len() {
            assert!(unseal(key, place, sealed[..length].to_vec()).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn nonces_are_never_drawn_twice() {
        let keys = keys();
        let mut sealer = Sealer::new(&keys);
        let nonces: std::collections::HashSet<_> = (0..1000).map(|_| sealer.nonce().unwrap()).collect();
        assert_eq!(nonces.len(), 1000);
    }

    #[test]
    fn a_patient_key_opens_only_as_the_key_of_that_patient() {
        let keys = keys();
        let key = keys.new_patient_key(8).unwrap();
        assert!(keys.unwrap(8, key.wrapped().to_vec()).is_ok());
        assert!(keys.unwrap(9, key.wrapped().to_vec()).is_err());
    }

    #[test]
    fn a_store_from_before_keeps_its_hashes() {
        let master = MasterKey::from_base64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        let made = Keys::generate(&master).unwrap();
        let key = unseal_with(&aead(master.bytes()).unwrap(), LOOK_UP_PLACE, made.look_up.clone()).unwrap().bytes;
        let random = ring::rand::SystemRandom::new();
        let scattered = wrap(&random, &aead(master.bytes()).unwrap(), SCATTERED_LOOK_UP_PLACE, &key, 0).unwrap();
        let now = Keys::open(&master, made.clone()).unwrap();
        let scattered = WrappedKeys { look_up: scattered, ..made };
        let before = Keys::open(&master, scattered.clone()).unwrap();
        let parts: [&[u8]; 2] = [b"GHH", b"V10000"];
        let hash = |keys: &Keys| keys.look_up.hash(LookUpKind::Visit, &parts).0;
        assert_ne!(hash(&now)[..4], hash(&before)[..4]);
        assert_eq!(hash(&now)[4..], hash(&before)[4..]);
        // Also under another master key.
        let next = MasterKey::from_base64("/wECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        let replaced = Replaced { at: Timestamp::MIN, uid: 0, login: None };
        let (_, anew) = before.followed_by(next.clone(), scattered, &replaced).unwrap();
        assert!(matches!(Keys::open(&master, anew.clone()), Err(StoreError::WrongKey)));
        let opened = Keys::open(&next, anew.clone()).unwrap();
        assert_eq!((hash(&opened), opened.replaced(anew.replaced.unwrap()).unwrap()), (hash(&before), replaced));
    }

    #[test]
    fn no_debug_shows_a_key_or_a_content() {
        let keys = keys();
        let shown = format!("{keys:?} {:?} {:?}", keys.own, Document::new(1, b"SMITH".to_vec()));
        assert_eq!(shown, "Keys(‹secret›) SealingKey(0) Document(format 1, 5 bytes)");
    }
}
