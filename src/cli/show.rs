//! `nix-cache key`, and how every command computes its key.

use super::args::{Format, KeyArgs, KeyCommand};
use crate::app::Failure;
use crate::app::print::{print, print_json};
use crate::flake::{Key, KeyRequest, current_system, escape, key as make_key};

/// Prints the key.
pub(super) fn key(command: &KeyCommand) -> Result<(), Failure> {
    let key = of(&command.key)?;
    match command.format {
        Format::Json => print_json(&key),
        Format::Text => {
            print(&key.describe());
            Ok(())
        }
    }
}

/// Returns the key that the arguments describe.
pub(super) fn of(args: &KeyArgs) -> Result<Key, Failure> {
    make_key(&request(args)).map_err(Failure::usage)
}

/// Returns what the key of these arguments is computed from.
pub(super) fn request(args: &KeyArgs) -> KeyRequest {
    let given = &args.restore_prefixes_first_match;
    KeyRequest {
        prefix: args.prefix_key.clone(),
        system: args.system.clone(),
        locks: args.flake_lock.clone(),
        base: args.project.clone(),
        key_files: args.key_files.clone(),
        env_vars: args.env_vars.clone(),
        extra: args.extra_key.clone(),
        primary_key: args.primary_key.clone(),
        restore_prefixes: (!given.is_empty()).then(|| given.clone()),
    }
}

/// Returns primary key and restore prefixes, escaped for remotes.
pub(super) fn escaped(key: &Key) -> Result<(String, Vec<String>), Failure> {
    let primary = escape(&key.primary).map_err(Failure::usage)?;
    let prefixes = key.restore_prefixes.iter().map(|prefix| escape(prefix)).collect::<Result<_, _>>();
    Ok((primary, prefixes.map_err(Failure::usage)?))
}

/// Returns the system that the arguments name, or that of this machine.
pub(super) fn system(args: &KeyArgs) -> String {
    if args.system.is_empty() { current_system() } else { args.system.clone() }
}
