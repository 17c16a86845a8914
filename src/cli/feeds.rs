//! `nix-cache feeds`.

use std::path::PathBuf;

use clap::Args;

use crate::app::Failure;
use crate::app::feeds::{FeedsRequest, NVD, YEARS, refresh};
use crate::app::print::print;

#[derive(Debug, Args)]
pub(super) struct FeedsCommand {
    /// Where the feeds are: an address that the file names are added to, or a folder
    #[arg(long, value_name = "URL|DIR", default_value = NVD)]
    from: String,
    /// The folder that the reduced feed is written to
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
    /// How many years back, from an address
    #[arg(long, value_name = "N", default_value_t = YEARS, value_parser = clap::value_parser!(u16).range(1..=40))]
    years: u16,
}

/// Fetches feeds, reduces them and says what there is.
pub(super) async fn feeds(command: &FeedsCommand) -> Result<(), Failure> {
    let request = FeedsRequest { from: command.from.clone(), into: command.into.clone(), years: command.years };
    print(&format!("{}\n", refresh(&request).await?));
    Ok(())
}
