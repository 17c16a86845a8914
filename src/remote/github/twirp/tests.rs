//! Lookups and refusals, against a service on loopback.

use axum::Router;
use axum::body::Body;
use axum::http::Response;
use axum::routing::any;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::remote::github::testing::{Seen, TOKEN, answer, json as ok, quick, remote, serve, service};
use crate::remote::github::{CacheMode, GithubRemote, version};
use crate::remote::{Entry, Kind, Put, Remote, RemoteError};

/// A remote of a service that answers as `reply` says, and what the service saw.
async fn with<R>(reply: R) -> (GithubRemote, Seen)
where
    R: Fn(&str, &Value, usize) -> Response<Body> + Clone + Send + Sync + 'static,
{
    let seen = Seen::default();
    let base = serve(service(seen.clone(), reply)).await;
    (remote(&base, CacheMode::Write, quick()), seen)
}

async fn find(remote: &GithubRemote, prefixes: &[&str]) -> Result<Option<Entry>, RemoteError> {
    let prefixes: Vec<String> = prefixes.iter().map(|prefix| (*prefix).to_owned()).collect();
    remote.find(Kind::Snapshot, &prefixes).await
}

async fn put(remote: &GithubRemote, name: &str) -> Result<Put, RemoteError> {
    remote.put_bytes(Kind::Layer, name, Bytes::from_static(b"bytes")).await
}

fn hit(name: &str) -> Response<Body> {
    ok(&json!({"ok": true, "signed_download_url": "https://blob.test/x?sig=s", "matched_key": name}))
}

fn twirp(status: u16, code: &str, msg: &str) -> Response<Body> {
    answer(status, &[("content-type", "application/json")], json!({"code": code, "msg": msg}).to_string())
}

