//! Rates, the quota and retention.

use std::time::Duration;

use serde_json::json;

use super::client::{Client, MAIN, VERSION};
use crate::support::fake::{FakeConfig, Operation, Scope};

/// GitHub's changelog of January 2026: 200 creations a minute and repository, then 429 with `Retry-After`. Measured: the
/// code is `resource_exhausted`, and other methods are not slowed.
#[tokio::test]
async fn creations_are_limited() {
    let mut client = Client::new();
    for number in 0..200 {
        client.create(&format!("key-{number}")).await;
    }
    let body = json!({ "key": "one-more", "version": VERSION });
    let reply = client.call("CreateCacheEntry", &body).await;
    assert_eq!((reply.status, &reply.json()["code"]), (429, &json!("resource_exhausted")));
    let wait: u64 = reply.header("retry-after").parse().expect("Retry-After is in seconds");
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(client.found("key-0", &[]).await, None);
    assert_eq!(client.fake.stats().creations, 200);

    let here = std::mem::replace(&mut client.token, client.fake.token_of(2, &[Scope::read_write(MAIN)]));
    client.create("another-repository").await;
    client.token = here;
    client.fake.advance(Duration::from_secs(wait));
    client.create("one-more").await;
}

/// GitHub's docs: 1,500 downloads a minute and repository. Measured: counted on the call that signs addresses.
#[tokio::test]
async fn lookups_are_limited() {
    let client = Client::new();
    client.save("key", b"abc").await;
    let url = client.download_url("key").await;
    for _ in 1..1500 {
        assert_eq!(client.lookup("key", &[]).await.status, 200);
    }
    let reply = client.lookup("key", &[]).await;
    assert_eq!((reply.status, &reply.json()["msg"]), (429, &json!("rate limit exceeded")));
    assert!(reply.header("retry-after").parse::<u64>().is_ok_and(|wait| wait >= 1));
    assert_eq!(client.get(&url, None).await.status, 200);
    client.save("other", b"abc").await;
    client.fake.advance(Duration::from_mins(1));
    assert_eq!(client.lookup("key", &[]).await.status, 200);
    assert_eq!(client.fake.stats().count(Operation::Lookup), 1502);
}

/// GitHub's docs: over the quota a save succeeds, and what was accessed longest ago goes. Measured: lookups are accesses,
/// and so are reads of the blob.
#[tokio::test]
async fn the_least_recently_used_is_evicted() {
    let client = Client::with(FakeConfig { quota: 300, ..FakeConfig::default() });
    let tick = || client.fake.advance(Duration::from_secs(1));
    let mut urls = Vec::new();
    for key in ["read", "looked-up", "forgotten"] {
        client.save(key, &[0; 100]).await;
        urls.push(client.download_url(key).await);
        tick();
    }
    assert_eq!(client.get(&urls[0], Some("bytes=0-0")).await.status, 206);
    tick();
    assert_eq!(client.found("looked-up", &[]).await.as_deref(), Some("looked-up"));
    tick();
    client.save("new", &[0; 100]).await;
    let keys: Vec<String> = client.fake.entries().into_iter().map(|entry| entry.key).collect();
    assert_eq!(keys, ["read", "looked-up", "new"]);
    assert_eq!(client.get(&urls[2], None).await.status, 404);
    tick();
    client.save("large", &[0; 250]).await;
    let keys: Vec<String> = client.fake.entries().into_iter().map(|entry| entry.key).collect();
    assert_eq!(keys, ["large"]);
    // The key of what was evicted is free again.
    client.save("forgotten", &[0; 10]).await;
}

/// GitHub's docs: what nobody touched for seven days goes.
#[tokio::test]
async fn untouched_entries_end_after_a_week() {
    let mut client = Client::new();
    client.save("used", b"abc").await;
    client.save("unused", b"abc").await;
    let day = Duration::from_hours(24);
    client.fake.advance(4 * day);
    client.act_as(&[Scope::read_write(MAIN)]);
    assert_eq!(client.found("used", &[]).await.as_deref(), Some("used"));
    client.fake.advance(3 * day);
    client.act_as(&[Scope::read_write(MAIN)]);
    assert_eq!(client.found("unused", &[]).await, None);
    assert_eq!(client.found("used", &[]).await.as_deref(), Some("used"));
}
