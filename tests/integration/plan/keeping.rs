//! What plans store for later ones, and cached outputs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::flake::{Flake, MACHINES, RULES, built, decision, git, set};
use crate::support::cache::entries;
use crate::support::envelope::HEAD;
use crate::support::nix;
use crate::support::program::{KEY, Run};

struct Project {
    flake: Flake,
    cache: PathBuf,
}

impl Project {
    fn new() -> Option<Self> {
        let flake = Flake::new(nix::all().first()?);
        flake.write("nix-cache.toml", RULES);
        let cache = flake.machine.path("cache");
        Some(Self { flake, cache })
    }

    fn remote(&self) -> String {
        format!("dir:{}", self.cache.display())
    }

    /// A push: what is here is planned, compared with the commit that was there `before`, and the plan is kept.
    fn push(&self, before: &str) -> serde_json::Value {
        self.flake.commit();
        let run = self.plan(&["--before", before, "--keep"]);
        run.json()
    }

    fn plan(&self, more: &[&str]) -> Run {
        self.flake.plan(&[&["--remote", &self.remote(), "--primary-key", KEY], more].concat())
    }

    fn head(&self) -> String {
        self.flake.git(&["rev-parse", "HEAD"]).trim().to_owned()
    }

    /// Builds targets and saves the store, as the jobs of a plan do.
    fn build(&self, plan: &serde_json::Value, names: &[&str]) {
        for entry in plan["matrix"]["include"].as_array().unwrap() {
            let attrs = entry["attrs"].as_str().unwrap().split(' ');
            for attr in attrs.filter(|attr| names.is_empty() || names.iter().any(|name| attr.contains(name))) {
                let mut command: Command = self.flake.machine.command("nix");
                command.args(["build", "--out-link"]).arg(self.flake.store.root.join(format!("result-{attr}")));
                command.arg(format!("{}#{attr}", self.flake.repository.display()));
                let output = command.arg("--store").arg(&self.flake.store.root).output().unwrap();
                assert!(output.status.success(), "{attr}: {}", String::from_utf8_lossy(&output.stderr));
            }
        }
        self.flake.store.save(&self.cache, KEY, &[]);
    }
}

#[test]
fn a_push_is_compared_with_what_was_planned_and_built_before_it() {
    let Some(project) = Project::new() else { return };
    let first = project.push("0123456789012345678901234567890123456789");
    assert_eq!(built(&first).len(), 6);
    assert_eq!(decision(&first, MACHINES[0]).0, "base");
    project.build(&first, &[]);
    let before = project.head();
    project.flake.write("hosts/desk/default.nix", "{ motd = \"new\"; }");
    let second = project.push(&before);
    assert_eq!(built(&second), set(&MACHINES[..1]), "{second}");
    assert_eq!(decision(&second, MACHINES[0]).0, "derivation");
    assert_eq!(decision(&second, MACHINES[1]).0, "rules");
    // Nobody built it. The next push changes only a text: what is owed is still owed.
    let before = project.head();
    project.flake.write("docs/manual.md", "2");
    let third = project.push(&before);
    assert_eq!(built(&third), set(&MACHINES[..1]), "{third}");
    assert_eq!(decision(&third, MACHINES[0]).0, "unbuilt");
    let spared = project.plan(&["--before", &before, "--no-retry"]).json();
    assert_eq!(built(&spared), set(&[]));
    // And so it is after a push that no plan saw.
    let before = project.head();
    project.flake.write("hosts/laptop/default.nix", "{ motd = \"new\"; }");
    let unseen = project.flake.commit();
    project.flake.write("docs/manual.md", "3");
    let fourth = project.push(&unseen);
    assert_eq!(fourth["base"], before.as_str());
    assert_eq!(built(&fourth), set(&MACHINES[..2]), "{fourth}");
    project.build(&fourth, &[]);
    let fifth = project.push(&project.head());
    assert_eq!(built(&fifth), set(&[]), "{fifth}");
}

#[test]
fn a_change_that_is_taken_back_is_cached() {
    let Some(project) = Project::new() else { return };
    let first = project.push("0123456789012345678901234567890123456789");
    project.build(&first, &["desk"]);
    let mut before = project.head();
    let old = std::fs::read_to_string(project.flake.repository.join("hosts/desk/default.nix")).unwrap();
    for text in ["{ motd = \"new\"; }", &old] {
        project.flake.write("hosts/desk/default.nix", text);
        let plan = project.push(&std::mem::take(&mut before));
        before = project.head();
        let (level, reason) = decision(&plan, MACHINES[0]);
        if text == old {
            assert_eq!((level, built(&plan).contains(MACHINES[0])), ("output", false), "{reason}");
            assert!(reason.contains(KEY), "{reason}");
            let all = project.plan(&["--base", "HEAD^", "--build-cached"]).json();
            assert_eq!(decision(&all, MACHINES[0]).0, "derivation", "{all}");
        } else {
            assert_eq!(level, "derivation");
        }
    }
}

