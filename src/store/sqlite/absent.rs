//! Which look-ups are surely not in the table: an admission of somebody new asks for all its identifiers, and most of the time none of them is there.
//!
//! A Bloom filter (B. H. Bloom, 1970) of every look-up of the table, in memory. It may take a look-up for one that is there, which costs a question to
//! the table; it never takes one that is there for one that is not, as long as this process alone writes. It is filled from the table beside everything
//! else, and says nothing before that has ended. It keeps bits of keyed hashes, and nothing that they were made from.

use fastbloom::AtomicBloomFilter;
use rusqlite::Connection;
use tokio::sync::SetOnce;

use crate::store::look_up::LookUpHash;
use crate::store::sqlite_sql as text;

/// 8 MiB: of 10 million look-ups, one in twenty that are not there is asked for all the same.
const BITS: usize = 1 << 26;
const HASHES: u32 = 4;
/// How many rows are read at once: a long look at the table would keep the write-ahead log from beginning again.
const ROWS: i64 = 4096;

/// The filter.
#[derive(Debug)]
pub(super) struct Absent {
    filter: AtomicBloomFilter,
    filled: SetOnce<()>,
}

impl Default for Absent {
    fn default() -> Self {
        Self { filter: AtomicBloomFilter::with_num_bits(BITS).hashes(HASHES), filled: SetOnce::new() }
    }
}

impl Absent {
    /// To be told of every look-up before it is written.
    pub(super) fn note(&self, hash: &[u8]) {
        // The end: neighbours begin alike.
        if let Some(bits) = hash.last_chunk() {
            self.filter.insert_hash(u64::from_be_bytes(*bits));
        }
    }

    /// Whether the table must be asked.
    pub(super) fn may_be_there(&self, hash: &LookUpHash) -> bool {
        let Some(bits) = hash.0.last_chunk() else { return true };
        self.filled.get().is_none() || self.filter.contains_hash(u64::from_be_bytes(*bits))
    }

    /// Reads the table once, until `is_over`. What is written meanwhile is noted by whoever writes it.
    pub(super) fn fill(&self, connection: &Connection, is_over: impl Fn() -> bool) -> Result<(), rusqlite::Error> {
        let mut after: Vec<u8> = Vec::new();
        while !is_over() {
            let mut statement = connection.prepare_cached(text::LOOK_UPS_PAGE)?;
            let mut rows = statement.query((&after, ROWS))?;
            let mut last = None;
            while let Some(row) = rows.next()? {
                let hash: Vec<u8> = row.get(0)?;
                self.note(&hash);
                last = Some(hash);
            }
            let Some(last) = last else {
                // It may have been filled before.
                drop(self.filled.set(()));
                return Ok(());
            };
            after = last;
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) async fn filled(&self) {
        self.filled.wait().await;
    }
}
