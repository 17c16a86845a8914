//! Substituters on loopback, and a folder that Nix wrote.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use nix_derivation::nixbase32;

use super::*;
use crate::store::NarHash;

/// A path with a hash part of this letter, as the database would tell of it.
pub(super) fn info(letter: &str) -> PathInfo {
    PathInfo {
        nar_hash: NarHash([letter.as_bytes()[0]; 32]),
        nar_size: 1,
        ultimate: true,
        ..PathInfo::sample(format!("{}-{letter}", letter.repeat(32)).parse().unwrap())
    }
}

fn narinfo(info: &PathInfo) -> String {
    let hash = nixbase32::encode(&info.nar_hash.0);
    format!("StorePath: /nix/store/{}\nURL: nar/x.nar.xz\nNarHash: sha256:{hash}\nNarSize: 1\n", info.path)
}

type Answer = Arc<dyn Fn(&str, u32) -> (u16, String) + Send + Sync>;

/// A substituter, and how often it was asked.
struct Server {
    address: String,
    requests: Arc<AtomicU32>,
}

/// Starts a substituter that gives what `answer` says for a hash part and the number of the request, from 1.
async fn serve(answer: impl Fn(&str, u32) -> (u16, String) + Send + Sync + 'static) -> Server {
    let requests = Arc::new(AtomicU32::new(0));
    let state: (Answer, Arc<AtomicU32>) = (Arc::new(answer), Arc::clone(&requests));
    let handler = async |State((answer, requests)): State<(Answer, Arc<AtomicU32>)>, Path(name): Path<String>| {
        let number = requests.fetch_add(1, Ordering::SeqCst) + 1;
        let (status, body) = answer(name.strip_suffix(".narinfo").unwrap(), number);
        (StatusCode::from_u16(status).unwrap(), body)
    };
    let router = Router::new().route("/cache/{name}", get(handler)).with_state(state);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/cache?priority=10", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Server { address, requests }
}

impl Server {
    fn requests(&self) -> u32 {
        self.requests.load(Ordering::SeqCst)
    }
}

/// One that has these paths and no others.
async fn with(infos: &[PathInfo]) -> Server {
    let has: BTreeMap<String, String> =
        infos.iter().map(|info| (info.path.hash_part().to_owned(), narinfo(info))).collect();
    serve(move |hash, _| has.get(hash).map_or((404, String::new()), |text| (200, text.clone()))).await
}

/// A server that takes connections and never answers.
async fn silent() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok(connection) = listener.accept().await {
            open.push(connection);
        }
    });
    address
}

fn names(paths: &BTreeSet<StorePath>) -> Vec<&str> {
    paths.iter().map(StorePath::name).collect()
}

fn one_at_a_time() -> Options {
    Options { parallel: 1, ..Options::default() }
}

#[tokio::test]
async fn a_path_can_be_asked_for_whatever_content_it_has() {
    let all: Vec<PathInfo> = ["a", "b"].map(info).into();
    let rebuilt = PathInfo { nar_hash: NarHash([9; 32]), ..all[0].clone() };
    let server = with(&[rebuilt]).await;
    let upstream = Upstream::new(&["s3://bucket".to_owned(), server.address.clone()], one_at_a_time());
    let paths: Vec<&StorePath> = all.iter().map(|info| &info.path).collect();
    assert_eq!(names(&upstream.present_in_any_form(&paths).await), ["a"]);
    assert!(upstream.present(&[&all[0]]).await.is_empty(), "with the content that is here nobody has it");
}

#[tokio::test]
async fn what_any_substituter_has_is_present() {
    let all: Vec<PathInfo> = ["a", "b", "c"].map(info).into();
    let (first, second) = (with(&all[..1]).await, with(&all[..2]).await);
    let addresses = [first.address.clone(), "s3://bucket".to_owned(), second.address.clone()];
    let upstream = Upstream::new(&addresses, Options::default());
    let infos: Vec<&PathInfo> = all.iter().collect();
    assert_eq!(names(&upstream.present(&infos).await), ["a", "b"]);
    assert_eq!((first.requests(), second.requests()), (3, 2));
    // Answers are remembered, also those of absence.
    assert_eq!(names(&upstream.present(&infos[1..]).await), ["b"]);
    assert_eq!((first.requests(), second.requests()), (3, 2));
    assert_eq!(names(&present(&[], &infos, Options::default()).await), [""; 0]);
}

#[tokio::test]
async fn another_build_or_another_path_is_absent() {
    let (mine, other) = (info("a"), PathInfo { nar_hash: NarHash([7; 32]), ..info("a") });
    let server = with(&[other]).await;
    assert_eq!(names(&present(&[server.address], &[&mine], Options::default()).await), [""; 0]);
    let server = serve(|_, _| (200, narinfo(&info("b")))).await;
    assert_eq!(names(&present(&[server.address], &[&mine], Options::default()).await), [""; 0]);
    let server = serve(|_, _| (200, "<html>sign in".to_owned())).await;
    assert_eq!(names(&present(&[server.address], &[&mine], Options::default()).await), [""; 0]);
}

