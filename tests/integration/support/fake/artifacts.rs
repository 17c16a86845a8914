//! The remote calls for artifacts, version 4 and later. Read rights of the cache do not matter for them.

use serde::Deserialize;
use serde_json::{Value, json};

use super::clock::{Millis, millis, rfc3339};
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
    pub hash: String,
    /// Its number.
    pub id: u64,
    /// The run that it is of.
    pub run: u64,
    pub created: Millis,
}

/// A request for the artifacts of the run, perhaps for those of one name.
#[derive(Deserialize)]
pub(super) struct FindRequest {
    #[serde(alias = "workflowRunBackendId")]
    workflow_run_backend_id: String,
    #[serde(alias = "workflowJobRunBackendId")]
    workflow_job_run_backend_id: String,
    #[serde(default)]
    name: String,
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
    let run = service.run();
    let mut artifacts = service.artifacts.lock().expect("no holder panics");
    if artifacts.iter().any(|artifact| artifact.run == run && artifact.name == request.name) {
        let message = "an artifact with this name already exists on the workflow run";
        return Err(TwirpError::new(409, "already_exists", message));
    }
    let blob = service.new_blob_name();
    service.blobs.open(&blob);
    let until = service.clock.now() + millis(service.config.upload_life);
    let url = sas::sign(&service.mint, &service.blob_base, &blob, "cw", until);
    let (id, name, created) = (artifacts.len() as u64 + 1, request.name.clone(), service.clock.now());
    artifacts.push(Artifact { name, blob, size: None, hash: String::new(), id, run, created });
    Ok(json!({ "ok": true, "signed_upload_url": url }))
}

pub(super) fn finalize(service: &Service, request: &FinalizeRequest) -> Result<Value, TwirpError> {
    check(&request.workflow_run_backend_id, &request.workflow_job_run_backend_id, &request.name)?;
    let run = service.run();
    let mut artifacts = service.artifacts.lock().expect("no holder panics");
    let found = artifacts.iter_mut().find(|artifact| artifact.run == run && artifact.name == request.name);
    let artifact = found.ok_or_else(|| TwirpError::new(404, "not_found", "there is no such artifact"))?;
    let stored = service.blobs.content(&artifact.blob).map(|content| content.length);
    if stored != u64::try_from(request.size).ok() {
        return Err(TwirpError::new(400, "invalid_argument", "no uploaded blob of this size"));
    }
    (artifact.size, artifact.hash) = (stored, request.hash.clone());
    Ok(json!({ "ok": true, "artifact_id": artifact.id.to_string() }))
}

pub(super) fn list(service: &Service, request: &FindRequest) -> Result<Value, TwirpError> {
    check(&request.workflow_run_backend_id, &request.workflow_job_run_backend_id, "any")?;
    let (run, artifacts) = (service.run(), service.artifacts.lock().expect("no holder panics"));
    let of_run = artifacts.iter().filter(|artifact| artifact.run == run && artifact.size.is_some());
    let form = |artifact: &Artifact| {
        json!({
            "workflow_run_backend_id": RUN,
            "workflow_job_run_backend_id": JOB,
            "database_id": artifact.id.to_string(),
            "name": artifact.name,
            "size": artifact.size.unwrap_or_default().to_string(),
            "created_at": rfc3339(artifact.created),
            "digest": artifact.hash,
        })
    };
    Ok(json!({ "artifacts": of_run.map(form).collect::<Vec<_>>() }))
}

pub(super) fn signed(service: &Service, request: &FindRequest) -> Result<Value, TwirpError> {
    check(&request.workflow_run_backend_id, &request.workflow_job_run_backend_id, &request.name)?;
    let (run, artifacts) = (service.run(), service.artifacts.lock().expect("no holder panics"));
    let mut of_run = artifacts.iter().filter(|artifact| artifact.run == run && artifact.size.is_some());
    let artifact = of_run.find(|artifact| artifact.name == request.name);
    let artifact = artifact.ok_or_else(|| TwirpError::new(404, "not_found", "there is no such artifact"))?;
    Ok(json!({ "signed_url": address(service, artifact) }))
}

/// The address from which its archive is downloaded.
pub(super) fn address(service: &Service, artifact: &Artifact) -> String {
    let until = service.clock.now() + millis(service.config.download_life);
    sas::sign_archive(&service.mint, &service.blob_base, (&artifact.blob, &artifact.name), until)
}

/// Stores an artifact of the last run as it is.
pub(super) fn put(service: &Service, name: &str, zip: &[u8]) {
    let (blob, run, created) = (service.new_blob_name(), service.run(), service.clock.now());
    service.blobs.store(&blob, zip);
    let mut artifacts = service.artifacts.lock().expect("no holder panics");
    let (id, size) = (artifacts.len() as u64 + 1, Some(zip.len() as u64));
    artifacts.push(Artifact { name: name.to_owned(), blob, size, hash: String::new(), id, run, created });
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
