//! The inputs of the action `plan`.

use std::path::PathBuf;

use clap::{Command, CommandFactory, Parser};

use super::given::{ActionInputs, InputError, Secrets};
use super::inputs::{HistoryArgs, Inputs, JobArgs, RemoteInput, SaveArgs};
use crate::app::settings::{KeyArgs, PlanArgs, TrustArgs};

/// The inputs of `plan`.
#[derive(Clone, Debug, Parser)]
pub(crate) struct PlanInputs {
    /// The folder of the flake, relative to the workspace
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub flake: PathBuf,
    #[command(flatten)]
    pub plan: PlanArgs,
    /// Save no derivations, so that the jobs have to evaluate again
    #[arg(long)]
    pub no_evaluate_once: bool,
    #[command(flatten)]
    pub save: SaveArgs,
    #[command(flatten)]
    pub key: KeyArgs,
    #[command(flatten)]
    pub remote: RemoteInput,
    #[command(flatten)]
    pub trust: TrustArgs,
    #[command(flatten)]
    pub history: HistoryArgs,
    #[command(flatten)]
    pub job: JobArgs,
    #[arg(skip)]
    pub secrets: Secrets,
}

impl ActionInputs for PlanInputs {
    /// The parser: as on the command line, except that one input takes several patterns.
    fn declared() -> Command {
        let saved = "When to cache this plan, for later plans to compare with; those of pull requests and merge queues never are";
        Self::command()
            .mut_arg("include", |arg| arg.value_delimiter(' '))
            .mut_arg("exclude", |arg| arg.value_delimiter(' '))
            .mut_arg("save", |arg| arg.help(saved))
    }

    fn with_secrets(self, secrets: Secrets) -> Self {
        Self { secrets, ..self }
    }
}

impl PlanInputs {
    /// The corresponding inputs of the main action.
    pub(crate) fn of_the_job(&self) -> Result<Inputs, InputError> {
        let Self { key, remote, trust, history, job, secrets, .. } = self.clone();
        Ok(Inputs { key, remote, history, trust, job, secrets, ..Inputs::from_json("{}")? })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
        assert_eq!(read.plan.include, ["a.{b,c}", "d"]);
        assert_eq!(read.plan.nix_arg, ["--impure", "-v"]);
    }

    #[test]
    fn what_is_true_by_default_can_be_switched_off() {
        let read = |json: &str| PlanInputs::from_json(json).unwrap().plan;
        let of = |plan: &PlanArgs| [plan.build_cached, plan.no_retry, plan.no_substituters];
        assert_eq!(of(&read("{}")), [false; 3]);
        let on = r#"{"skip-cached": "true", "retry-unbuilt": true, "substituters": "true"}"#;
        assert_eq!(of(&read(on)), [false; 3]);
        for (number, name) in ["skip-cached", "retry-unbuilt", "substituters"].into_iter().enumerate() {
            let mut expected = [false; 3];
            expected[number] = true;
            assert_eq!(of(&read(&json!({ name: "false" }).to_string())), expected, "{name}");
        }
    }
}
