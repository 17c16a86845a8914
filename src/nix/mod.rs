//! Asking Nix: its configuration, and to realise paths.

mod config;
pub(crate) mod realise;

pub(crate) use config::{all_configured_substituters, configured_substituters};
