//! Processes of a stream that are killed while a job reads.

use std::process::Stdio;

use super::control::kill_worker;
use super::faults::{QUICK, Service};
use super::outage::{assert_all_read, assert_nothing_lost, readers, waiting_readers};
use super::*;
use crate::kill::kills;
use crate::support::fake::{Fault, FaultName, Operation};
use crate::support::random::Random;

/// Reads a whole store while its workers are killed.
fn killed_often(service: &Service, tuning: &str) {
    let times = kills();
    // 50 of the 80 with which the tests are run, and always more than half.
    let least = (times * 5 / 8).max(times / 2 + 1);
    let streamed = service.streamed_with(tuning);
    let store = &streamed.0;
    // Slow enough for kills to hit reads, however many there are.
    let speed = 12_000_000 / (times / 10).max(1);
    service.fake.fault(Fault::new(FaultName::Trickle).on(Operation::Download).bytes(speed / 4));
    let mut verify = store.command("nix-store");
    let verify = verify.args(["--verify", "--check-contents"]).stderr(Stdio::piped()).spawn().unwrap();
    let (mut killed, mut random) = (BTreeSet::new(), Random::new());
    for turn in 0..4 * times {
        if turn >= times && killed.len() as u64 >= least {
            break;
        }
        std::thread::sleep(Duration::from_millis(20 + random.below(80)));
        let worker = worker(store);
        // It may still be the one that was killed last.
        if killed.insert(worker.as_raw_nonzero()) {
            kill_process(worker, Signal::KILL).unwrap();
        }
    }
    service.fake.clear_faults();
    let output = verify.wait_with_output().unwrap();
    assert!(output.status.success() && killed.len() as u64 >= least, "{killed:?} {}", both(&output));
    store.assert_verifies();
    assert_nothing_lost(&streamed);
}

#[test]
fn a_worker_that_is_killed_again_and_again_costs_no_read() {
    let Some(service) = Service::new() else { return };
    killed_often(&service, QUICK);
}

/// As on Linux before 6.9, where the kernel sends no request again: the next worker knows them from its table.
#[test]
fn a_killed_worker_costs_no_read_where_the_kernel_sends_nothing_again() {
    let Some(service) = Service::new() else { return };
    let tuning = format!("{QUICK},stream_resend=0");
    killed_often(&service, &tuning);
    // All of these wait for a worker that dies.
    let streamed = service.streamed_with(&tuning);
    let store = &streamed.0;
    let readers = waiting_readers(&service, store);
    kill_worker(store);
    assert!(status(store)["waiting"].as_u64() > Some(0), "{}", status(store));
    service.fake.clear_faults();
    assert_all_read(readers);
    assert_nothing_lost(&streamed);
}

/// Nothing starts a worker again then, but the one that is there goes on.
#[test]
fn a_guard_that_is_killed_costs_no_read() {
    let Some(service) = Service::new() else { return };
    let streamed = service.streamed();
    let store = &streamed.0;
    let goes_on = worker(store);
    let said = fs::read_to_string(format!("/proc/{}/status", goes_on.as_raw_nonzero())).unwrap();
    let guard = said.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim();
    let named = fs::read(format!("/proc/{guard}/cmdline")).unwrap();
    assert!(named.ends_with(b"\0stream\0guard\0"), "{}", String::from_utf8_lossy(&named));
    kill_process(Pid::from_raw(guard.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
    wait_for("its end", || !Path::new(&format!("/proc/{guard}/fd/0")).exists());
    // The worker has something to say, and nobody who relays it.
    service.fake.fault(Fault::new(FaultName::Drop).on(Operation::Download).times(3));
    service.fake.fault(Fault::new(FaultName::Corrupt).on(Operation::Download).bytes(77).times(3));
    assert_all_read(readers(store, 5..9));
    assert!(service.fake.stats().struck(FaultName::Corrupt) > 0);
    store.assert_verifies();
    assert_eq!(worker(store), goes_on);
    assert_nothing_lost(&streamed);
}
