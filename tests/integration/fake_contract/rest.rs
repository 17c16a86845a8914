//! Listing and removal through GitHub's REST interface.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::client::{Client, MAIN, Reply};
use crate::support::fake::{RestPermission, Scope};

const CACHES: &str = "/repos/octo/nix/actions/caches";

async fn rest(client: &Client, permission: RestPermission, method: Method, path: &str) -> Reply {
    let request = client.http.request(method, format!("{}{path}", client.fake.url()));
    client.send(request.bearer_auth(client.fake.rest_token(permission))).await
}

async fn world() -> Client {
    let mut client = Client::new();
    for (key, size) in [("a-1", 30), ("a-2", 10), ("b-1", 20)] {
        client.save(key, &vec![0; size]).await;
        client.fake.advance(Duration::from_secs(1));
    }
    client.act_as(&[Scope::read_write("refs/heads/topic"), Scope::read(MAIN)]);
    client.save("a-1", &[0; 5]).await;
    client.fake.advance(Duration::from_secs(1));
    assert_eq!(client.found("b-1", &[]).await.as_deref(), Some("b-1"));
    client.create("reserved").await;
    client
}

/// GitHub's docs, "List GitHub Actions caches for a repository": prefix, ref, order and pages.
#[tokio::test]
async fn caches_are_listed() {
    let client = world().await;
    let rows: [(&str, &[u64], u64); 9] = [
        // Last accessed first, unless told otherwise.
        ("", &[3, 4, 2, 1], 4),
        ("?sort=created_at", &[4, 3, 2, 1], 4),
        ("?sort=created_at&direction=asc", &[1, 2, 3, 4], 4),
        ("?sort=size_in_bytes", &[1, 3, 2, 4], 4),
        ("?key=a-&sort=created_at", &[4, 2, 1], 3),
        ("?key=a-1&ref=refs/heads/main", &[1], 1),
        ("?key=c", &[], 0),
        ("?sort=created_at&per_page=3", &[4, 3, 2], 4),
        ("?sort=created_at&per_page=3&page=2", &[1], 4),
    ];
    for (query, ids, total) in rows {
        let reply = rest(&client, RestPermission::Read, Method::GET, &format!("{CACHES}{query}")).await;
        let body = reply.json();
        let listed: Vec<u64> =
            body["actions_caches"].as_array().into_iter().flatten().filter_map(|entry| entry["id"].as_u64()).collect();
        assert_eq!((reply.status, listed.as_slice(), body["total_count"].as_u64()), (200, ids, Some(total)), "{query}");
        let more = query.contains("per_page=3") && !query.contains("page=2");
        assert_eq!(reply.header("link").contains("rel=\"next\""), more, "{query}");
    }
    let body = rest(&client, RestPermission::Read, Method::GET, &format!("{CACHES}?key=a-2")).await.json();
    let entry = &body["actions_caches"][0];
    assert_eq!((&entry["ref"], &entry["key"], &entry["size_in_bytes"]), (&json!(MAIN), &json!("a-2"), &json!(10)));
}

/// GitHub's docs, "Delete a cache": 204 by id, 200 and what was removed by key.
#[tokio::test]
async fn caches_are_removed() {
    let mut client = world().await;
    let write = RestPermission::Write;
    let by_id = format!("{CACHES}/3");
    assert_eq!(rest(&client, write, Method::DELETE, &by_id).await.status, 204);
    assert_eq!(rest(&client, write, Method::DELETE, &by_id).await.status, 404);
    let by_ref = rest(&client, write, Method::DELETE, &format!("{CACHES}?key=a-1&ref=refs/heads/topic")).await;
    assert_eq!((by_ref.status, &by_ref.json()["total_count"]), (200, &json!(1)));
    let by_key = rest(&client, write, Method::DELETE, &format!("{CACHES}?key=a-1")).await;
    assert_eq!((by_key.status, &by_key.json()["actions_caches"][0]["id"]), (200, &json!(1)));
    assert_eq!(rest(&client, write, Method::DELETE, &format!("{CACHES}?key=a-1")).await.status, 404);
    assert_eq!(client.fake.stats().entries, 1);
    // What was removed is neither found nor in the way.
    client.act_as(&[Scope::read_write(MAIN)]);
    assert_eq!(client.found("b-1", &[]).await, None);
    client.save("b-1", b"abc").await;
}

/// GitHub's docs, "Get GitHub Actions cache usage for a repository".
#[tokio::test]
async fn usage_is_summed_up() {
    let client = world().await;
    let reply = rest(&client, RestPermission::Read, Method::GET, "/repos/octo/nix/actions/cache/usage").await;
    let want = json!({ "full_name": "octo/nix", "active_caches_size_in_bytes": 65, "active_caches_count": 4 });
    assert_eq!((reply.status, reply.json()), (200, want));
}

/// GitHub's docs, "Permissions required for GitHub Apps": `actions: read` lists, `actions: write` removes.
#[tokio::test]
async fn permissions_are_checked() {
    let client = world().await;
    let none = rest(&client, RestPermission::None, Method::GET, CACHES).await;
    assert_eq!((none.status, &none.json()["message"]), (403, &json!("Resource not accessible by integration")));
    let read = rest(&client, RestPermission::Read, Method::DELETE, &format!("{CACHES}/1")).await;
    assert_eq!((read.status, &read.json()["message"]), (403, &json!("Resource not accessible by integration")));
    let other = rest(&client, RestPermission::Write, Method::GET, "/repos/octo/other/actions/caches").await;
    assert_eq!(other.status, 404);
    // The runtime token is of another kind.
    let runtime = client.http.get(format!("{}{CACHES}", client.fake.url())).bearer_auth(&client.token);
    let runtime = client.send(runtime).await;
    assert_eq!((runtime.status, &runtime.json()["message"]), (401, &json!("Bad credentials")));
}
