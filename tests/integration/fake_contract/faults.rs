//! Every fault does what its name says, and nothing else.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use serde_json::json;

use super::client::{Client, VERSION, block_id, noise};
use crate::support::fake::{Fault, FaultName, Operation};

async fn world(fault: Fault) -> Client {
    let client = Client::new();
    client.save("key", &noise(100_000)).await;
    client.fake.fault(fault);
    client
}

/// A request of the operation; none if no whole answer came.
async fn attempt(client: &Client, operation: Operation, up: &str, down: &str) -> Option<(u16, String, String)> {
    let call = |method: &str, body| client.http.post(client.call_url(method)).bearer_auth(&client.token).json(&body);
    let list = format!("<BlockList><Latest>{}</Latest></BlockList>", block_id(0));
    let caches = format!("{}/repos/octo/nix/actions/caches", client.fake.url());
    let rest = client.fake.rest_token(crate::support::fake::RestPermission::Write);
    let request = match operation {
        Operation::Create => call("CreateCacheEntry", json!({ "key": "new", "version": VERSION })),
        Operation::Finalize => {
            call("FinalizeCacheEntryUpload", json!({ "key": "up", "version": VERSION, "size_bytes": 3 }))
        }
        Operation::Lookup => call("GetCacheEntryDownloadURL", json!({ "key": "key", "version": VERSION })),
        Operation::CreateArtifact
        | Operation::FinalizeArtifact
        | Operation::ListArtifacts
        | Operation::SignArtifact => {
            let service = "/twirp/github.actions.results.api.v1.ArtifactService/CreateArtifact";
            client.http.post(format!("{}{service}", client.fake.url())).bearer_auth(&client.token)
        }
        Operation::PutBlob => client.http.put(up).header("x-ms-blob-type", "BlockBlob").body("abc"),
        Operation::PutBlock => client.http.put(format!("{up}&comp=block&blockid={}", block_id(0))).body("abc"),
        Operation::PutBlockList => client.http.put(format!("{up}&comp=blocklist")).body(list),
        Operation::Download => client.http.get(down).header("range", "bytes=0-9"),
        Operation::Head => client.http.head(down),
        Operation::List => client.http.get(&caches).bearer_auth(rest),
        Operation::Delete => client.http.delete(format!("{caches}/1")).bearer_auth(rest),
        Operation::Usage => client.http.get(caches.replace("caches", "cache/usage")).bearer_auth(rest),
        Operation::Artifacts => client.http.get(caches.replace("caches", "artifacts")).bearer_auth(rest),
        Operation::ArtifactZip => client.http.get(caches.replace("caches", "artifacts/1/zip")).bearer_auth(rest),
        Operation::Run => client.http.get(caches.replace("caches", "runs/1")).bearer_auth(rest),
        Operation::Comments => client.http.get(caches.replace("actions/caches", "issues/7/comments")).bearer_auth(rest),
        Operation::Pulls => client.http.get(caches.replace("actions/caches", "pulls")).bearer_auth(rest),
        Operation::Unknown => client.http.get(format!("{}/_apis/artifactcache/cache?keys=key", client.fake.url())),
    };
    let response = request.send().await.ok()?;
    let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()).map(str::to_owned);
    Some((response.status().as_u16(), retry_after.unwrap_or_default(), response.text().await.ok()?))
}

