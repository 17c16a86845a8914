//! Packages of a real flake, by every version of Nix: where what is known of them is from, what is found, and what is new.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::{rules, validate};
use crate::support::folder::copy;
use crate::support::machine::{Machine, TestStore, system};
use crate::support::nix::{self, Nix};
use crate::support::program::Run;

/// A flake without inputs: `app` refers to all but `tool`, which only builds it. `hidden` stands in a text alone.
const FLAKE: &str = r#"{
  outputs = _: let
    package = { name, version, refers ? "", attributes ? { }, meta ? { } }: derivation ({
      inherit version refers;
      pname = name;
      name = "${name}-${version}";
      system = "@system@";
      builder = "${./tools}/busybox";
      args = [ "sh" "-c" "echo $refers > $out" ];
    } // attributes) // { inherit version meta; pname = name; };
    mit = { spdxId = "MIT"; shortName = "mit"; };
    gpl = { spdxId = "GPL-3.0-only"; shortName = "gpl3Only"; };
    library = package { name = "library"; version = "2.0"; meta.license = [ mit gpl ]; };
    openssl = package { name = "openssl"; version = "@openssl@"; meta = {
      license = { licenseType = "compound"; operator = "OR"; licenses = [ mit gpl ]; };
      identifiers.cpe = "cpe:2.3:a:openssl:openssl:@openssl@:*:*:*:*:*:*:*";
      knownVulnerabilities = [ "It is old" ];
    }; };
    demo = package { name = "demo"; version = "1.5"; meta = { identifiers.cpe = "cpe:2.3:a:acme:demo:1.5:*:*:*:*:*:*:*"; license = throw "unfree"; }; };
    hidden = package { name = "hidden"; version = "3.1"; attributes.patches = [ ./CVE-2020-12345.patch ]; };
    git = package { name = "git"; version = "2.45.0"; attributes.patches = [ @patches@ ]; };
    tool = package { name = "tool"; version = "1.1.1"; meta = { license = gpl; knownVulnerabilities = [ "Not at run time" ]; }; };
  in {
    packages."@system@".default = package {
      name = "app";
      version = "1.0";
      refers = "${library} ${openssl} ${demo} ${hidden} ${git} ${./notes-7.txt}";
      attributes = { inherit tool; inputs = [ library [ openssl demo ] ]; };
      meta.license = mit;
    };
    packages."@system@".odd = package { name = "odd"; version = "2.2"; meta.license = { }.missing; };
    packages."@system@".bad = throw "This does not evaluate.";
  };
}
"#;

const POLICY: &str = "[audit]\ntools = []\n[audit.licenses]\nallow = [\"MIT\"]\n[audit.vulnerabilities]\nfeeds = \"feeds\"\n[audit.severity]\nvulnerability = \"error\"\n";

struct Flake {
    machine: Machine,
    store: TestStore,
    folder: PathBuf,
    target: String,
}

impl Flake {
    fn new(nix: &Nix) -> Self {
        let machine = Machine::new(nix);
        let flake = Self {
            store: machine.store("store"),
            folder: machine.path("flake"),
            target: format!("packages.{}.default", system()),
            machine,
        };
        fs::create_dir_all(flake.folder.join("feeds")).unwrap();
        copy(&flake.machine.path("project/tools/busybox"), &flake.folder.join("tools/busybox"));
        fs::write(flake.folder.join("feeds/nvd.json"), include_str!("../../../src/audit/testdata/nvd.json")).unwrap();
        for (file, text) in [("notes-7.txt", "notes"), ("CVE-2020-12345.patch", ""), ("nix-cache.toml", POLICY)] {
            fs::write(flake.folder.join(file), text).unwrap();
        }
        flake.git(&["init", "--quiet", "--initial-branch=main"]);
        flake
    }

    fn git(&self, arguments: &[&str]) {
        let mut git = self.machine.command("git");
        git.current_dir(&self.folder).args(["-c", "user.name=t", "-c", "user.email=t@t"]);
        assert!(git.args(arguments).status().unwrap().success());
    }

