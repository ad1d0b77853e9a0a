//! What the writer's connections speak to the system through ([SQLite: the OS interface, or VFS](https://sqlite.org/vfs.html)).
//!
//! The log is written in one piece a commit ([`log`]), and who writes it back may have the database synced on the way ([`database`]). All other files, and
//! all locks, are the system's own layer's, as without this one: who reads or writes back beside the writer need not know of it. It never takes a sync
//! away. This is the one module with unsafe code: SQLite asks for it in C.
#![expect(unsafe_code, reason = "SQLite's layer to the system is a table of C functions")]

mod database;
mod log;

use std::ffi::CStr;
use std::ffi::c_int;
use std::path::Path;
use std::ptr;
use std::sync::OnceLock;

use rusqlite::Connection;
use rusqlite::OpenFlags;
use rusqlite::ffi;
use rusqlite::ffi::sqlite3_file;
use rusqlite::ffi::sqlite3_vfs;

pub(super) use database::in_parts;

const NAME: &CStr = c"gathered";

/// Opens a connection whose commits write the log in one piece.
pub(super) fn open(file: &Path) -> Result<Connection, rusqlite::Error> {
    register()?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags_and_vfs(file, flags, NAME)?;
    connection.pragma_update(None, "cache_spill", 0)?;
    Ok(connection)
}

/// Makes the layer known to SQLite, once in this process, on top of the system's own.
fn register() -> Result<(), rusqlite::Error> {
    static OUTCOME: OnceLock<c_int> = OnceLock::new();
    let outcome = *OUTCOME.get_or_init(|| {
        // SAFETY: without a name this gives SQLite's layer for this system, which lives as long as the process.
        let own = unsafe { ffi::sqlite3_vfs_find(ptr::null()) };
        // SAFETY: the one above, or null, which is no reference.
        let Some(own_layer) = (unsafe { own.as_ref() }) else { return ffi::SQLITE_ERROR };
        let Some(length) = c_int::try_from(log::LENGTH).ok().and_then(|log| log.checked_add(own_layer.szOsFile)) else {
            return ffi::SQLITE_ERROR;
        };
        // All but opening is done by the functions of the own layer, which find what they need in `pAppData`, as there.
        let mut layer = *own_layer;
        layer.szOsFile = length;
        layer.pNext = ptr::null_mut();
        layer.zName = NAME.as_ptr();
        layer.xOpen = Some(open_file);
        // SAFETY: it is never taken back, and lives as long as the process; its name is a constant.
        unsafe { ffi::sqlite3_vfs_register(Box::leak(Box::new(layer)), 0) }
    });
    if outcome == ffi::SQLITE_OK { Ok(()) } else { Err(rusqlite::Error::SqliteFailure(ffi::Error::new(outcome), None)) }
}

