//! The library behind `nix-cache`: it makes the Nix store of one CI job the start of the next.
//!
//! Five nouns, a folder each: [`flake`] makes keys, [`layer`] packs and attaches store paths, [`snapshot`] is the
//! index of one key, [`store`] is the Nix store here, [`remote`] is where layers and snapshots live. [`cache`] holds
//! the two verbs, restore and save. Beside them, [`files`] keeps further files and Nix's own caches, [`sign`] tells who
//! vouches for an entry, [`upstream`] asks substituters what they have, and [`plan`] says which targets of a flake a change
//! affects. No noun knows `cache`; only the command line knows [`runner`].

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::disallowed_macros, clippy::disallowed_methods, reason = "what tests print, people read")
)]

pub mod action;
mod app;
pub mod attach;
pub mod base;
pub mod building;
pub mod cache;
pub mod cli;
pub mod files;
pub mod flake;
pub mod github;
pub mod layer;
pub mod nix;
pub mod plan;
pub mod remote;
pub mod report;
pub mod series;
pub mod snapshot;
pub mod store;
pub mod upstream;
