//! The inputs of the action `warm`.

use std::path::PathBuf;

use clap::{Command, CommandFactory, Parser};

use super::given::{ActionInputs, InputError, Secrets};
use super::inputs::{FilesArgs, HistoryArgs, Inputs, JobArgs, RemoteInput};
use crate::app::settings::{KeyArgs, LaneArgs, PackingArgs, RestoreArgs, TrustArgs, WarmArgs};
use crate::report::Action;

/// The inputs of `warm`.
#[derive(Clone, Debug, Parser)]
pub(crate) struct WarmInputs {
    /// The folder of the flake, relative to the workspace
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub flake: PathBuf,
    #[command(flatten)]
    pub warm: WarmArgs,
    #[command(flatten)]
    pub key: KeyArgs,
    #[command(flatten)]
    pub remote: RemoteInput,
    #[command(flatten)]
    pub lane: LaneArgs,
    #[command(flatten)]
    pub restore: RestoreArgs,
    #[command(flatten)]
    pub packing: PackingArgs,
    #[command(flatten)]
    pub files: FilesArgs,
    #[command(flatten)]
    pub history: HistoryArgs,
    #[command(flatten)]
    pub trust: TrustArgs,
    #[command(flatten)]
    pub job: JobArgs,
    #[arg(skip)]
    pub secrets: Secrets,
}

impl ActionInputs for WarmInputs {
    /// The parser: as on the command line, except that a save has a time limit.
    fn declared() -> Command {
        Self::command().mut_arg("save_timeout", |arg| arg.default_value("10m"))
    }

    fn with_secrets(self, secrets: Secrets) -> Self {
        Self { secrets, ..self }
    }
}

impl WarmInputs {
    /// The corresponding inputs of the main action.
    pub(crate) fn of_the_job(&self) -> Result<Inputs, InputError> {
        let Self { key, remote, lane, restore, packing, files, history, trust, job, secrets, .. } = self.clone();
        let usual = Inputs::from_json("{}")?;
        let action = Action::Save;
        Ok(Inputs { key, remote, lane, restore, packing, files, history, trust, job, action, secrets, ..usual })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::app::warm::WantedPull;

    #[test]
    fn inputs_are_read_and_wrong_ones_named() {
        let given = json!({
            "targets": "hello\n  packages.x86_64-linux.a", "flake-inputs": "false", "pull-request": "7", "paths": ".feeds", "touch": "true",
            "trusted-authors": "renovate[bot]  me", "token": "t", "signing-key": "k", "nix-args": "--accept-flake-config -v"
        });
        let read = WarmInputs::from_json(&given.to_string()).unwrap();
        assert_eq!(read.warm.targets, ["hello", "packages.x86_64-linux.a"]);
        assert!(read.warm.no_flake_inputs && !read.warm.no_touch && read.of_the_job().unwrap().may_save());
        assert_eq!(read.warm.pull_request, Some(WantedPull::Number(7)));
        assert_eq!(read.warm.trusted_authors, ["renovate[bot]", "me"]);
        assert_eq!(read.warm.nix_arg, ["--accept-flake-config", "-v"]);
        let newest = WarmInputs::from_json(r#"{"pull-request": "newest"}"#).unwrap().warm;
        assert_eq!(newest.pull_request, Some(WantedPull::Newest));
        assert_eq!(newest.trusted_authors.len(), 3, "{:?}", newest.trusted_authors);
        for (name, value) in [("pull-request", "0"), ("pull-request", "#7"), ("warm-timeout", "never"), ("touch", "x")]
        {
            let error = WarmInputs::from_json(&json!({ name: value }).to_string()).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("takes"), "{error}");
        }
    }
}
