//! Prunes a cache: deletes entries that no job reads any more before the cache service evicts ones that jobs need.
//!
//! [`plan_for`] lists the entries, reads the snapshots that stay, and plans; nothing is changed. [`carry_out`] deletes what the plan
//! says: first generations, then, after the same plan was made again from a new list, layers.

#[cfg(test)]
mod bucket_test;
mod execute;
#[cfg(test)]
pub(super) mod kill_test;
mod names;
mod plan;
#[cfg(test)]
mod plan_test;
mod prepare;
mod report;
#[cfg(test)]
mod simulation;
mod view;

pub(crate) use execute::carry_out;
pub(crate) use plan::Reason;
pub(crate) use prepare::{Place, plan_for};
pub(crate) use report::{PruneReport, table};
pub(crate) use view::{Rules, newest_snapshots};
