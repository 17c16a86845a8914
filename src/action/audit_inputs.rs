//! The inputs of the action `audit`.

use std::path::PathBuf;

use clap::Parser;

use super::given::{ActionInputs, InputError, Secrets};
use super::inputs::{HistoryArgs, Inputs, JobArgs, RemoteInput};
use crate::app::settings::{AuditArgs, KeyArgs, LaneArgs, TrustArgs};

/// The inputs of `audit`.
#[derive(Clone, Debug, Parser)]
pub(crate) struct AuditInputs {
    /// The folder of the flake, relative to the workspace
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub flake: PathBuf,
    #[command(flatten)]
    pub audit: AuditArgs,
    /// Leave out annotations of new findings on the run's page
    #[arg(long)]
    pub no_annotate: bool,
    #[command(flatten)]
    pub remote: RemoteInput,
    /// The first word of the keys of the jobs, if they set `prefix-key`
    #[arg(long, value_name = "WORD", default_value = "nix")]
    pub prefix_key: String,
    #[command(flatten)]
    pub lane: LaneArgs,
    #[command(flatten)]
    pub trust: TrustArgs,
    #[command(flatten)]
    pub history: HistoryArgs,
    #[command(flatten)]
    pub job: JobArgs,
    #[arg(skip)]
    pub secrets: Secrets,
}

impl ActionInputs for AuditInputs {
    /// For the step that adds the audit to the history.
    fn with_secrets(self, secrets: Secrets) -> Self {
        Self { secrets, ..self }
    }
}

impl AuditInputs {
    /// The corresponding inputs of the main action.
    pub(crate) fn of_the_job(&self) -> Result<Inputs, InputError> {
        let Self { remote, prefix_key, lane, trust, history, job, secrets, .. } = self.clone();
        let usual = Inputs::from_json("{}")?;
        let key = KeyArgs { prefix_key, ..usual.key };
        Ok(Inputs { key, remote, lane, history, trust, job, secrets, ..usual })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_inputs_are_named() {
        let error = AuditInputs::from_json(r#"{"annotate": "often"}"#).unwrap_err().to_string();
        assert!(error.contains("annotate") && error.contains("often"), "{error}");
        assert!(AuditInputs::from_json(r#"{"targts": "x"}"#).is_err());
    }
}
