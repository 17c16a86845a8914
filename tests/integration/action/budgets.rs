//! Time limits of a step, whatever the service does, and the number of warnings about them.

use super::job::{Job, Step};
use super::place::Place;
use crate::support::fake::{Fake, FakeConfig, Fault, FaultName, Operation, RestPermission};
use crate::support::nix;

fn saved(place: &Place) -> Fake {
    let fake = Fake::start(FakeConfig::default());
    let first = place.job(&fake, "first", RestPermission::None);
    place.work(&first);
    assert_eq!(first.post().report["save"]["outcome"], "saved");
    fake
}

fn warnings(step: &Step) -> Vec<&str> {
    step.log.lines().filter(|line| line.starts_with("::warning")).collect()
}

fn job(place: &Place, fake: &Fake, name: &str, tuning: &str) -> Job {
    let mut job = place.job_unstarted(fake, name, RestPermission::None);
    job.set("NIX_CACHE_TUNING", tuning);
    job
}

#[test]
fn lookups_that_hang_cost_their_budget_and_one_warning_in_each_step() {
    let Some(nix) = nix::all().first() else { return };
    let place = Place::new(nix);
    let fake = saved(&place);
    let mut job = job(&place, &fake, "job", "lookup_budget=700,lookup_timeout=300,rpc_delay=10");
    // The further levels look up too.
    job.input("paths", "notes.txt");
    std::fs::write(job.workspace().join("notes.txt"), "text").unwrap();
    fake.fault(Fault::new(FaultName::Hang).on(Operation::Lookup));
    let main = job.restore();
    assert_eq!((main.code, warnings(&main).len()), (Some(0), 1), "{}", main.log);
    // What is wrong is told, not only that it took too long.
    assert!(main.log.contains("operation timed out"), "{}", main.log);
    let lookups = fake.stats().count(Operation::Lookup);
    assert!(lookups <= 12, "{lookups} lookups");
    place.work(&job);
    let post = job.post();
    assert_eq!((post.code, warnings(&post).len()), (Some(0), 1), "{}", post.log);
    fake.clear_faults();
    let later = place.job(&fake, "later", RestPermission::None);
    assert_eq!(later.store.valid(), place.paths, "what was saved before is there still");
}

#[test]
fn an_outage_at_the_first_call_is_told_once_and_the_post_step_saves() {
    let Some(nix) = nix::all().first() else { return };
    let place = Place::new(nix);
    let fake = Fake::start(FakeConfig::default());
    let everything = [Operation::Lookup, Operation::Create, Operation::Finalize];
    for (number, fault) in [
        Fault::new(FaultName::Error).status(503),
        Fault::new(FaultName::Drop),
        Fault::new(FaultName::Html),
        Fault::new(FaultName::Html).status(404),
        Fault::new(FaultName::Unauthorized),
        Fault::new(FaultName::Error).status(403),
    ]
    .into_iter()
    .enumerate()
    {
        let mut job = job(&place, &fake, &format!("job-{number}"), "rpc_delay=5");
        job.input("key", &format!("key-{number}"));
        for operation in everything {
            fake.fault(fault.clone().on(operation));
        }
        let main = job.restore();
        assert_eq!(main.code, Some(0), "{}", main.log);
        assert!(!warnings(&main).is_empty(), "{fault:?} is silent: {}", main.log);
        fake.clear_faults();
        place.work(&job);
        assert_eq!(job.post().report["save"]["outcome"], "saved", "{fault:?}");
    }
}

#[test]
fn no_configured_service_is_the_only_silent_case() {
    let Some(nix) = nix::all().first() else { return };
    let place = Place::new(nix);
    let fake = Fake::start(FakeConfig::default());
    let mut job = job(&place, &fake, "job", "");
    job.set("ACTIONS_RESULTS_URL", "");
    for step in [job.restore(), job.post()] {
        assert_eq!((step.code, warnings(&step).len()), (Some(0), 0), "{}", step.log);
    }
}

#[test]
fn a_restore_ends_at_its_limit_and_keeps_what_is_whole() {
    let Some(nix) = nix::all().first() else { return };
    let place = Place::new(nix);
    let fake = saved(&place);
    // A second layer, which is the one that does not come.
    let second = place.job(&fake, "second", RestPermission::None);
    second.store.build(&["one"]);
    assert_eq!(second.post().report["save"]["outcome"], "saved");
    for name in [FaultName::Stall, FaultName::Trickle] {
        // The snapshot comes, and the layers do not.
        let mut job = job(&place, &fake, &format!("{name:?}"), "stall=60000,slow_window=60000");
        job.input("restore-timeout", "3");
        job.input("eval-cache", "false");
        fake.fault(Fault::new(name).on(Operation::Download).after(1));
        let main = job.restore();
        assert_eq!(main.code, Some(0), "{}", main.log);
        assert!(main.notes().contains(&"restore-timeout"), "{:?}: {}", main.notes(), main.log);
        assert_eq!(warnings(&main).len(), 1, "{}", main.log);
        job.store.assert_sound();
        fake.clear_faults();
    }
    let later = place.job(&fake, "later", RestPermission::None);
    assert!(place.paths.is_subset(&later.store.valid()));
}
