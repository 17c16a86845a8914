//! A proxy in front of the real server that answers some requests itself.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Response, StatusCode};

use super::super::moto::{plain, put_plainly};
use super::*;
use crate::remote::github::testing::{Seen, answer, serve};

/// What the proxy knows of a request: method, path with query, and the number of earlier requests.
struct Ask<'a> {
    method: &'a str,
    path: &'a str,
    before: usize,
}

/// The real server behind a proxy. `reply` returns an answer of its own, or None to pass the request on.
async fn behind<R>(reply: R) -> Option<(Scene, Seen)>
where
    R: Fn(&Ask<'_>, &mut HeaderMap) -> Option<Response<Body>> + Clone + Send + Sync + 'static,
{
    let scene = scene()?;
    let seen = Seen::default();
    let (real, log) = (scene.server, seen.clone());
    let http = crate::base::http::caller(None).unwrap();
    let handler = move |request: Request| {
        let (reply, log, http) = (reply.clone(), log.clone(), http.clone());
        async move {
            let (mut parts, body) = request.into_parts();
            let path = parts.uri.path_and_query().unwrap().as_str().to_owned();
            let before = log.add(format!("{} {path}", parts.method)) - 1;
            let ask = Ask { method: parts.method.as_str(), path: &path, before };
            // The body is read in any case, as a real server does.
            let Ok(body) = axum::body::to_bytes(body, 64 << 20).await else {
                // Whoever sent it is gone. What came of it must not be passed on: the server would wait for the rest.
                return error(400, "IncompleteBody", "The body is not complete");
            };
            if let Some(own) = reply(&ask, &mut parts.headers) {
                return own;
            }
            parts.headers.remove("host");
            let sent = http.request(parts.method, format!("http://{real}{path}")).headers(parts.headers).body(body);
            let answered = sent.send().await.unwrap();
            let mut response = Response::builder().status(answered.status());
            *response.headers_mut().unwrap() = answered.headers().clone();
            response.headers_mut().unwrap().remove("transfer-encoding");
            response.body(Body::from(answered.bytes().await.unwrap())).unwrap()
        }
    };
    let endpoint = serve(Router::new().fallback(handler)).await;
    Some((Scene { endpoint, ..scene }, seen))
}

fn error(status: u16, code: &str, message: &str) -> Response<Body> {
    answer(
        status,
        &[],
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"),
    )
}

/// Number of uploads that are neither completed nor aborted.
fn uploads(scene: &Scene) -> usize {
    plain(scene.server, "GET", &format!("/{}?uploads", scene.bucket)).matches("<UploadId>").count()
}

/// Waits until there are none. A busy server takes its time.
async fn await_no_uploads(scene: &Scene, seen: &Seen) {
    for _ in 0..600 {
        if uploads(scene) == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the parts of a dropped upload stay: {:?}", paths(seen));
}

/// The part before the query.
fn paths(seen: &Seen) -> Vec<String> {
    seen.all().iter().map(|line| line.split('?').next().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_store_is_asked_again() {
    // Each request is refused the first time that it comes.
    let known = Arc::new(Mutex::new(std::collections::HashSet::new()));
    let reply = move |ask: &Ask<'_>, _: &mut HeaderMap| {
        let what = format!("{} {}", ask.method, ask.path.split("X-Amz-Algorithm").next().unwrap());
        known.lock().unwrap().insert(what).then(|| error(503, "SlowDown", "Please reduce your request rate."))
    };
    let Some((scene, _)) = behind(reply).await else { return };
    let remote = scene.remote();
    let body = noise(6 << 20);
    assert_eq!(remote.put_bytes(Kind::Layer, "l", body.clone()).await.unwrap(), Put::Stored);
    let entry = remote.find(Kind::Layer, &["l".to_owned()]).await.unwrap().unwrap();
    assert_eq!(remote.read(&entry, 5..6_000_000).await.unwrap(), body[5..6_000_000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_stays_busy_is_given_up_and_its_pause_is_kept() {
    let reply = |_: &Ask<'_>, _: &mut HeaderMap| {
        Some(answer(503, &[("retry-after", "0")], "<Error><Code>SlowDown</Code></Error>"))
    };
    let Some((scene, seen)) = behind(reply).await else { return };
    let Err(RemoteError::Failed(text)) = scene.remote().find(Kind::Snapshot, &["k".to_owned()]).await else {
        panic!("a busy store was believed")
    };
    assert!(text.contains("SlowDown") && text.contains("after 6 tries"), "{text}");
    assert_eq!(seen.count(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_address_is_signed_again() {
    let reads = Arc::new(AtomicUsize::new(0));
    let reply = move |ask: &Ask<'_>, _: &mut HeaderMap| {
        let is_read = ask.method == "GET" && ask.path.contains("/layer/");
        let is_old = is_read && reads.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
        is_old.then(|| error(403, "AccessDenied", "Request has expired"))
    };
    let Some((scene, seen)) = behind(reply).await else { return };
    let remote = scene.remote();
    remote.put_bytes(Kind::Layer, "l", noise(1000)).await.unwrap();
    let entry = remote.find(Kind::Layer, &["l".to_owned()]).await.unwrap().unwrap();
    for _ in 0..2 {
        assert_eq!(remote.read(&entry, 0..1000).await.unwrap(), noise(1000));
    }
    assert!(seen.all().iter().all(|line| line.contains("X-Amz-Expires=900")), "addresses are valid for a limited time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_clock_and_wrong_keys_are_named_and_not_retried() {
    for (code, says) in [
        ("RequestTimeTooSkewed", "clock of this machine"),
        ("ExpiredToken", "credentials of this job have expired"),
        ("SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
        ("AccessDenied", "Grant s3:"),
        ("NoSuchBucket", "Create the bucket"),
    ] {
        let status = if code == "NoSuchBucket" { 404 } else { 403 };
        let Some((scene, seen)) = behind(move |_, _| Some(error(status, code, "The server said so"))).await else {
            return;
        };
        let remote = scene.remote();
        let found = remote.find(Kind::Snapshot, &["k".to_owned()]).await.map(|_| ());
        let put = remote.put_bytes(Kind::Snapshot, "k", noise(10)).await.map(|_| ());
        let entry = S3Remote::entry(Kind::Layer, "l", "v1/layer/l".to_owned(), 10);
        let read = remote.read(&entry, 0..10).await.map(|_| ());
        for failed in [found, put, read] {
            let text = failed.unwrap_err().to_string();
            assert!(text.contains(says) && text.contains(&scene.bucket), "{text}");
            assert!(!text.contains("X-Amz") && !text.contains("AKIATEST"), "{text}");
        }
        assert_eq!(seen.count(), 3, "{code}: {:?}", paths(&seen));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_conditions_is_refused_before_anything_is_saved() {
    // One that ignores the condition, and one that does not know it.
    let ignores = |_: &Ask<'_>, headers: &mut HeaderMap| {
        headers.remove("if-none-match");
        None
    };
    let unknown = |_: &Ask<'_>, headers: &mut HeaderMap| {
        headers.contains_key("if-none-match").then(|| error(501, "NotImplemented", "A header is not implemented"))
    };
    let Some((one, seen)) = behind(ignores).await else { return };
    let Some((other, _)) = behind(unknown).await else { return };
    for scene in [&one, &other] {
        let remote = scene.remote();
        for _ in 0..2 {
            let Err(RemoteError::Refused(text)) = remote.put_bytes(Kind::Snapshot, "k#g1", noise(10)).await else {
                panic!("saved without conditions")
            };
            assert!(text.contains("If-None-Match") && text.contains("conditional writes"), "{text}");
        }
        assert!(!plain(scene.server, "GET", &format!("/{}?list-type=2", scene.bucket)).contains("k#g1"));
        assert!(remote.find(Kind::Snapshot, &["k".to_owned()]).await.unwrap().is_none());
    }
    assert_eq!(paths(&seen).iter().filter(|line| line.starts_with("PUT")).count(), 2, "the question is asked once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_of_two_writers_is_tried_again() {
    let reply = |ask: &Ask<'_>, _: &mut HeaderMap| {
        let is_conflict = ask.method == "PUT" && ask.path.contains("k#g1") && ask.before < 3;
        is_conflict.then(|| error(409, "ConditionalRequestConflict", "Conflicting operations"))
    };
    let Some((scene, _)) = behind(reply).await else { return };
    assert_eq!(scene.remote().put_bytes(Kind::Snapshot, "k#g1", noise(10)).await.unwrap(), Put::Stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_whose_first_answer_was_lost_is_stored_and_not_taken() {
    // The proxy passes the first write on and then says that it failed.
    let writes = Arc::new(AtomicUsize::new(0));
    let server = server();
    let reply = move |ask: &Ask<'_>, _: &mut HeaderMap| {
        let is_write = ask.method == "PUT" && ask.path.contains("/snapshot/");
        if !is_write || writes.fetch_add(1, Ordering::Relaxed) > 0 {
            return None;
        }
        let written = put_plainly(server.unwrap(), ask.path.split('?').next().unwrap(), &noise(10));
        assert!(written.starts_with("HTTP/1.1 200"), "{written}");
        Some(error(500, "InternalError", "We lost it"))
    };
    let Some((scene, _)) = behind(reply).await else { return };
    let remote = scene.remote();
    assert_eq!(remote.put_bytes(Kind::Snapshot, "k#g1", noise(10)).await.unwrap(), Put::Stored);
    assert_eq!(remote.put_bytes(Kind::Snapshot, "k#g1", noise(10)).await.unwrap(), Put::Taken, "by an earlier put");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_fails_or_is_dropped_leaves_no_parts() {
    let parts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&parts);
    let fails = move |ask: &Ask<'_>, _: &mut HeaderMap| {
        let is_second = ask.path.contains("partNumber=2");
        counted.fetch_add(usize::from(is_second), Ordering::Relaxed);
        is_second.then(|| error(403, "AccessDenied", "Access Denied"))
    };
    let Some((scene, _)) = behind(fails).await else { return };
    let remote = scene.remote();
    assert!(remote.put_bytes(Kind::Layer, "l", noise(11 << 20)).await.is_err());
    assert_eq!((uploads(&scene), remote.find(Kind::Layer, &["l".to_owned()]).await.unwrap().map(|_| ())), (0, None));

    // One whose second part is never answered, and whose task is dropped.
    let started = Arc::new(AtomicUsize::new(0));
    let flag = Arc::clone(&started);
    let hangs = move |ask: &Ask<'_>, _: &mut HeaderMap| {
        let hangs = ask.path.contains("partNumber=2");
        flag.fetch_add(usize::from(hangs), Ordering::Relaxed);
        hangs.then(|| answer(200, &[], crate::remote::github::testing::stuck(b"")))
    };
    let Some((scene, seen)) = behind(hangs).await else { return };
    // Now and then the server does not answer the request to abort either, so it must be sent again in time.
    let client = scene.client_with(Tuning { lookup_timeout: Duration::from_secs(8), ..small() });
    let remote = Arc::new(S3Remote::new(client, "a/b"));
    let task = tokio::spawn({
        let remote = Arc::clone(&remote);
        async move { remote.put_bytes(Kind::Layer, "l", noise(11 << 20)).await }
    });
    while started.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    task.abort();
    let _ = task.await;
    await_no_uploads(&scene, &seen).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_dropped_while_it_is_being_aborted_leaves_no_parts() {
    let (asked, is_dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, dropped) = (Arc::clone(&asked), Arc::clone(&is_dropped));
    let fails = move |ask: &Ask<'_>, _: &mut HeaderMap| {
        if ask.path.contains("partNumber=2") {
            return Some(error(403, "AccessDenied", "Access Denied"));
        }
        let is_abort = ask.method == "DELETE";
        counted.fetch_add(usize::from(is_abort), Ordering::Relaxed);
        (is_abort && dropped.load(Ordering::Relaxed) == 0).then(|| error(503, "SlowDown", "Reduce your request rate"))
    };
    let Some((scene, seen)) = behind(fails).await else { return };
    let remote = scene.remote();
    let task = tokio::spawn(async move { remote.put_bytes(Kind::Layer, "l", noise(11 << 20)).await });
    while asked.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled(), "it had ended before");
    is_dropped.store(1, Ordering::Relaxed);
    await_no_uploads(&scene, &seen).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_an_upload_may_fail_with_status_200_or_lose_its_answer() {
    // The first try is answered with an error in the body; the second works, but its answer is lost.
    let tries = Arc::new(AtomicUsize::new(0));
    let reply = move |ask: &Ask<'_>, _: &mut HeaderMap| {
        let is_end = ask.method == "POST" && ask.path.contains("uploadId=");
        if !is_end {
            return None;
        }
        match tries.fetch_add(1, Ordering::Relaxed) {
            0 => Some(answer(200, &[], "<Error><Code>InternalError</Code><Message>Again</Message></Error>")),
            2 => Some(error(404, "NoSuchUpload", "The upload does not exist")),
            _ => None,
        }
    };
    let Some((scene, _)) = behind(reply).await else { return };
    let remote = scene.remote();
    assert_eq!(remote.put_bytes(Kind::Layer, "l", noise(200_000)).await.unwrap(), Put::Stored);
    let entry = remote.find(Kind::Layer, &["l".to_owned()]).await.unwrap().unwrap();
    assert_eq!(remote.read(&entry, 0..200_000).await.unwrap(), noise(200_000));
    // Later, an upload that no longer exists, without an object, is a failure.
    assert!(remote.put_bytes(Kind::Layer, "m", noise(200_000)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed_and_the_region_is_named() {
    let reply = |_: &Ask<'_>, _: &mut HeaderMap| {
        let headers = [("location", "http://127.0.0.1:1/"), ("x-amz-bucket-region", "eu-north-1")];
        Some(answer(StatusCode::MOVED_PERMANENTLY.as_u16(), &headers, "<Error><Code>PermanentRedirect</Code></Error>"))
    };
    let Some((scene, _)) = behind(reply).await else { return };
    let text = scene.remote().find(Kind::Snapshot, &["k".to_owned()]).await.unwrap_err().to_string();
    assert!(text.contains("region=eu-north-1"), "{text}");
}

fn page(objects: &str, next: &str) -> Response<Body> {
    answer(
        200,
        &[],
        format!("<ListBucketResult>{objects}<NextContinuationToken>{next}</NextContinuationToken></ListBucketResult>"),
    )
}

fn object(key: &str) -> String {
    format!("<Contents><Key>{key}</Key><Size>1</Size><LastModified>2026-11-26T00:00:00Z</LastModified></Contents>")
}

/// A client of a server that answers every request itself.
async fn of(reply: impl Fn(&str) -> Response<Body> + Clone + Send + Sync + 'static) -> S3Client {
    let handler = move |request: Request| {
        let path = request.uri().path_and_query().unwrap().as_str().to_owned();
        let answer = reply(&path);
        async move { answer }
    };
    let endpoint = serve(Router::new().fallback(handler)).await;
    let variables = variables();
    let address = S3Address::parse(&format!("bucket/ci?endpoint={endpoint}")).unwrap();
    S3Client::new(&address, |name| variables.get(name).cloned(), small()).unwrap()
}

#[tokio::test]
async fn what_was_not_asked_for_is_not_in_a_list() {
    let listed = ["ci/v1/snapshot/o/r/key#g1", "ci/v1/snapshot/o/r/other#g9", "ci/v1/snapshot/x/r/key#g9", "etc"];
    let objects: String = listed.map(object).concat();
    let remote = S3Remote::new(of(move |_| page(&objects, "")).await, "o/r");
    let found = remote.find(Kind::Snapshot, &["nothing".into(), "key".into()]).await.unwrap().unwrap();
    assert_eq!(found.name, "key#g1");
}

#[tokio::test]
async fn a_list_without_end_is_refused_before_it_fills_the_memory() {
    let objects: String = (0..9000).map(|number| object(&format!("ci/v1/snapshot/{number:0800}"))).collect();
    let client = of(move |_| page(&objects, "more")).await;
    let error = client.list("v1/snapshot/").await.unwrap_err().to_string();
    assert!(error.contains("too many objects"), "{error}");
}
