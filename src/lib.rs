//! The library behind `nix-cache`: it makes the Nix store of one CI job the start of the next.
//!
//! A folder for each noun, on floors: each uses only what stands beside or below it, and no two use each other.
//!
//! | floor | folders |
//! |---|---|
//! | what is typed and printed | [`cli`] |
//! | the steps of the actions | [`action`] |
//! | what both share | `app` |
//! | the verbs | [`cache`]: restore and save; [`plan`]: which targets of a flake a change affects |
//! | what they are made of | [`attach`]: layers into the store, all that runs as root; [`snapshot`]: the index of one key; [`files`]: further files and Nix's own caches; [`report`]: what was measured; [`upstream`]: what substituters have |
//! | | [`series`]: generations of one name, and who vouches for them; [`layer`]: the format of images; [`nix`]: asking Nix; [`building`]: `nix build`, explained |
//! | | [`store`]: the Nix store here, and our folder beside it; [`remote`]: where entries live; [`flake`]: keys; [`github`]: what the runner says |
//! | what knows nothing of Nix | [`base`] |

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::disallowed_macros, clippy::disallowed_methods, reason = "what tests print, people read")
)]

mod action;
mod app;
pub mod attach;
pub mod base;
mod building;
pub mod cache;
pub mod cli;
pub mod files;
pub mod flake;
mod github;
pub mod layer;
mod nix;
pub mod plan;
pub mod remote;
mod report;
pub mod series;
pub mod snapshot;
pub mod store;
mod upstream;
