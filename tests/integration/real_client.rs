//! GitHub's own client against the fake. Where it fails, the fake is wrong.
//!
//! It needs Node and `npm ci` in `tests/node`, which `scripts/test.sh` runs.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fake_contract::client::noise;
use crate::support::fake::{Fake, FakeConfig, Fault, FaultName, Operation, Scope};

const MAIN: &str = "refs/heads/main";
const MIB: usize = 1 << 20;

/// A host from which the client downloads through the Azure SDK; the preloaded script makes it this machine.
const AZURE: &str = "fake.blob.core.windows.net";

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node")
}

/// Whether the client is there. Without it a test says so and returns, unless all of them are required.
pub(crate) fn available() -> bool {
    has("node_modules/@actions/cache")
}

/// Whether GitHub's client of artifacts is there.
pub(crate) fn has_artifact_client() -> bool {
    has("node_modules/@actions/artifact")
}

fn has(folder: &str) -> bool {
    let missing = if !scripts().join(folder).is_dir() {
        "tests/node/node_modules is missing: run `npm ci` in tests/node"
    } else if Command::new("node").arg("--version").output().is_err() {
        "there is no `node` on PATH"
    } else {
        return true;
    };
    let required = std::env::var("NIX_CACHE_TEST_REQUIRE_ALL").is_ok_and(|value| value == "1");
    assert!(!required, "GitHub's client cannot be run: {missing}.");
    eprintln!("Skipped, because GitHub's client cannot be run: {missing}.");
    false
}

/// A machine with one file to cache.
struct Machine {
    fake: Fake,
    workspace: TempDir,
    temp: TempDir,
    env: Vec<(String, String)>,
}

/// What the client did.
struct Outcome {
    outcome: Value,
    log: String,
}

impl Machine {
    fn new(config: FakeConfig) -> Self {
        let fake = Fake::start(config);
        let env = fake.env();
        let folder = || tempfile::tempdir().expect("there is a temporary folder");
        Self { fake, workspace: folder(), temp: folder(), env }
    }

    fn file(&self) -> PathBuf {
        self.workspace.path().join("data/file")
    }

    fn write(&self, bytes: &[u8]) {
        std::fs::create_dir_all(self.workspace.path().join("data")).expect("the workspace can be written");
        std::fs::write(self.file(), bytes).expect("the workspace can be written");
    }

    fn forget(&self) {
        std::fs::remove_dir_all(self.workspace.path().join("data")).expect("the workspace can be written");
    }

    fn scopes(&mut self, scopes: &[Scope]) {
        self.env = self.fake.env_with(scopes);
    }

