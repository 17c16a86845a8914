//! The contract of the cache service, which the fake must keep, as plain requests and their answers.
//!
//! Each row names where it is known from: "measured" is what others observed on the hosted service in 2026, "toolkit" what
//! GitHub's own client relies on, "GitHub's docs" and "Azure's docs" are the vendors' documentation.

mod blobs;
mod calls;
pub(crate) mod client;
mod control;
mod faults;
mod limits;
mod lookups;
mod rest;
