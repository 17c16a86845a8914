//! A server that behaves like GitHub's REST interface of one repository with a pull request, and a folder with the files of a run.

use std::fs;
use std::path::Path as FilePath;
use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::support::program::Run;

pub(super) const HEAD: &str = "1111111111111111111111111111111111111111";
pub(super) const BOT: &str = "github-actions[bot]";

/// A repository on a server.
#[derive(Default)]
pub(super) struct Repository {
    pub(super) comments: Vec<(u64, String, String)>,
    pub(super) pulls: Vec<Value>,
    /// Whose token it is, for tokens that may ask.
    pub(super) login: Option<&'static str>,
    /// Answers to changes, before any is carried out: status and message.
    pub(super) refuses: Vec<(u16, &'static str)>,
    /// Changes that are carried out and answered with a failure.
    pub(super) lost: usize,
    /// Requests of any kind that are answered with a limit first.
    pub(super) limits: usize,
    pub(super) lists: usize,
    pub(super) changes: usize,
    pub(super) queries: Vec<String>,
    /// The entries of its cache, for tokens that may list them.
    pub(super) caches: Option<Vec<Value>>,
}

type Shared = Arc<Mutex<Repository>>;

fn error(status: u16, message: &str) -> Response {
    (StatusCode::from_u16(status).unwrap(), Json(json!({ "message": message }))).into_response()
}

fn shown((id, author, body): &(u64, String, String)) -> Value {
    json!({ "id": id, "user": { "login": author, "type": "Bot" }, "body": body,
        "html_url": format!("https://github.com/octo/clock/pull/7#issuecomment-{id}"), "created_at": "2026-11-26T10:00:00Z" })
}

async fn comments(
    State(shared): State<Shared>,
    method: Method,
    headers: HeaderMap,
    Query(query): Query<Vec<(String, String)>>,
    Path((_, _, number)): Path<(String, String, u64)>,
    body: String,
) -> Response {
    assert_eq!(headers["authorization"], "Bearer ghs_secret");
    let mut repository = shared.lock().unwrap();
    if repository.limits > 0 {
        repository.limits -= 1;
        let message = "You have exceeded a secondary rate limit. Please wait.";
        return ([("retry-after", "1")], error(403, message)).into_response();
    }
    if number != 7 {
        return error(404, "Not Found");
    }
    if method == Method::POST {
        return change(&mut repository, None, &body);
    }
    repository.lists += 1;
    let of = |name: &str| query.iter().find(|(known, _)| known == name).unwrap().1.parse::<usize>().unwrap();
    let start = (of("page") - 1) * of("per_page");
    Json(repository.comments.iter().skip(start).take(of("per_page")).map(shown).collect::<Vec<_>>()).into_response()
}

async fn one(State(shared): State<Shared>, Path((_, _, id)): Path<(String, String, u64)>, body: String) -> Response {
    change(&mut shared.lock().unwrap(), Some(id), &body)
}

/// Writes or replaces a comment.
fn change(repository: &mut Repository, id: Option<u64>, body: &str) -> Response {
    let body = serde_json::from_str::<Value>(body).unwrap()["body"].as_str().unwrap().to_owned();
    if let Some((status, message)) = repository.refuses.pop() {
        return error(status, message);
    }
    if body.chars().count() > 65_536 {
        return error(422, "Validation Failed: body is too long (maximum is 65536 characters)");
    }
    repository.changes += 1;
    let author = repository.login.unwrap_or(BOT).to_owned();
    let answer = if let Some(id) = id {
        let Some(comment) = repository.comments.iter_mut().find(|comment| comment.0 == id) else {
            return error(404, "Not Found");
        };
        comment.2 = body;
        shown(comment)
    } else {
        let comment = (1_000 + repository.comments.len() as u64, author, body);
        repository.comments.push(comment.clone());
        shown(&comment)
    };
    if repository.lost > 0 {
        repository.lost -= 1;
        return error(502, "Server Error");
    }
    (if id.is_some() { StatusCode::OK } else { StatusCode::CREATED }, Json(answer)).into_response()
}

async fn pull(State(shared): State<Shared>, Path((_, _, number)): Path<(String, String, u64)>) -> Response {
    let repository = shared.lock().unwrap();
    let found = repository.pulls.iter().find(|pull| pull["number"] == number);
    found.map_or_else(|| error(404, "Not Found"), |pull| Json(pull.clone()).into_response())
}

async fn pulls(State(shared): State<Shared>, Query(query): Query<Vec<(String, String)>>) -> Response {
    let mut repository = shared.lock().unwrap();
    let head = query.iter().find(|(name, _)| name == "head").unwrap().1.clone();
    repository.queries.push(head.clone());
    let is_wanted = |pull: &&Value| {
        let owner = pull["head"]["repo"]["full_name"].as_str().unwrap().split('/').next().unwrap();
        head == format!("{owner}:{}", pull["head"]["ref"].as_str().unwrap())
    };
    Json(repository.pulls.iter().filter(is_wanted).cloned().collect::<Vec<_>>()).into_response()
}

async fn caches(State(shared): State<Shared>, Query(query): Query<Vec<(String, String)>>) -> Response {
    let prefix = &query.iter().find(|(name, _)| name == "key").unwrap().1;
    let repository = shared.lock().unwrap();
    let Some(all) = &repository.caches else { return error(403, "Resource not accessible by integration") };
    let is_wanted = |entry: &&Value| entry["key"].as_str().unwrap().starts_with(prefix.as_str());
    let found: Vec<&Value> = all.iter().filter(is_wanted).collect();
    Json(json!({ "total_count": found.len(), "actions_caches": found })).into_response()
}

async fn user(State(shared): State<Shared>) -> Response {
    match shared.lock().unwrap().login {
        Some(login) => Json(json!({ "login": login })).into_response(),
        None => error(403, "Resource not accessible by integration"),
    }
}

pub(super) fn a_pull(number: u64, head: &str, fork: &str) -> Value {
    json!({ "number": number, "state": "open",
        "head": { "ref": "fix", "sha": head, "repo": { "full_name": fork } },
        "base": { "ref": "main", "sha": "0".repeat(40), "repo": { "full_name": "octo/clock" } } })
}

/// A report as a job of the pull request's run leaves it.
pub(super) fn report(lane: &str) -> Value {
    json!({ "schema": 1, "version": "0.1.0", "action": "both",
        "job": { "repository": "octo/clock", "workflow": "CI", "job": "build", "lane": lane, "event": "pull_request",
            "ref": "refs/pull/7/merge", "sha": "2".repeat(40), "head-sha": HEAD, "started": 1_790_000_000_u64, "ended": 1_790_000_060_u64,
            "run-id": 99, "run-attempt": 1, "status": "success" },
        "key": { "primary": "k-1", "prefixes": ["k-"], "hit": "exact" },
        "paths": { "needed": 90, "built-here": 8, "fetched-upstream": 2 } })
}

/// A server in a thread of its own, and a folder of reports.
pub(super) struct Server {
    shared: Shared,
    url: String,
    folder: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    pub(super) fn start() -> Self {
        let repository = Repository { pulls: vec![a_pull(7, HEAD, "octo/clock")], ..Repository::default() };
        let shared: Shared = Arc::new(Mutex::new(repository));
        let base = "/api/v3/repos/{owner}/{name}";
        let router = Router::new()
            .route(&format!("{base}/issues/{{number}}/comments"), any(comments))
            .route(&format!("{base}/issues/comments/{{id}}"), any(one))
            .route(&format!("{base}/pulls/{{number}}"), get(pull))
            .route(&format!("{base}/pulls"), get(pulls))
            .route(&format!("{base}/actions/caches"), get(caches))
            .route("/api/v3/user", get(user))
            .with_state(Arc::clone(&shared));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}/api/v3", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
        let folder = tempfile::tempdir().unwrap();
        let server = Self { shared, url, folder, _runtime: runtime };
        server.put("nix-cache-report-build/report.json", &report("CI/build"));
        server.event("pull_request", &json!({ "pull_request": { "number": 7, "head": { "sha": HEAD } } }));
        server
    }

