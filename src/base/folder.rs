//! Lists files in folders that anybody may have filled, such as artifacts of forks.

use std::path::PathBuf;

use walkdir::WalkDir;

/// Files that were found.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub found: Vec<PathBuf>,
    /// Whether there are more than the limits allow.
    pub is_cut: bool,
}

/// What is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Most entries of folders.
    pub entries: usize,
    /// How deep.
    pub depth: usize,
    /// Most files that are listed.
    pub files: usize,
}

/// Lists the files in `places`, which are folders or files, whose names end in one of `endings`, in the order of their names. Links are
/// not followed: they could lead out of the folder.
pub(crate) fn files(places: &[PathBuf], endings: &[&str], limits: Limits) -> Files {
    let mut files = Files::default();
    let mut seen = 0;
    for place in places {
        let entries = WalkDir::new(place).follow_links(false).max_depth(limits.depth).sort_by_file_name();
        for entry in entries.into_iter().filter_map(Result::ok) {
            seen += 1;
            let has_ending =
                entry.path().extension().is_some_and(|ending| endings.iter().any(|wanted| ending == *wanted));
            let is_wanted = entry.file_type().is_file() && has_ending;
            if seen > limits.entries || is_wanted && files.found.len() >= limits.files {
                files.is_cut = true;
                return files;
            }
            if is_wanted {
                files.found.push(entry.into_path());
            }
        }
    }
    files
}
