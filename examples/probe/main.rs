//! Asks the real cache service everything that `nix-cache` takes for granted, and prints the answers beside what is expected.
//!
//! `cargo run --example probe`
//!
//! It finds the service in the variables that the runner sets for actions, which is why `.github/workflows/probe.yml` starts it
//! from one. On a developer's machine, `cargo run --example dev-server` prints the variables of a fake service. The exit code
//! is 1 when an answer is not the expected one, or when there is no service to ask.

#![allow(clippy::disallowed_macros, reason = "a program of its own, for developers")]

mod contract;

use std::fs::OpenOptions;
use std::io::Write;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let variable = |name: &str| std::env::var(name).ok();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("Cannot start: {error}."))?;
    let table = runtime.block_on(contract::probe(variable, &nonce(variable)))?;
    println!("{}", table.markdown());
    if let Some(file) = variable("GITHUB_STEP_SUMMARY").filter(|file| !file.is_empty()) {
        let summary = format!("### The cache service\n\n{}\n", table.markdown());
        let opened = OpenOptions::new().append(true).create(true).open(&file);
        if let Err(error) = opened.and_then(|mut file| file.write_all(summary.as_bytes())) {
            eprintln!("warning: Cannot write the job summary {file}: {error}.");
        }
    }
    table.conclude()
}

/// What makes the keys of this run of the prober new. Outside of a workflow, the clock and the process tell two runs apart.
fn nonce(variable: impl Fn(&str) -> Option<String>) -> String {
    let [run, attempt] =
        ["GITHUB_RUN_ID", "GITHUB_RUN_ATTEMPT"].map(|name| variable(name).unwrap_or_else(|| "0".to_owned()));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since_1970| since_1970.as_secs());
    format!("{run}-{attempt}-{now}-{}", std::process::id())
}
