//! The key of Nix's caches.

use std::path::Path;

use crate::base::digest::Sha;
use crate::flake::{KeyError, escape, hash_files};

/// The version of the content and format of the key. Increase it whenever one of the two changes.
const FORMAT: &str = "v1";
/// Files of the project that an evaluation of a flake depends on.
const FILES: [&str; 2] = ["**/*.nix", "**/flake.lock"];
/// Number of digits of the files' hash.
const DIGITS: usize = 16;

/// The primary key of Nix's caches for the project in the folder `project`, and its restore prefixes from near to far, all
/// escaped. `lock_part` is the part of the project's own key that stands for its lock files, `system` the Nix system.
///
/// The key is `v1-<system>-<lock>-<16 digits of the SHA-256 over all Nix files and lock files>`. Its prefixes: the same lock
/// files, then the same system.
///
/// # Errors
/// [`KeyError`] when a file cannot be read, or `lock_part` is too long for a key.
pub(crate) fn eval_cache_key(project: &Path, lock_part: &str, system: &str) -> Result<(String, Vec<String>), KeyError> {
    let files = hash_files(project, &FILES.map(str::to_owned), "eval-cache")?;
    let far = format!("{FORMAT}-{system}-");
    let near = format!("{far}{}-", if lock_part.is_empty() { "nolock" } else { lock_part });
    let primary = format!("{near}{}", &Sha(files.digest).to_string()[..DIGITS]);
    Ok((escape(&primary)?, vec![escape(&near)?, escape(&far)?]))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_key_follows_nix_files_and_the_lock() {
        let project = tempfile::tempdir().unwrap();
        fs::create_dir(project.path().join("lib")).unwrap();
        fs::write(project.path().join("lib/a.nix"), "1").unwrap();
        let key = |lock: &str| eval_cache_key(project.path(), lock, "x86_64-linux").unwrap();
        let (first, prefixes) = key("abc");
        assert_eq!(prefixes, ["v1-x86_64-linux-abc-", "v1-x86_64-linux-"]);
        assert!(prefixes.iter().all(|prefix| first.starts_with(prefix)));
        fs::write(project.path().join("README.md"), "no matter").unwrap();
        assert_eq!(key("abc").0, first);
        fs::write(project.path().join("lib/a.nix"), "2").unwrap();
        let second = key("abc").0;
        assert!(second != first && second.starts_with(&prefixes[0]));
        fs::write(project.path().join("lib/flake.lock"), "{}").unwrap();
        assert_ne!(key("abc").0, second);
        let other = key("abd").0;
        assert!(!other.starts_with(&prefixes[0]) && other.starts_with(&prefixes[1]));
        assert!(key("").0.starts_with("v1-x86_64-linux-nolock-"));
    }
}
