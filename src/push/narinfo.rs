//! Writes narinfos and the file that describes a binary cache.
//!
//! Source of the formats: `NarInfo::to_string` in Nix's `src/libstore/nar-info.cc`, `BinaryCacheStore::init` in
//! `src/libstore/binary-cache-store.cc`.

use std::fmt::Write as _;

use nix_derivation::nixbase32;

use super::pack::Packed;
use crate::series::sign::Keyring;
use crate::store::{PathInfo, STORE_DIR, StorePath};

/// The file that describes a cache.
pub(super) const INFO: &str = "nix-cache-info";

/// The content of that file in a new cache.
pub(super) fn new_cache() -> String {
    format!("StoreDir: {STORE_DIR}\nWantMassQuery: 1\n")
}

/// The store directory for which a cache is, from the file that describes it. Nix assumes its own if the file does not say.
pub(super) fn store_dir(text: &str) -> &str {
    text.lines().find_map(|line| line.strip_prefix("StoreDir:")).map_or(STORE_DIR, str::trim)
}

/// The name of the file that announces `path`.
pub(super) fn name(path: &StorePath) -> String {
    format!("{}.narinfo", path.hash_part())
}

/// The name of the archive.
pub(super) fn archive(packed: &Packed) -> String {
    format!("nar/{}.nar.zst", nixbase32::encode(&packed.hash))
}

/// The narinfo of a path whose archive is `packed`, signed by `keys`.
pub(super) fn text(info: &PathInfo, packed: &Packed, keys: &Keyring) -> String {
    let hash = |bytes: &[u8; 32]| format!("sha256:{}", nixbase32::encode(bytes));
    let references: Vec<&str> = info.references.iter().map(StorePath::as_str).collect();
    let mut signatures: Vec<String> = info.signatures.iter().cloned().collect();
    signatures.extend(keys.sign(&info.fingerprint()).iter().map(ToString::to_string));
    signatures.sort_unstable();
    signatures.dedup();
    let mut text = format!(
        "StorePath: {}\nURL: {}\nCompression: zstd\nFileHash: {}\nFileSize: {}\nNarHash: {}\nNarSize: {}\nReferences: {}\n",
        info.path.full(STORE_DIR),
        archive(packed),
        hash(&packed.hash),
        packed.size,
        hash(&info.nar_hash.0),
        info.nar_size,
        references.join(" ")
    );
    let deriver = info.deriver.iter().map(|path| ("Deriver", path.as_str()));
    let signed = signatures.iter().map(|signature| ("Sig", signature.as_str()));
    for (field, value) in deriver.chain(signed).chain(info.ca.iter().map(|ca| ("CA", ca.as_str()))) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{field}: {value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::objects::Source;

    #[test]
    fn a_narinfo_has_the_fields_of_nix_in_their_order() {
        let path = |name: &str| format!("{}-{name}", "0".repeat(32)).parse::<StorePath>().unwrap();
        let info = PathInfo {
            references: [path("x"), path("a")].into_iter().collect(),
            deriver: Some(path("x.drv")),
            signatures: ["k:AA".to_owned()].into_iter().collect(),
            ca: Some("fixed:sha256:0".to_owned()),
            ..PathInfo::sample(path("x"))
        };
        let packed = Packed { source: Source::Bytes(bytes::Bytes::new()), hash: [2; 32], size: 5 };
        let (file, nar) = (nixbase32::encode(&[2; 32]), nixbase32::encode(&[1; 32]));
        let zeros = "0".repeat(32);
        let expected = format!(
            "StorePath: /nix/store/{zeros}-x\nURL: nar/{file}.nar.zst\nCompression: zstd\nFileHash: sha256:{file}\nFileSize: 5\n\
             NarHash: sha256:{nar}\nNarSize: 100\nReferences: {zeros}-a {zeros}-x\nDeriver: {zeros}-x.drv\nSig: k:AA\n\
             CA: fixed:sha256:0\n"
        );
        assert_eq!(text(&info, &packed, &Keyring::default()), expected);
    }

    #[test]
    fn the_store_directory_of_a_cache_is_found() {
        assert_eq!(store_dir(&new_cache()), "/nix/store");
        assert_eq!(store_dir("WantMassQuery: 1\nStoreDir: /gnu/store\n"), "/gnu/store");
        assert_eq!(store_dir("Priority: 30\n"), "/nix/store");
    }
}
