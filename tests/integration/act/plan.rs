//! A plan and the jobs that it makes, from push to push.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::project::{Act, Project};
use super::{project, run::ActRun};
use crate::plan::flake::prepare;

const RULES: &str = r#"[plan.rules]
"machines/hosts/<host>/**" = "nixosConfigurations.<host>"
"machines/docs/**" = "none"
"#;

/// A repository with the flake of three machines, and the commit that it was pushed at last.
pub(super) struct Pushed {
    pub project: Project,
    before: String,
}

impl Pushed {
    pub(super) fn new() -> Option<Self> {
        let project = project()?;
        let folder = project.machine.path("repository/machines");
        prepare(&project.machine, &folder);
        project.machine.store("for-locking").nix(&["flake", "lock", &format!("path:{}", folder.display())]);
        fs::write(project.machine.path("repository/nix-cache.toml"), RULES).unwrap();
        Some(Self { project, before: "0".repeat(40) })
    }

    /// Commits what is there and runs the workflow for that push.
    fn push(&mut self) -> ActRun {
        self.push_with("plan.yml", |act| act)
    }

    /// As [`Pushed::push`], with another workflow and run.
    pub(super) fn push_with<'a>(&'a mut self, workflow: &'a str, with: impl FnOnce(Act<'a>) -> Act<'a>) -> ActRun {
        let commit = self.project.commit("push");
        let event = self.project.machine.path("event.json");
        let payload = serde_json::json!({
            "before": std::mem::replace(&mut self.before, commit.clone()), "after": commit, "ref": "refs/heads/main",
            "repository": { "default_branch": "main" },
        });
        fs::write(&event, payload.to_string()).unwrap();
        let run = with(self.project.workflow(workflow).with_event(&event)).run();
        assert!(run.green, "{}", run.text);
        run
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        fs::write(self.project.machine.path("repository/machines").join(name), text).unwrap();
    }
}

/// The targets that jobs built, as those wrote them down, and how many derivations that took.
pub(super) fn built(run: &ActRun) -> (BTreeSet<String>, u64) {
    let files = fs::read_dir(run.folder.join("results")).unwrap().map(|entry| entry.unwrap());
    let ours = files.filter(|entry| entry.file_name().to_string_lossy().starts_with("built-"));
    let jobs: Vec<Value> =
        ours.map(|entry| serde_json::from_str(&fs::read_to_string(entry.path()).unwrap()).unwrap()).collect();
    let attrs = jobs.iter().flat_map(|job| job["attrs"].as_str().unwrap().split(' ').map(str::to_owned));
    (attrs.collect(), jobs.iter().map(|job| job["built"].as_u64().unwrap()).sum())
}

pub(super) fn affected(run: &ActRun) -> Vec<String> {
    serde_json::from_str(run.outputs()["affected"].as_str().unwrap()).unwrap()
}

#[test]
fn a_second_push_builds_only_the_machine_that_changed() {
    let Some(mut pushed) = Pushed::new() else { return };
    let first = pushed.push();
    assert_eq!(affected(&first).len(), 6, "{}", first.text);
    let matrix: Value = serde_json::from_str(first.outputs()["matrix"].as_str().unwrap()).unwrap();
    // Three machines, and one job for the package and its check.
    assert_eq!(matrix["include"].as_array().unwrap().len(), 4, "{matrix}");
    assert_eq!((built(&first).0.len(), first.outputs()["any-jobs"].as_str()), (6, Some("true")));
    assert!(first.summary().contains("Build plan"), "{}", first.summary());

    pushed.write("hosts/desk/default.nix", "{ motd = \"new\"; }");
    let second = pushed.push();
    let desk = "nixosConfigurations.desk.config.system.build.toplevel";
    // Its one job had all but that machine from the cache.
    assert_eq!(built(&second), (BTreeSet::from([desk.to_owned()]), 1), "{}", second.text);
    let reasons: Value = serde_json::from_str(second.outputs()["reason"].as_str().unwrap()).unwrap();
    assert_eq!(reasons["nixosConfigurations.desk"]["level"], "derivation", "{reasons}");
    assert_eq!(reasons["nixosConfigurations.server"]["level"], "rules", "{reasons}");

    pushed.write("docs/manual.md", "2");
    let third = pushed.push();
    assert_eq!((built(&third).0.len(), third.outputs()["any-jobs"].as_str()), (0, Some("false")), "{}", third.text);
    // A change without effect: evaluated, found to be the same, and not built.
    pushed.write("modules/common.nix", "{ shared = \"1\"; } # the same\n");
    let fourth = pushed.push();
    assert_eq!(affected(&fourth), [""; 0], "{}", fourth.text);
    let reasons: Value = serde_json::from_str(fourth.outputs()["reason"].as_str().unwrap()).unwrap();
    assert_eq!(reasons["nixosConfigurations.desk"]["level"], "derivation", "{reasons}");
}
