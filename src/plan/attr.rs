//! Attribute paths of a flake, and globs over them.

use std::collections::BTreeSet;
use std::fmt;

use globset::GlobMatcher;

use crate::base::digest::Sha;
use crate::base::globs;

/// An attribute path, such as `nixosConfigurations.desk` or `packages.x86_64-linux."with.dot"`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttrPath(Vec<String>);

/// A text that is neither an attribute path nor a glob over them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{pattern:?} is not a pattern for targets: {why}. Patterns are attribute paths with globs, such as `nixosConfigurations.*`, \
     `packages.x86_64-linux.{{a,b}}` or `**.desk`, or the name of a target alone, such as `desk`."
)]
pub struct PatternError {
    pattern: String,
    why: String,
}

impl AttrPath {
    /// The path of these names.
    pub fn new(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }

    /// The path that `text` writes as Nix does: names between dots, in quotes where a name has a dot.
    ///
    /// # Errors
    /// When a name is empty or a quote stays open.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let names = split(text).map_err(|why| PatternError { pattern: text.to_owned(), why: why.to_owned() })?;
        Ok(Self(names.into_iter().map(|(name, _)| name).collect()))
    }

    /// Its names.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// The last of its names.
    #[must_use]
    pub fn last(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }

    /// This path with more names behind it.
    #[must_use]
    pub fn join(&self, names: &[&str]) -> Self {
        Self(self.0.iter().cloned().chain(names.iter().map(|name| (*name).to_owned())).collect())
    }

    /// Whether Nix can be told this path on a command line, and a list of such paths be split at white space. A name with a
    /// quote or a space in it cannot.
    #[must_use]
    pub fn can_be_named(&self) -> bool {
        let bad = |c: char| c == '"' || c == '\\' || c.is_whitespace() || c.is_control();
        !self.0.is_empty() && self.0.iter().all(|name| !name.is_empty() && !name.contains(bad))
    }
}

impl fmt::Display for AttrPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, name) in self.0.iter().enumerate() {
            let dot = if number == 0 { "" } else { "." };
            if is_plain(name) { write!(f, "{dot}{name}")? } else { write!(f, "{dot}\"{name}\"")? }
        }
        Ok(())
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '\'' | '+'))
}

/// The names in `text`, and whether each was in quotes.
fn split(text: &str) -> Result<Vec<(String, bool)>, &'static str> {
    let (mut names, mut name, mut quoted, mut open) = (Vec::new(), String::new(), false, false);
    for c in text.chars() {
        match c {
            '"' => {
                open = !open;
                quoted = true;
            }
            '.' if !open => names.push((std::mem::take(&mut name), std::mem::take(&mut quoted))),
            c => name.push(c),
        }
    }
    names.push((name, quoted));
    if open {
        return Err("a quote stays open");
    }
    if names.iter().any(|(name, _)| name.is_empty()) {
        return Err("a name in it is empty");
    }
    Ok(names)
}

/// A glob over attribute paths. `*` stands for a name or a part of one, `**` for any number of names. What matches the start of
/// a path matches the path, so `packages` and `packages.x86_64-linux` mean all that is in them. One name alone also means every
/// target that is called so.
#[derive(Clone, Debug)]
pub(crate) struct AttrPattern {
    given: String,
    glob: GlobMatcher,
    /// Its names, each a glob.
    parts: Vec<String>,
    is_name: bool,
}

impl AttrPattern {
    /// Understands a pattern.
    ///
    /// # Errors
    /// [`PatternError`] when it is none.
    pub(crate) fn parse(text: &str) -> Result<Self, PatternError> {
        let wrong = |why: String| PatternError { pattern: text.to_owned(), why };
        let text = text.trim();
        let names = split(text).map_err(|why| wrong(why.to_owned()))?;
        let is_name = names.len() == 1;
        let part = |(name, quoted): &(String, bool)| {
            let name = as_file_name(name);
            if *quoted { globset::escape(&name) } else { name }
        };
        let parts: Vec<String> = names.iter().map(part).collect();
        let glob = globs::matcher(&parts.join("/")).map_err(|error| wrong(error.to_string()))?;
        Ok(Self { given: text.to_owned(), glob, parts, is_name })
    }

    /// Whether it means this path.
    #[must_use]
    pub(crate) fn matches(&self, path: &AttrPath) -> bool {
        let names: Vec<String> = path.0.iter().map(|name| as_file_name(name)).collect();
        let by_start = (1..=names.len()).any(|count| self.glob.is_match(names[..count].join("/")));
        by_start || self.is_name && names.last().is_some_and(|name| self.glob.is_match(name))
    }

