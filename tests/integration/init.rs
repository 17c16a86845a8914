//! `nix-cache init`, as a new user would run it: on a flake of machines, on one with a package, outside of a flake, and beside workflows that
//! cache Nix in other ways.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::plan::flake::Flake;
use crate::support::nix;
use crate::support::program::Run;
use crate::support::skip;

pub(crate) const WORKFLOW: &str = ".github/workflows/nix-cache.yml";

/// `nix-cache init` of a folder.
pub(crate) fn init(flake: &Flake, folder: &Path, more: &[&str]) -> Run {
    let mut command = flake.machine.nix_cache(&["init", "--quiet"]);
    command.arg("--project").arg(folder).arg("--store-root").arg(&flake.store.root).args(more);
    command.env("GIT_CEILING_DIRECTORIES", flake.repository.parent().unwrap());
    Run::of(command)
}

fn flake() -> Option<Flake> {
    Some(Flake::new(nix::all().first()?))
}

/// Checks a workflow with the tools that check ours.
fn lint(file: &Path) {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin");
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/zizmor.yml");
    let config = config.to_str().unwrap();
    let checks: [(&str, &[&str]); 3] = [
        ("actionlint", &[]),
        ("check-jsonschema", &["-q", "--builtin-schema", "vendor.github-workflows"]),
        ("zizmor", &["--offline", "--quiet", "--no-progress", "--config", config]),
    ];
    for (name, arguments) in checks {
        let ours = tools.join(name);
        let tool = if ours.exists() { ours } else { PathBuf::from(name) };
        match Command::new(&tool).args(arguments).arg(file).output() {
            Ok(done) => {
                let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
                assert!(done.status.success(), "{name}: {said}\n{}", fs::read_to_string(file).unwrap());
            }
            Err(_) => skip(&format!("there is no {name}: scripts/setup-act.sh gets it.")),
        }
    }
}

#[test]
fn a_flake_of_machines_gets_a_workflow_and_one_rule_for_all_machines() {
    let Some(flake) = flake() else { return };
    let seen = init(&flake, &flake.repository, &["--dry-run"]);
    assert_eq!(seen.code, Some(0), "{}", seen.log);
    assert!(
        seen.out.contains("nixosConfigurations: 3 targets") && seen.out.contains("would be created"),
        "{}",
        seen.out
    );
    assert!(!flake.repository.join(".github").exists() && !flake.repository.join("nix-cache.toml").exists());

    let done = init(&flake, &flake.repository, &[]);
    assert_eq!(done.code, Some(0), "{}", done.log);
    let read = |name: &str| fs::read_to_string(flake.repository.join(name)).unwrap();
    let (workflow, rules) = (read(WORKFLOW), read("nix-cache.toml"));
    assert!(seen.out.contains(&workflow) && seen.out.contains(&rules), "a dry run prints what is written");
    assert!(workflow.contains("branches: [main]") && !workflow.contains("\n      flake:"), "{workflow}");
    assert!(rules.contains("\"hosts/<host>/**\" = \"nixosConfigurations.<host>\"\n"), "{rules}");
    lint(&flake.repository.join(WORKFLOW));

    // A machine that reads the folder of another one takes the rule away, and one whose name only starts alike does not.
    for (text, is_safe) in [("{ motd = import ../server-old; }", true), ("{ motd = import ../server/x.nix; }", false)] {
        flake.write("hosts/desk/other.nix", text);
        let seen = init(&flake, &flake.repository, &["--dry-run"]).out;
        assert_eq!(seen.contains("\n\"hosts/<host>/**\" ="), is_safe, "{text}: {seen}");
    }
    fs::remove_file(flake.repository.join("hosts/desk/other.nix")).unwrap();

    // The rules are those that a plan reads: a change of one machine builds that one.
    flake.commit();
    flake.write("hosts/desk/default.nix", "{ motd = \"new\"; }");
    flake.commit();
    let built = flake.built(&["--evaluate", "never"]);
    assert_eq!(built.into_iter().collect::<Vec<_>>(), ["nixosConfigurations.desk"]);
}

#[test]
fn what_a_user_wrote_is_only_replaced_when_they_say_so() {
    let Some(flake) = flake() else { return };
    flake.write("nix-cache.toml", "# mine\n");
    let refused = init(&flake, &flake.repository, &[]);
    assert_eq!(refused.code, Some(2), "{}", refused.out);
    assert!(refused.log.contains("nix-cache.toml") && refused.log.contains("--force"), "{}", refused.log);
    // Not half of it either.
    assert!(!flake.repository.join(WORKFLOW).exists());
    assert_eq!(fs::read_to_string(flake.repository.join("nix-cache.toml")).unwrap(), "# mine\n");

    let forced = init(&flake, &flake.repository, &["--force"]);
    assert!(forced.code == Some(0) && forced.out.contains("replaced  nix-cache.toml"), "{}{}", forced.out, forced.log);
    let again = init(&flake, &flake.repository, &[]);
    assert_eq!((again.code, again.out.matches("unchanged").count()), (Some(0), 2), "{}{}", again.out, again.log);
}

