//! The table `[audit]` of nix-cache.toml.

mod day;
mod licences;
mod vulnerabilities;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::packages::Scope;
use super::rules::{self, Rule};
use super::tools;
use crate::base::bounds::{MAX_TEXT, read_text};
use crate::base::note::Severity;
use crate::base::toml_text::{from_toml, line_at};

pub(crate) use licences::{LicenceException, LicencePolicy, Lists};
pub(crate) use vulnerabilities::VulnerabilityPolicy;

/// The name of the file, at the top of the repository.
pub(crate) const FILE: &str = "nix-cache.toml";

/// What a rule does when it finds something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Level {
    /// Nothing: the rule is not run.
    Off,
    /// It is shown.
    Notice,
    /// It is shown as a warning.
    Warning,
    /// It is shown as an error, which fails the job unless `fail-on` says otherwise.
    Error,
}

impl Level {
    /// The severity of a finding; none where the rule is off.
    pub(crate) fn severity(self) -> Option<Severity> {
        match self {
            Self::Off => None,
            Self::Notice => Some(Severity::Notice),
            Self::Warning => Some(Severity::Warning),
            Self::Error => Some(Severity::Error),
        }
    }
}

/// From which severity on a finding fails the job. No rule has the severity `error` by itself, so nothing fails by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FailOn {
    Never,
    #[default]
    Error,
    Warning,
    Notice,
}

/// The policy of a repository.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Policy {
    /// What fails the job.
    pub fail_on: FailOn,
    /// Whether only findings fail that the base lacks, where there is a base.
    pub new_only: bool,
    /// Severities by rule.
    pub severity: BTreeMap<String, Level>,
    /// The targets whose packages are audited, as attributes of the flake.
    pub targets: Vec<String>,
    /// Which of their packages.
    pub closure: Scope,
    /// The tools that are run; none for all that are on PATH.
    pub tools: Option<Vec<String>>,
    /// The lock file.
    pub lock: LockPolicy,
    /// Licences.
    pub licenses: LicencePolicy,
    /// Vulnerabilities.
    pub vulnerabilities: VulnerabilityPolicy,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            fail_on: FailOn::default(),
            new_only: true,
            severity: BTreeMap::new(),
            targets: Vec::new(),
            closure: Scope::default(),
            tools: None,
            lock: LockPolicy::default(),
            licenses: LicencePolicy::default(),
            vulnerabilities: VulnerabilityPolicy::default(),
        }
    }
}

/// What is expected of the lock file. The names of flake-checker's options are accepted.
#[allow(clippy::struct_excessive_bools, reason = "each is an option that can be written")]
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct LockPolicy {
    /// After how many days Nixpkgs is outdated.
    pub max_age_days: u32,
    /// After how many days any other direct input is; none for never.
    pub inputs_max_age_days: Option<u32>,
    /// Who may own the Nixpkgs that is used.
    pub owners: Vec<String>,
    /// The branches of Nixpkgs that may be used; none for those that the release schedule supports today.
    pub supported_refs: Option<Vec<String>>,
    /// The direct inputs that are Nixpkgs; empty for those that are locked to it.
    pub nixpkgs_keys: Vec<String>,
    /// Whether the age is looked at.
    pub check_outdated: bool,
    /// Whether the owner is.
    pub check_owner: bool,
    /// Whether the branch is.
    pub check_supported: bool,
    /// Whether these three are errors.
    pub fail_mode: bool,
    /// Refused with an explanation: a condition in CEL, as flake-checker has it.
    condition: Option<Spanned<String>>,
}

impl Default for LockPolicy {
    fn default() -> Self {
        Self {
            max_age_days: 30,
            inputs_max_age_days: None,
            owners: vec!["NixOS".to_owned()],
            supported_refs: None,
            nixpkgs_keys: Vec::new(),
            check_outdated: true,
            check_owner: true,
            check_supported: true,
            fail_mode: false,
            condition: None,
        }
    }
}

/// The file, of which this module reads one table.
#[derive(Default, Deserialize)]
struct File {
    #[serde(default)]
    audit: Policy,
}

/// Why the policy cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PolicyError {
    /// Something in it is wrong.
    #[error("{file}, line {line}: {why}. The table [audit] is described in docs/audit.md.")]
    Wrong {
        file: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// It cannot be read.
    #[error("{file} cannot be read: {error}. Correct its name, or who may read it.")]
    Unreadable {
        file: String,
        /// What went wrong.
        error: String,
    },
}

impl Policy {
    /// The policy in the file at `path`, called `name` in messages; the default one where there is no file.
    ///
    /// # Errors
    /// [`PolicyError`], with the line.
    pub(crate) fn read(path: &Path, name: &str) -> Result<Self, PolicyError> {
        match read_text(path, MAX_TEXT) {
            Ok(text) => Self::parse(&text, name),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(PolicyError::Unreadable { file: name.to_owned(), error: error.to_string() }),
        }
    }

