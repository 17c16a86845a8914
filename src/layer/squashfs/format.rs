//! Constants and the superblock.

/// Bytes of a block of a large file before compression, in images of mostly large files: the most that squashfs can have.
pub const BLOCK_SIZE: usize = 1024 * 1024;
/// Files of fewer bytes share blocks.
pub const LARGE_FILE: usize = 128 * 1024;
/// Most bytes of a block that small files share: the kernel caches three of them, and decompresses a whole one for each small file that
/// is read. In images of many small files, blocks of large files have this size as well.
pub const FRAGMENT_SIZE: usize = 256 * 1024;
/// The block sizes of images that are read. Those of 128 KiB were written until 28 November 2026.
const BLOCK_SIZES: [u32; 3] = [128 * 1024, FRAGMENT_SIZE as u32, BLOCK_SIZE as u32];
/// The time stamp of everything in the image, in seconds since 1970: what Nix gives store paths.
pub(crate) const MODIFICATION_TIME: u32 = 1;
/// Flag in the size word of an uncompressed data block or fragment.
pub(crate) const UNCOMPRESSED_BLOCK: u32 = 1 << 24;
/// Bytes of the superblock at the start of an image.
pub const SUPERBLOCK_SIZE: usize = 96;
/// Bytes of a metadata block before compression.
pub(super) const METADATA_SIZE: usize = 8192;
/// Flag in the header of an uncompressed metadata block.
pub(super) const UNCOMPRESSED_METADATA: u16 = 1 << 15;
/// Largest number of inodes in an image, which limits the memory for reading one.
pub(crate) const MAX_INODES: u32 = 1 << 21;
/// Largest listing of one directory in bytes: half a million files with names of average length.
pub(crate) const MAX_LISTING: usize = 16 << 20;
/// Largest file in bytes.
pub(crate) const MAX_FILE: u64 = 256 << 30;
/// Longest target of a symlink in bytes, the limit of Linux.
pub(super) const MAX_LINK: usize = 4095;
/// "This file has no fragment", and other absent references of 32 bits.
pub(super) const NONE_32: u32 = u32::MAX;
/// An absent table.
pub(super) const NONE_64: u64 = u64::MAX;

const MAGIC: u32 = 0x7371_7368;
const ZSTD: u16 = 6;
/// Data is free of duplicates (0x40), no extended attributes (0x200).
const FLAGS: u16 = 0x0040 | 0x0200;

pub(super) const TYPE_DIRECTORY: u16 = 1;
pub(super) const TYPE_FILE: u16 = 2;
pub(super) const TYPE_SYMLINK: u16 = 3;
pub(super) const TYPE_LONG_DIRECTORY: u16 = 8;
pub(super) const TYPE_LONG_FILE: u16 = 9;

/// `length` rounded up to 4 KiB: loop devices truncate an image that ends in the middle of a sector.
#[must_use]
pub(crate) fn round_up_to_page(length: u64) -> u64 {
    length.next_multiple_of(4096)
}

/// Returns the size of the image with this superblock in bytes.
///
/// # Errors
/// The reason that it is not a superblock of our images.
pub(crate) fn image_length(superblock: &[u8; SUPERBLOCK_SIZE]) -> Result<u64, String> {
    Superblock::decode(superblock).map(|superblock| superblock.bytes_used)
}

/// Returns where the tables begin in the image with this superblock.
///
/// # Errors
/// The reason that it is not a superblock of our images.
pub(crate) fn tables_start(superblock: &[u8; SUPERBLOCK_SIZE]) -> Result<u64, String> {
    Superblock::decode(superblock).map(|superblock| superblock.inode_table)
}

/// The superblock's fields that differ between images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    /// Bytes of a block before compression.
    pub block: u32,
    pub inodes: u32,
    pub fragments: u32,
    pub ids: u16,
    pub root_inode: u64,
    pub bytes_used: u64,
    pub id_table: u64,
    pub inode_table: u64,
    pub directory_table: u64,
    pub fragment_table: u64,
}

impl Superblock {
    pub(super) fn encode(&self) -> [u8; SUPERBLOCK_SIZE] {
        let mut out = Vec::with_capacity(SUPERBLOCK_SIZE);
        out.extend(MAGIC.to_le_bytes());
        out.extend(self.inodes.to_le_bytes());
        out.extend(MODIFICATION_TIME.to_le_bytes());
        out.extend(self.block.to_le_bytes());
        out.extend(self.fragments.to_le_bytes());
        for half in [ZSTD, self.block.ilog2() as u16, FLAGS, self.ids, 4, 0] {
            out.extend(half.to_le_bytes());
        }
        let tables = [
            self.root_inode,
            self.bytes_used,
            self.id_table,
            NONE_64, // extended attributes
            self.inode_table,
            self.directory_table,
            self.fragment_table,
            NONE_64, // inode lookup table, for NFS
        ];
        for table in tables {
            out.extend(table.to_le_bytes());
        }
        out.try_into().expect("five words of 4 bytes, six of 2 and eight of 8 are 96 bytes")
    }

    /// The superblock in `bytes`, or what is wrong with it.
    pub(super) fn decode(bytes: &[u8; SUPERBLOCK_SIZE]) -> Result<Self, String> {
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        if word(0) != MAGIC {
            return Err("it does not begin as a squashfs image does".into());
        }
        let found = (half(28), half(30), word(12), half(20));
        if (found.0, found.1, found.3) != (4, 0, ZSTD) || !BLOCK_SIZES.contains(&found.2) {
            return Err(format!("version, block size or compression is not ours: {found:?}"));
        }
        Ok(Self {
            block: found.2,
            inodes: word(4),
            fragments: word(16),
            ids: half(26),
            root_inode: long(32),
            bytes_used: long(40),
            id_table: long(48),
            inode_table: long(64),
            directory_table: long(72),
            fragment_table: long(80),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_superblock_survives_the_round_trip_and_a_foreign_one_is_refused() {
        let superblock = Superblock {
            block: 1 << 20,
            inodes: 7,
            fragments: 3,
            ids: 2,
            root_inode: 1 << 40,
            bytes_used: 5000,
            id_table: 4900,
            inode_table: 1000,
            directory_table: 2000,
            fragment_table: 4000,
        };
        let mut bytes = superblock.encode();
        assert_eq!(Superblock::decode(&bytes).as_ref(), Ok(&superblock));
        let older = Superblock { block: 128 << 10, ..superblock.clone() };
        assert_eq!(Superblock::decode(&older.encode()), Ok(older));
        let other = Superblock { block: 512 << 10, ..superblock };
        assert!(Superblock::decode(&other.encode()).unwrap_err().contains("block size"));
        bytes[20] = 1; // gzip
        assert!(Superblock::decode(&bytes).unwrap_err().contains("compression"));
        bytes[0] ^= 1;
        assert!(Superblock::decode(&bytes).unwrap_err().contains("squashfs"));
    }
}
