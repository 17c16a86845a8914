//! Which store paths a substituter already has, so that there is no need to keep them: asked of the substituter itself, path
//! by path, because a signature only tells where a path once came from.

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

/// How to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// The longest time for one call of [`Upstream::present`]; what is not answered by then counts as absent.
    pub deadline: Duration,
    /// The longest time for one answer.
    pub patience: Duration,
    /// Paths that are asked for at the same time.
    pub parallel: usize,
    /// CA certificates to trust in place of the system's.
    pub ca_file: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(20), patience: Duration::from_secs(5), parallel: 16, ca_file: None }
    }
}

/// Those of `paths` that at least one of `substituters` has, with the same content. Whoever asks more than once keeps an
/// [`Upstream`], which remembers answers.
///
/// Never an error: a path that no answer came for counts as absent, and is kept.
pub(crate) async fn present(substituters: &[String], paths: &[&PathInfo], options: Options) -> BTreeSet<StorePath> {
    Upstream::new(substituters, options).present(paths).await
}
