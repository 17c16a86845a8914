//! Finds the file and line of the project that a message is about, for annotations.

use std::path::{Component, Path, PathBuf};

use super::event::Message;
use crate::base::bounds::read_text;

/// Files that are searched for a hash.
const MOST_FILES: usize = 5_000;
/// Larger files hold no Nix code that people write.
const LARGEST: u64 = 4 << 20;

/// A place in a file of the project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// The file, from the workspace on.
    pub file: String,
    /// The line, from 1 on.
    pub line: u32,
    /// The column, from 1 on.
    pub column: Option<u32>,
}

/// Where the project is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Project {
    /// The folder that annotations count from.
    pub workspace: PathBuf,
    /// The folder with the flake, or the workspace once more.
    pub flake: PathBuf,
}

/// A place as a log names it.
type Named = (String, u32, Option<u32>);

impl Project {
    /// The place that an error of Nix's is about: the one that Nix names, or else the innermost of its trace that lies in
    /// the project.
    #[must_use]
    pub(crate) fn of_message(&self, message: &Message) -> Option<Position> {
        if let Some(position) = super::modules::position(self, &message.text) {
            return Some(position);
        }
        let named = message.file.as_ref().zip(message.line).and_then(|(file, line)| {
            // Nix 2.34 writes line and column behind the file, too.
            let suffix = message.column.map(|column| format!(":{line}:{column}")).unwrap_or_default();
            self.resolve(&(file.strip_suffix(&suffix).unwrap_or(file).to_owned(), line, message.column))
        });
        named.or_else(|| named_in(&message.text).iter().rev().find_map(|named| self.resolve(named)))
    }

    /// The place of the first error in the lines of a builder.
    #[must_use]
    pub(crate) fn of_log(&self, lines: &[&str]) -> Option<Position> {
        let mut in_error = false;
        for line in lines {
            let lower = line.to_lowercase();
            let speaks_of = |word: &str| lower.contains(word);
            // rustc names the place on the next line.
            let arrow = lower.trim_start().starts_with("-->") || lower.trim_start().starts_with("file \"");
            if !arrow {
                in_error = ["error", "panicked", "failed", "failure", "traceback"].into_iter().any(speaks_of);
            }
            if in_error && let Some(position) = named_in(line).iter().find_map(|named| self.resolve(named)) {
                return Some(position);
            }
        }
        None
    }

    /// The line of the project's Nix code that holds `text`, such as a hash.
    #[must_use]
    pub(crate) fn of_text(&self, text: &str) -> Option<Position> {
        let files = self.files().filter(|path| path.extension().is_some_and(|extension| extension == "nix"));
        files.into_iter().find_map(|path| self.line_with(&path, text))
    }

    /// The line of the flake's lock file that holds `text`.
    #[must_use]
    pub(crate) fn of_lock(&self, text: &str) -> Option<Position> {
        self.line_with(&self.flake.join("flake.lock"), text)
    }

    /// The first line of a file that holds `text`.
    pub(super) fn line_with(&self, path: &Path, text: &str) -> Option<Position> {
        self.line_that(path, |line| line.contains(text))
    }

    /// The first line of a file that is as wanted.
    pub(super) fn line_that(&self, path: &Path, is_wanted: impl Fn(&str) -> bool) -> Option<Position> {
        let content = read_text(path, LARGEST).ok()?;
        let line = content.lines().position(is_wanted)?;
        Some(Position { file: self.in_workspace(path)?, line: u32::try_from(line + 1).ok()?, column: None })
    }

    /// The files of the flake, but for hidden ones; a bounded number of them.
    pub(super) fn files(&self) -> impl Iterator<Item = PathBuf> {
        let wanted = |entry: &walkdir::DirEntry| {
            let name = entry.file_name().to_string_lossy();
            entry.depth() == 0 || !(entry.file_type().is_dir() && name.starts_with('.'))
        };
        let files = walkdir::WalkDir::new(&self.flake).sort_by_file_name().into_iter().filter_entry(wanted);
        let is_file =
            |entry: &walkdir::DirEntry| entry.metadata().is_ok_and(|known| known.is_file() && known.len() <= LARGEST);
        files.filter_map(Result::ok).take(MOST_FILES).filter(is_file).map(walkdir::DirEntry::into_path)
    }

