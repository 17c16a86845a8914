//! The squashfs 4.0 image format, as far as layers use it: zstd, blocks of 1 MiB or 128 KiB, one owner, one time stamp, no extended
//! attributes. The Linux kernel can mount our images and `unsquashfs` can read them. When an image is read, every number is
//! checked, because it comes from a cache that others can write to.
//!
//! Source of the format: `fs/squashfs/squashfs_fs.h` of the Linux kernel.

mod blocks;
mod check;
mod directory;
mod error;
mod format;
mod layout;
mod metadata;
mod owner;
mod read;
mod stream;
mod tail;
mod tree;
pub(crate) mod usage;
mod write;

pub(crate) use blocks::{BlockReader, Piece, read_block};
pub(crate) use check::{Checked, check_with_usage};
pub use check::{Member, check};
pub use error::ImageError;
pub use format::{BLOCK_SIZE, FRAGMENT_SIZE, LARGE_FILE, SUPERBLOCK_SIZE};
pub(crate) use format::{MAX_FILE, MAX_INODES, MAX_LISTING};
pub(crate) use format::{MODIFICATION_TIME, UNCOMPRESSED_BLOCK, image_length, round_up_to_page, tables_start};
pub use owner::set_owner;
pub(crate) use read::FileInode;
pub use read::{Image, Inode, Listed};
pub(crate) use tree::Fragment;
pub use tree::{Content, Kind, Tree};
pub use write::write_tables;
