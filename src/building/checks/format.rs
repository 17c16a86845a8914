//! Checks whether a formatter would change something. Formatters have no common option for that, but each can format, so a copy is
//! formatted and compared.

use std::fs;
use std::io;
use std::path::Path;

use walkdir::WalkDir;

use super::{content, is_hidden};

/// A copy of the project in `folder`, without what version control and direnv keep there, and without what builds leave
/// behind as links.
pub(super) fn copy(folder: &Path) -> io::Result<tempfile::TempDir> {
    let copy = tempfile::Builder::new().prefix("nix-cache-format-").tempdir()?;
    let entries = WalkDir::new(folder).into_iter().filter_entry(|entry| entry.depth() == 0 || !is_hidden(entry.path()));
    for entry in entries {
        let entry = entry?;
        let Ok(relative) = entry.path().strip_prefix(folder) else { continue };
        let to = copy.path().join(relative);
        if entry.file_type().is_dir() {
            fs::create_dir_all(to)?;
        } else if entry.file_type().is_file() {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(copy)
}

/// The files that are another in the copy, by their names in the project.
pub(super) fn changed(folder: &Path, copy: &Path) -> Vec<String> {
    let entries = WalkDir::new(folder).sort_by_file_name().into_iter();
    let entries = entries.filter_entry(|entry| entry.depth() == 0 || !is_hidden(entry.path())).filter_map(Result::ok);
    let files = entries.filter(|entry| entry.file_type().is_file());
    let differing = files.filter_map(|entry| {
        let relative = entry.path().strip_prefix(folder).ok()?;
        (content(entry.path()) != content(&copy.join(relative))).then(|| relative.display().to_string())
    });
    differing.collect()
}

/// Whether Nix says that the flake lacks a formatter.
pub(super) fn is_missing(log: &[String]) -> bool {
    let text = log.join(" ");
    text.contains("does not provide attribute") && text.contains("formatter")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_changed_is_named() {
        let project = tempfile::tempdir().unwrap();
        for (file, text) in [("a.nix", "1"), ("sub/b.nix", "2"), (".git/c", "3")] {
            fs::create_dir_all(project.path().join(file).parent().unwrap()).unwrap();
            fs::write(project.path().join(file), text).unwrap();
        }
        std::os::unix::fs::symlink("/nowhere", project.path().join("result")).unwrap();
        let copy = copy(project.path()).unwrap();
        assert_eq!(changed(project.path(), copy.path()), [""; 0]);
        assert!(!copy.path().join(".git").exists());
        fs::write(copy.path().join("sub/b.nix"), "two").unwrap();
        fs::remove_file(copy.path().join("a.nix")).unwrap();
        assert_eq!(changed(project.path(), copy.path()), ["a.nix", "sub/b.nix"]);
    }
}
