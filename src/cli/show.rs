//! `nix-cache key`, and how every command computes its key.

use super::args::{Format, KeyCommand, ProjectArgs};
use crate::app::Failure;
use crate::app::print::{print, print_json};
use crate::flake::{Key, KeyRequest, current_system, key as make_key};

/// Prints the key.
pub(super) fn key(command: &KeyCommand) -> Result<(), Failure> {
    let key = of(&command.project)?;
    match command.output.format {
        Format::Json => print_json(&key),
        Format::Text => {
            print(&key.describe());
            Ok(())
        }
    }
}

/// Returns the key that the arguments describe.
pub(super) fn of(args: &ProjectArgs) -> Result<Key, Failure> {
    make_key(&request(args)).map_err(Failure::usage)
}

/// Returns what the key of these arguments is computed from.
pub(super) fn request(args: &ProjectArgs) -> KeyRequest {
    args.key.request(&args.project, &args.system)
}

/// Returns the system that the arguments name, or that of this machine.
pub(super) fn system(args: &ProjectArgs) -> String {
    if args.system.is_empty() { current_system() } else { args.system.clone() }
}