    /// The text that it was given as.
    #[must_use]
    pub(crate) fn given(&self) -> &str {
        &self.given
    }

    /// Whether it means all that is in `prefix`, an output or a system of one.
    fn means_all_in(&self, prefix: &AttrPath) -> bool {
        let names: Vec<String> = prefix.0.iter().map(|name| as_file_name(name)).collect();
        (1..=names.len()).any(|count| self.glob.is_match(names[..count].join("/")))
    }

    /// Whether it may mean something that is in `prefix`. The name of an output means that output, and nothing in others that is
    /// called the same.
    fn may_mean_in(&self, prefix: &AttrPath) -> bool {
        if self.means_all_in(prefix) {
            return true;
        }
        if self.is_name {
            return !super::Output::ALL.iter().any(|output| self.glob.is_match(output.name()));
        }
        for (part, name) in self.parts.iter().zip(&prefix.0) {
            // A brace that spans several names has no parts.
            if part == "**" || part.matches('{').count() != part.matches('}').count() {
                return true;
            }
            if !globs::matcher(part).is_ok_and(|glob| glob.is_match(as_file_name(name))) {
                return false;
            }
        }
        true
    }
}

/// Globs are made for file names, in which a slash is what a dot is here.
fn as_file_name(name: &str) -> String {
    name.replace('/', "\u{1}")
}

/// Which targets are looked at: those that a pattern of `include` means (all, when there is none), less those that one of
/// `exclude` means.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    include: Vec<AttrPattern>,
    exclude: Vec<AttrPattern>,
}

impl Filter {
    /// The filter of these patterns.
    ///
    /// # Errors
    /// [`PatternError`] for the first one that is none.
    pub(crate) fn parse(include: &[String], exclude: &[String]) -> Result<Self, PatternError> {
        let all = |patterns: &[String]| {
            patterns.iter().map(|text| AttrPattern::parse(text)).collect::<Result<Vec<_>, PatternError>>()
        };
        Ok(Self { include: all(include)?, exclude: all(exclude)? })
    }

    /// Tells it from other filters, in a few letters; None for the one that takes all.
    #[must_use]
    pub(crate) fn fingerprint(&self) -> Option<String> {
        let given = |patterns: &[AttrPattern]| patterns.iter().map(|one| one.given.clone()).collect::<BTreeSet<_>>();
        let (include, exclude) = (given(&self.include), given(&self.exclude));
        let text = format!("{include:?} {exclude:?}");
        (!include.is_empty() || !exclude.is_empty()).then(|| Sha::of(text.as_bytes()).to_string()[..12].to_owned())
    }

    /// Whether something in `prefix`, an output or a system of one, may be looked at.
    #[must_use]
    pub(crate) fn may_take_in(&self, prefix: &AttrPath) -> bool {
        let included = self.include.is_empty() || self.include.iter().any(|pattern| pattern.may_mean_in(prefix));
        included && !self.exclude.iter().any(|pattern| pattern.means_all_in(prefix))
    }

    /// The patterns of `include` that mean none of these paths.
    pub(crate) fn idle_includes<'a>(&'a self, paths: &'a [AttrPath]) -> impl Iterator<Item = &'a str> {
        idle(&self.include, paths)
    }

    /// The patterns of `exclude` that mean none of these paths.
    pub(crate) fn idle_excludes<'a>(&'a self, paths: &'a [AttrPath]) -> impl Iterator<Item = &'a str> {
        idle(&self.exclude, paths)
    }

    /// Whether `path` is looked at.
    #[must_use]
    pub(crate) fn takes(&self, path: &AttrPath) -> bool {
        let any = |patterns: &[AttrPattern]| patterns.iter().any(|pattern| pattern.matches(path));
        (self.include.is_empty() || any(&self.include)) && !any(&self.exclude)
    }
}

