//! A service that misbehaves while a job reads.

use super::*;
use crate::support::cache::entries as cache_entries;
use crate::support::fake::{Fake, FakeConfig, Fault, FaultName, Operation};

/// Short waits; nothing is fetched but what is read.
pub(super) const QUICK: &str = "stall=300,blob_delay=20,rpc_delay=20,stream_give_up=300,stream_fill=600000";

/// A store with some 20 MiB in a fake service.
pub(super) struct Service {
    pub fake: Fake,
    pub machine: Machine,
}

impl Service {
    pub(super) fn store(&self) -> TestStore {
        self.machine.store("streamed")
    }

    pub(super) fn new() -> Option<Self> {
        let machine = Machine::new(nixes().last()?);
        let service = Self { fake: Fake::start(FakeConfig::default()), machine };
        let saved = service.machine.store("saved");
        add(&saved, "one", 20);
        let outcome = Run::of(service.verb(&saved, "save", &[])).json();
        assert!(outcome["saved"].is_object(), "{outcome}");
        Some(service)
    }

    pub(super) fn verb(&self, store: &TestStore, verb: &str, more: &[&str]) -> Command {
        self.tuned(store, verb, more, QUICK)
    }

    /// As [`Service::verb`], with other delays.
    pub(super) fn tuned(&self, store: &TestStore, verb: &str, more: &[&str], tuning: &str) -> Command {
        let arguments = [verb, "--format", "json", "--primary-key", KEY, "--remote", "github", "--threads", "2"];
        let mut command = store.machine.nix_cache(&arguments);
        command.arg("--store-root").arg(&store.root).args(more).envs(self.fake.env()).env("NIX_CACHE_TUNING", tuning);
        command
    }

    pub(super) fn streamed(&self) -> Streamed {
        self.streamed_with(QUICK)
    }

    pub(super) fn streamed_with(&self, tuning: &str) -> Streamed {
        let streamed = Streamed(self.store());
        assert_streamed(&Run::of(self.tuned(&streamed.0, "restore", &STREAM, tuning)).json());
        let status = status(&streamed.0);
        // The restore itself reads little.
        assert!(status["bytes-here"].as_u64().unwrap() + (16 << 20) < status["bytes"].as_u64().unwrap(), "{status}");
        streamed
    }

    /// Reads everything while a fault strikes.
    fn survives(&self, faults: &[Fault]) -> Value {
        let streamed = self.streamed();
        for fault in faults {
            self.fake.fault(fault.clone());
        }
        streamed.0.assert_verifies();
        self.fake.clear_faults();
        let status = status(&streamed.0);
        assert_eq!(status["lost"], serde_json::json!({}), "{status}");
        detach_cleanly(&streamed.0);
        assert_no_stream(&streamed.0);
        status
    }
}

#[test]
fn passing_faults_only_cost_time() {
    let Some(service) = Service::new() else { return };
    let on_downloads = |name| Fault::new(name).on(Operation::Download);
    let wrong = service.survives(&[
        on_downloads(FaultName::Corrupt).every(2).times(3),
        on_downloads(FaultName::ExpiredUrl).after(1).times(2),
    ]);
    assert!(wrong["retries"].as_u64() > Some(0), "{wrong}");
    service.survives(&[
        on_downloads(FaultName::Drop).times(8),
        on_downloads(FaultName::Hang).after(8).times(4),
        on_downloads(FaultName::Cut).bytes(100_000).times(4),
    ]);
    // Answers that are not what was asked for.
    let odd = service.survives(&[
        on_downloads(FaultName::Truncate).bytes(1000).times(3),
        on_downloads(FaultName::Shift).times(3),
        on_downloads(FaultName::Redirect).times(3),
        on_downloads(FaultName::IgnoreRange).times(2),
        on_downloads(FaultName::Error).status(416).times(3),
        on_downloads(FaultName::Stall).bytes(100_000).times(3),
    ]);
    assert!(odd["retries"].as_u64() > Some(0), "{odd}");
    // An outage that outlasts the retries of a read and of those ahead of it.
    let outage = service.survives(&[on_downloads(FaultName::Error).status(503).times(200)]);
    assert!(outage["retries"].as_u64() > Some(0), "{outage}");
}

