//! What changes, and what the plan makes of it: held against what Nix says of both commits.

use std::collections::BTreeSet;

use super::flake::{Flake, MACHINES, RULES, built, decision, git, set, small};
use crate::support::nix;

/// Plans the newest commit, compared with `base`, in every way that evaluates both, and asserts that each is what Nix says. Returns the
/// plan.
fn exact(flake: &Flake, base: &str, expected: &BTreeSet<String>) -> serde_json::Value {
    let head = flake.git(&["rev-parse", "HEAD"]);
    assert_eq!(&flake.differ(base, head.trim()), expected, "the test is wrong about its own change");
    let plan = flake.plan(&["--base", base, "--evaluate", "always"]).json();
    assert_eq!(&built(&plan), expected, "{plan}");
    // Where the rules leave nothing out wrongly, they change nothing in the answer.
    assert_eq!(&flake.built(&["--base", base]), expected);
    plan
}

#[test]
fn each_change_builds_what_it_affects_and_nothing_else() {
    for nix in nix::all() {
        for rules in [Some(RULES), None] {
            let flake = Flake::new(nix);
            if let Some(rules) = rules {
                flake.write("nix-cache.toml", rules);
            }
            let mut last = flake.commit();
            let mut step = |what: &str, change: &dyn Fn(), expected: BTreeSet<String>| {
                change();
                let base = std::mem::replace(&mut last, flake.commit());
                eprintln!("{what}, {}", if rules.is_some() { "with rules" } else { "without" });
                exact(&flake, &base, &expected)
            };
            step("one machine", &|| flake.write("hosts/desk/default.nix", "{ motd = \"new\"; }"), set(&MACHINES[..1]));
            step("a module", &|| flake.write("modules/common.nix", "{ shared = \"2\"; }"), set(&MACHINES));
            let plan = step("docs", &|| flake.write("docs/manual.md", "2"), set(&[]));
            assert_eq!(plan["matrix"]["include"].as_array().unwrap().len(), 0);
            step("the lock", &|| flake.lock("second\n"), set(&[MACHINES[2]]));
            step("nothing", &|| {}, set(&[]));
            // A comment, whatever the files say.
            let plan = step("a comment", &|| flake.write("modules/common.nix", "{ shared = \"2\"; } # c"), set(&[]));
            assert_eq!(decision(&plan, MACHINES[0]).0, "derivation");
            let names = ["checks.SYSTEM.tool-works", "packages.SYSTEM.default", "packages.SYSTEM.tool"];
            step("a package", &|| flake.write("package/text", "2"), small(&names));
            step(
                "a new machine",
                &|| {
                    let text = std::fs::read_to_string(flake.repository.join("flake.nix")).unwrap();
                    flake.write(
                        "flake.nix",
                        &text.replace("desk = machine", "extra = machine \"desk\"; desk = machine"),
                    );
                },
                set(&["nixosConfigurations.extra"]),
            );
        }
    }
}

#[test]
fn without_an_evaluation_the_rules_decide_alone() {
    let Some(nix) = nix::all().first() else { return };
    let flake = Flake::new(nix);
    flake.write("nix-cache.toml", RULES);
    let base = flake.commit();
    let by_rules = |files: &[&str]| {
        flake.git(&["reset", "--quiet", "--hard", &base]);
        for file in files {
            flake.write(file, "changed");
        }
        flake.commit();
        flake.built(&["--base", &base, "--evaluate", "never"])
    };
    assert_eq!(flake.built(&["--base", &base, "--evaluate", "never"]), set(&[]), "nothing changed");
    assert_eq!(by_rules(&["hosts/laptop/x"]), set(&[MACHINES[1]]));
    assert_eq!(by_rules(&["docs/x", "docs/y/z"]), set(&[]));
    assert_eq!(by_rules(&["docs/x", "hosts/desk/x"]), set(&MACHINES[..1]));
    let everything = by_rules(&["somewhere/else"]);
    assert_eq!(everything.len(), 6, "a file that no rule names");
    assert_eq!(by_rules(&["hosts/shared/x"]), everything, "a folder that is no machine");
    let names = ["checks.SYSTEM.tool-works", "packages.SYSTEM.default", "packages.SYSTEM.tool"];
    assert_eq!(by_rules(&["package/x"]), small(&names));
}

#[test]
fn a_rule_that_is_wrong_is_found_out_where_everything_is_evaluated() {
    let Some(nix) = nix::all().first() else { return };
    let flake = Flake::new(nix);
    flake.write("nix-cache.toml", "[plan.rules]\n\"hosts/**\" = \"none\"\n");
    let base = flake.commit();
    flake.write("hosts/desk/default.nix", "{ motd = \"new\"; }");
    flake.commit();
    assert_eq!(flake.built(&["--base", &base]), set(&[]), "the user's rules are believed");
    let run = flake.plan(&["--base", &base, "--evaluate", "always"]);
    assert_eq!(built(&run.json()), set(&MACHINES[..1]));
    assert!(run.log.contains("The rules say that no changed file touches nixosConfigurations.desk"), "{}", run.log);
}

