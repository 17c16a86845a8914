//! Checks that a record of a path is consistent in itself, without reading any file.
//!
//! A store path with a content address is recomputed from it and must be the same. Repeated values must agree: a recursive
//! SHA-256 is the NAR hash. And every value must be one that Nix could have written.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix_derivation::{CAHash, NixHash, StorePath as Address};

use super::{PathInfo, StorePath};

/// The SHA-256 of no bytes. No NAR is empty, so no path has it; some tools write it as a placeholder.
const HASH_OF_NOTHING: [u8; 32] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41,
    0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];
/// The NAR of an empty directory; no NAR is smaller.
const SMALLEST_NAR: u64 = 96;
/// Size of the words of a NAR, in bytes.
const NAR_WORD: u64 = 8;
/// Upper limit of NAR sizes: larger than any file system of a job.
const LARGEST_NAR: u64 = 1 << 44;
/// Longest key name in a signature.
const LONGEST_KEY_NAME: usize = 128;

/// Returns why the record of a path cannot be true or cannot be registered, or None.
pub(crate) fn fault(info: &PathInfo) -> Option<String> {
    if info.nar_hash.0 == [0; 32] || info.nar_hash.0 == HASH_OF_NOTHING {
        return Some("its NAR hash is a placeholder".to_owned());
    }
    if !(SMALLEST_NAR..=LARGEST_NAR).contains(&info.nar_size) || !info.nar_size.is_multiple_of(NAR_WORD) {
        return Some(format!("no NAR has a size of {} bytes", info.nar_size));
    }
    if info.registration_time < 0 {
        return Some("its registration time lies before 1970".to_owned());
    }
    if info.signatures.iter().any(|signature| !is_signature(signature)) {
        return Some("one of its signatures is malformed".to_owned());
    }
    if info.deriver.as_ref().is_some_and(|deriver| !deriver.is_derivation()) {
        return Some("its deriver is not a derivation".to_owned());
    }
    let ca = info.ca.as_ref()?;
    match content_address(ca) {
        None => Some("its content address is malformed".to_owned()),
        Some(address) => address_fault(info, &address),
    }
}

/// Returns whether `text` is a signature as Nix writes it: a key name, a colon, and 64 bytes in base64. Key names are limited to a
/// small alphabet because they are printed.
pub(crate) fn is_signature(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "+-._?=/@~".contains(c);
    text.split_once(':').is_some_and(|(name, bytes)| {
        (1..=LONGEST_KEY_NAME).contains(&name.len())
            && name.chars().all(allowed)
            && STANDARD.decode(bytes).is_ok_and(|bytes| bytes.len() == 64)
    })
}

/// Parses a content address, if it is written exactly as Nix writes it.
pub(crate) fn content_address(text: &str) -> Option<CAHash> {
    CAHash::parse(text).ok().filter(|address| address.to_nix_string() == text)
}

/// Returns why `info` cannot be the path that follows from `address`, or None.
fn address_fault(info: &PathInfo, address: &CAHash) -> Option<String> {
    let refers_to_itself = info.references.contains(&info.path);
    let others: Option<Vec<Address>> =
        info.references.iter().filter(|path| **path != info.path).map(to_address).collect();
    let computed = others.and_then(|others| {
        nix_derivation::store_path::build_ca_path(info.path.name(), address, &others, refers_to_itself).ok()
    });
    if computed.is_none_or(|computed| computed.to_basename() != info.path.as_str()) {
        return Some("its content address and references belong to another store path".to_owned());
    }
    match address {
        CAHash::Nar(NixHash::Sha256(hash)) if !refers_to_itself && *hash != info.nar_hash.0 => {
            Some("its content address contradicts its NAR hash".to_owned())
        }
        _ => None,
    }
}

