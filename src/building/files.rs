//! Files that are missing: of the flake, which sees only what Git tracks, or of a store that lost what its database has.

use std::path::{Path, PathBuf};

use super::category::Category;
use super::event::Message;
use super::failure::{Failure, Scene, known};
use super::remedies;
use super::watch::Watch;

/// The failure of a file that is not there.
pub(super) fn missing_file(message: &Message, watch: &Watch, scene: &Scene) -> Failure {
    let path = quoted(if message.error.is_empty() { &message.text } else { &message.error });
    // Nix names the real place of a store elsewhere.
    let root_text = scene.store_root.as_deref().and_then(Path::to_str).unwrap_or_default();
    let path = path.as_deref().map(|path| path.strip_prefix(root_text.trim_end_matches('/')).unwrap_or(path));
    let Some((store_path, inside)) = path.and_then(in_store) else {
        return known(Category::Evaluation, message, watch, scene);
    };
    let root = scene.store_root.clone().unwrap_or_else(|| PathBuf::from("/"));
    let is_there = root.join(store_path.trim_start_matches('/')).symlink_metadata().is_ok();
    // Newer Nix reads sources without a copy in the store, and says only of those that a file does not exist.
    let is_lazy = message.text.contains("does not exist");
    if inside.is_empty() || !(is_there || is_lazy) {
        return known(Category::Cache, message, watch, scene);
    }
    let mut failure = known(Category::Evaluation, message, watch, scene);
    if store_path.ends_with("-source") {
        let in_project = scene.project.flake.join(inside).symlink_metadata().is_ok();
        failure.remedy = if in_project {
            format!("A flake sees only files that Git tracks: `git add {inside}`.")
        } else {
            remedies::UNTRACKED.to_owned()
        };
        if failure.line.is_none() {
            let name = Path::new(inside).file_name().unwrap_or_default().to_string_lossy();
            failure = failure.at(scene.project.of_text(&name));
        }
    }
    failure
}

/// The first path in quotes.
fn quoted(text: &str) -> Option<String> {
    let mut parts = text.split(['\'', '"']).skip(1).step_by(2);
    parts.find(|part| part.starts_with('/')).map(str::to_owned)
}

/// The store path that a path lies in, and the rest behind it.
fn in_store(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix("/nix/store/")?;
    let end = rest.find('/').map_or(path.len(), |at| "/nix/store/".len() + at);
    Some((&path[..end], path[end..].trim_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_parted_at_the_store() {
        assert_eq!(
            quoted("getting status of '/nix/store/x-source/a b': No").as_deref(),
            Some("/nix/store/x-source/a b")
        );
        assert_eq!(quoted("while 'x' of \"/nix/store/y\"").as_deref(), Some("/nix/store/y"));
        assert_eq!(in_store("/nix/store/x-source/a/b"), Some(("/nix/store/x-source", "a/b")));
        assert_eq!(in_store("/nix/store/x"), Some(("/nix/store/x", "")));
        assert_eq!(in_store("/etc/x"), None);
    }
}
