//! Code that knows nothing of Nix: bounds, child processes, digests, disks, environment variables, globs, HTTP, memory, formatting,
//! platforms, printing, secrets, threads and zip archives.

pub(crate) mod bounds;
pub(crate) mod child;
pub(crate) mod clock;
pub mod digest;
pub(crate) mod disk;
pub(crate) mod env_vars;
pub(crate) mod folder;
pub(crate) mod globs;
pub mod http;
pub(crate) mod human;
pub(crate) mod memory;
pub(crate) mod note;
pub(crate) mod platform;
pub(crate) mod printing;
pub(crate) mod process;
pub(crate) mod quick;
pub(crate) mod secrets;
pub(crate) mod threads;
pub(crate) mod toml_text;
pub(crate) mod typed;
pub(crate) mod zip;