#[test]
fn without_rules_a_text_is_only_left_out_by_its_derivation() {
    let Some(nix) = nix::all().first() else { return };
    let flake = Flake::new(nix);
    let base = flake.commit();
    flake.write("README.md", "2");
    flake.commit();
    let run = flake.plan(&["--base", &base]);
    assert_eq!((decision(&run.json(), MACHINES[0]).0, built(&run.json()).len()), ("derivation", 0));
    assert!(run.log.contains("Evaluating 6 of 6 targets"), "{}", run.log);
    let by_names = flake.plan(&["--base", &base, "--evaluate", "never"]).json();
    assert_eq!(built(&by_names), small(&["checks.SYSTEM.tool-works"]), "checks may read anything");
    // The same change, in a flake that puts its own source into a check.
    let text = std::fs::read_to_string(flake.repository.join("flake.nix")).unwrap();
    flake.write("flake.nix", &text.replace("build \"tool-works\" \"${tool}\"", "build \"tool-works\" \"${self}\""));
    let base = flake.commit();
    flake.write("README.md", "3");
    flake.commit();
    let plan = flake.plan(&["--base", &base]).json();
    assert_eq!(built(&plan), small(&["checks.SYSTEM.tool-works"]), "{plan}");
    assert_eq!(decision(&plan, MACHINES[0]).0, "derivation");
    assert_eq!(flake.built(&["--base", &base, "--evaluate", "never"]).len(), 6, "the code says that it is read");
}

#[test]
fn what_git_cannot_tell_is_built() {
    let Some(nix) = nix::all().first() else { return };
    let flake = Flake::new(nix);
    let all = flake.built(&["--base", "0123456789012345678901234567890123456789"]);
    assert_eq!(all.len(), 6);
    let plan = flake.plan(&["--base", "0123456789012345678901234567890123456789"]).json();
    assert_eq!(decision(&plan, MACHINES[0]).0, "base");
    assert!(decision(&plan, MACHINES[0]).1.contains("is not available"), "{plan}");
    // No repository at all.
    let copy = flake.machine.path("copy");
    std::fs::create_dir_all(&copy).unwrap();
    flake.git(&["--work-tree", copy.to_str().unwrap(), "checkout", "--quiet", "HEAD", "--", "."]);
    let run = flake.plan_in(&copy, &[]);
    assert_eq!(built(&run.json()).len(), 6, "{}", run.log);
    assert!(run.log.contains("Git cannot tell what changed"), "{}", run.log);
}

#[test]
fn changes_that_are_not_committed_count() {
    let Some(nix) = nix::all().first() else { return };
    let flake = Flake::new(nix);
    assert_eq!(flake.built(&["--base", "HEAD"]), set(&[]));
    flake.write("hosts/desk/default.nix", "{ motd = \"new\"; }");
    assert_eq!(flake.built(&[]), set(&MACHINES[..1]), "what a user with a dirty work tree asks for");
    flake.commit();
    assert_eq!(flake.built(&[]), set(&MACHINES[..1]), "and with a clean one, the last commit");
}

/// As on a pull request: a clone with one commit, a base that has to be fetched, and no plan of it.
#[test]
fn the_base_is_fetched_and_evaluated_in_a_shallow_clone() {
    for nix in nix::all() {
        let flake = Flake::new(nix);
        let base = flake.git(&["rev-parse", "HEAD"]).trim().to_owned();
        flake.write("hosts/desk/default.nix", "{ motd = \"new\"; }");
        flake.write("README.md", "2");
        flake.commit();
        let clone = flake.machine.path("clone");
        let from = format!("file://{}", flake.repository.display());
        git(&flake.machine, &flake.repository, &["clone", "--quiet", "--depth=1", &from, clone.to_str().unwrap()]);
        let run = flake.plan_in(&clone, &["--base", &base]);
        assert_eq!(built(&run.json()), set(&MACHINES[..1]), "{}", run.log);
        assert_eq!(decision(&run.json(), MACHINES[0]).0, "derivation");
        assert!(run.log.contains("at the base"), "{}", run.log);
        // Not evaluated, the base leaves only the files to go by.
        let files = flake.plan_in(&clone, &["--base", &base, "--evaluate-base", "never"]).json();
        assert_eq!((built(&files).len(), decision(&files, MACHINES[0]).0), (6, "rules"), "{files}");
    }
}
