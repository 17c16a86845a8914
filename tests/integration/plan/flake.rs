//! A repository with a flake of three machines, and its plans.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::folder::copy;
use crate::support::machine::{Machine, TestStore, system};
use crate::support::nix::Nix;
use crate::support::program::Run;

/// The machines, the package under two names, and the check of the flake.
pub(crate) const MACHINES: [&str; 3] =
    ["nixosConfigurations.desk", "nixosConfigurations.laptop", "nixosConfigurations.server"];

/// Rules as a user would write them.
pub(crate) const RULES: &str = r#"[plan.rules]
"hosts/<host>/**" = "nixosConfigurations.<host>"
"modules/**" = "all"
"docs/**" = "none"
"package/**" = ["packages.*.tool", "packages.*.default", "checks"]
"#;

/// A repository, the machine it is on, and the store that it is evaluated in.
pub(crate) struct Flake {
    pub machine: Machine,
    pub store: TestStore,
    pub repository: PathBuf,
}

impl Flake {
    /// A repository with one commit.
    pub(crate) fn new(nix: &Nix) -> Self {
        let machine = Machine::new(nix);
        let repository = machine.path("repository");
        let flake = Self { store: machine.store("store"), machine, repository };
        prepare(&flake.machine, &flake.repository);
        flake.git(&["init", "--quiet", "--initial-branch=main"]);
        flake.lock("first\n");
        flake.commit();
        flake
    }

    /// Writes a file of the repository.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let file = self.repository.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    /// Changes the flake's input and locks it.
    pub(crate) fn lock(&self, words: &str) {
        fs::write(self.machine.path("words/list"), words).unwrap();
        let _ = fs::remove_file(self.repository.join("flake.lock"));
        self.git(&["add", "--all"]);
        self.store.nix(&["flake", "lock", &format!("path:{}", self.repository.display())]);
    }

    /// Commits everything, even nothing. Returns the commit.
    pub(crate) fn commit(&self) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", "m"]);
        self.git(&["rev-parse", "HEAD"]).trim().to_owned()
    }

    /// Runs git in the repository.
    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        git(&self.machine, &self.repository, arguments)
    }

    /// `nix-cache plan` of the repository.
    pub(crate) fn plan(&self, more: &[&str]) -> Run {
        self.plan_in(&self.repository, more)
    }

    /// `nix-cache plan` of another clone of it.
    pub(crate) fn plan_in(&self, clone: &Path, more: &[&str]) -> Run {
        let mut command = self.machine.nix_cache(&["plan", "--no-substituters"]);
        if !more.contains(&"--format") {
            command.args(["--format", "json"]);
        }
        command.arg("--project").arg(clone).arg("--store-root").arg(&self.store.root).args(more);
        // The folders of the tests are inside of this repository.
        command.env("GIT_CEILING_DIRECTORIES", self.repository.parent().unwrap());
        Run::of(command)
    }

    /// The targets that a plan builds.
    pub(crate) fn built(&self, more: &[&str]) -> BTreeSet<String> {
        built(&self.plan(more).json())
    }

    /// All targets with their derivations at a commit, by asking Nix for each: the answer that a plan is held against.
    pub(crate) fn derivations(&self, commit: &str) -> BTreeMap<String, String> {
        let url = format!("git+file://{}?rev={commit}", self.repository.display());
        let mut found = BTreeMap::new();
        let ask = |attr: &str, apply: &str| {
            let mut command = self.machine.command("nix");
            command
                .args(["eval", "--json", &format!("{url}#{attr}"), "--apply", apply])
                .arg("--store")
                .arg(&self.store.root);
            let output = command.output().unwrap();
            serde_json::from_slice::<Value>(&output.stdout).ok()
        };
        for (output, inside) in
            [("nixosConfigurations", ".config.system.build.toplevel"), ("packages", ""), ("checks", "")]
        {
            let by_system = if inside.is_empty() { format!("{output}.{}", system()) } else { output.to_owned() };
            let names = ask(&by_system, "builtins.attrNames").unwrap_or_default();
            for name in names.as_array().into_iter().flatten().filter_map(Value::as_str) {
                let drv = ask(&format!("{by_system}.{name}{inside}"), "d: d.drvPath");
                found.extend(drv.and_then(|drv| Some((format!("{by_system}.{name}"), drv.as_str()?.to_owned()))));
            }
        }
        found
    }

    /// The targets whose derivations differ between two commits, or that are in one alone.
    pub(crate) fn differ(&self, old: &str, new: &str) -> BTreeSet<String> {
        let (old, new) = (self.derivations(old), self.derivations(new));
        assert!(old.len() > 4 && new.len() > 4, "{old:?} {new:?}");
        new.iter().filter(|(attr, drv)| old.get(*attr) != Some(drv)).map(|(attr, _)| attr.clone()).collect()
    }
}

/// Puts the flake into a folder, for this system and with an input that stands for nixpkgs, so that there is a lock to change.
pub(crate) fn prepare(machine: &Machine, folder: &Path) {
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workflows/machines"), folder);
    copy(&machine.path("project/tools/busybox"), &folder.join("tools/busybox"));
    fs::create_dir_all(machine.path("words")).unwrap();
    let text = include_str!("../../workflows/machines/flake.nix");
    let text = text.replace("@words@", &machine.path("words").display().to_string());
    fs::write(folder.join("flake.nix"), text.replace("@system@", &system())).unwrap();
}

/// Runs git.
pub(crate) fn git(machine: &Machine, folder: &Path, arguments: &[&str]) -> String {
    let who = ["-c", "user.name=t", "-c", "user.email=t@t"];
    let mut command = machine.command("git");
    let output = command.args(who).args(arguments).current_dir(folder).output().expect("git runs");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The targets that a plan builds.
pub(crate) fn built(plan: &Value) -> BTreeSet<String> {
    let all = plan["decisions"].as_array().unwrap().iter();
    all.filter(|one| one["verdict"] == "build").map(|one| one["target"].as_str().unwrap().to_owned()).collect()
}

/// What was decided about a target: the level, and the reason.
pub(crate) fn decision<'a>(plan: &'a Value, target: &str) -> (&'a str, &'a str) {
    let all = plan["decisions"].as_array().unwrap();
    let one = all.iter().find(|one| one["target"] == target).unwrap_or_else(|| panic!("no {target} in {plan}"));
    (one["level"].as_str().unwrap(), one["reason"].as_str().unwrap())
}

/// The names of this system's packages and checks.
pub(crate) fn small(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| name.replace("SYSTEM", &system())).collect()
}

/// A set of names.
pub(crate) fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
