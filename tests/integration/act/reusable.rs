//! The reusable workflow `.github/workflows/nix-ci.yml`, called by the workflow that `nix-cache init` writes. Only what act cannot do is
//! replaced: `$/`, actions that it would have to download, and that all jobs share this machine's store.

use std::fs;
use std::path::Path;

use super::plan::Pushed;
use super::project::Project;
use super::run::ActRun;
use crate::init::WORKFLOW;
use crate::support::folder::copy;
use crate::support::machine::system;
use crate::support::program::Run;

/// A workflow in a form that act can run: the actions are those of the repository, which every job checks out; others that act would have to download do nothing, and each
/// job has a store of its own.
pub(super) fn local(text: &str) -> String {
    let store =
        "\n    env:\n      NIX_CACHE_STORE_ROOT: ${{ vars.STORE }}/${{ matrix.name || github.job }}\n    steps:\n";
    let mut text = text
        .replace("blazedots/nix-cache-action/.github/workflows/nix-ci.yml@v1", "./.github/workflows/nix-ci.yml")
        .replace("blazedots/nix-cache-action@v1", "./nix-cache")
        .replace("uses: $/", "uses: ./nix-cache/")
        .replace("\n    steps:\n", store);
    // The actions are in the repository, for want of a tag of them here.
    let checkout = "      - uses: actions/checkout@v7\n";
    let with_checkout = |(number, steps): (usize, &str)| {
        let needs_one = number > 0 && !steps.contains("actions/checkout@");
        format!("{}{steps}", if needs_one { checkout } else { "" })
    };
    text = text.split("    steps:\n").enumerate().map(with_checkout).collect::<Vec<_>>().join("    steps:\n");
    while let Some((before, behind)) = text.split_once("blazedots/nix-cache-action/") {
        text = format!("{before}./nix-cache/{}", behind.replacen("@v1", "", 1));
    }
    let (mut kept, mut skipping) = (Vec::new(), None);
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        if let Some((before, action)) = line.split_once("uses: ")
            && !action.starts_with("./")
            && !action.starts_with("actions/checkout@")
        {
            kept.push(line.replace(action, "true").replace("uses:", "run:"));
            skipping = Some(before.len());
            continue;
        }
        // What such an action would get.
        match skipping {
            Some(column) if indent > column || line.trim() == "with:" => {}
            // Between the two.
            Some(column) if indent == column && !line.trim_start().starts_with('-') => kept.push(line.to_owned()),
            _ => {
                skipping = None;
                kept.push(line.to_owned());
            }
        }
    }
    kept.join("\n") + "\n"
}

/// Copies the workflow into the repository, in a form that act can run.
pub(super) fn prepare(project: &Project) {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join(".github/workflows/nix-ci.yml");
    let text = fs::read_to_string(ours).unwrap();
    assert_eq!(text.matches("\n    steps:\n").count(), 10, "every job is known");
    fs::write(project.machine.path("repository/.github/workflows/nix-ci.yml"), local(&text)).unwrap();
    project.ship_binary();
}

/// Lets `nix-cache init` write the workflow and its rules for the flake in `folder`, and calls the workflow of this repository in it. Returns
/// the text.
fn write_workflow(project: &Project, folder: &str) -> String {
    project.commit("the flake");
    let mut command = project.machine.nix_cache(&["init", "--force", "--project"]);
    command.arg(project.machine.path("repository").join(folder));
    command.arg("--store-root").arg(&project.machine.store("for-init").root);
    let done = Run::of(command);
    assert_eq!(done.code, Some(0), "{}", done.log);
    let file = project.machine.path("repository").join(WORKFLOW);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("blazedots/nix-cache-action/.github/workflows/nix-ci.yml@v1"), "{text}");
    let local = local(&text);
    fs::write(&file, &local).unwrap();
    local
}

/// As [`write_workflow`] for the flake of machines, with the audit and the dashboard.
fn write_caller(project: &Project) {
    let text = write_workflow(project, "machines");
    let file = project.machine.path("repository").join(WORKFLOW);
    let audit = "audit: true\n      audit-targets: nixosConfigurations.desk.config.system.build.toplevel\n      dashboard: true\n      install-nix: false";
    let local = text.replace("audit: false", audit);
    assert!(local.contains(audit) && local.contains("flake: machines"), "{text}");
    fs::write(&file, local).unwrap();
}

/// How a job of the called workflow ended; None if it did not run.
pub(super) fn ended<'a>(run: &'a ActRun, job: &str) -> Option<&'a str> {
    let of_job = run.events.iter().filter(|event| event["jobID"] == job);
    of_job.filter_map(|event| event["jobResult"].as_str()).next_back()
}

