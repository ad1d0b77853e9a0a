//! What can go wrong with the store, without a word of what is stored.
//!
//! A driver's error is reduced to its code: the text of a database error may quote a row, so it is never kept as a source.

use std::io;
use std::path::PathBuf;

use crate::store::sealing::Table;

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The URL names no store.
    #[error("the store's url is not understood\nhint: use `sqlite:FILE` or `postgres://USER@HOST/DATABASE`")]
    Url,
    /// Another daemon has the file.
    #[error("another process holds `{}`\nhint: one daemon per SQLite file; stop the other one first", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The lock file cannot be made.
    #[error("the lock file `{}` cannot be opened\nhint: the folder of the store must be there, and the daemon's user must be allowed to write in it", path.display())]
    LockFile {
        /// The lock file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no store yet, or one of another version.
    #[error(
        "the store is not there, or was made by another version\n\
         hint: is `store.url` the right one, from this folder? A daemon makes a store where there is none and brings an older one up to date; \
         a store that was here and is gone has to come from its backup first"
    )]
    NotMigrated,
    /// The file is something else.
    #[error(
        "the file of `store.url` is not a store of wardroom's, or was damaged\n\
         hint: name another file; where there is none, the daemon makes one. A store that was here has to come from its backup first"
    )]
    NotAStore,
    /// The file may be read, and not written.
    #[error("the file of `store.url` may only be read\nhint: the daemon's user must be allowed to write it, and in its folder")]
    OnlyRead,
    /// The scheme could not be brought up to date.
    #[error("the store's tables could not be brought up to date (code {code})")]
    Migrate {
        /// The database's code, or a word of ours.
        code: String,
    },
    /// The master key is not the one that the store was made with.
    #[error(
        "the key does not open this store\n\
         hint: `store.key` must be the key that the store was made with, or the one that `wardroom keys rotate` put in its place last (with `--to`, in the \
         file that was named there, also where the command came to no end); a backup from before \
         that opens with the key of its time, which lies beside the present one (`.until-…`)"
    )]
    WrongKey,
    /// Another master key took the place of the one that this process opened the store with.
    #[error(
        "another key took the place of the one that this process opened the store with\n\
         hint: repeat the command; a daemon must be started again, with the new key as its `store.key`"
    )]
    KeyReplaced,
    /// A sealed value does not open: it was changed, moved to another row, or sealed under a key that is gone.
    #[error("a sealed value in {table} does not open")]
    Unsealed {
        /// Where.
        table: Table,
    },
    /// A value stands in a form that this version does not know.
    #[error("a value in {table} has a form that this version does not know")]
    Form {
        /// Where.
        table: Table,
    },
    /// The machine gives no random bytes.
    #[error("the machine gives no random bytes")]
    Random,
    /// The store was opened to be read only.
    #[error("the store was opened to be read only")]
    ReadOnly,
    /// No space is left.
    #[error("no space is left for the store (code {code})\nhint: free some space on its volume; nothing that was acknowledged is lost")]
    Full {
        /// The database's code.
        code: String,
    },
    /// The disk or the connection to the database failed.
    #[error(
        "the store cannot be reached or written (code {code})\nhint: see that the database or the disk of the store works, and that `store.url` says where it is"
    )]
    Unreachable {
        /// The database's code, or a word of ours.
        code: String,
    },
    /// The database works, and lets nobody write, or not this user.
    #[error(
        "the database does not let wardroom in or write (code {code})\nhint: see that the database of `store.url` exists, that its user may write there, and that it is not read only; the daemon goes on by itself when it can write"
    )]
    Denied {
        /// The database's code.
        code: String,
    },
    /// What the database reads of its own pages does not fit together.
    #[error(
        "the store's database is damaged (code {code})\nhint: stop whatever writes it, keep a copy of all its files, and take the last backup that is whole; a disk that fails, a file on a network drive and a file copied while the daemon wrote are what does this"
    )]
    Damaged {
        /// The database's code.
        code: String,
    },
    /// Somebody else holds what is needed, for too long.
    #[error("the store is busy (code {code})")]
    Busy {
        /// The database's code, or a word of ours.
        code: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// The database refused a statement.
    #[error("the database refused a statement (code {code})")]
    Refused {
        /// The database's code, or a word of ours.
        code: String,
    },
}

impl StoreError {
    /// Whether the same may succeed later without anybody changing anything in wardroom.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Unreachable { .. } | Self::Denied { .. } | Self::Busy { .. } | Self::Random | Self::Locked { .. })
    }
}

/// Why a batch was not committed. Nothing of it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// Something that the batch was planned from has changed: read it again, plan again.
    #[error("what the batch was planned from has changed")]
    Conflict,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CommitError {
    /// Whether the same batch may succeed later. A conflict is not transient: the batch must be planned again.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Conflict => false,
            Self::Store(error) => error.is_transient(),
        }
    }
}

/// What a driver's error means for us.
pub(super) enum Trouble {
    /// A unique index refused a row, or the database chose this transaction to lose.
    Conflict,
    /// Anything else.
    Other(StoreError),
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        if let sqlx::Error::Database(database) = &error {
            let code = database.code().unwrap_or_default();
            if is_conflict(&code) {
                return Self::Conflict;
            }
        }
        Self::Other(error.into())
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        if error.sqlite_error().is_some_and(|error| is_conflict(&error.extended_code.to_string())) {
            Self::Conflict
        } else {
            Self::Other(error.into())
        }
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Other(error)
    }
}

