//! Finds store paths that a substituter already has, so that they need not be saved. Each path is queried at the substituter,
//! because a signature only says where a path once came from.

mod ask;
mod narinfo;
mod substituter;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::store::{PathInfo, StorePath};

pub(crate) use ask::Upstream;
pub(crate) use narinfo::is_of_path as is_about;

/// Limits of the queries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Longest time for one call of [`Upstream::present`]; paths without an answer by then count as absent.
    pub deadline: Duration,
    /// Longest time for one answer.
    pub patience: Duration,
    /// Number of concurrent queries.
    pub parallel: usize,
    /// CA certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(20), patience: Duration::from_secs(5), parallel: 16, ca_file: None }
    }
}

/// Returns those of `paths` that at least one of `substituters` has with the same content. For repeated queries, keep an
/// [`Upstream`], which remembers answers.
///
/// Never fails: a path without an answer counts as absent and is saved.
pub(crate) async fn present(substituters: &[String], paths: &[&PathInfo], options: Options) -> BTreeSet<StorePath> {
    Upstream::new(substituters, options).present(paths).await
}
