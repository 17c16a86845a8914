//! The settings: what can be typed, and what it means. The command line and the actions flatten these structs into their commands:
//! an input is an argument of the same name, read by the same parser. Each setting therefore has one name, one default, one help
//! text and one meaning.

mod audit;
mod build;
mod cache;
mod comment;
mod dashboard;
mod drvs;
mod plan;
mod prune;
mod push;
mod values;
mod warm;

pub(crate) use audit::AuditArgs;
pub(crate) use build::BuildArgs;
pub(crate) use cache::{FailArgs, KeyArgs, LaneArgs, PackingArgs, RestoreArgs, ShareArgs, TrustArgs, escaped};
pub(crate) use comment::CommentArgs;
pub(crate) use dashboard::DashboardArgs;
pub(crate) use drvs::DrvsArgs;
pub(crate) use plan::PlanArgs;
pub(crate) use prune::PruneArgs;
pub(crate) use push::{PushArgs, PushToArgs, StorePathsArg, sinks, store_path};
pub(crate) use values::whole;
pub(crate) use warm::WarmArgs;
