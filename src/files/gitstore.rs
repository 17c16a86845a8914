//! Defines which files may be in the folder of Nix's caches and in the Git stores there.
//!
//! A Git repository can name programs that Git starts: in `config` (`core.fsmonitor`, `core.hooksPath`, `core.sshCommand`, filters,
//! `include.path`), in `hooks/` and in `info/attributes`; and it can borrow objects from elsewhere (`objects/info`). Only objects
//! and references are therefore kept. The same rules apply to a save and to a restore, which refuses an archive with anything else.
//! The config of a restored store is [`CONFIG`]. Layout: gitrepository-layout(5).

use std::ffi::OsStr;
use std::path::Path;

use crate::base::digest::is_hex;

/// The config of a bare repository, as Git 2.39 and libgit2 1.9 write it for Nix. Nix itself sets everything else that it needs.
pub(super) const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n";

/// Largest file with references, in bytes.
pub(super) const MOST_TEXT: u64 = 16 << 20;

/// A file or folder that may be in Nix's cache folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Folder,
    /// A database of evaluations or of fetched inputs.
    Database,
    /// An object, or a pack of objects: its name is the digest of its content.
    Object,
    /// A text file of this form.
    Text(Form),
}

/// The form of a file with references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A single reference: a commit, or the name of another reference.
    Reference,
    /// `packed-refs`.
    Packed,
    /// `shallow`: one commit per line.
    Shallow,
}

/// The folder of the Git store that contains `path`, relative to Nix's cache folder.
pub(super) fn store(path: &Path) -> Option<&Path> {
    let mut names = path.iter();
    let first = names.next()?.to_str()?;
    let depth = match first {
        "gitv3" => 2,
        _ if first.starts_with("tarball-cache") => 1,
        _ => return None,
    };
    path.ancestors().find(|ancestor| ancestor.iter().count() == depth)
}

/// The kind of the file or folder at `path`, relative to Nix's cache folder. None if files of that name are not kept.
pub(super) fn part(path: &Path, is_folder: bool) -> Option<Part> {
    let names: Vec<&str> = path.iter().map(OsStr::to_str).collect::<Option<_>>()?;
    let inner = match names.as_slice() {
        ["gitv3"] => return is_folder.then_some(Part::Folder),
        ["gitv3", store, inner @ ..] if is_plain(store) => inner,
        [store, inner @ ..] if is_numbered(store, "tarball-cache") => inner,
        [folder] if is_numbered(folder, "eval-cache-v") => return is_folder.then_some(Part::Folder),
        [folder, file] if is_numbered(folder, "eval-cache-v") => return database(file, is_folder),
        [file] if file.starts_with("fetcher-cache-v") => return database(file, is_folder),
        _ => return None,
    };
    if is_folder {
        let known = match inner {
            [] | ["refs" | "objects"] | ["objects", "pack"] => true,
            ["refs", rest @ ..] => rest.iter().all(|name| is_reference(name)),
            ["objects", folder] => is_hex(folder, 2),
            _ => false,
        };
        return known.then_some(Part::Folder);
    }
    match inner {
        ["HEAD"] => Some(Part::Text(Form::Reference)),
        ["packed-refs"] => Some(Part::Text(Form::Packed)),
        ["shallow"] => Some(Part::Text(Form::Shallow)),
        ["refs", rest @ ..] if !rest.is_empty() && rest.iter().all(|name| is_reference(name)) => {
            Some(Part::Text(Form::Reference))
        }
        ["objects", "pack", file] => {
            let (name, end) = file.strip_prefix("pack-")?.split_once('.')?;
            (is_hex(name, 40) && matches!(end, "pack" | "idx" | "rev")).then_some(Part::Object)
        }
        ["objects", folder, file] => (is_hex(folder, 2) && is_hex(file, 38)).then_some(Part::Object),
        _ => None,
    }
}

/// Returns whether `text` has this form.
pub(super) fn has_form(form: Form, text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    match form {
        Form::Reference => match text.strip_suffix('\n').unwrap_or(text) {
            line if line.starts_with("ref: ") => is_reference_path(line["ref: ".len()..].trim_start()),
            line => is_hex(line, 40),
        },
        Form::Packed => text.lines().all(|line| match line.strip_prefix('^') {
            Some(peeled) => is_hex(peeled, 40),
            None if line.starts_with("# pack-refs with:") => true,
            None => line.split_once(' ').is_some_and(|(commit, name)| is_hex(commit, 40) && is_reference_path(name)),
        }),
        Form::Shallow => text.lines().all(|line| is_hex(line, 40)),
    }
}

