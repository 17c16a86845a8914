//! Reads entries from a service and a blob storage on loopback that cut, stall, expire and ignore ranges.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::extract::Query;
use axum::http::{HeaderMap, Response};
use axum::routing::get;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::stream::TryStreamExt;
use serde::Deserialize;
use serde_json::json;

use crate::remote::github::testing::{Seen, answer, cut, json as ok, quick, remote, serve, service, stuck};
use crate::remote::github::{CacheMode, GithubRemote, Tuning};
use crate::remote::{Entry, Kind, Remote, RemoteError};

/// A request to the storage: the part that was asked for, which address it came to, and how many came before.
struct Ask {
    range: Option<Range<usize>>,
    address: usize,
    before: usize,
}

#[derive(Deserialize)]
struct Signature {
    n: usize,
    sig: String,
}

/// The parts of a test: a remote, its one entry, and what storage and service saw.
struct Scene {
    remote: GithubRemote,
    entry: Entry,
    blob: Seen,
    service: Seen,
}

/// An entry whose storage answers as `reply` says. Its addresses are numbered and end `life` seconds from now; the
/// service knows it for the first `lookups` lookups.
async fn scene<R>(life: i64, lookups: usize, reply: R) -> Scene
where
    R: Fn(&Ask) -> Response<Body> + Clone + Send + Sync + 'static,
{
    tuned(life, lookups, quick(), reply).await
}

/// An entry that is given up when it brings fewer than 1,000 bytes in 60 ms.
async fn slow_scene<R>(reply: R) -> Scene
where
    R: Fn(&Ask) -> Response<Body> + Clone + Send + Sync + 'static,
{
    let tuning = Tuning { slow_window: Duration::from_millis(60), slow_bytes: 1000, progress: 1 << 30, ..quick() };
    tuned(600, 99, tuning, reply).await
}

async fn tuned<R>(life: i64, lookups: usize, tuning: Tuning, reply: R) -> Scene
where
    R: Fn(&Ask) -> Response<Body> + Clone + Send + Sync + 'static,
{
    let (blob, seen) = (Seen::default(), Seen::default());
    let noted = blob.clone();
    let handler = move |Query(signature): Query<Signature>, headers: HeaderMap| async move {
        assert_eq!(signature.sig, "secret");
        assert!(!headers.contains_key("authorization"), "the token must not reach blob storage");
        let text = headers.get("range").map_or("all", |range| range.to_str().unwrap());
        let range = text.strip_prefix("bytes=").map(|range| {
            let (start, last) = range.split_once('-').unwrap();
            start.parse().unwrap()..last.parse().map_or(body().len(), |last: usize| last + 1)
        });
        let before = noted.add(format!("{} {text}", signature.n)) - 1;
        reply(&Ask { range, address: signature.n, before })
    };
    let base = serve(Router::new().route("/blob", get(handler))).await;
    let router = service(seen.clone(), move |_, _, before| {
        let end = DateTime::<Utc>::from(SystemTime::now()) + chrono::TimeDelta::seconds(life);
        let end = end.format("%Y-%m-%dT%H%%3A%M%%3A%SZ");
        let url = format!("{base}/blob?n={before}&se={end}&sig=secret");
        ok(&json!({"ok": before < lookups, "signed_download_url": url, "matched_key": "layer-1"}))
    });
    let remote = remote(&serve(router).await, CacheMode::Read, tuning);
    let entry = remote.find(Kind::Layer, &["layer-".to_owned()]).await.unwrap().unwrap();
    Scene { remote, entry, blob, service: seen }
}

impl Scene {
    async fn read(&self, range: Range<u64>) -> Result<Bytes, RemoteError> {
        self.remote.read(&self.entry, range).await
    }

    async fn stream(&self) -> Result<Vec<u8>, RemoteError> {
        let pieces: Vec<Bytes> = self.remote.stream(&self.entry).await?.try_collect().await?;
        Ok(pieces.concat())
    }
}

/// 50,000 bytes.
fn body() -> Vec<u8> {
    (0..50_000_u32).map(|index| (index * 31 % 251) as u8).collect()
}

fn part(range: Range<u64>) -> Vec<u8> {
    body()[range.start as usize..range.end as usize].to_vec()
}

/// As a storage that can do ranges answers, with `sent` of the bytes made into the body.
fn honest(ask: &Ask, sent: impl Fn(&[u8]) -> Body) -> Response<Body> {
    let all = body();
    let Some(range) = &ask.range else {
        return answer(200, &[("content-length", &all.len().to_string())], sent(&all));
    };
    if range.start >= all.len() {
        return answer(416, &[("x-ms-error-code", "InvalidRange")], "");
    }
    let range = range.start..range.end.min(all.len());
    let covers = format!("bytes {}-{}/{}", range.start, range.end - 1, all.len());
    answer(206, &[("content-range", &covers), ("content-length", &range.len().to_string())], sent(&all[range]))
}

