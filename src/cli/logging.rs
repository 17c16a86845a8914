//! The log: one line for each phase, on standard error.

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::args::LoggingArgs;
use crate::base::env_vars;
use crate::base::printing::{Lines, Raw};

/// Starts the log.
pub(super) fn start(args: &LoggingArgs) {
    let (filter, wrong) = filter(args);
    let lines = tracing_subscriber::fmt::layer()
        .with_target(false)
        .without_time()
        .with_ansi(Raw::err().is_terminal())
        .with_writer(Lines::default);
    tracing_subscriber::registry().with(lines).with(filter).init();
    if let Some(wrong) = wrong {
        tracing::warn!("{wrong}");
    }
}

/// The log filter, and what is wrong with the one that the user set.
fn filter(args: &LoggingArgs) -> (Targets, Option<String>) {
    let level = match (args.verbose, args.quiet) {
        (true, _) => LevelFilter::DEBUG,
        (_, true) => LevelFilter::WARN,
        _ => LevelFilter::INFO,
    };
    let ours = Targets::new().with_target("nix_cache", level);
    let Some(wanted) = std::env::var(env_vars::NIX_CACHE_LOG).ok().filter(|text| !text.is_empty()) else {
        return (ours, None);
    };
    match wanted.parse() {
        Ok(filter) => (filter, None),
        Err(error) => {
            (ours, Some(format!("NIX_CACHE_LOG={wanted} is not a valid log filter: {error}. Example: nix_cache=debug")))
        }
    }
}
