//! The inputs of the action `audit`.

use std::path::PathBuf;

use clap::Parser;

use super::given::{ActionInputs, Secrets};
use super::inputs::JobArgs;
use crate::app::settings::AuditArgs;

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
    pub job: JobArgs,
}

impl ActionInputs for AuditInputs {
    /// It needs none.
    fn with_secrets(self, _: Secrets) -> Self {
        self
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
