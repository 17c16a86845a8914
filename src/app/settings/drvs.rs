//! The settings of builds of derivations that a plan saved.

use clap::Args;

use super::{RestoreArgs, TrustArgs};

/// The derivations of a plan, and where they are.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Derivations of a plan")]
pub(crate) struct DrvsArgs {
    /// The derivation of each target, or `-`, as in the `drvs` of a plan's matrix: they are restored from the cache and built
    /// without evaluating the targets [default: all targets are evaluated]
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    pub drvs: Option<String>,
    /// With `drvs`: the first word of the key, as for the plan
    #[arg(long, value_name = "WORD", default_value = "nix")]
    pub prefix_key: String,
    #[command(flatten)]
    pub restore: RestoreArgs,
    #[command(flatten)]
    pub trust: TrustArgs,
}
