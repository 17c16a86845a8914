//! The inputs of the action `prune`.

use clap::{Command, CommandFactory, Parser};

use super::given::{self, InputError, Secrets};
use super::inputs::{Inputs, JobArgs};
use crate::app::settings::PruneArgs;

/// The inputs of `prune`.
#[derive(Clone, Debug, Parser)]
pub(crate) struct PruneInputs {
    #[command(flatten)]
    pub prune: PruneArgs,
    #[command(flatten)]
    pub job: JobArgs,
    #[arg(skip)]
    pub secrets: Secrets,
}

impl PruneInputs {
    /// The parser.
    pub(crate) fn declared() -> Command {
        Self::command()
    }

    /// The inputs in the environment.
    pub(crate) fn from_environment() -> Result<Self, InputError> {
        Self::from_json(&crate::base::secrets::inputs())
    }

    /// The inputs in `json`, an object of strings.
    pub(crate) fn from_json(json: &str) -> Result<Self, InputError> {
        let (inputs, secrets) = given::read::<Self>(Self::declared(), json)?;
        Ok(Self { secrets, ..inputs })
    }

    /// The corresponding inputs of the main action.
    pub(crate) fn of_the_job(&self) -> Result<Inputs, InputError> {
        let Self { job, secrets, .. } = self.clone();
        Ok(Inputs { job, secrets, ..Inputs::from_json("{}")? })
    }
}
