//! The interface to GitHub's runner: the environment of a job, its event, annotations, and the state that main passes to post.

pub(crate) mod annotate;
mod component;
pub(crate) mod env;
pub(crate) mod event;
pub(crate) mod lane;
pub(crate) mod occasion;
pub(crate) mod state;
pub(crate) mod status;