#[test]
fn a_flake_in_a_folder_and_one_that_cannot_be_evaluated() {
    let Some(flake) = flake() else { return };
    flake.write("nix/yes/flake.nix", "{ outputs = _: { packages.riscv64-linux.a = throw \"no\"; }; }");
    flake.commit();
    let done = init(&flake, &flake.repository.join("nix/yes"), &[]);
    assert_eq!(done.code, Some(0), "{}", done.log);
    let workflow = fs::read_to_string(flake.repository.join(WORKFLOW)).unwrap();
    assert!(
        workflow.contains("flake: nix/yes #") && workflow.contains("packages.riscv64-linux: 1 target\n"),
        "{workflow}"
    );
    assert!(workflow.contains("# runner-map:"), "{workflow}");
    lint(&flake.repository.join(WORKFLOW));

    flake.write("nix/yes/flake.nix", "{ outputs = ");
    let done = init(&flake, &flake.repository.join("nix/yes"), &["--force"]);
    assert_eq!(done.code, Some(0), "{}", done.log);
    assert!(done.log.contains("could not be evaluated"), "{}", done.log);
    let workflow = fs::read_to_string(flake.repository.join(WORKFLOW)).unwrap();
    assert!(workflow.contains("could not be evaluated"), "{workflow}");
    lint(&flake.repository.join(WORKFLOW));
}

#[test]
fn outside_of_a_flake_or_a_repository_it_says_what_to_do() {
    let Some(flake) = flake() else { return };
    let empty = flake.machine.path("empty");
    fs::create_dir_all(&empty).unwrap();
    let run = init(&flake, &empty, &[]);
    assert!(run.code == Some(2) && run.log.contains("no flake.nix") && run.log.contains("--project"), "{}", run.log);
    fs::write(empty.join("flake.nix"), "{ outputs = _: { }; }").unwrap();
    let run = init(&flake, &empty, &[]);
    assert!(run.code == Some(2) && run.log.contains("git init"), "{}", run.log);
    let run = init(&flake, &flake.machine.path("nowhere"), &[]);
    assert!(run.code == Some(2) && run.log.contains("nowhere"), "{}", run.log);
}

#[test]
fn other_caches_in_the_workflows_are_named_with_what_becomes_of_their_inputs() {
    let Some(flake) = flake() else { return };
    let ci = "jobs:
  build:
    steps:
      - uses: actions/checkout@v5
      - uses: actions/cache@v4
        with:
          path: ~/.cargo
          key: cargo
      - uses: actions/cache@v4
        with:
          path: /nix
          key: nix
          save-always: true
      - uses: nix-community/cache-nix-action@v7
        with:
          primary-key: nix
          gc-max-store-size-linux: 5G
      - uses: DeterminateSystems/magic-nix-cache-action@main
      - uses: Mic92/hestia/matrix@v3
        with:
          skip-unmapped-systems: true
      - uses: cachix/cachix-action@v16
        with:
          name: mine
          newInput: x
";
    flake.write(".github/workflows/ci.yml", ci);
    let run = init(&flake, &flake.repository, &["--dry-run"]);
    assert_eq!(run.code, Some(0), "{}", run.log);
    let lines: Vec<&str> = run.out.lines().filter(|line| line.starts_with(".github/workflows/ci.yml:")).collect();
    let expected = [
        ".github/workflows/ci.yml:9: actions/cache",
        ".github/workflows/ci.yml:14: nix-community/cache-nix-action",
        ".github/workflows/ci.yml:18: DeterminateSystems/magic-nix-cache-action",
        ".github/workflows/ci.yml:19: Mic92/hestia/matrix",
        ".github/workflows/ci.yml:22: cachix/cachix-action",
    ];
    assert_eq!(lines, expected, "{}", run.out);
    let becomes = |input: &str| {
        let line =
            run.out.lines().find(|line| line.trim_start().starts_with(input)).unwrap_or_else(|| panic!("{input}"));
        line.to_owned()
    };
    assert!(becomes("gc-max-store-size-linux").contains("`max-size`"));
    assert!(becomes("save-always").contains("`save: on-success`"));
    assert!(becomes("newInput").contains("unknown"));
    assert_eq!(
        fs::read_to_string(flake.repository.join(".github/workflows/ci.yml")).unwrap(),
        ci,
        "nothing is changed"
    );
}
