//! Warming a cache: a job on the default branch fetches and builds what other jobs will need.
//!
//! 1. [`realise()`] fetches the flake's inputs, builds its targets, prepares its shells, and refreshes vulnerability feeds. One
//!    that fails does not stop the others. It needs no token, and runs the code of the flake.
//! 2. The caller saves.
//! 3. [`touch()`] reads the newest snapshots and a byte of each of their layers, so that they do not count as unused.
//!
//! [`lock_bump`] has the same done with the lock file of a pull request, before it is merged.

mod feeds;
pub(crate) mod lock_bump;
mod realise;
mod report;
mod touch;

pub(crate) use lock_bump::WantedPull;
pub(crate) use realise::{WarmRequest, realise};
pub(crate) use report::{State, WarmReport};
pub(crate) use touch::{TouchPlace, Touched, shelf, touch};
