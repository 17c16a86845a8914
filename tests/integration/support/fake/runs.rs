//! The part of GitHub's REST interface about runs, their artifacts, and pull requests.

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::artifacts::{self, Artifact};
use super::clock::rfc3339;
use super::operation::{Call, Operation};
use super::rest::{RestError, not_found};
use super::service::Service;
use super::twirp::answer;

/// Artifacts are kept for 90 days.
const LIFE: u64 = 90 * 86_400_000;
/// How long before its first artifact a run was started.
const AGE: u64 = 3_600_000;

/// What is known of a run.
#[derive(Clone, Debug)]
pub(crate) struct FakeRun {
    pub id: u64,
    pub event: &'static str,
    /// The branch, in the repository of this number and name.
    pub head: (u64, &'static str, &'static str),
    pub sha: &'static str,
    /// The pull requests from that branch.
    pub pulls: Vec<u64>,
}

impl Default for FakeRun {
    /// A push to the default branch.
    fn default() -> Self {
        Self { id: 1, event: "push", head: (1, "octo/nix", "main"), sha: "", pulls: Vec::new() }
    }
}

/// Carries a request out. The path is what follows the name of the repository.
///
/// # Errors
/// The answer in the form of the interface.
pub(super) fn serve(service: &Service, call: &Call, (path, body): (&[&str], &[u8])) -> Result<Response, RestError> {
    let number = |text: &str| text.parse::<u64>().map_err(|_| not_found());
    match (call.operation, path) {
        (Operation::Artifacts, [_, "runs", id, _]) => Ok(list(service, call, Some(number(id)?))),
        (Operation::Artifacts, _) => Ok(list(service, call, None)),
        (Operation::ArtifactZip, [_, _, id, _]) => zip(service, number(id)?),
        (Operation::Run, [_, _]) => Ok(runs(service)),
        (Operation::Run, [_, _, id]) => run(service, number(id)?),
        (Operation::Run, _) => Ok(answer(StatusCode::OK, &json!({ "total_count": 1, "jobs": [job(service)] }))),
        (Operation::Comments, _) => Ok(comments(service, call, body)),
        _ => Ok(pulls(service, call)),
    }
}

fn runs(service: &Service) -> Response {
    let runs = service.runs.lock().expect("no holder panics");
    let all: Vec<Value> = runs.iter().map(|run| json!({ "id": run.id })).collect();
    answer(StatusCode::OK, &json!({ "total_count": all.len(), "workflow_runs": all }))
}

fn job(service: &Service) -> Value {
    let ended = service.clock.now();
    let (created, ended) = (rfc3339(ended - AGE), rfc3339(ended));
    json!({ "name": "build", "workflow_name": "CI", "conclusion": "success", "created_at": created, "started_at": created, "completed_at": ended })
}

/// Adds a comment, or lists all, on whichever pull request.
fn comments(service: &Service, call: &Call, body: &[u8]) -> Response {
    let mut all = service.comments.lock().expect("no holder panics");
    let form = |(number, text): (usize, &String)| {
        let page = format!("https://github.com/{}/pull/7#issuecomment-{number}", service.config.repository);
        json!({ "id": number, "user": { "login": "github-actions[bot]" }, "body": text, "html_url": page })
    };
    if call.method != axum::http::Method::POST {
        return answer(StatusCode::OK, &Value::Array(all.iter().enumerate().map(form).collect()));
    }
    let given: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = given["body"].as_str().unwrap_or_default().to_owned();
    all.push(text.clone());
    answer(StatusCode::CREATED, &form((all.len() - 1, &text)))
}

fn list(service: &Service, call: &Call, run: Option<u64>) -> Response {
    let number = |name| call.query(name).and_then(|text| text.parse::<usize>().ok());
    let (per_page, page) = (number("per_page").unwrap_or(30).clamp(1, 100), number("page").unwrap_or(1).max(1));
    let artifacts = service.artifacts.lock().expect("no holder panics");
    let is_wanted = |artifact: &&Artifact| {
        let is_named = call.query("name").is_none_or(|name| name == artifact.name);
        artifact.size.is_some() && is_named && run.is_none_or(|run| run == artifact.run)
    };
    // Newest first.
    let all: Vec<&Artifact> = artifacts.iter().rev().filter(is_wanted).collect();
    let shown: Vec<Value> =
        all.iter().skip((page - 1) * per_page).take(per_page).map(|artifact| form(service, artifact)).collect();
    answer(StatusCode::OK, &json!({ "total_count": all.len(), "artifacts": shown }))
}

