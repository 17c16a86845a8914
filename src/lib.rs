//! The library behind `nix-cache`, which starts each CI job with the Nix store of the last one.
//!
//! There is one folder per noun. Folders stand on floors: each imports only from its own floor or lower ones, and no two import
//! each other.
//!
//! | floor | folders |
//! |---|---|
//! | the command line: what is typed and printed | [`cli`] |
//! | the steps of the actions | [`action`] |
//! | shared by both | `app` |
//! | the verbs | [`cache`]: restore and save; `comment`: what a run did, on a pull request; `dashboard`: a page about many jobs; [`plan`]: which targets of a flake a change affects; `prune`: deleting what no job reads; `push`: what was built here, for binary caches |
//! | | `init`: proposes a workflow and settings for a flake |
//! | their parts | [`attach`]: layers into the store, everything that runs as root; [`snapshot`]: the index of one key; [`files`]: further files and Nix's own caches; [`report`]: what was measured; `history`: the reports of many jobs; [`upstream`]: what substituters offer |
//! | | [`series`]: generations of one name, and their signatures; [`layer`]: the format of images; [`nix`]: querying Nix; [`building`]: `nix build`, explained; `audit`: what breaks a policy |
//! | | [`store`]: the Nix store of this machine, and our folder beside it; [`remote`]: where entries are stored; [`flake`]: keys; [`github`]: what the runner provides |
//! | independent of Nix | [`base`] |

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::disallowed_macros, clippy::disallowed_methods, reason = "what tests print, people read")
)]

mod action;
mod app;
pub mod attach;
mod audit;
pub mod base;
mod building;
pub mod cache;
pub mod cli;
mod comment;
mod dashboard;
pub mod files;
pub mod flake;
mod github;
mod history;
mod init;
pub mod layer;
mod nix;
pub mod plan;
mod prune;
mod push;
pub mod remote;
mod report;
pub mod series;
pub mod snapshot;
pub mod store;
mod upstream;
