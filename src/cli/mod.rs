//! The command line. What was typed becomes what is meant here, and nowhere else.

mod args;
mod build;
mod inspect;
mod logging;
mod plan;
mod plan_args;
mod show;
mod verbs;

use std::process::ExitCode;

use clap::Parser;

use crate::action;
use crate::app::Failure;
use crate::base::{printing, secrets};
use args::{Cli, Command};

/// Runs the program with the arguments of this process. Exit codes: 0 done, a miss included; 1 the work failed, or a
/// condition was asked for that does not hold; 2 wrong arguments or settings.
#[must_use]
pub fn run() -> ExitCode {
    secrets::lock();
    printing::catch_panics();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(said) => return told(&said),
    };
    logging::start(&cli.logging);
    match cli.command {
        // What is built can look at the processes above it.
        Command::Build(_) => secrets::shed(),
        Command::Action(ref action) if matches!(action.step, action::Step::Build) => secrets::shed(),
        Command::Action(_) => {
            if let Err(why) = secrets::take_in() {
                tracing::warn!("{why}");
            }
        }
        _ => {}
    }
    // Files in a store have fixed modes; what is made on the way must not depend on who calls.
    rustix::process::umask(rustix::fs::Mode::WGRP | rustix::fs::Mode::WOTH);
    let done = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let done = runtime.block_on(dispatch(cli.command));
            // A save that was given up at its deadline may still be packing: nobody waits for that.
            runtime.shutdown_background();
            done
        }
        Err(error) => Err(Failure::work(format!("No threads can be started: {error}."))),
    };
    if let Some(memory) = most_memory() {
        tracing::debug!("The most memory in use at a time was {memory} KiB.");
    }
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tracing::error!("{}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

/// The most memory that this process had in use at a time, in KiB, as Linux counts it.
fn most_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Shows what clap says: help or a version that was asked for, or what is wrong with the arguments.
fn told(said: &clap::Error) -> ExitCode {
    let text = said.render().to_string();
    if said.use_stderr() {
        printing::err(&text);
    } else {
        printing::out(&text);
    }
    ExitCode::from(u8::try_from(said.exit_code()).unwrap_or(2))
}

async fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Key(args) => show::key(&args),
        Command::Restore(args) => verbs::restore(&args).await,
        Command::Save(args) => verbs::save(&args).await,
        Command::Inspect(args) => inspect::inspect(&args).await,
        Command::Verify(args) => verbs::verify(&args).await,
        Command::Build(args) => build::build(&args).await,
        Command::Detach(args) => verbs::detach(&args).await,
        Command::Plan(args) => plan::plan(&args).await,
        Command::Action(command) => action::run(command.step).await,
        Command::Privileged => verbs::privileged().await,
    }
}