#[tokio::test]
async fn faults_answer_in_the_place_of_the_service() {
    use FaultName::{
        BadRoute, Error, ExpiredUrl, Html, NotFound, NotOk, Quota, ReadDenied, Throttle, Unauthorized, V1Only,
        WriteDenied,
    };
    use Operation::{
        ArtifactZip, Artifacts, Create, Delete, Download, Finalize, Head, List, Lookup, Pulls, PutBlob, PutBlock,
        PutBlockList, Unknown, Usage,
    };
    let fault = Fault::new;
    let rows = [
        (fault(Error).on(Create), Create, 500, "\"internal\""),
        (fault(Error).status(503), Finalize, 503, "\"unavailable\""),
        (fault(Error).status(502), Lookup, 502, "\"unavailable\""),
        (fault(Error).on(PutBlob), PutBlob, 500, "InternalError"),
        (fault(Error).on(PutBlock).status(503), PutBlock, 503, "ServerBusy"),
        (fault(Error).on(PutBlockList).status(503), PutBlockList, 503, "ServerBusy"),
        (fault(Error).on(Download), Download, 500, "InternalError"),
        (fault(Error).on(Head).status(503), Head, 503, ""),
        (fault(Error).on(List).status(502), List, 502, "\"message\""),
        (fault(Error).on(Delete), Delete, 500, "\"message\""),
        (fault(Error).on(Usage).status(403), Usage, 403, "\"message\""),
        (fault(Error).on(Artifacts), Artifacts, 500, "\"message\""),
        (fault(Error).on(ArtifactZip).status(502), ArtifactZip, 502, "\"message\""),
        (fault(Error).on(Operation::Run), Operation::Run, 500, "\"message\""),
        (fault(Error).on(Pulls).status(403), Pulls, 403, "\"message\""),
        (fault(Html), Lookup, 200, "<html>"),
        (fault(Html).status(502), Create, 502, "<html>"),
        (fault(Throttle), Create, 429, "resource_exhausted"),
        (fault(Throttle).on(Download).retry_after(2), Download, 429, "ServerBusy"),
        (fault(Unauthorized), Lookup, 401, "unauthenticated"),
        (fault(ReadDenied), Lookup, 403, "cache read denied: "),
        (fault(WriteDenied), Create, 200, "cache write denied: "),
        (fault(NotOk), Create, 200, r#"{"ok":false}"#),
        (fault(NotOk).on(Finalize), Finalize, 200, r#"{"ok":false}"#),
        (fault(NotOk).on(Lookup), Lookup, 200, r#"{"ok":false}"#),
        (fault(Quota), Create, 403, "insufficient usage"),
        (fault(NotFound), Finalize, 404, "not_found"),
        (fault(BadRoute), Create, 404, "bad_route"),
        (fault(BadRoute), Lookup, 404, "bad_route"),
        (fault(V1Only), Lookup, 404, "404 page not found"),
        (fault(V1Only), Unknown, 204, ""),
        (fault(ExpiredUrl), Download, 403, "AuthenticationFailed"),
        (fault(ExpiredUrl), PutBlock, 403, "AuthenticationFailed"),
    ];
    for (fault, operation, status, text) in rows {
        let client = Client::new();
        client.save("key", &noise(100)).await;
        let (up, down) = (client.create("up").await, client.download_url("key").await);
        let name = fault.name;
        let retry_after = match (name, fault.retry_after) {
            (Throttle, None) => "30".to_owned(),
            (_, seconds) => seconds.map(|seconds| seconds.to_string()).unwrap_or_default(),
        };
        client.fake.fault(fault.times(1));
        let (got, wait, body) = attempt(&client, operation, &up, &down).await.expect("a fault of this kind answers");
        assert_eq!((got, wait), (status, retry_after), "{name:?} {operation:?}: {body}");
        assert!(body.contains(text), "{name:?} {operation:?}: {body}");
        assert_eq!(client.fake.stats().struck(name), 1);
        // It struck once, and did none of the work: what comes next is as if it had not been.
        let (after, _, body) = attempt(&client, operation, &up, &down).await.expect("the fault is over");
        let unstruck = match operation {
            Create | Lookup | Head | List | Usage | Artifacts | Operation::Run | Pulls | Operation::Comments => 200,
            Finalize | Unknown | ArtifactZip => 404,
            PutBlob | PutBlock => 201,
            PutBlockList
            | Operation::CreateArtifact
            | Operation::FinalizeArtifact
            | Operation::ListArtifacts
            | Operation::SignArtifact => 400,
            Download => 206,
            Delete => 204,
        };
        assert_eq!(after, unstruck, "{name:?} {operation:?} afterwards: {body}");
    }
}

#[tokio::test]
async fn a_dropped_request_is_not_carried_out() {
    let client = world(Fault::new(FaultName::Drop).on(Operation::Create).times(1)).await;
    assert_eq!(attempt(&client, Operation::Create, "", "").await, None);
    client.create("new").await;
}

#[tokio::test]
async fn a_lost_reply_is_carried_out() {
    let client = world(Fault::new(FaultName::LostReply).on(Operation::Create).times(1)).await;
    assert_eq!(attempt(&client, Operation::Create, "", "").await, None);
    let again = client.call("CreateCacheEntry", &json!({ "key": "new", "version": VERSION })).await;
    assert_eq!(again.status, 409);
    assert_eq!(client.fake.stats().struck(FaultName::LostReply), 1);
}

#[tokio::test]
async fn a_request_can_hang() {
    let client = world(Fault::new(FaultName::Hang).on(Operation::Lookup).times(1)).await;
    let first = client.http.post(client.call_url("GetCacheEntryDownloadURL")).bearer_auth(&client.token);
    let first = tokio::spawn(first.json(&json!({ "key": "key", "version": VERSION })).send());
    while client.fake.stats().struck(FaultName::Hang) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(client.found("key", &[]).await.as_deref(), Some("key"));
    assert!(!first.is_finished(), "later requests are answered, this one is not");
    first.abort();
}

#[tokio::test]
async fn an_entry_can_vanish_after_its_lookup() {
    let client = world(Fault::new(FaultName::Vanish).times(1)).await;
    let url = client.download_url("key").await;
    assert_eq!(client.get(&url, None).await.status, 404);
    assert_eq!(client.found("key", &[]).await, None);
}

/// The bytes of a body, until it has `most` or ends, and whether it broke off.
async fn receive(body: &mut (impl Stream<Item = reqwest::Result<Bytes>> + Unpin), most: usize) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    while bytes.len() < most {
        match body.next().await {
            Some(Ok(chunk)) => bytes.extend_from_slice(&chunk),
            Some(Err(_)) => return (bytes, true),
            None => break,
        }
    }
    (bytes, false)
}

async fn open(client: &Client, url: &str) -> impl Stream<Item = reqwest::Result<Bytes>> + Unpin {
    let response = client.http.get(url).send().await.expect("the head of the answer comes");
    response.bytes_stream().boxed()
}

/// All bytes of a body, and whether it broke off.
async fn receive_all(client: &Client, url: &str) -> (Vec<u8>, bool) {
    receive(&mut open(client, url).await, usize::MAX).await
}

#[tokio::test]
async fn a_download_can_be_cut() {
    let client = world(Fault::new(FaultName::Cut).bytes(70_000).every(2)).await;
    let (url, whole) = (client.download_url("key").await, noise(100_000));
    assert_eq!(receive_all(&client, &url).await, (whole.clone(), false));
    assert_eq!(receive_all(&client, &url).await, (whole[..70_000].to_vec(), true));
    assert_eq!(receive_all(&client, &url).await, (whole, false));
}

#[tokio::test]
async fn a_download_can_stall() {
    let client = world(Fault::new(FaultName::Stall).bytes(70_000)).await;
    let url = client.download_url("key").await;
    let mut body = open(&client, &url).await;
    assert_eq!(receive(&mut body, 70_000).await, (noise(100_000)[..70_000].to_vec(), false));
    assert!(tokio::time::timeout(Duration::from_millis(200), body.next()).await.is_err(), "nothing more comes");
}

#[tokio::test]
async fn a_range_can_be_ignored() {
    let client = world(Fault::new(FaultName::IgnoreRange)).await;
    let reply = client.get(&client.download_url("key").await, Some("bytes=10-19")).await;
    assert_eq!((reply.status, reply.header("content-length"), reply.header("content-range")), (200, "", ""));
    assert!(reply.body == noise(100_000));
}

#[tokio::test]
async fn a_byte_can_be_wrong() {
    let client = world(Fault::new(FaultName::Corrupt).bytes(66_666).times(1)).await;
    let (url, whole) = (client.download_url("key").await, noise(100_000));
    let (bytes, _) = receive_all(&client, &url).await;
    let wrong: Vec<usize> = (0..whole.len()).filter(|at| bytes.get(*at) != whole.get(*at)).collect();
    assert_eq!(wrong, [66_666]);
    assert_eq!(receive_all(&client, &url).await, (whole, false));
}

#[tokio::test]
async fn addresses_can_end_after_some_requests() {
    let client = world(Fault::new(FaultName::ExpiredUrl).after(2).times(1)).await;
    let url = client.download_url("key").await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(client.get(&url, Some("bytes=0-0")).await.status);
    }
    assert_eq!(statuses, [206, 206, 403, 206]);
}

#[tokio::test]
async fn a_download_can_be_shorter_than_asked_for_by_all_rules() {
    let client = world(Fault::new(FaultName::Truncate).bytes(7)).await;
    let url = client.download_url("key").await;
    let part = client.get(&url, Some("bytes=10-19")).await;
    assert_eq!((part.status, part.header("content-range")), (206, "bytes 10-16/100000"));
    assert!(part.body == noise(100_000)[10..17]);
    let whole = client.get(&url, None).await;
    assert_eq!((whole.status, whole.header("content-length")), (200, "7"));
    assert!(whole.body == noise(100_000)[..7]);
}

#[tokio::test]
async fn a_range_can_begin_later_than_asked_for() {
    let client = world(Fault::new(FaultName::Shift)).await;
    let reply = client.get(&client.download_url("key").await, Some("bytes=10-19")).await;
    assert_eq!((reply.status, reply.header("content-range")), (206, "bytes 11-19/100000"));
    assert!(reply.body == noise(100_000)[11..20]);
}

#[tokio::test]
async fn a_download_can_trickle() {
    let client = world(Fault::new(FaultName::Trickle).bytes(100)).await;
    let url = client.download_url("key").await;
    let mut body = open(&client, &url).await;
    let (bytes, broken) = receive(&mut body, 3).await;
    assert!(!broken && (3..1000).contains(&bytes.len()), "{} bytes came at once", bytes.len());
    assert!(noise(100_000).starts_with(&bytes));
}

#[tokio::test]
async fn a_request_can_be_sent_elsewhere() {
    let client = Client::new();
    client.save("key", &noise(100)).await;
    let plain = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let url = client.download_url("key").await;
    for operation in [Operation::Lookup, Operation::Download] {
        client.fake.fault(Fault::new(FaultName::Redirect).on(operation).times(1));
        let request = match operation {
            Operation::Lookup => plain.post(client.call_url("GetCacheEntryDownloadURL")).bearer_auth(&client.token),
            _ => plain.get(&url),
        };
        let answer = request.send().await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.headers()["location"]), (307, &"/elsewhere".parse().unwrap()));
    }
}
