//! The integration tests: one binary, a file per subject.

mod act;
mod action;
mod build;
mod cli;
mod concurrency;
mod cross_client;
mod fake_contract;
mod faults;
mod kill;
mod layer;
mod mounted;
mod plan;
mod real_client;
mod roundtrip;
mod signed;
mod store;
mod support;
