//! Hashes files that globs name, the same way on every machine.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use super::KeyError;
use super::canon::Canon;
use super::pattern::Patterns;
use crate::base::bounds::open_file;

/// What [`hash_files`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HashedFiles {
    /// The SHA-256 of all of it: paths, content, which files are executable, targets of symbolic links.
    pub digest: [u8; 32],
    /// The files in the order of their paths.
    pub files: Vec<HashedFile>,
    /// The patterns, `!` ones aside, that name no file that is there.
    pub unmatched: Vec<String>,
}

/// A file that went into a hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HashedFile {
    /// Its path, relative to the base.
    pub path: PathBuf,
    /// The SHA-256 of its content, or of its target where it is a symbolic link.
    pub digest: [u8; 32],
}

/// Hashes the files under the folder `base` that `patterns` name. `input` is what errors call the patterns.
///
/// A pattern is relative to `base`. `*` and `?` stay within one folder, `**` crosses folders, `[a-z]` and `{a,b}` are known;
/// a folder that is named without wildcards stands for everything in it; `!` in front takes files away, whatever the order.
/// Nothing called `.git` is looked at. A symbolic link counts with the name of its target and is never followed, so nothing
/// outside of `base` is read. A pattern that matches no file is not an error.
///
/// # Errors
/// [`KeyError::Pattern`] for a pattern that cannot be used, [`KeyError::ReadFile`] where a file or folder cannot be read.
pub(crate) fn hash_files(base: &Path, patterns: &[String], input: &str) -> Result<HashedFiles, KeyError> {
    let found = find_files(base, patterns, input)?;
    let mut canon = Canon::new("files-1");
    canon.count(found.files.len());
    let mut files = Vec::with_capacity(found.files.len());
    for (path, metadata) in found.files {
        let full = base.join(&path);
        let digest = digest(&full, &metadata).map_err(|source| KeyError::ReadFile {
            input: input.to_owned(),
            path: full,
            source,
        })?;
        canon.bytes(path.as_os_str().as_encoded_bytes());
        canon.number(kind(&metadata));
        canon.bytes(&digest);
        files.push(HashedFile { path, digest });
    }
    Ok(HashedFiles { digest: canon.finish(), files, unmatched: found.unmatched })
}

/// Files that patterns name.
pub(super) struct Found {
    /// The files and symbolic links, by their path relative to the base.
    pub(super) files: BTreeMap<PathBuf, Metadata>,
    /// The patterns that name none.
    pub(super) unmatched: Vec<String>,
}

/// The files under `base` that `patterns` name. As [`hash_files`] otherwise.
pub(super) fn find_files(base: &Path, patterns: &[String], input: &str) -> Result<Found, KeyError> {
    // Absolute, for patterns that are; `absolute` refuses the empty path alone.
    let base = std::path::absolute(base).or_else(|_| std::env::current_dir()).unwrap_or_else(|_| base.to_owned());
    let patterns = Patterns::parse(&base, patterns, input)?;
    let mut files = BTreeMap::new();
    let mut matched = vec![false; patterns.given().len()];
    for root in patterns.roots() {
        walk(&base, root, &patterns, &mut |path, metadata| {
            let matching = patterns.matching(path);
            if !matching.is_empty() {
                for pattern in matching {
                    matched[pattern] = true;
                }
                files.insert(path.to_owned(), metadata);
            }
        })
        .map_err(|(path, source)| KeyError::ReadFile { input: input.to_owned(), path, source })?;
    }
    let unmatched = patterns.given().iter().zip(matched).filter(|(_, matched)| !matched).map(|(text, _)| text.clone());
    Ok(Found { files, unmatched: unmatched.collect() })
}

/// Shows `visit` every file and symbolic link at and under `base/root` that is not excluded.
fn walk(
    base: &Path,
    root: &Path,
    patterns: &Patterns,
    visit: &mut impl FnMut(&Path, Metadata),
) -> Result<(), (PathBuf, io::Error)> {
    let start = base.join(root);
    if patterns.excludes(root) || !is_inside(base, root)? {
        return Ok(());
    }
    // The base may be reached through a link, a file that is named may be one.
    let follow = root.as_os_str().is_empty();
    let relative = |path: &Path| path.strip_prefix(base).map_or_else(|_| path.to_owned(), Path::to_owned);
    let entries = WalkDir::new(&start).follow_links(false).follow_root_links(follow);
    for entry in entries.into_iter().filter_entry(|entry| !patterns.excludes(&relative(entry.path()))) {
        let failed = |error: walkdir::Error| {
            let path = error.path().unwrap_or(&start).to_owned();
            (path, error.into_io_error().unwrap_or_else(|| io::Error::other("the folders form a circle")))
        };
        let entry = entry.map_err(failed)?;
        if entry.file_type().is_file() || entry.file_type().is_symlink() {
            let metadata = entry.metadata().map_err(failed)?;
            visit(&relative(entry.path()), metadata);
        }
    }
    Ok(())
}

