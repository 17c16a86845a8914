//! Which targets there are, which are considered, and the resulting jobs.

use super::flake::{Flake, MACHINES, built, decision, set, small};
use crate::support::machine::system;
use crate::support::nix;
use crate::support::program::Run;

const NOTHING: &str = "0123456789012345678901234567890123456789";

#[test]
fn targets_are_chosen_by_patterns_of_the_command_line_and_the_file() {
    let Some(nix) = nix::all().first() else { return };
    let flake = Flake::new(nix);
    let with = |more: &[&str]| flake.built(&[&["--base", NOTHING], more].concat());
    assert_eq!(with(&["--include", "nixosConfigurations"]), set(&MACHINES));
    assert_eq!(
        with(&["--include", "desk", "--include", "checks.*.*"]),
        small(&[MACHINES[0], "checks.SYSTEM.tool-works"])
    );
    assert_eq!(
        with(&["--exclude", "nixosConfigurations.*", "--exclude", "packages"]),
        small(&["checks.SYSTEM.tool-works"])
    );
    flake.write("nix-cache.toml", "[plan]\ninclude = [\"nixosConfigurations\"]\nexclude = [\"laptop\"]\n");
    flake.commit();
    assert_eq!(with(&[]), set(&[MACHINES[0], MACHINES[2]]));
    assert_eq!(with(&["--include", "checks"]), small(&["checks.SYSTEM.tool-works"]));
}