impl From<Trouble> for CommitError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Conflict => Self::Conflict,
            Trouble::Other(error) => Self::Store(error),
        }
    }
}

impl From<Trouble> for StoreError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Conflict => Self::Refused { code: "conflict".to_owned() },
            Trouble::Other(error) => error,
        }
    }
}

/// SQLite: unique and primary key. PostgreSQL: unique violation, serialisation failure, deadlock.
fn is_conflict(code: &str) -> bool {
    matches!(code, "2067" | "1555" | "23505" | "40001" | "40P01")
}

#[expect(clippy::wildcard_enum_match_arm, reason = "sqlx's enum is non-exhaustive, and only a few kinds mean something to us")]
impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let word = |word: &str| word.to_owned();
        match error {
            sqlx::Error::Database(database) => from_code(&database.code().unwrap_or_default()),
            sqlx::Error::Io(error) if error.kind() == io::ErrorKind::StorageFull => Self::Full { code: word("io") },
            // The system's words: no name found, nobody listens, a certificate of somebody unknown. They are of the connection, and never of a statement.
            sqlx::Error::Io(error) => Self::Unreachable { code: format!("io: {error}") },
            sqlx::Error::Tls(error) => Self::Unreachable { code: format!("tls: {error}") },
            sqlx::Error::WorkerCrashed => Self::Unreachable { code: word("worker") },
            sqlx::Error::PoolTimedOut => Self::Unreachable { code: word("no connection in time") },
            sqlx::Error::PoolClosed => Self::Closed,
            sqlx::Error::Configuration(_) => Self::Url,
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Self::Refused { code: word("decode") },
            sqlx::Error::Encode(_) => Self::Refused { code: word("encode") },
            sqlx::Error::Protocol(_) => Self::Refused { code: word("protocol") },
            _ => Self::Refused { code: word("driver") },
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        error.sqlite_error().map_or_else(|| Self::Refused { code: "driver".to_owned() }, |error| from_code(&error.extended_code.to_string()))
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "sqlx's enum is non-exhaustive, and only a database's own error has a code")]
pub(super) fn migrate_error(error: sqlx::migrate::MigrateError) -> StoreError {
    match error {
        sqlx::migrate::MigrateError::Execute(error) | sqlx::migrate::MigrateError::ExecuteMigration(error, _) => error.into(),
        _ => StoreError::Migrate { code: "version".to_owned() },
    }
}

/// SQLite gives its extended result code as a number, PostgreSQL a five-character SQLSTATE.
fn from_code(code: &str) -> StoreError {
    let owned = code.to_owned();
    if code.len() == 5 {
        return match code.get(..2) {
            _ if code == "53100" => StoreError::Full { code: owned },
            _ if code == "42P01" => StoreError::NotMigrated,
            _ if code == "55P03" => StoreError::Busy { code: owned },
            _ if matches!(code, "25006" | "42501") => StoreError::Denied { code: owned },
            Some("28" | "3D") => StoreError::Denied { code: owned },
            _ if matches!(code, "XX001" | "XX002") => StoreError::Damaged { code: owned },
            Some("08" | "53" | "57" | "58") => StoreError::Unreachable { code: owned },
            _ => StoreError::Refused { code: owned },
        };
    }
    match code.parse::<i32>().unwrap_or(0) & 0xff {
        13 => StoreError::Full { code: owned },
        5 | 6 => StoreError::Busy { code: owned },
        10 | 8 | 14 | 23 => StoreError::Unreachable { code: owned },
        11 => StoreError::Damaged { code: owned },
        26 => StoreError::NotAStore,
        _ => StoreError::Refused { code: owned },
    }
}

/// An error and what is behind it, and then what to do.
pub(crate) fn in_words(error: &dyn std::error::Error) -> String {
    let whole = error.to_string();
    let (first, hint) = whole.split_once("\nhint: ").map_or((whole.as_str(), None), |(first, hint)| (first, Some(hint)));
    let mut text = first.to_owned();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    match hint {
        Some(hint) => format!("{text}\nhint: {hint}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::StoreError;
    use super::from_code;
    use super::is_conflict;

    #[test]
    fn a_full_disk_is_transient_and_says_so_in_both_databases() {
        for code in ["13", "53100"] {
            let error = from_code(code);
            assert!(matches!(error, StoreError::Full { .. }) && error.is_transient(), "{code}");
        }
        assert!(matches!(from_code("778"), StoreError::Unreachable { .. }), "SQLITE_IOERR_WRITE");
        assert!(matches!(from_code("261"), StoreError::Busy { .. }), "SQLITE_BUSY_RECOVERY");
        for code in ["25006", "42501", "28P01", "3D000"] {
            assert!(matches!(from_code(code), StoreError::Denied { .. }) && from_code(code).is_transient(), "{code}");
        }
        assert!(!from_code("42601").is_transient());
        assert!(matches!(from_code("26"), StoreError::NotAStore), "SQLITE_NOTADB");
        for code in ["11", "779", "XX001"] {
            assert!(matches!(from_code(code), StoreError::Damaged { .. }) && !from_code(code).is_transient(), "{code}");
        }
    }

    #[test]
    fn a_unique_violation_is_a_conflict_in_both_databases() {
        assert!(is_conflict("2067") && is_conflict("23505") && is_conflict("1555"));
        assert!(!is_conflict("787"));
    }
}
