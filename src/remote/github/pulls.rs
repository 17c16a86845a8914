//! Reads pull requests through the REST interface: what warming for one needs to know. The token needs `pull-requests: read` and
//! `contents: read`.

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::config::RestConfig;
use super::pull_request::Pull;
use super::rest::Rest;
use super::tuning::Tuning;
use crate::remote::RemoteError;

/// Most entries of a list, which is one page.
const PAGE: usize = 100;

/// The pull requests of a repository.
pub(crate) struct Pulls {
    rest: Rest,
}

/// A pull request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PullRequest {
    pub number: u64,
    pub is_open: bool,
    /// Who opened it.
    pub author: String,
    /// Its newest commit.
    pub commit: String,
    /// The repository that its branch is in; empty if that is deleted.
    pub from: String,
    /// The repository and branch that it is for, and the default branch of that.
    pub repository: String,
    pub base: String,
    pub default_branch: String,
}

/// A file that a pull request changes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct ChangedFile {
    pub filename: String,
    /// `modified`, `added`, `removed`, `renamed` and others.
    #[serde(default)]
    pub status: String,
}

#[derive(Deserialize)]
struct Content {
    #[serde(default)]
    encoding: String,
    #[serde(default)]
    content: String,
}

impl From<Pull> for PullRequest {
    fn from(pull: Pull) -> Self {
        let (is_open, author) = (pull.is_open(), pull.author());
        let target = pull.base.repo.unwrap_or_default();
        Self {
            number: pull.number,
            is_open,
            author,
            commit: pull.head.sha,
            from: pull.head.repo.unwrap_or_default().full_name,
            repository: target.full_name,
            base: pull.base.branch,
            default_branch: target.default_branch,
        }
    }
}

impl Pulls {
    /// Creates the interface. Call it inside a Tokio runtime.
    ///
    /// # Errors
    /// [`RemoteError::Unavailable`] when the address, the repository or the token is invalid.
    pub(crate) fn new(config: &RestConfig, tuning: Tuning, ca_file: Option<&Path>) -> Result<Self, RemoteError> {
        let http = crate::base::http::caller(ca_file).map_err(|error| RemoteError::Unavailable(error.to_string()))?;
        Ok(Self { rest: Rest::new(http, config, &Arc::new(tuning))? })
    }

    /// The pull request with this number.
    pub(crate) async fn pull(&self, number: u64) -> Result<PullRequest, String> {
        let pull: Pull = self.get("pull-requests: read", &format!("pulls/{number}")).await?;
        Ok(pull.into())
    }

    /// The open pull requests, the most recently changed first; at most a hundred.
    pub(crate) async fn open(&self) -> Result<Vec<PullRequest>, String> {
        let path = format!("pulls?state=open&sort=updated&direction=desc&per_page={PAGE}");
        let pulls: Vec<Pull> = self.get("pull-requests: read", &path).await?;
        Ok(pulls.into_iter().map(PullRequest::from).collect())
    }

    /// The files that it changes, of which there may be more if there are two or more.
    pub(crate) async fn files(&self, number: u64) -> Result<Vec<ChangedFile>, String> {
        self.get("pull-requests: read", &format!("pulls/{number}/files?per_page={PAGE}")).await
    }

    /// A file, of at most a megabyte, in a commit.
    pub(crate) async fn file(&self, file: &str, commit: &str) -> Result<Vec<u8>, String> {
        let mut url = url::Url::parse("http://x/contents").map_err(|error| error.to_string())?;
        if let Ok(mut path) = url.path_segments_mut() {
            path.extend(file.split('/'));
        }
        url.query_pairs_mut().append_pair("ref", commit);
        let path = format!("{}?{}", url.path().trim_start_matches('/'), url.query().unwrap_or_default());
        let found: Content = self.get("contents: read", &path).await?;
        let text: String = found.content.split_whitespace().collect();
        let is_whole = found.encoding == "base64" && !text.is_empty();
        let bytes = is_whole.then(|| STANDARD.decode(text).ok()).flatten();
        bytes.ok_or_else(|| format!("GitHub does not send the content of {file}, which may be larger than 1 MB"))
    }

    async fn get<T: DeserializeOwned>(&self, permission: &str, path: &str) -> Result<T, String> {
        let wrong = |why: String| format!("GitHub was asked for {path}: {why}. The token needs `{permission}`");
        self.rest.below_repository(path).await.map_err(|why| wrong(why.trim_end_matches('.').to_owned()))
    }
}
