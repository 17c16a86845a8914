//! The integration tests: one binary, a file per subject.

#![allow(clippy::disallowed_macros, clippy::disallowed_methods, reason = "what tests print, people read")]

mod act;
mod action;
mod audit;
mod bombs;
mod build;
mod cli;
mod comment;
mod concurrency;
mod cross_client;
mod dashboard;
mod demo;
mod docs;
mod fake_contract;
mod faults;
mod floors;
mod forged;
mod fuzz;
mod init;
mod kill;
mod late;
mod layer;
mod mounted;
mod own_flake;
mod plan;
mod printing;
mod prober;
mod prune;
mod push;
mod real_client;
mod roundtrip;
mod series;
mod signed;
mod store;
mod summary;
mod support;
mod warm;
