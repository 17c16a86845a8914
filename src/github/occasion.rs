//! Which pull request a step is about, from the event that started its run. Only the runner writes that file, so it can be believed,
//! also where the pull request is from a fork.

use serde::Deserialize;

use super::env::Facts;
use crate::base::bounds::{MAX_TEXT, from_json, read_text};

/// What the event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// The run is for a pull request.
    Pull { number: u64, head_sha: String },
    /// The run was started by the end of another one (`workflow_run`), which may have been for a pull request.
    Run(EndedRun),
    /// Another event, by name.
    Other(String),
}

/// A run that ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct EndedRun {
    pub id: u64,
    pub run_attempt: u64,
    /// The commit that it ran for.
    pub head_sha: String,
    /// Its branch, short, in `head_repository`.
    pub head_branch: String,
    pub head_repository: HeadRepository,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct HeadRepository {
    pub owner: Owner,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Owner {
    pub login: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Payload {
    pull_request: Option<PullRequest>,
    workflow_run: Option<EndedRun>,
}

#[derive(Deserialize)]
struct PullRequest {
    number: u64,
    head: Head,
}

#[derive(Deserialize)]
struct Head {
    sha: String,
}

impl Occasion {
    /// Reads the event of this run.
    ///
    /// # Errors
    /// A sentence, if the payload cannot be read.
    pub(crate) fn read(facts: &Facts) -> Result<Self, String> {
        let Some(file) = &facts.event_path else { return Ok(Self::Other(facts.event.clone())) };
        let text = read_text(file, MAX_TEXT)
            .map_err(|error| format!("the event in {} cannot be read: {error}", file.display()))?;
        Self::parse(&facts.event, &text)
    }

    fn parse(name: &str, payload: &str) -> Result<Self, String> {
        let payload: Payload = from_json(payload.as_bytes())
            .map_err(|error| format!("the payload of the event {name} cannot be read: {error}"))?;
        Ok(match (name, payload) {
            ("workflow_run", Payload { workflow_run: Some(run), .. }) => Self::Run(run),
            (_, Payload { pull_request: Some(pull), .. }) => {
                Self::Pull { number: pull.number, head_sha: pull.head.sha }
            }
            _ => Self::Other(name.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_name_their_pull_request_or_run() {
        let pull = r#"{"number":7,"pull_request":{"number":7,"head":{"sha":"abc","ref":"x"},"base":{"sha":"d"}}}"#;
        let expected = Occasion::Pull { number: 7, head_sha: "abc".to_owned() };
        assert_eq!(Occasion::parse("pull_request", pull), Ok(expected.clone()));
        assert_eq!(Occasion::parse("pull_request_target", pull), Ok(expected));
        let run = r#"{"action":"completed","workflow_run":{"id":99,"run_attempt":2,"head_sha":"abc","head_branch":"fix",
            "event":"pull_request","pull_requests":[],"head_repository":{"id":1,"owner":{"login":"eve","id":2}}}}"#;
        let Ok(Occasion::Run(run)) = Occasion::parse("workflow_run", run) else { panic!("no run") };
        assert_eq!((run.id, &*run.head_sha, &*run.head_branch), (99, "abc", "fix"));
        assert_eq!(run.head_repository.owner.login, "eve");
        assert_eq!(Occasion::parse("push", "{}"), Ok(Occasion::Other("push".to_owned())));
        assert!(Occasion::parse("push", "[").is_err());
    }
}