fn whole(ask: &Ask) -> Response<Body> {
    honest(ask, |bytes| Body::from(bytes.to_vec()))
}

#[tokio::test]
async fn a_range_is_read_exactly() {
    let scene = scene(600, 1, whole).await;
    for range in [0..1, 7..4321, 49_999..50_000, 0..50_000, 5..5] {
        assert!(scene.read(range.clone()).await.unwrap() == part(range.clone()), "{range:?}");
    }
    assert_eq!(scene.blob.all()[1], "0 bytes=7-4320");
    assert_eq!(scene.blob.count(), 4, "an empty range needs no request");
    assert!(scene.remote.ranges_work());
}

#[tokio::test]
async fn a_cut_range_goes_on_where_it_was_cut() {
    let scene = scene(600, 1, |ask| match ask.before {
        // More cuts than there are tries: every one of them brought bytes.
        0..8 => honest(ask, |bytes| cut(&bytes[..1000])),
        _ => whole(ask),
    })
    .await;
    assert!(scene.read(100..20_000).await.unwrap() == part(100..20_000));
    let seen = scene.blob.all();
    assert_eq!((&*seen[0], &*seen[1], &*seen[8]), ("0 bytes=100-19999", "0 bytes=1100-19999", "0 bytes=8100-19999"));
    assert_eq!(seen.len(), 9);
}

#[tokio::test]
async fn a_range_that_stands_still_goes_on() {
    let scene =
        scene(600, 1, |ask| if ask.before == 0 { honest(ask, |bytes| stuck(&bytes[..10])) } else { whole(ask) });
    let scene = scene.await;
    assert!(scene.read(0..100).await.unwrap() == part(0..100));
    assert_eq!(scene.blob.all(), ["0 bytes=0-99", "0 bytes=10-99"]);
}

#[tokio::test]
async fn a_failing_storage_gets_six_tries() {
    let scene = scene(600, 1, |ask| if ask.before < 5 { answer(503, &[], "") } else { whole(ask) }).await;
    assert!(scene.read(0..100).await.unwrap() == part(0..100));
    let down = self::scene(600, 1, |_| answer(500, &[], "")).await;
    let error = down.read(0..100).await.unwrap_err();
    assert!(matches!(&error, RemoteError::Failed(text) if text.contains("6 tries")), "{error}");
    assert_eq!(down.blob.count(), 6);
}

#[tokio::test]
async fn a_range_of_other_bytes_is_not_taken() {
    let wrong = |_: &Ask| answer(206, &[("content-range", "bytes 0-99/50000")], Body::from(part(0..100)));
    let error = scene(600, 1, wrong).await.read(100..200).await.unwrap_err();
    assert!(matches!(&error, RemoteError::Failed(text) if text.contains("bytes 0-99/50000")), "{error}");
    let silent = |_: &Ask| answer(206, &[], Body::from(part(100..200)));
    assert!(matches!(scene(600, 1, silent).await.read(100..200).await, Err(RemoteError::Failed(_))));
}

#[tokio::test]
async fn an_entry_that_vanished_or_is_too_short_is_gone() {
    let scene = scene(600, 9, whole).await;
    for range in [50_000..50_001, 49_990..50_001, 60_000..60_001] {
        let error = scene.read(range.clone()).await.unwrap_err();
        assert!(matches!(error, RemoteError::Short(_)), "{range:?}: {error}");
    }
    let missing = self::scene(600, 1, |_| answer(404, &[("x-ms-error-code", "BlobNotFound")], "")).await;
    assert!(matches!(missing.read(0..1).await, Err(RemoteError::Gone(text)) if text.contains("is no longer in")));
    assert!(matches!(missing.stream().await, Err(RemoteError::Gone(_))));
    assert_eq!(missing.blob.count(), 2, "nothing is gained by asking again");
}

#[tokio::test]
async fn one_answer_that_there_is_no_blob_is_not_believed() {
    for status in [404, 410, 416] {
        let scene = scene(600, 9, move |ask| if ask.before == 0 { answer(status, &[], "") } else { whole(ask) }).await;
        assert!(scene.read(7..4321).await.unwrap() == part(7..4321));
        assert_eq!((scene.blob.count(), scene.service.count()), (2, 2), "a new lookup, a new address, a new read");
    }
    // A lookup still finds the entry: that its blob cannot be read does not prove that it was evicted.
    let scene = scene(600, 9, |_| answer(404, &[("x-ms-error-code", "BlobNotFound")], "")).await;
    let error = scene.read(0..1).await.unwrap_err();
    assert!(matches!(&error, RemoteError::Failed(text) if text.contains("BlobNotFound")), "{error}");
}

