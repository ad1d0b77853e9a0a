//! The write-ahead log of the one writer, written in one piece a commit.
//!
//! SQLite hands each page of a commit to the system with two writes, some 140 for a commit of 20 messages: on a disk a third of the commit's own time. Here
//! what is written to the log side by side is gathered, and written with one call where a commit ends ([the WAL file
//! format](https://sqlite.org/fileformat2.html#wal_file_format), frame headers), and before anything else is asked of the log.
//!
//! It never holds anything back behind the end of a commit or a sync, which fail where the writing fails; and it holds nothing that no commit ends, for the
//! connection writes no pages ahead of their commit (`cache_spill`): what was left over of those could come out later over the pages of another writer.
//! It never reads what it is given but for the one number that says where a commit ends.

use std::ffi::c_int;
use std::ffi::c_void;
use std::mem::offset_of;
use std::ptr;
use std::slice;

use rusqlite::ffi;
use rusqlite::ffi::sqlite3_file;
use rusqlite::ffi::sqlite3_io_methods;

/// As many whole pages as the system's own layer takes in one call, which is less than 128 KiB.
pub(super) const MAX_GATHERED: usize = 124 << 10;
/// The number of the page, how long the database is behind the commit that ends with this page, or 0 (both big-endian), then what nobody here needs.
const FRAME_HEADER: usize = 24;
/// How much more memory an open log takes than the own layer's.
pub(super) const LENGTH: usize = offset_of!(Log, own);

/// What stands side by side in the log and is not written yet.
#[derive(Debug, Default)]
struct Gathered {
    bytes: Vec<u8>,
    /// Where in the file, in bytes.
    at: i64,
    /// The page that is written next is the last of its commit. Its header need not be held any more.
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

/// Opens a log: `open_own` does it for the own layer, with the file that it is given.
///
/// # Safety
///
/// At `file` there is memory for [`LENGTH`] bytes and a file of the own layer, aligned for whatever it holds.
pub(super) unsafe fn open(file: *mut sqlite3_file, open_own: impl FnOnce(*mut sqlite3_file) -> c_int) -> c_int {
    let log = file.cast::<Log>();
    // SAFETY: the caller's word to this function.
    unsafe { (&raw mut (*log).file).write(sqlite3_file { pMethods: ptr::null() }) };
    // SAFETY: as above; the own file has the rest of the memory.
    let outcome = open_own(unsafe { &raw mut (*log).own });
    if outcome == ffi::SQLITE_OK {
        // SAFETY: as above. Without methods, as it is where opening failed, SQLite asks nothing of the file, not even to be closed.
        unsafe {
            (&raw mut (*log).gathered).write(Gathered::default());
            (*log).file.pMethods = &raw const LOG_METHODS;
        }
    }
    outcome
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
/// `file` was opened by [`open`], was not closed, and nobody else uses it meanwhile: SQLite asks this of whoever calls the methods of a file.
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
    if outcome == ffi::SQLITE_OK {
        // What was held may end with the header of a commit's last page, which comes next.
        return Ok(());
    }
    gathered.ends = false;
    Err(outcome)
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
    use std::ptr;

    use rusqlite::ffi;
    use rusqlite::ffi::sqlite3_file;
    use rusqlite::ffi::sqlite3_io_methods;

    use super::Gathered;
    use super::LOG_METHODS;
    use super::Log;
    use super::MAX_GATHERED;
    use super::Own;
    use super::put_out;

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

    /// A header may be the last that there is room for.
    #[test]
    fn a_commit_ends_with_its_last_page_wherever_what_is_held_was_written_before() {
        unsafe extern "C" fn write(_: *mut sqlite3_file, _: *const c_void, _: c_int, _: ffi::sqlite3_int64) -> c_int {
            ffi::SQLITE_OK
        }
        let methods = sqlite3_io_methods { xWrite: Some(write), ..LOG_METHODS };
        for n_pages in 1..=100_i64 {
            let own = sqlite3_file { pMethods: &raw const methods };
            let mut log = Log { file: sqlite3_file { pMethods: &raw const LOG_METHODS }, gathered: Gathered::default(), own };
            let file = (&raw mut log).cast::<sqlite3_file>();
            for n in 1..=n_pages {
                let (header, at) = ([u8::from(n == n_pages); 24], 32 + (n - 1) * 4120);
                // SAFETY: the log is as it is when it was opened, and so many bytes are there.
                let header = unsafe { super::write(file, header.as_ptr().cast(), 24, at) };
                // SAFETY: as above.
                let page = unsafe { super::write(file, [5_u8; 4096].as_ptr().cast(), 4096, at + 24) };
                assert_eq!((header, page), (ffi::SQLITE_OK, ffi::SQLITE_OK));
            }
            assert!(log.gathered.bytes.is_empty(), "{n_pages} pages: the last are not written");
        }
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
