//! What a change makes necessary: which targets of a flake have to be built, and why the others do not.
//!
//! Three levels decide, from cheap to exact. **Rules** say which files touch which targets; **derivation paths** are compared
//! with those of the base commit; **cached outputs** need no job. What cannot be known is built: a needless job costs
//! minutes, a wrong skip costs trust.

mod attr;
mod base;
mod decide;
mod defaults;
mod discover;
mod eval_jobs;
mod evaluate;
mod git;
mod make;
mod matrix;
mod nix;
mod reads;
mod rules;
mod rules_file;
mod target;

pub use attr::{AttrPath, AttrPattern, Filter, PatternError};
pub use base::{Base, Trust, Wish};
pub use decide::{Decision, Level, Policy, Verdict};
pub use defaults::defaults;
pub use evaluate::WORKER_MEMORY;
pub use git::{FetchToken, GitError, Repository};
pub use make::{Evaluate, EvaluateBase, Known, Plan, PlanError, Request, plan};
pub use matrix::{Entry, MOST_ENTRIES, Matrix, RunnerMap, RunnerMapError};
pub use nix::{Nix, NixError};
pub use reads::Reads;
pub use rules::{Rules, Touched};
pub use target::{Output, Target};

pub use rules_file::RULES_FILE;
pub use rules_file::RulesError;
pub use rules_file::RulesFile;
