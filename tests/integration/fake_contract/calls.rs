//! The three remote calls: every answer that a client must tell from the others.

use serde_json::{Value, json};

use super::client::{Client, MAIN, VERSION};
use crate::support::fake::Scope;

const CREATE: &str = "CreateCacheEntry";
const FINALIZE: &str = "FinalizeCacheEntryUpload";
const LOOKUP: &str = "GetCacheEntryDownloadURL";

/// Who asks.
#[derive(Clone, Copy)]
enum Who {
    Writer,
    Reader,
    WriteOnly,
    Nobody,
    Forger,
}

struct Row {
    method: &'static str,
    who: Who,
    body: Value,
    status: u16,
    /// A part of the answer's JSON.
    answer: Value,
}

fn row(method: &'static str, who: Who, body: Value, status: u16, answer: Value) -> Row {
    Row { method, who, body, status, answer }
}

fn entry(key: &str) -> Value {
    json!({ "key": key, "version": VERSION })
}

fn sized(key: &str, size: impl Into<Value>) -> Value {
    json!({ "key": key, "version": VERSION, "size_bytes": size.into() })
}

/// A new fake: `stored` holds three bytes, `burnt` is reserved without a blob, `uploaded` has a blob of three bytes and
/// waits for its finalize.
async fn world() -> Client {
    let client = Client::new();
    client.save("stored", b"abc").await;
    client.create("burnt").await;
    let url = client.create("uploaded").await;
    assert_eq!(client.put_blob(&url, "abc").await.status, 201);
    client
}

fn rows() -> Vec<Row> {
    use Who::{Forger, Nobody, Reader, Writer};
    let long = "k".repeat(512);
    let denied = "cache write denied: token has no writable scopes";
    let exists = "cache entry with the same key, version, and scope already exists";
    vec![
        // Toolkit: a reservation is `ok` and carries an address.
        row(CREATE, Writer, entry("new"), 200, json!({ "ok": true })),
        // Measured: keys are taken once; the toolkit reports it as someone else's reservation.
        row(CREATE, Writer, entry("stored"), 409, json!({ "code": "already_exists", "msg": exists })),
        // Measured: a reservation that nobody finalized keeps its key for good.
        row(CREATE, Writer, entry("burnt"), 409, json!({ "code": "already_exists" })),
        // Toolkit 6.3.0 and GitHub's changelog of June 2026: a read-only token gets no error but a message.
        row(CREATE, Reader, entry("new"), 200, json!({ "ok": false, "message": denied })),
        row(FINALIZE, Reader, sized("uploaded", 3), 200, json!({ "ok": false, "message": denied })),
        // Measured: keys have 1 to 512 characters, whatever characters these are.
        row(CREATE, Writer, entry(&long), 200, json!({ "ok": true })),
        row(CREATE, Writer, entry("a,b c//\u{fc}\n"), 200, json!({ "ok": true })),
        row(CREATE, Writer, entry(&format!("{long}k")), 400, json!({ "code": "invalid_argument" })),
        row(CREATE, Writer, entry(""), 400, json!({ "code": "invalid_argument" })),
        // Measured: proto3 leaves out what is empty, which is the same.
        row(CREATE, Writer, json!({ "version": VERSION }), 400, json!({ "code": "invalid_argument" })),
        row(LOOKUP, Writer, entry(""), 400, json!({ "code": "invalid_argument" })),
        // Measured: versions have exactly 64 characters, though the message allows fewer.
        row(
            CREATE,
            Writer,
            json!({ "key": "new", "version": &VERSION[1..] }),
            400,
            json!({
                "code": "invalid_argument", "msg": "version must be between 1 and 64 characters"
            }),
        ),
        row(
            LOOKUP,
            Writer,
            json!({ "key": "new", "version": "0".repeat(65) }),
            400,
            json!({
                "code": "invalid_argument"
            }),
        ),
        // Toolkit: numbers of 64 bits go out as text; measured: as numbers too. Both spellings of names are proto3 JSON.
        row(FINALIZE, Writer, sized("uploaded", "3"), 200, json!({ "ok": true, "entry_id": "3" })),
        row(FINALIZE, Writer, sized("uploaded", 3), 200, json!({ "ok": true, "entry_id": "3" })),
        row(
            FINALIZE,
            Writer,
            json!({ "key": "uploaded", "version": VERSION, "sizeBytes": "3" }),
            200,
            json!({
                "ok": true
            }),
        ),
        // A client's comment, not settled: a repeated finalize is the same as the first.
        row(FINALIZE, Writer, sized("stored", 3), 200, json!({ "ok": true, "entry_id": "1" })),
        // Measured: the size is that of the blob, and there is a blob.
        row(FINALIZE, Writer, sized("uploaded", 4), 404, json!({ "code": "not_found" })),
        row(FINALIZE, Writer, sized("stored", 4), 404, json!({ "code": "not_found" })),
        row(FINALIZE, Writer, sized("burnt", 3), 404, json!({ "code": "not_found" })),
        row(FINALIZE, Writer, sized("unheard-of", 3), 404, json!({ "code": "not_found" })),
        // Measured: nothing empty is stored.
        row(FINALIZE, Writer, sized("uploaded", 0), 400, json!({ "code": "invalid_argument" })),
        row(FINALIZE, Writer, sized("uploaded", "-1"), 400, json!({ "code": "invalid_argument" })),
        row(FINALIZE, Writer, entry("uploaded"), 400, json!({ "code": "invalid_argument" })),
        row(FINALIZE, Writer, sized("uploaded", "three"), 400, json!({ "code": "malformed" })),
        // Toolkit: a hit names the key that matched; a miss is not an error.
        row(LOOKUP, Writer, entry("stored"), 200, json!({ "ok": true, "matched_key": "stored" })),
        row(LOOKUP, Reader, entry("stored"), 200, json!({ "ok": true, "matched_key": "stored" })),
        row(LOOKUP, Writer, entry("unheard-of"), 200, json!({ "ok": false })),
        row(LOOKUP, Writer, entry("burnt"), 200, json!({ "ok": false })),
        row(LOOKUP, Writer, entry("uploaded"), 200, json!({ "ok": false })),
        // Toolkit: fields that the service does not know are no reason to refuse.
        row(
            LOOKUP,
            Writer,
            json!({ "key": "stored", "version": VERSION, "metadata": { "repositoryId": "7" } }),
            200,
            json!({
                "ok": true
            }),
        ),
        row(
            LOOKUP,
            Writer,
            json!({ "key": "none", "restoreKeys": ["sto"], "version": VERSION }),
            200,
            json!({
                "matched_key": "stored"
            }),
        ),
        // Toolkit 6.3.0: who may read nothing is told so, with a fixed beginning of the message.
        row(
            LOOKUP,
            Who::WriteOnly,
            entry("stored"),
            403,
            json!({
                "code": "permission_denied", "msg": "cache read denied: token has no readable scopes"
            }),
        ),
        // A client's comment: a token that is not accepted is 401 for every call.
        row(CREATE, Nobody, entry("new"), 401, json!({ "code": "unauthenticated" })),
        row(FINALIZE, Forger, sized("uploaded", 3), 401, json!({ "code": "unauthenticated" })),
        row(LOOKUP, Forger, entry("stored"), 401, json!({ "code": "unauthenticated" })),
        // Measured: there are three methods.
        row("DeleteCacheEntry", Writer, entry("stored"), 404, json!({ "code": "bad_route" })),
    ]
}

