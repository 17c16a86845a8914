//! Stores entries in a service and a blob storage on loopback.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Query, Request};
use axum::http::Response;
use axum::routing::put;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::remote::github::testing::{Seen, answer, json as ok, quick, remote, serve, service};
use crate::remote::github::{CacheMode, GithubRemote, Tuning};
use crate::remote::{Kind, Put, Remote, RemoteError};

/// A blob storage with one blob, in parts until it is whole.
#[derive(Clone, Default)]
struct Storage {
    blocks: Arc<Mutex<BTreeMap<String, Bytes>>>,
    blob: Arc<Mutex<Option<Vec<u8>>>>,
    seen: Seen,
    /// What to answer to the first requests in place of storing anything.
    trouble: Arc<Mutex<Vec<u16>>>,
}

impl Storage {
    async fn put(self, query: BTreeMap<String, String>, request: Request) -> Response<Body> {
        let headers = request.headers().clone();
        assert_eq!(query["sig"], "a+b/c=", "the signature must arrive as it was given");
        assert!(!headers.contains_key("authorization"), "the token must not reach blob storage");
        self.seen.add(query.get("comp").map_or("blob", |comp| &**comp));
        let trouble = self.trouble.lock().unwrap().pop();
        match trouble {
            // Reads nothing and says nothing, so that the upload stands still.
            Some(0) => std::future::pending().await,
            Some(status) => return answer(status, &[("x-ms-error-code", "SomeTrouble")], ""),
            None => {}
        }
        let length: u64 = headers["content-length"].to_str().unwrap().parse().unwrap();
        let body = to_bytes(request.into_body(), usize::MAX).await.unwrap();
        assert_eq!(body.len() as u64, length);
        match query.get("comp").map(String::as_str) {
            None => {
                assert_eq!(headers["x-ms-blob-type"], "BlockBlob");
                *self.blob.lock().unwrap() = Some(body.to_vec());
            }
            Some("block") => {
                assert_eq!(query["blockid"].len(), 64, "the id of a block is 48 bytes");
                self.blocks.lock().unwrap().insert(query["blockid"].clone(), body);
            }
            Some("blocklist") => {
                let blocks = self.blocks.lock().unwrap();
                let list = String::from_utf8(body.to_vec()).unwrap();
                let ids = list.split("<Latest>").skip(1).map(|rest| rest.split_once('<').unwrap().0);
                *self.blob.lock().unwrap() = Some(ids.flat_map(|id| blocks[id].to_vec()).collect());
            }
            Some(other) => panic!("unknown comp={other}"),
        }
        answer(201, &[], "")
    }
}

/// A remote whose storage is `storage` and whose service answers commits as `finalize` says.
async fn with<F>(storage: &Storage, tuning: Tuning, finalize: F) -> (GithubRemote, Seen)
where
    F: Fn(&Value) -> Response<Body> + Clone + Send + Sync + 'static,
{
    let store = storage.clone();
    let blobs =
        put(move |Query(query): Query<BTreeMap<String, String>>, request: Request| store.clone().put(query, request));
    let blob_base = serve(Router::new().route("/blob", blobs)).await;
    let seen = Seen::default();
    let router = service(seen.clone(), move |method, request, _| match method {
        "CreateCacheEntry" => {
            ok(&json!({"ok": true, "signed_upload_url": format!("{blob_base}/blob?se=2099&sig=a%2Bb%2Fc%3D")}))
        }
        _ => finalize(request),
    });
    (remote(&serve(router).await, CacheMode::Write, tuning), seen)
}

fn stored(_: &Value) -> Response<Body> {
    ok(&json!({"ok": true, "entry_id": "7"}))
}

fn unknown(_: &Value) -> Response<Body> {
    answer(404, &[], r#"{"code":"not_found","msg":"no such upload"}"#)
}

async fn put_bytes(remote: &GithubRemote, body: &[u8]) -> Result<Put, RemoteError> {
    remote.put_bytes(Kind::Layer, "name", Bytes::copy_from_slice(body)).await
}

fn failed(result: Result<Put, RemoteError>) -> String {
    match result {
        Err(RemoteError::Failed(text)) => text,
        other => panic!("expected Failed, got {other:?}"),
    }
}

/// Blocks of 1,000 bytes, three at a time.
fn small_blocks() -> Tuning {
    Tuning { single_put: 1000, block: 1000, parallel_blocks: 3, piece: 300, ..quick() }
}

#[tokio::test]
async fn a_small_entry_is_one_request() {
    let storage = Storage::default();
    let (remote, seen) = with(&storage, quick(), |request| {
        assert_eq!(request["size_bytes"], "5");
        stored(request)
    })
    .await;
    assert_eq!(put_bytes(&remote, b"hello").await.unwrap(), Put::Stored);
    assert_eq!(storage.blob.lock().unwrap().as_deref(), Some(&b"hello"[..]));
    assert_eq!(storage.seen.all(), ["blob"]);
    assert_eq!(seen.all(), ["CreateCacheEntry name", "FinalizeCacheEntryUpload name"]);
    assert_eq!(remote.creations(), 1);
}

#[tokio::test]
async fn a_large_file_goes_up_in_blocks_and_comes_together_in_order() {
    let body: Vec<u8> = (0..10_500_u32).map(|index| (index * 31 % 253) as u8).collect();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&body).unwrap();
    let storage = Storage::default();
    *storage.trouble.lock().unwrap() = vec![429, 503, 500];
    let (remote, _) = with(&storage, small_blocks(), stored).await;
    assert_eq!(remote.put_file(Kind::Layer, "name", file.path()).await.unwrap(), Put::Stored);
    assert!(storage.blob.lock().unwrap().as_deref() == Some(&body[..]), "the blob differs from the file");
    let seen = storage.seen.all();
    assert_eq!(seen.iter().filter(|what| *what == "block").count(), 11 + 3);
    assert_eq!(seen.last().unwrap(), "blocklist");
}