/// Opens a log and a database for this layer, and every other file for the own one.
unsafe extern "C" fn open_file(
    _: *mut sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: as in `register`, where it was found.
    let own = unsafe { ffi::sqlite3_vfs_find(ptr::null()) };
    // SAFETY: as above.
    let Some(open) = (unsafe { own.as_ref() }).and_then(|layer| layer.xOpen) else { return ffi::SQLITE_CANTOPEN };
    // SAFETY: the caller's word to this function, handed on; there is room for what the own layer needs, wherever a log has it.
    let open_own = |file| unsafe { open(own, name, file, flags, out_flags) };
    if flags & ffi::SQLITE_OPEN_WAL != 0 {
        // SAFETY: SQLite gives memory of `szOsFile` bytes, as `register` has asked for.
        return unsafe { log::open(file, open_own) };
    }
    let outcome = open_own(file);
    if outcome == ffi::SQLITE_OK && flags & ffi::SQLITE_OPEN_MAIN_DB != 0 {
        // SAFETY: the own layer has opened it.
        unsafe { database::sync_in_parts(file) };
    }
    outcome
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rusqlite::Connection;
    use tempfile::TempDir;

    use super::database::n_unsynced;
    use super::in_parts;
    use super::log::MAX_GATHERED;
    use super::open;

    /// A store with a table of texts, its writer through this layer, and somebody else without it.
    fn store() -> (TempDir, Connection, Connection) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.db");
        let other = plain(&file);
        other.pragma_update(None, "journal_mode", "wal").unwrap();
        other.execute_batch("CREATE TABLE notes (note BLOB)").unwrap();
        (folder, open(&file).unwrap(), other)
    }

    fn plain(file: &Path) -> Connection {
        Connection::open(file).unwrap()
    }

    fn n_notes(connection: &Connection) -> i64 {
        connection.query_row("SELECT count(*) FROM notes", [], |row| row.get(0)).unwrap()
    }

    fn is_whole(connection: &Connection) -> bool {
        connection.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)).unwrap() == "ok"
    }

    /// How often this thread has asked the system to write.
    #[cfg(target_os = "linux")]
    fn n_calls() -> u64 {
        let counters = std::fs::read_to_string("/proc/thread-self/io").unwrap();
        counters.lines().find_map(|line| line.strip_prefix("syscw: ")).unwrap().parse().unwrap()
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_pages_of_a_commit_are_written_with_one_call() {
        let (_folder, writer, other) = store();
        let mut calls = [&other, &writer].map(|connection| {
            connection.execute("INSERT INTO notes VALUES (zeroblob(80000))", []).unwrap();
            let before = n_calls();
            connection.execute("INSERT INTO notes VALUES (zeroblob(80000))", []).unwrap();
            n_calls() - before
        });
        let [without, with] = &mut calls;
        assert!(*without > 40, "{without}");
        assert_eq!(*with, 1);
    }

    #[test]
    fn a_commit_is_there_for_others_at_once_whether_it_is_synced_or_not() {
        let (_folder, writer, other) = store();
        let mut n = 0;
        for synchronous in ["OFF", "NORMAL", "FULL"] {
            writer.pragma_update(None, "synchronous", synchronous).unwrap();
            for _ in 0..100 {
                n += 1;
                writer.execute("INSERT INTO notes VALUES (zeroblob(6000))", []).unwrap();
                assert_eq!(n_notes(&other), n, "{synchronous}");
            }
        }
        assert!(is_whole(&other));
    }

    #[test]
    fn commits_of_every_length_come_out_whole_whether_they_are_synced_or_not() {
        let (_folder, writer, other) = store();
        let mut n = 0;
        for synchronous in ["OFF", "NORMAL", "FULL"] {
            writer.pragma_update(None, "synchronous", synchronous).unwrap();
            for n_pages in 1..=100_usize {
                writer.execute("INSERT INTO notes VALUES (?)", [vec![7_u8; n_pages * 4092]]).unwrap();
                n += 1;
                assert_eq!(n_notes(&other), n, "{n_pages} pages, {synchronous}");
                let longest: Vec<u8> = other.query_row("SELECT note FROM notes ORDER BY rowid DESC", [], |row| row.get(0)).unwrap();
                assert_eq!(longest, vec![7; n_pages * 4092], "{n_pages} pages, {synchronous}");
            }
        }
        writer.execute("INSERT INTO notes VALUES (?)", [vec![9_u8; 20 * MAX_GATHERED]]).unwrap();
        let longest: Vec<u8> = other.query_row("SELECT max(note) FROM notes", [], |row| row.get(0)).unwrap();
        assert_eq!(longest, vec![9; 20 * MAX_GATHERED]);
        assert!(is_whole(&other));
    }

    #[test]
    fn the_log_begins_anew_when_it_was_written_back() {
        let (_folder, writer, other) = store();
        for n in 1..=20 {
            for _ in 0..20 {
                writer.execute("INSERT INTO notes VALUES (zeroblob(9000))", []).unwrap();
            }
            let by = if n % 2 == 0 { &writer } else { &other };
            let mode = if n % 3 == 0 { "TRUNCATE" } else { "RESTART" };
            by.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(())).unwrap();
            assert_eq!(n_notes(&other), n * 20);
        }
        assert!(is_whole(&other));
    }

    /// Pages that were written ahead of a commit which then did not come would still be held when somebody else writes, and come out over that.
    #[test]
    fn what_was_rolled_back_never_comes_out_over_what_others_wrote() {
        let (_folder, writer, other) = store();
        writer.pragma_update(None, "cache_size", 4).unwrap();
        for n in 1..=10 {
            other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
            writer.execute_batch("BEGIN; INSERT INTO notes VALUES (randomblob(90000)); ROLLBACK").unwrap();
            other.execute("INSERT INTO notes VALUES (zeroblob(90000))", []).unwrap();
            assert_eq!(n_notes(&writer), 2 * n - 1);
            writer.execute("INSERT INTO notes VALUES (zeroblob(90000))", []).unwrap();
            assert_eq!(n_notes(&other), 2 * n);
        }
        drop(writer);
        assert!(is_whole(&other));
    }

    #[test]
    fn what_is_written_back_in_parts_is_whole() {
        let (_folder, writer, other) = store();
        writer.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
        for _ in 0..20 {
            writer.execute("INSERT INTO notes VALUES (zeroblob(400000))", []).unwrap();
        }
        let n_unsynced = in_parts(|| {
            writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
            n_unsynced().unwrap()
        });
        assert!(n_unsynced > 0, "what SQLite writes back goes this way");
        assert_eq!(n_notes(&other), 20);
        assert!(is_whole(&other));
    }

    #[test]
    fn a_store_is_whole_when_it_was_closed_and_opened() {
        let (folder, writer, other) = store();
        writer.execute("INSERT INTO notes VALUES (zeroblob(90000))", []).unwrap();
        drop(other);
        drop(writer);
        let file = folder.path().join("a.db");
        assert_eq!(n_notes(&open(&file).unwrap()), 1);
        assert_eq!(n_notes(&plain(&file)), 1);
    }
}
