//! A store of which bytes are still missing: what Nix does with it, a detach, and a worker that stands still.

use super::faults::Service;
use super::outage::{assert_all_read, assert_nothing_lost, readers, waiting_readers};
use super::*;
use crate::support::fake::{Fault, FaultName, Operation};

#[test]
fn a_store_is_collected_optimised_and_verified_before_all_of_it_is_here() {
    let Some(service) = Service::new() else { return };
    let saved = service.machine.store("saved");
    add(&saved, "two", 10);
    assert!(Run::of(service.verb(&saved, "save", &[])).json()["saved"].is_object());
    // Bytes a second of each connection.
    service.fake.fault(Fault::new(FaultName::Trickle).on(Operation::Download).bytes(400_000));
    let streamed = service.streamed_with("stall=300,blob_delay=20,rpc_delay=20");
    let store = &streamed.0;
    let one = full(&path_named(store, "one"));
    store.nix_store(&["--add-root", service.machine.path("root").to_str().unwrap(), "--realise", &one]);
    store.nix_store(&["--gc"]);
    let names = || store.valid().iter().map(|path| path.name().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(), ["one"]);
    let (collected, all) = arrived(store);
    assert!(collected + (8 << 20) < all, "{collected} of {all} bytes were here");
    let tool = |option: &[&str]| store.command("nix-store").args(option).spawn().unwrap();
    let tools = [tool(&["--optimise"]), tool(&["--verify", "--check-contents"])];
    wait_for("the arrival of more", || arrived(store).0 > collected);
    let (during, _) = arrived(store);
    assert!(during < all, "{during} of {all} bytes were here");
    service.fake.clear_faults();
    for mut tool in tools {
        assert!(tool.wait().unwrap().success());
    }
    assert_eq!(names(), ["one"]);
    store.assert_verifies();
    assert_nothing_lost(&streamed);
}

#[test]
fn a_worker_that_stands_still_for_a_while_costs_only_time() {
    let Some(service) = Service::new() else { return };
    let streamed = service.streamed();
    let stopped = worker(&streamed.0);
    kill_process(stopped, Signal::STOP).unwrap();
    let mut readers = readers(&streamed.0, 5..9);
    std::thread::sleep(Duration::from_secs(5));
    assert!(readers.iter_mut().all(|reader| reader.try_wait().unwrap().is_none()), "nobody serves them");
    kill_process(stopped, Signal::CONT).unwrap();
    assert_all_read(readers);
    assert_eq!(worker(&streamed.0), stopped);
    assert_nothing_lost(&streamed);
}

#[test]
fn a_stream_is_not_detached_below_readers_that_wait() {
    let Some(service) = Service::new() else { return };
    let streamed = service.streamed();
    let store = &streamed.0;
    let mut readers = waiting_readers(&service, store);
    let refused = run_detach(store);
    assert!(refused.code == Some(1) && refused.log.contains("the store is in use"), "{refused:?}");
    assert!(readers.iter_mut().all(|reader| reader.try_wait().unwrap().is_none()), "their bytes are missing");
    service.fake.clear_faults();
    assert_all_read(readers);
    store.assert_verifies();
    assert_nothing_lost(&streamed);
}
