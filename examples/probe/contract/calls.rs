//! The calls: reservations, how they are finished, and lookups.

use std::time::Instant;

use serde_json::json;

use super::client::{Client, Reply, VERSION};
use super::table::Table;

/// Requests that are refused whatever is stored.
pub(super) async fn errors(client: &Client, table: &mut Table) {
    let free = json!({ "key": client.key("none"), "version": VERSION });
    let reply = client.call("GetCacheEntryDownloadURL", &free).await;
    table.answer("a lookup of what is not there", &reply, &json!({ "ok": false }));
    let reply = client.call_without_token("GetCacheEntryDownloadURL", &free).await;
    table.status("a call without a token", &reply, 401, "");
    let reply = client.call("DeleteCacheEntry", &free).await;
    table.status("a call that does not exist", &reply, 404, "bad_route");
    let reply = client.create("").await;
    table.status("an empty key", &reply, 400, "invalid_argument");
    let long = client.key(&"k".repeat(600))[..513].to_owned();
    table.status("a key of 513 characters", &client.create(&long).await, 400, "invalid_argument");
    let short = json!({ "key": client.key("short"), "version": &VERSION[1..] });
    let reply = client.call("CreateCacheEntry", &short).await;
    table.status("a version of 63 characters", &reply, 400, "invalid_argument");
}

/// From the reservation to the end.
pub(super) async fn life_of_an_entry(client: &Client, table: &mut Table) {
    let key = client.key("life");
    let reserved = client.create(&key).await;
    table.answer("a reservation", &reserved, &json!({ "ok": true }));
    let again = client.create(&key).await;
    table.status("the same again, before it is finished", &again, 409, "already_exists");
    table.status("a finish without a blob", &client.finalize(&key, 3).await, 404, "not_found");
    let url = reserved.text("signed_upload_url");
    table.fact("time that an upload's address holds", &lifetime(&url));
    table.status("an upload", &client.put_blob(&url, b"abc").await, 201, "");
    table.answer("a lookup before the finish", &client.lookup(&key, &[&key]).await, &json!({ "ok": false }));
    table.status("a finish with size 0", &client.finalize(&key, 0).await, 400, "invalid_argument");
    table.status("a finish with another size", &client.finalize(&key, 4).await, 404, "not_found");
    table.answer("a finish", &client.finalize(&key, 3).await, &json!({ "ok": true }));
    table.fact("the finish again", &client.finalize(&key, 3).await.describe());
    let taken = client.create(&key).await;
    table.status("a reservation of what is stored", &taken, 409, "already_exists");
    let start = Instant::now();
    let found = client.wait_for(&key).await;
    let after = start.elapsed().as_millis();
    table.check("it is found", "within 10 s", format!("{found} after {after} ms"), found);
    let odd = client.create(&client.key("a,b c//\u{fc}")).await;
    table.fact("a key with a comma, a blank, slashes and an umlaut", &odd.describe());
}

/// What finds what. Needs what [`life_of_an_entry`] stored.
pub(super) async fn lookups(client: &Client, table: &mut Table) {
    let (old, new, longer) = (client.key("of-1"), client.key("of-2"), client.key("life-longer"));
    for key in [&old, &new, &longer] {
        client.save(key, b"abc").await;
        client.wait_for(key).await;
    }
    let (key, none, prefix) = (client.key("life"), client.key("none"), client.key("of-"));
    let mut row = |what: &str, reply: &Reply, matched: &str| {
        table.answer(what, reply, &json!({ "ok": true, "matched_key": matched }));
    };
    row("a key that is there, and no restore keys", &client.lookup(&key, &[]).await, &key);
    row("the key as restore key too", &client.lookup(&key, &[&key]).await, &key);
    row("the beginning of two keys as key", &client.lookup(&prefix, &[]).await, &new);
    row("the beginning of two keys as restore key", &client.lookup(&none, &[&prefix]).await, &new);
    row("the second restore key", &client.lookup(&none, &[&client.key("no"), &old]).await, &old);
    let other = json!({ "key": &key, "restore_keys": [&key], "version": "f".repeat(64) });
    let reply = client.call("GetCacheEntryDownloadURL", &other).await;
    table.answer("another version", &reply, &json!({ "ok": false }));
    let (first, second) = (client.lookup(&key, &[]).await, client.lookup(&key, &[]).await);
    table.fact("time of two lookups", &format!("{} ms, {} ms", first.milliseconds, second.milliseconds));
}

/// How long a signed address holds, from what stands in it: `st` or now to `se`.
pub(super) fn lifetime(url: &str) -> String {
    let parameter = |wanted: &str| {
        let url = url::Url::parse(url).ok()?;
        let value = url.query_pairs().find(|(name, _)| name == wanted)?.1.into_owned();
        chrono::DateTime::parse_from_rfc3339(&value).ok()
    };
    let rights = url::Url::parse(url).ok();
    let rights = rights.and_then(|url| url.query_pairs().find(|(name, _)| name == "sp").map(|(_, sp)| sp.into_owned()));
    let rights = rights.unwrap_or_else(|| "unknown".into());
    match parameter("se") {
        Some(end) => {
            let now = seconds_now();
            format!("{} s, rights {rights}", end.timestamp() - now)
        }
        None => format!("not told, rights {rights}"),
    }
}

fn seconds_now() -> i64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_1970.map_or(0, |time| time.as_secs() as i64)
}
