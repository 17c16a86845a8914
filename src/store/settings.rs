//! Trusted keys of nix.conf, as Nix itself reads them.

use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::base::bounds::from_json;
use crate::base::child::{self, without_secrets};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Settings {
    trusted_public_keys: Setting,
}

#[derive(Deserialize)]
struct Setting {
    value: Vec<String>,
}

/// Returns the public keys whose signatures of store paths Nix accepts (`trusted-public-keys` of nix.conf); none if Nix does not
/// report them.
pub(crate) fn trusted_public_keys() -> Vec<String> {
    // The command was called `show-config` until Nix 2.20.
    let commands = [&["config", "show"][..], &["show-config"]];
    commands.into_iter().find_map(ask).unwrap_or_else(|| {
        tracing::info!("Nix does not report its trusted keys (`nix config show`), so no signature of a path counts.");
        Vec::new()
    })
}

fn ask(words: &[&str]) -> Option<Vec<String>> {
    let mut command = Command::new("nix");
    command.args(words).args(["--json", "--extra-experimental-features", "nix-command"]).stdin(Stdio::null());
    let output = child::output(without_secrets(&mut command));
    let output = output.inspect_err(|error| tracing::debug!("cannot start nix: {error}")).ok()?;
    output.status.success().then(|| read(&output.stdout))?
}

fn read(json: &[u8]) -> Option<Vec<String>> {
    Some(from_json::<Settings>(json).ok()?.trusted_public_keys.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_read_from_the_answer_of_nix() {
        let json = br#"{"cores":{"value":0},"trusted-public-keys":{"value":["a-1:AAAA","b-1:BBBB"],"aliases":[]}}"#;
        assert_eq!(read(json).unwrap(), ["a-1:AAAA", "b-1:BBBB"]);
        assert!(read(b"{}").is_none() && read(b"trusted-public-keys = a").is_none());
    }
}
