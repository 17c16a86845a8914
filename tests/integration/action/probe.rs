//! The contract table against the fake, which must keep it, and against a fake that does not.

use super::job::Job;
use crate::support::fake::{Fake, FakeConfig, Fault, FaultName, Operation, RestPermission};
use crate::support::machine::Machine;
use crate::support::nix;

#[test]
fn the_fake_keeps_the_contract() {
    let Some(nix) = nix::all().first() else { return };
    let (machine, fake) = (Machine::new(nix), Fake::start(FakeConfig::default()));
    let job = Job::new(&machine, &fake, "probe", RestPermission::Read);
    let step = job.probe();
    assert_eq!(step.code, Some(0), "{}", step.log);
    assert!(!step.log.contains("DIFFERS"), "{}", step.log);
    assert!(step.log.matches("\n| ok |").count() >= 30, "{}", step.log);
    assert!(step.log.contains("| scopes in the token (1 read, 2 write) |  | refs/heads/main: 3 |"), "{}", step.log);
    let holds = |what: &str| {
        let line = step.log.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}: {}", step.log));
        let seconds = line.split('|').nth(4).unwrap().trim().split(' ').next().unwrap();
        seconds.parse::<i64>().unwrap_or_else(|_| panic!("{line}"))
    };
    assert!((3500..=3600).contains(&holds("time that an upload's address holds")));
    assert!((500..=600).contains(&holds("time that a download's address holds")));
    assert!(job.summary().contains("### The cache service"));
    // Nothing is in its way the second time, though every key of the first is taken.
    assert_eq!(job.probe().code, Some(0));
}

#[test]
fn a_service_that_does_something_else_is_told() {
    let Some(nix) = nix::all().first() else { return };
    let machine = Machine::new(nix);
    let cases = [
        ("ranges", Fault::new(FaultName::IgnoreRange), "| **DIFFERS** | a range |"),
        ("error", Fault::new(FaultName::Error).on(Operation::Finalize).status(500), "| **DIFFERS** | a finish |"),
    ];
    for (name, fault, row) in cases {
        let fake = Fake::start(FakeConfig::default());
        fake.fault(fault);
        let step = Job::new(&machine, &fake, name, RestPermission::Read).probe();
        assert_eq!(step.code, Some(1), "{name}: {}", step.log);
        assert!(step.log.contains(row), "{name}: {}", step.log);
    }
}

#[test]
fn without_a_service_it_says_so() {
    let Some(nix) = nix::all().first() else { return };
    let (machine, fake) = (Machine::new(nix), Fake::start(FakeConfig::default()));
    let mut job = Job::new(&machine, &fake, "none", RestPermission::Read);
    job.set("ACTIONS_RESULTS_URL", "");
    let step = job.probe();
    assert_eq!(step.code, Some(1));
    assert!(step.log.contains("ACTIONS_RESULTS_URL is not set"), "{}", step.log);
}
