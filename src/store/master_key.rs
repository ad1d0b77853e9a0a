//! The master key: 32 bytes outside the database, without which nothing in it opens.
//!
//! It stands in a file as base64, readable by the daemon's user (and group) alone. One that is about to take its place lies beside it (`.next`), and one that
//! it took the place of stays there (`.until-` and a time), for backups from before. It is never logged, and never written into the store but sealed by the
//! one that follows it, for as long as that takes its place.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SecureRandom;
use ring::rand::SystemRandom;
use secrecy::ExposeSecret;
use secrecy::SecretBox;
use secrecy::SecretString;

use crate::time::Timestamp;

/// How long every key is.
pub(super) const KEY_BYTES: usize = 32;

/// What the name of a file ends with whose key is about to take another's place.
const NEXT: &str = ".next";
/// And of one whose place was taken, before the time.
const UNTIL: &str = ".until-";

/// The key that wraps all other keys.
#[derive(Clone)]
pub struct MasterKey {
    bytes: Arc<SecretBox<[u8; KEY_BYTES]>>,
    /// The file that it belongs into.
    file: Option<PathBuf>,
    /// Whether it lies beside that file yet.
    is_beside: bool,
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(‹secret›)")
    }
}

/// Why there is no master key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MasterKeyError {
    /// It is not base64 of 32 bytes.
    #[error("the key is not 32 bytes in base64\nhint: make one with `openssl rand -base64 32`")]
    Form,
    /// The file does not hold base64 of 32 bytes.
    #[error("the key file `{}` does not hold 32 bytes in base64\nhint: make one with `openssl rand -base64 32`", path.display())]
    FileForm {
        /// The key file.
        path: PathBuf,
    },
    /// Everybody may read or write it.
    #[error("the key file `{}` is open to every user of this machine\nhint: chmod 600 it, and make a new key if others may have read it", path.display())]
    Open {
        /// The key file.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("the key file `{}` cannot be read", path.display())]
    Read {
        /// The key file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It cannot be made.
    #[error("the key file `{}` cannot be made\nhint: its folder must be there, and the daemon's user must be allowed to write in it", path.display())]
    Create {
        /// The key file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl MasterKeyError {
    /// Nothing here passes by itself.
    pub const fn is_transient(&self) -> bool {
        false
    }
}

impl MasterKey {
    /// Reads a key from its text.
    ///
    /// # Errors
    /// When it is not 32 bytes in base64.
    pub fn from_base64(text: &str) -> Result<Self, MasterKeyError> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| MasterKeyError::Form)?;
        let bytes: [u8; KEY_BYTES] = bytes.try_into().map_err(|_| MasterKeyError::Form)?;
        Ok(Self::of(bytes, None))
    }

    fn of(bytes: [u8; KEY_BYTES], file: Option<PathBuf>) -> Self {
        Self { bytes: Arc::new(SecretBox::new(Box::new(bytes))), file, is_beside: false }
    }

    /// Reads a key from its file.
    ///
    /// # Errors
    /// When the file is missing, open to every user, or holds no key.
    pub fn load(path: &Path) -> Result<Self, MasterKeyError> {
        let failed = |source| MasterKeyError::Read { path: path.to_owned(), source };
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let file = fs::metadata(path).map_err(failed)?;
            if file.is_dir() {
                return Err(failed(io::ErrorKind::IsADirectory.into()));
            }
            if file.permissions().mode() & 0o007 != 0 {
                return Err(MasterKeyError::Open { path: path.to_owned() });
            }
        }
        let text = fs::read(path).map_err(failed)?;
        let form = || MasterKeyError::FileForm { path: path.to_owned() };
        let key = Self::from_base64(str::from_utf8(&text).map_err(|_| form())?).map_err(|_| form())?;
        // Whatever takes its place does so behind the links that lead to it.
        Ok(Self { file: Some(fs::canonicalize(path).map_err(failed)?), ..key })
    }

    /// Reads a key from its file, or makes one there with mode 0600. Only for a store that does not exist yet: see [`exists`](crate::store::exists).
    ///
    /// # Errors
    /// Those of [`MasterKey::load`]; or the file cannot be made.
    pub fn load_or_create(path: &Path) -> Result<Self, MasterKeyError> {
        Self::load_or_create_like(path, None)
    }

    fn load_or_create_like(path: &Path, other: Option<&Path>) -> Result<Self, MasterKeyError> {
        match path.try_exists() {
            Ok(true) => Self::load(path),
            Ok(false) => Self::create(path, other),
            Err(source) => Err(MasterKeyError::Read { path: path.to_owned(), source }),
        }
    }

    fn create(path: &Path, other: Option<&Path>) -> Result<Self, MasterKeyError> {
        let failed = |source| MasterKeyError::Create { path: path.to_owned(), source };
        let mut bytes = [0; KEY_BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| failed(io::Error::other("no random bytes")))?;
        let key = Self::of(bytes, None);
        key.save(path, other).map_err(failed)?;
        Ok(Self { file: Some(fs::canonicalize(path).map_err(failed)?), ..key })
    }

    /// Writes it into a file that is not there yet, for whoever may read the other one: whoever rotates need not be who runs the daemon.
    fn save(&self, path: &Path, other: Option<&Path>) -> io::Result<()> {
        // A temporary file has mode 0600, and is given its name only when it is whole and on disk.
        let mut file = tempfile::NamedTempFile::new_in(folder_of(path))?;
        let text = SecretString::from(STANDARD.encode(self.bytes()));
        file.write_all(text.expose_secret().as_bytes())?;
        file.write_all(b"\n")?;
        #[cfg(unix)]
        if let Some(other) = other.map(fs::metadata).transpose()? {
            use std::os::unix::fs::MetadataExt;
            use std::os::unix::fs::PermissionsExt;
            let own = file.as_file().metadata()?;
            if (own.uid(), own.gid()) != (other.uid(), other.gid()) {
                std::os::unix::fs::fchown(file.as_file(), Some(other.uid()), Some(other.gid()))?;
            }
            file.as_file().set_permissions(fs::Permissions::from_mode(other.mode() & 0o770))?;
        }
        file.as_file().sync_all()?;
        file.persist_noclobber(path).map_err(|error| error.error)?;
        sync_folder(path)
    }

    /// The key that is to take the place of this one: that in the file which is named, made where it is not there; else one beside this one's file. `None`
    /// where this one stands in no file.
    ///
    /// # Errors
    /// When it can neither be read nor made.
    pub(super) fn successor(&self, to: Option<&Path>) -> Result<Option<Self>, MasterKeyError> {
        if let Some(to) = to {
            return Self::load_or_create_like(to, self.file()).map(Some);
        }
        let Some(file) = &self.file else { return Ok(None) };
        // One that lies there already may have taken over in the store: it is never written over.
        let next = Self::load_or_create_like(&with_end(file, NEXT), Some(file))?;
        Ok(Some(Self { file: Some(file.clone()), is_beside: true, ..next }))
    }

    /// Keys that may have taken the place of this one while it was read, or were about to.
    pub(super) fn others(&self) -> Vec<Self> {
        let Some(file) = &self.file else { return Vec::new() };
        let next = Self::load(&with_end(file, NEXT)).map(|next| Self { file: Some(file.clone()), is_beside: true, ..next });
        next.into_iter().chain(Self::load(file)).collect()
    }

    /// The file that it belongs into, where it stands in a file.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Whether it lies beside that file yet.
    pub const fn is_beside(&self) -> bool {
        self.is_beside
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }

    /// Puts a key that lies beside its place there, and the one that stood there aside, under a name that says until when it was in use.
    ///
    /// # Errors
    /// When a file cannot be written or renamed: the key then lies where it lay, and this may be repeated.
    pub(super) fn put_in_place(&self, since: Timestamp) -> Result<Self, MasterKeyError> {
        let (Some(file), true) = (&self.file, self.is_beside) else { return Ok(self.clone()) };
        let failed = |source| MasterKeyError::Create { path: file.clone(), source };
        let before = Self::load(file)?;
        if !before.is_same(self) {
            let aside = old_file(file, since);
            match before.save(&aside, Some(file)) {
                // It was done before, and did not come to its end.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && Self::load(&aside)?.is_same(&before) => {}
                saved => saved.map_err(failed)?,
            }
            fs::rename(with_end(file, NEXT), file).and_then(|()| sync_folder(file)).map_err(failed)?;
        }
        Ok(Self { is_beside: false, ..self.clone() })
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_BYTES] {
        self.bytes.expose_secret()
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// A new name is there after a power cut only once its folder is on disk.
fn sync_folder(path: &Path) -> io::Result<()> {
    fs::File::open(folder_of(path))?.sync_all()
}

fn with_end(file: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(end);
    PathBuf::from(name)
}

/// Whether a file is mounted by itself, as containers mount single files: nothing can be renamed over it.
pub(super) fn is_mounted(file: &Path) -> bool {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::AtFlags;
        use rustix::fs::CWD;
        use rustix::fs::StatxAttributes;
        use rustix::fs::StatxFlags;
        let told = rustix::fs::statx(CWD, file, AtFlags::empty(), StatxFlags::empty());
        told.is_ok_and(|told| told.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _file = file;
        false
    }
}

/// A key that lies beside this file, made for a rotation: of one that did not begin, the next one takes it.
pub fn made_beside(file: &Path) -> Option<PathBuf> {
    Some(with_end(file, NEXT)).filter(|next| next.exists())
}

/// Where a key lies whose place in a file was taken at this time.
pub fn old_file(file: &Path, until: Timestamp) -> PathBuf {
    with_end(file, &format!("{UNTIL}{}", until.to_jiff().strftime("%Y-%m-%dT%H-%M-%S%.6fZ")))
}

/// The keys beside a file whose place in it was taken.
pub fn old_files(file: &Path) -> Vec<PathBuf> {
    let start = with_end(file, UNTIL);
    let Some(start) = start.file_name() else { return Vec::new() };
    let all = fs::read_dir(folder_of(file)).into_iter().flatten().flatten();
    let ours = all.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(start.as_encoded_bytes()));
    let mut files: Vec<PathBuf> = ours.map(|entry| entry.path()).collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::MasterKey;
    use super::MasterKeyError;
    use super::old_files;
    use crate::time::Timestamp;

    fn mode(path: &std::path::Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_key_takes_the_place_of_another_which_stays_beside_it_whenever_that_is_interrupted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wardroom.key");
        let at = Timestamp::from_micros(1_795_461_600_000_000);
        let old = MasterKey::load_or_create(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let next = old.successor(None).unwrap().unwrap();
        assert!(next.is_beside() && !next.is_same(&old) && MasterKey::load(&path).unwrap().is_same(&old));
        assert!(old.successor(None).unwrap().unwrap().is_same(&next), "it is not written over");
        assert!(old.others()[0].is_same(&next) && old.others()[0].is_beside());
        // As if it had ended here: the old one is saved, and nothing more.
        old.save(&super::old_file(&path, at), Some(&path)).unwrap();
        let placed = old.others()[0].put_in_place(at).unwrap();
        assert!(!placed.is_beside() && MasterKey::load(&path).unwrap().is_same(&next));
        assert!(next.put_in_place(at).unwrap().is_same(&next), "once more changes nothing");
        let kept = old_files(&path);
        assert_eq!(
            kept.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect::<Vec<_>>(),
            ["wardroom.key.until-2026-11-23T19-20-00.000000Z"]
        );
        assert!(MasterKey::load(&kept[0]).unwrap().is_same(&old));
        assert_eq!(
            (mode(&path), mode(&kept[0]), folder.path().read_dir().unwrap().count()),
            (0o640, 0o640, 2),
            "whoever could read the old one can read both"
        );
        // What lies aside is never written over.
        let third = next.successor(None).unwrap().unwrap();
        assert!(third.put_in_place(at).is_err() && MasterKey::load(&path).unwrap().is_same(&next));
        assert!(!third.put_in_place(Timestamp::MIN).unwrap().is_beside() && old_files(&path).len() == 2);
        // One that stands in no file has nothing beside it; wherever it is named, it is read or made.
        let given = MasterKey::from_base64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        assert!(given.successor(None).unwrap().is_none() && given.others().is_empty());
        let named = given.successor(Some(&folder.path().join("other.key"))).unwrap().unwrap();
        assert!(!named.is_beside() && given.successor(named.file()).unwrap().unwrap().is_same(&named));
    }

    #[test]
    fn a_key_is_made_once_for_its_owner_alone_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wardroom.key");
        let made = MasterKey::load_or_create(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(MasterKey::load_or_create(&path).unwrap().bytes(), made.bytes());
        assert_eq!(format!("{made:?}"), "MasterKey(‹secret›)");
    }

    #[test]
    fn a_key_file_that_others_may_read_or_that_holds_no_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wardroom.key");
        MasterKey::load_or_create(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(MasterKey::load(&path), Err(MasterKeyError::Open { .. })));
        for content in ["", "not base64 at all", "c2hvcnQ="] {
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(MasterKey::load_or_create(&path), Err(MasterKeyError::FileForm { .. })), "{content:?}");
        }
        assert!(matches!(MasterKey::load(&folder.path().join("none")), Err(MasterKeyError::Read { .. })));
        assert!(matches!(MasterKey::from_base64("c2hvcnQ="), Err(MasterKeyError::Form)));
    }
}
