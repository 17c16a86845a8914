//! `nix-cache`: see [`nix_cache::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    nix_cache::cli::run()
}
