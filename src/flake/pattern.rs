//! Globs over the files of a project: which files they name, and where to look for them.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use globset::GlobSet;

use super::KeyError;
use crate::base::globs;

/// Globs that were understood.
pub(super) struct Patterns {
    include: GlobSet,
    /// For each glob of `include`, the number of the pattern it is from.
    owners: Vec<usize>,
    /// The patterns that include, as they were given.
    given: Vec<String>,
    exclude: GlobSet,
    /// The files and folders to look at, relative to the base; none is under another.
    roots: Vec<PathBuf>,
}

/// Whether `text` is a glob and not the name of one file.
pub(super) fn is_glob(text: &str) -> bool {
    text.starts_with('!') || has_wildcard(text)
}

fn has_wildcard(text: &str) -> bool {
    text.contains(['*', '?', '[', '{', '\\'])
}

impl Patterns {
    /// Understands `patterns`, which the user gave in `input`. Empty ones are passed over.
    ///
    /// # Errors
    /// [`KeyError::Pattern`] when one is not a glob, leads out of `base`, or all of them exclude.
    pub(super) fn parse(base: &Path, patterns: &[String], input: &str) -> Result<Self, KeyError> {
        let wrong = |pattern: &str, why: String| KeyError::Pattern {
            input: input.to_owned(),
            pattern: pattern.to_owned(),
            why,
        };
        let (mut include, mut exclude) = (Vec::new(), Vec::new());
        let (mut owners, mut given, mut roots) = (Vec::new(), Vec::new(), BTreeSet::new());
        let patterns: Vec<&str> = patterns.iter().map(|text| text.trim()).filter(|text| !text.is_empty()).collect();
        for pattern in &patterns {
            let (text, excludes) = match pattern.strip_prefix('!') {
                Some(text) => (text, true),
                None => (*pattern, false),
            };
            let text = relative(base, text).map_err(|why| wrong(pattern, why.to_owned()))?;
            let globs = stands_for(&text).into_iter().map(|glob| (*pattern, glob));
            if excludes {
                exclude.extend(globs);
            } else {
                include.extend(globs);
                owners.resize(include.len(), given.len());
                given.push((*pattern).to_owned());
                roots.insert(root(&text));
            }
        }
        if let (Some(pattern), true) = (patterns.first(), given.is_empty()) {
            return Err(wrong(pattern, "it takes files away where no other pattern adds any".to_owned()));
        }
        let build = |of: Vec<(&str, String)>| {
            globs::set(of).map_err(|(pattern, error)| wrong(pattern.unwrap_or_default(), error.to_string()))
        };
        Ok(Self { include: build(include)?, owners, given, exclude: build(exclude)?, roots: outermost(&roots) })
    }

    /// The files and folders to look at, relative to the base.
    pub(super) fn roots(&self) -> impl Iterator<Item = &Path> {
        self.roots.iter().map(PathBuf::as_path)
    }

    /// The patterns that include files, as they were given.
    pub(super) fn given(&self) -> &[String] {
        &self.given
    }

    /// The numbers in [`Patterns::given`] of the patterns that name the file `path`.
    pub(super) fn matching(&self, path: &Path) -> Vec<usize> {
        self.include.matches(path).into_iter().map(|glob| self.owners[glob]).collect()
    }

    /// Whether the file or folder `path` is left out, with all that is in it: by a pattern, or as what Git keeps.
    pub(super) fn excludes(&self, path: &Path) -> bool {
        path.ancestors().any(|path| path.file_name().is_some_and(|name| name == ".git") || self.exclude.is_match(path))
    }
}

/// The globs that a pattern stands for: one without wildcards that names a folder stands for everything in it.
fn stands_for(pattern: &str) -> Vec<String> {
    match pattern {
        "" => vec!["**".to_owned()],
        _ if has_wildcard(pattern) => vec![pattern.to_owned()],
        _ => vec![pattern.to_owned(), format!("{pattern}/**")],
    }
}

/// The pattern relative to `base`, without `.` and doubled or final slashes.
fn relative(base: &Path, pattern: &str) -> Result<String, &'static str> {
    let outside = "it leads out of the project's folder";
    let inner = match Path::new(pattern).strip_prefix(base) {
        Ok(inner) if pattern.starts_with('/') => inner.to_str().ok_or(outside)?,
        _ if pattern.starts_with('/') => return Err(outside),
        _ => pattern,
    };
    let names: Vec<&str> = inner.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
    if names.contains(&"..") { Err(outside) } else { Ok(names.join("/")) }
}

/// The names of a pattern before the first one with a wildcard.
fn root(pattern: &str) -> PathBuf {
    Path::new(pattern)
        .components()
        .take_while(|name| matches!(name, Component::Normal(name) if !name.to_str().is_some_and(has_wildcard)))
        .collect()
}

fn outermost(roots: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
    let inner = |root: &PathBuf| root.ancestors().skip(1).any(|outer| roots.contains(outer));
    roots.iter().filter(|root| !inner(root)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(patterns: &[&str]) -> Result<Patterns, KeyError> {
        let patterns: Vec<String> = patterns.iter().map(|text| (*text).to_owned()).collect();
        Patterns::parse(Path::new("/base"), &patterns, "key-files")
    }

    #[test]
    fn only_the_folders_that_patterns_name_are_looked_at() {
        let patterns = parse(&["a/b/*.nix", "a/b/c", "x.nix", "./d//e/**/", "!z/**"]).unwrap();
        let roots: Vec<_> = patterns.roots().collect();
        assert_eq!(roots, ["a/b", "d/e", "x.nix"].map(Path::new));
        let everything = parse(&["a", "**/*.nix"]).unwrap();
        assert_eq!(everything.roots().collect::<Vec<_>>(), [Path::new("")]);
    }

    #[test]
    fn a_star_stays_in_its_folder_and_two_do_not() {
        let patterns = parse(&["*.nix", "hosts/**/*.nix", "lib", "/base/abs/?"]).unwrap();
        let matching = |path: &str| patterns.matching(Path::new(path));
        assert_eq!(matching("a.nix"), [0]);
        assert_eq!(matching("x/a.nix"), [0; 0]);
        assert_eq!(matching("hosts/a.nix"), [1]);
        assert_eq!(matching("hosts/x/y/a.nix"), [1]);
        assert_eq!(matching("lib/x/y"), [2]);
        assert_eq!(matching("library"), [0; 0]);
        assert_eq!(matching("abs/z"), [3]);
    }

    #[test]
    fn excluding_a_folder_excludes_what_is_in_it() {
        let patterns = parse(&["**", "!gen", "!**/node_modules", "!*.md"]).unwrap();
        for (path, excluded) in [
            ("gen/x/y", true),
            ("a/node_modules/b/c", true),
            ("README.md", true),
            ("doc/README.md", false),
            ("a/.git", true),
            (".git/config", true),
            (".gitignore", false),
        ] {
            assert_eq!(patterns.excludes(Path::new(path)), excluded, "{path}");
        }
    }

    #[test]
    fn wrong_patterns_name_the_input() {
        for wrong in ["a[", "{a", "../x", "a/../../x", "/elsewhere/x", "!a"] {
            let message = parse(&[wrong]).err().expect(wrong).to_string();
            assert!(message.contains("key-files") && message.contains(wrong), "{message}");
        }
        assert_eq!(parse(&["", "  "]).unwrap().roots().count(), 0);
    }
}