    /// The file of the project that `named` means; none when it lies elsewhere or has no such line.
    fn resolve(&self, (path, line, column): &Named) -> Option<Position> {
        let real = self.candidates(path).into_iter().find(|candidate| candidate.is_file());
        let real = real.or_else(|| self.only_file_at(path))?;
        let content = read_text(&real, LARGEST).ok()?;
        // The store may hold another version, or another project, with a file of this name.
        let in_store = Path::new(path).is_absolute() && path.contains("/nix/store/");
        if in_store && read_text(Path::new(path), LARGEST).is_ok_and(|stored| stored != content) {
            return None;
        }
        let lines = content.lines().count() as u64;
        if u64::from(*line) > lines.max(1) || *line == 0 {
            return None;
        }
        Some(Position { file: self.in_workspace(&real)?, line: *line, column: *column })
    }

    /// The file of the project that a path of Nix's means.
    pub(super) fn file(&self, path: &str) -> Option<PathBuf> {
        let real = self.candidates(path).into_iter().find(|candidate| candidate.is_file())?;
        self.in_workspace(&real).map(|_| real)
    }

    fn candidates(&self, path: &str) -> Vec<PathBuf> {
        let both = |rest: &str| vec![self.flake.join(rest), self.workspace.join(rest)];
        if let Some((_, behind)) = path.split_once("/nix/store/") {
            return behind.split_once("-source/").map(|(_, rest)| both(rest)).unwrap_or_default();
        }
        if let Some((_, behind)) =
            path.split_once("/build/").filter(|(before, _)| before.is_empty() || before.contains("nix-build"))
        {
            let inner = behind.split_once('/').map(|(_, rest)| both(rest)).unwrap_or_default();
            return [inner, both(behind)].concat();
        }
        if Path::new(path).is_absolute() {
            return vec![PathBuf::from(path)];
        }
        both(path.trim_start_matches("./"))
    }

    /// The one file of the flake that `path` may mean: what a builder sees need not be the root of the flake.
    fn only_file_at(&self, path: &str) -> Option<PathBuf> {
        let inner = match path.split_once("/build/") {
            Some((before, behind)) if before.is_empty() || before.contains("nix-build") => behind,
            _ if Path::new(path).is_absolute() => return None,
            _ => path.trim_start_matches("./"),
        };
        // The folder that the source was unpacked to has a name of its own.
        let shorter = inner.split_once('/').map(|(_, rest)| rest).filter(|_| path.starts_with('/'));
        [Some(inner), shorter].into_iter().flatten().find_map(|inner| {
            let mut fitting = self.files().filter(|file| file.ends_with(inner));
            let only = fitting.next()?;
            fitting.next().is_none().then_some(only)
        })
    }

    fn in_workspace(&self, path: &Path) -> Option<String> {
        let relative = path.strip_prefix(&self.workspace).ok()?;
        let normal = relative.components().filter(|part| !matches!(part, Component::CurDir)).collect::<PathBuf>();
        let inside = normal.components().all(|part| matches!(part, Component::Normal(_)));
        inside.then(|| normal.to_str().map(str::to_owned)).flatten()
    }
}

/// Every place that a text names: `file:3:5`, `file:3`, `file(3,5)` and `File "file", line 3`.
fn named_in(text: &str) -> Vec<Named> {
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some((file, rest)) = line.split_once("File \"").and_then(|(_, rest)| rest.split_once("\", line ")) {
            found.extend(
                number(rest.split(|c: char| !c.is_ascii_digit()).next()).map(|line| (file.to_owned(), line, None)),
            );
        }
        let words = line.split(|c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '`' | '«' | '»' | '[' | ']'));
        found.extend(words.filter_map(named));
    }
    found
}

fn named(word: &str) -> Option<Named> {
    let word = word.trim_end_matches([':', '.', ',', ';', ')']);
    if let Some((file, numbers)) = word.split_once('(').filter(|(file, _)| is_path(file)) {
        let (line, column) = numbers.split_once(',').unwrap_or((numbers, ""));
        return Some((file.to_owned(), number(Some(line))?, number(Some(column))));
    }
    // Some compilers write the message right behind the place.
    let mut parts = word.split(':');
    let file = parts.next().filter(|file| is_path(file))?;
    let line = number(parts.next())?;
    Some((file.to_owned(), line, number(parts.next())))
}

