//! The artifacts of all runs of the repository, and the runs that they are of, through the REST interface. Needs a token with `actions: read`.
//!
//! An archive is downloaded from another host, to which a redirect leads: the token is not sent there. Everything in an archive, and its name, may
//! come from a fork; what GitHub says of the run does not.

use serde::Deserialize;

use super::redact::chain;
use super::requests::{Call, CallError, Refused, Requests};
use crate::base::http::{BodyError, body};

const PER_PAGE: u64 = 100;
/// Most pages of the list. GitHub gives a job's token 1,000 requests an hour for everything.
const MOST_PAGES: u64 = 50;
/// Attempts to download an archive.
const TRIES: u32 = 3;
const PERMISSION: &str = "actions: read";

/// An artifact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct ArtifactInfo {
    pub id: u64,
    pub name: String,
    #[serde(rename = "size_in_bytes")]
    pub size: u64,
    pub expired: bool,
    /// As GitHub writes times.
    pub created_at: Option<String>,
    /// None if the run was deleted.
    pub workflow_run: Option<OfRun>,
}

/// The run that an artifact is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct OfRun {
    pub id: u64,
}

/// What GitHub says of a run.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RunOrigin {
    pub id: u64,
    pub event: String,
    pub head_branch: Option<String>,
    pub head_sha: String,
    /// The number of its last attempt.
    pub run_attempt: u64,
    pub created_at: Option<String>,
    pub repository: Repository,
    /// Where the branch is; None if that repository was deleted.
    pub head_repository: Option<Repository>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Repository {
    pub id: u64,
    /// `owner/name`.
    pub full_name: String,
}

/// The artifacts with a wanted name.
#[derive(Debug, Default)]
pub(crate) struct ArtifactList {
    /// Newest first.
    pub found: Vec<ArtifactInfo>,
    /// Why the list is not complete; None if it is.
    pub why: Option<String>,
}

/// Why something was not read.
#[derive(Debug)]
pub(crate) enum Missed {
    /// The others may be readable.
    This(String),
    /// The others cannot be read either.
    All(String),
}

#[derive(Deserialize)]
struct Page {
    artifacts: Vec<ArtifactInfo>,
}

/// The artifacts of a repository.
pub(crate) struct Artifacts(pub Requests);

impl Artifacts {
    /// Lists the artifacts whose name is wanted.
    pub(crate) async fn list(&self, is_wanted: impl Fn(&str) -> bool) -> ArtifactList {
        let mut list = ArtifactList::default();
        let what = "list the artifacts";
        for page in 1..=MOST_PAGES {
            let path = format!("/actions/artifacts?per_page={PER_PAGE}&page={page}");
            let answer: Page = match self.0.get(what, &path).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(refused)) => {
                    list.why = Some(self.explain(&refused, what));
                    break;
                }
                Err(error) => {
                    list.why = Some(error.to_string());
                    break;
                }
            };
            let is_last = (answer.artifacts.len() as u64) < PER_PAGE;
            list.found.extend(answer.artifacts.into_iter().filter(|artifact| is_wanted(&artifact.name)));
            if is_last {
                break;
            }
            if page == MOST_PAGES {
                let most = MOST_PAGES * PER_PAGE;
                list.why = Some(format!("Only the newest {most} artifacts of the repository are looked at."));
            }
        }
        // New ones move others to a further page, where they are listed once more.
        list.found.sort_by_key(|artifact| std::cmp::Reverse(artifact.id));
        list.found.dedup_by_key(|artifact| artifact.id);
        list
    }

    /// What GitHub says of a run.
    pub(crate) async fn run(&self, id: u64) -> Result<RunOrigin, Missed> {
        let what = "read a run";
        self.missed(what, self.0.get(what, &format!("/actions/runs/{id}")).await)
    }

    /// The archive of an artifact, of at most `most` bytes.
    pub(crate) async fn archive(&self, artifact: &ArtifactInfo, most: usize) -> Result<Vec<u8>, Missed> {
        let what = "download an artifact";
        let uri = format!("/repos/{}/actions/artifacts/{}/zip", self.0.repository, artifact.id);
        let reply = self.missed(what, self.0.reply(what, Call::Get, &uri).await)?;
        let url = reply.location.and_then(|address| url::Url::parse(&address).ok());
        let is_usable = |url: &url::Url| url.scheme() == "https" || url.scheme() == "http" && !self.0.is_secure;
        let Some(url) = url.filter(is_usable) else {
            return Err(Missed::This("GitHub answers without a usable address for its content".to_owned()));
        };
        let mut tries = 0;
        loop {
            tries += 1;
            let fetched = tokio::time::timeout(self.0.tuning.rpc_timeout, self.fetch(url.clone(), most)).await;
            match fetched.unwrap_or_else(|_| Err((true, "its content does not arrive".to_owned()))) {
                Ok(bytes) => return Ok(bytes),
                Err((true, _)) if tries < TRIES => tokio::time::sleep(self.0.tuning.rpc_delay * 2_u32.pow(tries)).await,
                Err((_, why)) => return Err(Missed::This(why)),
            }
        }
    }

    /// Downloads from a signed address, which no error contains. An error says whether another attempt may help.
    async fn fetch(&self, url: url::Url, most: usize) -> Result<Vec<u8>, (bool, String)> {
        let broken =
            |error: reqwest::Error| (true, format!("its content cannot be read: {}", chain(&error.without_url())));
        let response = self.0.http.get(url).send().await.map_err(broken)?;
        let status = response.status();
        if status != reqwest::StatusCode::OK {
            let may_help = status.is_server_error() || status == reqwest::StatusCode::TOO_MANY_REQUESTS;
            return Err((may_help, format!("its content was refused with status {}", status.as_u16())));
        }
        body(response, most).await.map_err(|error| match error {
            BodyError::Broken(error) => broken(error),
            BodyError::TooLarge(most) => (false, format!("it is larger than {} KiB", most >> 10)),
        })
    }

    fn missed<T>(&self, what: &str, answer: Result<Result<T, Refused>, CallError>) -> Result<T, Missed> {
        match answer {
            Ok(Ok(found)) => Ok(found),
            // It was deleted, or has expired since.
            Ok(Err(Refused { status: 404 | 410, .. })) => {
                Err(Missed::This("GitHub does not have it any more".to_owned()))
            }
            Ok(Err(refused)) if refused.is_about_rights() => Err(Missed::All(self.explain(&refused, what))),
            Ok(Err(refused)) => Err(Missed::This(format!("GitHub answers {}, {:?}", refused.status, refused.message))),
            Err(error) => Err(Missed::All(error.to_string())),
        }
    }

    fn explain(&self, refused: &Refused, what: &str) -> String {
        refused.explain(what, PERMISSION, &self.0.repository)
    }
}

#[cfg(test)]
#[path = "artifacts_test.rs"]
mod tests;