/// Returns whether a store with this config works with [`CONFIG`]: one with extensions, such as other digests, does not.
pub(super) fn is_usual(config: &[u8]) -> bool {
    !String::from_utf8_lossy(config).to_ascii_lowercase().contains("extensions")
}

fn database(file: &str, is_folder: bool) -> Option<Part> {
    let name = file.strip_suffix(".sqlite")?;
    (!is_folder && is_plain(name)).then_some(Part::Database)
}

fn is_numbered(name: &str, word: &str) -> bool {
    let rest = name.strip_prefix(word).map(|rest| rest.strip_prefix("-v").unwrap_or(rest));
    rest.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn is_reference_path(path: &str) -> bool {
    path.strip_prefix("refs/").is_some_and(|rest| rest.split('/').all(is_reference))
}

/// Returns whether this is a valid part of the name of a reference: git-check-ref-format(1).
fn is_reference(name: &str) -> bool {
    let odd = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    let ends = name.starts_with(['.', '-']) || name.ends_with('.') || has_lock(name);
    !name.is_empty() && !ends && !name.contains(odd) && !name.contains("..") && !name.contains("@{") && name.len() < 256
}

fn has_lock(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|end| end.eq_ignore_ascii_case("lock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "97903e2b9cad0d4452e42b75d052fc159dc3d4cf";

    #[test]
    fn of_a_git_store_only_objects_and_references_are_kept() {
        for store in
            ["gitv3/0pf6f6mkvy026jimjy83qciq971svibrlrlxblmncziblkl441y7-shallow", "tarball-cache-v2", "tarball-cache"]
        {
            let file = |name: &str| part(Path::new(&format!("{store}/{name}")), false);
            for kept in
                ["HEAD", "packed-refs", "shallow", "refs/heads/feat/x", "refs/tags/v1.0", "refs/remotes/origin/HEAD"]
            {
                assert!(matches!(file(kept), Some(Part::Text(_))), "{kept}");
            }
            let pack = format!("objects/pack/pack-{COMMIT}");
            for kept in [&format!("objects/97/{}", &COMMIT[2..]), &format!("{pack}.pack"), &format!("{pack}.idx")] {
                assert_eq!(file(kept), Some(Part::Object), "{kept}");
            }
            for refused in [
                "config",
                "config.worktree",
                "description",
                "FETCH_HEAD",
                "hooks/post-checkout",
                "info/attributes",
                "info/exclude",
                "info/grafts",
                "objects/info/alternates",
                "objects/info/http-alternates",
                "objects/info/commit-graph",
                "commondir",
                "gitdir",
                "worktrees/a/gitdir",
                "modules/a/config",
                "refs/heads/../../config",
                "refs/heads/a.lock",
                "refs/-x",
                "objects/pack/pack-x.pack",
                "objects/pack/x.promisor",
                "objects/9/x",
                "index",
                "logs/HEAD",
                ".git/config",
                "refs",
            ] {
                assert_eq!(file(refused), None, "{refused}");
            }
            assert_eq!(part(Path::new(&format!("{store}/refs/heads")), true), Some(Part::Folder));
            assert_eq!(part(Path::new(&format!("{store}/hooks")), true), None);
        }
        for refused in [
            "gitv3/x",
            "eval-cache-v5/a.sqlite-wal",
            "eval-cache-v5/a b.sqlite",
            "flake-registry.json",
            "eval-cache-vx/a.sqlite",
        ] {
            assert_eq!(part(Path::new(refused), false), None, "{refused}");
        }
    }

    #[test]
    fn references_have_one_form() {
        let packed = format!("# pack-refs with: peeled fully-peeled sorted \n{COMMIT} refs/tags/v1\n^{COMMIT}\n");
        for (form, good) in [
            (Form::Reference, "ref: refs/heads/__nix_dummy_branch\n"),
            (Form::Reference, &*format!("{COMMIT}\n")),
            (Form::Packed, &packed),
            (Form::Shallow, &format!("{COMMIT}\n{COMMIT}\n")),
        ] {
            assert!(has_form(form, good.as_bytes()), "{good}");
            assert!(!has_form(form, format!("{good}x\n").as_bytes()), "{good}");
        }
        for bad in [
            "ref: ../../config",
            "ref: /etc/passwd",
            "gitdir: /x",
            "ref: refs/heads/../x",
            "ref: refs/heads/a\n[core]",
            "",
        ] {
            assert!(!has_form(Form::Reference, bad.as_bytes()), "{bad}");
        }
        assert!(is_usual(CONFIG.as_bytes()) && !is_usual(b"[Extensions]\n\tobjectFormat = sha256\n"));
    }
}
