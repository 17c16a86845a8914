//! The inputs of the action `push`.

use std::time::Duration;

use clap::{Command, CommandFactory, Parser};

use super::given::{ActionInputs, InputError, Secrets};
use super::inputs::{Inputs, JobArgs};
use crate::app::settings::{PushArgs, StorePathsArg, TrustArgs};

/// The inputs of `push`.
#[derive(Clone, Debug, Parser)]
pub(crate) struct PushInputs {
    #[command(flatten)]
    pub push: PushArgs,
    #[command(flatten)]
    pub paths: StorePathsArg,
    #[command(flatten)]
    pub trust: TrustArgs,
    #[command(flatten)]
    pub job: JobArgs,
    #[arg(skip)]
    pub secrets: Secrets,
}

impl ActionInputs for PushInputs {
    fn declared() -> Command {
        Self::command().mut_arg("push_timeout", |arg| arg.default_value("10m"))
    }

    fn with_secrets(self, secrets: Secrets) -> Self {
        Self { secrets, ..self }
    }
}

impl PushInputs {
    /// The corresponding inputs of the main action.
    pub(crate) fn of_the_job(&self) -> Result<Inputs, InputError> {
        let Self { trust, job, secrets, .. } = self.clone();
        Ok(Inputs { trust, job, secrets, ..Inputs::from_json("{}")? })
    }

    /// Longest time for the push.
    pub(crate) fn timeout(&self) -> Duration {
        self.push.push_timeout.expect("the parser of the actions has a default")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinks_and_paths_stand_on_lines_and_wrong_inputs_are_named() {
        let json =
            r#"{"to": "file:///a b\n s3://bucket/x \n", "store-paths": "result\nresult-doc", "push-timeout": "5m"}"#;
        let read = PushInputs::from_json(json).unwrap();
        assert_eq!(read.push.to, ["file:///a b", "s3://bucket/x"]);
        assert_eq!(read.paths.store_paths, ["result", "result-doc"]);
        assert_eq!(read.timeout(), Duration::from_mins(5));
        assert_eq!(PushInputs::from_json("{}").unwrap().timeout(), Duration::from_mins(10));
        let error = PushInputs::from_json(r#"{"push-timeout": "soon"}"#).unwrap_err().to_string();
        assert!(error.contains("push-timeout") && error.contains("soon"), "{error}");
    }
}
