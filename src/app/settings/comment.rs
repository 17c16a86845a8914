//! The settings of a comment on a pull request.

use std::path::PathBuf;

use clap::Args;

use super::TrustArgs;
use super::values::whole;

/// What a comment is made of.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Comment")]
pub(crate) struct CommentArgs {
    /// Folders with the reports of the jobs, as actions/download-artifact leaves them, or single files
    #[arg(long, value_name = "DIR", default_value = "nix-cache-reports")]
    pub reports: Vec<PathBuf>,
    /// Number of the pull request [default: that of the event, or of the run that ended for a workflow on `workflow_run`]
    #[arg(long, value_name = "NUMBER", value_parser = whole::<u64>(1, 1_000_000_000))]
    pub pull_request: Option<u64>,
    /// Word that distinguishes this comment from others of nix-cache on the same pull request: letters, digits and any of `._-`
    #[arg(long, value_name = "WORD", default_value = "default", value_parser = word)]
    pub header: String,
    /// Login of the account that the token belongs to, whose comment is replaced [default: asked from GitHub, or `github-actions[bot]`]
    #[arg(long, value_name = "LOGIN")]
    pub author: Option<String>,
    /// Print what would be written, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// The first word of the keys of the jobs, if they set `prefix-key`
    #[arg(long, value_name = "WORD", default_value = "nix")]
    pub prefix_key: String,
    #[command(flatten)]
    pub trust: TrustArgs,
}

/// Longest word.
const LONGEST: usize = 60;

fn word(text: &str) -> Result<String, String> {
    let is_word = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    // Two dashes would end the hidden line that holds it.
    if is_word && !text.is_empty() && text.len() <= LONGEST && !text.contains("--") {
        Ok(text.to_owned())
    } else {
        Err(format!("expected at most {LONGEST} letters, digits and any of `._-`, without two dashes in a row"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_cannot_end_the_line_that_hides_it() {
        assert_eq!(word("nightly.2"), Ok("nightly.2".to_owned()));
        for text in ["", "a--b", "a b", "-->", "a\nb", "é", &"x".repeat(61)] {
            assert!(word(text).is_err(), "{text:?}");
        }
    }
}
