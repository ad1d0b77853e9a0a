//! The file of a store, and what lies beside it: its write-ahead log, and the lock that keeps other daemons out.
//!
//! It opens no database, and makes nothing but the file that is locked.

use std::ffi::OsString;
use std::fs::File;
use std::fs::TryLockError;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use crate::store::error::StoreError;

/// How often a lock is tried that is shared by somebody who only looks, and how long to leave them to it in between. Whoever shares it for longer than all
/// of that, which is a second, keeps it.
const TRIES: u32 = 1000;
const BETWEEN_TRIES: Duration = Duration::from_millis(1);
/// As many links as Linux follows.
const MOST_LINKS: usize = 40;

/// The file that keeps other daemons out of a store.
pub(in crate::store) fn lock_file(file: &Path) -> PathBuf {
    beside(file, ".lock")
}

/// The file that is meant, whether or not it is there yet. Links among its folders need not be followed: what lies beside it is reached through them too.
fn behind_links(file: &Path) -> PathBuf {
    let mut file = file.to_owned();
    for _ in 0..MOST_LINKS {
        let Ok(target) = std::fs::read_link(&file) else { break };
        file = file.parent().map(|folder| folder.join(&target)).unwrap_or(target);
    }
    file
}

/// The socket on which the daemon of a store takes orders.
pub(in crate::store) fn socket_file(file: &Path) -> PathBuf {
    beside(file, ".sock")
}

/// The file of this name with something more at its end: one and the same, by whatever links the first is reached.
pub(super) fn beside(file: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(behind_links(file));
    name.push(end);
    PathBuf::from(name)
}

/// The file beside the database that one daemon holds locked; the lock ends with its process, however that ends.
pub(super) fn lock(store: &Path) -> Result<File, StoreError> {
    let path = lock_file(store);
    let file = open_lock(&path, store).map_err(|source| StoreError::LockFile { path: path.clone(), source })?;
    for _ in 0..TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(StoreError::LockFile { path, source }),
            Err(TryLockError::WouldBlock) => {}
        }
        // Who only looks shares it, for a moment; a daemon does not.
        match file.try_lock_shared() {
            Ok(()) => file.unlock().map_err(|source| StoreError::LockFile { path: path.clone(), source })?,
            Err(TryLockError::Error(source)) => return Err(StoreError::LockFile { path, source }),
            Err(TryLockError::WouldBlock) => break,
        }
        std::thread::sleep(BETWEEN_TRIES);
    }
    Err(StoreError::Locked { path })
}

/// It belongs to whoever the database belongs to: who gives a command need not be who runs the daemon.
fn open_lock(path: &Path, store: &Path) -> io::Result<File> {
    // Where locks are another system's, sharing one asks for a file that may be read.
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let file = options.mode(0o600).open(path)?;
        let own = file.metadata()?;
        if let Ok(store) = std::fs::metadata(store)
            && own.uid() != store.uid()
        {
            // Only the superuser may, and only there is it needed.
            drop(std::os::unix::fs::fchown(&file, Some(store.uid()), Some(store.gid())));
        }
        Ok(file)
    }
    #[cfg(not(unix))]
    options.open(path)
}

/// Whether a daemon holds it; nothing where that cannot be told.
pub(in crate::store) fn is_locked(file: &Path) -> Option<bool> {
    match File::open(lock_file(file)) {
        Ok(file) => match file.try_lock_shared() {
            Ok(()) => Some(false),
            Err(TryLockError::WouldBlock) => Some(true),
            Err(TryLockError::Error(_)) => None,
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(false),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::is_locked;
    use super::lock;
    use super::lock_file;
    use crate::store::error::StoreError;

    #[cfg(unix)]
    #[test]
    fn a_store_that_is_reached_by_two_names_has_one_lock() {
        use std::os::unix::fs::symlink;

        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("data"), folder.path().join("link"));
        std::fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        let held = lock(&link.join("wardroom.db")).unwrap();
        assert!(matches!(lock(&real.join("wardroom.db")), Err(StoreError::Locked { .. })), "before the file is there");
        drop(held);
        symlink("data/wardroom.db", folder.path().join("other.db")).unwrap();
        let held = lock(&folder.path().join("other.db")).unwrap();
        File::create(real.join("wardroom.db")).unwrap();
        assert!(matches!(lock(&folder.path().join("other.db")), Err(StoreError::Locked { .. })), "the file was made through the link");
        assert_eq!(is_locked(&link.join("wardroom.db")), Some(true));
        assert!(matches!(lock(&real.join("wardroom.db")), Err(StoreError::Locked { .. })));
        drop(held);
    }

    #[test]
    fn a_store_is_one_daemons_and_looking_whose_keeps_nobody_out() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("wardroom.db");
        assert_eq!(is_locked(&store), Some(false), "there is none yet");
        let held = lock(&store).unwrap();
        assert_eq!(is_locked(&store), Some(true));
        assert!(matches!(lock(&store), Err(StoreError::Locked { .. })));
        drop(held);
        assert_eq!(is_locked(&store), Some(false));
        // Somebody who looks again and again, at the very moment when a daemon starts.
        std::thread::scope(|threads| {
            threads.spawn(|| (0..2_000).for_each(|_| drop(File::open(lock_file(&store)).unwrap().try_lock_shared())));
            for _ in 0..200 {
                lock(&store).unwrap();
            }
        });
    }
}
