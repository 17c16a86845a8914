//! Reads the two lines of a narinfo that show whether a substituter has the same path.

use nix_derivation::nixbase32;

use crate::store::{NarHash, PathInfo, StorePath};

/// Returns whether the narinfo `text` is about the path of `info` with the same NAR. A different NAR is another build of the same
/// derivation, and a job that relies on the bytes in this store would not get them.
///
/// Source of the format: `NarInfo::NarInfo` in Nix's `src/libstore/nar-info.cc`.
pub(super) fn is_of(text: &str, info: &PathInfo) -> bool {
    is_of_path(text, &info.path) && field(text, "NarHash").is_some_and(|hash| is_hash(hash, info.nar_hash))
}

/// Returns whether the narinfo `text` is about this path, with any NAR.
pub(crate) fn is_of_path(text: &str, path: &StorePath) -> bool {
    field(text, "StorePath").and_then(|path| path.rsplit('/').next()) == Some(path.as_str())
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::trim)
}

/// Returns whether `text` is this hash, in Nix's base 32 or in hexadecimal.
fn is_hash(text: &str, hash: NarHash) -> bool {
    let digits = text.strip_prefix("sha256:");
    digits.is_some_and(|digits| digits == nixbase32::encode(&hash.0) || digits == hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::tests::info;
    use super::*;

    #[test]
    fn path_and_hash_must_be_the_same() {
        // The SHA-256 of no bytes, as Nix writes it.
        let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".parse().unwrap();
        let info = PathInfo { nar_hash: nothing, ..info("a") };
        let nix32 = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";
        let text = |path: &str, hash: &str| format!("StorePath: /nix/store/{path}\nURL: nar/x\nNarHash: {hash}\n");
        assert!(is_of(&text(info.path.as_str(), &format!("sha256:{nix32}")), &info));
        assert!(is_of(&text(info.path.as_str(), &nothing_hex()), &info));
        assert!(!is_of(&text(info.path.as_str(), &format!("sha256:{}", nix32.replace('0', "1"))), &info));
        assert!(!is_of(&text("other", &format!("sha256:{nix32}")), &info));
        assert!(!is_of(&format!("StorePath: /nix/store/{}\n", info.path), &info));
        assert!(!is_of("<html>not found</html>", &info));
    }

    fn nothing_hex() -> String {
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".to_owned()
    }
}
