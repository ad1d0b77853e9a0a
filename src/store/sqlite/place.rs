//! The file of a store, and what lies beside it: its write-ahead log, and the lock that keeps other daemons out.
//!
//! It opens no database, and makes nothing but the file that is locked.

use std::ffi::OsString;
use std::fs::File;
use std::fs::TryLockError;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::Access;

use crate::store::error::StoreError;

/// The file that keeps other daemons out of a store.
pub(in crate::store) fn lock_file(file: &Path) -> PathBuf {
    beside(file, ".lock")
}

/// The file of this name with something more at its end.
pub(super) fn beside(file: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(end);
    PathBuf::from(name)
}

/// The file beside the database that one daemon holds locked; the lock ends with its process, however that ends.
pub(super) fn lock(store: &Path) -> Result<File, StoreError> {
    let path = lock_file(store);
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|source| StoreError::LockFile { path: path.clone(), source })?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(StoreError::LockFile { path, source }),
            Err(TryLockError::WouldBlock) => {}
        }
        // Who only looks shares it, for a moment; a daemon does not.
        match file.try_lock_shared() {
            Ok(()) => file.unlock().map_err(|source| StoreError::LockFile { path: path.clone(), source })?,
            Err(TryLockError::Error(source)) => return Err(StoreError::LockFile { path, source }),
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked { path }),
        }
    }
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

/// Whether nobody can write the file where it lies, and nothing has: a copy on a medium that is read only, or in somebody else's folder. It has no log, and
/// what SQLite keeps beside a file for whoever reads it cannot be made there.
pub(super) fn is_still(file: &Path) -> bool {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    !beside(file, "-wal").exists() && rustix::fs::access(folder, Access::WRITE_OK).is_err()
}

/// The file as a URI that says so.
pub(super) fn still_uri(file: &Path) -> String {
    let name = file.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    format!("file:{name}?immutable=1")
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use rusqlite::Connection;
    use rusqlite::OpenFlags;

    use super::is_locked;
    use super::lock;
    use super::lock_file;
    use super::still_uri;
    use crate::store::error::StoreError;

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

    #[test]
    fn a_file_of_any_name_is_read_where_nothing_can_be_made_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a copy?of #1 at 50%.db");
        let made = Connection::open(&file).unwrap();
        made.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE notes (text TEXT)").unwrap();
        drop(made);
        let read = Connection::open_with_flags(still_uri(&file), OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI).unwrap();
        assert_eq!(read.query_row("SELECT count(*) FROM notes", [], |row| row.get::<_, i64>(0)).unwrap(), 0);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "it needs nothing beside it");
    }
}
