//! The prober of the cache service against the fake, which must keep the contract, and against fakes that do not.

use std::future::Future;

use crate::support::fake::{Fake, FakeConfig, Fault, FaultName, Operation};

#[path = "../../examples/probe/contract/mod.rs"]
mod contract;

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// The table for this fake, and whether everything in it is as expected.
fn probe(fake: &Fake, nonce: &str) -> (String, Result<(), String>) {
    let variables = fake.env();
    let variable = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let table = wait(contract::probe(variable, nonce)).unwrap();
    let text = table.markdown();
    assert!(!text.contains(&variable("ACTIONS_RUNTIME_TOKEN").unwrap()), "{text}");
    assert!(!text.contains("sig=") || text.contains("sig=***"), "{text}");
    (text, table.conclude())
}

#[test]
fn the_fake_keeps_the_contract() {
    let fake = Fake::start(FakeConfig::default());
    let (text, concluded) = probe(&fake, "1");
    assert_eq!(concluded, Ok(()), "{text}");
    assert!(!text.contains("DIFFERS"), "{text}");
    assert!(text.matches("\n| ok |").count() >= 30, "{text}");
    assert!(text.contains("| scopes in the token (1 read, 2 write) |  | refs/heads/main: 3 |"), "{text}");
    let holds = |what: &str| {
        let line = text.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}: {text}"));
        let seconds = line.split('|').nth(4).unwrap().trim().split(' ').next().unwrap();
        seconds.parse::<i64>().unwrap_or_else(|_| panic!("{line}"))
    };
    assert!((3500..=3600).contains(&holds("time that an upload's address holds")));
    assert!((500..=600).contains(&holds("time that a download's address holds")));
    // Another nonce finds nothing in its way, though every key of the first is taken; the same one does.
    assert_eq!(probe(&fake, "2").1, Ok(()));
    assert!(probe(&fake, "2").1.is_err());
}

#[test]
fn a_service_that_does_something_else_is_reported() {
    let cases = [
        (Fault::new(FaultName::IgnoreRange), "| **DIFFERS** | a range |"),
        (Fault::new(FaultName::Error).on(Operation::Finalize).status(500), "| **DIFFERS** | a finish |"),
    ];
    for (fault, row) in cases {
        let fake = Fake::start(FakeConfig::default());
        fake.fault(fault);
        let (text, concluded) = probe(&fake, "1");
        assert!(text.contains(row), "{text}");
        let message = concluded.unwrap_err();
        let rows = text.matches("**DIFFERS**").count();
        assert!(message.contains(&format!("in {rows} row")), "{message}: {text}");
    }
}

#[test]
fn without_a_service_it_says_so() {
    let fake = Fake::start(FakeConfig::default());
    let token = fake.env().into_iter().find(|(name, _)| name == "ACTIONS_RUNTIME_TOKEN").unwrap().1;
    let variable = |name: &str| (name == "ACTIONS_RUNTIME_TOKEN").then(|| token.clone());
    let message = wait(contract::probe(variable, "1")).err().unwrap();
    assert!(message.contains("ACTIONS_RESULTS_URL is not set"), "{message}");
}
