//! `nix-cache.toml`: the rules of a repository, and the targets to consider.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::rules::Effect;
use super::{AttrPattern, Rules};
use crate::base::bounds::{MAX_TEXT, read_text};
use crate::base::toml_text::{from_toml, line_at};

/// The file's name, at the top of the repository.
pub(crate) const RULES_FILE: &str = "nix-cache.toml";

/// What may stand in it, for error messages.
const ALLOWED: &str = "The file has a table [plan] with `include` and `exclude` (lists of target patterns), and a table \
    [plan.rules] with lines such as \"hosts/desk/**\" = \"nixosConfigurations.desk\", \"modules/**\" = \"all\" or \
    \"docs/**\" = \"none\".";

/// Why the file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// Something in it is wrong.
    #[error("{file}, line {line}: {why}. {ALLOWED}")]
    Wrong {
        file: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// It cannot be read.
    #[error("{file} cannot be read: {error}. Correct the input `rules`, or leave it out where there are none.")]
    Unreadable {
        file: String,
        /// What went wrong.
        error: String,
    },
}

/// A file that was read.
#[derive(Clone, Debug)]
pub struct RulesFile {
    /// Its rules; None when it has no table of them.
    pub rules: Option<Rules>,
    /// Patterns of the targets to look at.
    pub include: Vec<String>,
    /// Patterns of the targets to leave out.
    pub exclude: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    plan: Table,
    /// Read by the audit.
    #[serde(default, rename = "audit")]
    _audit: serde::de::IgnoredAny,
    /// Read by the dashboard.
    #[serde(default, rename = "goals")]
    _goals: serde::de::IgnoredAny,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    include: Vec<Spanned<String>>,
    #[serde(default)]
    exclude: Vec<Spanned<String>>,
    rules: Option<BTreeMap<Spanned<String>, Spanned<Value>>>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a rule takes \"all\", \"none\", a target pattern, or a list of those patterns")]
enum Value {
    One(String),
    Several(Vec<String>),
}

impl RulesFile {
    /// The file at `path`, called `name` in messages; None where there is none.
    ///
    /// # Errors
    /// [`RulesError`], with the line and what is allowed.
    pub fn read(path: &Path, name: &str) -> Result<Option<Self>, RulesError> {
        match read_text(path, MAX_TEXT) {
            Ok(text) => Self::parse(&text, name).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(RulesError::Unreadable { file: name.to_owned(), error: error.to_string() }),
        }
    }

    /// The file with this text.
    ///
    /// # Errors
    /// [`RulesError`], with the line and what is allowed.
    pub fn parse(text: &str, name: &str) -> Result<Self, RulesError> {
        let wrong = |at: usize, why: &str| RulesError::Wrong {
            file: name.to_owned(),
            line: line_at(text, at),
            why: why.trim_end_matches('.').to_owned(),
        };
        let file: File = from_toml(text).map_err(|(at, why)| wrong(at, &why))?;
        let Table { include, exclude, rules } = file.plan;
        for pattern in include.iter().chain(&exclude) {
            AttrPattern::parse(pattern.get_ref()).map_err(|error| wrong(pattern.span().start, &error.to_string()))?;
        }
        let texts = |all: Vec<Spanned<String>>| all.into_iter().map(Spanned::into_inner).collect();
        let mut made = rules.is_some().then(|| Rules::from(name));
        if let Some(made) = &mut made {
            for (glob, value) in rules.into_iter().flatten() {
                let (at, effect) = (value.span().start, effect(value.into_inner()));
                let effect = effect.map_err(|why| wrong(at, &why))?;
                made.add(glob.get_ref(), effect).map_err(|why| wrong(glob.span().start, &why))?;
            }
        }
        Ok(Self { rules: made, include: texts(include), exclude: texts(exclude) })
    }
}

fn effect(value: Value) -> Result<Effect, String> {
    match value {
        Value::One(word) if word == "all" => Ok(Effect::All),
        Value::One(word) if word == "none" => Ok(Effect::None),
        Value::One(pattern) => Ok(Effect::Targets(vec![pattern])),
        Value::Several(patterns) if patterns.is_empty() => {
            Err("the list is empty: write \"none\" for no target".to_owned())
        }
        Value::Several(patterns) if patterns.iter().any(|word| word == "all" || word == "none") => {
            Err("\"all\" and \"none\" stand alone, not in a list".to_owned())
        }
        Value::Several(patterns) => Ok(Effect::Targets(patterns)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read() {
        let text = "# ours\n[plan]\ninclude = [\"nixosConfigurations.*\"]\nexclude = [\"old\"]\n\n[plan.rules]\n\
                    \"hosts/blazar/**\" = \"nixosConfigurations.blazar\"\n\"modules/**\" = \"all\"\n\"docs/**\" = \"none\"\n\
                    \"homes/**\" = [\"blazar\", \"homeConfigurations.*\"]\n";
        let file = RulesFile::parse(text, RULES_FILE).unwrap();
        assert_eq!((file.include.len(), file.exclude.len()), (1, 1));
        assert_eq!(file.rules.unwrap().source(), RULES_FILE);
        assert!(RulesFile::parse("", RULES_FILE).unwrap().rules.is_none());
        assert!(RulesFile::parse("[plan.rules]", RULES_FILE).unwrap().rules.is_some());
    }

    #[test]
    fn mistakes_are_named_with_file_line_and_what_is_allowed() {
        for (text, line, said) in [
            ("[plan]\nrules = 3", 2, "invalid type"),
            ("[plan]\n\n[plan.ruels]\n\"a\" = \"all\"", 3, "unknown field `ruels`"),
            ("[build]\n", 1, "unknown field `build`"),
            ("[plan.rules]\n\"a\" = \"all\"\n\"b[\" = \"none\"", 3, "not a glob"),
            ("[plan.rules]\n\n\"a\" = 3", 3, "a rule takes \"all\""),
            ("[plan.rules]\n\"a\" = []", 2, "the list is empty"),
            ("[plan.rules]\n\"a\" = [\"all\"]", 2, "stand alone"),
            ("[plan.rules]\n\"a\" = \"x..y\"", 2, "not a pattern for targets"),
            ("[plan]\ninclude = [\n  \"a\",\n  \"b[\",\n]", 4, "not a pattern for targets"),
            ("[plan.rules]\n\"a\" = \"all\"\n\"a\" = \"none\"", 3, "duplicate key"),
            ("[plan.rules\n", 1, "expected"),
        ] {
            let error = RulesFile::parse(text, RULES_FILE).unwrap_err().to_string();
            assert!(error.starts_with(&format!("nix-cache.toml, line {line}: ")), "{text}: {error}");
            assert!(error.contains(said) && error.contains("[plan.rules]"), "{text}: {error}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_none_and_a_folder_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(RulesFile::read(&folder.path().join("x"), "x").unwrap().is_none());
        assert!(matches!(RulesFile::read(folder.path(), "x"), Err(RulesError::Unreadable { .. })));
    }
}
