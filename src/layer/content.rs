//! Computes the hashes in content addresses from the bytes of a store path.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix_archive::git;
use nix_archive::nar::{CaseHack, encode_path};
use nix_derivation::{CAHash, HashAlgorithm, NixHash, NixHasher};

use super::nar::NarError;

/// Why a content address could not be computed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContentError {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("it cannot be read: {0}")]
    Nar(#[from] NarError),
    #[error("it cannot be read: {0}")]
    Git(#[from] git::Error),
    #[error("Git trees with {0} are not supported")]
    Unknown(HashAlgorithm),
    #[error("it is not a plain file")]
    NotAFile,
}

/// Hashes `path` by the method and algorithm of `address`. References of a path to itself, that is, occurrences of `own`, the
/// hash part of its name, are replaced by zeros as in Nix; otherwise no path could contain its own hash (`HashModuloSink`). There
/// are two hashes then: Nix 2.8 adds the positions of the references, and Nix 2.34 does not.
pub(crate) fn hashes_for(path: &Path, address: &CAHash, own: Option<&str>) -> Result<Vec<NixHash>, ContentError> {
    let hash = match address {
        CAHash::Text(_) => hash_file(open_plain(path)?, HashAlgorithm::Sha256)?,
        CAHash::Flat(hash) => hash_file(open_plain(path)?, hash.algorithm())?,
        CAHash::Nar(hash) => {
            let mut sink = Modulo::new(hash.algorithm(), own);
            encode_path(&mut sink, path, CaseHack::Disabled)?;
            return Ok(sink.finish());
        }
        CAHash::Git(NixHash::Sha1(_)) => NixHash::Sha1(git::hash_path::<sha1::Sha1>(path)?.hash.into()),
        CAHash::Git(hash) => return Err(ContentError::Unknown(hash.algorithm())),
    };
    Ok(vec![hash])
}

/// Reads the file at `path`, which must not be executable and must have at most `most` bytes.
pub(crate) fn read_plain(path: &Path, most: u64) -> Result<Vec<u8>, ContentError> {
    let mut bytes = Vec::new();
    open_plain(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other("it is larger than its record says").into());
    }
    Ok(bytes)
}

/// Opens a plain file without following a symlink or blocking on a pipe of that name.
fn open_plain(path: &Path) -> Result<File, ContentError> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_file() || metadata.permissions().mode() & 0o111 != 0 {
        return Err(ContentError::NotAFile);
    }
    let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    Ok(OpenOptions::new().read(true).custom_flags(flags).open(path)?)
}

fn hash_file(mut file: File, algorithm: HashAlgorithm) -> io::Result<NixHash> {
    let mut hasher = NixHasher::new(algorithm);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// Hashes everything that is written, with each occurrence of a text replaced by zeros, followed by the positions of these.
struct Modulo {
    hasher: NixHasher,
    /// The same without the positions.
    plain: NixHasher,
    own: Vec<u8>,
    /// A possible beginning of an occurrence.
    kept: Vec<u8>,
    /// Bytes hashed so far.
    at: u64,
    places: Vec<u64>,
}

impl Modulo {
    fn new(algorithm: HashAlgorithm, own: Option<&str>) -> Self {
        let own = own.unwrap_or_default().as_bytes().to_vec();
        Self {
            hasher: NixHasher::new(algorithm),
            plain: NixHasher::new(algorithm),
            own,
            kept: Vec::new(),
            at: 0,
            places: Vec::new(),
        }
    }

    fn hash(&mut self, end: usize) {
        self.hasher.update(&self.kept[..end]);
        self.plain.update(&self.kept[..end]);
        self.kept.drain(..end);
        self.at += end as u64;
    }

    /// The hash with the positions, and the hash without them.
    fn finish(mut self) -> Vec<NixHash> {
        self.hash(self.kept.len());
        for place in &self.places {
            self.hasher.update(format!("|{place}").as_bytes());
        }
        let hash = self.hasher.finalize();
        if self.own.is_empty() { vec![hash] } else { vec![hash, self.plain.finalize()] }
    }
}

impl Write for Modulo {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.own.is_empty() {
            self.hasher.update(bytes);
            return Ok(bytes.len());
        }
        self.kept.extend_from_slice(bytes);
        let mut from = 0;
        while let Some(found) = find(&self.kept[from..], &self.own) {
            let start = from + found;
            self.places.push(self.at + start as u64);
            from = start + self.own.len();
            self.kept[start..from].fill(0);
        }
        // An occurrence may continue in the next write.
        let end = (self.kept.len() + 1).saturating_sub(self.own.len());
        self.hash(end);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    let first = *text.first()?;
    let mut from = 0;
    loop {
        from += bytes.get(from..)?.iter().position(|byte| *byte == first)?;
        if bytes[from..].starts_with(text) {
            return Some(from);
        }
        from += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OWN: &str = "00bgd045z0d4icpbc2yyz4gx48ak44la";

    proptest! {
        #[test]
        fn pieces_do_not_change_the_hash(
            parts in prop::collection::vec(prop_oneof![Just(OWN.to_owned()), "[0ab]{0,40}"], 0..8),
            cuts in prop::collection::vec(1..50_usize, 1..20),
        ) {
            let whole = parts.concat().into_bytes();
            let mut expected = whole.clone();
            let mut places = Vec::new();
            for at in 0..whole.len() {
                if whole[at..].starts_with(OWN.as_bytes()) {
                    expected[at..at + OWN.len()].fill(0);
                    places.push(format!("|{at}"));
                }
            }
            let plain = expected.clone();
            expected.extend(places.concat().into_bytes());
            let mut sink = Modulo::new(HashAlgorithm::Sha256, Some(OWN));
            let (mut rest, mut cuts) = (&*whole, cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                sink.write_all(piece).unwrap();
                rest = after;
            }
            let hashes = [expected, plain].map(|bytes| nix_derivation::hash_bytes(HashAlgorithm::Sha256, &bytes));
            prop_assert_eq!(sink.finish(), hashes);
        }
    }

    #[test]
    fn what_is_not_a_plain_file_has_no_flat_hash() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("plain"), "text").unwrap();
        fs::write(path("program"), "text").unwrap();
        fs::set_permissions(path("program"), fs::Permissions::from_mode(0o555)).unwrap();
        std::os::unix::fs::symlink(path("plain"), path("link")).unwrap();
        let flat = CAHash::Flat(NixHash::Sha1([0; 20]));
        let found = hashes_for(&path("plain"), &flat, None).unwrap();
        assert_eq!(found[0].to_nix_base16_string(), "sha1:372ea08cab33e71c02c651dbc83a474d32c676ea");
        assert_eq!(read_plain(&path("plain"), 4).unwrap(), b"text");
        assert!(read_plain(&path("plain"), 3).is_err());
        for other in ["program", "link", ""] {
            assert!(hashes_for(&path(other), &flat, None).is_err(), "{other}");
            assert!(read_plain(&path(other), 99).is_err(), "{other}");
        }
        let tree = CAHash::Git(NixHash::Sha1([0; 20]));
        let blob = nix_derivation::hash_bytes(HashAlgorithm::Sha1, b"blob 4\0text");
        assert_eq!(hashes_for(&path("plain"), &tree, None).unwrap(), [blob]);
    }
}
