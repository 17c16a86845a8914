//! Which Nix this is.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::base::child::{output_of, without_secrets};

/// How long it may take to say its version.
const PATIENCE: Duration = Duration::from_secs(10);
/// Since this version, a derivation on a command line stands for itself, and its outputs are named behind a `^`. An older one
/// does not know the `^`.
const NAMES_OUTPUTS: (u32, u32) = (2, 13);

/// Whether `nix build` is told the outputs of a derivation behind a `^`. True where Nix does not say which version it is.
pub(crate) async fn names_outputs() -> bool {
    let mut command = std::process::Command::new("nix");
    without_secrets(command.arg("--version").stdin(Stdio::null()));
    let mut command = Command::from(command);
    match tokio::time::timeout(PATIENCE, output_of(command.kill_on_drop(true))).await {
        Ok(Ok(output)) => parse(&String::from_utf8_lossy(&output.stdout)).is_none_or(|found| found >= NAMES_OUTPUTS),
        _ => true,
    }
}

/// The first two numbers of the version in `nix (Nix) 2.34.8`. What stands in for Nix has other words before its number.
fn parse(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.lines().next()?.split_whitespace().last()?.split(['.', '-', '+']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_apart() {
        for (said, expected) in [
            ("nix (Nix) 2.8.0\n", Some((2, 8))),
            ("nix (Nix) 2.34.8", Some((2, 34))),
            ("nix (Lix, like Nix) 2.93.0-dev", Some((2, 93))),
            ("nix (Determinate Nix 3.6.2) 2.29.0", Some((2, 29))),
            ("nix (Nix) 2.13pre20230101", None),
            ("", None),
        ] {
            assert_eq!(parse(said), expected, "{said}");
        }
        assert!((2, 12) < NAMES_OUTPUTS && (2, 93) > NAMES_OUTPUTS);
    }
}