    /// Commits the flake with this version of openssl.
    fn commit(&self, openssl: &str) {
        self.commit_with(openssl, "");
    }

    /// The same with these patches of git.
    fn commit_with(&self, openssl: &str, patches: &str) {
        let text = FLAKE.replace("@system@", &system()).replace("@openssl@", openssl).replace("@patches@", patches);
        fs::write(self.folder.join("flake.nix"), text).unwrap();
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", "m"]);
    }

    fn build(&self) {
        self.store.nix(&["build", "--no-link", &format!("git+file://{}#default", self.folder.display())]);
    }

    fn audit(&self, more: &[&str]) -> Run {
        let mut command = self.machine.nix_cache(&["audit", "--targets", &self.target]);
        command.arg("--project").arg(&self.folder).arg("--store-root").arg(&self.store.root).args(more);
        Run::of(command)
    }
}

fn notes(report: &Value) -> String {
    report["notes"].to_string()
}

#[test]
fn packages_are_known_from_where_they_say_and_only_what_is_new_fails() {
    for nix in nix::all() {
        let flake = Flake::new(nix);
        flake.commit("3.0.9");
        let unbuilt = flake.audit(&["--format", "json"]).json();
        assert!(notes(&unbuilt).contains("Build it before the audit") && unbuilt["coverage"].is_null(), "{unbuilt}");
        flake.build();
        let (sbom, sarif) = (flake.machine.path("bom.json"), flake.machine.path("audit.sarif"));
        let files = ["--format", "json", "--sbom", sbom.to_str().unwrap(), "--sarif", sarif.to_str().unwrap()];
        let first = flake.audit(&files);
        let report: Value = serde_json::from_str(&first.out).unwrap();
        known(&report);
        // Two of demo's advisories have a score of 9.8 and none, one is of git; all are errors by the policy.
        assert_eq!(
            rules(&report, false),
            [
                "vulnerability",
                "vulnerability",
                "vulnerability",
                "known-vulnerability",
                "license-denied",
                "license-unknown"
            ]
        );
        assert_eq!(first.code, Some(1), "nothing is compared, so all of it counts");
        validate(&sbom, "cyclonedx-1.5.json");
        validate(&sarif, "sarif-2.1.0.json");
        let bytes = fs::read(&sbom).unwrap();
        flake.audit(&files);
        assert_eq!(fs::read(&sbom).unwrap(), bytes, "the same closure, the same bytes");
        // A change that adds nothing fails nothing; one that adds a vulnerable version does.
        let same = flake.audit(&["--base", "HEAD", "--format", "json"]);
        assert_eq!(
            (same.code, rules(&serde_json::from_str(&same.out).unwrap(), true)),
            (Some(0), vec![]),
            "{}",
            same.log
        );
        flake.commit("3.0.1");
        flake.build();
        let added = flake.audit(&["--base", "HEAD^", "--format", "json"]);
        let report: Value = serde_json::from_str(&added.out).unwrap();
        assert_eq!(rules(&report, true), ["vulnerability", "known-vulnerability"], "{}", added.log);
        assert!(
            added.code == Some(1) && added.log.contains("1 finding that the base lacks, first openssl 3.0.1"),
            "{}",
            added.log
        );
        // What is built only is looked at on request.
        fs::write(flake.folder.join("nix-cache.toml"), "[audit]\ntools = []\nclosure = \"build\"\n").unwrap();
        let built = flake.audit(&["--format", "json"]).json();
        assert!(built["findings"].to_string().contains("Not at run time"), "{built}");
    }
}

