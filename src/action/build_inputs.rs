//! The inputs of the action `build`.

use std::path::PathBuf;

use clap::{Arg, Command, CommandFactory, Parser};

use super::given::{self, ActionInputs, InputError, Secrets};
use super::inputs::{HistoryArgs, Inputs, JobArgs, RemoteInput};
use crate::app::Failure;
use crate::app::settings::{BuildArgs, DrvsArgs, KeyArgs, LaneArgs};
use crate::building::drvs::{self, Drvs};

/// The inputs of `build`.
#[derive(Clone, Debug, Parser)]
pub(crate) struct BuildInputs {
    #[command(flatten)]
    pub build: BuildArgs,
    #[command(flatten)]
    pub drvs: DrvsArgs,
    #[command(flatten)]
    pub remote: RemoteInput,
    #[command(flatten)]
    pub lane: LaneArgs,
    #[command(flatten)]
    pub history: HistoryArgs,
    #[command(flatten)]
    pub job: JobArgs,
    #[arg(skip)]
    pub secrets: Secrets,
}

impl ActionInputs for BuildInputs {
    /// The parser: as on the command line, where the targets and the arguments for Nix have no names.
    fn declared() -> Command {
        let targets = "What to build: attributes of the flake, such as `hello` or `checks.x86_64-linux.unit` (the `attrs` of a plan), \
                       or whole installables; if given but empty, nothing is built";
        let words = |arg: Arg| arg.num_args(1).value_delimiter(' ').default_value("default");
        Self::command()
            .mut_arg("targets", |arg| words(arg).long("targets").help(targets))
            .mut_arg("nix_args", |arg| arg.long("nix-args").num_args(1).last(false))
    }

    fn with_secrets(self, secrets: Secrets) -> Self {
        Self { secrets, ..self }
    }

    /// An empty string means the default, except for `targets`, which are empty in a plan with nothing to build, and for `out-link`.
    fn from_json(json: &str) -> Result<Self, InputError> {
        let (inputs, secrets) = given::read::<Self>(Self::declared(), json)?;
        let mut inputs = inputs.with_secrets(secrets);
        if given::is_given_empty(json, "targets") {
            inputs.build.targets.clear();
        }
        if given::is_given_empty(json, "out-link") {
            inputs.build.out_link = PathBuf::new();
        }
        Ok(inputs)
    }
}

impl BuildInputs {
    /// The derivations of the targets.
    pub(crate) fn planned(&self) -> Result<Drvs, Failure> {
        drvs::parse(&self.build.targets, self.drvs.drvs.as_deref().unwrap_or_default())
            .map_err(|error| Failure::usage(format!("The input \"drvs\" does not fit: {error}")))
    }

    /// The corresponding inputs of the main action.
    pub(crate) fn of_the_job(&self) -> Result<Inputs, InputError> {
        let Self { drvs: DrvsArgs { prefix_key, restore, trust, .. }, remote, lane, history, job, secrets, .. } =
            self.clone();
        let usual = Inputs::from_json("{}")?;
        let key = KeyArgs { prefix_key, ..usual.key };
        Ok(Inputs { key, remote, lane, restore, history, trust, job, secrets, ..usual })
    }
}

#[cfg(test)]
#[path = "build_inputs_test.rs"]
mod tests;