fn limited(seconds: &str) -> Response<Body> {
    answer(429, &[("retry-after", seconds)], r#"{"code":"resource_exhausted","msg":"rate limit exceeded"}"#)
}

#[tokio::test]
async fn a_lookup_names_the_first_key_twice_and_the_version_of_its_kind() {
    let (remote, seen) = with(|method, request, _| {
        assert_eq!(method, "GetCacheEntryDownloadURL");
        assert_eq!(request["restore_keys"], json!(["a-1", "a-"]));
        assert_eq!(request["version"], version(Kind::Snapshot));
        ok(&json!({"ok": true, "signedDownloadUrl": "https://blob.test/x?sig=s", "matchedKey": "a-1-7"}))
    })
    .await;
    let entry = find(&remote, &["a-1", "a-"]).await.unwrap().unwrap();
    assert_eq!((entry.kind, &*entry.name, entry.size), (Kind::Snapshot, "a-1-7", None));
    assert_eq!(entry.location, "https://blob.test/x?sig=s");
    assert!(!format!("{entry:?}").contains("sig"), "an entry must not print its address");
    assert_eq!(seen.all(), ["GetCacheEntryDownloadURL a-1"]);
}

#[tokio::test]
async fn a_lookup_asks_for_ten_keys_at_most() {
    let (remote, _) = with(|_, request, _| {
        assert_eq!(request["restore_keys"].as_array().unwrap().len() + 1, 10);
        ok(&json!({"ok": false}))
    })
    .await;
    let prefixes: Vec<String> = (0..20).map(|index| format!("k{index}")).collect();
    assert!(remote.find(Kind::Layer, &prefixes).await.unwrap().is_none());
    assert!(remote.find(Kind::Layer, &[]).await.unwrap().is_none());
}

#[tokio::test]
async fn what_was_not_asked_for_is_a_miss() {
    for reply in [hit("b-1"), hit(""), ok(&json!({"ok": false})), ok(&json!({})), twirp(404, "not_found", "none")] {
        let reply = std::sync::Mutex::new(Some(reply));
        let reply = std::sync::Arc::new(reply);
        let (remote, seen) = with(move |_, _, _| reply.lock().unwrap().take().unwrap()).await;
        assert!(find(&remote, &["a-1", "a-"]).await.unwrap().is_none());
        assert_eq!(seen.count(), 1);
    }
}

#[tokio::test]
async fn a_path_in_the_base_address_is_dropped() {
    let seen = Seen::default();
    let base = serve(service(seen.clone(), |_, _, _| hit("a"))).await;
    let remote = remote(&format!("{base}/some/path/?x=1"), CacheMode::Write, quick());
    assert!(find(&remote, &["a"]).await.unwrap().is_some());
}

#[tokio::test]
async fn a_failing_service_is_asked_again() {
    let (remote, seen) = with(|_, _, before| match before {
        0 => twirp(500, "internal", "oops"),
        1 => answer(502, &[], "<html>bad gateway</html>"),
        2 => hit("a"),
        3 => answer(200, &[], "half an answ"),
        _ => ok(&json!({"ok": false})),
    })
    .await;
    assert!(find(&remote, &["a"]).await.unwrap().is_some());
    assert!(find(&remote, &["a"]).await.unwrap().is_none());
    assert_eq!(seen.count(), 5);
}

#[tokio::test]
async fn five_tries_are_enough_and_then_two_until_the_service_recovers() {
    let (remote, seen) = with(|_, _, before| if before == 0 { hit("a") } else { answer(503, &[], "") }).await;
    assert!(find(&remote, &["a"]).await.is_ok());
    for tries in [6, 8] {
        assert!(matches!(find(&remote, &["a"]).await, Err(RemoteError::Failed(_))));
        assert_eq!(seen.count(), tries);
    }
}

#[tokio::test]
async fn what_is_no_cache_service_is_not_asked_again_after_its_tries() {
    for (status, body, requests) in [
        (200, "<html>hello</html>", 5),
        (404, "<html>not found</html>", 5),
        (403, "<html>a proxy</html>", 5),
        (404, r#"{"code":"bad_route","msg":"no handler"}"#, 1),
        (503, "", 5),
    ] {
        let seen = Seen::default();
        let noted = seen.clone();
        let stranger = any(move || async move {
            noted.add("request");
            answer(status, &[], body)
        });
        let remote = remote(&serve(Router::new().fallback(stranger)).await, CacheMode::Write, quick());
        for _ in 0..2 {
            assert!(matches!(find(&remote, &["a"]).await, Err(RemoteError::Refused(_))), "{status} {body}");
            assert!(matches!(put(&remote, "b").await, Err(RemoteError::Refused(_))), "{status} {body}");
        }
        assert_eq!(seen.count(), requests, "{status} {body}");
    }
}

#[tokio::test]
async fn nobody_there_is_a_refusal() {
    let remote = remote("http://127.0.0.1:1/", CacheMode::Write, quick());
    let error = find(&remote, &["a"]).await.unwrap_err();
    assert!(matches!(&error, RemoteError::Refused(text) if text.contains("127.0.0.1")), "{error}");
    assert!(matches!(put(&remote, "b").await, Err(RemoteError::Refused(_))));
}

#[tokio::test]
async fn denied_reads_are_not_asked_for_again_and_writes_go_on() {
    let (remote, seen) = with(|method, _, _| match method {
        "GetCacheEntryDownloadURL" => twirp(403, "permission_denied", "cache read denied: no readable scope"),
        _ => ok(&json!({"ok": false})),
    })
    .await;
    for _ in 0..3 {
        let error = find(&remote, &["a"]).await.unwrap_err();
        assert!(matches!(&error, RemoteError::Refused(text) if text.contains("no readable scope")), "{error}");
    }
    assert_eq!(put(&remote, "b").await.unwrap(), Put::Taken);
    assert_eq!(seen.all(), ["GetCacheEntryDownloadURL a", "CreateCacheEntry b"]);
}

#[tokio::test]
async fn denied_writes_are_not_tried_again_and_reads_go_on() {
    let (remote, seen) = with(|method, _, _| match method {
        "CreateCacheEntry" => ok(&json!({"ok": false, "message": "cache write denied: token has no writable scopes"})),
        _ => hit("a"),
    })
    .await;
    for name in ["b", "c"] {
        let error = put(&remote, name).await.unwrap_err();
        assert!(matches!(&error, RemoteError::Denied(text) if text.contains("no writable scopes")), "{error}");
    }
    assert!(find(&remote, &["a"]).await.unwrap().is_some());
    assert_eq!(seen.all(), ["CreateCacheEntry b", "GetCacheEntryDownloadURL a"]);
    assert_eq!(remote.creations(), 0);
}

#[tokio::test]
async fn a_used_up_quota_stops_writes() {
    let (remote, seen) = with(|_, _, _| twirp(403, "x", "insufficient usage to serve this request")).await;
    assert!(matches!(put(&remote, "a").await, Err(RemoteError::Quota(_))));
    assert!(matches!(put(&remote, "b").await, Err(RemoteError::Quota(_))));
    assert_eq!(seen.count(), 1);
}

#[tokio::test]
async fn a_token_that_expired_stops_everything() {
    let (remote, seen) = with(|_, _, _| twirp(401, "unauthenticated", "token is expired")).await;
    let error = find(&remote, &["a"]).await.unwrap_err();
    assert!(matches!(&error, RemoteError::Refused(text) if text.contains("token expired")), "{error}");
    assert!(matches!(put(&remote, "b").await, Err(RemoteError::Refused(_))));
    assert_eq!(seen.count(), 1);
}

#[tokio::test]
async fn a_refused_request_gives_the_reason_and_is_not_repeated() {
    let (remote, seen) = with(|_, _, _| twirp(400, "invalid_argument", "version must be 64 characters")).await;
    let error = put(&remote, "b").await.unwrap_err();
    assert!(matches!(&error, RemoteError::Failed(text) if text.contains("version must be 64")), "{error}");
    assert_eq!(seen.count(), 1);
}

#[tokio::test]
async fn a_throttled_lookup_waits_a_little_and_then_gives_up_without_holding_up_writes() {
    let (remote, seen) = with(|method, _, _| match method {
        "GetCacheEntryDownloadURL" => limited("18"),
        _ => ok(&json!({"ok": false})),
    })
    .await;
    for _ in 0..2 {
        assert!(matches!(find(&remote, &["a"]).await, Err(RemoteError::Throttled(_))));
    }
    assert_eq!(put(&remote, "b").await.unwrap(), Put::Taken);
    assert_eq!(seen.all(), ["GetCacheEntryDownloadURL a", "CreateCacheEntry b"], "the gate spares the second lookup");
}

#[tokio::test]
async fn a_short_pause_is_kept() {
    let (remote, seen) = with(|_, _, before| if before == 0 { limited("0") } else { hit("a") }).await;
    assert!(find(&remote, &["a"]).await.unwrap().is_some());
    assert_eq!(seen.count(), 2);
}

#[tokio::test]
async fn a_mode_rules_requests_out() {
    let seen = Seen::default();
    let base = serve(service(seen.clone(), |_, _, _| ok(&json!({"ok": false})))).await;
    for (mode, word) in [(CacheMode::WriteOnly, "'write-only'"), (CacheMode::None, "'none'")] {
        let error = find(&remote(&base, mode, quick()), &["a"]).await.unwrap_err();
        assert!(
            matches!(&error, RemoteError::Denied(text) if text.contains(word) && text.contains("cache-mode: write"))
        );
    }
    for (mode, word) in [(CacheMode::Read, "'read'"), (CacheMode::None, "'none'")] {
        let error = put(&remote(&base, mode, quick()), "a").await.unwrap_err();
        assert!(
            matches!(&error, RemoteError::Denied(text) if text.contains(word) && text.contains("cache-mode: write"))
        );
    }
    assert_eq!(seen.count(), 0);
    assert!(find(&remote(&base, CacheMode::Read, quick()), &["a"]).await.is_ok());
    assert!(put(&remote(&base, CacheMode::WriteOnly, quick()), "a").await.is_ok());
}

#[tokio::test]
async fn no_error_repeats_a_secret() {
    let text = format!("token {TOKEN}, Bearer {TOKEN}, https://b.test/?sig=urlsecret&x=1");
    for status in [200, 400, 401, 403, 404, 429, 500] {
        let text = text.clone();
        let (remote, _) = with(move |_, _, before| match (before, status) {
            (0, _) => ok(&json!({"ok": false})),
            (_, 200) => ok(&json!({"ok": false, "message": text})),
            _ => twirp(status, "internal", &text),
        })
        .await;
        assert!(find(&remote, &["a"]).await.is_ok());
        let error = put(&remote, "b").await.unwrap_err();
        for shown in [error.to_string(), format!("{error:?}")] {
            assert!(!shown.contains("tokensecret") && !shown.contains("urlsecret"), "{status}: {shown}");
        }
    }
}

#[tokio::test]
async fn what_an_earlier_step_spoke_with_is_asked_again_after_an_outage() {
    let (remote, seen) = with(|_, _, before| if before < 5 { answer(502, &[], "<html>") } else { hit("a") }).await;
    remote.note_spoken();
    assert!(matches!(find(&remote, &["a"]).await, Err(RemoteError::Failed(_))));
    assert!(find(&remote, &["a"]).await.unwrap().is_some());
    assert_eq!(seen.count(), 6);
}

#[tokio::test]
async fn a_lookup_that_hangs_ends_with_its_budget() {
    let router = Router::new().fallback(any(std::future::pending::<Response<Body>>));
    let short = std::time::Duration::from_millis(40);
    let tuning = crate::remote::github::Tuning { lookup_timeout: short, lookup_budget: 3 * short, ..quick() };
    let remote = remote(&serve(router).await, CacheMode::Write, tuning);
    let error = find(&remote, &["a"]).await.unwrap_err();
    assert!(matches!(&error, RemoteError::Refused(_)), "{error}");
}
