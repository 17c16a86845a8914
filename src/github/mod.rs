//! What GitHub's runner says and listens to: the environment of a job, its event, annotations, and the state between the two halves of
//! an action.

pub(crate) mod annotate;
pub(crate) mod env;
pub(crate) mod event;
pub(crate) mod lane;
pub(crate) mod state;
pub(crate) mod status;