/// How many derivations all its jobs built, as they say.
fn built(run: &ActRun) -> u64 {
    let log = run.log();
    let said = log.lines().filter_map(|line| line.split_once("Built in ")?.1.split_once(": "));
    said.filter_map(|(_, counts)| counts.split_once(" derivation")?.0.parse::<u64>().ok()).sum()
}

/// The flake of the demo at the top of the repository.
fn demo(project: &Project) -> &'static str {
    let (ours, repository) = (Path::new(env!("CARGO_MANIFEST_DIR")), project.machine.path("repository"));
    for entry in fs::read_dir(ours.join("scripts/demo")).unwrap().map(Result::unwrap) {
        copy(&entry.path(), &repository.join(entry.file_name()));
    }
    copy(&project.machine.path("project/tools"), &repository.join("tools"));
    let text = fs::read_to_string(repository.join("flake.nix")).unwrap();
    let words = format!("path:{}", repository.join("words").display());
    // Fewer packages than in the demo: how many there are changes nothing.
    let text = text.replace("@system@", &system()).replace("path:./words", &words).replace("package 120", "package 12");
    fs::write(repository.join("flake.nix"), text).unwrap();
    project.machine.store("for-locking").nix(&["flake", "lock", &format!("path:{}", repository.display())]);
    "."
}

/// The flake of packages in a folder, without the one that cannot be built.
fn packages(project: &Project) -> &'static str {
    let file = project.machine.path("repository/flake/flake.nix");
    let text = fs::read_to_string(&file).unwrap();
    let (before, rest) = text.split_once("          broken = derivation {").unwrap();
    let (_, after) = rest.split_once("          };\n").unwrap();
    // And for this machine alone, since act has no other.
    let text = format!("{before}{after}").replace("\"x86_64-linux\" \"aarch64-linux\"", &format!("\"{}\"", system()));
    fs::write(&file, text).unwrap();
    "flake"
}

/// A flake without inputs and without a lock file, with a package and a check.
fn small(project: &Project) -> &'static str {
    let folder = project.machine.path("repository/small");
    fs::create_dir_all(&folder).unwrap();
    copy(&project.machine.path("project/tools"), &folder.join("tools"));
    let text = r#"{
  outputs = _: let
    make = name: derivation {
      inherit name; system = "@system@"; builder = "${./tools}/busybox"; args = [ "sh" "-c" "echo ${name} > $out" ];
    };
  in {
    packages."@system@".default = make "one";
    checks."@system@".two = make "two";
  };
}
"#;
    fs::write(folder.join("flake.nix"), text.replace("@system@", &system())).unwrap();
    "small"
}

#[test]
fn the_workflow_that_init_writes_runs_for_flakes_of_every_kind() {
    type Prepare = fn(&Project) -> &'static str;
    // How many derivations are built at least: those of the flake, in one job or several.
    for (flake, least) in [(demo as Prepare, 13), (packages, 13), (small, 2)] {
        let Some(mut pushed) = Pushed::new() else { return };
        prepare(&pushed.project);
        let folder = flake(&pushed.project);
        let text = write_workflow(&pushed.project, folder);
        assert_eq!(text.contains("\n      flake: "), folder != ".", "{text}");
        let local = text.replace("install-nix: true", "install-nix: false");
        let local = if local.contains("install-nix:") { local } else { local + "      install-nix: false\n" };
        fs::write(pushed.project.machine.path("repository").join(WORKFLOW), local).unwrap();
        let run = pushed.push_with("nix-cache.yml", |act| act);
        for job in ["plan", "build", "done"] {
            assert_eq!(ended(&run, job), Some("success"), "{folder}: {job}: {}", run.text);
        }
        assert!(built(&run) >= least, "{folder}: {} derivations: {}", built(&run), run.text);
        assert_eq!(run.annotations("error"), [""; 0], "{folder}: {}", run.text);
    }
}

#[test]
fn the_reusable_workflow_plans_builds_audits_and_ends_with_one_result() {
    let Some(mut pushed) = Pushed::new() else { return };
    prepare(&pushed.project);
    write_caller(&pushed.project);
    let first = pushed.push_with("nix-cache.yml", |act| act);
    for job in ["plan", "build", "audit", "dashboard", "done"] {
        assert_eq!(ended(&first, job), Some("success"), "{job}: {}", first.text);
    }
    for job in ["checks", "sarif"] {
        assert_eq!(ended(&first, job), None, "nobody asked for {job}: {}", first.text);
    }
    assert!(built(&first) >= 5, "{}", first.text);
    assert!(first.text.contains("lock-path"), "the audit finds the input of this machine: {}", first.text);

    // A change that concerns no target: the plan alone, and the result. (The audit's target is built already.)
    pushed.write("docs/manual.md", "2");
    let second = pushed.push_with("nix-cache.yml", |act| act);
    assert_eq!((ended(&second, "build"), ended(&second, "done")), (None, Some("success")), "{}", second.text);
    assert_eq!(built(&second), 0, "{}", second.text);
}
