//! Plans in the history.

use std::fs;

use serde_json::{Value, json};

use super::flake::{Flake, RULES};
use crate::support::nix;
use crate::support::program::Run;

/// The step of the action `plan/`.
fn step(flake: &Flake, name: &str, base: &str) -> Run {
    let folder = flake.machine.path(name);
    fs::create_dir_all(folder.join("temp")).unwrap();
    let mut command = flake.machine.nix_cache(&["action", "plan"]);
    for (name, file) in [("GITHUB_OUTPUT", "output"), ("GITHUB_STEP_SUMMARY", "summary"), ("RUNNER_TEMP", "temp")] {
        command.env(name, folder.join(file));
    }
    fs::write(folder.join("output"), "").unwrap();
    fs::write(folder.join("summary"), "").unwrap();
    command.env("GITHUB_ACTIONS", "true").env("GITHUB_WORKSPACE", &flake.repository).env("GITHUB_JOB", "plan");
    command.env("GITHUB_WORKFLOW", "CI").env("NIX_CACHE_STORE_ROOT", &flake.store.root);
    command
        .env("GITHUB_RUN_ID", name.len().to_string())
        .env("GIT_CEILING_DIRECTORIES", flake.repository.parent().unwrap());
    let inputs = json!({
        "action": "plan", "remote": remote(flake), "base": base, "substituters": "false", "evaluate-once": "false",
        "job-status": "success",
    });
    command.env("NIX_CACHE_INPUTS", inputs.to_string());
    Run::of(command)
}

fn remote(flake: &Flake) -> String {
    format!("dir:{}", flake.machine.path("cache").display())
}

#[test]
fn a_plan_is_in_the_history_with_what_it_saved_and_a_failed_one_with_why() {
    let Some(nix) = nix::all().first() else { return };
    let flake = Flake::new(nix);
    fs::create_dir_all(flake.machine.path("cache")).unwrap();
    flake.write("nix-cache.toml", RULES);
    let base = flake.commit();
    flake.write("hosts/desk/default.nix", "{ motd = \"new\"; }");
    flake.commit();
    let run = step(&flake, "one", &base);
    assert_eq!(run.code, Some(0), "{run:?}");
    flake.write("flake.nix", "{ outputs = ");
    flake.commit();
    let run = step(&flake, "three", &base);
    assert_eq!(run.code, Some(1), "{run:?}");
    let exported = Run::of(flake.machine.nix_cache(&["history", "export", "--remote", &remote(&flake)])).out;
    let runs: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(runs.len(), 2, "{exported}");
    let [good, bad] = &runs[..] else { panic!() };
    assert_eq!(
        (&good["kind"], &good["status"], &good["hit"]),
        (&"plan".into(), &"success".into(), &"".into()),
        "{good}"
    );
    let count = |name: &str| good[name].as_u64().unwrap();
    assert!(count("targets") > count("skipped") && count("skipped") > 0, "{good}");
    assert!(good["evaluation-ms"].as_u64() <= good["job-ms"].as_u64().map(|ms| ms + 1_000), "{good}");
    assert_eq!(
        (&bad["kind"], &bad["status"], &bad["category"]),
        (&"plan".into(), &"failure".into(), &"evaluation".into())
    );
    assert_eq!((&bad["failed"][0]["name"], &bad["targets"]), (&"plan".into(), &Value::Null), "{bad}");
    let table = Run::of(flake.machine.nix_cache(&["history", "--remote", &remote(&flake)])).out;
    assert!(table.contains("  plan   -  ") && table.contains(" skipped)"), "{table}");
}