    pub(super) fn with<T>(&self, of: impl FnOnce(&mut Repository) -> T) -> T {
        of(&mut self.shared.lock().unwrap())
    }

    pub(super) fn path(&self) -> &FilePath {
        self.folder.path()
    }

    pub(super) fn put(&self, name: &str, report: &Value) {
        let file = self.path().join("nix-cache-reports").join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, report.to_string()).unwrap();
    }

    /// The event that started this run.
    pub(super) fn event(&self, name: &str, payload: &Value) {
        fs::write(self.path().join("event-name"), name).unwrap();
        fs::write(self.path().join("event.json"), payload.to_string()).unwrap();
    }

    /// The environment of a run, in which tests wait less.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nix-cache"));
        command.args(arguments).env_clear().current_dir(self.path());
        command
            .env("GITHUB_API_URL", &self.url)
            .env("GITHUB_REPOSITORY", "octo/clock")
            .env("GITHUB_TOKEN", "ghs_secret");
        command.env("GITHUB_EVENT_NAME", fs::read_to_string(self.path().join("event-name")).unwrap());
        command.env("GITHUB_EVENT_PATH", self.path().join("event.json")).env("GITHUB_RUN_ID", "99");
        command.env("GITHUB_SERVER_URL", "https://github.com");
        command.env("NIX_CACHE_TUNING", "rpc_delay=1,rest_pause=10,rest_patience=1500");
        command
    }

    pub(super) fn comment(&self, arguments: &[&str]) -> Run {
        Run::of(self.command(&[&["comment"], arguments].concat()))
    }

    /// The step of the action, with its outputs.
    pub(super) fn action(&self, inputs: &Value) -> (Run, String) {
        let output = self.path().join("output");
        fs::write(&output, "").unwrap();
        let mut command = self.command(&["action", "comment"]);
        command.env("NIX_CACHE_INPUTS", inputs.to_string()).env("GITHUB_OUTPUT", &output).env("GITHUB_ACTIONS", "true");
        command.env("GITHUB_WORKSPACE", self.path());
        let run = Run::of(command);
        (run, fs::read_to_string(output).unwrap())
    }
}
