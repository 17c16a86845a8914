//! `nix-cache build` as a step of the action: commands for the runner, outputs, summary, and what the next step knows.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::project::{Project, first};
use super::server::{Fault, Refusals, Server};
use crate::support::program::Run;

/// A job whose steps are builds.
pub(super) struct Job<'a> {
    project: &'a Project,
    folder: PathBuf,
}

impl<'a> Job<'a> {
    fn new(project: &'a Project) -> Self {
        Self::named(project, "runner")
    }

    pub(super) fn named(project: &'a Project, name: &str) -> Self {
        let folder = project.machine.path(name);
        fs::create_dir_all(folder.join("temp")).unwrap();
        Self { project, folder }
    }

    fn step(&self, mut inputs: Value) -> Run {
        inputs["flake"] = format!("path:{}", self.project.folder.display()).into();
        inputs["out-link"] = "".into();
        self.step_of("build", inputs)
    }

    pub(super) fn build(&self, inputs: Value) -> Run {
        self.step(inputs)
    }

    /// A step of the hook, or of `build/`.
    pub(super) fn step_of(&self, step: &str, mut inputs: Value) -> Run {
        if step != "restore" && step != "post" {
            inputs["action"] = step.into();
        }
        let mut command = self.project.machine.nix_cache(&["action", step]);
        for (name, file) in [("GITHUB_OUTPUT", "output"), ("GITHUB_STEP_SUMMARY", "summary"), ("RUNNER_TEMP", "temp")] {
            command.env(name, self.folder.join(file));
        }
        for file in ["output", "summary"] {
            let file = self.folder.join(file);
            fs::write(&file, fs::read(&file).unwrap_or_default()).unwrap();
        }
        command.env("GITHUB_ACTIONS", "true").env("GITHUB_WORKSPACE", &self.project.folder);
        command.env("NIX_CACHE_STORE_ROOT", &self.project.store.root).env("NIX_CACHE_INPUTS", inputs.to_string());
        command.env("ACTIONS_RUNTIME_TOKEN", "s3cret-token").env("GITHUB_JOB", "build");
        Run::of(command)
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).unwrap()
    }

    fn builds(&self) -> Vec<Value> {
        let files = walkdir::WalkDir::new(self.folder.join("temp")).into_iter().map(Result::unwrap);
        let reports: Vec<_> = files.filter(|file| file.file_name() == "report.json").collect();
        assert_eq!(reports.len(), 1, "{reports:?}");
        let report: Value = serde_json::from_str(&fs::read_to_string(reports[0].path()).unwrap()).unwrap();
        report["builds"].as_array().unwrap().clone()
    }
}

#[test]
fn a_later_step_leaves_out_what_kept_failing() {
    let Some(project) = first() else { return };
    fs::create_dir_all(project.machine.path("cache")).unwrap();
    fs::write(project.machine.path("cache/nix-cache-info"), "StoreDir: /nix/store\nWantMassQuery: 1\n").unwrap();
    let refusals = Refusals { of: ".narinfo", times: u64::MAX, fault: Fault::Status(503) };
    let server = Server::start(project.machine.path("cache"), refusals);
    let arguments = format!("--option substituters {} --option download-attempts 1", server.url);
    let job = Job::new(&project);
    for target in ["one", "two"] {
        let run = job.step(json!({ "targets": target, "nix-args": arguments, "retry-delay": "1" }));
        assert_eq!(run.code, Some(0), "{run:?}");
    }
    let builds = job.builds();
    let attempts: Vec<_> = builds.iter().map(|build| build["attempts"].as_u64().unwrap()).collect();
    assert_eq!(attempts, [3, 1], "{builds:?}");
    assert!(builds.iter().all(|build| build["substituters-left-out"] == json!([server.url])), "{builds:?}");
    assert!(!server.asked().iter().any(|file| file.contains("two")));
}

#[test]
fn a_failure_is_annotated_at_its_line_and_a_success_folded() {
    let Some(project) = first() else { return };
    let job = Job::new(&project);
    let run = job.step(json!({ "targets": "one fails" }));
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.out.contains("::group::one: built in "), "{}", run.out);
    assert!(run.out.contains("\none> ::error::from the builder\n"), "{}", run.out);
    assert!(run.out.contains("\nfails: failed after ") && run.out.contains("\nfails> some line\n"), "{}", run.out);
    let annotation = run.out.lines().find(|line| line.starts_with("::error ")).unwrap();
    for part in
        ["title=Build failure%3A fails", "file=main.c", "line=2", "col=11", "%0A> main.c:2:11: error: expected ;"]
    {
        assert!(annotation.contains(part), "{part}: {annotation}");
    }
    assert_eq!(run.out.lines().filter(|line| line.starts_with("::error")).count(), 1, "{}", run.out);
    let output = job.file("output");
    for part in ["failure", "[\"fails\"]", "report.json"] {
        assert!(output.contains(part), "{part}: {output}");
    }
    let summary = job.file("summary");
    assert!(summary.contains("### Nix build") && summary.contains("<code>main.c&#58;2</code>"), "{summary}");
    assert!(!format!("{run:?}{output}{summary}").contains("s3cret-token"));
    assert_eq!(job.builds().len(), 1);
}

#[test]
fn wrong_inputs_are_named() {
    let Some(project) = first() else { return };
    let run = Job::new(&project).step(json!({ "retries": "many" }));
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.out.contains("::error title=nix-cache::The input \"retries\" is \"many\""), "{}", run.out);
}
