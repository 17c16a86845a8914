//! All that is peculiar to GitHub's runner: inputs and outputs, state between the two halves of an action, workflow
//! commands, the job summary and the report. Only the command line knows this module.
//!
//! The order in a run: [`Inputs::from_environment`] and [`Facts::from_environment`], then the work, which fills a
//! [`Report`]; then [`Report::write`], [`outputs::set`] and, once a job, [`summary::write`].

pub mod annotate;
pub mod build_inputs;
pub mod build_outputs;
mod build_summary;
pub mod env;
pub mod event;
pub mod inputs;
pub mod lane;
mod markdown;
pub mod outputs;
mod overview;
pub mod page;
mod picture;
pub mod plan_inputs;
pub mod report;
pub mod state;
pub mod summary;
mod text;
pub mod values;

pub use annotate::Annotator;
pub use env::Facts;
pub use inputs::{InputError, Inputs};
pub use report::{Hit, Report};

#[cfg(test)]
mod files_test;
