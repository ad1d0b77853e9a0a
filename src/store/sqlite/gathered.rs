//! The write-ahead log of the one writer, written in one piece a commit.
//!
//! SQLite hands each page of a commit to the system with two writes, some 140 for a commit of 20 messages: on a disk a third of the commit's own time. The
//! writer's connection is opened through this layer instead ([SQLite: the OS interface, or VFS](https://sqlite.org/vfs.html)): what is written to the log
//! side by side is gathered, and written with one call where a commit ends ([the WAL file format](https://sqlite.org/fileformat2.html#wal_file_format),
//! frame headers), and before anything else is asked of the log. All other files, and all locks, are the system's own layer's, as without this one: who
//! reads or writes back beside the writer need not know of it.
//!
//! Whoever writes the log back through this layer may ask for syncs on the way ([`in_parts`]): SQLite syncs the database once when all is written, and a
//! commit that comes meanwhile waits behind all of that.
//!
//! It never holds anything back behind the end of a commit or a sync, which fail where the writing fails; and it holds nothing that no commit ends, for the
//! connection writes no pages ahead of their commit (`cache_spill`): what was left over of those could come out later over the pages of another writer.
//! It never reads what it is given but for the one number that says where a commit ends, and never takes a sync away. This is the one module with unsafe code: SQLite asks for it in C.
#![expect(unsafe_code, reason = "SQLite's layer to the system is a table of C functions")]

use std::cell::Cell;
use std::ffi::CStr;
use std::ffi::c_int;
use std::ffi::c_void;
use std::mem::offset_of;
use std::path::Path;
use std::ptr;
use std::slice;
use std::sync::OnceLock;

use rusqlite::Connection;
use rusqlite::OpenFlags;
use rusqlite::ffi;
use rusqlite::ffi::sqlite3_file;
use rusqlite::ffi::sqlite3_io_methods;
use rusqlite::ffi::sqlite3_vfs;

const NAME: &CStr = c"gathered";
/// As many whole pages as the system's own layer takes in one call, which is less than 128 KiB.
const MAX_GATHERED: usize = 124 << 10;
/// The number of the page, how long the database is behind the commit that ends with this page, or 0 (both big-endian), then what nobody here needs.
const FRAME_HEADER: usize = 24;

/// How much is written back between two syncs.
const PART: usize = 1 << 20;