#[tokio::test]
async fn a_page_of_a_proxy_is_not_the_blob() {
    let page = |length: &str| {
        answer(200, &[("content-type", "text/html; charset=utf-8"), ("content-length", length)], "<html></html>")
    };
    let scene = scene(600, 9, move |ask| if ask.before < 2 { page("13") } else { whole(ask) }).await;
    assert!(scene.read(7..4321).await.unwrap() == part(7..4321));
    assert!(scene.stream().await.unwrap() == body());
    assert!(scene.remote.ranges_work(), "a page says nothing about ranges");
    let scene = self::scene(600, 9, move |_| page("13")).await;
    assert!(matches!(scene.stream().await, Err(RemoteError::Failed(_))));
}

/// A body that brings one byte at a time, for ever.
fn trickle() -> Body {
    Body::from_stream(futures_util::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Some((Ok::<_, std::io::Error>(Bytes::from_static(b"x")), ()))
    }))
}

#[tokio::test]
async fn a_blob_that_trickles_is_given_up() {
    let reply = |ask: &Ask| {
        let mut response = honest(ask, |_| trickle());
        response.headers_mut().remove("content-length");
        response
    };
    let scene = slow_scene(reply).await;
    let error = scene.read(0..50_000).await.unwrap_err();
    assert!(matches!(&error, RemoteError::Failed(text) if text.contains("too slow")), "{error}");
    assert_eq!(scene.blob.count(), 2, "once more on a new address");
    assert!(matches!(scene.stream().await, Err(RemoteError::Failed(_))));
}

#[tokio::test]
async fn a_blob_that_was_slow_once_is_read() {
    let reply = |ask: &Ask| match ask.before {
        0 => {
            let mut response = honest(ask, |_| trickle());
            response.headers_mut().remove("content-length");
            response
        }
        _ => whole(ask),
    };
    let scene = slow_scene(reply).await;
    assert_eq!(scene.read(0..50_000).await.unwrap().len(), 50_000);
}

#[tokio::test]
async fn an_expired_address_is_replaced_once_for_all_reads() {
    let scene = scene(600, 2, |ask| if ask.address == 0 { answer(403, &[], "") } else { whole(ask) }).await;
    let scene = Arc::new(scene);
    let reads = (0..8_u64).map(|index| {
        let scene = Arc::clone(&scene);
        tokio::spawn(async move { (index, scene.read(index * 1000..index * 1000 + 1000).await.unwrap()) })
    });
    for read in reads.collect::<Vec<_>>() {
        let (index, bytes) = read.await.unwrap();
        assert!(bytes == part(index * 1000..index * 1000 + 1000));
    }
    assert_eq!(scene.service.count(), 2, "one lookup at first, one for the new address");
}

#[tokio::test]
async fn an_address_may_expire_more_than_once_in_a_long_read() {
    // Every address brings one piece and is refused from then on.
    let scene = scene(600, 9, |ask| match ask.before % 2 {
        0 => honest(ask, |bytes| cut(&bytes[..bytes.len().min(1000)])),
        _ => answer(401, &[], ""),
    })
    .await;
    assert!(scene.read(0..3000).await.unwrap() == part(0..3000));
    assert_eq!(scene.service.count(), 3);
}

#[tokio::test]
async fn a_new_address_that_is_refused_too_ends_the_read() {
    let scene = scene(600, 9, |_| answer(403, &[("x-ms-error-code", "AuthenticationFailed")], "")).await;
    let error = scene.read(0..10).await.unwrap_err();
    assert!(matches!(&error, RemoteError::Failed(text) if text.contains("AuthenticationFailed")), "{error}");
    assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    assert_eq!((scene.service.count(), scene.blob.count()), (2, 2));
}

#[tokio::test]
async fn an_entry_that_was_evicted_meanwhile_is_gone() {
    let scene = scene(600, 1, |_| answer(403, &[], "")).await;
    let error = scene.read(0..10).await.unwrap_err();
    assert!(matches!(&error, RemoteError::Gone(text) if text.contains("layer-1")), "{error}");
}

#[tokio::test]
async fn nothing_starts_on_an_address_that_is_about_to_end() {
    let scene = scene(20, 9, whole).await;
    for _ in 0..3 {
        assert!(scene.read(0..10).await.unwrap() == part(0..10));
    }
    // The first address was not used. The second ends as soon, so the clocks differ, and it is used until it is
    // refused.
    assert_eq!(scene.blob.all(), ["1 bytes=0-9"; 3]);
    assert_eq!(scene.service.count(), 2);
}

