//! Plans: which targets of a flake a change affects, and why the others need not be built.
//!
//! There are three levels, from cheap to exact. **Rules** say which files affect which targets; **derivation paths** are compared
//! with those of the base commit; **cached outputs** need no job. In doubt, a target is built: a needless job costs minutes, a
//! wrong skip costs trust.

mod at_base;
mod attr;
mod base;
mod branch;
mod buildable;
mod decide;
mod defaults;
mod discover;
mod drvs;
mod eval_jobs;
mod evaluate;
mod git;
mod make;
mod matrix;
mod memory;
mod names;
mod nix;
mod reads;
mod request;
mod rules;
mod rules_file;
mod target;

pub use attr::AttrPath;
pub(crate) use attr::{AttrPattern, Filter};
#[cfg(test)]
pub(crate) use base::Base;
pub(crate) use base::{Trust, Wish};
pub(crate) use buildable::{Buildable, Buildables, all_buildable, flake_in, named_buildable};
#[cfg(test)]
pub(crate) use decide::Level;
pub(crate) use decide::{Decision, Policy, Verdict};
pub use defaults::defaults;
pub(crate) use discover::outline;
pub(crate) use git::{FetchToken, Repository};
pub(crate) use make::{Known, Plan, PlanError, plan};
pub(crate) use matrix::{Matrix, RunnerMap};
pub(crate) use memory::{Planned, recall, remember};
pub(crate) use nix::{FlakeRef, Nix, NixError};
pub use reads::Reads;
pub(crate) use request::{Evaluate, EvaluateBase, Request};
pub use rules::Rules;
pub(crate) use rules::Touched;
pub(crate) use target::Output;
pub use target::Target;

pub(crate) use rules_file::RULES_FILE;
pub use rules_file::RulesFile;
