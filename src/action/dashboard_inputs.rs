//! The inputs of the action `dashboard`.

use clap::Parser;

use super::given::{ActionInputs, InputError, Secrets};
use super::inputs::{Inputs, JobArgs};
use crate::app::settings::DashboardArgs;

/// The inputs of `dashboard`.
#[derive(Clone, Debug, Parser)]
pub(crate) struct DashboardInputs {
    #[command(flatten)]
    pub dashboard: DashboardArgs,
    #[command(flatten)]
    pub job: JobArgs,
    #[arg(skip)]
    pub secrets: Secrets,
}

impl ActionInputs for DashboardInputs {
    fn with_secrets(self, secrets: Secrets) -> Self {
        Self { secrets, ..self }
    }
}

impl DashboardInputs {
    /// The corresponding inputs of the main action.
    pub(crate) fn of_the_job(&self) -> Result<Inputs, InputError> {
        let Self { dashboard, job, secrets, .. } = self.clone();
        Ok(Inputs { trust: dashboard.trust, job, secrets, ..Inputs::from_json("{}")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_stand_on_lines_and_wrong_inputs_are_named() {
        let read = DashboardInputs::from_json(r#"{"runs": "a.jsonl\nb c.jsonl", "title": "T", "out": "d"}"#).unwrap();
        assert_eq!(read.dashboard.runs, ["a.jsonl", "b c.jsonl"].map(std::path::PathBuf::from));
        let error = DashboardInputs::from_json(r#"{"summarize": "often"}"#).unwrap_err().to_string();
        assert!(error.contains("summarize") && error.contains("often"), "{error}");
    }
}
