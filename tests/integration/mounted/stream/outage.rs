//! A service that is away, refuses, or has lost what it has, for a while: reads wait, and none fails.
//!
//! `NIX_CACHE_TEST_OUTAGE` is the length of an outage of the network in seconds, which then has the delays of every job.

use std::process::{Child, Stdio};

use super::faults::{QUICK, Service};
use super::*;
use crate::support::fake::{Fault, FaultName, Operation};

/// Reads this many files, all at once, in processes that end well only if every byte arrives.
pub(super) fn readers(store: &TestStore, files: std::ops::Range<u64>) -> Vec<Child> {
    let one = store.dirs().real(&path_named(store, "one"));
    let original = store.machine.path("one-source/one");
    let compare = |number| {
        let name = format!("file-{number}");
        let mut command = Command::new("cmp");
        command.arg(one.join(&name)).arg(original.join(&name)).stdout(Stdio::null()).spawn().unwrap()
    };
    files.map(compare).collect()
}

/// Reads some files of which no byte comes.
pub(super) fn waiting_readers(service: &Service, store: &TestStore) -> Vec<Child> {
    service.fake.fault(Fault::new(FaultName::Hang).on(Operation::Download));
    let readers = readers(store, 8..12);
    wait_for("reads that wait", || status(store)["waiting"].as_u64() > Some(0));
    readers
}

pub(super) fn assert_all_read(readers: Vec<Child>) {
    for reader in readers {
        let output = reader.wait_with_output().unwrap();
        assert!(output.status.success(), "a read failed or was wrong: {output:?}");
    }
}

pub(super) fn assert_nothing_lost(streamed: &Streamed) {
    let status = status(&streamed.0);
    assert_eq!(status["lost"], serde_json::json!({}), "{status}");
    detach_cleanly(&streamed.0);
    assert_no_stream(&streamed.0);
}

#[test]
fn an_outage_of_the_network_costs_only_time() {
    let Some(service) = Service::new() else { return };
    let campaign = std::env::var("NIX_CACHE_TEST_OUTAGE").ok().and_then(|text| text.parse().ok());
    let tuning = if campaign.is_some() { "stream_fill=600000" } else { QUICK };
    // No byte comes; or every connection is reset.
    for fault in [FaultName::Hang, FaultName::Drop] {
        let streamed = service.streamed_with(tuning);
        service.fake.fault(Fault::new(fault).on(Operation::Download));
        service.fake.fault(Fault::new(fault).on(Operation::Lookup));
        let mut verify = streamed.0.command("nix-store");
        let verify = verify.args(["--verify", "--check-contents"]).stderr(Stdio::piped()).spawn().unwrap();
        let readers = readers(&streamed.0, 5..9);
        std::thread::sleep(Duration::from_secs(campaign.unwrap_or(3)));
        let during = status(&streamed.0);
        service.fake.clear_faults();
        assert!(during["waiting"].as_u64() > Some(0), "{during}");
        let output = verify.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", both(&output));
        assert_all_read(readers);
        let after = status(&streamed.0);
        println!("{fault:?}: {} retries", after["retries"]);
        assert_nothing_lost(&streamed);
    }
}

/// A process that reads as long as the job runs must not remember an answer that passes.
#[test]
fn lookups_that_are_refused_for_a_while_cost_only_time() {
    let Some(service) = Service::new() else { return };
    let streamed = service.streamed_with("stall=300,blob_delay=20,rpc_delay=20,stream_fill=600000");
    // Addresses do not work, and there are no others for now.
    service.fake.fault(Fault::new(FaultName::ExpiredUrl).on(Operation::Download));
    let on_lookups = |name| Fault::new(name).on(Operation::Lookup).times(2);
    let refusals = [
        // The first calls of a worker, with all their retries.
        on_lookups(FaultName::Error).status(503).times(10),
        on_lookups(FaultName::Unauthorized),
        on_lookups(FaultName::BadRoute),
        on_lookups(FaultName::ReadDenied),
        on_lookups(FaultName::Error).status(403),
        // As if the entry were evicted.
        on_lookups(FaultName::NotFound).times(8),
        on_lookups(FaultName::Html).status(404),
    ];
    let count: u64 = refusals.iter().filter_map(|fault| fault.times).sum();
    for refusal in refusals {
        service.fake.fault(refusal);
    }
    let before = service.fake.stats().count(Operation::Lookup);
    let readers = readers(&streamed.0, 6..9);
    let over = becomes(|| service.fake.stats().count(Operation::Lookup) >= before + count);
    service.fake.clear_faults();
    assert!(over, "{:?}", service.fake.stats());
    assert_all_read(readers);
    assert_nothing_lost(&streamed);
}

#[test]
fn bytes_that_are_wrong_for_a_while_cost_only_time() {
    let Some(service) = Service::new() else { return };
    let streamed = service.streamed_with("stall=300,blob_delay=20,rpc_delay=20,stream_fill=600000");
    service.fake.fault(Fault::new(FaultName::Corrupt).on(Operation::Download).bytes(77));
    let readers = readers(&streamed.0, 8..9);
    // More than what is a doubt about the entry.
    let many = becomes(|| service.fake.stats().struck(FaultName::Corrupt) >= 10);
    service.fake.clear_faults();
    assert!(many, "{:?}", service.fake.stats());
    assert_all_read(readers);
    assert_nothing_lost(&streamed);
}

/// Every chunk would be a download of the whole entry.
#[test]
fn a_service_that_ignores_ranges_is_not_streamed_from() {
    let Some(service) = Service::new() else { return };
    let streamed = Streamed(service.store());
    service.fake.fault(Fault::new(FaultName::IgnoreRange).on(Operation::Download));
    let outcome = Run::of(service.verb(&streamed.0, "restore", &STREAM)).json();
    assert_eq!((&outcome["mode"], &outcome["hit"]), (&"mount".into(), &"exact".into()), "{outcome}");
    let note = outcome["notes"].as_array().unwrap().iter().find(|note| note["code"] == "not-streamed");
    assert!(note.is_some_and(|note| note.to_string().contains("whole entries")), "{outcome}");
    assert_no_stream(&streamed.0);
    detach_cleanly(&streamed.0);
}

/// It is then as lost as for a download: a smaller hit.
#[test]
fn an_entry_that_is_evicted_between_its_lookup_and_its_first_read_is_a_miss() {
    let Some(service) = Service::new() else { return };
    let streamed = Streamed(service.store());
    // The first lookup is that of the snapshot.
    service.fake.fault(Fault::new(FaultName::Vanish).on(Operation::Lookup).after(1));
    let outcome = Run::of(service.verb(&streamed.0, "restore", &STREAM)).json();
    assert_eq!((&outcome["hit"], &outcome["paths-restored"]), (&"miss".into(), &0.into()), "{outcome}");
    assert_no_stream(&streamed.0);
    assert!(streamed.0.valid().is_empty());
    assert_eq!(mounts_of(&streamed.0), Vec::<PathBuf>::new());
}
