//! The two parts of a key that come from lock files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::{fs, io};

use super::canon::{Canon, hex};
use super::files::find_files;
use super::fingerprint::fingerprint;
use super::pattern::is_glob;
use super::{KeyError, Part, lock, nixpkgs};

/// The digits of nixpkgs' fingerprint in a key.
const NIXPKGS_DIGITS: usize = 12;
/// The digits of the fingerprint of all lock files.
const LOCK_DIGITS: usize = 16;

/// The parts `nixpkgs` and `lock` for the project in `base`, whose lock files are `named`.
///
/// The `lock` part covers every lock file with its path relative to `base`, in the order of these paths, as the list of path
/// and fingerprint under the kind `locks-1`; it is `nolock` when there is none. The `nixpkgs` part is from the first of them
/// that has a nixpkgs, `none` when there is none.
///
/// # Errors
/// [`KeyError`] when a named file is not there, or one of them cannot be used.
pub(super) fn parts(base: &Path, named: &[PathBuf]) -> Result<(Part, Part), KeyError> {
    let base = tidy(base);
    let (files, mut notes) = gather(&base, named)?;
    let mut first_nixpkgs = None;
    let mut canon = Canon::new("locks-1");
    canon.count(files.len());
    for (name, full) in &files {
        let lock = lock::read(full)?;
        let digest = fingerprint(&lock.graph, lock.graph.root);
        canon.bytes(name.as_os_str().as_encoded_bytes());
        canon.bytes(&digest);
        let name = name.display();
        let inputs = crate::base::human::count(lock.graph.nodes.len() as u64 - 1, "input");
        notes.push(format!("{name} (version {}, {inputs}, fingerprint {})", lock.version, hex(&digest, 16)));
        first_nixpkgs = first_nixpkgs.or_else(|| {
            let node = nixpkgs::find(&lock.graph)?;
            let source = nixpkgs::source(&lock.graph, node).map(nixpkgs::describe).unwrap_or_default();
            Some((hex(&nixpkgs::identity(&lock.graph, node), NIXPKGS_DIGITS), format!("nixpkgs {source}, from {name}")))
        });
    }
    let (nixpkgs, from) =
        first_nixpkgs.unwrap_or_else(|| ("none".to_owned(), "no lock file has nixpkgs for an input".to_owned()));
    let lock = if files.is_empty() { "nolock".to_owned() } else { hex(&canon.finish(), LOCK_DIGITS) };
    Ok((Part::new("nixpkgs", nixpkgs, vec![from]), Part::new("lock", lock, notes)))
}

/// The lock files by their path relative to `base`, with where they are, and notes on those that are not there.
fn gather(base: &Path, named: &[PathBuf]) -> Result<(BTreeMap<PathBuf, PathBuf>, Vec<String>), KeyError> {
    let mut paths = BTreeSet::new();
    let mut globs = Vec::new();
    let mut notes = Vec::new();
    for name in named {
        let full = base.join(name);
        match (is_there(&full)?, name.to_str().filter(|text| is_glob(text))) {
            (true, _) => {
                paths.insert(tidy(&full));
            }
            (false, Some(glob)) => globs.push(glob.to_owned()),
            (false, None) => return Err(KeyError::NoLock { path: full }),
        }
    }
    if named.is_empty() {
        let default = base.join("flake.lock");
        if is_there(&default)? {
            paths.insert(default);
        } else {
            notes.push(format!("there is no {}", default.display()));
        }
    }
    let found = find_files(base, &globs, "flake-lock")?;
    notes.extend(found.unmatched.iter().map(|glob| format!("no lock file matches {glob}")));
    paths.extend(found.files.into_keys().map(|path| base.join(path)));
    Ok((paths.into_iter().map(|path| (relative(base, &path), path)).collect(), notes))
}

/// Whether there is anything at `path`, a link to nothing included: what is broken shall be said, not passed over.
fn is_there(path: &Path) -> Result<bool, KeyError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(source) => Err(KeyError::ReadLock { path: path.to_owned(), source }),
    }
}