#[tokio::test]
async fn a_passing_failure_is_tried_again() {
    for status in [503, 429, 500] {
        let server =
            serve(move |_, number| if number == 1 { (status, String::new()) } else { (200, narinfo(&info("a"))) })
                .await;
        let found = present(std::slice::from_ref(&server.address), &[&info("a")], Options::default()).await;
        assert_eq!((names(&found), server.requests()), (vec!["a"], 2), "{status}");
    }
    for status in [404, 403, 401, 410, 400] {
        let server = serve(move |_, _| (status, String::new())).await;
        let found = present(std::slice::from_ref(&server.address), &[&info("a")], Options::default()).await;
        assert_eq!((found.len(), server.requests()), (0, 1), "{status}");
    }
}

#[tokio::test]
async fn who_always_fails_is_left_out() {
    let letters = ["a", "b", "c", "d", "f", "g", "h", "i"];
    let all: Vec<PathInfo> = letters.map(info).into();
    let infos: Vec<&PathInfo> = all.iter().collect();
    let (failing, working) = (serve(|_, _| (503, String::new())).await, with(&all).await);
    let upstream = Upstream::new(&[failing.address.clone(), working.address.clone()], one_at_a_time());
    assert_eq!(names(&upstream.present(&infos).await), letters);
    assert_eq!((failing.requests(), working.requests()), (10, 8), "five paths, each asked for twice");
    // Failures that do not follow each other do not count.
    let server = serve(|_, number| if number % 3 == 0 { (404, String::new()) } else { (503, String::new()) }).await;
    let upstream = Upstream::new(std::slice::from_ref(&server.address), one_at_a_time());
    assert_eq!(upstream.present(&infos).await.len(), 0);
    assert!(server.requests() > 10, "{}", server.requests());
}

#[tokio::test]
async fn what_failed_is_asked_again_at_the_next_call() {
    let server = serve(|_, number| if number <= 2 { (503, String::new()) } else { (200, narinfo(&info("a"))) }).await;
    let upstream = Upstream::new(std::slice::from_ref(&server.address), one_at_a_time());
    assert_eq!(upstream.present(&[&info("a")]).await.len(), 0);
    assert_eq!(upstream.present(&[&info("a")]).await.len(), 1);
}

#[tokio::test]
async fn a_server_that_does_not_answer_ends_with_the_deadline() {
    let all: Vec<PathInfo> = ["a", "b", "c"].map(info).into();
    let infos: Vec<&PathInfo> = all.iter().collect();
    let (working, address) = (with(&all[..1]).await, silent().await);
    let hour = std::time::Duration::from_hours(1);
    let options = Options { deadline: std::time::Duration::from_secs(3), patience: hour, ..Options::default() };
    // What was answered before the deadline counts.
    assert_eq!(names(&present(&[working.address, address.clone()], &infos, options).await), ["a"]);
    let short = std::time::Duration::from_millis(20);
    let options = Options { deadline: hour, patience: short, ..Options::default() };
    assert_eq!(present(&[address], &infos, options).await.len(), 0);
    // Nobody listens there any more.
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(present(&[format!("http://{gone}")], &infos, Options::default()).await.len(), 0);
}

#[tokio::test]
async fn a_folder_that_nix_wrote_is_a_substituter() {
    let folder = tempfile::tempdir().unwrap();
    let (root, cache) = (folder.path().join("root"), folder.path().join("cache"));
    std::fs::write(folder.path().join("hello"), "hello").unwrap();
    let store = format!("local?root={}", root.display());
    let nix = |arguments: &[&str]| {
        let config = "experimental-features = nix-command\nsubstituters =\nbuild-users-group =";
        let output = std::process::Command::new("nix").args(arguments).env("NIX_CONFIG", config).output();
        output.map(|output| {
            assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        })
    };
    let file = folder.path().join("hello");
    let Ok(path) = nix(&["--store", &store, "store", "add-file", file.to_str().unwrap()]) else {
        eprintln!("there is no Nix on this machine");
        return;
    };
    let url = format!("file://{}", cache.display());
    nix(&["--store", &store, "copy", "--no-check-sigs", "--to", &url, &path]).unwrap();
    let path = StorePath::from_full(&path, "/nix/store").unwrap();
    let dirs = crate::store::StoreDirs::new(Some(&root));
    let there = crate::store::read_all(&dirs).unwrap().remove(&path).unwrap();
    assert_eq!(
        present(std::slice::from_ref(&url), &[&there, &info("a")], Options::default()).await,
        BTreeSet::from([path])
    );
    let other = PathInfo { nar_hash: NarHash([1; 32]), ..there };
    assert_eq!(present(&[url], &[&other], Options::default()).await.len(), 0);
}
