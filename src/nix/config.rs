//! Asks Nix for its configured substituters.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::base::child::without_secrets;

/// The relevant settings, out of hundreds.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Settings {
    substituters: Setting<Vec<String>>,
    /// Whether substituters are used at all.
    substitute: Option<Setting<bool>>,
}

#[derive(Deserialize)]
struct Setting<T> {
    value: T,
}

/// Returns Nix's substituters in its order, limited to HTTP(S) and folders (`file://`). Empty if Nix uses none or cannot be
/// queried.
#[must_use]
pub(crate) fn configured_substituters() -> Vec<String> {
    let usable = |url: &String| ["https://", "http://", "file://"].iter().any(|scheme| url.starts_with(scheme));
    all_configured_substituters(&[]).into_iter().filter(usable).collect()
}

/// Returns the substituters of any kind that Nix uses with these further arguments, in its order.
#[must_use]
pub(crate) fn all_configured_substituters(arguments: &[String]) -> Vec<String> {
    // The command was called `show-config` until Nix 2.20. It accepts settings, but not every argument of `nix build`.
    let commands = [&["config", "show"][..], &["show-config"]];
    let with = |more: &[String]| {
        commands.into_iter().find_map(|command| {
            let words: Vec<String> =
                command.iter().map(|word| (*word).to_owned()).chain(more.iter().cloned()).collect();
            ask("nix", &words)
        })
    };
    let found = if arguments.is_empty() { None } else { with(arguments) };
    found.or_else(|| with(&[])).unwrap_or_else(|| {
        tracing::warn!(
            "Nix does not report its substituters (`nix config show`), so no path counts as available from a substituter."
        );
        Vec::new()
    })
}

fn ask(program: &str, command: &[String]) -> Option<Vec<String>> {
    let mut nix = Command::new(program);
    nix.args(command).args(["--json", "--extra-experimental-features", "nix-command"]);
    let output = crate::base::child::output(without_secrets(&mut nix).stdin(Stdio::null()));
    let output = output.inspect_err(|error| tracing::debug!("{program} cannot be started: {error}")).ok()?;
    if !output.status.success() {
        tracing::debug!("{program} {}: {}", command.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        return None;
    }
    read(&output.stdout)
}

/// Parses the answer. None if it is not as expected.
fn read(json: &[u8]) -> Option<Vec<String>> {
    let settings: Settings = crate::base::bounds::from_json(json).ok()?;
    if settings.substitute.is_some_and(|setting| !setting.value) {
        return Some(Vec::new());
    }
    let mut seen = BTreeSet::new();
    Some(settings.substituters.value.into_iter().filter(|url| seen.insert(url.clone())).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::base::child::is_secret;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn an_answer_is_read_in_its_order() {
        let json = |substitute: bool| {
            format!(
                r#"{{"substituters":{{"value":["https://b/?priority=1","s3://x","http://a","auto","file:///c","http://a"],
                "defaultValue":[]}},"substitute":{{"value":{substitute}}},"cores":{{"value":0}}}}"#
            )
        };
        assert_eq!(
            read(json(true).as_bytes()).unwrap(),
            ["https://b/?priority=1", "s3://x", "http://a", "auto", "file:///c"]
        );
        assert_eq!(read(json(false).as_bytes()).unwrap(), [""; 0]);
        assert!(read(br#"{"substituters":{"value":["https://b"]}}"#).is_some());
        assert!(read(br#"["https://b"]"#).is_none());
    }

    #[test]
    fn what_asks_for_it_gets_the_words_and_no_token() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("nix");
        let script = "#!/bin/sh\n[ \"$1 $2\" = 'config show' ] || exit 1\n[ \"$3\" = --json ] || exit 1\n\
                      printf '{\"substituters\":{\"value\":[\"https://%s\"]}}' \"$PWD\"\n";
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let program = program.to_str().unwrap();
        assert!(ask(program, &words(&["config", "show"])).unwrap()[0].starts_with("https:///"));
        assert!(ask(program, &words(&["show-config"])).is_none());
        assert!(ask("/does/not/exist", &words(&["show-config"])).is_none());
        for secret in ["ACTIONS_RUNTIME_TOKEN", "ACTIONS_RESULTS_URL", "NIX_CACHE_INPUTS", "GITHUB_TOKEN", "GH_TOKEN"] {
            assert!(is_secret(secret));
        }
        assert!(!is_secret("NIX_CONFIG") && !is_secret("GITHUB_REPOSITORY"));
    }

    #[test]
    fn the_nix_of_this_machine_is_understood() {
        let Ok(version) = Command::new("nix").arg("--version").output() else {
            eprintln!("there is no Nix on this machine");
            return;
        };
        let version = String::from_utf8_lossy(&version.stdout).into_owned();
        let answer = ask("nix", &words(&["config", "show"])).or_else(|| ask("nix", &words(&["show-config"])));
        assert!(answer.is_some(), "{version}");
        let answer = answer.unwrap();
        assert_eq!(all_configured_substituters(&[]), answer);
        assert!(configured_substituters().iter().all(|url| answer.contains(url)));
        let option = words(&["--option", "substituters", "s3://x"]);
        assert_eq!(all_configured_substituters(&option), ["s3://x"]);
        // Arguments that this command does not accept are omitted.
        assert_eq!(all_configured_substituters(&words(&["--no-link"])), answer);
    }
}
