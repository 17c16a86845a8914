//! The workflows in `examples/`, as far as act can run them: only what act cannot do is replaced. Left out are `side-by-side.yml` (act does not
//! know `background`), and those of `hosted.rs`.

use std::fs;
use std::path::{Path, PathBuf};

use super::project;
use super::project::Project;
use super::reusable::{ended, local, prepare};
use super::run::ActRun;
use crate::plan::flake;

/// A repository with the flake of three machines at its top.
pub(super) struct Repository {
    pub(super) project: Project,
}

impl Repository {
    pub(super) fn new() -> Option<Self> {
        let project = project()?;
        let top = project.machine.path("repository");
        flake::prepare(&project.machine, &top);
        project.machine.store("for-locking").nix(&["flake", "lock", &format!("path:{}", top.display())]);
        prepare(&project);
        Some(Self { project })
    }

    /// Pushes the repository with this example as its only workflow, and runs that.
    fn push(&self, example: &str, replacements: &[(&str, &str)]) -> ActRun {
        let event = self.put(example, replacements);
        let run = self.project.workflow(example).with_event(&event).run();
        assert!(run.green, "{example}: {}", run.text);
        run
    }

    /// Commits the repository with this example as its only workflow. Returns the event of the push.
    pub(super) fn put(&self, example: &str, replacements: &[(&str, &str)]) -> PathBuf {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example);
        let mut text = local(&fs::read_to_string(file).unwrap());
        // The store of a job is a folder here, and Nix has to be told.
        text = text.replace("run: nix build\n", "run: nix build --store \"$NIX_CACHE_STORE_ROOT\" --no-link\n");
        for (from, to) in replacements {
            assert!(text.contains(from), "{example} has no {from}");
            text = text.replace(from, to);
        }
        fs::write(self.project.machine.path("repository/.github/workflows").join(example), text).unwrap();
        // Each push is another commit, and no target reads this file.
        let pushes = self.project.machine.path("repository/pushes");
        fs::write(&pushes, fs::read_to_string(&pushes).unwrap_or_default() + "one more\n").unwrap();
        let commit = self.project.commit("push");
        let payload = serde_json::json!({
            "before": "0".repeat(40), "after": commit, "ref": "refs/heads/main", "repository": { "default_branch": "main" },
        });
        let event = self.project.machine.path("event.json");
        fs::write(&event, payload.to_string()).unwrap();
        event
    }
}

#[test]
fn the_quick_start_and_the_shared_disk_restore_what_they_saved() {
    let Some(repository) = Repository::new() else { return };
    let disk = format!("dir:{}", repository.project.machine.path("disk").display());
    let shared = [("dir:/mnt/nix-cache", &*disk), ("[self-hosted, linux]", "ubuntu-latest")];
    for (example, replacements, jobs) in
        [("quick-start.yml", &[][..], &["build"][..]), ("self-hosted.yml", &shared, &["build", "prune"])]
    {
        let cold = repository.push(example, replacements);
        assert!(cold.text.contains("Saved"), "{example}: {}", cold.text);
        let warm = repository.push(example, replacements);
        assert!(warm.text.contains("Restored") && warm.text.contains("Exact hit"), "{example}: {}", warm.text);
        for job in jobs {
            assert_eq!(ended(&warm, job), Some("success"), "{example}: {}", warm.text);
        }
        assert!(!warm.log().contains("building '"), "{example}: {}", warm.text);
    }
}

#[test]
fn plans_of_the_examples_build_what_they_are_to() {
    let rows = |run: &ActRun| {
        let jobs = run.events.iter().filter(|event| event["jobResult"] == "success");
        jobs.map(|event| event["matrix"].to_string()).collect::<String>()
    };
    for (example, kinds) in [
        ("nixos-flake.yml", &["nixosConfigurations", "packages", "checks"][..]),
        ("machines.yml", &["nixosConfigurations", "checks"]),
        ("packages.yml", &["packages", "checks"]),
    ] {
        let Some(repository) = Repository::new() else { return };
        let run = repository.push(example, &[]);
        assert_eq!(ended(&run, "done"), Some("success"), "{example}: {}", run.text);
        let built = rows(&run);
        for kind in ["nixosConfigurations", "packages", "checks"] {
            assert_eq!(built.contains(kind), kinds.contains(&kind), "{example}: {kind} in {built}: {}", run.text);
        }
    }
}
