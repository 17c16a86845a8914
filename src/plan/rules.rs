//! The first level: rules, from changed files to targets.

use std::collections::{BTreeMap, BTreeSet};

use globset::GlobMatcher;

use super::{AttrPath, AttrPattern, Target};
use crate::base::globs;

/// What a rule says of the files that it means.
#[derive(Clone, Debug)]
pub(super) enum Effect {
    /// Every target depends on them.
    All,
    /// No target does.
    None,
    /// The targets of these patterns do. A pattern that means none is a mistake, so it means all.
    Targets(Vec<String>),
    /// Those of these patterns do, if there are any.
    Perhaps(Vec<String>),
}

/// One rule.
#[derive(Clone, Debug)]
struct Rule {
    given: String,
    glob: GlobMatcher,
    /// Places of `<name>` among the folders of the glob.
    captures: Vec<(String, usize)>,
    effect: Effect,
}

/// All rules. A file means the union of what the rules that match it say, so their order does not matter; a file that no rule
/// matches means all targets.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    all: Vec<Rule>,
    /// Files that touch everything, whatever rules match them.
    read: BTreeSet<String>,
    source: String,
}

/// What the changed files touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Why all targets are touched, if they are: a file, and the rule.
    pub all: Option<String>,
    /// Why one is.
    pub some: BTreeMap<AttrPath, String>,
    /// How many files touch nothing.
    pub none: usize,
}

impl Rules {
    /// No rules yet, from `source`, such as the name of a file.
    pub(super) fn from(source: &str) -> Self {
        Self { source: source.to_owned(), ..Self::default() }
    }

    /// Adds a rule.
    ///
    /// # Errors
    /// When the glob or a pattern of the effect is none: what is wrong with it.
    pub(super) fn add(&mut self, given: &str, effect: Effect) -> Result<(), String> {
        let (glob, captures) = captures(given)?;
        let glob = globs::matcher(&glob).map_err(|error| format!("{given:?} cannot be used: {error}"))?;
        if let Effect::Targets(patterns) = &effect {
            for pattern in patterns {
                let filled = captures.iter().fold(pattern.clone(), |text, (name, _)| text.replace(name, "x"));
                if filled.contains(['<', '>']) {
                    return Err(format!("{pattern:?} has a `<name>` in it that {given:?} has not"));
                }
                AttrPattern::parse(&filled).map_err(|error| error.to_string())?;
            }
        }
        self.all.push(Rule { given: given.to_owned(), glob, captures, effect });
        Ok(())
    }

    /// Has a file touch everything, whatever rules match it.
    pub(super) fn add_read(&mut self, file: &str) {
        self.read.insert(file.to_owned());
    }

    /// Where the rules are from.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// A rule with a pattern that means none of these targets: its glob, and the pattern. Patterns with a `<name>` mean whatever the
    /// folder is called.
    #[must_use]
    pub(super) fn idle(&self, targets: &[Target]) -> Option<(&str, String)> {
        self.all.iter().find_map(|rule| {
            let Effect::Targets(patterns) = &rule.effect else { return None };
            let is_idle = |text: &&String| {
                !text.contains('<')
                    && AttrPattern::parse(text)
                        .is_ok_and(|pattern| !targets.iter().any(|target| pattern.matches(&target.attr)))
            };
            patterns.iter().find(is_idle).map(|pattern| (rule.given.as_str(), pattern.clone()))
        })
    }

    /// What these files touch of these targets, which are all that the flake has.
    #[must_use]
    pub fn touched(&self, files: &[String], targets: &[Target]) -> Touched {
        let mut touched = Touched::default();
        for file in files {
            if self.read.contains(file) {
                touched.everything(format!("{file} changed, and the flake's code seems to read it"));
                continue;
            }
            let matching: Vec<&Rule> = self.all.iter().filter(|rule| rule.glob.is_match(file)).collect();
            if matching.is_empty() {
                touched.everything(format!("{file} changed, which no rule of {} names", self.source));
            }
            if !matching.is_empty() && matching.iter().all(|rule| matches!(rule.effect, Effect::None)) {
                touched.none += 1;
            }
            for rule in matching {
                rule.touch(file, targets, &mut touched);
            }
        }
        touched
    }
}

impl Rule {
    fn touch(&self, file: &str, targets: &[Target], touched: &mut Touched) {
        match &self.effect {
            Effect::None => {}
            Effect::All => touched.everything(format!("{file} changed, and {:?} means all", self.given)),
            Effect::Targets(patterns) | Effect::Perhaps(patterns) => {
                for pattern in patterns {
                    self.touch_some(file, &self.filled(pattern, file), targets, touched);
                }
            }
        }
    }

    fn touch_some(&self, file: &str, pattern: &str, targets: &[Target], touched: &mut Touched) {
        let meant: Vec<&Target> = match AttrPattern::parse(pattern) {
            Ok(pattern) => targets.iter().filter(|target| pattern.matches(&target.attr)).collect(),
            Err(_) => Vec::new(),
        };
        // A rule that leads nowhere is a slip of the pen, or a folder without a machine: nobody knows what it affects.
        if meant.is_empty() && !matches!(self.effect, Effect::Perhaps(_)) {
            touched.everything(format!("{file} changed, and {:?} means {pattern}, which is not a target", self.given));
        }
        for target in meant {
            let why = || format!("{file} changed, and {:?} means it", self.given);
            touched.some.entry(target.attr.clone()).or_insert_with(why);
        }
    }