#[tokio::test]
async fn a_storage_that_ignores_ranges_is_found_out_and_read_anyway() {
    let ignoring = |ask: &Ask| match ask.before {
        // Cut in the middle of what is wanted: the whole of it comes again, and its start is skipped again.
        1 => answer(200, &[], cut(&body()[..1500])),
        _ => answer(200, &[], Body::from(body())),
    };
    let scene = scene(600, 1, ignoring).await;
    assert!(scene.read(100..200).await.unwrap() == part(100..200));
    assert!(!scene.remote.ranges_work());
    assert!(scene.read(1000..2000).await.unwrap() == part(1000..2000));
    assert_eq!(scene.blob.all(), ["0 bytes=100-199", "0 all", "0 all"], "ranges are not asked for any more");
    assert!(scene.stream().await.unwrap() == body());
}

#[tokio::test]
async fn a_range_of_everything_says_nothing_about_ranges() {
    let all = |_: &Ask| answer(200, &[("content-length", "50000")], Body::from(body()));
    let scene = scene(600, 1, all).await;
    assert!(scene.read(0..50_000).await.unwrap() == body());
    assert!(scene.remote.ranges_work());
    assert!(matches!(scene.read(0..50_001).await, Err(RemoteError::Gone(_))), "the only lookup is used up");
}

#[tokio::test]
async fn a_stream_is_one_request() {
    let scene = scene(600, 1, whole).await;
    assert!(scene.stream().await.unwrap() == body());
    assert_eq!(scene.blob.all(), ["0 all"]);
}

#[tokio::test]
async fn a_cut_stream_goes_on_with_a_range() {
    let scene = scene(600, 2, |ask| match ask.before {
        0 => honest(ask, |bytes| cut(&bytes[..1000])),
        1 => honest(ask, |bytes| stuck(&bytes[..1000])),
        2 => answer(403, &[], ""),
        _ => whole(ask),
    })
    .await;
    assert!(scene.stream().await.unwrap() == body());
    assert_eq!(scene.blob.all(), ["0 all", "0 bytes=1000-", "0 bytes=2000-", "1 bytes=2000-"]);
}

#[tokio::test]
async fn a_cut_stream_without_ranges_starts_over_and_skips() {
    let scene = scene(600, 1, |ask| match ask.before {
        0 => answer(200, &[], cut(&body()[..1000])),
        1 => answer(200, &[], cut(&body()[..3000])),
        _ => answer(200, &[], Body::from(body())),
    })
    .await;
    assert!(scene.stream().await.unwrap() == body());
    assert_eq!(scene.blob.all(), ["0 all", "0 bytes=1000-", "0 all"]);
}

#[tokio::test]
async fn a_stream_that_stays_cut_ends_with_an_error() {
    let scene = scene(600, 1, |ask| if ask.before == 0 { honest(ask, |b| cut(&b[..9])) } else { answer(503, &[], "") });
    let scene = scene.await;
    let mut stream = scene.remote.stream(&scene.entry).await.unwrap();
    assert_eq!(stream.try_next().await.unwrap().unwrap(), part(0..9));
    assert!(matches!(stream.try_next().await, Err(RemoteError::Failed(_))));
    assert!(stream.try_next().await.unwrap().is_none(), "nothing comes after an error");
    // One request that was cut, and five after it: the pause after the cut counts as a try.
    assert_eq!(scene.blob.count(), 6);
}

#[tokio::test]
async fn an_entry_of_another_place_is_refused() {
    let scene = scene(600, 1, whole).await;
    let stranger = Entry { kind: Kind::Files, name: "x".into(), size: None, location: "/var/cache/x".into() };
    let error = scene.remote.read(&stranger, 0..1).await.unwrap_err();
    assert!(error.to_string().contains("is not from this cache service"), "{error}");
}

#[tokio::test]
async fn a_connection_that_nobody_answers_is_given_up() {
    // A listener that accepts nothing: connections stay in its queue.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let location = format!("http://{}/blob?sig=secret", silent.local_addr().unwrap());
    let tuning = super::Tuning { stall: Duration::from_millis(20), ..quick() };
    let remote = remote("http://127.0.0.1:1", CacheMode::Read, tuning);
    let entry = Entry { kind: Kind::Layer, name: "layer-1".into(), size: None, location };
    let error = remote.read(&entry, 0..1).await.unwrap_err();
    assert!(matches!(&error, RemoteError::Failed(text) if text.contains("stalled")), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
}
