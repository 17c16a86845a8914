//! The inputs of the action `build/`, typed. They arrive as those of the others do; see [`super::inputs`].

use std::time::Duration;

use serde_json::Value;

use super::inputs::{Given, InputError, wrong};
use super::values;
use crate::base::typed;
use crate::building::artifacts::Format;
use crate::building::checks::{self, CheckRequest};
use crate::building::limits::Limit;
use crate::building::{Retry, words};
use crate::series::names;

/// Every input, with defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BuildInputs {
    /// What to build (`targets`); empty for nothing.
    pub targets: Vec<String>,
    /// The flake (`flake`).
    pub flake: String,
    /// Further arguments for `nix build` (`nix-args`).
    pub nix_args: Vec<String>,
    /// Builds at once (`max-jobs`).
    pub max_jobs: Limit,
    /// Processes that each may use (`cores`).
    pub cores: Limit,
    /// Whether the rest is built when something fails (`keep-going`).
    pub keep_going: bool,
    /// How it is tried again (`retries`, `retry-delay`, `retry-budget`).
    pub retry: Retry,
    /// Longest time for all of it (`timeout`).
    pub timeout: Option<Duration>,
    /// Longest time for one derivation (`derivation-timeout`).
    pub derivation_timeout: Option<Duration>,
    /// Longest silence of a builder (`max-silent-time`).
    pub max_silent_time: Option<Duration>,
    /// The link to the results (`out-link`); None for no link.
    pub out_link: Option<String>,
    /// The folder for files of the outputs (`artifacts`).
    pub artifacts: Option<String>,
    /// Their format (`artifact-format`).
    pub artifact_format: Format,
    /// Checks to run (`checks`, `check-commands`).
    pub checks: Vec<CheckRequest>,
    /// The lane by the user's own name (`lane`).
    pub lane: Option<String>,
    /// Whether to write a job summary (`summarize`).
    pub summarize: bool,
    /// The job's matrix (`matrix`).
    pub matrix: Value,
    /// How the job goes (`job-status`).
    pub job_status: crate::github::status::JobStatus,
}

/// What `artifact-format` takes.
const FORMATS: &[(&str, Format)] = &[("nar.zst", Format::Zstd), ("nar.gz", Format::Gzip)];
/// What is built when nobody says.
const DEFAULT_TARGET: &str = "default";
/// The link that `nix build` makes.
const DEFAULT_LINK: &str = "result";
const RETRIES: &str = "a whole number from 0 to 20";
const ARGUMENTS: &str = "words as a shell takes them, each quote closed";
const COMMANDS: &str = "lines such as `lint: ./lint.sh`, a name, a colon and a command";

impl BuildInputs {
    /// The inputs in [`NIX_CACHE_INPUTS`](crate::base::env_vars).
    ///
    /// # Errors
    /// As [`BuildInputs::from_json`].
    pub(crate) fn from_environment() -> Result<Self, InputError> {
        Self::from_json(&crate::base::secrets::inputs())
    }

    /// The inputs in `json`, an object of strings. An empty string is the default, but for `targets`, where a plan that
    /// found nothing to build gives one, and `out-link`.
    ///
    /// # Errors
    /// [`InputError`], which names the input, what was given and what it takes.
    pub(crate) fn from_json(json: &str) -> Result<Self, InputError> {
        let is_empty = |name: &str| {
            let object: Option<Value> = serde_json::from_str(json).ok();
            object.is_some_and(|object| object[name].as_str().is_some_and(|text| text.trim().is_empty()))
        };
        let mut given = Given::parse(json)?;
        let retry = Retry::default();
        let inputs = Self {
            targets: match given.take("targets") {
                Some(text) => text.split_whitespace().map(str::to_owned).collect(),
                None if is_empty("targets") => Vec::new(),
                None => vec![DEFAULT_TARGET.to_owned()],
            },
            flake: given.take("flake").unwrap_or_else(|| ".".to_owned()),
            nix_args: given.read("nix-args", words, ARGUMENTS)?.unwrap_or_default(),
            max_jobs: given.read("max-jobs", Limit::parse, Limit::TAKES)?.unwrap_or_default(),
            cores: given.read("cores", Limit::parse, Limit::TAKES)?.unwrap_or_default(),
            keep_going: given.choice("keep-going", values::BOOLEAN)?.unwrap_or(true),
            retry: Retry {
                times: given.read("retries", retries, RETRIES)?.unwrap_or(retry.times),
                delay: given.read("retry-delay", typed::duration, values::DURATION)?.unwrap_or(retry.delay),
                budget: given.read("retry-budget", typed::duration, values::DURATION)?.unwrap_or(retry.budget),
            },
            timeout: given.read("timeout", typed::duration, values::DURATION)?,
            derivation_timeout: given.read("derivation-timeout", typed::duration, values::DURATION)?,
            max_silent_time: given.read("max-silent-time", typed::duration, values::DURATION)?,
            out_link: match given.take("out-link") {
                Some(link) => Some(link),
                None if is_empty("out-link") => None,
                None => Some(DEFAULT_LINK.to_owned()),
            },
            artifacts: given.take("artifacts"),
            artifact_format: given.choice("artifact-format", FORMATS)?.unwrap_or_default(),
            checks: wanted_checks(&mut given)?,
            lane: given.read("lane", names::parse, names::TAKES)?,
            summarize: given.choice("summarize", values::BOOLEAN)?.unwrap_or(true),
            matrix: given.matrix()?,
            job_status: given.choice("job-status", values::JOB_STATUS)?.unwrap_or_default(),
        };
        for hooks in ["action", "binary", "token", "github-token"] {
            given.take(hooks);
        }
        given.end().map(|()| inputs)
    }
}

/// Own commands replace the usual ones of the same name.
fn wanted_checks(given: &mut Given) -> Result<Vec<CheckRequest>, InputError> {
    let usual = given.choice("checks", values::BOOLEAN)?.unwrap_or(false);
    let own = given.list("check-commands", values::lines);
    let own: Vec<CheckRequest> = own
        .iter()
        .map(|line| checks::parse(line).ok_or_else(|| wrong("check-commands", line, COMMANDS)))
        .collect::<Result<_, _>>()?;
    let usual = if usual { checks::defaults() } else { Vec::new() };
    let kept = usual.into_iter().filter(|check| own.iter().all(|own| own.name != check.name));
    Ok(kept.chain(own.iter().cloned()).collect())
}

fn retries(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?.filter(|count| *count <= 20)
}

#[cfg(test)]
#[path = "build_inputs_test.rs"]
mod tests;