fn is_path(word: &str) -> bool {
    word.contains(['.', '/'])
        && !word.starts_with('-')
        && word.len() < 1000
        && !word.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

fn number(text: Option<&str>) -> Option<u32> {
    text.filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::fs;

    use super::*;

    fn project() -> (tempfile::TempDir, Project) {
        let folder = tempfile::tempdir().unwrap();
        let workspace = folder.path().to_owned();
        for (file, text) in [
            ("flake.nix", "1\n2\n3\n4\n"),
            ("sub/flake.nix", "{\n  hash = \"sha256-AAAA=\";\n}\n"),
            ("sub/src/main.c", "1\n2\n3\n"),
            (".git/x.nix", "sha256-BBBB="),
        ] {
            fs::create_dir_all(workspace.join(file).parent().unwrap()).unwrap();
            fs::write(workspace.join(file), text).unwrap();
        }
        (folder, Project { flake: workspace.join("sub"), workspace })
    }

    #[allow(clippy::unnecessary_wraps, reason = "it stands for what may be none")]
    fn at(file: &str, line: u32, column: Option<u32>) -> Option<Position> {
        Some(Position { file: file.to_owned(), line, column })
    }

    #[test]
    fn places_of_compilers_and_test_programs_are_found() {
        let (_folder, project) = project();
        for line in [
            "src/main.c:3:5: error: expected ;",
            "./src/main.c:3:5: fatal error: x",
            "/build/source/src/main.c:3:5: error",
            "/build/src/main.c:3:5: error",
            "src/main.c(3,5): error TS1005: ';' expected.",
            "thread 'main' panicked at src/main.c:3:5:",
        ] {
            assert_eq!(
                project.of_log(&["warning: src/main.c:1:1 old", line]),
                at("sub/src/main.c", 3, Some(5)),
                "{line}"
            );
        }
        assert_eq!(project.of_log(&["error[E0425]: x", "  --> src/main.c:2:9"]), at("sub/src/main.c", 2, Some(9)));
        assert_eq!(project.of_log(&["warning: x", "  --> src/main.c:2:9"]), None);
        let python = ["Traceback (most recent call last):", "  File \"src/main.c\", line 2, in <module>"];
        assert_eq!(project.of_log(&python), at("sub/src/main.c", 2, None));
        assert_eq!(project.of_log(&["error: src/main.c:99:1", "error: other.c:1:1", "error: 10.0.0.1:80"]), None);
    }

    #[test]
    fn places_in_sources_below_the_root_of_the_flake_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = folder.path().to_owned();
        for file in ["crates/tool/src/lib.rs", "crates/a/src/main.rs", "crates/b/src/main.rs"] {
            fs::create_dir_all(workspace.join(file).parent().unwrap()).unwrap();
            fs::write(workspace.join(file), "1\n2\n3\n").unwrap();
        }
        let project = Project { flake: workspace.clone(), workspace };
        let tool = at("crates/tool/src/lib.rs", 2, Some(1));
        for line in [
            "src/lib.rs:2:1: error: x",
            "/build/tool/src/lib.rs:2:1: error: x",
            "/build/source/src/lib.rs:2:1: error: x",
        ] {
            assert_eq!(project.of_log(&[line]), tool, "{line}");
        }
        assert_eq!(project.of_log(&["src/main.rs:2:1: error: x"]), None, "it may be either");
        assert_eq!(project.of_log(&["/usr/src/lib.rs:2:1: error: x"]), None);
    }

    #[test]
    fn places_of_nix_are_found() {
        let (_folder, project) = project();
        let workspace = project.workspace.display().to_string();
        let message = |file: Option<&str>, text: &str| Message {
            file: file.map(str::to_owned),
            line: file.map(|_| 3),
            column: file.map(|_| 1),
            text: text.to_owned(),
            ..Message::default()
        };
        for file in
            ["/nix/store/bl9mz7ay7y9qrgy6yi25g6v8jrdna59l-source/flake.nix", "/s/nix/store/x-source/flake.nix:3:1"]
        {
            assert_eq!(project.of_message(&message(Some(file), "")), at("sub/flake.nix", 3, Some(1)));
        }
        let trace = format!(
            "error:\n at «nix-internal»/derivation-internal.nix:37:12:\n at {workspace}/flake.nix:2:16:\n error: x"
        );
        assert_eq!(project.of_message(&message(None, &trace)), at("flake.nix", 2, Some(16)));
        assert_eq!(project.of_message(&message(None, "error: x at /etc/passwd:1:1")), None);
        assert_eq!(project.of_text("sha256-AAAA="), at("sub/flake.nix", 2, None));
        assert_eq!(project.of_text("sha256-BBBB="), None);
    }

    proptest! {
        #[test]
        fn any_text_names_something_or_nothing(text in any::<String>(), line in 0_u32..9) {
            let (_folder, project) = project();
            for text in [&text, &format!("error: {text}:{line}:1"), &format!("error File \"{text}\", line {line}")] {
                if let Some(position) = project.of_log(&[text]) {
                    prop_assert!(project.workspace.join(position.file).is_file());
                }
            }
        }
    }
}
