//! Tests of [`super`]: defaults, values, and that `build/action.yml` declares just what is read.

use proptest::prelude::*;
use serde_json::json;

use super::super::inputs::declared;
use super::*;
use crate::building::checks::Work;

const FILE: &str = include_str!("../../build/action.yml");

fn read(name: &str, value: &str) -> Result<BuildInputs, InputError> {
    BuildInputs::from_json(&json!({ name: value }).to_string())
}

#[test]
fn the_declared_inputs_are_those_that_are_read_and_their_defaults_are_ours() {
    let declared = declared(FILE);
    let object: std::collections::BTreeMap<_, _> = declared.iter().cloned().collect();
    let ours = BuildInputs::from_json("{}").unwrap();
    assert_eq!(BuildInputs::from_json(&serde_json::to_string(&object).unwrap()).unwrap(), ours);
    for (name, _) in &declared {
        assert!(!matches!(read(name, "x"), Err(InputError::Unknown { .. })), "{name}");
    }
    let source = include_str!("build_inputs.rs");
    for piece in
        source.split("given.").skip(1).filter(|piece| !piece.starts_with("end") && !piece.starts_with("take(hooks"))
    {
        let name = piece.split('"').nth(1).unwrap_or_default();
        let hooks = ["action", "matrix", "job-status"];
        // `matrix()` is read by its own name.
        if piece.starts_with("matrix") || hooks.contains(&name) {
            continue;
        }
        assert!(declared.iter().any(|(input, _)| input == name), "{name} is read, but not declared");
    }
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
    assert_eq!(inputs.targets, ["packages.x86_64-linux.a", ".#b"]);
    assert_eq!(inputs.nix_args, ["--impure", "--option", "a", "b c"]);
    assert_eq!((inputs.max_jobs, inputs.cores), (Limit::Count(3), Limit::Config));
    let retry = Retry { times: 0, delay: Duration::from_secs(1), budget: Duration::from_mins(1) };
    assert_eq!((inputs.keep_going, inputs.retry, inputs.summarize), (false, retry, false));
    assert_eq!((inputs.timeout, inputs.out_link), (Some(Duration::from_hours(1)), None));
    assert_eq!((inputs.artifacts.as_deref(), inputs.artifact_format), (Some("out"), Format::Gzip));
    let names: Vec<_> = inputs.checks.iter().map(|check| check.name.as_str()).collect();
    assert_eq!(names, ["format", "statix", "flake-check", "deadnix", "own"]);
    assert_eq!(inputs.checks[4].work, Work::Shell("echo a: b".into()));
}

#[test]
fn nothing_to_build_is_not_the_default() {
    assert_eq!(BuildInputs::from_json("{}").unwrap().targets, ["default"]);
    assert_eq!(read("targets", "  ").unwrap().targets, [""; 0]);
    assert_eq!(read("flake", "").unwrap().flake, ".");
    assert_eq!(read("flake", "").unwrap().out_link.as_deref(), Some("result"));
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
        let declared = declared(FILE);
        let (name, _) = &declared[which % declared.len()];
        if let Err(error) = read(name, &value) {
            prop_assert!(error.to_string().contains(name.as_str()));
        }
    }
}
