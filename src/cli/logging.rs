//! The log: one line for each phase, on standard error.

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;

use super::args::LoggingArgs;

/// Starts the log.
pub(super) fn start(args: &LoggingArgs) {
    let level = match (args.verbose, args.quiet) {
        (true, _) => "nix_cache=debug",
        (_, true) => "nix_cache=warn",
        _ => "nix_cache=info",
    };
    let filter = EnvFilter::try_from_env("NIX_CACHE_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .without_time()
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();
}

/// Prints `text` to standard output. Whoever closed the other end wanted no more of it.
pub(super) fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints a value as JSON to standard output.
pub(super) fn print_json(value: &impl serde::Serialize) -> Result<(), super::Failure> {
    let text = serde_json::to_string_pretty(value).map_err(super::Failure::work)?;
    print(&format!("{text}\n"));
    Ok(())
}
