//! Streaming from an object store, and from several remotes at once.

use super::faults::{QUICK, Service};
use super::*;
use crate::signed::key;
use crate::support::moto;

/// What names the remotes of a job, and lets it sign and trust.
struct Remotes {
    names: String,
    secret: PathBuf,
    public: String,
}

impl Remotes {
    fn command(&self, service: &Service, store: &TestStore, verb: &str, more: &[&str]) -> Command {
        let keys = if verb == "save" {
            ["--signing-key-file", self.secret.to_str().unwrap()]
        } else {
            ["--trusted-public-keys", &self.public]
        };
        let mut command = store.machine.nix_cache(&[verb, "--format", "json", "--primary-key", KEY, "--threads", "2"]);
        command.args(["--remote", &self.names]).arg("--store-root").arg(&store.root).args(keys).args(more);
        command.envs(service.fake.env()).envs(moto::KEYS).env("NIX_CACHE_TUNING", QUICK);
        command
    }

    fn save(&self, service: &Service, store: &TestStore) {
        let outcome = Run::of(self.command(service, store, "save", &[])).json();
        assert!(outcome["saved"].is_object(), "{outcome}");
    }

    fn streamed(&self, service: &Service, name: &str) -> Streamed {
        let streamed = Streamed(service.machine.store(name));
        let outcome = Run::of(self.command(service, &streamed.0, "restore", &STREAM)).json();
        assert_streamed(&outcome);
        assert!(!notes(&outcome).contains(&"not-streamed"), "{outcome}");
        let status = status(&streamed.0);
        assert!(status["bytes-here"].as_u64() < status["bytes"].as_u64(), "{status}");
        streamed
    }
}

fn remotes(machine: &Machine, names: String) -> Remotes {
    let key = key(machine, "ours-1");
    Remotes { names, secret: key.secret, public: key.public }
}

fn assert_whole_and_detach(streamed: &Streamed) {
    streamed.0.assert_verifies();
    assert_eq!(status(&streamed.0)["lost"], serde_json::json!({}));
    detach_cleanly(&streamed.0);
    assert_no_stream(&streamed.0);
}

#[test]
fn an_object_store_is_streamed_from_and_its_keys_are_in_no_place_that_others_read() {
    let Some(server) = moto::server() else { return };
    let Some(service) = Service::new() else { return };
    let bucket = moto::bucket(server);
    let remotes = remotes(&service.machine, format!("s3://{bucket}/ci?endpoint=http://{server}"));
    let saved = service.machine.store("of-bucket");
    add(&saved, "one", 20);
    remotes.save(&service, &saved);
    let streamed = remotes.streamed(&service, "streamed");
    let pid = status(&streamed.0)["pid"].as_u64().unwrap();
    let parent = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let guard = parent.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().to_owned();
    for process in [pid.to_string(), guard] {
        for place in ["environ", "cmdline"] {
            let text = fs::read(format!("/proc/{process}/{place}")).unwrap();
            assert!(!String::from_utf8_lossy(&text).contains(moto::KEYS[1].1), "the key is in {place}");
        }
    }
    super::control::kill_worker(&streamed.0);
    assert_whole_and_detach(&streamed);
}

/// A snapshot in the main remote names layers of both.
#[test]
fn layers_come_from_whichever_remote_has_them() {
    let Some(server) = moto::server() else { return };
    let Some(service) = Service::new() else { return };
    let bucket = format!("s3://{}/ci?endpoint=http://{server}", moto::bucket(server));
    let saved = service.machine.store("of-both");
    add(&saved, "one", 12);
    let alone = remotes(&service.machine, bucket.clone());
    alone.save(&service, &saved);
    let both = format!("dir:{}\n{bucket} read-only", service.machine.path("main").display());
    let both = Remotes { names: both, ..alone };
    let second = service.machine.store("second");
    let restored = Run::of(both.command(&service, &second, "restore", &["--restore-mode", "unpack"])).json();
    assert_eq!(restored["hit"], "exact", "{restored}");
    // Small enough for a layer of its own.
    add(&second, "two", 3);
    both.save(&service, &second);
    let streamed = both.streamed(&service, "streamed");
    assert_eq!(status(&streamed.0)["layers"], 2);
    assert_eq!(streamed.0.valid(), second.valid());
    assert_whole_and_detach(&streamed);
}

/// The other remote is asked when the first one has lost an entry while the job runs.
#[test]
fn a_layer_that_one_remote_loses_is_read_from_another() {
    let Some(service) = Service::new() else { return };
    let [first, second] = ["first", "second"].map(|name| service.machine.path(name));
    let saved = service.machine.store("of-first");
    add(&saved, "one", 20);
    saved.save(&first, KEY, &[]);
    crate::support::cache::copy(&first, &second);
    let names = format!("dir:{}\ndir:{} read-only", first.display(), second.display());
    let streamed = Streamed(service.machine.store("streamed"));
    let mut command = streamed.0.machine.nix_cache(&["restore", "--format", "json", "--primary-key", KEY]);
    command.args(["--remote", &names]).arg("--store-root").arg(&streamed.0.root).args(STREAM);
    command.env("NIX_CACHE_TUNING", QUICK);
    assert_streamed(&Run::of(command).json());
    fs::remove_dir_all(first.join("layer")).unwrap();
    assert_whole_and_detach(&streamed);
}