    fn run(&self, verb: &str, key: &str, restore_keys: &[&str]) -> Outcome {
        let output = Command::new("node")
            .arg("--require")
            .arg(scripts().join("azure-host.cjs"))
            .arg(scripts().join("cache.mjs"))
            .args([verb, key, "data"])
            .args(restore_keys)
            .current_dir(self.workspace.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("GITHUB_WORKSPACE", self.workspace.path())
            .env("RUNNER_TEMP", self.temp.path())
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .output()
            .expect("node was found before");
        let log = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let last = String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned();
        let outcome = serde_json::from_str(&last).unwrap_or_else(|_| panic!("the script ended early: {log}"));
        Outcome { outcome, log }
    }

    fn save(&self, key: &str) -> Outcome {
        self.run("save", key, &[])
    }

    fn restore(&self, key: &str, restore_keys: &[&str]) -> Outcome {
        self.run("restore", key, restore_keys)
    }

    /// Saves a file of this size and restores it in a place where it is missing.
    fn round_trip(&self, size: usize) {
        let bytes = noise(size);
        self.write(&bytes);
        let saved = self.save("key");
        assert_eq!(saved.outcome, json!({ "value": 1 }), "{}", saved.log);
        self.forget();
        let restored = self.restore("key", &[]);
        assert_eq!(restored.outcome, json!({ "value": "key" }), "{}", restored.log);
        let back = std::fs::read(self.file()).expect("the file was restored");
        assert!(back == bytes, "{} of {size} bytes came back: {}", back.len(), restored.log);
    }

    fn count(&self, operation: Operation) -> u64 {
        self.fake.stats().count(operation)
    }
}

fn azure() -> FakeConfig {
    FakeConfig { blob_host: Some(AZURE.to_owned()), ..FakeConfig::default() }
}

#[test]
fn round_trips_over_one_stream() {
    if !available() {
        return;
    }
    // The client sends up to 128 MiB in one request, then blocks of 64 MiB.
    for (size, blobs, blocks) in [(1, 1, 0), (10 * MIB, 1, 0), (200 * MIB, 0, 4)] {
        let machine = Machine::new(FakeConfig::default());
        machine.round_trip(size);
        assert_eq!(machine.count(Operation::PutBlob), blobs, "{size}");
        assert_eq!(machine.count(Operation::PutBlock), blocks, "{size}");
        assert_eq!(machine.count(Operation::PutBlockList), u64::from(blocks > 0), "{size}");
        assert_eq!((machine.count(Operation::Head), machine.count(Operation::Download)), (0, 1), "{size}");
    }
}

#[test]
fn round_trips_through_the_azure_sdk() {
    if !available() {
        return;
    }
    for (size, ranges) in [(1, 1), (10 * MIB, 3), (200 * MIB, 51)] {
        let machine = Machine::new(azure());
        machine.round_trip(size);
        // It asks for the size first, then for ranges of 4 MiB.
        assert_eq!((machine.count(Operation::Head), machine.count(Operation::Download)), (1, ranges), "{size}");
    }
}

#[test]
fn a_key_is_saved_once() {
    if !available() {
        return;
    }
    let machine = Machine::new(FakeConfig::default());
    machine.write(b"first");
    assert_eq!(machine.save("key").outcome, json!({ "value": 1 }));
    machine.write(b"second");
    let again = machine.save("key");
    assert_eq!(again.outcome, json!({ "value": -1 }), "{}", again.log);
    assert!(again.log.contains("Unable to reserve cache with key key"), "{}", again.log);
    machine.forget();
    machine.restore("key", &[]);
    assert_eq!(std::fs::read(machine.file()).expect("the file was restored"), b"first");
}

#[test]
fn prefixes_hit_and_others_miss() {
    if !available() {
        return;
    }
    let machine = Machine::new(FakeConfig::default());
    for key in ["linux-1", "linux-2"] {
        machine.write(key.as_bytes());
        assert!(machine.save(key).outcome["value"].as_i64() > Some(0));
    }
    machine.forget();
    let near = machine.restore("linux-3", &["linux-"]);
    assert_eq!(near.outcome, json!({ "value": "linux-2" }), "{}", near.log);
    assert_eq!(std::fs::read(machine.file()).expect("the file was restored"), b"linux-2");
    assert_eq!(machine.run("lookup", "linux-1", &[]).outcome, json!({ "value": "linux-1" }));
    let miss = machine.restore("darwin-1", &["darwin-"]);
    assert_eq!(miss.outcome, json!({ "value": null }), "{}", miss.log);
    assert!(!miss.log.contains("::warning"), "{}", miss.log);
}

#[test]
fn denials_are_understood() {
    if !available() {
        return;
    }
    let mut machine = Machine::new(FakeConfig::default());
    machine.write(b"data");
    machine.scopes(&[Scope::read(MAIN)]);
    let save = machine.save("key");
    assert_eq!(save.outcome, json!({ "value": -1 }), "{}", save.log);
    assert!(save.log.contains("cache write denied: token has no writable scopes"), "{}", save.log);
    machine.scopes(&[Scope::write(MAIN)]);
    let restore = machine.restore("key", &[]);
    assert_eq!(restore.outcome, json!({ "value": null }), "{}", restore.log);
    assert!(restore.log.contains("cache read denied: token has no readable scopes"), "{}", restore.log);
    assert_eq!(machine.fake.entries(), []);
}

#[test]
fn limits_are_understood() {
    if !available() {
        return;
    }
    let machine =
        Machine::new(FakeConfig { creations_per_minute: 1, downloads_per_minute: 1, ..FakeConfig::default() });
    machine.write(b"data");
    assert_eq!(machine.save("first").outcome, json!({ "value": 1 }));
    assert_eq!(machine.restore("first", &[]).outcome, json!({ "value": "first" }));
    for limited in [machine.save("second"), machine.restore("first", &[])] {
        assert!(limited.outcome == json!({ "value": -1 }) || limited.outcome == json!({ "value": null }));
        assert!(limited.log.contains("You've hit a rate limit, your rate limit will reset in"), "{}", limited.log);
    }
}

#[test]
fn faults_are_understood() {
    if !available() {
        return;
    }
    let machine = Machine::new(FakeConfig::default());
    machine.write(b"data");
    machine.fake.fault(Fault::new(FaultName::Quota).times(1));
    let full = machine.save("key");
    assert!(full.log.contains("Cache storage quota has been hit"), "{}", full.log);
    machine.fake.fault(Fault::new(FaultName::NotFound).times(1));
    let unseen = machine.save("key");
    assert!(unseen.log.contains("Failed to FinalizeCacheEntryUpload"), "{}", unseen.log);
    // The client retries an error of the server's.
    machine.fake.fault(Fault::new(FaultName::Error).on(Operation::Create).status(503).times(1));
    let retried = machine.save("other");
    // The number is that of the entry; the first was reserved by the save that failed.
    assert_eq!(retried.outcome, json!({ "value": 2 }), "{}", retried.log);
    assert!(retried.log.contains("Attempt 1 of 5 failed"), "{}", retried.log);
    machine.fake.fault(Fault::new(FaultName::ExpiredUrl).on(Operation::Download).times(1));
    let expired = machine.restore("other", &[]);
    assert_eq!(expired.outcome, json!({ "value": null }), "{}", expired.log);
}
