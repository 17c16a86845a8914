//! Tests of [`super`]: defaults and values.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::building::Retry;
use crate::building::artifacts::Format;
use crate::building::checks::Work;
use crate::building::limits::Limit;

fn read(name: &str, value: &str) -> Result<BuildInputs, InputError> {
    BuildInputs::from_json(&json!({ name: value }).to_string())
}

#[test]
fn values_are_read() {
    let inputs = BuildInputs::from_json(
        &json!({
            "targets": " packages.x86_64-linux.a\n.#b ", "flake": "./sub", "nix-args": "--impure --option a 'b c'",
            "max-jobs": "3", "cores": "config", "keep-going": "false", "retries": "0", "retry-delay": "1",
            "retry-budget": "1m", "timeout": "1h", "derivation-timeout": "30m", "max-silent-time": "90s",
            "out-link": "", "artifacts": "out", "artifact-format": "nar.gz", "checks": "true",
            "check-commands": "deadnix: true\nown: echo a: b", "lane": "l", "summarize": "false", "token": "t",
        })
        .to_string(),
    )
    .unwrap();
    let folder = std::path::PathBuf::from("/w");
    let request = inputs.build.request(folder, None);
    assert_eq!(request.targets, ["packages.x86_64-linux.a", ".#b"]);
    assert_eq!(request.nix_args, ["--impure", "--option", "a", "b c"]);
    assert_eq!((request.jobs, request.cores), (Limit::Count(3), Limit::Config));
    let retry = Retry { times: 0, delay: Duration::from_secs(1), budget: Duration::from_mins(1) };
    assert_eq!((request.keep_going, request.retry, inputs.job.no_summarize), (false, retry, true));
    assert_eq!((request.timeout, request.out_link), (Some(Duration::from_hours(1)), None));
    let artifacts = request.artifacts.unwrap();
    assert_eq!((artifacts.folder.to_str(), artifacts.format), (Some("out"), Format::Gzip));
    let names: Vec<_> = request.checks.iter().map(|check| check.name.as_str()).collect();
    assert_eq!(names, ["format", "statix", "flake-check", "deadnix", "own"]);
    assert_eq!(request.checks[4].work, Work::Shell("echo a: b".into()));
}

#[test]
fn defaults() {
    let request = BuildInputs::from_json("{}").unwrap().build.request("/w".into(), None);
    assert_eq!((request.jobs, request.cores, request.keep_going), (Limit::Auto, Limit::Auto, true));
    assert_eq!((request.retry, request.out_link), (Retry::default(), Some("result".into())));
    assert_eq!((request.timeout, request.derivation_timeout, request.silent_timeout), (None, None, None));
    assert!(request.checks.is_empty() && request.nix_args.is_empty() && request.artifacts.is_none());
}

#[test]
fn nothing_to_build_is_not_the_default() {
    assert_eq!(BuildInputs::from_json("{}").unwrap().build.targets, ["default"]);
    assert_eq!(read("checks", "true").unwrap().build.targets, ["default"]);
    assert_eq!(read("targets", "  ").unwrap().build.targets, [""; 0]);
    assert_eq!(read("flake", "").unwrap().build.flake, ".");
    assert_eq!(read("flake", "").unwrap().build.out_link.to_str(), Some("result"));
}

#[test]
fn a_wrong_value_is_named_with_what_the_input_takes() {
    for (input, value, takes) in [
        ("max-jobs", "many", "auto, config"),
        ("cores", "-1", "whole number"),
        ("keep-going", "yes", "true, false"),
        ("retries", "21", "0 to 20"),
        ("retries", "x", "0 to 20"),
        ("retry-delay", "soon", "10m"),
        ("retry-budget", "0", "above 0"),
        ("timeout", "1 h", "10m"),
        ("derivation-timeout", "x", "10m"),
        ("max-silent-time", "x", "10m"),
        ("artifact-format", "zip", "nar.zst, nar.gz"),
        ("checks", "statix", "true, false"),
        ("check-commands", "cargo fmt", "a name, a colon"),
        ("nix-args", "--option 'a", "each quote closed"),
        ("summarize", "no", "true, false"),
    ] {
        let message = read(input, value).unwrap_err().to_string();
        for part in [input, value, takes] {
            assert!(message.contains(part), "{part:?} is missing in {message:?}");
        }
    }
    assert!(read("target", "a").unwrap_err().to_string().contains("\"target\""));
}

proptest! {
    #[test]
    fn any_value_of_any_input_is_read_or_refused(value in any::<String>(), which in 0_usize..30) {
        let command = BuildInputs::declared();
        let names: Vec<&str> = command.get_arguments().flat_map(given::names).collect();
        let name = names[which % names.len()].trim_start_matches("no-");
        if let Err(error) = read(name, &value) {
            prop_assert!(error.to_string().contains(name));
        }
    }
}
