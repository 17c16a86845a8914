//! Mutated input of every kind: nothing panics, hangs or takes much memory, and each error names the thing that is wrong.
//!
//! Each test starts itself again as a process of its own, whose memory counts. Mutations are aware of the structure: they change JSON
//! after it was unpacked, and digests are made to fit again, so that what is behind them is reached. The seed is fixed;
//! `NIX_CACHE_TEST_FUZZ` is how many inputs of each kind are made, and `NIX_CACHE_TEST_SEED` another seed.

mod archives;
mod locks;
mod mutate;
mod records;
mod snapshots;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use self::mutate::Mutator;

/// So many inputs of each kind by default: together a few seconds.
const INPUTS: u64 = 200;
/// What a process that reads them may take of memory, in KiB.
const MOST: u64 = 256 << 10;
const CHILD: &str = "NIX_CACHE_TEST_FUZZ_CHILD";

/// Runs `try_one` for each input in a process of its own: the test `name` once more. `try_one` says what is wrong with what came of
/// an input, if anything is.
fn fuzz(name: &str, try_one: impl Fn(&mut Mutator) -> Result<(), String>) {
    let count = std::env::var("NIX_CACHE_TEST_FUZZ").ok().and_then(|text| text.parse().ok()).unwrap_or(INPUTS);
    let seed: u64 = std::env::var("NIX_CACHE_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(11);
    if std::env::var_os(CHILD).is_none() {
        let test = std::env::current_exe().unwrap();
        let mut command = Command::new("timeout");
        command.args(["900", &test.display().to_string(), name, "--exact", "--nocapture"]).env(CHILD, "1");
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains(&format!("{count} inputs")), "the test is called otherwise: {said}");
        return;
    }
    let mut accepted = 0;
    for number in 0..count {
        let mut mutator = Mutator::new(seed.wrapping_mul(1 << 32).wrapping_add(number));
        match catch_unwind(AssertUnwindSafe(|| try_one(&mut mutator))) {
            Ok(Ok(())) => accepted += 1,
            Ok(Err(why)) => panic!("input {number} of seed {seed}: {why}"),
            Err(cause) => panic!("input {number} of seed {seed} panics: {cause:?}"),
        }
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")).unwrap();
    println!("{name}: {count} inputs, {accepted} without a fault, {peak} KiB");
    assert!(peak.parse::<u64>().unwrap() < MOST, "{peak} KiB");
}

/// Whether an error is a sentence that names `thing`, and not the input itself.
fn names(error: &str, things: &[&str]) -> Result<(), String> {
    let is_named = things.iter().any(|thing| error.contains(thing));
    if is_named && error.len() < 2000 { Ok(()) } else { Err(format!("the error is {error:?}")) }
}
