//! The inputs of the actions, typed. They arrive as one JSON object of strings in the variable [`NIX_CACHE_INPUTS`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use secrecy::SecretString;
use serde_json::Value;

use super::values::{self, FailOn, RestoreMode, SaveWhen};
use crate::base::env_vars::NIX_CACHE_INPUTS;
use crate::base::typed;
use crate::cache::Include;
use crate::github::status::JobStatus;
use crate::layer::pack::DEFAULT_LEVEL;
use crate::report::Action;
use crate::series::Hit;
use crate::series::names;

/// Every input, with synonyms resolved and defaults filled in.
#[allow(clippy::struct_excessive_bools, reason = "each is an input that the user gives or not")]
#[derive(Clone, Debug)]
pub(crate) struct Inputs {
    /// Which part of the work this action does (`action`, from the hook).
    pub action: Action,
    /// The user's own key (`primary-key`, `key`); None to compute one.
    pub primary_key: Option<String>,
    /// The user's own prefixes (`restore-prefixes-first-match`, `restore-keys`); empty for the key's own ones.
    pub restore_prefixes: Vec<String>,
    /// Text in front of a computed key (`prefix-key`).
    pub prefix_key: Option<String>,
    /// One more part of a computed key (`extra-key`).
    pub extra_key: Option<String>,
    /// Globs of files that are part of a computed key (`key-files`).
    pub key_files: Vec<String>,
    /// Names of variables that are part of a computed key (`env-vars`).
    pub env_vars: Vec<String>,
    /// The lock file to make the key from (`flake-lock`).
    pub flake_lock: Option<String>,
    /// The lane by the user's own name (`lane`); None for [`crate::github::lane::default_lane`].
    pub lane: Option<String>,
    /// Only look (`lookup-only`).
    pub lookup_only: bool,
    /// What fails the job (`fail-on`, `fail-on-cache-miss`).
    pub fail_on: BTreeSet<FailOn>,
    /// How paths get into the store (`restore-mode`).
    pub restore_mode: RestoreMode,
    /// When to save (`save`).
    pub save: SaveWhen,
    /// What to save (`include`).
    pub include: Include,
    /// Most bytes that one snapshot may hold (`max-size`).
    pub max_size: Option<u64>,
    /// How many saves of its lane a path outlives that a newer one replaced (`keep-saves`); 0 keeps everything.
    pub keep_saves: u32,
    /// zstd level of new layers (`compression-level`), 1 to 22.
    pub compression_level: i32,
    /// Longest time for a restore (`restore-timeout`).
    pub restore_timeout: Duration,
    /// Longest time for a save (`save-timeout`).
    pub save_timeout: Duration,
    /// Further files and folders (`paths`, `path`).
    pub paths: Vec<String>,
    /// Whether Nix's own caches are kept too (`eval-cache`).
    pub eval_cache: bool,
    /// Token for GitHub's REST interface (`token`, `github-token`, else the job's own).
    pub token: Option<SecretString>,
    /// Secret keys that sign what is saved (`signing-key`).
    pub signing_key: Option<SecretString>,
    /// Public keys, of which one must have signed what is restored (`trusted-public-keys`).
    pub trusted_public_keys: String,
    /// Whether nothing without such a signature is restored, even if there is no key (`require-signatures`).
    pub require_signatures: bool,
    /// The digest of the signing key that main had (`signing-key-digest`, from the hook).
    pub signing_key_digest: Option<String>,
    /// Whether to write a job summary (`summarize`).
    pub summarize: bool,
    /// The job's matrix (`matrix`, from the hook); null where there is none.
    pub matrix: Value,
    /// How the job goes (`job-status`, from the hook); new in post.
    pub job_status: JobStatus,
}

/// An input that cannot be used. Always the user's to mend, so the job fails (exit code 2).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InputError {
    /// The variable holds something else than an object of strings.
    #[error(
        "The inputs in {NIX_CACHE_INPUTS} are no JSON object of strings ({0}). The action's hook sets this variable; run it by hand with {{}} for the defaults."
    )]
    Form(String),
    /// Nobody knows an input of this name.
    #[error(
        "There is no input \"{input}\". Check its spelling, or whether the binary given as input \"binary\" is older than the action."
    )]
    Unknown {
        /// Its name.
        input: String,
    },
    /// The value is none of those that the input takes.
    #[error("The input \"{input}\" is {value:?}, but it takes {takes}. Correct it in the workflow's `with:`.")]
    Value {
        /// The input's name.
        input: &'static str,
        /// What was given, shortened.
        value: String,
        /// What it takes.
        takes: String,
    },
    /// Two names of one input were given and say different things. Values are left out: one may be a token.
    #[error(
        "The inputs \"{first}\" and \"{second}\" are two names for the same thing and were given different values. Keep \"{first}\" in the workflow's `with:` and drop the other."
    )]
    Conflict {
        /// The name to prefer.
        first: &'static str,
        /// Its synonym.
        second: &'static str,
    },
}

