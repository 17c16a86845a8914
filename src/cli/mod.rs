//! The command line: parses the arguments, sets up the process and runs the command.

mod args;
mod audit;
mod build;
mod comment;
mod dashboard;
mod feeds;
mod history;
mod init;
mod inspect;
mod logging;
mod plan;
mod plan_args;
mod prune;
mod push;
#[cfg(test)]
mod settings_test;
mod show;
mod stream;
mod verbs;
mod warm;

use std::process::ExitCode;

use clap::Parser;

use crate::action;
use crate::app::Failure;
use crate::base::{printing, process, secrets};
use args::{Cli, Command, StreamCommand, StreamPart};

/// Runs the program with the arguments of this process. Exit codes: 0 success, misses included; 1 the work failed, or a
/// requested condition does not hold; 2 invalid arguments or settings.
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
        // Builders can inspect their parent processes, so the secrets go before anything is built.
        Command::Build(_) | Command::Audit(_) => secrets::shed(),
        Command::Action(ref action)
            if matches!(action.step, action::Step::Build | action::Step::Audit | action::Step::Warm) =>
        {
            secrets::shed();
        }
        Command::Stream(StreamCommand { part: StreamPart::Worker, ref rights, .. }) => {
            if let [user, group] = rights[..]
                && let Err(error) = secrets::become_for_good(user, group)
            {
                tracing::error!("The worker cannot take the rights of user {user}: {error}.");
                return ExitCode::FAILURE;
            }
        }
        Command::Action(ref action) => {
            if let Err(why) = secrets::take_in() {
                tracing::warn!("{why}");
            }
            if matches!(action.step, action::Step::Checkpoints) {
                process::step_back();
            }
        }
        _ => {}
    }
    // Files in a store have fixed modes. Temporary files and folders must not depend on the caller's umask either.
    rustix::process::umask(rustix::fs::Mode::WGRP | rustix::fs::Mode::WOTH);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Command::Stream(_) = cli.command {
        // Each thread that compares and writes a chunk holds one.
        builder.worker_threads(2).max_blocking_threads(8);
    }
    let done = match builder.enable_all().build() {
        Ok(runtime) => {
            let done = runtime.block_on(dispatch(cli.command));
            // A save that was abandoned at its deadline may still be packing; do not wait for it.
            runtime.shutdown_background();
            done
        }
        Err(error) => Err(Failure::work(format!("Cannot start threads: {error}."))),
    };
    if let Some(memory) = most_memory() {
        tracing::debug!("Peak memory use: {memory} KiB.");
    }
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tracing::error!("{}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

/// The peak memory use of this process in KiB, as Linux counts it.
fn most_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Prints the text of clap: help or version if requested, otherwise what is wrong with the arguments.
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
        Command::Init(args) => init::init(&args).await,
        Command::Key(args) => show::key(&args),
        Command::Restore(args) => verbs::restore(&args).await,
        Command::Save(args) => verbs::save(&args).await,
        Command::Inspect(args) => inspect::inspect(&args).await,
        Command::History(args) => history::history(&args).await,
        Command::Comment(args) => comment::comment(&args).await,
        Command::Dashboard(args) => dashboard::dashboard(&args).await,
        Command::Verify(args) => verbs::verify(&args).await,
        Command::Build(args) => build::build(&args).await,
        Command::Detach(args) => verbs::detach(&args).await,
        Command::Plan(args) => plan::plan(&args).await,
        Command::Prune(args) => prune::prune(&args).await,
        Command::Warm(args) => warm::warm(&args).await,
        Command::Push(args) => push::push(&args).await,
        Command::Audit(args) => audit::audit(&args).await,
        Command::Feeds(args) => feeds::feeds(&args).await,
        Command::Action(command) => action::run(command.step).await,
        Command::Privileged => verbs::privileged().await,
        Command::Stream(command) => stream::stream(&command).await,
    }
}