    /// The policy in a file with this text.
    ///
    /// # Errors
    /// [`PolicyError`], with the line.
    pub(crate) fn parse(text: &str, name: &str) -> Result<Self, PolicyError> {
        let wrong = |at: usize, why: &str| PolicyError::Wrong {
            file: name.to_owned(),
            line: line_at(text, at),
            why: why.trim_end_matches('.').to_owned(),
        };
        let File { mut audit } = from_toml(text).map_err(|(at, why)| wrong(at, &why))?;
        if let Some(condition) = &audit.lock.condition {
            let why =
                "`condition` (CEL) is not supported: use max-age-days, owners and supported-refs, which say the same";
            return Err(wrong(condition.span().start, why));
        }
        audit.licenses.prepare().map_err(|(part, why)| wrong(text.find(&part).unwrap_or(0), &why))?;
        if audit.vulnerabilities.exceptions.iter().any(vulnerabilities::Exception::is_boundless) {
            let at = text.find("\"*").or_else(|| text.find("\"\"")).unwrap_or(0);
            return Err(wrong(at, vulnerabilities::BOUNDLESS));
        }
        let known: Vec<&str> = tools::ALL.iter().map(|tool| tool.program).collect();
        if let Some(name) = audit.tools.iter().flatten().find(|name| !known.contains(&name.as_str())) {
            let at = text.find(name.as_str()).unwrap_or(0);
            return Err(wrong(at, &format!("there is no tool {name:?}; the tools are {}", known.join(", "))));
        }
        for name in audit.severity.keys() {
            if !rules::ALL.iter().any(|rule| rule.id == name) {
                let known: Vec<&str> = rules::ALL.iter().map(|rule| rule.id).collect();
                let at = text.find(name.as_str()).unwrap_or(0);
                return Err(wrong(at, &format!("there is no rule {name:?}; the rules are {}", known.join(", "))));
            }
        }
        Ok(audit)
    }

    /// Adds the exceptions of a whitelist of vulnix, called `name` in messages.
    ///
    /// # Errors
    /// [`PolicyError`], with the line.
    pub(crate) fn add_whitelist(&mut self, path: &Path, name: &str) -> Result<(), PolicyError> {
        let file = || name.to_owned();
        let text = read_text(path, MAX_TEXT)
            .map_err(|error| PolicyError::Unreadable { file: file(), error: error.to_string() })?;
        let more = vulnerabilities::whitelist(&text).map_err(|(at, why)| PolicyError::Wrong {
            file: file(),
            line: line_at(&text, at),
            why,
        })?;
        self.vulnerabilities.exceptions.extend(more);
        Ok(())
    }

    /// What `rule` does.
    pub(crate) fn level(&self, rule: &Rule) -> Level {
        let of_checker = |is_checked: bool| match (is_checked, self.lock.fail_mode) {
            (false, _) => Some(Level::Off),
            (true, true) => Some(Level::Error),
            (true, false) => None,
        };
        let by_option = match rule.id {
            "lock-age" => of_checker(self.lock.check_outdated),
            "lock-owner" => of_checker(self.lock.check_owner),
            "lock-branch" => of_checker(self.lock.check_supported),
            _ => None,
        };
        self.severity.get(rule.id).copied().or(by_option).unwrap_or(rule.level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::rules::{lock_age, lock_owner};

    #[test]
    fn an_empty_file_is_the_default_and_fails_nothing() {
        let policy = Policy::parse("[plan]\ninclude = []\n", "nix-cache.toml").unwrap();
        assert_eq!(policy.fail_on, FailOn::Error);
        assert!(rules::ALL.iter().all(|rule| policy.level(rule) < Level::Error), "nothing fails by default");
        let folder = tempfile::tempdir().unwrap();
        assert!(Policy::read(&folder.path().join("none.toml"), "none.toml").is_ok());
        assert!(Policy::read(folder.path(), "x").unwrap_err().to_string().contains("cannot be read"));
    }

    #[test]
    fn names_of_flake_checker_mean_what_they_mean_there() {
        let text = "[audit.lock]\ncheck-owner = false\nfail-mode = true\nnixpkgs-keys = [\"pkgs\"]\n";
        let policy = Policy::parse(text, "f").unwrap();
        assert_eq!(policy.level(&lock_owner::RULE), Level::Off);
        assert_eq!(policy.level(&lock_age::RULE), Level::Error);
        let own = format!("{text}[audit.severity]\nlock-age = \"notice\"\n");
        assert_eq!(Policy::parse(&own, "f").unwrap().level(&lock_age::RULE), Level::Notice);
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (text, line, part) in [
            ("[audit]\nfail-on = \"sometimes\"\n", 2, "sometimes"),
            ("[audit]\n\nfail = 1\n", 3, "fail"),
            ("[audit.severity]\nlock-age = \"error\"\nno-such = \"off\"\n", 3, "lock-age, "),
            ("[audit.lock]\ncondition = \"numDaysOld < 30\"\n", 2, "max-age-days"),
            ("[audit.lock]\nmax-age-days = -1\n", 2, "-1"),
            ("[[audit.vulnerabilities.exceptions]]\npackage = \"*\"\n", 2, "has to name the advisories"),
            ("[audit\n", 1, ""),
        ] {
            let error = Policy::parse(text, "nix-cache.toml").unwrap_err().to_string();
            assert!(error.starts_with(&format!("nix-cache.toml, line {line}: ")) && error.contains(part), "{error}");
        }
    }
}