fn form(service: &Service, artifact: &Artifact) -> Value {
    let run = known(service, artifact.run);
    let page = format!("{}/repos/{}/actions/artifacts/{}", service.base, service.config.repository, artifact.id);
    json!({
        "id": artifact.id,
        "name": artifact.name,
        "size_in_bytes": artifact.size,
        "url": page,
        "archive_download_url": format!("{page}/zip"),
        "expired": service.clock.now() > artifact.created + LIFE,
        "digest": Some(&artifact.hash).filter(|hash| !hash.is_empty()),
        "created_at": rfc3339(artifact.created),
        "expires_at": rfc3339(artifact.created + LIFE),
        "workflow_run": run.map(|run| json!({
            "id": run.id,
            "repository_id": service.config.repository_id,
            "head_repository_id": run.head.0,
            "head_branch": run.head.2,
            "head_sha": run.sha,
        })),
    })
}

fn zip(service: &Service, id: u64) -> Result<Response, RestError> {
    let artifacts = service.artifacts.lock().expect("no holder panics");
    let artifact =
        artifacts.iter().find(|artifact| artifact.id == id && artifact.size.is_some()).ok_or_else(not_found)?;
    if service.clock.now() > artifact.created + LIFE {
        return Err(RestError::new(StatusCode::GONE, "Artifact has expired"));
    }
    let to = artifacts::address(service, artifact);
    Ok(Response::builder().status(302).header("location", to).body(Body::empty()).expect("an address is plain text"))
}

fn known(service: &Service, id: u64) -> Option<FakeRun> {
    service.runs.lock().expect("no holder panics").iter().find(|run| run.id == id).cloned()
}

fn run(service: &Service, id: u64) -> Result<Response, RestError> {
    let run = known(service, id).ok_or_else(not_found)?;
    let artifacts = service.artifacts.lock().expect("no holder panics");
    let first = artifacts.iter().find(|artifact| artifact.run == id).map_or(service.clock.now(), |first| first.created);
    let created = rfc3339(first - AGE);
    Ok(answer(
        StatusCode::OK,
        &json!({
            "id": run.id,
            "name": "CI",
            "display_title": "A change",
            "event": run.event,
            "status": "completed",
            "conclusion": "success",
            "head_branch": run.head.2,
            "head_sha": run.sha,
            "run_number": 7,
            "run_attempt": 1,
            "created_at": created,
            "run_started_at": created,
            // GitHub names none where the branch is in a fork.
            "pull_requests": [],
            "repository": { "id": service.config.repository_id, "full_name": service.config.repository },
            "head_repository": { "id": run.head.0, "full_name": run.head.1, "fork": run.head.0 != service.config.repository_id },
        }),
    ))
}

fn pulls(service: &Service, call: &Call) -> Response {
    let wanted = call.query("head").unwrap_or_default();
    let runs = service.runs.lock().expect("no holder panics");
    let is_from = |run: &&FakeRun| {
        let (_, repository, branch) = run.head;
        repository.split('/').next().is_some_and(|owner| format!("{owner}:{branch}") == wanted)
    };
    // Of several runs of one pull request, the last one has its newest commit.
    let from = runs.iter().filter(is_from);
    let heads: std::collections::BTreeMap<u64, &FakeRun> =
        from.flat_map(|run| run.pulls.iter().map(move |pull| (*pull, run))).collect();
    let form = |(number, run): (&u64, &&FakeRun)| {
        let side = |name: &str, sha: &str, repository: &str| json!({ "ref": name, "sha": sha, "repo": { "full_name": repository } });
        let (head, base) = (side(run.head.2, run.sha, run.head.1), side("main", "", &service.config.repository));
        json!({ "number": number, "state": "open", "user": { "login": "somebody" }, "head": head, "base": base })
    };
    answer(StatusCode::OK, &Value::Array(heads.iter().map(form).collect()))
}