/// Whether there is anything at `base/root`, and no symbolic link on the way to it.
fn is_inside(base: &Path, root: &Path) -> Result<bool, (PathBuf, io::Error)> {
    for path in root.ancestors() {
        match fs::symlink_metadata(base.join(path)) {
            Ok(metadata) if metadata.is_symlink() && path != root && path != Path::new("") => return Ok(false),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(false);
            }
            Err(error) => return Err((base.join(path), error)),
        }
    }
    Ok(true)
}

/// 0 for a file, 1 for an executable one, 2 for a symbolic link: what Nix and Git tell apart.
fn kind(metadata: &Metadata) -> u64 {
    if metadata.is_symlink() { 2 } else { u64::from(metadata.permissions().mode() & 0o100 != 0) }
}

fn digest(path: &Path, metadata: &Metadata) -> io::Result<[u8; 32]> {
    if metadata.is_symlink() {
        return Ok(Sha256::digest(fs::read_link(path)?.as_os_str().as_encoded_bytes()).into());
    }
    let mut file = open_file(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hash.finalize().into()),
            Ok(read) => hash.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::super::canon::hex;
    use super::*;

    fn project(files: &[(&str, &str)]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        folder
    }

    fn hash(folder: &TempDir, patterns: &[&str]) -> HashedFiles {
        let patterns: Vec<String> = patterns.iter().map(|text| (*text).to_owned()).collect();
        hash_files(folder.path(), &patterns, "key-files").unwrap()
    }

    fn paths(found: &HashedFiles) -> Vec<&str> {
        found.files.iter().map(|file| file.path.to_str().unwrap()).collect()
    }

    #[test]
    fn files_come_in_order_whatever_the_order_of_patterns() {
        let folder = project(&[("b.nix", "b"), ("a/x.nix", "x"), ("a/y.md", "y"), (".git/z.nix", "z")]);
        let found = hash(&folder, &["b.nix", "**/*.nix", "gone/*", "gone.nix"]);
        assert_eq!(paths(&found), ["a/x.nix", "b.nix"]);
        assert_eq!(found.unmatched, ["gone/*", "gone.nix"]);
        assert_eq!(hex(&found.files[1].digest, 8), "3e23e816", "the SHA-256 of the letter b");
        assert_eq!(hash(&folder, &["a/*.nix", "b.nix"]).digest, found.digest);
        assert_eq!(paths(&hash(&folder, &["!a/*.md", "a"])), ["a/x.nix"]);
        assert_eq!(paths(&hash(&folder, &["."])), ["a/x.nix", "a/y.md", "b.nix"]);
        assert_eq!(paths(&hash(&folder, &[".git/z.nix"])), [""; 0]);
    }

    #[test]
    fn the_place_of_the_project_does_not_count() {
        let files = [("b.nix", "b"), ("a/x.nix", "x")];
        let found = hash(&project(&files), &["**"]);
        assert_eq!(found, hash(&project(&files), &["**"]));
        let link = tempfile::tempdir().unwrap();
        let other = project(&files);
        symlink(other.path(), link.path().join("base")).unwrap();
        assert_eq!(hash_files(&link.path().join("base"), &["**".to_owned()], "key-files").unwrap(), found);
    }

    #[test]
    fn every_change_shows() {
        let folder = project(&[("a", "1"), ("dir/b", "2")]);
        let mut seen = vec![hash(&folder, &["**"]).digest];
        let mut step = |change: &dyn Fn(&Path)| {
            change(folder.path());
            let digest = hash(&folder, &["**"]).digest;
            assert!(!seen.contains(&digest));
            seen.push(digest);
        };
        step(&|base| fs::write(base.join("a"), "2").unwrap());
        step(&|base| fs::set_permissions(base.join("a"), fs::Permissions::from_mode(0o755)).unwrap());
        step(&|base| fs::rename(base.join("a"), base.join("c")).unwrap());
        step(&|base| symlink("c", base.join("link")).unwrap());
        step(&|base| {
            fs::remove_file(base.join("link")).unwrap();
            symlink("dir/b", base.join("link")).unwrap();
        });
        step(&|base| {
            fs::remove_file(base.join("link")).unwrap();
            fs::write(base.join("link"), "dir/b").unwrap();
        });
        step(&|base| fs::remove_file(base.join("dir/b")).unwrap());
    }

    #[test]
    fn links_are_not_followed() {
        let folder = project(&[("dir/a.nix", "1")]);
        symlink("dir", folder.path().join("link")).unwrap();
        symlink("..", folder.path().join("dir/up.nix")).unwrap();
        symlink("nowhere", folder.path().join("dangling.nix")).unwrap();
        assert_eq!(paths(&hash(&folder, &["**/*.nix"])), ["dangling.nix", "dir/a.nix", "dir/up.nix"]);
        assert_eq!(paths(&hash(&folder, &["link"])), ["link"]);
        for through in ["link/a.*", "link/a.nix", "link/**"] {
            let found = hash(&folder, &[through]);
            assert_eq!((paths(&found).len(), found.unmatched.len()), (0, 1), "{through}");
        }
    }
}