#[tokio::test]
async fn an_upload_that_stands_still_is_tried_again() {
    let storage = Storage::default();
    *storage.trouble.lock().unwrap() = vec![0];
    let (remote, _) = with(&storage, Tuning { upload_stall: Duration::from_millis(50), ..quick() }, stored).await;
    assert_eq!(put_bytes(&remote, b"hello").await.unwrap(), Put::Stored);
    assert_eq!(storage.seen.count(), 2);
}

#[tokio::test]
async fn a_storage_that_keeps_failing_is_given_up_after_six_tries() {
    let storage = Storage::default();
    *storage.trouble.lock().unwrap() = vec![503; 20];
    let (remote, seen) = with(&storage, quick(), stored).await;
    let error = failed(put_bytes(&remote, b"hello").await);
    assert!(error.contains("SomeTrouble") && error.contains("name is used up"), "{error}");
    assert_eq!(storage.seen.count(), 6);
    assert_eq!(seen.all(), ["CreateCacheEntry name"], "what was not uploaded is not committed");
}

#[tokio::test]
async fn a_refused_address_burns_the_name_at_once() {
    let storage = Storage::default();
    *storage.trouble.lock().unwrap() = vec![403; 20];
    let (remote, seen) = with(&storage, small_blocks(), stored).await;
    let error = failed(put_bytes(&remote, &[7; 1500]).await);
    assert!(error.contains("403") && error.contains("is not valid"), "{error}");
    assert!(!error.contains("sig=a"), "{error}");
    assert!(!storage.seen.all().contains(&"blocklist".to_owned()));
    assert_eq!(seen.all(), ["CreateCacheEntry name"]);
}

#[tokio::test]
async fn a_commit_waits_until_the_service_sees_the_bytes() {
    let left = Arc::new(Mutex::new(5));
    let (remote, seen) = with(&Storage::default(), quick(), move |request| {
        let mut left = left.lock().unwrap();
        if *left == 0 {
            return stored(request);
        }
        *left -= 1;
        unknown(request)
    })
    .await;
    assert_eq!(put_bytes(&remote, b"hello").await.unwrap(), Put::Stored);
    assert_eq!(seen.count(), 1 + 6);
}

#[tokio::test]
async fn a_commit_that_never_finds_its_bytes_fails() {
    let (remote, seen) = with(&Storage::default(), quick(), unknown).await;
    let error = failed(put_bytes(&remote, b"hello").await);
    assert!(error.contains("does not find the 5 bytes"), "{error}");
    assert_eq!(seen.count(), 1 + 6 + 2, "two lookups make sure that it was not committed");
}

#[tokio::test]
async fn a_commit_whose_answer_got_lost_may_be_done() {
    let answers = Arc::new(Mutex::new(vec![409, 502]));
    for _ in 0..2 {
        let left = Arc::clone(&answers);
        let (remote, _) = with(&Storage::default(), quick(), move |request| match left.lock().unwrap().pop() {
            None => unknown(request),
            Some(status) => answer(status, &[], ""),
        })
        .await;
        assert_eq!(put_bytes(&remote, b"hello").await.unwrap(), Put::Taken);
        // The second round starts with the lost answer alone: the service knows nothing of the upload afterwards.
        *answers.lock().unwrap() = vec![502];
    }
}

#[tokio::test]
async fn a_refused_commit_gives_the_reason() {
    let (remote, _) = with(&Storage::default(), quick(), |_| ok(&json!({"ok": false, "message": "not today"}))).await;
    let error = failed(put_bytes(&remote, b"hello").await);
    assert!(error.contains("does not commit name: not today"), "{error}");
}

#[tokio::test]
async fn a_name_that_is_taken_is_said_to_be() {
    for lost in [false, true] {
        for reply in [409, 200] {
            let seen = Seen::default();
            let router = service(seen.clone(), move |_, _, before| match (lost && before == 0, reply) {
                (true, _) => answer(502, &[], "the answer got lost"),
                (false, 409) => answer(409, &[], r#"{"code":"already_exists","msg":"same key"}"#),
                (false, _) => ok(&json!({"ok": false})),
            });
            let remote = remote(&serve(router).await, CacheMode::Write, quick());
            assert_eq!(put_bytes(&remote, b"hello").await.unwrap(), Put::Taken);
            assert_eq!(seen.count(), if lost { 2 } else { 1 });
            assert_eq!(remote.creations(), 0);
        }
    }
}

#[tokio::test]
async fn what_cannot_be_stored_reserves_nothing() {
    let (remote, seen) = with(&Storage::default(), quick(), stored).await;
    assert!(failed(put_bytes(&remote, b"").await).contains("is empty"));
    let missing = remote.put_file(Kind::Layer, "name", "/does/not/exist".as_ref()).await;
    assert!(failed(missing).contains("/does/not/exist"));
    assert_eq!(seen.count(), 0);
}

#[tokio::test]
async fn reservations_are_paced_after_a_burst() {
    let tuning = Tuning { creation_burst: 2, creation_interval: Duration::from_hours(1), ..quick() };
    let (remote, seen) = with(&Storage::default(), tuning, stored).await;
    for _ in 0..2 {
        assert_eq!(put_bytes(&remote, b"hello").await.unwrap(), Put::Stored);
    }
    let third = tokio::time::timeout(Duration::from_millis(100), put_bytes(&remote, b"hello")).await;
    assert!(third.is_err(), "the third has to wait for an hour");
    assert_eq!(seen.count(), 4);
    assert_eq!(remote.creations(), 2);
}