    /// `pattern` with what the captures are in `file`. A name with a dot in it is put in quotes.
    fn filled(&self, pattern: &str, file: &str) -> String {
        let folders: Vec<&str> = file.split('/').collect();
        self.captures.iter().fold(pattern.to_owned(), |text, (name, place)| {
            let value = folders.get(*place).copied().unwrap_or_default();
            text.replace(name, &AttrPath::new([value]).to_string())
        })
    }
}

impl Touched {
    fn everything(&mut self, why: String) {
        self.all.get_or_insert(why);
    }

    /// Why `target` is touched; None when it is not.
    #[must_use]
    pub fn why(&self, target: &AttrPath) -> Option<&str> {
        self.some.get(target).or(self.all.as_ref()).map(String::as_str)
    }
}

/// The glob with `*` for each `<name>`, and where those are. Each has to be a whole name of a folder or file, with no `**` before
/// it, so that its place is known.
fn captures(given: &str) -> Result<(String, Vec<(String, usize)>), String> {
    let mut found = Vec::new();
    let mut parts = Vec::new();
    for (place, part) in given.trim_start_matches("./").split('/').enumerate() {
        let inner = part.strip_prefix('<').and_then(|part| part.strip_suffix('>'));
        match inner.filter(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')) {
            Some(_) if parts.contains(&"**") => {
                return Err(format!("in {given:?}, {part} stands behind `**`, so it is not clear which folder it is"));
            }
            Some(_) => {
                found.push((part.to_owned(), place));
                parts.push("*");
            }
            None if part.contains(['<', '>']) => {
                return Err(format!("in {given:?}, {part:?} is no `<name>` that stands alone between slashes"));
            }
            None => parts.push(part),
        }
    }
    Ok((parts.join("/"), found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(attrs: &[&str]) -> Vec<Target> {
        attrs.iter().map(|attr| Target::of(AttrPath::parse(attr).unwrap()).unwrap()).collect()
    }

    fn rules(all: &[(&str, Effect)]) -> Rules {
        let mut rules = Rules::from("rules");
        for (glob, effect) in all {
            rules.add(glob, effect.clone()).unwrap();
        }
        rules
    }

    fn to(patterns: &[&str]) -> Effect {
        Effect::Targets(patterns.iter().map(|text| (*text).to_owned()).collect())
    }

    fn touched(rules: &Rules, files: &[&str]) -> Vec<String> {
        let all = targets(&["nixosConfigurations.desk", "nixosConfigurations.server", "packages.x86_64-linux.tool"]);
        let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        let touched = rules.touched(&files, &all);
        let names = all.iter().filter(|target| touched.why(&target.attr).is_some());
        names.map(|target| target.attr.last().to_owned()).collect()
    }

    const ALL: [&str; 3] = ["desk", "server", "tool"];

    #[test]
    fn files_touch_the_union_of_what_their_rules_say() {
        let rules = rules(&[
            ("hosts/desk/**", to(&["desk"])),
            ("hosts/**/shared.nix", to(&["nixosConfigurations.*"])),
            ("modules/**", Effect::All),
            ("docs/**", Effect::None),
            ("docs/tool/*", to(&["packages.*.tool"])),
        ]);
        assert_eq!(touched(&rules, &["hosts/desk/a/b.nix"]), ["desk"]);
        assert_eq!(touched(&rules, &["hosts/desk/shared.nix"]), ["desk", "server"]);
        assert_eq!(touched(&rules, &["docs/x.md", "hosts/desk/a"]), ["desk"]);
        assert_eq!(touched(&rules, &["docs/tool/x"]), ["tool"]);
        assert_eq!(touched(&rules, &["docs/x.md"]), [""; 0]);
        assert_eq!(touched(&rules, &[]), [""; 0]);
        assert_eq!(touched(&rules, &["docs/x.md", "modules/m.nix"]), ALL);
        assert_eq!(touched(&rules, &["docs/x.md", "somewhere/else"]), ALL);
        assert_eq!(touched(&rules, &["hosts/other/a.nix"]), ALL, "no rule names it");
    }

    #[test]
    fn one_rule_serves_every_machine() {
        let rules = rules(&[("hosts/<host>/**", to(&["nixosConfigurations.<host>"]))]);
        assert_eq!(touched(&rules, &["hosts/desk/x.nix"]), ["desk"]);
        assert_eq!(touched(&rules, &["hosts/server/x.nix", "hosts/desk/y"]), ["desk", "server"]);
        assert_eq!(touched(&rules, &["hosts/common/x.nix"]), ALL, "a folder that is not a machine");
        assert_eq!(touched(&rules, &["hosts/a.b/x.nix"]), ALL);
        assert_eq!(touched(&rules, &["hosts/*/x.nix"]), ALL, "a folder's name is not a glob");
    }

    #[test]
    fn a_rule_that_names_no_target_means_all() {
        let rules = rules(&[("hosts/desk/**", to(&["nixosConfigurations.desktop"]))]);
        assert_eq!(touched(&rules, &["hosts/desk/x.nix"]), ALL);
    }

    #[test]
    fn wrong_rules_say_why() {
        for (glob, effect, expected) in [
            ("a[", Effect::All, "not a glob"),
            ("**/<host>/x", to(&["<host>"]), "behind `**`"),
            ("hosts/x-<host>", to(&["<host>"]), "stands alone"),
            ("hosts/*", to(&["<host>"]), "that \"hosts/*\" has not"),
            ("hosts/*", to(&["a..b"]), "not a pattern for targets"),
        ] {
            let error = Rules::from("rules").add(glob, effect).unwrap_err();
            assert!(error.contains(expected), "{glob}: {error}");
        }
    }
}
