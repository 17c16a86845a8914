//! `nix-cache prune` against a server that behaves like GitHub's REST interface: several pages, entries of other tools, closed pull
//! requests, limits of requests, missing permissions, and an outage in the middle.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use nix_cache::remote::Kind;
use nix_cache::remote::github::version;
use serde_json::{Value, json};

use crate::support::program::Run;

/// A repository on a server.
#[derive(Default)]
struct Repository {
    entries: Vec<Value>,
    /// Requests that are answered with a limit before others are answered.
    limits: usize,
    /// Deletions that are answered before the server fails.
    deletions: Option<usize>,
    may_delete: bool,
    may_read: bool,
    deleted: Vec<u64>,
    lists: usize,
}

type Shared = Arc<Mutex<Repository>>;

fn error(status: u16, message: &str) -> Response {
    (StatusCode::from_u16(status).unwrap(), Json(json!({ "message": message }))).into_response()
}

async fn list(State(shared): State<Shared>, Query(query): Query<Vec<(String, String)>>) -> Response {
    let mut repository = shared.lock().unwrap();
    repository.lists += 1;
    if repository.limits > 0 {
        repository.limits -= 1;
        let message = "You have exceeded a secondary rate limit.";
        return ([("retry-after", "1")], error(403, message)).into_response();
    }
    if !repository.may_read {
        return error(403, "Resource not accessible by integration");
    }
    let number = |name: &str| query.iter().find(|(known, _)| known == name).unwrap().1.parse::<usize>().unwrap();
    let start = (number("page") - 1) * number("per_page");
    let page: Vec<&Value> = repository.entries.iter().skip(start).take(number("per_page")).collect();
    Json(json!({ "total_count": repository.entries.len(), "actions_caches": page })).into_response()
}

async fn remove(
    State(shared): State<Shared>,
    headers: HeaderMap,
    Path((_, _, id)): Path<(String, String, u64)>,
) -> Response {
    assert_eq!(headers["authorization"], "Bearer ghs_secret");
    let mut repository = shared.lock().unwrap();
    if !repository.may_delete {
        return error(403, "Resource not accessible by integration");
    }
    if let Some(left) = repository.deletions.as_mut() {
        let Some(less) = left.checked_sub(1) else { return error(503, "no server is available") };
        *left = less;
    }
    let before = repository.entries.len();
    repository.entries.retain(|entry| entry["id"] != id);
    if repository.entries.len() == before {
        return error(404, "Not Found");
    }
    repository.deleted.push(id);
    StatusCode::NO_CONTENT.into_response()
}

async fn pull(Path((_, _, number)): Path<(String, String, u64)>) -> Response {
    match number {
        1 => Json(json!({ "state": "closed" })).into_response(),
        2 => Json(json!({ "state": "open" })).into_response(),
        _ => error(404, "Not Found"),
    }
}

async fn references(Path((_, _, prefix)): Path<(String, String, String)>) -> Response {
    let all = ["heads/main", "heads/feature-2", "tags/v1"];
    let found = all.iter().filter(|name| name.starts_with(&prefix));
    Json(found.map(|name| json!({ "ref": format!("refs/{name}") })).collect::<Vec<_>>()).into_response()
}

/// A server in a thread of its own.
struct Server {
    shared: Shared,
    url: String,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    fn start(entries: Vec<Value>) -> Self {
        let repository = Repository { entries, may_delete: true, may_read: true, ..Repository::default() };
        let shared: Shared = Arc::new(Mutex::new(repository));
        let router = Router::new()
            .route("/api/v3/repos/{owner}/{name}", get(|| async { Json(json!({ "default_branch": "main" })) }))
            .route("/api/v3/repos/{owner}/{name}/actions/caches", get(list))
            .route("/api/v3/repos/{owner}/{name}/actions/caches/{id}", delete(remove))
            .route("/api/v3/repos/{owner}/{name}/pulls/{number}", get(pull))
            .route("/api/v3/repos/{owner}/{name}/git/matching-refs/{*prefix}", get(references))
            .with_state(Arc::clone(&shared));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        // As GitHub Enterprise Server has it: the interface is below a path.
        let url = format!("http://{}/api/v3", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { shared, url, _runtime: runtime }
    }

    fn prune(&self, arguments: &[&str]) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nix-cache"));
        command.args(["prune", "--remote", "github", "--format", "json"]).args(arguments).env_clear();
        command.env("GITHUB_API_URL", &self.url).env("GITHUB_REPOSITORY", "octo/nix").env("GITHUB_TOKEN", "ghs_secret");
        command.env("NIX_CACHE_TUNING", "delete_interval=1,rpc_delay=1,rest_patience=3000");
        let run = Run::of(command);
        assert!(!format!("{}{}", run.out, run.log).contains("ghs_secret"));
        run
    }

    fn with<T>(&self, change: impl FnOnce(&mut Repository) -> T) -> T {
        change(&mut self.shared.lock().unwrap())
    }
}

/// An entry of a few days ago, or of an hour ago.
fn entry(id: usize, key: &str, scope: &str, kind: Option<Kind>, is_young: bool) -> Value {
    let time = chrono::Utc::now() - if is_young { chrono::TimeDelta::hours(1) } else { chrono::TimeDelta::days(3) };
    let time = time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let version = kind.map_or_else(|| "a".repeat(64), version);
    json!({
        "id": id, "ref": scope, "key": key, "version": version, "size_in_bytes": 1_000_000, "created_at": time, "last_accessed_at": time,
    })
}