impl Inputs {
    /// The inputs in [`NIX_CACHE_INPUTS`]; all defaults where it is not set, as on a laptop.
    ///
    /// # Errors
    /// As [`Inputs::from_json`].
    pub(crate) fn from_environment() -> Result<Self, InputError> {
        Self::from_json(&crate::base::secrets::inputs())
    }

    /// The inputs in `json`, an object of strings (booleans and numbers stand for their text). An empty string, as GitHub
    /// hands over an input that was not given, is the default.
    ///
    /// # Errors
    /// [`InputError`], which names the input, what was given and what it takes.
    pub(crate) fn from_json(json: &str) -> Result<Self, InputError> {
        let mut given = Given::parse(json)?;
        let inputs = Self {
            action: given.choice("action", values::ACTION)?.unwrap_or_default(),
            primary_key: given.same("primary-key", "key")?,
            restore_prefixes: given.same_list("restore-prefixes-first-match", "restore-keys")?,
            prefix_key: given.take("prefix-key"),
            extra_key: given.take("extra-key"),
            key_files: given.list("key-files", values::lines),
            env_vars: given.list("env-vars", values::words),
            flake_lock: given.take("flake-lock"),
            lane: given.read("lane", names::parse, names::TAKES)?,
            lookup_only: given.choice("lookup-only", values::BOOLEAN)?.unwrap_or(false),
            fail_on: given.fail_on()?,
            restore_mode: given.choice("restore-mode", values::RESTORE_MODE)?.unwrap_or_default(),
            save: given.choice("save", values::SAVE)?.unwrap_or_default(),
            include: given.choice("include", values::INCLUDE)?.unwrap_or_default(),
            max_size: given.read("max-size", typed::size, values::SIZE)?,
            keep_saves: given
                .read("keep-saves", values::count, values::COUNT)?
                .unwrap_or(crate::cache::DEFAULT_KEEP_SAVES),
            compression_level: given.read("compression-level", values::level, values::LEVEL)?.unwrap_or(DEFAULT_LEVEL),
            restore_timeout: given
                .read("restore-timeout", typed::duration, values::DURATION)?
                .unwrap_or(Duration::from_mins(10)),
            save_timeout: given
                .read("save-timeout", typed::duration, values::DURATION)?
                .unwrap_or(Duration::from_mins(10)),
            paths: given.same_list("paths", "path")?,
            eval_cache: given.choice("eval-cache", values::BOOLEAN)?.unwrap_or(true),
            token: given.same("token", "github-token")?.map(SecretString::from),
            signing_key: given.take("signing-key").map(SecretString::from),
            trusted_public_keys: given.take("trusted-public-keys").unwrap_or_default(),
            require_signatures: given.choice("require-signatures", values::BOOLEAN)?.unwrap_or(false),
            signing_key_digest: given.take("signing-key-digest"),
            summarize: given.choice("summarize", values::BOOLEAN)?.unwrap_or(true),
            matrix: given.matrix()?,
            job_status: given.choice("job-status", values::JOB_STATUS)?.unwrap_or_default(),
        };
        given.take("binary"); // the hook's own
        given.end().map(|()| inputs)
    }

    /// The first of the user's `fail-on` conditions that holds, given what the lookup found and whether its paths are in
    /// the store now. None when the job may go on.
    #[must_use]
    pub(crate) fn failure(&self, hit: Hit, restored: bool) -> Option<FailOn> {
        self.fail_on.iter().copied().find(|condition| match condition {
            FailOn::PrimaryKeyMiss => hit != Hit::Exact,
            FailOn::PrimaryKeyNotRestored => hit != Hit::Exact || !restored,
            FailOn::FirstMatchMiss => hit == Hit::Miss,
            FailOn::FirstMatchNotRestored => !restored,
        })
    }

    /// Whether the post step may save at all: this action is one that does, `save` is not `never`, and with `on-success`
    /// no step has failed.
    #[must_use]
    pub(crate) fn may_save(&self) -> bool {
        let wanted = match self.save {
            SaveWhen::Never => false,
            SaveWhen::OnSuccess => matches!(self.job_status, JobStatus::Success | JobStatus::Unknown),
            SaveWhen::Always => true,
        };
        wanted && self.action != Action::Restore
    }
}

/// What was given and is not yet read, without empty values.
pub(crate) struct Given(BTreeMap<String, String>);

