//! The addresses with which tests in another process steer the fake, its log and its environment.

use serde_json::{Value, json};

use super::client::{Client, MAIN, Reply};
use crate::support::fake::{Fake, FakeConfig, FaultName};

async fn post(client: &Client, name: &str, body: &Value) -> Reply {
    client.send(client.http.post(format!("{}/_fake/{name}", client.fake.url())).json(body)).await
}

#[tokio::test]
async fn faults_are_switched_from_outside() {
    let client = Client::new();
    let fault = json!({ "name": "error", "on": "lookup", "status": 503, "times": 1, "after": 1 });
    assert_eq!(post(&client, "fault", &fault).await.status, 200);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(client.lookup("key", &[]).await.status);
    }
    assert_eq!(statuses, [200, 503, 200]);
    assert_eq!(client.fake.stats().struck(FaultName::Error), 1);

    assert_eq!(post(&client, "fault", &json!({ "name": "unauthorized" })).await.status, 200);
    assert_eq!(client.lookup("key", &[]).await.status, 401);
    client.send(client.http.delete(format!("{}/_fake/fault", client.fake.url()))).await;
    assert_eq!(client.lookup("key", &[]).await.status, 200);

    let unknown = post(&client, "fault", &json!({ "name": "earthquake" })).await;
    assert!(unknown.status == 400 && unknown.text().contains("earthquake"), "{}", unknown.text());
    assert_eq!(post(&client, "no-such-address", &json!({})).await.status, 400);
}

#[tokio::test]
async fn time_tokens_and_numbers_are_reached_from_outside() {
    let mut client = Client::new();
    client.save("key", b"abc").await;
    post(&client, "lag", &json!({ "milliseconds": 3_600_000 })).await;
    assert_eq!(client.found("key", &[]).await, None);
    post(&client, "advance", &json!({ "seconds": 3601 })).await;
    assert_eq!(client.found("key", &[]).await.as_deref(), Some("key"));

    let wish = json!({ "scopes": [{ "Scope": MAIN, "Permission": 1 }], "valid_seconds": 60 });
    client.token = post(&client, "token", &wish).await.json()["token"].as_str().unwrap_or_default().to_owned();
    assert_eq!(client.found("key", &[]).await.as_deref(), Some("key"));
    post(&client, "advance", &json!({ "seconds": 61 })).await;
    assert_eq!(client.lookup("key", &[]).await.status, 401);

    let stats = client.send(client.http.get(format!("{}/_fake/stats", client.fake.url()))).await.json();
    assert_eq!(
        (&stats["requests"]["lookup"], &stats["bytes_up"], &stats["entries"]),
        (&json!(4), &json!(3), &json!(1))
    );
    let entries = client.send(client.http.get(format!("{}/_fake/entries", client.fake.url()))).await.json();
    assert_eq!((&entries[0]["key"], &entries[0]["scope"]), (&json!("key"), &json!(MAIN)));
}

#[tokio::test]
async fn requests_are_logged_without_signatures() {
    let dir = tempfile::tempdir().expect("there is a temporary folder");
    let log = dir.path().join("requests.jsonl");
    let client = Client::with(FakeConfig { log: Some(log.clone()), ..FakeConfig::default() });
    client.save("key", b"abc").await;
    client.get(&client.download_url("key").await, Some("bytes=0-1")).await;
    let text = std::fs::read_to_string(&log).expect("the log was written");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    let operations: Vec<&str> = lines.iter().filter_map(|line| line["operation"].as_str()).collect();
    assert_eq!(operations, ["create", "put-blob", "finalize", "lookup", "download"]);
    assert_eq!((&lines[4]["range"], &lines[4]["status"]), (&json!("bytes=0-1"), &json!(206)));
    assert!(!text.contains("sig=") && !text.contains(&client.token), "{text}");
}

/// The runner's source: these three reach a Node action.
#[tokio::test]
async fn the_environment_is_that_of_a_node_action() {
    let fake = Fake::start(FakeConfig::default());
    let names: Vec<String> = fake.env().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["ACTIONS_RESULTS_URL", "ACTIONS_RUNTIME_TOKEN", "ACTIONS_CACHE_SERVICE_V2"]);
    assert!(fake.env()[0].1.ends_with('/'));
}

/// A dropped fake has ended: its port refuses connections, and other fakes refuse its tokens.
#[tokio::test]
async fn a_fake_ends_with_its_owner() {
    let mut client = Client::new();
    let other = std::mem::replace(&mut client.fake, Fake::start(FakeConfig::default()));
    assert_eq!(client.lookup("key", &[]).await.status, 401);
    let address = other.url().replace("http://", "");
    assert!(std::net::TcpStream::connect(&address).is_ok());
    drop(other);
    assert!(std::net::TcpStream::connect(&address).is_err());
}