/// A process that starts with the rights of a user can be inspected by that user until it forbids it, so a user who kills workers
/// would get at the token in the memory of one of the next.
#[test]
fn a_worker_has_the_rights_of_the_user_who_cannot_inspect_it() {
    let Some(service) = Service::new() else { return };
    let streamed = Streamed(service.machine.store("streamed"));
    let mut command = service.verb(&streamed.0, "restore", &STREAM);
    command.env("SUDO_UID", "65534").env("SUDO_GID", "65533");
    assert_streamed(&Run::of(command).json());
    let process = PathBuf::from(format!("/proc/{}", status(&streamed.0)["pid"]));
    let said = fs::read_to_string(process.join("status")).unwrap();
    let field = |name: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!((field("Uid:"), field("Gid:")), (vec!["65534".to_owned(); 4], vec!["65533".to_owned(); 4]));
    assert_eq!((field("Groups:"), field("CapEff:")), (vec![], vec!["0".repeat(16)]));
    assert_eq!(process.join("environ").metadata().unwrap().uid(), 0, "its user can inspect it");
    // It took the rights itself, so it has been like this from its start.
    let arguments = fs::read(process.join("cmdline")).unwrap();
    assert!(arguments.ends_with(b"\0stream\0worker\x0065534\x0065533\0"), "{}", String::from_utf8_lossy(&arguments));
    streamed.0.assert_verifies();
    detach_cleanly(&streamed.0);
    assert_no_stream(&streamed.0);
}

#[test]
fn without_tables_layers_are_downloaded() {
    let Some(service) = Service::new() else { return };
    let streamed = Streamed(service.machine.store("streamed"));
    service.fake.fault(Fault::new(FaultName::Hang).on(Operation::Download).after(1).times(60));
    let mut command = service.verb(&streamed.0, "restore", &[&STREAM[..], &["--restore-timeout", "4s"]].concat());
    command.env("NIX_CACHE_TUNING", format!("{QUICK},stream_patience=60000"));
    let outcome = Run::of(command).json();
    assert!(notes(&outcome).contains(&"not-streamed"), "{outcome}");
    assert_no_stream(&streamed.0);
}

#[test]
fn bytes_that_are_gone_for_good_fail_only_what_needs_them_and_are_reported() {
    let Some(nix) = nixes().last() else { return };
    let machine = Machine::new(nix);
    let (cache, saved) = (machine.path("cache"), machine.store("saved"));
    add(&saved, "one", 20);
    saved.save(&cache, KEY, &[]);
    let (streamed, outcome) = streamed(machine.store("streamed"), &cache, &[], QUICK);
    assert_streamed(&outcome);
    let store = &streamed.0;
    let [layer] = <[PathBuf; 1]>::try_from(cache_entries(&cache, "layer")).unwrap();
    let one = store.dirs().real(&path_named(store, "one"));
    fs::read(one.join("file-9")).unwrap();
    fs::rename(&layer, machine.path("aside")).unwrap();
    let read: Vec<bool> = (0..20).map(|number| fs::read(one.join(format!("file-{number}"))).is_ok()).collect();
    assert!(read.contains(&true) && read.contains(&false), "{read:?}");
    let lost = status(store);
    assert_eq!(lost["lost"].as_object().unwrap().len(), 1, "{lost}");
    add(store, "other", 1);
    let outcome = store.save(&cache, "tests-two", &[]);
    assert!(notes(&outcome).contains(&"layer-lost"), "{outcome}");
    detach_cleanly(store);
    assert_no_stream(store);
}