#[tokio::test]
async fn calls_are_answered_as_the_service_does() {
    for row in rows() {
        let mut client = world().await;
        match row.who {
            Who::Writer => {}
            Who::Reader => client.act_as(&[Scope::read(MAIN)]),
            Who::WriteOnly => client.act_as(&[Scope::write(MAIN)]),
            Who::Nobody => client.token = String::new(),
            Who::Forger => client.token.push('x'),
        }
        let reply = client.call(row.method, &row.body).await;
        let what = format!("{} {}: {}", row.method, row.body, reply.text());
        assert_eq!(reply.status, row.status, "{what}");
        for (field, want) in row.answer.as_object().expect("an answer is an object") {
            assert_eq!(&reply.json()[field], want, "{field} of {what}");
        }
    }
}

/// Toolkit: a new reservation writes where the token may write first.
#[tokio::test]
async fn entries_go_to_the_first_scope_that_can_be_written() {
    let mut client = Client::new();
    client.act_as(&[Scope::read("refs/pull/7/merge"), Scope::read_write("refs/heads/topic"), Scope::read_write(MAIN)]);
    client.save("key", b"abc").await;
    let scopes: Vec<String> = client.fake.entries().into_iter().map(|entry| entry.scope).collect();
    assert_eq!(scopes, ["refs/heads/topic"]);
}

/// Measured: the same key can be taken in another scope, and with another version.
#[tokio::test]
async fn a_key_is_taken_only_in_its_scope_and_version() {
    let mut client = world().await;
    let other = json!({ "key": "stored", "version": "f".repeat(64) });
    assert_eq!(client.call(CREATE, &other).await.json()["ok"], true);
    client.act_as(&[Scope::read_write("refs/heads/topic")]);
    client.save("stored", b"def").await;
}

/// GitHub's docs: the job's token ends with the job; a client's comment: then it is 401.
#[tokio::test]
async fn tokens_end() {
    let client = world().await;
    client.fake.advance(std::time::Duration::from_hours(6));
    let reply = client.lookup("stored", &[]).await;
    assert_eq!((reply.status, &reply.json()["code"]), (401, &json!("unauthenticated")));
}

/// Twirp's specification: other forms and methods have no route. The fake speaks JSON only.
#[tokio::test]
async fn only_posted_json_is_a_call() {
    let client = world().await;
    let url = client.call_url(LOOKUP);
    let get = client.send(client.http.get(&url).bearer_auth(&client.token)).await;
    assert_eq!((get.status, &get.json()["code"]), (404, &json!("bad_route")));
    let proto = client.http.post(&url).bearer_auth(&client.token).header("content-type", "application/protobuf");
    let proto = client.send(proto.body("\x12\x03key")).await;
    assert_eq!((proto.status, &proto.json()["code"]), (404, &json!("bad_route")));
    let broken = client.http.post(&url).bearer_auth(&client.token).header("content-type", "application/json");
    let broken = client.send(broken.body("{")).await;
    assert_eq!((broken.status, &broken.json()["code"]), (400, &json!("malformed")));
}