/// What is known of each path, and from where.
fn known(report: &Value) {
    let packages = report["packages"].as_array().unwrap();
    let mut all: Vec<String> = packages
        .iter()
        .map(|package| {
            let text = |name: &str| package[name].as_str().unwrap_or("-");
            format!("{} {} {} {}", text("name"), text("version"), text("source"), text("licence"))
        })
        .collect();
    all.sort();
    assert_eq!(
        all,
        [
            "app 1.0 evaluation MIT",
            "demo 1.5 evaluation -",
            "git 2.45.0 derivation -",
            "hidden 3.1 derivation -",
            "library 2.0 evaluation MIT AND GPL-3.0-only",
            "notes 7.txt name -",
            "openssl 3.0.9 evaluation MIT OR GPL-3.0-only",
        ]
    );
    let coverage = &report["coverage"];
    assert_eq!(
        (&coverage["paths"], &coverage["evaluated-paths"], &coverage["derivation-paths"]),
        (&7.into(), &4.into(), &2.into())
    );
    assert!(packages.iter().any(|package| package["patched"][0] == "CVE-2020-12345"), "{packages:?}");
    assert!(
        notes(report).contains("Of 7 paths") && notes(report).contains("57 % are known from the evaluation"),
        "{}",
        notes(report)
    );
    assert!(notes(report).contains("The vulnerability data is of 2026-11-20"), "{}", notes(report));
}

#[test]
fn a_patch_that_a_change_removes_is_missed() {
    let Some(nix) = nix::all().first() else { return };
    let flake = Flake::new(nix);
    fs::write(flake.folder.join("CVE-2026-0245.patch"), "").unwrap();
    flake.commit_with("3.0.9", "./CVE-2026-0245.patch");
    flake.build();
    let of_git = |run: &Run| {
        let report: Value = serde_json::from_str(&run.out).unwrap();
        let findings = report["findings"].as_array().unwrap().clone();
        findings.into_iter().find(|it| it["subject"] == "git 2.45.0").map(|it| it["is-new"].clone())
    };
    assert_eq!(of_git(&flake.audit(&["--format", "json"])), None, "the patch repairs it");
    flake.commit_with("3.0.9", "");
    flake.build();
    let removed = flake.audit(&["--base", "HEAD^", "--format", "json"]);
    assert_eq!((of_git(&removed), removed.code), (Some(true.into()), Some(1)), "{}", removed.log);
    // As it was at the base, it is not new, though no evaluation of a value reaches it.
    assert_eq!(of_git(&flake.audit(&["--base", "HEAD", "--format", "json"])), Some(false.into()));
}

#[test]
fn what_does_not_evaluate_is_told_and_fails_nothing() {
    let Some(nix) = nix::all().first() else { return };
    let flake = Flake::new(nix);
    flake.commit("3.0.9");
    let bad = flake.target.replace("default", "bad");
    let run = Run::of({
        let mut command =
            flake.machine.nix_cache(&["audit", "--format", "json", "--targets", &bad, "--feeds", "nowhere"]);
        command.arg("--project").arg(&flake.folder).arg("--store-root").arg(&flake.store.root);
        command.args(["--store-path", "/nix/store/00000000000000000000000000000000-gone"]);
        command
    });
    let found = notes(&run.json());
    // An error that Nix cannot catch, in what one package says of itself: its derivation is known all the same.
    flake.store.nix(&["build", "--no-link", &format!("git+file://{}#odd", flake.folder.display())]);
    let odd = flake.target.replace("default", "odd");
    let mut command = flake.machine.nix_cache(&["audit", "--format", "json", "--targets", &odd]);
    command.arg("--project").arg(&flake.folder).arg("--store-root").arg(&flake.store.root);
    let report = Run::of(command).json();
    assert_eq!(
        (&report["packages"][0]["name"], &report["packages"][0]["source"]),
        (&"odd".into(), &"derivation".into())
    );
    assert!(notes(&report).contains("only their derivations are known: attribute 'missing' missing"), "{report}");
    for part in
        ["This does not evaluate.", "00000000-gone is not a valid store path", "The feeds in nowhere cannot be read"]
    {
        assert!(found.contains(part), "{part}: {found}");
    }
}
