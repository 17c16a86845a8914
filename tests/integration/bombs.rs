//! Memory and disk use stay bounded for any input. The figures are those of the real program, which logs its peak memory.

mod answers;
mod archives;
mod many;
mod room;
pub(crate) mod snapshots;
mod together;

use std::process::Command;

use crate::support::program::Run;

/// What the program may take of memory at most, in KiB.
const MOST: u64 = 256 << 10;

/// Runs `command` and gives what came of it, with the most memory it had in use, in KiB.
fn measured(mut command: Command) -> (Run, u64) {
    command.env("NIX_CACHE_LOG", "nix_cache=debug");
    let run = Run::of(command);
    let said = run.log.lines().filter_map(|line| line.split_once("Peak memory use: ")?.1.split_once(' '));
    let memory = said.filter_map(|(number, _)| number.parse().ok()).max();
    let memory = memory.unwrap_or_else(|| panic!("it does not end by itself: {run:?}"));
    println!("{memory} KiB");
    (run, memory)
}
