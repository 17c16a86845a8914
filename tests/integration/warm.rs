//! Warming with real Nix: what is built, saved and touched, what fails, and the lock file of a pull request.

mod joined;
mod pull;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::plan::flake::Flake;
use crate::support::machine::{TestStore, system};
use crate::support::nix::{self, Nix};
use crate::support::program::Run;

/// What the builders of shells need of this machine.
const SHELLS: [&str; 3] = ["--nix-arg=--option", "--nix-arg=sandbox-paths", "--nix-arg=/bin /lib /lib64 /usr"];

/// A repository with all kinds of targets, some of which fail, and a cache in a folder.
pub(crate) struct Project {
    pub flake: Flake,
    pub cache: PathBuf,
}

impl Project {
    pub(crate) fn new(nix: &Nix) -> Self {
        let flake = Flake::new(nix);
        let text = fs::read_to_string(flake.repository.join("flake.nix")).unwrap();
        let more = r#"
        broken = derivation { name = "broken"; inherit system; builder = sh; args = [ "sh" "-c" "echo gone; exit 7" ]; };
        above = build "above" "${self.packages.${system}.broken}";
        odd = throw "no such thing";
      };
      packages.riscv64-linux.far = build "far" "far";
      formatter.${system} = build "formatter" "formatter";
      devShells.${system}.default = derivation {
        name = "shell";
        outputs = [ "out" ];
        inherit system;
        builder = "/bin/bash";
        args = [ "-c" "echo shell > $out" ];
      };"#;
        let text = text.replace("packages.${system} = {", "packages = {\n        ${system} = {");
        let text = text.replacen("default = tool;\n      };", &format!("default = tool;{more}"), 1);
        let text = text.replacen("packages.riscv64-linux.far", "riscv64-linux.far", 1);
        let text = text.replacen("\"far\" \"far\";", "\"far\" \"far\";\n      };", 1);
        flake.write("flake.nix", &text);
        flake.commit();
        Self { cache: flake.machine.path("cache"), flake }
    }

    /// Warms with the store `store`.
    pub(crate) fn warm(&self, store: &TestStore, more: &[&str]) -> Run {
        Run::of(self.command(store, more))
    }

    fn command(&self, store: &TestStore, more: &[&str]) -> Command {
        let mut command = self.flake.machine.nix_cache(&["warm", "--format", "json", "--threads", "2"]);
        command.arg("--project").arg(&self.flake.repository).arg("--store-root").arg(&store.root);
        command.arg("--remote").arg(format!("dir:{}", self.cache.display())).args(SHELLS).args(more);
        command.env("GIT_CEILING_DIRECTORIES", self.flake.repository.parent().unwrap());
        command.env_remove("GITHUB_TOKEN").env_remove("GITHUB_REPOSITORY");
        command
    }

    /// Restores into an empty store what the lock file of the repository finds.
    pub(crate) fn restored(&self, name: &str) -> (TestStore, Value) {
        let store = self.flake.machine.store(name);
        let mut command = self.flake.machine.nix_cache(&["restore", "--format", "json", "--threads", "2"]);
        command.arg("--project").arg(&self.flake.repository).arg("--store-root").arg(&store.root);
        command.arg("--remote").arg(format!("dir:{}", self.cache.display()));
        let outcome = Run::of(command).json();
        (store, outcome)
    }

    /// The names of the derivations that a build of these attributes has to build in `store`.
    pub(crate) fn missing(&self, store: &TestStore, attrs: &[&str]) -> BTreeSet<String> {
        let mut command = self.flake.machine.command("nix");
        command.args(["build", "--dry-run", "--no-link", "--store"]).arg(&store.root);
        command.args(attrs.iter().map(|attr| format!("git+file://{}#{attr}", self.flake.repository.display())));
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let drvs = said.split_whitespace().filter_map(|word| word.strip_suffix(".drv"));
        drvs.map(|drv| drv.rsplit('/').next().unwrap()[33..].to_owned()).collect()
    }
}

/// The state of each target of a report.
pub(crate) fn states(report: &Value) -> BTreeMap<&str, (&str, &str)> {
    let all = report["targets"].as_array().unwrap().iter();
    all.map(|target| {
        let of = |name: &str| target[name].as_str().unwrap();
        (of("name"), (of("state"), of("why")))
    })
    .collect()
}

