//! Code that the command line and the steps of the actions share.

pub(crate) mod adoption;
pub(crate) mod artifacts;
pub(crate) mod audit;
pub(crate) mod build;
pub(crate) mod comment;
pub(crate) mod dashboard;
pub(crate) mod drvs;
mod failure;
pub(crate) mod feeds;
pub(crate) mod known;
pub(crate) mod place;
pub(crate) mod plan;
pub(crate) mod print;
pub(crate) mod prune;
pub(crate) mod push;
pub(crate) mod runs;
pub(crate) mod settings;
pub(crate) mod warm;

pub(crate) use failure::Failure;
