//! The two remote calls with which artifacts are uploaded, version 4. Read rights of the cache do not matter for them.

use serde::Deserialize;
use serde_json::{Value, json};

use super::clock::millis;
use super::sas;
use super::service::Service;
use super::token::{JOB, RUN};
use super::twirp::{TwirpError, int64};

/// An artifact, which can be downloaded once it has a size.
#[derive(Debug)]
pub(super) struct Artifact {
    pub name: String,
    pub blob: String,
    pub size: Option<u64>,
    hash: String,
}

/// Fields have the names of the protocol, or those of the client in TypeScript.
#[derive(Deserialize)]
pub(super) struct CreateRequest {
    #[serde(alias = "workflowRunBackendId")]
    workflow_run_backend_id: String,
    #[serde(alias = "workflowJobRunBackendId")]
    workflow_job_run_backend_id: String,
    name: String,
    version: i64,
}

#[derive(Deserialize)]
pub(super) struct FinalizeRequest {
    #[serde(alias = "workflowRunBackendId")]
    workflow_run_backend_id: String,
    #[serde(alias = "workflowJobRunBackendId")]
    workflow_job_run_backend_id: String,
    name: String,
    #[serde(deserialize_with = "int64")]
    size: i64,
    #[serde(default)]
    hash: String,
}

fn check(run: &str, job: &str, name: &str) -> Result<(), TwirpError> {
    if (run, job) != (RUN, JOB) {
        return Err(TwirpError::new(403, "permission_denied", "the token is not of this run and job"));
    }
    // The characters that the client refuses as well.
    if name.is_empty() || name.contains(['"', ':', '<', '>', '|', '*', '?', '\r', '\n', '\\', '/']) {
        return Err(TwirpError::new(400, "invalid_argument", "the name of the artifact is not valid"));
    }
    Ok(())
}

pub(super) fn create(service: &Service, request: &CreateRequest) -> Result<Value, TwirpError> {
    check(&request.workflow_run_backend_id, &request.workflow_job_run_backend_id, &request.name)?;
    if request.version < 4 {
        return Err(TwirpError::new(400, "invalid_argument", "only version 4 is supported"));
    }
    let mut artifacts = service.artifacts.lock().expect("no holder panics");
    if artifacts.iter().any(|artifact| artifact.name == request.name) {
        let message = "an artifact with this name already exists on the workflow run";
        return Err(TwirpError::new(409, "already_exists", message));
    }
    let blob = service.new_blob_name();
    service.blobs.open(&blob);
    let until = service.clock.now() + millis(service.config.upload_life);
    let url = sas::sign(&service.mint, &service.blob_base, &blob, "cw", until);
    artifacts.push(Artifact { name: request.name.clone(), blob, size: None, hash: String::new() });
    Ok(json!({ "ok": true, "signed_upload_url": url }))
}

pub(super) fn finalize(service: &Service, request: &FinalizeRequest) -> Result<Value, TwirpError> {
    check(&request.workflow_run_backend_id, &request.workflow_job_run_backend_id, &request.name)?;
    let mut artifacts = service.artifacts.lock().expect("no holder panics");
    let found = artifacts.iter_mut().zip(1..).find(|(artifact, _)| artifact.name == request.name);
    let (artifact, id) = found.ok_or_else(|| TwirpError::new(404, "not_found", "there is no such artifact"))?;
    let stored = service.blobs.content(&artifact.blob).map(|content| content.length);
    if stored != u64::try_from(request.size).ok() {
        return Err(TwirpError::new(400, "invalid_argument", "no uploaded blob of this size"));
    }
    (artifact.size, artifact.hash) = (stored, request.hash.clone());
    Ok(json!({ "ok": true, "artifact_id": id.to_string() }))
}

/// Names, contents and announced digests of the artifacts that are complete.
pub(super) fn all(service: &Service) -> Vec<(String, Vec<u8>, String)> {
    let artifacts = service.artifacts.lock().expect("no holder panics");
    let content = |artifact: &Artifact| {
        let content = service.blobs.content(&artifact.blob).expect("it was finalized");
        let read = |segment: &std::sync::Arc<super::blobs::Segment>| read(segment);
        (artifact.name.clone(), content.segments.iter().flat_map(read).collect(), artifact.hash.clone())
    };
    artifacts.iter().filter(|artifact| artifact.size.is_some()).map(content).collect()
}

fn read(segment: &super::blobs::Segment) -> Vec<u8> {
    std::fs::read(&segment.path).expect("the folder of the fake can be read")
}