#[test]
fn a_flake_with_a_bit_of_everything_is_evaluated_target_by_target() {
    for nix in nix::all() {
        let flake = Flake::new(nix);
        let text = std::fs::read_to_string(flake.repository.join("flake.nix")).unwrap();
        let more = r#"
      homeConfigurations.me.activationPackage = build "home" "me";
      darwinConfigurations.mac.system = build "mac" "mac" // { system = "aarch64-darwin"; };
      devShells.${system}.default = build "shell" "s";
      packages.riscv64-linux.far = build "far" "f" // { system = "riscv64-linux"; };
      packages.${system} = {
        inherit tool;
        default = tool;
        "with.dot" = build "dot" "d";
        "two words" = build "space" "d";
        broken = throw "this one is broken";
        missing = (import ./not-there.nix);
        set = { };
        two = derivation { name = "two"; inherit system; builder = sh; args = [ "sh" "-c" "echo > $doc; echo > $bin" ]; outputs = [ "doc" "bin" ]; };
      };"#;
        let start = text.find("packages.${system} = {").unwrap();
        let end = start + text[start..].find("};").unwrap() + 2;
        flake.write("flake.nix", &format!("{}{more}{}", &text[..start], &text[end..]));
        flake.commit();
        let map = format!(r#"{{"{}": "ubuntu-latest", "aarch64-darwin": ["self-hosted", "mac"]}}"#, system());
        let run = flake.plan(&["--base", NOTHING, "--runner-map", &map, "--group-size", "3", "--workers", "2"]);
        let plan = run.json();
        let level = |target: &str| decision(&plan, &target.replace("SYSTEM", &system())).0.to_owned();
        assert_eq!(level("packages.SYSTEM.broken"), "evaluation");
        assert!(decision(&plan, &format!("packages.{}.broken", system())).1.contains("this one is broken"));
        assert_eq!(level("packages.SYSTEM.missing"), "evaluation");
        assert_eq!(
            (level("packages.SYSTEM.set"), level("packages.riscv64-linux.far")),
            ("evaluation".into(), "runner".into())
        );
        for target in [
            "homeConfigurations.me",
            "darwinConfigurations.mac",
            "devShells.SYSTEM.default",
            "packages.SYSTEM.\"with.dot\"",
            "packages.SYSTEM.two",
        ] {
            assert_eq!(level(target), "base", "{target}");
        }
        assert!(run.log.contains("two words\" is left out"), "{}", run.log);
        let jobs = plan["matrix"]["include"].as_array().unwrap();
        let of = |attr: &str| {
            jobs.iter().find(|job| job["attrs"].as_str().unwrap().split(' ').any(|one| one == attr)).unwrap()
        };
        assert_eq!(of("darwinConfigurations.mac.system")["runs-on"], serde_json::json!(["self-hosted", "mac"]));
        assert_eq!(of("homeConfigurations.me.activationPackage")["name"], "homeConfigurations.me");
        let tool = format!("packages.{}.tool", system());
        assert_eq!(of(&tool), of(&format!("packages.{}.default", system())), "one derivation, one job");
        assert!(jobs.iter().all(|job| job["attrs"].as_str().unwrap().split(' ').count() <= 4));
        let again = flake.plan(&["--base", NOTHING, "--runner-map", &map, "--group-size", "3", "--workers", "1"]);
        assert_eq!(again.out, run.out, "the order is always the same");
    }
}

/// The flake with more outputs in the place of its packages.
fn with_packages(flake: &Flake, more: &str) {
    let text = std::fs::read_to_string(flake.repository.join("flake.nix")).unwrap();
    let start = text.find("packages.${system} = {").unwrap();
    let end = start + text[start..].find("};").unwrap() + 2;
    flake.write("flake.nix", &format!("{}{more}{}", &text[..start], &text[end..]));
    flake.commit();
}

#[test]
fn a_system_or_an_output_that_throws_does_not_end_the_plan() {
    for nix in nix::all() {
        let flake = Flake::new(nix);
        let more = r#"
      packages.${system} = { inherit tool; };
      packages.x86_64-darwin = throw "x86_64-darwin is not supported any more";
      devShells.${system}.default = build "shell" "s";
      devShells.aarch64-darwin = { a = 1; }.b;
      homeConfigurations = throw "no homes yet";
      darwinConfigurations = throw "never asked for";"#;
        with_packages(&flake, more);
        let run = flake.plan(&["--base", NOTHING, "--exclude", "darwinConfigurations"]);
        let plan = run.json();
        assert!(built(&plan).contains(&format!("packages.{}.tool", system())), "{plan}");
        let of = |target: &str| {
            let all = plan["decisions"].as_array().unwrap();
            let one = all.iter().find(|one| one["target"] == target).unwrap_or_else(|| panic!("no {target} in {plan}"));
            (one["verdict"].as_str().unwrap().to_owned(), one["level"].as_str().unwrap().to_owned())
        };
        assert_eq!(of("packages.x86_64-darwin"), ("skip".into(), "evaluation".into()));
        assert!(decision(&plan, "packages.x86_64-darwin").1.contains("x86_64-darwin is not supported any more"));
        assert_eq!(
            of("devShells.aarch64-darwin"),
            ("build".into(), "evaluation".into()),
            "a mistake is told by its job"
        );
        assert_eq!(of("homeConfigurations"), ("build".into(), "evaluation".into()));
        assert!(decision(&plan, "homeConfigurations").1.contains("no homes yet"), "{plan}");
        assert!(!run.out.contains("never asked for") && !run.out.contains("builtins."), "{plan}");
        let jobs = plan["matrix"]["include"].as_array().unwrap();
        assert!(jobs.iter().any(|job| job["attrs"] == "homeConfigurations"), "{plan}");
        let run = flake.plan(&["--base", NOTHING, "--include", &format!("packages.{}", system())]);
        assert_eq!(built(&run.json()), small(&["packages.SYSTEM.tool"]), "{}", run.log);
    }
}

#[test]
fn what_cannot_be_evaluated_has_a_job_of_its_own() {
    for nix in nix::all() {
        let flake = Flake::new(nix);
        with_packages(
            &flake,
            r#"
      packages.${system} = { a = build "a" "a"; b = throw "not b"; c = build "c" "c"; "d#e%f^g" = build "d" "d"; };"#,
        );
        let plan = flake.plan(&["--base", NOTHING, "--include", "packages"]).json();
        let jobs: Vec<_> =
            plan["matrix"]["include"].as_array().unwrap().iter().map(|job| job["targets"].as_str().unwrap()).collect();
        let (a, b) = (format!("packages.{}.a", system()), format!("packages.{}.b", system()));
        assert!(jobs.contains(&b.as_str()), "{jobs:?}");
        let shared = jobs.iter().find(|job| job.contains(&a)).unwrap();
        assert_eq!(shared.split(' ').count(), 3, "{jobs:?}");
        // Names with marks that addresses have are built as any other.
        let attrs: Vec<&str> = plan["matrix"]["include"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|job| job["attrs"].as_str().unwrap().split(' '))
            .collect();
        let marked = attrs.iter().find(|attr| attr.contains('#')).unwrap();
        let mut command = flake.machine.nix_cache(&["build", "--no-link", "--quiet", "--retries", "0"]);
        command.arg("--flake").arg(format!("git+file://{}", flake.repository.display()));
        command.arg("--store-root").arg(&flake.store.root).arg(marked);
        let run = Run::of(command);
        assert_eq!(run.code, Some(0), "{marked}: {}", run.log);
    }
}

#[test]
fn a_pattern_that_means_nothing_is_refused_with_names_that_are_like_it() {
    let Some(nix) = nix::all().first() else { return };
    let flake = Flake::new(nix);
    let run = flake.plan(&["--base", NOTHING, "--include", "nixosConfiguration.desk"]);
    assert_eq!(run.code, Some(2), "{}", run.log);
    assert!(
        run.log.contains("\"nixosConfiguration.desk\" means no target")
            && run.log.contains("`nixosConfigurations.desk`"),
        "{}",
        run.log
    );
    let run = flake.plan(&["--base", NOTHING, "--exclude", "laptp"]);
    assert_eq!(built(&run.json()).len(), 6, "{}", run.out);
    assert!(
        run.log.contains("\"laptp\" means no target") && run.log.contains("`nixosConfigurations.laptop`"),
        "{}",
        run.log
    );
    flake.write("nix-cache.toml", "[plan.rules]\n\"hosts/desk/**\" = \"nixosConfigurations.dsk\"\n");
    flake.commit();
    let run = flake.plan(&["--base", NOTHING]);
    assert_eq!(run.code, Some(2), "{}", run.log);
    assert!(
        run.log.contains("\"hosts/desk/**\" of nix-cache.toml") && run.log.contains("`nixosConfigurations.desk`"),
        "{}",
        run.log
    );
}

#[test]
fn the_matrix_can_be_had_alone_and_a_text_says_why() {
    let Some(nix) = nix::all().first() else { return };
    let flake = Flake::new(nix);
    let run = |format: &str| flake.plan(&["--base", NOTHING, "--exclude", "laptop", "--format", format]);
    let (matrix, all) = (run("matrix").json(), run("json").json());
    assert_eq!(matrix, all["matrix"]);
    assert_eq!(matrix["include"][0]["attrs"], "nixosConfigurations.desk.config.system.build.toplevel");
    assert!(matrix["include"][0]["runs-on"].is_string());
    let text = run("text").out;
    assert!(
        text.starts_with(
            "5 of 5 targets to build in 3 jobs; compared with nothing: the base 0123456789 is not available"
        ),
        "{text}"
    );
    assert!(
        text.contains("\nbuild  nixosConfigurations.desk") && text.contains("job    nixosConfigurations.server on "),
        "{text}"
    );
}

#[test]
fn what_needs_more_memory_than_a_worker_has_is_evaluated_alone() {
    for nix in nix::all() {
        let flake = Flake::new(nix);
        flake.write(
            "hosts/desk/default.nix",
            "{ motd = let l = builtins.genList (x: [ x x x ]) 1000000; in builtins.toString (builtins.length (builtins.deepSeq l l)); }",
        );
        flake.commit();
        let run = flake.plan(&["--base", NOTHING, "--include", "nixosConfigurations", "--worker-memory", "60M"]);
        let plan = run.json();
        assert!(run.log.contains("nixosConfigurations.desk needs more memory than a worker has"), "{}", run.log);
        assert_eq!(decision(&plan, MACHINES[0]).0, "base", "{plan}");
        assert!(plan["decisions"].as_array().unwrap().iter().all(|one| one["drv"].is_string()), "{plan}");
    }
}

#[test]
fn a_flake_in_a_folder_of_its_repository_is_planned_as_well() {
    let Some(nix) = nix::all().first() else { return };
    let flake = Flake::new(nix);
    for name in ["flake.nix", "flake.lock", "hosts", "modules", "package", "tools"] {
        std::fs::create_dir_all(flake.repository.join("a flake")).unwrap();
        flake.git(&["mv", name, "a flake/"]);
    }
    flake.write("nix-cache.toml", "[plan.rules]\n\"a flake/hosts/<host>/**\" = \"<host>\"\n");
    let base = flake.commit();
    flake.write("a flake/hosts/server/default.nix", "{ motd = \"new\"; }");
    flake.commit();
    let run = flake.plan_in(&flake.repository.join("a flake"), &["--base", &base]);
    assert_eq!(built(&run.json()), set(&[MACHINES[2]]), "{}", run.log);
}

#[test]
fn mistakes_of_the_users_are_errors_and_name_the_place() {
    let Some(nix) = nix::all().first() else { return };
    let flake = Flake::new(nix);
    let fails = |more: &[&str], code: i32, said: &str| {
        let run = flake.plan(more);
        assert!(run.code == Some(code) && run.log.contains(said), "{more:?}: {:?}: {}", run.code, run.log);
    };
    fails(&["--include", "a..b"], 2, "is not a pattern for targets");
    fails(&["--runner-map", "ubuntu-latest"], 2, "--runner-map");
    fails(&["--worker-memory", "much"], 2, "--worker-memory");
    fails(&["--rules", "not-there.toml"], 2, "There is no rules file not-there.toml");
    flake.write("nix-cache.toml", "[plan.rules]\n\"hosts/**\" = \"all\"\n\"docs/**\" = 3\n");
    fails(&[], 2, "nix-cache.toml, line 3: a rule takes \"all\", \"none\"");
    flake.write("nix-cache.toml", "");
    flake.write("flake.nix", "{ outputs = { self }: { nixosConfigurations = throw \"not yet\"; }; }");
    let run = Run::of({
        let mut command = flake.machine.nix_cache(&["plan", "--base", "HEAD", "--evaluate", "always"]);
        command.arg("--project").arg(&flake.repository).arg("--store-root").arg(&flake.store.root);
        command
    });
    assert!(run.code == Some(1) && run.log.contains("`nixosConfigurations`: not yet"), "{}", run.log);
}

/// Stands in for nix-eval-jobs, which no package of the test machine has: takes its options, evaluates the same expression by Nix, and
/// prints lines of the form that its README has.
const EVAL_JOBS: &str = r#"#!/bin/sh
while [ $# -gt 0 ]; do
  case $1 in
    --expr) expr=$2; shift ;;
    --option) [ "$2" = store ] && store=$3; shift 2 ;;
    --workers | --max-memory-size) shift ;;
    *) echo "nix-eval-jobs: unknown option $1" >&2; exit 1 ;;
  esac
  shift