/// 312 entries: those of two pull requests, a queue, three branches and other tools.
fn entries() -> Vec<Value> {
    let scopes = [
        "refs/pull/1/merge",
        "refs/pull/2/merge",
        "refs/pull/3/merge",
        "refs/heads/main",
        "refs/heads/feature",
        "refs/heads/feature-2",
        "refs/heads/gh-readonly-queue/main/pr-1-abc",
        "refs/tags/v1",
    ];
    let mut all = Vec::new();
    for (number, scope) in scopes.iter().cycle().take(312).enumerate() {
        let layer = format!("{number:064x}");
        let (key, kind) = match number / scopes.len() % 3 {
            0 => (layer, Some(Kind::Layer)),
            1 => (format!("nix-x86_64-linux-{number}#g1"), Some(Kind::Snapshot)),
            // The name of one of ours, stored by another tool; and a name that we would not give.
            _ if number.is_multiple_of(2) => (layer, None),
            _ => (format!("node-modules-{number}"), Some(Kind::Layer)),
        };
        all.push(entry(number + 1, &key, scope, kind, number % 5 == 0));
    }
    all
}

/// The ids that have to go: ours of the closed pull request, the queue and the deleted branch.
fn dead() -> BTreeSet<u64> {
    let dead = ["refs/pull/1/merge", "refs/heads/feature", "refs/heads/gh-readonly-queue/main/pr-1-abc"];
    let is_ours = |number: usize| number / 8 % 3 < 2;
    let entries = entries();
    let of = entries.iter().enumerate().filter(|(number, _)| is_ours(*number));
    of.filter(|(_, entry)| dead.contains(&entry["ref"].as_str().unwrap()))
        .map(|(number, _)| number as u64 + 1)
        .collect()
}

#[test]
fn a_dry_run_reads_every_page_and_deletes_nothing() {
    let server = Server::start(entries());
    let report = server.prune(&[]).json();
    assert_eq!((report["total-entries"].as_u64(), report["applied"].as_bool()), (Some(312), Some(false)));
    assert_eq!((server.with(|of| of.lists), server.with(|of| of.deleted.len())), (4, 0));
    let planned = report["planned"].as_array().unwrap();
    let reasons: BTreeSet<&str> = planned.iter().map(|entry| entry["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["closed-pull-request", "deleted-ref", "merge-queue"].into());
    assert_eq!(planned.len(), dead().len());
    // Outside an action, no snapshot can be read: all that live ones may name stays.
    let unread = report["unread"].as_array().unwrap();
    assert!(
        unread.iter().all(|entry| entry["why"].as_str().unwrap().contains("cannot be read")
            || entry["why"].as_str().unwrap().contains("not read them")),
        "{unread:?}"
    );
    assert!(!unread.is_empty());
}

#[test]
fn limits_are_waited_for_and_only_our_own_entries_go() {
    let server = Server::start(entries());
    server.with(|of| of.limits = 1);
    let report = server.prune(&["--apply"]).json();
    assert_eq!(report["ended"], Value::Null);
    let deleted: BTreeSet<u64> = server.with(|of| of.deleted.iter().copied().collect());
    assert_eq!(deleted, dead());
    assert_eq!(report["deleted-entries"].as_u64(), Some(dead().len() as u64));
    assert_eq!(server.prune(&["--apply"]).json()["planned"], json!([]));
}

#[test]
fn a_limit_that_lasts_ends_the_run_with_a_reason() {
    let server = Server::start(entries());
    server.with(|of| of.limits = 99);
    let run = server.prune(&["--apply"]);
    assert_eq!(run.code, Some(1), "{}", run.log);
    assert!(run.log.contains("GitHub limits requests") && run.log.contains("next run"), "{}", run.log);
}

#[test]
fn a_missing_permission_is_named() {
    let server = Server::start(entries());
    server.with(|of| of.may_delete = false);
    let run = server.prune(&["--apply"]);
    assert_eq!(run.code, Some(1), "{}", run.log);
    assert!(run.log.contains("`actions: write`") && run.log.contains("octo/nix"), "{}", run.log);
    server.with(|of| of.may_read = false);
    let run = server.prune(&[]);
    assert!(run.code == Some(1) && run.log.contains("`actions: read`"), "{}", run.log);
}

#[test]
fn after_an_outage_in_the_middle_the_next_run_deletes_the_rest() {
    let server = Server::start(entries());
    server.with(|of| of.deletions = Some(30));
    let run = server.prune(&["--apply"]);
    assert!(run.code == Some(0) && run.log.contains("503"), "{}", run.log);
    // Snapshots go first.
    let all = entries();
    let is_layer = |id: &u64| all[*id as usize - 1]["version"] == version(Kind::Layer);
    let order: Vec<bool> = server.with(|of| of.deleted.iter().map(is_layer).collect());
    assert!(order.is_sorted() && order.len() == 30);
    server.with(|of| of.deletions = None);
    assert_eq!(server.prune(&["--apply"]).code, Some(0));
    assert_eq!(server.with(|of| of.deleted.iter().copied().collect::<BTreeSet<_>>()), dead());
}

#[test]
fn wrong_arguments_are_explained() {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nix-cache"));
        command.arg("prune").args(arguments).env_clear();
        let run = Run::of(command);
        assert_eq!(run.code, Some(2), "{}", run.log);
        run.log
    };
    assert!(run(&["--remote", "github"]).contains("actions: write"));
    assert!(run(&["--remote", "dir:/does/not/exist"]).contains("does not exist"));
    assert!(run(&["--remote", "ftp://x"]).contains("dir:PATH"));
    assert!(run(&["--remote", "s3://"]).contains("the bucket is missing"));
    assert!(run(&["--remote", "github", "--keep-generations", "0"]).contains("from 1 to 1000"));
}
