//! Packing: contents are made short before they are sealed (LZ4 block format, which has no parameters and no header that could change).
//!
//! A packed content begins with its length unpacked, four bytes, little-endian. What is short already, or does not get shorter, stays as it is. It sees
//! contents in the clear and keeps nothing of them but in its own memory, which the next content overwrites.

use std::fmt;

use lz4_flex::block::CompressTable;
use lz4_flex::block::compress_into_with_table;
use lz4_flex::block::decompress_size_prepended;
use lz4_flex::block::get_maximum_output_size;

/// What is shorter than this is not worth packing.
const WORTH_IT: usize = 96;
const LENGTH_BYTES: usize = 4;

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
    /// The content packed; `None` where it stays as it is.
    pub(super) fn pack(&mut self, content: &[u8]) -> Option<&[u8]> {
        let length = u32::try_from(content.len()).ok().filter(|_| content.len() >= WORTH_IT)?;
        let most = LENGTH_BYTES + get_maximum_output_size(content.len());
        if self.packed.len() < most {
            self.packed.resize(most, 0);
        }
        let (prefix, packed) = self.packed.split_first_chunk_mut::<LENGTH_BYTES>()?;
        *prefix = length.to_le_bytes();
        let n_packed = compress_into_with_table(content, packed, &mut self.table).ok()?;
        self.packed.get(..LENGTH_BYTES + n_packed).filter(|packed| packed.len() < content.len())
    }
}

/// The content again; `None` when it was never packed like this.
pub(super) fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    decompress_size_prepended(packed).ok()
}

#[cfg(test)]
mod tests {
    use super::Packer;
    use super::unpack;

    #[test]
    fn what_is_packed_is_unpacked_whatever_was_packed_before_it() {
        let mut packer = Packer::default();
        for n in [96_usize, 1000, 100, 70_000, 300, 200_000, 96] {
            let content: Vec<u8> = b"SMITH^JANE^".iter().copied().cycle().take(n).collect();
            let packed = packer.pack(&content).unwrap();
            assert!(packed.len() < content.len());
            assert_eq!(unpack(packed).unwrap(), content);
        }
    }

    #[test]
    fn what_gets_no_shorter_stays_as_it_is() {
        let mut packer = Packer::default();
        assert!(packer.pack(b"SMITH^JANE").is_none());
        let noise: Vec<u8> = (0..200_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
        assert!(packer.pack(&noise).is_none());
    }

    #[test]
    fn what_was_not_packed_is_not_unpacked() {
        for bytes in [b"".as_slice(), b"abc", b"\xff\xff\x00\x00 not packed at all"] {
            assert!(unpack(bytes).is_none());
        }
    }
}