#[test]
fn everything_is_warm_and_what_fails_stops_nothing() {
    for nix in nix::all() {
        let project = Project::new(nix);
        let run = project.warm(&project.flake.machine.store("warm"), &[]);
        assert_eq!(run.code, Some(1), "{}{}", run.out, run.log);
        let report: Value = serde_json::from_str(&run.out).unwrap();
        let states = states(&report);
        let here = system();
        let of = |attr: &str| {
            states.get(&*attr.replace("SYSTEM", &here)).copied().unwrap_or_else(|| panic!("{attr}: {states:?}"))
        };
        for warm in [
            "inputs",
            "nixosConfigurations.desk",
            "nixosConfigurations.server",
            "packages.SYSTEM.tool",
            "checks.SYSTEM.tool-works",
            "devShells.SYSTEM.default",
            "formatter.SYSTEM",
        ] {
            assert_eq!(of(warm).0, "warmed", "{warm}: {states:?}\n{}", run.log);
        }
        assert_eq!(of("packages.SYSTEM.broken").0, "failed");
        let (state, why) = of("packages.SYSTEM.above");
        assert!(state == "failed" && why.contains("something that it needs") && why.contains("broken"), "{why}");
        let (state, why) = of("packages.SYSTEM.odd");
        assert!(state == "failed" && why.contains("no such thing"), "{why}");
        assert_eq!(report["elsewhere"], 1, "{report}");
        assert!(run.log.contains("packages.SYSTEM.broken".replace("SYSTEM", &here).as_str()), "{}", run.log);
        assert!(report["touched"]["entries"].as_u64() > Some(0) && report["touched"]["missing"] == 0, "{report}");

        // Another machine builds nothing of it, and neither shell nor inputs need anything.
        let (store, outcome) = project.restored("other");
        assert_eq!(outcome["hit"], "exact", "{outcome}");
        let attrs = [
            "tool".to_owned(),
            format!("checks.{here}.tool-works"),
            format!("formatter.{here}"),
            "nixosConfigurations.server.config.system.build.toplevel".to_owned(),
            format!("devShells.{here}.default"),
        ];
        let attrs: Vec<&str> = attrs.iter().map(String::as_str).collect();
        assert_eq!(project.missing(&store, &attrs), BTreeSet::new());
        assert!(!project.missing(&store, &["broken"]).is_empty());
        let names: BTreeSet<String> = store.valid().iter().map(|path| path.name().to_owned()).collect();
        assert!(names.contains("shell-env"), "{names:?}");

        // Nothing is new the second time, and what is named alone is done alone.
        let run = project.warm(&store, &["--targets", "tool", "--no-flake-inputs", "--no-touch"]);
        let report = run.json();
        assert_eq!(self::states(&report).keys().copied().collect::<Vec<_>>(), ["tool"]);
        assert_eq!((&report["touched"], &report["elsewhere"]), (&Value::Null, &0.into()));
        assert!(run.log.contains("Nothing saved"), "{}", run.log);
    }
}

#[test]
fn an_excluded_target_is_left_and_a_broken_flake_is_said() {
    let Some(nix) = nix::all().last() else { return };
    let project = Project::new(nix);
    project.flake.write(
        "nix-cache.toml",
        "[plan]\ninclude = [\"packages.*.tool\", \"packages.*.default\"]\nexclude = [\"packages.*.default\"]\n",
    );
    project.flake.commit();
    let store = project.flake.machine.store("warm");
    let report = project.warm(&store, &["--no-flake-inputs"]).json();
    assert_eq!(states(&report).keys().copied().collect::<Vec<_>>(), [format!("packages.{}.tool", system())]);
    // Named targets need not be ones that plans look at, and what is not a target is said.
    let run = project.warm(&store, &["--targets", "default nothing", "--no-flake-inputs"]);
    let report: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!((states(&report)["default"].0, states(&report)["nothing"].0, run.code), ("warmed", "failed", Some(1)));
    project.flake.write("flake.nix", "{ outputs = nonsense; }");
    let run = project.warm(&store, &[]);
    let report: Value = serde_json::from_str(&run.out).unwrap_or_else(|error| panic!("{error}: {}", run.log));
    assert_eq!((states(&report)["targets"].0, run.code), ("failed", Some(1)), "{report}");
    assert!(run.log.contains("Not warmed, because it failed"), "{}", run.log);
}

#[test]
fn feeds_are_refreshed_where_the_policy_names_a_folder() {
    let Some(nix) = nix::all().last() else { return };
    let project = Project::new(nix);
    let feeds = project.flake.machine.path("nvd");
    fs::create_dir_all(&feeds).unwrap();
    let feed = concat!(env!("CARGO_MANIFEST_DIR"), "/src/audit/testdata/nvd.json");
    fs::copy(feed, feeds.join("nvdcve-2.0-2026.json")).unwrap();
    project.flake.write("nix-cache.toml", "[audit.vulnerabilities]\nfeeds = \".feeds\"\n");
    project.flake.write(".gitignore", ".feeds\n");
    project.flake.commit();
    let store = project.flake.machine.store("warm");
    let only = ["--targets", "tool", "--no-flake-inputs", "--feeds-from"];
    let report = project.warm(&store, &[&only[..], &[feeds.to_str().unwrap()]].concat()).json();
    let (state, why) = states(&report)["feeds"];
    assert!(state == "warmed" && why.contains("records of 1 feed"), "{why}");
    assert_eq!(fs::read_dir(project.flake.repository.join(".feeds")).unwrap().count(), 1);
    // Feeds that are not there leave the old file, and the rest is warmed.
    let run = project.warm(&store, &[&only[..], &["/does/not/exist"]].concat());
    let report: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!((states(&report)["feeds"].0, states(&report)["tool"].0, run.code), ("failed", "warmed", Some(1)));
    assert_eq!(fs::read_dir(project.flake.repository.join(".feeds")).unwrap().count(), 1);
}
