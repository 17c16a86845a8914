//! `nix-cache push`.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;

use super::args::{Format, OutputArgs, SigningArgs, StoreArgs};
use super::verbs::{keys, threads};
use crate::app::Failure;
use crate::app::print::{print, print_json};
use crate::app::push::{Push, push as carry_out};
use crate::app::settings::{PushArgs, sinks, store_path};
use crate::base::human;
use crate::push::PushOutcome;
use crate::store::StoreDirs;

#[derive(Debug, Args)]
pub(super) struct PushCommand {
    #[command(flatten)]
    push: PushArgs,
    /// Store paths to push with everything that they refer to, or links to them, such as `result` [default: what was built since
    /// the last restore]
    #[arg(value_name = "STORE-PATH")]
    store_paths: Vec<String>,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    signing: SigningArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Pushes and prints the result; what could not be pushed is a failure.
pub(super) async fn push(command: &PushCommand) -> Result<(), Failure> {
    let paths = command.store_paths.iter().map(|text| store_path(text, Path::new(""))).collect::<Result<_, _>>()?;
    let outcome = carry_out(Push {
        dirs: StoreDirs::new(command.store.root.store_root.as_deref()),
        keys: keys(command.signing.signing_key_file.as_deref(), &command.signing.trust)?,
        sinks: sinks(&command.push.to)?,
        paths,
        threads: threads(&command.store),
        temporary: std::env::temp_dir(),
        deadline: command.push.push_timeout.map(|limit| Instant::now() + limit),
        pushed: Arc::default(),
        early: None,
    })
    .await?;
    match command.output.format {
        Format::Json => print_json(&outcome)?,
        Format::Text => print(&describe(&outcome)),
    }
    if outcome.is_complete() {
        Ok(())
    } else {
        Err(Failure::work("Not everything was pushed; see the warnings above."))
    }
}

fn describe(outcome: &PushOutcome) -> String {
    match outcome.paths_considered {
        // The warnings say why.
        0 if !outcome.is_complete() => String::new(),
        0 => "Nothing to push.\n".to_owned(),
        count => {
            let (all, upstream) = (human::count(count, "path"), outcome.paths_upstream);
            let sentences = outcome.sentences().join("\n");
            format!(
                "{all} to push, with everything that they refer to; a substituter has {upstream} of them.\n{sentences}\n"
            )
        }
    }
}