fn idle<'a>(patterns: &'a [AttrPattern], paths: &'a [AttrPath]) -> impl Iterator<Item = &'a str> {
    let means = |pattern: &AttrPattern| paths.iter().any(|path| pattern.matches(path));
    patterns.iter().filter(move |pattern| !means(pattern)).map(AttrPattern::given)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        AttrPattern::parse(pattern).unwrap().matches(&AttrPath::parse(path).unwrap())
    }

    #[test]
    fn patterns_mean_paths_starts_of_paths_and_names() {
        for (pattern, path, expected) in [
            ("nixosConfigurations.desk", "nixosConfigurations.desk", true),
            ("nixosConfigurations.desk", "nixosConfigurations.desktop", false),
            ("nixosConfigurations.*", "nixosConfigurations.desk", true),
            ("nixosConfigurations", "nixosConfigurations.desk", true),
            ("desk", "nixosConfigurations.desk", true),
            ("desk", "homeConfigurations.desk", true),
            ("desk", "packages.x86_64-linux.desk", true),
            ("des", "nixosConfigurations.desk", false),
            ("d*", "nixosConfigurations.desk", true),
            ("packages.x86_64-linux", "packages.x86_64-linux.a", true),
            ("packages.*.a", "packages.x86_64-linux.a", true),
            ("*.a", "packages.x86_64-linux.a", false),
            ("**.a", "packages.x86_64-linux.a", true),
            ("packages.x86_64-linux.{a,b}", "packages.x86_64-linux.b", true),
            ("packages.x86_64-linux.\"a.b\"", "packages.x86_64-linux.\"a.b\"", true),
            ("packages.x86_64-linux.a", "packages.x86_64-linux.\"a.b\"", false),
            ("packages.x86_64-linux.\"*\"", "packages.x86_64-linux.a", false),
            ("*-linux", "packages.x86_64-linux.a", false),
            ("*", "packages.x86_64-linux.\"a/b\"", true),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} and {path}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_named_with_what_one_is() {
        for wrong in ["", "a..b", "\"a", "a.[", "packages.{a"] {
            let message = AttrPattern::parse(wrong).unwrap_err().to_string();
            assert!(message.contains(&format!("{wrong:?}")) && message.contains("nixosConfigurations.*"), "{message}");
        }
    }

    #[test]
    fn a_filter_takes_what_is_included_and_not_excluded() {
        let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let takes = |include: &[&str], exclude: &[&str], path: &str| {
            Filter::parse(&texts(include), &texts(exclude)).unwrap().takes(&AttrPath::parse(path).unwrap())
        };
        assert!(takes(&[], &[], "checks.x86_64-linux.a"));
        assert!(!takes(&[], &["checks"], "checks.x86_64-linux.a"));
        assert!(takes(&["checks", "desk"], &[], "nixosConfigurations.desk"));
        assert!(!takes(&["checks"], &[], "nixosConfigurations.desk"));
        assert!(!takes(&["checks"], &["*.*-darwin"], "checks.aarch64-darwin.a"));
        let print = |include: &[&str]| Filter::parse(&texts(include), &[]).unwrap().fingerprint();
        assert_eq!((print(&[]), print(&["a", "b"])), (None, print(&["b", "a"])));
        assert!(print(&["a"]).is_some() && print(&["a"]) != Filter::parse(&[], &texts(&["a"])).unwrap().fingerprint());
    }

    #[test]
    fn a_filter_knows_where_it_need_not_look() {
        let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let may = |include: &[&str], exclude: &[&str], prefix: &str| {
            Filter::parse(&texts(include), &texts(exclude)).unwrap().may_take_in(&AttrPath::parse(prefix).unwrap())
        };
        for (include, exclude, prefix, expected) in [
            (&[][..], &[][..], "packages.x86_64-darwin", true),
            (&["packages.x86_64-linux"], &[], "packages.x86_64-darwin", false),
            (&["packages.x86_64-linux"], &[], "packages", true),
            (&["packages.*-linux.a"], &[], "packages.x86_64-darwin", false),
            (&["packages.*-linux.a"], &[], "packages.x86_64-linux", true),
            (&["nixosConfigurations"], &[], "packages", false),
            (&["checks"], &[], "checks.x86_64-linux", true),
            (&["desk"], &[], "packages.x86_64-darwin", true),
            (&["**.desk"], &[], "packages.x86_64-darwin", true),
            (&["{checks,packages}.x86_64-linux"], &[], "devShells", false),
            (&[], &["packages.x86_64-darwin"], "packages.x86_64-darwin", false),
            (&[], &["*.*-darwin"], "packages.x86_64-darwin", false),
            (&[], &["packages.x86_64-darwin"], "packages", true),
            (&[], &["packages"], "packages", false),
            (&[], &["packages.*.a"], "packages.x86_64-darwin", true),
        ] {
            assert_eq!(may(include, exclude, prefix), expected, "{include:?} {exclude:?} {prefix}");
        }
    }

    proptest! {
        #[test]
        fn what_can_be_named_is_read_back(names in proptest::collection::vec("[a-z.*+é '\"/]{1,5}", 1..4)) {
            let path = AttrPath::new(names);
            if path.can_be_named() {
                prop_assert_eq!(AttrPath::parse(&path.to_string()).unwrap(), path.clone());
                let quoted = path.names().iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(".");
                prop_assert!(AttrPattern::parse(&quoted).unwrap().matches(&path));
                prop_assert!(!path.to_string().contains(char::is_whitespace));
            }
        }
    }
}