done
line='n: d: builtins.toJSON { attr = n; attrPath = [ n ]; inherit (d) name system drvPath; outputs = builtins.listToAttrs (map (o: { name = o; value = (d.${o} or d).outPath; }) (d.outputs or [ "out" ])); }'
exec nix eval --raw --store "$store" --expr "$expr" --apply "jobs: builtins.concatStringsSep \"\n\" (builtins.attrValues (builtins.mapAttrs ($line) jobs))"
"#;

#[test]
fn nix_eval_jobs_is_used_where_it_is_and_what_it_does_not_answer_is_asked_of_nix() {
    for nix in nix::all() {
        let flake = Flake::new(nix);
        let folder = flake.machine.path("programs");
        let program = folder.join("nix-eval-jobs");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(&program, EVAL_JOBS).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let plan = |with: bool| {
            let mut command =
                flake.machine.nix_cache(&["plan", "--format", "json", "--no-substituters", "--base", NOTHING]);
            command.arg("--project").arg(&flake.repository).arg("--store-root").arg(&flake.store.root);
            if with {
                let path =
                    command.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, path)| path).unwrap().to_owned();
                let folders = std::iter::once(folder.clone()).chain(std::env::split_paths(&path));
                command.env("PATH", std::env::join_paths(folders).unwrap());
            }
            Run::of(command)
        };
        let (with, without) = (plan(true), plan(false));
        assert!(with.log.contains("nix-eval-jobs evaluated 6 of 6 targets"), "{}", with.log);
        assert!(!without.log.contains("nix-eval-jobs"), "{}", without.log);
        assert_eq!(with.json(), without.json());
        flake.write("hosts/desk/default.nix", "{ motd = throw \"no message\"; }");
        flake.commit();
        let (with, without) = (plan(true), plan(false));
        assert!(with.log.contains("nix-eval-jobs evaluated 0 of 6 targets"), "{}", with.log);
        assert_eq!(with.json(), without.json());
        assert_eq!(decision(&with.json(), MACHINES[0]).0, "evaluation");
    }
}
