//! The inputs of the action `dashboard`.

use clap::{Command, CommandFactory, Parser};

use super::given::{self, InputError, Secrets};
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

impl DashboardInputs {
    /// The parser, as on the command line.
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