/// The path as an absolute one without `.` and `..`, so that one file has one name.
fn tidy(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut tidy = PathBuf::new();
    for component in absolute.components() {
        match component {
            Component::ParentDir => {
                tidy.pop();
            }
            Component::CurDir => {}
            other => tidy.push(other),
        }
    }
    tidy
}

/// The way from the folder `base` to `path`, both tidy.
fn relative(base: &Path, path: &Path) -> PathBuf {
    let shared = base.components().zip(path.components()).take_while(|(one, other)| one == other).count();
    let up = base.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(path.components().skip(shared)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEVEN: &str = include_str!("testdata/v7.json");
    const EMPTY: &str = r#"{"nodes": {"root": {}}, "root": "root", "version": 7}"#;

    fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        folder
    }

    fn values(base: &Path, named: &[&str]) -> (String, String) {
        let named: Vec<PathBuf> = named.iter().map(PathBuf::from).collect();
        let (nixpkgs, lock) = parts(base, &named).unwrap();
        (nixpkgs.value, lock.value)
    }

    #[test]
    fn without_a_lock_file_both_parts_say_so() {
        let folder = project(&[]);
        let (nixpkgs, lock) = parts(folder.path(), &[]).unwrap();
        assert_eq!((nixpkgs.value.as_str(), lock.value.as_str()), ("none", "nolock"));
        assert!(lock.from[0].contains("there is no") && lock.from[0].ends_with("flake.lock"));
        let (_, lock) = parts(folder.path(), &["**/flake.lock".into()]).unwrap();
        assert_eq!(
            (lock.value.as_str(), &*lock.from),
            ("nolock", &["no lock file matches **/flake.lock".to_owned()][..])
        );
    }

    #[test]
    fn a_named_file_must_be_there() {
        let folder = project(&[]);
        let message = parts(folder.path(), &["sub/my.lock".into()]).unwrap_err().to_string();
        assert!(message.contains("sub/my.lock") && message.contains("flake-lock"), "{message}");
        std::os::unix::fs::symlink("nowhere", folder.path().join("flake.lock")).unwrap();
        assert!(matches!(parts(folder.path(), &[]), Err(KeyError::ReadLock { .. })));
    }

    #[test]
    fn one_file_has_one_name() {
        let folder = project(&[("flake.lock", SEVEN), ("sub/x", "")]);
        let base = folder.path();
        let default = values(base, &[]);
        assert_ne!(default.0, "none");
        let absolute = base.join("flake.lock");
        for named in ["flake.lock", "./flake.lock", "sub/../flake.lock", "*.lock", absolute.to_str().unwrap()] {
            assert_eq!(values(base, &[named]), default, "{named}");
        }
        assert_eq!(values(base, &["flake.lock", "*.lock"]), default);
        assert_eq!(values(&base.join("sub/.."), &[]), default);
        let above = values(&base.join("sub"), &["../flake.lock"]);
        assert_eq!(above.0, default.0);
        assert_ne!(above.1, default.1, "the path counts");
    }

    #[test]
    fn several_files_count_in_the_order_of_their_paths() {
        let folder = project(&[("a/flake.lock", EMPTY), ("b/flake.lock", SEVEN), ("c/other.lock", SEVEN)]);
        let both = values(folder.path(), &["b/flake.lock", "a/flake.lock"]);
        assert_eq!(values(folder.path(), &["a/flake.lock", "b/flake.lock"]), both);
        assert_eq!(values(folder.path(), &["**/flake.lock"]), both);
        assert_eq!(values(folder.path(), &["**/*.lock", "!c"]), both);
        let one = values(folder.path(), &["b/flake.lock"]);
        assert_eq!(one.0, both.0, "nixpkgs is from the first file that has it");
        assert_ne!(one.1, both.1);
        assert_eq!(values(folder.path(), &["a/flake.lock"]).0, "none");
    }

    #[test]
    fn a_file_whose_name_looks_like_a_glob_is_that_file() {
        let folder = project(&[("[x].lock", SEVEN), ("x.lock", EMPTY)]);
        assert_ne!(values(folder.path(), &["[x].lock"]).0, "none");
    }
}
