//! The event that started the run, from the file in `GITHUB_EVENT_PATH`. Source: "Webhook events and payloads" in GitHub's
//! documentation.

use std::path::Path;

use serde::Deserialize;

use super::env::Facts;
use crate::base::bounds::{MAX_TEXT, from_json, read_text};

/// An event, with the commits that it is based on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Commits, or a branch or tag, were pushed.
    Push {
        /// The previous commit of the ref; None if the ref is new.
        before: Option<String>,
        /// The repository's default branch, short.
        default_branch: String,
    },
    PullRequest {
        /// The commit of its base branch.
        base: String,
    },
    /// A group in a merge queue.
    MergeGroup {
        /// The commit that it is based on.
        base: String,
    },
    /// Any other event, by name: nothing was changed.
    Other(String),
}

#[derive(Default, Deserialize)]
struct Payload {
    #[serde(default)]
    before: String,
    #[serde(default)]
    repository: Repository,
    #[serde(default)]
    pull_request: PullRequest,
    #[serde(default)]
    merge_group: MergeGroup,
}

#[derive(Default, Deserialize)]
struct Repository {
    #[serde(default)]
    default_branch: String,
}

#[derive(Default, Deserialize)]
struct PullRequest {
    #[serde(default)]
    base: Commit,
    #[serde(default)]
    head: Commit,
}

#[derive(Default, Deserialize)]
struct Commit {
    #[serde(default)]
    sha: String,
}

#[derive(Default, Deserialize)]
struct MergeGroup {
    #[serde(default)]
    base_sha: String,
}

/// The newest commit of the pull request that started the run; None for other events.
pub(crate) fn head_sha(facts: &Facts) -> Option<String> {
    if !matches!(&*facts.event, "pull_request" | "pull_request_target") {
        return None;
    }
    let text = read_text(facts.event_path.as_deref()?, MAX_TEXT).ok()?;
    let payload: Payload = from_json(text.as_bytes()).ok()?;
    Some(payload.pull_request.head.sha).filter(|sha| !sha.is_empty())
}

impl Event {
    /// Reads the event `name` with its payload in `file`.
    ///
    /// # Errors
    /// A sentence, if the payload cannot be read or lacks a required field.
    pub(crate) fn read(name: &str, file: Option<&Path>) -> Result<Self, String> {
        let file = file.ok_or("GITHUB_EVENT_PATH is not set")?;
        let text = read_text(file, MAX_TEXT).map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
        Self::parse(name, &text)
    }

    /// Parses the event `name` with this payload.
    ///
    /// # Errors
    /// See [`Event::read`].
    pub(crate) fn parse(name: &str, payload: &str) -> Result<Self, String> {
        let payload: Payload = from_json(payload.as_bytes())
            .map_err(|error| format!("the payload of the event cannot be read: {error}"))?;
        let lacking = |what: &str| format!("the payload of the event {name} has no {what}");
        match name {
            "push" if payload.before.is_empty() => Err(lacking("`before`")),
            "push" => Ok(Self::Push {
                before: Some(payload.before).filter(|before| before.bytes().any(|byte| byte != b'0')),
                default_branch: payload.repository.default_branch,
            }),
            "pull_request" | "pull_request_target" => {
                let base = payload.pull_request.base.sha;
                if base.is_empty() { Err(lacking("`pull_request.base.sha`")) } else { Ok(Self::PullRequest { base }) }
            }
            "merge_group" => {
                let base = payload.merge_group.base_sha;
                if base.is_empty() { Err(lacking("`merge_group.base_sha`")) } else { Ok(Self::MergeGroup { base }) }
            }
            other => Ok(Self::Other(other.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_tell_what_was_there_before() {
        let push = r#"{"before":"c0ffee","after":"d","forced":true,"repository":{"default_branch":"main","id":1}}"#;
        let (before, default_branch) = (Some("c0ffee".to_owned()), "main".to_owned());
        assert_eq!(Event::parse("push", push), Ok(Event::Push { before, default_branch }));
        let first = push.replace("c0ffee", &"0".repeat(40));
        assert!(matches!(Event::parse("push", &first), Ok(Event::Push { before: None, .. })));
        let pull = r#"{"pull_request":{"base":{"sha":"b","ref":"main"},"head":{"sha":"h"}}}"#;
        for name in ["pull_request", "pull_request_target"] {
            assert_eq!(Event::parse(name, pull), Ok(Event::PullRequest { base: "b".to_owned() }));
        }
        let group = r#"{"merge_group":{"base_sha":"b","head_sha":"h"}}"#;
        assert_eq!(Event::parse("merge_group", group), Ok(Event::MergeGroup { base: "b".to_owned() }));
        assert_eq!(Event::parse("schedule", r#"{"schedule":"1 2 * * *"}"#), Ok(Event::Other("schedule".to_owned())));
    }

    #[test]
    fn what_a_payload_lacks_is_named() {
        for (name, lacking) in
            [("push", "before"), ("pull_request", "pull_request.base.sha"), ("merge_group", "base_sha")]
        {
            assert!(Event::parse(name, "{}").unwrap_err().contains(lacking));
        }
        assert!(Event::parse("push", "[").is_err());
        assert!(Event::read("push", None).unwrap_err().contains("GITHUB_EVENT_PATH"));
    }
}