#[test]
fn a_target_that_cannot_be_evaluated_is_built_until_it_can() {
    let Some(project) = Project::new() else { return };
    project.build(&project.push("0123456789012345678901234567890123456789"), &[]);
    let before = project.head();
    project.flake.write("hosts/desk/default.nix", "{ motd = throw \"there is no message\"; }");
    let broken = project.push(&before);
    assert_eq!(built(&broken), set(&MACHINES[..1]));
    let (level, reason) = decision(&broken, MACHINES[0]);
    assert!(level == "evaluation" && reason.contains("there is no message"), "{reason}");
    let before = project.head();
    project.flake.write("docs/manual.md", "2");
    let text = project.push(&before);
    assert_eq!(built(&text), set(&MACHINES[..1]), "a text does not mend it: {text}");
    let before = project.head();
    project.flake.write("hosts/desk/default.nix", "{ motd = \"desk\"; }");
    let repaired = project.push(&before);
    assert_eq!((decision(&repaired, MACHINES[0]).0, built(&repaired).len()), ("output", 0), "{repaired}");
}

#[test]
fn plans_that_are_kept_at_once_are_all_kept_and_the_newest_twenty() {
    let Some(project) = Project::new() else { return };
    let mut commits = Vec::new();
    for number in 0..24 {
        project.flake.write("docs/manual.md", &number.to_string());
        let before = project.head();
        project.push(&before);
        commits.push(project.head());
    }
    let plans = entries(&project.cache, "plan").into_iter().map(|entry| -> serde_json::Value {
        let body = fs::read(entry).unwrap().split_off(HEAD);
        serde_json::from_slice(&zstd::decode_all(&body[..]).unwrap()).unwrap()
    });
    let last = format!("{}:", commits[23]);
    let newest = plans.map(|mut plan| plan["planned"].take()).find(|planned| planned.get(&last).is_some()).unwrap();
    let newest = newest.as_object().unwrap();
    assert_eq!(newest.len(), 20);
    assert!(newest.values().all(|at| at["targets"].as_object().unwrap().len() == 6), "{newest:?}");
}

#[test]
fn a_shallow_clone_fetches_what_it_lacks_or_builds_all() {
    let Some(project) = Project::new() else { return };
    let first = project.push("0123456789012345678901234567890123456789");
    project.build(&first, &[]);
    let before = project.head();
    project.flake.write("hosts/desk/default.nix", "{ motd = \"new\"; }");
    project.flake.commit();
    project.flake.write("docs/manual.md", "2");
    let unseen = project.flake.commit();
    project.flake.write("docs/manual.md", "3");
    project.flake.commit();
    let shallow = |name: &str| -> PathBuf {
        let clone = project.flake.machine.path(name);
        let from = format!("file://{}", project.flake.repository.display());
        git(&project.flake.machine, Path::new("/"), &["clone", "--quiet", "--depth=1", &from, clone.to_str().unwrap()]);
        clone
    };
    let remote = project.remote();
    let plan = |clone: &Path, more: &[&str]| {
        project.flake.plan_in(clone, &[&["--remote", &remote, "--primary-key", KEY], more].concat()).json()
    };
    // Its own history ends at once; the commit that was planned is found behind the one that was not.
    let found = plan(&shallow("one"), &["--before", &unseen]);
    assert_eq!((found["base"].as_str(), built(&found)), (Some(&*before), set(&MACHINES[..1])), "{found}");
    let cut_off = shallow("two");
    git(&project.flake.machine, &cut_off, &["remote", "set-url", "origin", "/does/not/exist"]);
    let all = plan(&cut_off, &["--before", &unseen]);
    assert_eq!((&all["base"], built(&all).len()), (&serde_json::Value::Null, 1), "what is cached needs no job: {all}");
    // The derivations of a commit that was planned are known even if the commit is not available.
    let known = plan(&cut_off, &["--before", &before]);
    assert_eq!(built(&known), set(&MACHINES[..1]), "{known}");
    assert_eq!(decision(&known, MACHINES[0]).0, "derivation");
}

/// The first pull request after the action was adopted: no plan is stored, but the branch has built and saved.
#[test]
fn a_base_is_evaluated_only_for_targets_that_no_cache_holds() {
    let Some(project) = Project::new() else { return };
    project.flake.commit();
    let everything = project.plan(&["--base", "0123456789012345678901234567890123456789"]).json();
    project.build(&everything, &[]);
    let base = project.head();
    project.flake.write("hosts/desk/default.nix", "{ motd = \"new\"; }");
    project.flake.commit();
    let plan = |more: &[&str]| project.plan(&[&["--base", &base, "--evaluate", "always"], more].concat());
    let run = plan(&[]);
    assert!(run.log.contains("Evaluating 1 target at the base"), "{}", run.log);
    let run = run.json();
    assert_eq!(built(&run), set(&MACHINES[..1]), "{run}");
    assert_eq!((decision(&run, MACHINES[0]).0, decision(&run, MACHINES[1]).0), ("derivation", "output"), "{run}");
    // Whoever asks for all of it gets the same verdicts. So does who wants no caches to decide: the base has to be asked then.
    for more in [["--evaluate-base", "always"], ["--build-cached", "--no-retry"]] {
        let run = plan(&more);
        assert!(run.log.contains("Evaluating 6 targets at the base"), "{more:?}: {}", run.log);
        assert_eq!(built(&run.json()), set(&MACHINES[..1]), "{more:?}");
    }
}