/// Converts a path to the type of the derivation crate.
pub(super) fn to_address(path: &StorePath) -> Option<Address> {
    Address::from_basename(path.as_str().as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{NarHash, SharedSet};

    fn path(address: &Address) -> StorePath {
        address.to_basename().parse().unwrap()
    }

    /// A source with a reference, as `builtins.path` makes it.
    fn source() -> PathInfo {
        let other: StorePath = format!("{}-other", "1".repeat(32)).parse().unwrap();
        let address = CAHash::Nar(NixHash::Sha256([7; 32]));
        let made = nix_derivation::store_path::build_ca_path("source", &address, &[to_address(&other).unwrap()], false)
            .unwrap();
        PathInfo {
            nar_hash: NarHash([7; 32]),
            nar_size: 4096,
            references: SharedSet::from([other]),
            signatures: SharedSet::from([format!("key-1:{}", STANDARD.encode([1; 64]))]),
            ca: Some(address.to_nix_string()),
            ..PathInfo::sample(path(&made))
        }
    }

    fn fault_with(change: impl FnOnce(&mut PathInfo)) -> String {
        let mut info = source();
        change(&mut info);
        fault(&info).unwrap_or_default()
    }

    #[test]
    fn what_nix_could_have_written_has_no_fault() {
        assert_eq!(fault(&source()), None);
        assert_eq!(fault_with(|info| (info.ca, info.references) = (None, SharedSet::new())), "");
    }

    #[test]
    fn what_contradicts_itself_or_is_malformed_has_one() {
        let address = "belong to another store path";
        assert!(fault_with(|info| info.references.clear()).contains(address));
        assert!(fault_with(|info| info.references.extend([info.path.clone()])).contains(address));
        let other = CAHash::Nar(NixHash::Sha256([8; 32])).to_nix_string();
        assert!(fault_with(|info| info.ca = Some(other)).contains(address));
        assert!(fault_with(|info| info.nar_hash = NarHash([8; 32])).contains("contradicts its NAR hash"));
        for hash in [[0; 32], HASH_OF_NOTHING] {
            assert!(fault_with(|info| info.nar_hash = NarHash(hash)).contains("placeholder"));
        }
        for size in [0, 88, 4097, LARGEST_NAR + 8, u64::MAX] {
            assert!(fault_with(|info| info.nar_size = size).contains("size"), "{size}");
        }
        let long = format!("{}:{}", "k".repeat(129), STANDARD.encode([1; 64]));
        for signature in ["", "key-1", "key-1:", "key-1:AAAA", ":AAAA", "a b:AAAA", "##[x]:AAAA", &long] {
            assert!(fault_with(|info| info.signatures.extend([signature.to_owned()])).contains("signature"));
        }
        for ca in ["", "x", "fixed:r:sha256:", "fixed:r:sha256:00", "text:sha1:00", "fixed:x:sha256:1", "r:sha256:1"] {
            assert!(fault_with(|info| info.ca = Some(ca.to_owned())).contains("malformed"), "{ca}");
        }
        // Nix does not write the same hash in another encoding.
        let hex = format!("fixed:r:sha256:{}", NarHash([7; 32]));
        assert!(fault_with(|info| info.ca = Some(hex)).contains("malformed"));
        assert!(fault_with(|info| info.registration_time = -1).contains("1970"));
        assert!(fault_with(|info| info.deriver = Some(info.path.clone())).contains("deriver"));
    }

    #[test]
    fn every_method_has_a_path_of_its_own() {
        let text = CAHash::Text([7; 32]);
        let methods = [
            text.clone(),
            CAHash::Flat(NixHash::Sha256([7; 32])),
            CAHash::Flat(NixHash::Md5([7; 16])),
            CAHash::Nar(NixHash::Sha1([7; 20])),
            CAHash::Nar(NixHash::Sha512(Box::new([7; 64]))),
            CAHash::Git(NixHash::Sha1([7; 20])),
        ];
        for address in &methods {
            let made = nix_derivation::store_path::build_ca_path("x", address, &[], false).unwrap();
            let info = PathInfo {
                path: path(&made),
                references: SharedSet::new(),
                ca: Some(address.to_nix_string()),
                ..source()
            };
            assert_eq!(fault(&info), None, "{address}");
            for other in methods.iter().filter(|other| *other != address) {
                let forged = PathInfo { ca: Some(other.to_nix_string()), ..info.clone() };
                assert!(fault(&forged).is_some(), "{other} for {address}");
            }
            let refers = PathInfo { references: SharedSet::from([info.path.clone()]), ..info };
            assert!(fault(&refers).is_some());
        }
    }
}
