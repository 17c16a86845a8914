//! What knows nothing of Nix: bounds, child processes, digests, disks, HTTP, texts for people, printing, secrets and threads.

pub(crate) mod bounds;
pub mod child;
pub(crate) mod clock;
pub mod digest;
pub(crate) mod disk;
pub mod http;
pub(crate) mod human;
pub mod note;
pub(crate) mod printing;
pub(crate) mod secrets;
pub mod threads;
pub(crate) mod typed;
