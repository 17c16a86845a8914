//! Evaluating once: a plan saves derivations, and its jobs build them without evaluating again.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use nix_cache::layer::hash_of;
use nix_cache::snapshot::{Snapshot, decode};
use nix_cache::store::StorePath;
use rusqlite::Connection;
use serde_json::Value;

use super::flake::{Flake, MACHINES, RULES};
use crate::forged::{change, forge};
use crate::support::cache::{assert_whole, copy, entries};
use crate::support::check::flip_byte;
use crate::support::machine::TestStore;
use crate::support::nix::{self, Nix};
use crate::support::program::Run;

/// A commit that nobody has: everything is built.
const NOTHING: &str = "0123456789012345678901234567890123456789";
/// What plans save derivations under.
const KEY: &str = "plan-drvs-v1-nix";
/// No flake is there.
const NOWHERE: &str = "path:/does/not/exist";

struct Project {
    flake: Flake,
    cache: PathBuf,
}

impl Project {
    fn new(nix: &Nix) -> Self {
        let flake = Flake::new(nix);
        flake.write("nix-cache.toml", RULES);
        flake.commit();
        Self { cache: flake.machine.path("cache"), flake }
    }

    /// The jobs of a plan that saves its derivations.
    fn jobs(&self, base: &str) -> Vec<Value> {
        let run = self.flake.plan(&["--base", base, "--remote", &remote(&self.cache), "--save-drvs"]);
        let jobs = run.json()["matrix"]["include"].as_array().unwrap().clone();
        for job in &jobs {
            assert_eq!(words(job, "drvs").len(), words(job, "attrs").len(), "{job}: {}", run.log);
        }
        jobs
    }

    /// A job of a plan, on a machine whose store is empty.
    fn build(&self, name: &str, job: &Value, (flake, cache): (&str, &Path), more: &[&str]) -> (TestStore, Run) {
        let store = self.flake.machine.store(name);
        (store.clone(), build_in(&store, job, (flake, cache), more))
    }

    fn here(&self) -> String {
        format!("git+file://{}", self.flake.repository.display())
    }

    /// What Nix builds of the attributes of a job, by evaluating them.
    fn evaluated(&self, job: &Value) -> BTreeSet<String> {
        let store = self.flake.machine.store("evaluating");
        let attrs: Vec<String> = words(job, "attrs").iter().map(|attr| format!("{}#{attr}", self.here())).collect();
        let mut arguments = vec!["build", "--no-link", "--json"];
        arguments.extend(attrs.iter().map(String::as_str));
        let built: Value = serde_json::from_str(&store.nix(&arguments)).unwrap();
        let outputs = built.as_array().unwrap().iter().flat_map(|one| one["outputs"].as_object().unwrap().values());
        outputs.map(|path| path.as_str().unwrap().to_owned()).collect()
    }

    fn snapshot(&self) -> Snapshot {
        assert_whole(&self.cache);
        let newest = entries(&self.cache, "snapshot").pop().unwrap();
        decode(&fs::read(newest).unwrap()).unwrap()
    }
}

fn build_in(store: &TestStore, job: &Value, (flake, cache): (&str, &Path), more: &[&str]) -> Run {
    let mut command = store.machine.nix_cache(&["build", "--format", "json", "--no-link", "--flake", flake]);
    command.args(["--remote", &remote(cache), "--drvs", job["drvs"].as_str().unwrap()]).args(more);
    command.args(words(job, "attrs")).arg("--store-root").arg(&store.root);
    Run::of(command)
}

fn remote(cache: &Path) -> String {
    format!("dir:{}", cache.display())
}

fn words<'a>(job: &'a Value, field: &str) -> Vec<&'a str> {
    job[field].as_str().unwrap().split_whitespace().collect()
}

fn paths(run: &Run) -> BTreeSet<String> {
    let report = run.json();
    assert_eq!(report["outcome"], "succeeded", "{}", run.log);
    report["paths"].as_array().unwrap().iter().map(|path| path.as_str().unwrap().to_owned()).collect()
}

