//! Store paths and their records in the Nix database.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use super::{STORE_DIR, SharedMap, SharedSet};
use crate::base::digest::{DigestError, Sha, write_hex};

/// The base name of a store path, `<32 characters of hash>-<name>`, without the store directory. Clones share the text, because
/// there may be a hundred thousand paths and each referrer names them.
///
/// All of it is hashed, and not only its hash part: whoever writes a snapshot chooses that, and many that begin with the same characters
/// would make a table of them as slow as a list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct StorePath(Arc<str>);

/// A text that is not the base name of a store path.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not the base name of a store path: {why}")]
pub struct StorePathError {
    text: String,
    why: String,
}

impl StorePath {
    /// The base name, as in the store directory.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 32 characters of hash before the dash.
    #[must_use]
    pub fn hash_part(&self) -> &str {
        &self.0[..32]
    }

    /// The name after the hash and the dash.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0[33..]
    }

    /// Returns whether this is a derivation (its name ends in `.drv`).
    #[must_use]
    pub fn is_derivation(&self) -> bool {
        self.0.strip_suffix(".drv").is_some()
    }

    /// The full path as the database and Nix's commands write it, under the logical store directory.
    #[must_use]
    pub fn full(&self, store_dir: &str) -> String {
        format!("{store_dir}/{}", self.0)
    }

    /// Parses the full path `text` under `store_dir`.
    ///
    /// # Errors
    /// When `text` is not directly under `store_dir`, or its base name is not one of a store path.
    pub fn from_full(text: &str, store_dir: &str) -> Result<Self, StorePathError> {
        text.strip_prefix(store_dir)
            .and_then(|rest| rest.strip_prefix('/'))
            .ok_or_else(|| StorePathError { text: text.to_owned(), why: format!("it is not under {store_dir}") })?
            .parse()
    }
}

impl FromStr for StorePath {
    type Err = StorePathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        nix_derivation::StorePath::from_basename(text.as_bytes())
            .map_err(|error| StorePathError { text: text.to_owned(), why: error.to_string() })?;
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for StorePath {
    type Error = StorePathError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<StorePath> for String {
    fn from(path: StorePath) -> Self {
        path.as_str().to_owned()
    }
}

impl Serialize for StorePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The SHA-256 of a store path's NAR serialisation, as the Nix database records it. Written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NarHash(pub [u8; 32]);

impl NarHash {
    /// Formats it as in the database: `sha256:` and 64 hexadecimal digits.
    #[must_use]
    pub fn to_database(self) -> String {
        format!("sha256:{self}")
    }

    /// Parses the form of the database.
    #[must_use]
    pub fn from_database(text: &str) -> Option<Self> {
        text.strip_prefix("sha256:")?.parse().ok()
    }
}

impl fmt::Display for NarHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for NarHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NarHash({self})")
    }
}

impl FromStr for NarHash {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.parse::<Sha>()?.0))
    }
}

impl TryFrom<String> for NarHash {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<NarHash> for String {
    fn from(hash: NarHash) -> Self {
        hash.to_string()
    }
}

/// The record of one valid path in the Nix database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PathInfo {
    /// The path itself.
    pub path: StorePath,
    /// SHA-256 of its NAR.
    pub nar_hash: NarHash,
    /// Size of its NAR in bytes.
    pub nar_size: u64,
    /// Its references, possibly including itself.
    pub references: SharedSet<StorePath>,
    /// The derivation that built it, if known. It need not be valid.
    pub deriver: Option<StorePath>,
    /// Signatures, each `<key name>:<base64>`.
    pub signatures: SharedSet<String>,
    /// The content address, for paths that have one (`fixed:…`, `text:…`).
    pub ca: Option<String>,
    /// When it was registered, in seconds since 1970.
    pub registration_time: i64,
    /// Whether it was built on this machine and is therefore trusted without a signature.
    pub ultimate: bool,
    /// For a derivation: its outputs by name (the table `DerivationOutputs`). Otherwise empty.
    pub outputs: SharedMap<String, StorePath>,
}

impl PathInfo {
    /// The text of this path that is signed (`ValidPathInfo::fingerprint` of Nix).
    pub(crate) fn fingerprint(&self) -> String {
        let references: Vec<String> = self.references.iter().map(|path| path.full(STORE_DIR)).collect();
        let hash = nix_derivation::nixbase32::encode(&self.nar_hash.0);
        format!("1;{};sha256:{hash};{};{}", self.path.full(STORE_DIR), self.nar_size, references.join(","))
    }
}

#[cfg(test)]
impl PathInfo {
    /// A path of 100 bytes without references.
    pub(crate) fn sample(path: StorePath) -> Self {
        Self {
            path,
            nar_hash: NarHash([1; 32]),
            nar_size: 100,
            references: SharedSet::default(),
            deriver: None,
            signatures: SharedSet::default(),
            ca: None,
            registration_time: 1,
            ultimate: false,
            outputs: SharedMap::default(),
        }
    }
}

/// Serialisation of shared [`PathInfo`]s: `#[serde(with = "shared_infos")]`.
pub(crate) mod shared_infos {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::PathInfo;

    /// Writes them as a list.
    pub(crate) fn serialize<S: Serializer>(infos: &[Arc<PathInfo>], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(infos.iter().map(AsRef::as_ref))
    }

    /// Reads a list.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Arc<PathInfo>>, D::Error> {
        Ok(Vec::<PathInfo>::deserialize(deserializer)?.into_iter().map(Arc::new).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_begin_or_end_alike_are_spread_over_a_table() {
        use std::hash::{BuildHasher, RandomState};
        let state = RandomState::new();
        let alike = |name: fn(u32) -> String| {
            let hashes = (0..1000).map(|number| state.hash_one(name(number).parse::<StorePath>().unwrap()));
            hashes.collect::<std::collections::HashSet<u64>>().len()
        };
        assert_eq!(alike(|number| format!("{number:032}-path")), 1000);
        assert_eq!(alike(|number| format!("{}-path-{number}", "0".repeat(32))), 1000);
        assert_eq!(alike(|number| format!("{number:04}{}-path", "0".repeat(28))), 1000);
    }

    #[test]
    fn what_is_signed_of_a_path_is_what_nix_signs() {
        let path = |name: &str| format!("{}-{name}", "0".repeat(32)).parse::<StorePath>().unwrap();
        let references = [path("b"), path("a")].into_iter().collect();
        let info = PathInfo { nar_hash: NarHash([7; 32]), nar_size: 120, references, ..PathInfo::sample(path("x")) };
        let hash = nix_derivation::nixbase32::encode(&[7; 32]);
        let full = |name: &str| path(name).full(STORE_DIR);
        assert_eq!(info.fingerprint(), format!("1;{};sha256:{hash};120;{},{}", full("x"), full("a"), full("b")));
    }
}
