//! Unreadable does not mean absent: whatever the cache answers to one job, the next one finds what earlier jobs saved.

use std::collections::BTreeSet;

use nix_cache::store::StorePath;

use super::job::Job;
use super::place::Place;
use crate::support::fake::{Fake, FakeConfig, Fault, FaultName, Operation, RestPermission};
use crate::support::nix;

/// Short waits, for faults that last.
const QUICK: &str = "rpc_delay=20,blob_delay=5,stall=300,slow_window=300,finalize_delay=50";

fn job(place: &Place, fake: &Fake, name: &str) -> Job {
    let mut job = place.job_unstarted(fake, name, RestPermission::None);
    job.set("NIX_CACHE_TUNING", QUICK);
    // The levels have tests of their own.
    job.input("eval-cache", "false");
    job
}

/// A cache with what one job made.
fn saved(place: &Place) -> Fake {
    let fake = Fake::start(FakeConfig::default());
    let first = job(place, &fake, "first");
    first.restore();
    place.work(&first);
    assert_eq!(first.post().report["save"]["outcome"], "saved");
    fake
}

/// What a job that meets no trouble finds.
fn found(place: &Place, fake: &Fake, name: &str) -> (BTreeSet<StorePath>, String) {
    fake.clear_faults();
    let later = job(place, fake, name);
    let step = later.restore();
    assert_eq!(step.code, Some(0), "{}", step.log);
    later.store.assert_sound();
    (later.store.valid(), step.log)
}

/// All the ways in which downloads fail while lookups and uploads work.
fn unreadable() -> Vec<Fault> {
    let error = |status| Fault::new(FaultName::Error).on(Operation::Download).status(status);
    vec![
        error(503),
        error(429),
        error(403),
        error(404),
        error(416),
        Fault::new(FaultName::Html).on(Operation::Download),
        Fault::new(FaultName::Cut).bytes(10),
        Fault::new(FaultName::Stall).bytes(10),
        Fault::new(FaultName::Truncate).bytes(100),
        Fault::new(FaultName::Trickle),
        Fault::new(FaultName::Shift),
        Fault::new(FaultName::Corrupt).bytes(40),
        Fault::new(FaultName::Corrupt).bytes(300),
        Fault::new(FaultName::Corrupt).bytes(5000),
        Fault::new(FaultName::Corrupt).bytes(5000).every(2),
    ]
}

#[test]
fn a_generation_that_cannot_be_read_is_not_superseded() {
    let Some(nix) = nix::all().first() else { return };
    let place = Place::new(nix);
    for (number, fault) in unreadable().into_iter().enumerate() {
        let fake = saved(&place);
        let case = format!("{number}: {fault:?}");
        // It finds nothing, and makes little.
        let job = job(&place, &fake, &format!("job-{number}"));
        fake.fault(fault.clone());
        assert_eq!(job.restore().code, Some(0), "{case}");
        fake.clear_faults();
        job.store.build(&["one"]);
        let made = job.store.valid();
        fake.fault(fault);
        let post = job.post();
        assert_eq!(post.code, Some(0), "{case}: {}", post.log);
        let (found, log) = found(&place, &fake, &format!("later-{number}"));
        assert!(place.paths.is_subset(&found), "{case}: {} of {}: {log}{}", found.len(), place.paths.len(), post.log);
        if post.report["save"]["outcome"] == "saved" {
            assert!(made.is_subset(&found), "{case}: {log}{}", post.log);
        }
    }
}

#[test]
fn what_an_unread_generation_holds_is_not_sent_again() {
    let Some(nix) = nix::all().first() else { return };
    let place = Place::new(nix);
    let fake = saved(&place);
    let job = job(&place, &fake, "job");
    assert_eq!(job.restore().report["key"]["hit"], "exact");
    job.store.build(&["one"]);
    let made = &job.store.valid() - &place.paths;
    fake.fault(Fault::new(FaultName::Error).on(Operation::Download).status(503));
    let post = job.post();
    assert_eq!(post.report["save"]["outcome"], "saved", "{}", post.log);
    let new = post.report["levels"][0]["saved"].as_u64().unwrap();
    assert_eq!(new, made.len() as u64, "{}", post.log);
    let (found, log) = found(&place, &fake, "later");
    assert_eq!(found, &place.paths | &made, "{log}");
    // The next save joins both for good.
    let next = super::truth::job(&place, &fake, "next");
    next.restore();
    next.store.build(&["onTop"]);
    assert_eq!(next.post().report["save"]["outcome"], "saved");
    let before = fake.stats().count(Operation::Lookup);
    let (found, _) = super::truth::found(&place, &fake, "last");
    assert!(place.paths.is_subset(&found) && made.is_subset(&found));
    assert!(fake.stats().count(Operation::Lookup) - before <= 4, "no generation is left to be read");
}

#[test]
fn a_layer_that_is_gone_is_stored_again_by_a_job_that_did_not_fetch_it() {
    let Some(nix) = nix::all().first() else { return };
    let place = Place::new(nix);
    let fake = saved(&place);
    // A runner whose store outlives the job: it has everything, and fetches nothing.
    let job = job(&place, &fake, "job");
    place.work(&job);
    job.restore();
    // The lookup of the generation passes, the one of the layer evicts it.
    fake.fault(Fault::new(FaultName::Vanish).after(1).times(1));
    let evicting = super::truth::job(&place, &fake, "evicting");
    evicting.restore();
    assert_eq!(fake.stats().struck(FaultName::Vanish), 1);
    fake.clear_faults();
    let post = job.post();
    assert_eq!(post.report["save"]["outcome"], "saved", "{}", post.log);
    assert!(post.notes().contains(&"entries-lost"), "{}", post.log);
    let (found, log) = found(&place, &fake, "later");
    assert_eq!(found, place.paths, "{log}");
    // And once it is whole, nothing is written any more.
    let again = super::truth::job(&place, &fake, "again");
    again.restore();
    assert_eq!(again.post().report["save"]["reason"], "nothing-new");
}
