//! The inputs of the main action, of `restore` and of `save`, and the inputs that all actions share.

use std::time::Duration;

use clap::{Args, Command, CommandFactory, Parser, ValueEnum};
use serde_json::Value;

use super::given::{ActionInputs, Secrets};
use crate::app::settings::{FailArgs, KeyArgs, LaneArgs, PackingArgs, PushToArgs, RestoreArgs, ShareArgs, TrustArgs};
use crate::github::status::JobStatus;
use crate::report::Action;

/// The inputs of the main action.
#[derive(Clone, Debug, Parser)]
pub(crate) struct Inputs {
    #[command(flatten)]
    pub key: KeyArgs,
    #[command(flatten)]
    pub remote: RemoteInput,
    #[command(flatten)]
    pub lane: LaneArgs,
    /// Only check whether there is a snapshot, and restore nothing
    #[arg(long)]
    pub lookup_only: bool,
    #[command(flatten)]
    pub fail: FailArgs,
    #[command(flatten)]
    pub restore: RestoreArgs,
    #[command(flatten)]
    pub save: SaveArgs,
    #[command(flatten)]
    pub packing: PackingArgs,
    #[command(flatten)]
    pub push: PushToArgs,
    #[command(flatten)]
    pub files: FilesArgs,
    #[command(flatten)]
    pub history: HistoryArgs,
    #[command(flatten)]
    pub guard: GuardArgs,
    #[command(flatten)]
    pub progressive: ProgressiveArgs,
    #[command(flatten)]
    pub trust: TrustArgs,
    #[command(flatten)]
    pub job: JobArgs,
    /// Which part of the work this action does; from the hook
    #[arg(long, hide = true, value_enum, default_value_t)]
    pub action: Action,
    /// The digest of the signing key that the main step had; from the hook
    #[arg(long, hide = true)]
    pub signing_key_digest: Option<String>,
    #[arg(skip)]
    pub secrets: Secrets,
}

/// When to save.
#[derive(Clone, Debug, Args)]
pub(crate) struct SaveArgs {
    /// When to save
    #[arg(id = "save", long = "save", value_name = "WHEN", value_enum, default_value_t)]
    pub when: SaveWhen,
}

/// The cost of building a path is not known, so there is no honest way to weigh it against its upload: `auto` is `always`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum SaveWhen {
    /// Whenever there is anything new
    #[default]
    Auto,
    /// The same as `auto`
    Always,
    /// If no step of the job has failed
    OnSuccess,
    /// Not at all
    Never,
    /// The same as `auto`
    True,
    /// The same as `never`
    False,
}

impl SaveWhen {
    pub(crate) fn is_never(self) -> bool {
        matches!(self, Self::Never | Self::False)
    }
}

/// What is cached besides the store.
#[derive(Clone, Debug, Args)]
pub(crate) struct FilesArgs {
    /// Further files and folders to cache
    #[arg(long, value_name = "FILE", alias = "path")]
    pub paths: Vec<String>,
    /// Leave out Nix's own caches of evaluations and downloads
    #[arg(long)]
    pub no_eval_cache: bool,
}

/// What is remembered of the job.
#[derive(Clone, Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Where to keep the record of this job for the history
    #[arg(id = "history", long = "history", value_name = "WHERE", value_enum, default_value_t)]
    pub place: HistoryPlace,
}

impl HistoryArgs {
    /// Whether there is neither a record of the job nor a comparison with earlier ones.
    pub(crate) fn is_off(&self) -> bool {
        matches!(self.place, HistoryPlace::Off | HistoryPlace::False)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum HistoryPlace {
    /// In the cache, or as an artifact of the run where the job may not write to the cache
    #[default]
    Auto,
    /// In the cache alone
    Cache,
    /// As an artifact of the run alone
    Artifact,
    /// Nowhere, and compare the job with no earlier one
    Off,
    /// The same as `auto`
    True,
    /// The same as `off`
    False,
}

/// Whether the cost guard may act.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct GuardArgs {
    /// What to do where the cache costs more time than it saves; needs the history
    #[arg(id = "guard", long = "guard", value_name = "WHEN", value_enum, default_value_t)]
    pub when: GuardWhen,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum GuardWhen {
    /// After five such runs of the lane, or where a loss is forecast before, save nothing, restore only what is small, and look every ten
    /// runs whether it pays again
    #[default]
    Auto,
    /// Restore and save in any case
    Off,
}

/// Whether a job saves before it ends.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct ProgressiveArgs {
    /// Whether to save while the job runs, so that a job that is cancelled or killed does not lose what it built
    #[arg(id = "progressive", long = "progressive", value_name = "WHEN", value_enum, default_value_t)]
    pub when: ProgressiveWhen,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressiveWhen {
    /// On Linux, at most once a minute and with at most 2 % of a busy machine; not with `save: on-success`
    #[default]
    Auto,
    /// Save only when the job ends
    Off,
}

/// Where the cache of an action is. The command line has no default.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct RemoteInput {
    /// Where layers and snapshots are stored: `github`, `dir:PATH` (a disk that runners share), or
    /// `s3://BUCKET/PREFIX?endpoint=…&region=…` with keys from the variables `AWS_*`; all actions of a workflow need the same. Further
    /// ones that are only read stand on lines of their own, each with `read-only` behind it [default: `github`]
    #[arg(long, value_name = "REMOTE")]
    pub remote: Option<String>,
    #[command(flatten)]
    pub share: ShareArgs,
}

/// The inputs that all actions share.
#[derive(Clone, Debug, Args)]
pub(crate) struct JobArgs {
    /// Write no job summary
    #[arg(long)]
    pub no_summarize: bool,
    /// The status of the job so far; from the hook, new in the post step
    #[arg(long, hide = true, value_enum, default_value_t)]
    pub job_status: JobStatus,
    /// The job's matrix; from the hook
    #[arg(long, hide = true, default_value = "null", value_parser = matrix)]
    pub matrix: Value,
}

fn matrix(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|_| "expected JSON, such as ${{ toJSON(matrix) }}".to_owned())
}

impl ActionInputs for Inputs {
    /// The parser: as on the command line, except that a save has a time limit.
    fn declared() -> Command {
        Self::command().mut_arg("save_timeout", |arg| arg.default_value("10m"))
    }

    fn with_secrets(self, secrets: Secrets) -> Self {
        Self { secrets, ..self }
    }
}

impl Inputs {
    /// Longest time for a save.
    pub(crate) fn save_timeout(&self) -> Duration {
        self.packing.save_timeout.expect("the parser of the actions has a default")
    }

    /// Whether the job went as well as the input `save` requires.
    pub(crate) fn is_successful_enough(&self) -> bool {
        let succeeded = matches!(self.job.job_status, JobStatus::Success | JobStatus::Unknown);
        succeeded || self.save.when != SaveWhen::OnSuccess
    }

    /// Returns whether the post step may save at all: this action saves, `save` is not `never`, and with `on-success` no step
    /// has failed.
    pub(crate) fn may_save(&self) -> bool {
        self.is_successful_enough() && !self.save.when.is_never() && self.action != Action::Restore
    }
}

#[cfg(test)]
#[path = "inputs_test.rs"]
mod tests;
