//! Packs a store path: its NAR, compressed into a file without a name. Memory does not grow with the path.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::base::disk::Guarded;
use crate::layer::write_nar;
use crate::remote::objects::Source;
use crate::store::own::OwnFolder;
use crate::store::{NarHash, PathInfo, StoreDirs};

/// zstd level of archives, the default of zstd and of Nix.
const LEVEL: i32 = 3;

/// A packed path.
pub(super) struct Packed {
    pub source: Source,
    /// SHA-256 of the compressed bytes.
    pub hash: [u8; 32],
    /// Number of compressed bytes.
    pub size: u64,
}

/// Why a path could not be packed.
#[derive(Debug, thiserror::Error)]
pub(super) enum PackError {
    /// The path is not what the Nix database says.
    #[error("{0}")]
    Corrupt(String),
    /// There is no room for the archive.
    #[error("its archive cannot be written: {0}")]
    Local(io::Error),
}

/// A folder for archives: ours beside the store, or `temporary`.
pub(super) fn folder(dirs: &StoreDirs, temporary: PathBuf) -> PathBuf {
    let own = OwnFolder::work(dirs).map(|folder| folder.path().to_owned());
    own.ok().filter(|folder| tempfile::tempfile_in(folder).is_ok()).unwrap_or(temporary)
}

/// Packs a path, and compares its bytes with the Nix database.
pub(super) fn pack(dirs: &StoreDirs, info: &PathInfo, folder: &Path) -> Result<Packed, PackError> {
    let file = tempfile::tempfile_in(folder).map_err(PackError::Local)?;
    let mut target = Target { file: Guarded::new(&file), hash: Sha256::new(), size: 0, failed: None };
    let written = write(dirs, info, &mut target);
    let Target { hash, size, failed, .. } = target;
    if let Some(error) = failed {
        return Err(PackError::Local(error));
    }
    let found = written.map_err(|why| PackError::Corrupt(format!("it cannot be read ({why})")))?;
    if found != (info.nar_hash, info.nar_size) {
        return Err(PackError::Corrupt(
            "its bytes differ from the Nix database. Repair it with `nix-store --verify --check-contents --repair`"
                .to_owned(),
        ));
    }
    let source = Source::File { file: Arc::new(file), size };
    Ok(Packed { source, hash: hash.finalize().into(), size })
}

/// Writes the archive, and returns hash and size of the NAR.
fn write(dirs: &StoreDirs, info: &PathInfo, target: &mut Target<'_>) -> Result<(NarHash, u64), String> {
    let encoder = zstd::stream::Encoder::new(target, LEVEL).map_err(|error| error.to_string())?;
    let mut nar = Nar { encoder, hash: Sha256::new(), size: 0, most: info.nar_size };
    write_nar(&dirs.real(&info.path), &mut nar).map_err(|error| error.to_string())?;
    nar.encoder.finish().map_err(|error| error.to_string())?;
    Ok((NarHash(nar.hash.finalize().into()), nar.size))
}

/// Hashes a NAR on its way to the encoder. A path that grows is stopped.
struct Nar<W: Write> {
    encoder: W,
    hash: Sha256,
    size: u64,
    most: u64,
}

impl<W: Write> Write for Nar<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.encoder.write(buffer)?;
        self.hash.update(&buffer[..written]);
        self.size += written as u64;
        if self.size > self.most {
            return Err(io::Error::other("it is larger than the Nix database says"));
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.encoder.flush()
    }
}

/// Hashes compressed bytes on their way to the file, and remembers why they could not be written.
struct Target<'a> {
    file: Guarded<'a>,
    hash: Sha256,
    size: u64,
    failed: Option<io::Error>,
}

impl Write for Target<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self.file.write(buffer) {
            Ok(written) => {
                self.hash.update(&buffer[..written]);
                self.size += written as u64;
                Ok(written)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let again = io::Error::new(error.kind(), error.to_string());
                self.failed = Some(error);
                Err(again)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The file of an archive that a test reads.
#[cfg(test)]
pub(super) fn bytes_of(packed: &Packed) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let Source::File { file, size } = &packed.source else { panic!("an archive is a file") };
    let mut bytes = vec![0; *size as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::layer::hash_and_size_of;
    use crate::store::StorePath;

    fn scene() -> (tempfile::TempDir, StoreDirs, PathInfo) {
        let root = tempfile::tempdir().unwrap();
        let dirs = StoreDirs::new(Some(root.path()));
        let path: StorePath = format!("{}-x", "0".repeat(32)).parse().unwrap();
        let real = dirs.real(&path);
        fs::create_dir_all(&real).unwrap();
        fs::write(real.join("file"), vec![b'a'; 1 << 20]).unwrap();
        let (nar_hash, nar_size) = hash_and_size_of(&real).unwrap();
        let info = PathInfo { nar_hash, nar_size, ..PathInfo::sample(path) };
        (root, dirs, info)
    }

    #[test]
    fn an_archive_is_the_compressed_nar_and_known_by_its_hash() {
        let (root, dirs, info) = scene();
        let packed = pack(&dirs, &info, root.path()).unwrap();
        let bytes = bytes_of(&packed);
        assert_eq!(packed.hash, <[u8; 32]>::from(Sha256::digest(&bytes)));
        let nar = zstd::decode_all(&bytes[..]).unwrap();
        assert_eq!((NarHash(Sha256::digest(&nar).into()), nar.len() as u64), (info.nar_hash, info.nar_size));
        assert!(packed.size < 10_000, "{}", packed.size);
    }

    #[test]
    fn a_damaged_path_is_not_packed_whether_it_grew_shrank_or_went() {
        let (root, dirs, info) = scene();
        let file = dirs.real(&info.path).join("file");
        for change in [vec![b'b'; 1 << 20], vec![b'a'; 2 << 20], Vec::new()] {
            fs::write(&file, change).unwrap();
            assert!(matches!(pack(&dirs, &info, root.path()), Err(PackError::Corrupt(_))));
        }
        fs::remove_dir_all(dirs.real(&info.path)).unwrap();
        assert!(matches!(pack(&dirs, &info, root.path()), Err(PackError::Corrupt(_))));
    }

    #[test]
    fn an_archive_that_cannot_be_written_is_not_the_fault_of_the_path() {
        let (root, dirs, info) = scene();
        assert!(matches!(pack(&dirs, &info, &root.path().join("absent")), Err(PackError::Local(_))));
    }
}
