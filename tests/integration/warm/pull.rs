//! The lock file of a pull request: GitHub's interface is a server of our own, everything else is real.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Json;
use axum::Router;
use axum::extract::{Path as Parts, Query, State};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Project, states};
use crate::support::machine::TestStore;
use crate::support::nix;
use crate::support::program::Run;

const COMMIT: &str = "c0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ff";

/// The pull requests of the repository `octo/nix`, and the lock file of their commit.
#[derive(Default)]
pub(crate) struct Pulls {
    pub all: Vec<Value>,
    pub files: Vec<Value>,
    pub lock: String,
}

type Shared = State<Arc<Mutex<Pulls>>>;

pub(crate) struct Server {
    pub shared: Arc<Mutex<Pulls>>,
    pub url: String,
    _runtime: tokio::runtime::Runtime,
}

/// A pull request of the bot that only updates.
pub(crate) fn pull(number: u64, author: &str, from: &str) -> Value {
    json!({
        "number": number, "state": "open", "user": { "login": author },
        "head": { "sha": COMMIT, "ref": "update", "repo": { "full_name": from } },
        "base": { "sha": "b", "ref": "main", "repo": { "full_name": "octo/nix", "default_branch": "main" } },
    })
}

pub(crate) fn modified(file: &str) -> Value {
    json!({ "filename": file, "status": "modified", "changes": 2 })
}

impl Server {
    pub(crate) fn start(lock: &str) -> Self {
        let pulls = Pulls {
            all: vec![pull(9, "stranger", "octo/nix"), pull(7, "renovate[bot]", "octo/nix")],
            files: vec![modified("flake.lock")],
            lock: lock.to_owned(),
        };
        let shared = Arc::new(Mutex::new(pulls));
        let all = |State(shared): Shared| async move { Json(Value::from(shared.lock().unwrap().all.clone())) };
        let one = |State(shared): Shared, Parts(number): Parts<u64>| async move {
            let pulls = shared.lock().unwrap();
            let found = pulls.all.iter().find(|pull| pull["number"] == number);
            Json(found.cloned().unwrap_or(json!({ "message": "Not Found" })))
        };
        let files = |State(shared): Shared| async move { Json(Value::from(shared.lock().unwrap().files.clone())) };
        let content = |State(shared): Shared, Query(query): Query<Value>| async move {
            assert_eq!(query["ref"], COMMIT);
            Json(json!({ "encoding": "base64", "content": STANDARD.encode(&shared.lock().unwrap().lock) }))
        };
        let router = Router::new()
            .route("/repos/octo/nix/pulls", get(all))
            .route("/repos/octo/nix/pulls/{number}", get(one))
            .route("/repos/octo/nix/pulls/{number}/files", get(files))
            .route("/repos/octo/nix/contents/flake.lock", get(content))
            .with_state(Arc::clone(&shared));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { shared, url, _runtime: runtime }
    }

    fn with(&self, change: impl FnOnce(&mut Pulls)) {
        change(&mut self.shared.lock().unwrap());
    }
}

/// Locks the repository to changed words, takes the old lock file back, and returns the new one.
pub(crate) fn bump(project: &Project) -> String {
    let lock = project.flake.repository.join("flake.lock");
    let old = fs::read_to_string(&lock).unwrap();
    project.flake.lock("second\n");
    let new = fs::read_to_string(&lock).unwrap();
    fs::write(&lock, old).unwrap();
    project.flake.git(&["reset", "--quiet"]);
    assert_eq!(project.flake.git(&["status", "--porcelain"]), "");
    new
}

fn warm(project: &Project, server: &Server, store: &TestStore, more: &[&str]) -> Run {
    let mut command = project.command(store, more);
    command.env("GITHUB_API_URL", &server.url).env("GITHUB_REPOSITORY", "octo/nix").env("GITHUB_TOKEN", "ghs_secret");
    let run = Run::of(command);
    assert!(!format!("{}{}", run.out, run.log).contains("ghs_secret"));
    run
}

fn entries(cache: &Path) -> usize {
    fs::read_dir(cache.join("snapshot")).map_or(0, Iterator::count)
}

#[test]
fn the_lock_file_of_a_pull_request_is_warm_before_it_is_merged() {
    for (nix, wanted) in nix::all().iter().zip(["7", "newest"]) {
        let project = Project::new(nix);
        let new = bump(&project);
        let server = Server::start(&new);
        let targets = ["--targets", "nixosConfigurations.server default"];
        let store = project.flake.machine.store(wanted);
        let run = warm(&project, &server, &store, &[&["--pull-request", wanted][..], &targets].concat());
        let report = run.json();
        assert_eq!((&report["pull-request"]["number"], &report["skipped"]), (&json!(7), &Value::Null), "{}", run.log);
        assert_eq!(states(&report)["nixosConfigurations.server"].0, "warmed", "{report}");
        assert_eq!(report["touched"], Value::Null);
        // The clone is as it was, and what was built is found by the key of the new lock file.
        assert_eq!(project.flake.git(&["status", "--porcelain"]), "");
        let (_, outcome) = project.restored("before");
        assert_ne!(outcome["hit"], "exact", "{outcome}");
        project.flake.write("flake.lock", &new);
        let (store, outcome) = project.restored("after");
        assert_eq!(outcome["hit"], "exact", "{outcome}");
        let server = "nixosConfigurations.server.config.system.build.toplevel";
        assert!(project.missing(&store, &[server]).is_empty());
    }
}

#[test]
fn what_is_not_trusted_is_neither_evaluated_nor_built() {
    let Some(nix) = nix::all().last() else { return };
    let project = Project::new(nix);
    let new = bump(&project);
    let server = Server::start(&new);
    let store = project.flake.machine.store("untouched");
    let refuses = |wanted: &str, says: &str| {
        let run = warm(&project, &server, &store, &["--pull-request", wanted]);
        let report = run.json();
        let why = report["skipped"].as_str().unwrap_or_else(|| panic!("{says}: {report}")).to_owned();
        assert!(why.contains(says), "{why}");
        assert_eq!((entries(&project.cache), store.valid().len()), (0, 0), "{says}");
    };
    refuses("9", "`trusted-authors`");
    server.with(|pulls| pulls.files.push(modified("flake.nix")));
    refuses("7", "changes flake.nix");
    refuses("newest", "No open pull request");
    server.with(|pulls| pulls.files = vec![json!({ "filename": "flake.lock", "status": "removed" })]);
    refuses("7", "adds or removes");
    server.with(|pulls| pulls.files = vec![modified("sub/flake.lock")]);
    refuses("7", "changes sub/flake.lock");
    server.with(|pulls| {
        pulls.files = vec![modified("flake.lock")];
        pulls.all = vec![pull(7, "renovate[bot]", "fork/nix")];
    });
    refuses("7", "in another repository");
    // The input is taken from somewhere else, or the lock file is none.
    let words = project.flake.machine.path("words").display().to_string();
    let moved = new.replace(&words, "/etc");
    assert_ne!(moved, new);
    server.with(|pulls| {
        pulls.all = vec![pull(7, "renovate[bot]", "octo/nix")];
        pulls.lock = moved;
    });
    refuses("7", "another place than before");
    server.with(|pulls| pulls.lock = "{".to_owned());
    refuses("7", "cannot be used");
    let run = Run::of(project.command(&store, &["--pull-request", "7"]));
    assert!(run.code == Some(2) && run.log.contains("GITHUB_TOKEN"), "{}", run.log);
}
