//! The master key: 32 bytes outside the database, without which nothing in it opens.
//!
//! It stands in a file as base64, readable by the daemon's user (and group) alone. It is never logged and never written into the store.

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

/// How long every key is.
pub(super) const KEY_BYTES: usize = 32;

/// The key that wraps all other keys.
#[derive(Clone)]
pub struct MasterKey(Arc<SecretBox<[u8; KEY_BYTES]>>);

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
        Ok(Self(Arc::new(SecretBox::new(Box::new(bytes)))))
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
        Self::from_base64(str::from_utf8(&text).map_err(|_| form())?).map_err(|_| form())
    }

    /// Reads a key from its file, or makes one there with mode 0600. Only for a store that does not exist yet: see [`exists`](crate::store::exists).
    ///
    /// # Errors
    /// Those of [`MasterKey::load`]; or the file cannot be made.
    pub fn load_or_create(path: &Path) -> Result<Self, MasterKeyError> {
        match path.try_exists() {
            Ok(true) => Self::load(path),
            Ok(false) => Self::create(path),
            Err(source) => Err(MasterKeyError::Read { path: path.to_owned(), source }),
        }
    }

    fn create(path: &Path) -> Result<Self, MasterKeyError> {
        let failed = |source| MasterKeyError::Create { path: path.to_owned(), source };
        let mut bytes = [0; KEY_BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| failed(io::Error::other("no random bytes")))?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        // A temporary file has mode 0600, and is given its name only when it is whole and on disk.
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        file.write_all(STANDARD.encode(bytes).as_bytes()).and_then(|()| file.write_all(b"\n")).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist_noclobber(path).map_err(|error| failed(error.error))?;
        fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Ok(Self(Arc::new(SecretBox::new(Box::new(bytes)))))
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_BYTES] {
        self.0.expose_secret()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::MasterKey;
    use super::MasterKeyError;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wardroom.key");
        let made = MasterKey::load_or_create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
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
