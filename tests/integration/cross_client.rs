//! What GitHub's own client stores, ours reads, and the reverse: byte for byte, through both kinds of upload and every way to
//! download.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use futures_util::TryStreamExt;
use nix_cache::remote::github::{GithubConfig, GithubRemote, version};
use nix_cache::remote::{Kind, Put, Remote};
use tempfile::TempDir;

use crate::fake_contract::client::noise;
use crate::real_client::available;
use crate::support::fake::{Fake, FakeConfig, Operation};

const MIB: usize = 1 << 20;

/// Ours sends up to 16 MiB in one request and theirs up to 128 MiB; what is larger goes in blocks.
const SIZES: [usize; 3] = [1, 3 * MIB + 17, 130 * MIB + 5];

struct Clients {
    fake: Fake,
    folder: TempDir,
}

impl Clients {
    fn new() -> Self {
        Self { fake: Fake::start(FakeConfig::default()), folder: tempfile::tempdir().unwrap() }
    }

    /// Ours.
    fn ours(&self) -> GithubRemote {
        let env = self.fake.env();
        let lookup = |name: &str| env.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        GithubRemote::new(GithubConfig::from_env(lookup).unwrap()).unwrap()
    }

    /// GitHub's.
    fn theirs(&self, verb: &str, key: &str, kind: Kind, file: &Path) {
        let output = Command::new("node")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node/entry.mjs"))
            .args([verb, key, &version(kind)])
            .arg(file)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("RUNNER_TEMP", self.folder.path())
            .envs(self.fake.env())
            .output()
            .expect("node was found before");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{verb} {key}: {said}{}", String::from_utf8_lossy(&output.stdout));
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.file(name);
        fs::File::create(&path).unwrap().write_all(bytes).unwrap();
        path
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_github_s_client_stores_is_read_by_ours() {
    if !available() {
        return;
    }
    let clients = Clients::new();
    for size in SIZES {
        let (bytes, key) = (noise(size), format!("theirs-{size}"));
        clients.theirs("put", &key, Kind::Files, &clients.write("up", &bytes));
        let ours = clients.ours();
        let entry = ours.find(Kind::Files, std::slice::from_ref(&key)).await.unwrap().expect("it is there");
        assert_eq!(entry.name, key);
        let whole: Vec<Bytes> = ours.stream(&entry).await.unwrap().try_collect().await.unwrap();
        assert!(whole.concat() == bytes, "{size} bytes came as one stream");
        let (start, end) = (size as u64 / 3, size as u64);
        let part = ours.read(&entry, start..end).await.unwrap();
        assert!(part == bytes[start as usize..], "bytes {start}..{end} of {size}");
        // Other kinds are other versions.
        assert!(ours.find(Kind::Layer, &[key]).await.unwrap().is_none());
    }
    assert!(clients.fake.stats().count(Operation::PutBlock) > 1, "the largest went in blocks");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ours_stores_is_read_by_github_s_client() {
    if !available() {
        return;
    }
    let clients = Clients::new();
    for size in SIZES {
        let (bytes, key) = (noise(size), format!("ours-{size}"));
        let up = clients.write("up", &bytes);
        assert_eq!(clients.ours().put_file(Kind::Layer, &key, &up).await.unwrap(), Put::Stored);
        for way in ["get-stream", "get-sdk", "get-ranges"] {
            let down = clients.file("down");
            clients.theirs(way, &key, Kind::Layer, &down);
            assert!(fs::read(&down).unwrap() == bytes, "{size} bytes by {way}");
        }
    }
    assert_eq!(clients.fake.stats().count(Operation::Head), 2 * SIZES.len() as u64, "two of the ways ask for the size");
    assert!(clients.fake.stats().count(Operation::PutBlock) > 1, "the largest went in blocks");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_one_has_taken_is_taken_for_the_other() {
    if !available() {
        return;
    }
    let clients = Clients::new();
    clients.theirs("put", "name", Kind::Snapshot, &clients.write("up", b"theirs"));
    let put = clients.ours().put_bytes(Kind::Snapshot, "name", Bytes::from_static(b"ours")).await.unwrap();
    assert_eq!(put, Put::Taken);
    let down = clients.file("down");
    clients.theirs("get-stream", "name", Kind::Snapshot, &down);
    assert_eq!(fs::read(&down).unwrap(), b"theirs");
}
