//! The database of the one writer, synced on the way while its log is written back.
//!
//! SQLite syncs the database once, when all of the log is in it, and a commit that comes meanwhile waits on the disk behind all of that. Whoever writes the
//! log back may ask for a sync behind each part ([`in_parts`]). It only ever adds syncs: those that SQLite asks for are the own layer's, and so is all else.

use std::cell::Cell;
use std::ffi::c_int;
use std::ffi::c_void;
use std::ptr;
use std::sync::OnceLock;

use rusqlite::ffi;
use rusqlite::ffi::sqlite3_file;
use rusqlite::ffi::sqlite3_io_methods;

/// How much is written back between two syncs.
const PART: usize = 1 << 20;

thread_local! {
    /// How much of a part this thread has written into a database, where it asked for syncs on the way.
    static N_UNSYNCED: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Has what `work` writes into a database on this thread synced part by part.
pub(in crate::store::sqlite) fn in_parts<T>(work: impl FnOnce() -> T) -> T {
    N_UNSYNCED.set(Some(0));
    let done = work();
    N_UNSYNCED.set(None);
    done
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
pub(super) unsafe fn sync_in_parts(file: *mut sqlite3_file) {
    // SAFETY: the own layer's tables of methods live as long as the process.
    let Some(own) = (unsafe { (*file).pMethods.as_ref() }) else { return };
    let database = DATABASE.get_or_init(|| Database { methods: sqlite3_io_methods { xWrite: Some(write_and_sync), ..*own }, own });
    // Where files are locked in several ways, there is a table for each; the others go on without syncs on the way.
    if ptr::eq(database.own, own) {
        // SAFETY: the methods are the file's own, but for one that hands on to it.
        unsafe { (*file).pMethods = &raw const database.methods };
    }
}

type WriteMethod = unsafe extern "C" fn(*mut sqlite3_file, *const c_void, c_int, ffi::sqlite3_int64) -> c_int;
type SyncMethod = unsafe extern "C" fn(*mut sqlite3_file, c_int) -> c_int;

/// Writes into a database, and syncs it where a part is full and somebody has asked for that.
unsafe extern "C" fn write_and_sync(file: *mut sqlite3_file, bytes: *const c_void, length: c_int, at: ffi::sqlite3_int64) -> c_int {
    let Some(Database { own: sqlite3_io_methods { xWrite: Some(write), xSync: Some(sync), .. }, .. }) = DATABASE.get() else {
        return ffi::SQLITE_IOERR_WRITE;
    };
    // SAFETY: SQLite's word to this method, handed on.
    unsafe { write_and_sync_by((*write, *sync), file, bytes, length, at) }
}

/// # Safety
///
/// As of the own layer's methods, which these are.
unsafe fn write_and_sync_by(
    (write, sync): (WriteMethod, SyncMethod),
    file: *mut sqlite3_file,
    bytes: *const c_void,
    length: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: the caller's word to this function.
    let outcome = unsafe { write(file, bytes, length, at) };
    if outcome == ffi::SQLITE_OK && fills_a_part(usize::try_from(length).unwrap_or_default()) {
        // SAFETY: the file is open.
        return unsafe { sync(file, ffi::SQLITE_SYNC_NORMAL) };
    }
    outcome
}

/// Whether a part is full behind so many bytes more; then another begins.
fn fills_a_part(n_bytes: usize) -> bool {
    let Some(n_unsynced) = N_UNSYNCED.get() else { return false };
    let n_unsynced = n_unsynced.saturating_add(n_bytes);
    let is_full = n_unsynced >= PART;
    N_UNSYNCED.set(Some(if is_full { 0 } else { n_unsynced }));
    is_full
}

#[cfg(test)]
pub(super) fn n_unsynced() -> Option<usize> {
    N_UNSYNCED.get()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::ffi::c_int;
    use std::ffi::c_void;
    use std::ptr;

    use rusqlite::ffi;
    use rusqlite::ffi::sqlite3_file;

    use super::in_parts;
    use super::write_and_sync_by;

    #[test]
    fn what_is_written_back_in_parts_is_synced_part_by_part() {
        thread_local! {
            static N_SYNCS: Cell<usize> = const { Cell::new(0) };
        }
        unsafe extern "C" fn write(_: *mut sqlite3_file, _: *const c_void, _: c_int, _: ffi::sqlite3_int64) -> c_int {
            ffi::SQLITE_OK
        }
        unsafe extern "C" fn sync(_: *mut sqlite3_file, _: c_int) -> c_int {
            N_SYNCS.set(N_SYNCS.get() + 1);
            ffi::SQLITE_OK
        }
        let page = [7_u8; 4096];
        let put = |n_pages: usize| {
            for _ in 0..n_pages {
                // SAFETY: the methods above use nothing of the file, and there are as many bytes.
                let outcome = unsafe { write_and_sync_by((write, sync), ptr::null_mut(), page.as_ptr().cast(), 4096, 0) };
                assert_eq!(outcome, ffi::SQLITE_OK);
            }
            N_SYNCS.take()
        };
        assert_eq!(put(1000), 0, "nobody asked");
        assert_eq!(in_parts(|| put(1000)), 3, "a part is 256 pages");
        assert_eq!(in_parts(|| put(255)), 0, "what was left over before is nobody's");
        assert_eq!(put(1000), 0, "nobody asks any more");
    }
}
