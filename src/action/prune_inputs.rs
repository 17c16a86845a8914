//! The inputs of the action `prune`.

use clap::{Command, CommandFactory, Parser};

use super::given::{ActionInputs, InputError, Secrets};
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

impl ActionInputs for PruneInputs {
    fn declared() -> Command {
        Self::command()
    }

    fn with_secrets(self, secrets: Secrets) -> Self {
        Self { secrets, ..self }
    }
}

impl PruneInputs {
    /// The corresponding inputs of the main action.
    pub(crate) fn of_the_job(&self) -> Result<Inputs, InputError> {
        let Self { job, secrets, .. } = self.clone();
        Ok(Inputs { job, secrets, ..Inputs::from_json("{}")? })
    }
}
