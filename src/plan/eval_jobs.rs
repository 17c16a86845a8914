//! Evaluates with `nix-eval-jobs`, if it is installed, whose workers reuse their state between targets.
//!
//! Only for a flake at a commit, because it needs an immutable flake reference. Targets without an answer, or with an error, are left
//! to `nix eval`: a missing answer only costs time.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::evaluate::{Evaluated, Workers, derivation};
use super::nix::{FlakeRef, command, quoted};
use super::{AttrPath, Nix, Target};
use crate::base::env_vars;

const PROGRAM: &str = "nix-eval-jobs";

/// A line that it prints, as its README has it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Job {
    attr_path: Vec<String>,
    #[serde(default)]
    error: Option<String>,
    drv_path: Option<String>,
    system: Option<String>,
    #[serde(default)]
    outputs: BTreeMap<String, Option<String>>,
}

/// What it answers for `targets`; nothing where it is not installed.
pub(super) async fn evaluate(
    nix: &Nix,
    flake: &FlakeRef,
    targets: &[&Target],
    workers: Workers,
) -> BTreeMap<AttrPath, Evaluated> {
    // Arguments of the user's are for `nix eval`, and a flake that is not at a commit has no address of its own.
    if !nix.arguments.is_empty() || !flake.is_at_commit() || targets.len() < 2 || !is_installed() {
        return BTreeMap::new();
    }
    let mut command = command(PROGRAM);
    command.args(["--workers", &workers.count.to_string()]);
    command.args(["--max-memory-size", &(workers.memory >> 20).max(1).to_string()]);
    command.args(["--option", "pure-eval", "true", "--option", "extra-experimental-features", "nix-command flakes"]);
    if let Some(root) = &nix.store_root {
        command.arg("--option").arg("store").arg(crate::store::store_argument(root));
    }
    command.args(["--expr", &expression(flake, targets)]);
    match crate::base::child::output_of(&mut command).await {
        Ok(output) => {
            let found = read(&String::from_utf8_lossy(&output.stdout), targets);
            tracing::info!(
                "{PROGRAM} evaluated {} of {}.",
                found.len(),
                crate::base::human::count(targets.len() as u64, "target")
            );
            found
        }
        Err(error) => {
            tracing::info!("{PROGRAM} did not work ({error}): `nix eval` is used.");
            BTreeMap::new()
        }
    }
}

fn is_installed() -> bool {
    let path = std::env::var_os(env_vars::PATH).unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(PROGRAM).is_file())
}

/// A set with a derivation for each target, named by its number. Of each only the outputs that `nix build` builds are shown.
fn expression(flake: &FlakeRef, targets: &[&Target]) -> String {
    let value = |target: &Target| {
        let names: Vec<String> = target.derivation().names().iter().map(|name| quoted(name)).collect();
        format!("flake.{}", names.join("."))
    };
    let all: Vec<String> =
        targets.iter().enumerate().map(|(number, target)| format!("\"t{number}\" = {};", value(target))).collect();
    format!("let flake = builtins.getFlake {}; in {{ {} }}", quoted(&flake.url()), all.join(" "))
}

fn read(printed: &str, targets: &[&Target]) -> BTreeMap<AttrPath, Evaluated> {
    let target = |job: &Job| {
        let [name] = job.attr_path.as_slice() else { return None };
        targets.get(name.strip_prefix('t')?.parse::<usize>().ok()?).copied()
    };
    let jobs = printed.lines().filter_map(|line| crate::base::bounds::from_json::<Job>(line.as_bytes()).ok());
    jobs.filter(|job| job.error.is_none())
        .filter_map(|job| {
            let attr = target(&job)?.attr.clone();
            let outputs = wanted(job.outputs);
            let evaluated = derivation(&job.drv_path?, job.system?, outputs.into_iter());
            matches!(evaluated, Evaluated::Derivation(_)).then_some((attr, evaluated))
        })
        .collect()
}

/// The output that shows whether the derivation was built: `out` where there is one. What else `nix build` would build stands in
/// `meta`, which is not asked for; a build makes all outputs at once, so one of them is as good as another.
fn wanted(mut outputs: BTreeMap<String, Option<String>>) -> BTreeMap<String, Option<String>> {
    match outputs.remove_entry("out") {
        Some((name, path)) => BTreeMap::from([(name, path)]),
        None => outputs,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn targets() -> Vec<Target> {
        ["nixosConfigurations.a", "packages.x86_64-linux.\"b.c\"", "checks.x86_64-linux.d"]
            .map(|attr| Target::of(AttrPath::parse(attr).unwrap()).unwrap())
            .to_vec()
    }

    #[test]
    fn it_is_asked_for_each_target_by_number() {
        let all = targets();
        let flake = FlakeRef::git(Path::new("/r"), "", Some("c0ffee"), false);
        let asked = expression(&flake, &all.iter().collect::<Vec<_>>());
        assert!(asked.starts_with("let flake = builtins.getFlake \"git+file:///r?rev=c0ffee\"; in {"), "{asked}");
        assert!(asked.contains("\"t1\" = flake.\"packages\".\"x86_64-linux\".\"b.c\";"), "{asked}");
        assert!(asked.contains(".\"config\".\"system\".\"build\".\"toplevel\";"), "{asked}");
    }

    #[test]
    fn only_sound_answers_count() {
        let all = targets();
        let all: Vec<&Target> = all.iter().collect();
        let (drv, out) = (format!("/nix/store/{}-a.drv", "0".repeat(32)), format!("/nix/store/{}-a", "1".repeat(32)));
        let line = |name: &str| {
            format!(
                r#"{{"attr":"{name}","attrPath":["{name}"],"drvPath":"{drv}","system":"s","outputs":{{"out":"{out}","doc":null}}}}"#
            )
        };
        let printed = [
            line("t0"),
            r#"{"attr":"t1","attrPath":["t1"],"error":"assertion failed"}"#.to_owned(),
            line("t9"),
            line("x"),
            "warning: not JSON".to_owned(),
            r#"{"attr":"t2","attrPath":["t2"],"drvPath":"/elsewhere","system":"s","outputs":{}}"#.to_owned(),
        ];
        let found = read(&printed.join("\n"), &all);
        assert_eq!(found.keys().collect::<Vec<_>>(), [&all[0].attr]);
        let Evaluated::Derivation(first) = &found[&all[0].attr] else { panic!() };
        assert!(first.knows_outputs && first.outputs.len() == 1);
    }
}
