//! The inputs of the action `comment`.

use clap::Parser;

use super::given::{ActionInputs, InputError, Secrets};
use super::inputs::{Inputs, JobArgs, RemoteInput};
use crate::app::settings::CommentArgs;

/// The inputs of `comment`.
#[derive(Clone, Debug, Parser)]
pub(crate) struct CommentInputs {
    #[command(flatten)]
    pub comment: CommentArgs,
    #[command(flatten)]
    pub remote: RemoteInput,
    #[command(flatten)]
    pub job: JobArgs,
    #[arg(skip)]
    pub secrets: Secrets,
}

impl ActionInputs for CommentInputs {
    fn with_secrets(self, secrets: Secrets) -> Self {
        Self { secrets, ..self }
    }
}

impl CommentInputs {
    /// The corresponding inputs of the main action.
    pub(crate) fn of_the_job(&self) -> Result<Inputs, InputError> {
        let Self { comment, remote, job, secrets } = self.clone();
        Ok(Inputs { trust: comment.trust, remote, job, secrets, ..Inputs::from_json("{}")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_stand_on_lines_and_wrong_inputs_are_named() {
        let read =
            CommentInputs::from_json(r#"{"reports": "a\nb c", "pull-request": "12", "dry-run": "true"}"#).unwrap();
        assert_eq!(read.comment.reports, ["a", "b c"].map(std::path::PathBuf::from));
        assert_eq!(
            (read.comment.pull_request, read.comment.dry_run, &*read.comment.header),
            (Some(12), true, "default")
        );
        for (input, value) in [("pull-request", "0"), ("pull-request", "x"), ("header", "a--b"), ("dry-run", "maybe")] {
            let json = serde_json::json!({ input: value }).to_string();
            let error = CommentInputs::from_json(&json).unwrap_err().to_string();
            assert!(error.contains(input) && error.contains(value), "{error}");
        }
    }
}
