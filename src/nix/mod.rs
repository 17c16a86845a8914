//! Queries Nix's version and configuration, and lets Nix realise paths.

mod config;
pub(crate) mod realise;
mod version;

pub(crate) use config::{all_configured_substituters, configured_substituters};
pub(crate) use version::names_outputs;