impl Given {
    pub(crate) fn parse(json: &str) -> Result<Self, InputError> {
        // The message of the JSON parser holds no value, which could be the token.
        let object: BTreeMap<String, Value> = serde_json::from_str(json)
            .map_err(|error| InputError::Form(format!("line {}, column {}", error.line(), error.column())))?;
        let mut given = BTreeMap::new();
        for (name, value) in object {
            let text = match value {
                Value::String(text) => text.trim().to_owned(),
                Value::Null => String::new(),
                Value::Bool(_) | Value::Number(_) => value.to_string(),
                Value::Array(_) | Value::Object(_) if name == "matrix" => value.to_string(),
                Value::Array(_) | Value::Object(_) => return Err(InputError::Form(format!("\"{name}\" is no string"))),
            };
            if !text.is_empty() {
                given.insert(name, text);
            }
        }
        Ok(Self(given))
    }

    pub(crate) fn take(&mut self, input: &'static str) -> Option<String> {
        self.0.remove(input)
    }

    fn same(&mut self, first: &'static str, second: &'static str) -> Result<Option<String>, InputError> {
        match (self.take(first), self.take(second)) {
            (Some(one), Some(other)) if one != other => Err(InputError::Conflict { first, second }),
            (one, other) => Ok(one.or(other)),
        }
    }

    fn same_list(&mut self, first: &'static str, second: &'static str) -> Result<Vec<String>, InputError> {
        match (self.list(first, values::lines), self.list(second, values::lines)) {
            (one, other) if one.is_empty() || one == other => Ok(other),
            (one, other) if other.is_empty() => Ok(one),
            _ => Err(InputError::Conflict { first, second }),
        }
    }

    pub(crate) fn list(&mut self, input: &'static str, split: fn(&str) -> Vec<String>) -> Vec<String> {
        self.take(input).map(|text| split(&text)).unwrap_or_default()
    }

    pub(crate) fn choice<T: Copy>(
        &mut self,
        input: &'static str,
        table: &[(&str, T)],
    ) -> Result<Option<T>, InputError> {
        self.take(input)
            .map(|text| {
                values::one_of(table, &text)
                    .ok_or_else(|| wrong(input, &text, &format!("one of {}", values::names(table))))
            })
            .transpose()
    }

    pub(crate) fn read<T>(
        &mut self,
        input: &'static str,
        parse: fn(&str) -> Option<T>,
        takes: &str,
    ) -> Result<Option<T>, InputError> {
        self.take(input).map(|text| parse(&text).ok_or_else(|| wrong(input, &text, takes))).transpose()
    }

    fn fail_on(&mut self) -> Result<BTreeSet<FailOn>, InputError> {
        let takes = || format!("any of {}", values::names(values::FAIL_ON));
        let mut conditions = self
            .list("fail-on", values::lines_and_commas)
            .iter()
            .map(|item| values::one_of(values::FAIL_ON, item).ok_or_else(|| wrong("fail-on", item, &takes())))
            .collect::<Result<BTreeSet<_>, _>>()?;
        // actions/cache counts a hit on one of the prefixes as a hit here.
        if self.choice("fail-on-cache-miss", values::BOOLEAN)? == Some(true) {
            conditions.insert(FailOn::FirstMatchMiss);
        }
        Ok(conditions)
    }

    pub(crate) fn matrix(&mut self) -> Result<Value, InputError> {
        let text = self.take("matrix").unwrap_or_else(|| "null".to_owned());
        serde_json::from_str(&text).map_err(|_| wrong("matrix", &text, "JSON, such as ${{ toJSON(matrix) }}"))
    }

    pub(crate) fn end(self) -> Result<(), InputError> {
        self.0.into_keys().next().map_or(Ok(()), |input| Err(InputError::Unknown { input }))
    }
}

pub(crate) fn wrong(input: &'static str, value: &str, takes: &str) -> InputError {
    InputError::Value { input, value: crate::report::text::cut(value, 100), takes: takes.to_owned() }
}

/// The names under `inputs:` and their defaults, from an action file of ours: two spaces, name, colon.
#[cfg(test)]
pub(crate) fn declared(file: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for line in file.lines().skip_while(|line| *line != "inputs:").skip(1).take_while(|line| line.starts_with(' ')) {
        if let Some(value) = line.strip_prefix("    default: ") {
            found.last_mut().unwrap().1 = value.trim_matches('"').to_owned();
        } else if let Some(name) = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')) {
            found.push((name.trim_end_matches(':').to_owned(), String::new()));
        }
    }
    found
}

#[cfg(test)]
#[path = "inputs_test.rs"]
mod tests;
