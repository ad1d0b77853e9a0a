//! Packing: contents are made short before they are sealed (LZ4 block format, which has no parameters and no header that could change).
//!
//! A packed content begins with its length unpacked, four bytes, little-endian. What is short already, or does not get shorter, stays as it is. Messages and
//! events have the same names of fields and begin alike: what they have in common stands in a dictionary, and not in each of them. It sees contents in the
//! clear and keeps nothing of them but in its own memory, which the next content overwrites; no dictionary holds anything that was said of somebody.

use std::fmt;

use lz4_flex::block::CompressTable;
use lz4_flex::block::compress_into_with_dict;
use lz4_flex::block::compress_into_with_table;
use lz4_flex::block::decompress_size_prepended;
use lz4_flex::block::decompress_size_prepended_with_dict;
use lz4_flex::block::get_maximum_output_size;

use crate::store::sealing::Table;

/// What is shorter than this is not worth packing.
const WORTH_IT: usize = 96;
const LENGTH_BYTES: usize = 4;

/// What contents have in common. Its number stands with what was packed with it, so none is ever changed or taken away; a better one gets the next number.
/// Each was made of contents of its table, without what they said of anybody; what is found most often stands last.
struct Dictionary {
    number: u8,
    table: Table,
    /// Whether new contents of the table are packed with it. Documents were, while they had the names of their fields.
    is_used: bool,
    content: &'static [u8],
}

static DICTIONARIES: [Dictionary; 6] = [
    Dictionary { number: 1, table: Table::Journal, is_used: true, content: include_bytes!("packing/journal.1") },
    Dictionary { number: 2, table: Table::Patients, is_used: false, content: include_bytes!("packing/patients.1") },
    Dictionary { number: 3, table: Table::Visits, is_used: false, content: include_bytes!("packing/visits.1") },
    Dictionary { number: 4, table: Table::Facts, is_used: false, content: include_bytes!("packing/facts.1") },
    Dictionary { number: 5, table: Table::Outbox, is_used: true, content: include_bytes!("packing/outbox.1") },
    Dictionary { number: 6, table: Table::Audit, is_used: true, content: include_bytes!("packing/audit.1") },
];

/// With what a content was packed: the number of a dictionary, or none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct With(pub(super) u8);

impl With {
    /// No dictionary.
    pub(super) const NOTHING: Self = Self(0);

    fn for_table(table: Table) -> Self {
        DICTIONARIES
            .iter()
            .find(|dictionary| dictionary.table == table && dictionary.is_used)
            .map_or(Self::NOTHING, |dictionary| Self(dictionary.number))
    }

    fn content(self) -> Option<&'static [u8]> {
        DICTIONARIES.iter().find(|dictionary| dictionary.number == self.0).map(|dictionary| dictionary.content)
    }
}

/// Packs one content after another in the same memory.
#[derive(Default)]
pub(super) struct Packer {
    table: CompressTable,
    packed: Vec<u8>,
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Packer")
    }
}

impl Packer {
    /// The content of a table packed, and with what; `None` where it stays as it is.
    pub(super) fn pack(&mut self, table: Table, content: &[u8]) -> Option<(With, &[u8])> {
        let length = u32::try_from(content.len()).ok().filter(|_| content.len() >= WORTH_IT)?;
        let most = LENGTH_BYTES + get_maximum_output_size(content.len());
        if self.packed.len() < most {
            self.packed.resize(most, 0);
        }
        let (prefix, packed) = self.packed.split_first_chunk_mut::<LENGTH_BYTES>()?;
        *prefix = length.to_le_bytes();
        let with = With::for_table(table);
        let n_packed = match with.content() {
            Some(dictionary) => compress_into_with_dict(content, packed, dictionary),
            None => compress_into_with_table(content, packed, &mut self.table),
        };
        let packed = self.packed.get(..LENGTH_BYTES + n_packed.ok()?)?;
        (packed.len() < content.len()).then_some((with, packed))
    }
}

/// The content again; `None` when it was never packed like this.
pub(super) fn unpack(packed: &[u8], with: With) -> Option<Vec<u8>> {
    if with == With::NOTHING {
        return decompress_size_prepended(packed).ok();
    }
    decompress_size_prepended_with_dict(packed, with.content()?).ok()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use lz4_flex::block::compress_prepend_size;
    use lz4_flex::block::compress_prepend_size_with_dict;
    use ring::digest::SHA256;
    use ring::digest::digest;

    use super::DICTIONARIES;
    use super::Packer;
    use super::With;
    use super::unpack;
    use crate::store::form::tests::examples;
    use crate::store::sealing::Table;

    #[test]
    fn what_is_packed_is_unpacked_whatever_was_packed_before_it() {
        let mut packer = Packer::default();
        for table in [Table::Directory, Table::Visits] {
            for n in [96_usize, 1000, 100, 70_000, 300, 200_000, 96] {
                let content: Vec<u8> = b"SMITH^JANE^".iter().copied().cycle().take(n).collect();
                let (with, packed) = packer.pack(table, &content).unwrap();
                assert!(packed.len() < content.len());
                assert_eq!(unpack(packed, with).unwrap(), content);
            }
        }
    }

    #[test]
    fn what_gets_no_shorter_stays_as_it_is() {
        let mut packer = Packer::default();
        assert!(packer.pack(Table::Journal, b"SMITH^JANE").is_none());
        let noise: Vec<u8> = (0..200_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
        assert!(packer.pack(Table::Journal, &noise).is_none());
    }

    #[test]
    fn what_was_not_packed_is_not_unpacked() {
        for bytes in [b"".as_slice(), b"abc", b"\xff\xff\x00\x00 not packed at all"] {
            assert!((0..=u8::MAX).all(|number| unpack(bytes, With(number)).is_none()));
        }
    }

    #[test]
    fn what_was_packed_without_a_dictionary_is_still_read() {
        let content = b"PID|1||77^^^GHH^MR||SMITH^JANE".repeat(5);
        assert_eq!(unpack(&compress_prepend_size(&content), With::NOTHING).unwrap(), content);
    }

    #[test]
    fn a_dictionary_never_changes_and_every_table_has_one_at_the_most() {
        let mut hashes = String::new();
        for (n, dictionary) in DICTIONARIES.iter().enumerate() {
            assert_eq!(usize::from(dictionary.number), n + 1);
            assert_eq!(DICTIONARIES.iter().filter(|other| other.table == dictionary.table).count(), 1);
            let first = digest(&SHA256, dictionary.content).as_ref().first_chunk::<4>().copied().unwrap();
            write!(hashes, "{} {:08x}, ", dictionary.table, u32::from_be_bytes(first)).unwrap();
        }
        assert_eq!(
            hashes, "journal 22cebde8, patients 76502960, visits 01489d2c, facts df8628ab, outbox d8ddc9b7, audit d6bafc07, ",
            "what was packed with it could never be read again"
        );
    }

    #[test]
    fn documents_are_packed_without_a_dictionary_and_those_from_before_are_still_read() {
        let mut packer = Packer::default();
        for (table, documents) in examples() {
            for document in documents {
                let (with, packed) = packer.pack(table, &document.bytes).unwrap();
                assert_eq!((with, unpack(packed, with).unwrap()), (With::NOTHING, document.bytes), "{table}");
            }
        }
        for dictionary in DICTIONARIES.iter().filter(|dictionary| !dictionary.is_used) {
            let content = b"ids\xa4said\x81milestones".repeat(9);
            let packed = compress_prepend_size_with_dict(&content, dictionary.content);
            assert_eq!(unpack(&packed, With(dictionary.number)).unwrap(), content);
        }
    }
}
