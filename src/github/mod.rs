//! What GitHub's runner says and listens to: the environment of a job, its event, annotations, and the state between the two halves of
//! an action.

pub mod annotate;
pub mod env;
pub mod event;
pub mod lane;
pub mod state;
pub mod status;
