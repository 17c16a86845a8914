//! Signed addresses, uploads and downloads.

use std::time::Duration;

use super::client::{Client, Reply, block_id, noise};
use crate::support::fake::Operation;

fn assert_refused(reply: &Reply, status: u16, code: &str) {
    assert_eq!(reply.status, status, "{code}: {}", reply.text());
    assert_eq!(reply.header("x-ms-error-code"), code);
    assert!(reply.text().contains(&format!("<Code>{code}</Code>")), "{}", reply.text());
}

/// Azure's docs, "Put Blob": the type of the blob must be named. Measured: 201, and one client needs the request id.
#[tokio::test]
async fn a_blob_goes_up_in_one_request() {
    let client = Client::new();
    let url = client.create("key").await;
    let untyped = client.send(client.http.put(&url).body("abc")).await;
    assert_refused(&untyped, 400, "MissingRequiredHeader");
    let appended = client.http.put(&url).header("x-ms-blob-type", "AppendBlob").body("abc");
    assert_refused(&client.send(appended).await, 400, "InvalidHeaderValue");
    let versioned = client.http.put(&url).header("x-ms-blob-type", "BlockBlob").header("x-ms-version", "2020-04-08");
    let stored = client.send(versioned.body("abc")).await;
    assert_eq!(stored.status, 201);
    assert!(!stored.header("x-ms-request-id").is_empty() && !stored.header("etag").is_empty());
    assert_eq!(client.finalize("key", 3).await.json()["ok"], true);
}

/// Azure's docs: lengths are declared.
#[tokio::test]
async fn a_body_without_length_is_refused() {
    let client = Client::new();
    let url = client.create("key").await;
    let chunks = futures_util::stream::iter([Ok::<_, std::io::Error>("abc")]);
    let reply = client.put_blob(&url, reqwest::Body::wrap_stream(chunks)).await;
    assert_refused(&reply, 411, "MissingContentLengthHeader");
}

/// Azure's docs, "Put Block List": blocks come in any order, the list orders them, and until then there is no blob.
#[tokio::test]
async fn blocks_become_a_blob_when_they_are_listed() {
    let client = Client::new();
    let url = client.create("key").await;
    let (first, second) = (noise(100_000), noise(250_000));
    let ids = [block_id(0), block_id(1)];
    assert_eq!(client.put_block(&url, &ids[1], second.clone()).await.status, 201);
    let block = client.put_block(&url, &ids[0], first.clone()).await;
    assert!(block.status == 201 && !block.header("x-ms-request-id").is_empty());
    assert_eq!(client.finalize("key", 350_000).await.status, 404, "blocks alone are not a blob");
    let list = client.put_block_list(&url, &ids).await;
    assert!(list.status == 201 && !list.header("x-ms-request-id").is_empty(), "{}", list.text());
    assert_eq!(client.finalize("key", 350_000).await.json()["ok"], true);

    let whole = [first, second].concat();
    let url = client.download_url("key").await;
    assert_eq!(client.get(&url, None).await.body, whole);
    let seam = client.get(&url, Some("bytes=99990-100009")).await;
    assert_eq!(seam.body, whole[99_990..100_010]);
    assert_eq!(client.fake.stats().bytes_up, 350_000);
    assert_eq!(client.fake.stats().bytes_down, 350_020);
    assert_eq!(client.fake.stats().count(Operation::PutBlock), 2);
}

/// Azure's docs: a list names only what was sent, and a broken list is refused.
#[tokio::test]
async fn block_lists_are_checked() {
    let client = Client::new();
    let url = client.create("key").await;
    assert_eq!(client.put_block(&url, &block_id(0), "abc").await.status, 201);
    let unknown = client.put_block_list(&url, &[block_id(0), block_id(1)]).await;
    assert_refused(&unknown, 400, "InvalidBlockList");
    let broken = client.send(client.http.put(format!("{url}&comp=blocklist")).body("<BlockList>")).await;
    assert_refused(&broken, 400, "InvalidXmlDocument");
    // The block is still there: the first list changed nothing.
    assert_eq!(client.put_block_list(&url, &[block_id(0)]).await.status, 201);
    assert_eq!(client.finalize("key", 3).await.json()["ok"], true);
}

/// Toolkit's SDK makes ids of 48 bytes, and a known server of the same protocol takes no shorter ones. Azure's docs: empty
/// blocks are refused.
#[tokio::test]
async fn blocks_are_checked() {
    let client = Client::new();
    let url = client.create("key").await;
    let long = block_id(0) + "QQ==";
    let not_base64 = "?".repeat(64);
    for id in ["QUFBQUFBQUFBQUFBQUFBQQ==", long.as_str(), not_base64.as_str(), ""] {
        assert_refused(&client.put_block(&url, id, "abc").await, 400, "InvalidQueryParameterValue");
    }
    let empty = client.http.put(format!("{url}&comp=block&blockid={}", block_id(0))).header("content-length", "0");
    assert_refused(&client.send(empty).await, 400, "InvalidHeaderValue");
}