fn detach(store: &TestStore) {
    let mut command = store.machine.nix_cache(&["detach"]);
    command.arg("--store-root").arg(&store.root);
    assert!(command.output().unwrap().status.success());
}

#[test]
fn what_a_plan_evaluated_is_built_where_there_is_no_flake() {
    for nix in nix::all() {
        let project = Project::new(nix);
        let jobs = project.jobs(NOTHING);
        assert_eq!(jobs.len(), 4);
        // A machine, and the package with its check.
        for (number, job) in [&jobs[0], &jobs[3]].into_iter().enumerate() {
            for mode in ["unpack", "mount"] {
                let name = format!("{mode}-{number}");
                let more = ["--restore-mode", mode];
                let (store, run) = project.build(&name, job, (NOWHERE, &project.cache), &more);
                assert_eq!(paths(&run), project.evaluated(job), "{}", run.log);
                // Names and not derivations stand in the report.
                let report = run.json();
                let targets: Vec<&str> =
                    report["targets"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
                assert_eq!(targets, words(job, "attrs"));
                store.assert_sound();
                store.assert_verifies();
                detach(&store);
            }
        }
    }
}

#[test]
fn a_later_plan_saves_only_what_is_new() {
    let Some(nix) = nix::all().last() else { return };
    let project = Project::new(nix);
    project.jobs(NOTHING);
    let first = project.snapshot();
    assert!(first.paths.values().all(|record| record.info.path.is_derivation() || record.info.ca.is_some()));
    assert_eq!(first.layers.len(), 1);
    project.flake.write("hosts/desk/default.nix", "{ motd = \"new\"; }");
    project.flake.commit();
    let jobs = project.jobs("HEAD^");
    assert_eq!(words(&jobs[0], "targets"), [MACHINES[0]]);
    let second = project.snapshot();
    assert_eq!(second.layers.len(), 2);
    // One derivation is another one, and no source is.
    assert_eq!(second.paths.len(), first.paths.len() + 1);
    let (_, run) = project.build("desk", &jobs[0], (NOWHERE, &project.cache), &[]);
    assert_eq!(paths(&run), project.evaluated(&jobs[0]));
    // The same once more: nothing is written, and the matrix has the derivations all the same.
    let written = entries(&project.cache, "snapshot").len();
    assert_eq!(project.jobs("HEAD^"), jobs);
    assert_eq!(entries(&project.cache, "snapshot").len(), written);
}

#[test]
fn what_the_cache_does_not_have_is_evaluated_and_said() {
    for nix in nix::all() {
        let project = Project::new(nix);
        let jobs = project.jobs(NOTHING);
        let small = jobs.iter().find(|job| words(job, "attrs").len() > 1).unwrap();
        let empty = project.flake.machine.path("empty");
        let (_, run) = project.build("evicted", small, (&project.here(), &empty), &[]);
        assert_eq!(paths(&run), project.evaluated(small));
        assert!(run.log.contains("evaluated again") && run.log.contains("no derivations under"), "{}", run.log);
        // A target that the plan did not know, beside one that it did.
        let mut partly = small.clone();
        let drvs = words(small, "drvs");
        partly["drvs"] =
            drvs.iter().map(|drv| if *drv == drvs[0] { "-" } else { drv }).collect::<Vec<_>>().join(" ").into();
        let (store, run) = project.build("partly", &partly, (&project.here(), &project.cache), &[]);
        assert_eq!(paths(&run), project.evaluated(small));
        store.assert_sound();
        // Layers that are gone.
        let gutted = project.flake.machine.path("gutted");
        copy(&project.cache, &gutted);
        for layer in entries(&gutted, "layer") {
            fs::remove_file(layer).unwrap();
        }
        let (_, run) = project.build("gutted", small, (&project.here(), &gutted), &[]);
        assert_eq!(paths(&run), project.evaluated(small));
        assert!(run.log.contains("no longer in the cache"), "{}", run.log);
    }
}

#[test]
fn a_list_that_belongs_to_other_targets_is_refused() {
    let Some(nix) = nix::all().last() else { return };
    let project = Project::new(nix);
    let run = |attrs: &[&str], drvs: &str| {
        let mut command = project.flake.machine.nix_cache(&["build", "--drvs", drvs]);
        command.args(attrs);
        Run::of(command)
    };
    let counted = run(&["a", "b"], "-");
    assert_eq!(counted.code, Some(2));
    assert!(counted.log.contains("2 targets and 1 derivations"), "{}", counted.log);
    let wrong = run(&["a"], "/etc/passwd");
    assert!(wrong.code == Some(2) && wrong.log.contains("\"/etc/passwd\""), "{}", wrong.log);
}

/// The source of the machines' shell, in the store where they were evaluated.
fn tools(snapshot: &Snapshot) -> StorePath {
    let mut names = snapshot.paths.keys().map(|key| &key.0).filter(|path| path.name() == "tools");
    names.next().unwrap().clone()
}

#[test]
fn nothing_becomes_valid_that_its_own_bytes_do_not_prove() {
    for nix in nix::all() {
        let project = Project::new(nix);
        let jobs = project.jobs(NOTHING);
        let honest = project.snapshot();
        let (source, job) = (tools(&honest), &jobs[0]);
        let drv = words(job, "drvs")[0].split('^').next().unwrap();
        let drv = StorePath::from_full(drv, "/nix/store").unwrap();
        let record =
            |path: &StorePath| honest.paths.values().find(|record| record.info.path == *path).unwrap().info.clone();

        // Whoever may write to the cache saves a store of theirs, in which other bytes stand under these names.
        let tampered = |name: &str, path: &StorePath, file: Option<&str>| {
            let evil = project.flake.machine.store(name);
            assert!(build_in(&evil, job, (NOWHERE, &project.cache), &[]).code == Some(0));
            let real = evil.dirs().real(path);
            flip_byte(&file.map_or(real.clone(), |file| real.join(file)), 40);
            let database = Connection::open(evil.dirs().db_path()).unwrap();
            let hash = hash_of(&evil.dirs().real(path)).unwrap().to_database();
            let update = "update ValidPaths set hash = ?1, ca = null where path = ?2";
            assert_eq!(database.execute(update, (hash, path.full("/nix/store"))).unwrap(), 1);
            drop(database);
            let cache = project.flake.machine.path(&format!("cache-{name}"));
            evil.save(&cache, KEY, &[]);
            // The record says what the honest one says.
            forge(&cache, |snapshot| change(snapshot, path, |info| *info = record(path)));
            cache
        };
        let other_source = tampered("source", &source, Some("busybox"));
        let other_drv = tampered("drv", &drv, None);
        // The content address left out: nothing ties the bytes to the name.
        let bare = project.flake.machine.path("cache-bare");
        copy(&project.cache, &bare);
        forge(&bare, |snapshot| change(snapshot, &source, |info| info.ca = None));

        for (cache, victim, told) in [
            (&other_source, &source, "path not restored"),
            (&other_drv, &drv, "path not restored"),
            (&bare, &source, "is refused, such as"),
        ] {
            for mode in ["unpack", "mount"] {
                let name = format!("{}-{mode}", cache.file_name().unwrap().to_str().unwrap());
                let (store, run) = project.build(&name, job, (NOWHERE, cache), &["--restore-mode", mode]);
                assert_eq!(run.code, Some(1), "there is no flake to evaluate: {}", run.log);
                assert!(run.log.contains(told) && run.log.contains(victim.as_str()), "{}", run.log);
                assert!(!store.valid().contains(victim), "{mode}: {}", run.log);
                store.assert_sound();
                let run = build_in(&store, job, (&project.here(), cache), &["--restore-mode", mode]);
                assert_eq!(paths(&run), project.evaluated(job), "{mode}");
                store.assert_sound();
                detach(&store);
            }
        }
    }
}