thread_local! {
    /// How much this thread has written into a database since it last synced it, where it asked for syncs on the way.
    static N_UNSYNCED: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Has what `work` writes into a database on this thread synced part by part.
pub(super) fn in_parts<T>(work: impl FnOnce() -> T) -> T {
    N_UNSYNCED.set(Some(0));
    let done = work();
    N_UNSYNCED.set(None);
    done
}

/// Opens a connection whose commits write the log in one piece.
pub(super) fn open(file: &Path) -> Result<Connection, rusqlite::Error> {
    register()?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags_and_vfs(file, flags, NAME)?;
    connection.pragma_update(None, "cache_spill", 0)?;
    Ok(connection)
}

/// What stands side by side in the log and is not written yet.
#[derive(Debug, Default)]
struct Gathered {
    bytes: Vec<u8>,
    /// Where in the file, in bytes.
    at: i64,
    /// The page that is written next is the last of its commit.
    ends: bool,
}

impl Gathered {
    /// Whether this stands behind what is held; otherwise that must be written first.
    fn takes(&self, bytes: &[u8], at: i64) -> bool {
        let end = i64::try_from(self.bytes.len()).ok().and_then(|held| self.at.checked_add(held));
        self.bytes.is_empty() || (end == Some(at) && self.bytes.len().saturating_add(bytes.len()) <= MAX_GATHERED)
    }

    /// Holds what it [takes](Self::takes); whether all must be written now, for a commit ends here.
    fn hold(&mut self, bytes: &[u8], at: i64) -> bool {
        if self.bytes.is_empty() {
            self.at = at;
        }
        self.bytes.extend_from_slice(bytes);
        if bytes.len() == FRAME_HEADER {
            self.ends = bytes.get(4..8) != Some(&[0; 4]);
            false
        } else {
            std::mem::take(&mut self.ends)
        }
    }
}

/// An open log, in memory that SQLite asked for in the length of [`sqlite3_vfs::szOsFile`]. What is known of it by the system's own layer stands behind.
#[repr(C)]
struct Log {
    file: sqlite3_file,
    gathered: Gathered,
    /// Only where it begins, and how it is aligned.
    own: sqlite3_file,
}

static LOG_METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

/// Makes the layer known to SQLite, once in this process, on top of the system's own.
fn register() -> Result<(), rusqlite::Error> {
    static OUTCOME: OnceLock<c_int> = OnceLock::new();
    let outcome = *OUTCOME.get_or_init(|| {
        // SAFETY: without a name this gives SQLite's layer for this system, which lives as long as the process.
        let own = unsafe { ffi::sqlite3_vfs_find(ptr::null()) };
        // SAFETY: the one above, or null, which is no reference.
        let Some(own_layer) = (unsafe { own.as_ref() }) else { return ffi::SQLITE_ERROR };
        let Some(length) = c_int::try_from(offset_of!(Log, own)).ok().and_then(|log| log.checked_add(own_layer.szOsFile)) else {
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

/// Opens a log for this layer, and every other file for the own one.
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
    if flags & ffi::SQLITE_OPEN_WAL == 0 {
        // SAFETY: the caller's word to this function, handed on; there is room for more than the own layer needs.
        let outcome = unsafe { open(own, name, file, flags, out_flags) };
        if outcome == ffi::SQLITE_OK && flags & ffi::SQLITE_OPEN_MAIN_DB != 0 {
            // SAFETY: the own layer has opened it.
            unsafe { sync_in_parts(file) };
        }
        return outcome;
    }
    let log = file.cast::<Log>();
    // SAFETY: SQLite gives memory of `szOsFile` bytes, aligned for whatever it holds, which is room for a `Log` with the own file at its end.
    unsafe { (&raw mut (*log).file).write(sqlite3_file { pMethods: ptr::null() }) };
    // SAFETY: as above; the own file has the rest of the memory.
    let below = unsafe { &raw mut (*log).own };
    // SAFETY: as above.
    let outcome = unsafe { open(own, name, below, flags, out_flags) };
    if outcome == ffi::SQLITE_OK {
        // SAFETY: as above. Without methods, as it is where opening failed, SQLite asks nothing of the file, not even to be closed.
        unsafe {
            (&raw mut (*log).gathered).write(Gathered::default());
            (*log).file.pMethods = &raw const LOG_METHODS;
        }
    }
    outcome
}

/// The methods of a database: the own layer's, but for [`write_and_sync`].
struct Database {
    methods: sqlite3_io_methods,
    own: &'static sqlite3_io_methods,
}

static DATABASE: OnceLock<Database> = OnceLock::new();

/// Puts [`write_and_sync`] before the own layer's writing. The file stays the own layer's in all else.
///
/// # Safety
///
/// `file` was opened by the own layer.
unsafe fn sync_in_parts(file: *mut sqlite3_file) {
    // SAFETY: the own layer's tables of methods live as long as the process.
    let Some(own) = (unsafe { (*file).pMethods.as_ref() }) else { return };
    let database = DATABASE.get_or_init(|| Database { methods: sqlite3_io_methods { xWrite: Some(write_and_sync), ..*own }, own });
    // Where files are locked in several ways, there is a table for each; the others go on without syncs on the way.
    if ptr::eq(database.own, own) {
        // SAFETY: the methods are the file's own, but for one that hands on to it.
        unsafe { (*file).pMethods = &raw const database.methods };
    }
}

/// Writes into a database, and syncs it where a part is full and somebody has asked for that.
unsafe extern "C" fn write_and_sync(file: *mut sqlite3_file, bytes: *const c_void, length: c_int, at: ffi::sqlite3_int64) -> c_int {
    let Some(database) = DATABASE.get() else { return ffi::SQLITE_IOERR_WRITE };
    // SAFETY: SQLite's word to this method, handed on.
    unsafe { put(database.own, file, bytes, length, at) }
}

/// # Safety
///
/// As of the methods of the own layer, which these are.
unsafe fn put(own: &sqlite3_io_methods, file: *mut sqlite3_file, bytes: *const c_void, length: c_int, at: ffi::sqlite3_int64) -> c_int {
    let (Some(write), Some(sync)) = (own.xWrite, own.xSync) else { return ffi::SQLITE_IOERR_WRITE };
    // SAFETY: the caller's word to this function.
    let outcome = unsafe { write(file, bytes, length, at) };
    let Some(n_unsynced) = N_UNSYNCED.get() else { return outcome };
    let n_unsynced = n_unsynced.saturating_add(usize::try_from(length).unwrap_or_default());
    let is_full = n_unsynced >= PART;
    N_UNSYNCED.set(Some(if is_full { 0 } else { n_unsynced }));
    if outcome != ffi::SQLITE_OK || !is_full {
        return outcome;
    }
    // SAFETY: the file is open.
    unsafe { sync(file, ffi::SQLITE_SYNC_NORMAL) }
}

/// A file of the own layer.
#[derive(Clone, Copy)]
struct Own<'a> {
    file: *mut sqlite3_file,
    methods: &'a sqlite3_io_methods,
}

/// What is held, and the file it goes to.
///
/// # Safety
///
/// `file` was opened by [`open_file`] as a log, was not closed, and nobody else uses it meanwhile: SQLite asks this of whoever calls the methods of a file.
unsafe fn parts<'a>(file: *mut sqlite3_file) -> Option<(&'a mut Gathered, Own<'a>)> {
    let log = file.cast::<Log>();
    // SAFETY: where the caller keeps the word above, these were written when it was opened, and nothing else refers to them.
    let (gathered, own) = unsafe { (&mut (*log).gathered, &raw mut (*log).own) };
    // SAFETY: as above; the methods live as long as the file is open.
    let methods = unsafe { (*own).pMethods.as_ref() }?;
    Some((gathered, Own { file: own, methods }))
}

/// Writes what is held, with one call. What could not be written is not tried again: the commit it belongs to has failed.
///
/// # Safety
///
/// As [`parts`], whose own file this is.
unsafe fn put_out(gathered: &mut Gathered, own: Own<'_>) -> Result<(), c_int> {
    if gathered.bytes.is_empty() {
        return Ok(());
    }
    let (Some(write), Ok(length)) = (own.methods.xWrite, c_int::try_from(gathered.bytes.len())) else { return Err(ffi::SQLITE_IOERR_WRITE) };
    // SAFETY: the own file is open, and there are as many bytes as are said.
    let outcome = unsafe { write(own.file, gathered.bytes.as_ptr().cast(), length, gathered.at) };
    gathered.bytes.clear();
    gathered.ends = false;
    if outcome == ffi::SQLITE_OK { Ok(()) } else { Err(outcome) }
}

unsafe extern "C" fn write(file: *mut sqlite3_file, bytes: *const c_void, length: c_int, at: ffi::sqlite3_int64) -> c_int {
    // SAFETY: SQLite calls this with an open log.
    let Some((gathered, own)) = (unsafe { parts(file) }) else { return ffi::SQLITE_IOERR_WRITE };
    let Ok(length) = usize::try_from(length) else { return ffi::SQLITE_IOERR_WRITE };
    // SAFETY: SQLite gives as many bytes as it says, and leaves them there until this comes back.
    let bytes = unsafe { slice::from_raw_parts(bytes.cast::<u8>(), length) };
    if !gathered.takes(bytes, at) {
        // SAFETY: both are of the same log.
        if let Err(code) = unsafe { put_out(gathered, own) } {
            return code;
        }
    }
    if gathered.hold(bytes, at) {
        // SAFETY: both are of the same log.
        return unsafe { put_out(gathered, own) }.err().unwrap_or(ffi::SQLITE_OK);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: SQLite calls this with an open log, and never again with this one.
    let Some((gathered, own)) = (unsafe { parts(file) }) else { return ffi::SQLITE_IOERR_CLOSE };
    // SAFETY: both are of the same log.
    let written = unsafe { put_out(gathered, own) };
    drop(std::mem::take(gathered));
    // SAFETY: the own file is open, and is not asked again.
    let closed = own.methods.xClose.map_or(ffi::SQLITE_IOERR_CLOSE, |close| unsafe { close(own.file) });
    written.err().unwrap_or(closed)
}

/// What is asked of a log and is the own file's to answer, when all has been written that is held.
macro_rules! behind_what_is_held {
    ($($name:ident = $method:ident($($argument:ident: $of:ty),*) or $fault:ident;)*) => {
        $(unsafe extern "C" fn $name(file: *mut sqlite3_file, $($argument: $of),*) -> c_int {
            // SAFETY: SQLite calls this with an open log.
            let Some((gathered, own)) = (unsafe { parts(file) }) else { return ffi::$fault };
            // SAFETY: both are of the same log.
            if let Err(code) = unsafe { put_out(gathered, own) } {
                return code;
            }
            // SAFETY: the own file is open, and what is handed on is what SQLite gave for this very method.
            own.methods.$method.map_or(ffi::$fault, |method| unsafe { method(own.file, $($argument),*) })
        })*
    };
}

behind_what_is_held! {
    read = xRead(into: *mut c_void, length: c_int, at: ffi::sqlite3_int64) or SQLITE_IOERR_READ;
    truncate = xTruncate(length: ffi::sqlite3_int64) or SQLITE_IOERR_TRUNCATE;
    sync = xSync(flags: c_int) or SQLITE_IOERR_FSYNC;
    file_size = xFileSize(length: *mut ffi::sqlite3_int64) or SQLITE_IOERR_FSTAT;
    lock = xLock(level: c_int) or SQLITE_IOERR_LOCK;
    unlock = xUnlock(level: c_int) or SQLITE_IOERR_UNLOCK;
    check_reserved_lock = xCheckReservedLock(held: *mut c_int) or SQLITE_IOERR_CHECKRESERVEDLOCK;
    file_control = xFileControl(operation: c_int, about: *mut c_void) or SQLITE_NOTFOUND;
}

/// What a log is told of the disk below it; 0 is what SQLite takes for "nothing known".
macro_rules! of_the_disk {
    ($($name:ident = $method:ident;)*) => {
        $(unsafe extern "C" fn $name(file: *mut sqlite3_file) -> c_int {
            // SAFETY: SQLite calls this with an open log.
            let own = unsafe { parts(file) }.map(|(_, own)| own);
            // SAFETY: the own file is open.
            own.and_then(|own| own.methods.$method.map(|method| unsafe { method(own.file) })).unwrap_or(0)
        })*
    };
}

of_the_disk! {
    sector_size = xSectorSize;
    device_characteristics = xDeviceCharacteristics;
}

#[cfg(test)]
mod tests {
    use std::ffi::c_int;
    use std::ffi::c_void;
    use std::path::Path;
    use std::ptr;

    use rusqlite::Connection;
    use rusqlite::ffi;
    use rusqlite::ffi::sqlite3_file;
    use rusqlite::ffi::sqlite3_io_methods;
    use tempfile::TempDir;

    use super::Gathered;
    use super::LOG_METHODS;
    use super::Log;
    use super::MAX_GATHERED;
    use super::Own;
    use super::open;
    use super::put_out;

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
    fn commits_of_every_length_come_out_whole() {
        let (_folder, writer, other) = store();
        for n_pages in 1..=100_usize {
            writer.execute("INSERT INTO notes VALUES (?)", [vec![7_u8; n_pages * 4092]]).unwrap();
            assert_eq!(n_notes(&other), i64::try_from(n_pages).unwrap());
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
    fn what_is_written_back_in_parts_is_synced_part_by_part_and_whole() {
        thread_local! {
            static N_SYNCS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
        }
        unsafe extern "C" fn write(_: *mut sqlite3_file, _: *const c_void, _: c_int, _: ffi::sqlite3_int64) -> c_int {
            ffi::SQLITE_OK
        }
        unsafe extern "C" fn sync(_: *mut sqlite3_file, _: c_int) -> c_int {
            N_SYNCS.set(N_SYNCS.get() + 1);
            ffi::SQLITE_OK
        }
        let own: &'static sqlite3_io_methods = Box::leak(Box::new(sqlite3_io_methods { xWrite: Some(write), xSync: Some(sync), ..LOG_METHODS }));
        let page = [7_u8; 4096];
        let put = |n_pages: usize| {
            for _ in 0..n_pages {
                // SAFETY: the methods above use nothing of the file, and there are as many bytes.
                let outcome = unsafe { super::put(own, ptr::null_mut(), page.as_ptr().cast(), 4096, 0) };
                assert_eq!(outcome, ffi::SQLITE_OK);
            }
            N_SYNCS.take()
        };
        assert_eq!(put(1000), 0, "nobody asked");
        assert_eq!(super::in_parts(|| put(1000)), 3, "a part is 256 pages");
        assert_eq!(super::in_parts(|| put(255)), 0, "what was left over before is nobody's");
        assert_eq!(put(1000), 0, "nobody asks any more");

        let (_folder, writer, other) = store();
        writer.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
        for _ in 0..20 {
            writer.execute("INSERT INTO notes VALUES (zeroblob(400000))", []).unwrap();
        }
        let n_unsynced = super::in_parts(|| {
            writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
            super::N_UNSYNCED.get().unwrap()
        });
        assert!((1..super::PART).contains(&n_unsynced), "what SQLite writes back goes this way");
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

    #[test]
    fn what_could_not_be_written_fails_its_commit_and_is_gone() {
        unsafe extern "C" fn full(_: *mut sqlite3_file, _: *const c_void, _: c_int, _: ffi::sqlite3_int64) -> c_int {
            ffi::SQLITE_FULL
        }
        let methods = sqlite3_io_methods { xWrite: Some(full), ..LOG_METHODS };
        let mut gathered = Gathered { bytes: vec![7; 4096], at: 32, ends: true };
        // SAFETY: the one method that is asked uses nothing of the file.
        let written = unsafe { put_out(&mut gathered, Own { file: ptr::null_mut(), methods: &methods }) };
        assert_eq!(written, Err(ffi::SQLITE_FULL));
        assert!(gathered.bytes.is_empty() && !gathered.ends);
    }

    /// What an acknowledgement depends on when the power fails.
    #[test]
    fn a_sync_comes_behind_the_writing_of_all_that_is_held() {
        thread_local! {
            static ASKED: std::cell::RefCell<Vec<&'static str>> = const { std::cell::RefCell::new(Vec::new()) };
        }
        unsafe extern "C" fn note_write(_: *mut sqlite3_file, _: *const c_void, _: c_int, _: ffi::sqlite3_int64) -> c_int {
            ASKED.with_borrow_mut(|asked| asked.push("write"));
            ffi::SQLITE_OK
        }
        unsafe extern "C" fn note_sync(_: *mut sqlite3_file, _: c_int) -> c_int {
            ASKED.with_borrow_mut(|asked| asked.push("sync"));
            ffi::SQLITE_OK
        }
        let methods = sqlite3_io_methods { xWrite: Some(note_write), xSync: Some(note_sync), ..LOG_METHODS };
        let own = sqlite3_file { pMethods: &raw const methods };
        let mut log = Log { file: sqlite3_file { pMethods: &raw const LOG_METHODS }, gathered: Gathered::default(), own };
        let file = (&raw mut log).cast::<sqlite3_file>();
        for n in 0..3 {
            // SAFETY: the log is as it is when it was opened, and so many bytes are there.
            assert_eq!(unsafe { super::write(file, [0_u8; 24].as_ptr().cast(), 24, 32 + n * 24) }, ffi::SQLITE_OK);
        }
        // SAFETY: as above.
        assert_eq!(unsafe { super::sync(file, 0) }, ffi::SQLITE_OK);
        assert_eq!(ASKED.take(), ["write", "sync"]);
    }

    #[test]
    fn only_what_stands_behind_the_rest_is_held_and_a_commit_ends_it() {
        let mut gathered = Gathered::default();
        let (inner, last) = ([0_u8; 24], [1_u8; 24]);
        assert!(gathered.takes(&inner, 32));
        assert!(!gathered.hold(&inner, 32));
        assert!(gathered.takes(&[5; 4096], 56));
        assert!(!gathered.takes(&[5; 4096], 57));
        assert!(!gathered.takes(&[5; 4096], 32));
        assert!(!gathered.takes(&vec![5; MAX_GATHERED], 56));
        assert!(!gathered.hold(&[5; 4096], 56));
        assert!(!gathered.hold(&last, 4152));
        assert!(gathered.hold(&[5; 4096], 4176));
    }
}
