//! Queries Nix's configuration and lets Nix realise paths.

mod config;
pub(crate) mod realise;

pub(crate) use config::{all_configured_substituters, configured_substituters};
