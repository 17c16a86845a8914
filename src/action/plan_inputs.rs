//! The inputs of the action `plan`: its own ones, and those that the key is made from.

use serde_json::{Map, Value};

use super::inputs::{Given, InputError, Inputs, wrong};
use super::values;
use crate::base::typed;
use crate::plan::{Evaluate, EvaluateBase, RunnerMap, WORKER_MEMORY};

/// Names of the inputs that only `plan` has. `include` means something else elsewhere.
const OWN: [&str; 15] = [
    "flake",
    "include",
    "exclude",
    "rules",
    "base",
    "evaluate",
    "evaluate-base",
    "runner-map",
    "group-size",
    "workers",
    "worker-memory",
    "skip-cached",
    "retry-unbuilt",
    "nix-args",
    "substituters",
];

const EVALUATE: &[(&str, Evaluate)] =
    &[("auto", Evaluate::Auto), ("always", Evaluate::Always), ("never", Evaluate::Never)];
const EVALUATE_BASE: &[(&str, EvaluateBase)] =
    &[("auto", EvaluateBase::Auto), ("always", EvaluateBase::Always), ("never", EvaluateBase::Never)];
const COUNT: &str = "a whole number from 1 to 256";

/// The inputs of `plan`, with defaults filled in.
#[derive(Clone, Debug)]
pub(crate) struct PlanInputs {
    /// The folder of the flake, from the workspace (`flake`).
    pub flake: String,
    /// Patterns of targets (`include`), between white space.
    pub include: Vec<String>,
    /// Patterns of targets (`exclude`).
    pub exclude: Vec<String>,
    /// The rules file, from the workspace (`rules`); None for the usual one, if it is there.
    pub rules: Option<String>,
    /// What to compare with (`base`); None for what the event says.
    pub base: Option<String>,
    /// Which targets are evaluated (`evaluate`).
    pub evaluate: Evaluate,
    /// When the base is (`evaluate-base`).
    pub evaluate_base: EvaluateBase,
    /// Runners (`runner-map`).
    pub runners: RunnerMap,
    /// Most small targets in a job (`group-size`).
    pub group: usize,
    /// Evaluations at a time (`workers`).
    pub workers: Option<usize>,
    /// Most bytes of memory of each (`worker-memory`).
    pub worker_memory: u64,
    /// Whether what is cached needs no job (`skip-cached`).
    pub skip_cached: bool,
    /// Whether what may not have been built is built again (`retry-unbuilt`).
    pub retry_unbuilt: bool,
    /// Whether substituters are asked (`substituters`).
    pub substituters: bool,
    /// Arguments for `nix eval` (`nix-args`), between white space.
    pub nix_args: Vec<String>,
    /// What all actions have.
    pub common: Inputs,
}

impl PlanInputs {
    /// The inputs in the environment.
    ///
    /// # Errors
    /// As [`PlanInputs::from_json`].
    pub(crate) fn from_environment() -> Result<Self, InputError> {
        Self::from_json(&crate::base::secrets::inputs())
    }

    /// The inputs in `json`, an object of strings, as [`Inputs::from_json`] takes it.
    ///
    /// # Errors
    /// [`InputError`], which names the input, what was given and what it takes.
    pub(crate) fn from_json(json: &str) -> Result<Self, InputError> {
        let all: Map<String, Value> = serde_json::from_str(json)
            .map_err(|error| InputError::Form(format!("line {}, column {}", error.line(), error.column())))?;
        let (own, mut common): (Map<_, _>, Map<_, _>) = all.into_iter().partition(|(name, _)| OWN.contains(&&**name));
        // Which action this is the hook knows; among the other three it is none.
        common.remove("action");
        let mut given = Given::parse(&Value::Object(own).to_string())?;
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        let runners = given.take("runner-map").map(|text| {
            RunnerMap::parse(&text).map_err(|error| wrong("runner-map", &text, &format!("another value: {error}")))
        });
        let inputs = Self {
            flake: given.take("flake").unwrap_or_else(|| ".".to_owned()),
            include: given.list("include", words),
            exclude: given.list("exclude", words),
            rules: given.take("rules"),
            base: given.take("base"),
            evaluate: given.choice("evaluate", EVALUATE)?.unwrap_or_default(),
            evaluate_base: given.choice("evaluate-base", EVALUATE_BASE)?.unwrap_or_default(),
            runners: runners.transpose()?.unwrap_or_default(),
            group: given.read("group-size", count, COUNT)?.unwrap_or(8),
            workers: given.read("workers", count, COUNT)?,
            worker_memory: given.read("worker-memory", typed::size, values::SIZE)?.unwrap_or(WORKER_MEMORY),
            skip_cached: given.choice("skip-cached", values::BOOLEAN)?.unwrap_or(true),
            retry_unbuilt: given.choice("retry-unbuilt", values::BOOLEAN)?.unwrap_or(true),
            substituters: given.choice("substituters", values::BOOLEAN)?.unwrap_or(true),
            nix_args: given.list("nix-args", words),
            common: Inputs::from_json(&Value::Object(common).to_string())?,
        };
        given.end().map(|()| inputs)
    }
}

fn count(text: &str) -> Option<usize> {
    text.parse().ok().filter(|count| (1..=256).contains(count))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    #[test]
    fn the_declared_inputs_are_those_that_are_read_and_their_defaults_are_ours() {
        let file = include_str!("../../plan/action.yml");
        let mut declared: BTreeMap<String, String> = BTreeMap::new();
        let mut name = "";
        for line in file.lines().skip_while(|line| *line != "inputs:").skip(1).take_while(|line| line.starts_with(' '))
        {
            if let Some(value) = line.strip_prefix("    default: ") {
                declared.insert(name.to_owned(), value.trim_matches('"').to_owned());
            } else if let Some(rest) = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')) {
                name = rest.trim_end_matches(':');
            }
        }
        for own in OWN {
            assert!(declared.contains_key(own), "{own} is not declared");
        }
        let read = PlanInputs::from_json(&serde_json::to_string(&declared).unwrap()).unwrap();
        assert_eq!(format!("{read:?}"), format!("{:?}", PlanInputs::from_json("{}").unwrap()));
    }

    #[test]
    fn wrong_values_are_named_with_what_is_taken() {
        for (name, value) in [
            ("evaluate", "sometimes"),
            ("evaluate-base", "x"),
            ("runner-map", "ubuntu-latest"),
            ("group-size", "0"),
            ("workers", "many"),
            ("worker-memory", "4 GB"),
            ("skip-cached", "yes"),
            ("save", "later"),
        ] {
            let error = PlanInputs::from_json(&json!({ name: value }).to_string()).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("takes"), "{error}");
        }
        assert!(matches!(PlanInputs::from_json(r#"{"restore-mood": "x"}"#), Err(InputError::Unknown { .. })));
    }

    #[test]
    fn patterns_stand_between_white_space() {
        let read =
            PlanInputs::from_json(&json!({"include": "a.{b,c}\n  d", "nix-args": "--impure -v"}).to_string()).unwrap();
        assert_eq!(read.include, ["a.{b,c}", "d"]);
        assert_eq!(read.nix_args, ["--impure", "-v"]);
    }
}
