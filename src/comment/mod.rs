//! The comment on a pull request: what the jobs of one run took from the cache and built, compared with the base branch.
//!
//! 1. [`reports`] lists the files that the jobs left, and reads them one by one. They may come from a fork, so anybody may have written
//!    them: their number, sizes and figures are bounded, and they must name the run or the commit that is commented on.
//! 2. [`base`] finds the snapshot of the base branch in the cache, and [`difference`] compares the closure of a job's outputs with it.
//! 3. [`section`] keeps of each report what is shown.
//! 4. [`render`] writes the Markdown. Every foreign text is shown as code, which is the only form in which GitHub does nothing with it.
//! 5. [`publish`] finds the earlier comment by a hidden marker and its author, and replaces it, or writes the first one.

pub(crate) mod base;
#[cfg(test)]
mod comment_test;
mod difference;
pub(crate) mod publish;
mod render;
pub(crate) mod reports;
#[cfg(test)]
mod reports_test;
mod section;

pub(crate) use render::{Page, render};
pub(crate) use section::Section;