/// Azure's docs, "Service SAS": what the address says is signed, and it is all that it allows.
#[tokio::test]
async fn addresses_allow_what_they_say() {
    let client = Client::new();
    let up = client.create("key").await;
    assert!(up.contains("&sp=cw&"), "{up}");
    assert_refused(&client.get(&up, None).await, 403, "AuthorizationPermissionMismatch");
    assert_eq!(client.put_blob(&up, "abc").await.status, 201);
    assert_eq!(client.finalize("key", 3).await.json()["ok"], true);

    let down = client.download_url("key").await;
    assert!(down.contains("&sp=r&"), "{down}");
    assert_refused(&client.put_blob(&down, "abc").await, 403, "AuthorizationPermissionMismatch");
    let raised = client.put_blob(&down.replace("&sp=r&", "&sp=rw&"), "abc").await;
    assert_refused(&raised, 403, "AuthenticationFailed");
    let prolonged = client.get(&down.replacen("se=2", "se=3", 1), None).await;
    assert_refused(&prolonged, 403, "AuthenticationFailed");
    let unsigned = client.get(down.split('?').next().unwrap_or_default(), None).await;
    assert_refused(&unsigned, 403, "AuthenticationFailed");
    let elsewhere = client.get(&down.replacen("/actions-cache/", "/actions-cache/0", 1), None).await;
    assert_refused(&elsewhere, 403, "AuthenticationFailed");
}

/// Measured: addresses for downloads work 10 minutes, those for uploads an hour. Azure's docs: then it is 403.
#[tokio::test]
async fn addresses_end() {
    let client = Client::new();
    client.save("key", b"abc").await;
    let (up, down) = (client.create("slow").await, client.download_url("key").await);
    client.fake.advance(Duration::from_secs(590));
    assert_eq!(client.get(&down, None).await.status, 200);
    client.fake.advance(Duration::from_secs(11));
    assert_refused(&client.get(&down, None).await, 403, "AuthenticationFailed");
    assert_eq!(client.get(&client.download_url("key").await, None).await.status, 200);
    client.fake.advance(Duration::from_secs(2980));
    assert_eq!(client.put_block(&up, &block_id(0), "abc").await.status, 201);
    client.fake.advance(Duration::from_secs(20));
    assert_refused(&client.put_block(&up, &block_id(0), "abc").await, 403, "AuthenticationFailed");
}

/// The runtime token has no business with the storage provider; Azure's docs: two ways to authenticate are one too many.
#[tokio::test]
async fn tokens_are_not_sent_to_signed_addresses() {
    let client = Client::new();
    client.save("key", b"abc").await;
    let url = client.download_url("key").await;
    let reply = client.send(client.http.get(&url).bearer_auth(&client.token)).await;
    assert_refused(&reply, 400, "InvalidAuthenticationInfo");
}

/// Azure's docs, "Specifying the range header"; measured: 206 with the total, 416 past the end.
#[tokio::test]
async fn ranges_are_served() {
    let client = Client::new();
    client.save("key", b"0123456789").await;
    let url = client.download_url("key").await;
    let rows = [
        (None, 200, "", "0123456789"),
        (Some("bytes=0-0"), 206, "bytes 0-0/10", "0"),
        (Some("bytes=3-5"), 206, "bytes 3-5/10", "345"),
        (Some("bytes=8-"), 206, "bytes 8-9/10", "89"),
        (Some("bytes=8-99"), 206, "bytes 8-9/10", "89"),
    ];
    for (range, status, content_range, body) in rows {
        let reply = client.get(&url, range).await;
        assert_eq!((reply.status, reply.header("content-range")), (status, content_range), "{range:?}");
        assert_eq!(reply.text(), body);
        assert_eq!(reply.header("content-length"), body.len().to_string());
    }
    let past = client.get(&url, Some("bytes=10-12")).await;
    assert_refused(&past, 416, "InvalidRange");
    assert_eq!(past.header("content-range"), "bytes */10");
    assert_refused(&client.get(&url, Some("bytes=5-3")).await, 400, "InvalidHeaderValue");
    // Azure's own header goes before the common one; its SDKs send it.
    let both = client.http.get(&url).header("range", "bytes=0-0").header("x-ms-range", "bytes=1-2");
    assert_eq!(client.send(both).await.text(), "12");
}

/// Azure's docs, "Get Blob Properties" and "Specifying conditional headers".
#[tokio::test]
async fn head_and_conditions_are_served() {
    let client = Client::new();
    client.save("key", b"0123456789").await;
    let url = client.download_url("key").await;
    let head = client.send(client.http.head(&url)).await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "10", 0));
    let etag = head.header("etag").to_owned();
    let same = client.send(client.http.get(&url).header("if-match", &etag)).await;
    assert_eq!((same.status, same.header("etag")), (200, etag.as_str()));
    let other = client.send(client.http.get(&url).header("if-match", "\"0x0\"")).await;
    assert_refused(&other, 412, "ConditionNotMet");
}

/// Blobs are streamed to disk and back: many megabytes pass through whole, also over a slow link.
#[tokio::test]
async fn large_blobs_pass_whole() {
    use crate::support::fake::{FakeConfig, LinkConfig};
    let link =
        LinkConfig { latency: Duration::from_millis(5), stream: 100_000_000, down: 200_000_000, up: 200_000_000 };
    for link in [None, Some(link)] {
        let client = Client::with(FakeConfig { link, ..FakeConfig::default() });
        let bytes = noise(20 << 20);
        client.save("key", &bytes).await;
        let reply = client.get(&client.download_url("key").await, None).await;
        assert!(reply.body == bytes, "{} bytes came back", reply.body.len());
    }
}
