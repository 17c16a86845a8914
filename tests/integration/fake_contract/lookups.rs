//! What a lookup finds.

use std::time::Duration;

use serde_json::json;

use super::client::{Client, MAIN, VERSION};
use crate::support::fake::{FakeConfig, RestPermission, Scope};

const TOPIC: &str = "refs/heads/topic";
const PULL: &str = "refs/pull/7/merge";

struct Row {
    /// Scope and key of what is stored, oldest first.
    stored: &'static [(&'static str, &'static str)],
    key: &'static str,
    restore_keys: &'static [&'static str],
    /// Scope and key of what is found.
    found: Option<(&'static str, &'static str)>,
}

/// The token of each row reads the pull request's own scope, then its base, then the default branch.
fn rows() -> Vec<Row> {
    vec![
        // GitHub's docs, "Cache key matching": the exact key goes before a longer one, though that is newer.
        Row { stored: &[(MAIN, "k-1"), (MAIN, "k-12")], key: "k-1", restore_keys: &[], found: Some((MAIN, "k-1")) },
        // GitHub's docs: a key is also a beginning; the newest entry with it wins. So callers compare what matched.
        Row { stored: &[(MAIN, "k-2"), (MAIN, "k-1")], key: "k-", restore_keys: &[], found: Some((MAIN, "k-1")) },
        // GitHub's docs: restore keys come after the key, in their order.
        Row {
            stored: &[(MAIN, "b-1"), (MAIN, "a-1")],
            key: "c",
            restore_keys: &["b-", "a-"],
            found: Some((MAIN, "b-1")),
        },
        Row { stored: &[(MAIN, "b-1"), (MAIN, "b")], key: "c", restore_keys: &["b"], found: Some((MAIN, "b")) },
        Row { stored: &[(MAIN, "k-1"), (MAIN, "b")], key: "k", restore_keys: &["b"], found: Some((MAIN, "k-1")) },
        // Measured: the scope goes first. A mere beginning in one's own scope beats the exact key on the default branch.
        Row {
            stored: &[(PULL, "k-9"), (TOPIC, "k"), (MAIN, "k")],
            key: "k",
            restore_keys: &[],
            found: Some((PULL, "k-9")),
        },
        Row { stored: &[(TOPIC, "a"), (MAIN, "k")], key: "k", restore_keys: &["a"], found: Some((TOPIC, "a")) },
        Row { stored: &[(MAIN, "k"), (TOPIC, "x")], key: "k", restore_keys: &[], found: Some((MAIN, "k")) },
        // GitHub's docs: siblings are never read.
        Row { stored: &[("refs/heads/sibling", "k")], key: "k", restore_keys: &[], found: None },
        // Measured: case matters, and a match is at the beginning.
        Row { stored: &[(MAIN, "K"), (MAIN, "a-k")], key: "k", restore_keys: &[], found: None },
    ]
}

#[tokio::test]
async fn the_right_entry_is_found() {
    for (number, row) in rows().into_iter().enumerate() {
        let mut client = Client::new();
        for (scope, key) in row.stored {
            client.act_as(&[Scope::read_write(scope)]);
            client.save(key, format!("{scope} {key}").as_bytes()).await;
        }
        client.act_as(&[Scope::read_write(PULL), Scope::read(TOPIC), Scope::read(MAIN)]);
        let reply = client.lookup(row.key, row.restore_keys).await;
        let Some((scope, key)) = row.found else {
            assert_eq!(reply.json()["ok"], false, "row {number}: {}", reply.text());
            continue;
        };
        assert_eq!(reply.json()["matched_key"], key, "row {number}: {}", reply.text());
        let url = reply.json()["signed_download_url"].as_str().unwrap_or_default().to_owned();
        assert_eq!(client.get(&url, None).await.text(), format!("{scope} {key}"), "row {number}");
    }
}

/// Toolkit 6.3.0: a scope that can only be written is not read.
#[tokio::test]
async fn scopes_without_read_permission_are_skipped() {
    let mut client = Client::new();
    client.save("key", b"abc").await;
    client.act_as(&[Scope::read(TOPIC), Scope::write(MAIN)]);
    assert_eq!(client.found("key", &[]).await, None);
}

/// Toolkit: entries of another version, or another repository, do not match.
#[tokio::test]
async fn versions_and_repositories_do_not_mix() {
    let mut client = Client::new();
    client.save("key", b"abc").await;
    let other = json!({ "key": "key", "version": VERSION.replace('0', "1") });
    assert_eq!(client.call("GetCacheEntryDownloadURL", &other).await.json()["ok"], false);
    client.token = client.fake.token_of(2, &[Scope::read(MAIN)]);
    assert_eq!(client.found("key", &[]).await, None);
}

/// Measured: lookups lag behind a finalize; reservations and the REST list do not.
#[tokio::test]
async fn lookups_may_lag_behind() {
    let client = Client::with(FakeConfig { lookup_lag: Duration::from_secs(5), ..FakeConfig::default() });
    client.save("key", b"abc").await;
    assert_eq!(client.found("key", &[]).await, None);
    let again = client.call("CreateCacheEntry", &json!({ "key": "key", "version": VERSION })).await;
    assert_eq!(again.status, 409);
    let list = client.http.get(format!("{}/repos/octo/nix/actions/caches", client.fake.url()));
    let list = client.send(list.bearer_auth(client.fake.rest_token(RestPermission::Read))).await;
    assert_eq!(list.json()["total_count"], 1);
    client.fake.advance(Duration::from_secs(6));
    assert_eq!(client.found("key", &[]).await.as_deref(), Some("key"));
    client.fake.set_lookup_lag(Duration::from_mins(1));
    assert_eq!(client.found("key", &[]).await, None);
}

/// One observer's reading: the service looks at the restore keys alone. A client that repeats the key there is right
/// under both readings.
#[tokio::test]
async fn the_key_may_be_ignored() {
    let client = Client::with(FakeConfig { ignore_key: true, ..FakeConfig::default() });
    client.save("key", b"abc").await;
    assert_eq!(client.found("key", &[]).await, None);
    assert_eq!(client.found("key", &["key"]).await.as_deref(), Some("key"));
}
