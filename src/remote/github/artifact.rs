//! Artifacts of the run, which a job may upload whatever it may do with the cache. Protocol: version 4 of `actions/upload-artifact`, as its
//! client has it: the service of the cache, its token, and the ids of run and job from the claim `scp` of that token.

use std::time::Duration;

use bytes::Bytes;
use reqwest::StatusCode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::calls::signed;
use super::redact::chain;
use super::store::reason;
use super::token::{BackendIds, backend_ids};
use super::upload::Upload;
use super::{GithubRemote, Source};
use crate::base::digest::Sha;
use crate::base::http::BodyError;
use crate::remote::RemoteError;

const SERVICE: &str = "/twirp/github.actions.results.api.v1.ArtifactService/";
/// The version of the protocol.
const VERSION: u8 = 4;
/// Attempts for each call, and the longest time for one.
const TRIES: usize = 3;
const LIMIT: Duration = Duration::from_secs(10);

#[derive(Serialize)]
struct CreateRequest<'a> {
    #[serde(flatten)]
    ids: &'a BackendIds,
    name: &'a str,
    version: u8,
}

#[derive(Deserialize)]
struct CreateAnswer {
    #[serde(default)]
    ok: bool,
    #[serde(default, alias = "signedUploadUrl")]
    signed_upload_url: Option<String>,
}

#[derive(Serialize)]
struct FinalizeRequest<'a> {
    #[serde(flatten)]
    ids: &'a BackendIds,
    name: &'a str,
    /// 64-bit numbers are strings in this JSON.
    size: String,
    hash: String,
}

#[derive(Deserialize)]
struct FinalizeAnswer {
    #[serde(default)]
    ok: bool,
}

/// Why one attempt failed.
enum Attempt {
    Again(String),
    Failed(String),
}

impl GithubRemote {
    /// Whether the token is one with which a job can upload artifacts.
    pub(crate) fn can_upload_artifacts(&self) -> bool {
        backend_ids(&self.token).is_some()
    }

    /// Uploads `zip` as the artifact `name`, which no other one of the run may have.
    ///
    /// # Errors
    /// When the token is not that of a job, or the service refuses or fails.
    pub(crate) async fn put_artifact(&self, name: &str, zip: Vec<u8>) -> Result<(), RemoteError> {
        let failed = |why: &str| RemoteError::Failed(format!("The artifact {name} cannot be uploaded: {why}."));
        let ids = backend_ids(&self.token).ok_or_else(|| failed("the token of the runner does not name a job"))?;
        let request = CreateRequest { ids: &ids, name, version: VERSION };
        let created: CreateAnswer = self.ask("CreateArtifact", &request).await.map_err(|why| failed(&why))?;
        if !created.ok {
            return Err(failed("the service refused it"));
        }
        let url = signed(&self.hub.twirp, created.signed_upload_url.as_deref(), name)?;
        let (size, hash) = (zip.len().to_string(), format!("sha256:{}", Sha::of(&zip)));
        let source = Source::Bytes(Bytes::from(zip));
        let upload = Upload { http: &self.hub.http, url: &url, source: &source, name, tuning: &self.hub.tuning };
        upload.run().await.map_err(|error| failed(&reason(error)))?;
        let request = FinalizeRequest { ids: &ids, name, size, hash };
        let answer = self.ask("FinalizeArtifact", &request).await;
        let finalized: FinalizeAnswer = answer.map_err(|why| failed(&why))?;
        if finalized.ok { Ok(()) } else { Err(failed("the service did not accept what was uploaded")) }
    }

    /// Calls a method of the service, a few times if it fails.
    async fn ask<A: DeserializeOwned>(&self, method: &str, request: &impl Serialize) -> Result<A, String> {
        let mut pauses = self.hub.tuning.rpc_pauses(TRIES);
        loop {
            match self.ask_once(method, request).await {
                Ok(answer) => return Ok(answer),
                Err(Attempt::Failed(why)) => return Err(why),
                Err(Attempt::Again(why)) => {
                    let Some(pause) = pauses.next() else { return Err(why) };
                    tracing::debug!("calling {method} again in {pause:?}: {why}");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    async fn ask_once<A: DeserializeOwned>(&self, method: &str, request: &impl Serialize) -> Result<A, Attempt> {
        let answer = self.hub.twirp.post(&format!("{SERVICE}{method}"), request, LIMIT).await;
        let (status, _, body) = answer.map_err(|error| match error {
            BodyError::Broken(error) => Attempt::Again(chain(&error.without_url())),
            error @ BodyError::TooLarge(_) => Attempt::Again(format!("the answer to {method} was not read ({error})")),
        })?;
        match status {
            StatusCode::OK => serde_json::from_slice(&body)
                .map_err(|error| Attempt::Failed(format!("the answer to {method} is not JSON ({error})"))),
            StatusCode::TOO_MANY_REQUESTS => Err(Attempt::Again(format!("{method} is throttled"))),
            status if status.is_server_error() => Err(Attempt::Again(format!("{method} failed with status {status}"))),
            status => Err(Attempt::Failed(format!("{method} was refused with status {status}"))),
        }
    }
}
