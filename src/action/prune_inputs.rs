//! The inputs of the action `prune`.

use clap::Parser;

use super::given::{ActionInputs, InputError, Secrets};
use super::inputs::{Inputs, JobArgs, RemoteInput};
use crate::app::settings::PruneArgs;

/// The inputs of `prune`.
#[derive(Clone, Debug, Parser)]
pub(crate) struct PruneInputs {
    #[command(flatten)]
    pub prune: PruneArgs,
    /// The cache to prune, as for the main action; in an object store, that of all repositories below the prefix [default: `github`]
    #[arg(long, value_name = "REMOTE")]
    pub remote: Option<String>,
    #[command(flatten)]
    pub job: JobArgs,
    #[arg(skip)]
    pub secrets: Secrets,
}

impl ActionInputs for PruneInputs {
    fn with_secrets(self, secrets: Secrets) -> Self {
        Self { secrets, ..self }
    }
}

impl PruneInputs {
    /// The corresponding inputs of the main action.
    pub(crate) fn of_the_job(&self) -> Result<Inputs, InputError> {
        let Self { remote, job, secrets, .. } = self.clone();
        let remote = RemoteInput { remote, ..RemoteInput::default() };
        Ok(Inputs { remote, job, secrets, ..Inputs::from_json("{}")? })
    }
}
