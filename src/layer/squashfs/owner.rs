//! The owner of everything in an image. Images are packed with owner and group 0, so that the same paths yield the same bytes on
//! every machine. If a store belongs to another user, its owner is written into the image before it is mounted.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::error::ImageError;
use super::format::{SUPERBLOCK_SIZE, Superblock, UNCOMPRESSED_METADATA};

/// Makes `owner` (user and group) the owner of everything in the image in `file`.
///
/// # Errors
/// When it is not one of our images, or cannot be written.
pub fn set_owner(file: &Path, owner: (u32, u32)) -> Result<(), ImageError> {
    let file = File::options().read(true).write(true).open(file)?;
    let mut first = [0; SUPERBLOCK_SIZE];
    file.read_exact_at(&mut first, 0)?;
    let superblock = Superblock::decode(&first).map_err(ImageError::Foreign)?;
    let mut list = [0; 8];
    file.read_exact_at(&mut list, superblock.id_table)?;
    let table = u64::from_le_bytes(list);
    let mut header = [0; 2];
    file.read_exact_at(&mut header, table)?;
    // Compression does not make eight bytes smaller, so the writer stores them uncompressed.
    if superblock.ids != 2 || u16::from_le_bytes(header) != UNCOMPRESSED_METADATA | 8 || table >= superblock.id_table {
        return Err(ImageError::Malformed("its table of owners is not as we write it"));
    }
    let mut ids = [0; 8];
    ids[..4].copy_from_slice(&owner.0.to_le_bytes());
    ids[4..].copy_from_slice(&owner.1.to_le_bytes());
    let mut now = [0; 8];
    file.read_exact_at(&mut now, table + 2)?;
    if now != ids {
        file.write_all_at(&ids, table + 2)?;
    }
    Ok(())
}
