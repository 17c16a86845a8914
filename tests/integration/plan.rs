//! Plans of a real flake, by the program and by Nix: three machines with modules in common, a package, checks, and a history.

mod changes;
pub(crate) mod flake;
mod histories;
mod history;
mod keeping;
mod once;
mod targets;
