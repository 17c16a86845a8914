//! Whole workflows, run by act with the real hook in Node, the real program and real builds, against the fake cache service.
//! Differences between act and GitHub's runner: act does not support `uses: $/hook`, gives the cache's token to all steps, has no
//! pull requests, does not pass the matrix to nested actions, and reports success to the post step of a failed job.

mod audits;
mod builds;
mod examples;
mod fleet;
mod hosted;
mod once;
mod plan;
mod project;
mod reusable;
mod run;

use serde_json::Value;

use crate::support::fake::{FakeConfig, Fault, FaultName, Operation, Scope};
use crate::support::nix;
use project::{Act, Project, act};
use run::ActRun;

const MAIN: &str = "refs/heads/main";

/// A project on the first Nix that is here, or nothing where act cannot run.
fn project() -> Option<Project> {
    Some(Project::new(&act()?, nix::all().first()?, FakeConfig::default()))
}

fn green(act: Act<'_>) -> ActRun {
    let run = act.run();
    assert!(run.green && run.job("") == "success", "{}", run.text);
    run
}

/// The build ran and the store is sound.
fn assert_built(run: &ActRun) {
    assert!(run.store.root.join("result").symlink_metadata().is_ok(), "{}", run.text);
    run.store.assert_sound();
    run.store.assert_verifies();
}

fn builds(run: &ActRun) -> usize {
    run.log().lines().filter(|line| line.contains("building '")).count()
}

#[test]
fn a_job_starts_with_the_store_of_the_last_one() {
    let Some(act) = act() else { return };
    for nix in nix::all() {
        let project = Project::new(&act, nix, FakeConfig::default());
        let cold = green(project.workflow("build.yml"));
        assert_built(&cold);
        assert_eq!(builds(&cold), 13);
        assert_eq!((&cold.outputs()["hit"], &cold.outputs()["cache-hit"]), (&"miss".into(), &"".into()));
        let report = cold.report("build");
        assert_eq!((&report["save"]["outcome"], &report["save"]["reason"]), (&"saved".into(), &"new-key".into()));
        assert_eq!(report["machine"]["nix-version"], *nix.version, "{report}");
        assert_eq!(report["machine"]["installation"], "single-user");
        // One layer and one snapshot.
        assert_eq!((project.fake.saved().len(), &report["save"]["entries-created"]), (2, &2.into()));

        let warm = green(project.workflow("build.yml"));
        assert_built(&warm);
        assert_eq!(builds(&warm), 0, "{}", warm.log());
        let outputs = warm.outputs();
        assert_eq!((&outputs["hit"], &outputs["cache-hit"]), (&"exact".into(), &"true".into()));
        assert_eq!(
            (&outputs["matched-key"], &outputs["primary-key"]),
            (&outputs["primary-key"], &report["key"]["primary"])
        );
        let report = warm.report("build");
        assert_eq!(outputs["paths-restored"], report["paths"]["restored"].to_string());
        assert_eq!((&report["save"]["outcome"], &report["save"]["reason"]), (&"skipped".into(), &"nothing-new".into()));
        assert_eq!((&report["paths"]["built-here"], &report["paths"]["fetched-upstream"]), (&0.into(), &0.into()));
        assert_eq!(project.fake.saved().len(), 2, "an exact hit with nothing new uploads nothing");
        let summary = warm.summary();
        assert!(summary.contains("Exact hit: ") && summary.contains("nothing new to save."), "{summary}");
        assert_eq!(summary.matches("### Nix store cache").count(), 1, "{summary}");
        assert_eq!(warm.annotations("warning"), [] as [&str; 0]);
        assert!(warm.text.contains("::group::Key of the Nix store cache"), "{}", warm.text);
    }
}

#[test]
fn a_changed_lock_is_a_partial_hit_and_saves_only_what_is_new() {
    let Some(project) = project() else { return };
    let cold = green(project.workflow("build.yml")).report("build");
    let uploaded = project.fake.stats().bytes_up;
    project.write_words("second\n");
    let changed = green(project.workflow("build.yml"));
    assert_built(&changed);
    assert_eq!((&changed.outputs()["hit"], &changed.outputs()["cache-hit"]), (&"partial".into(), &"false".into()));
    // Every third package has the words, and some depend on those; then the whole.
    assert!((2..13).contains(&builds(&changed)), "{} were built", builds(&changed));
    let report = changed.report("build");
    assert_eq!(report["save"]["reason"], "new-key");
    assert!(report["paths"]["new"].as_u64() < cold["paths"]["new"].as_u64(), "{report}");
    assert!(project.fake.stats().bytes_up < 2 * uploaded);
    assert_eq!(project.fake.saved().len(), 4);
    let again = green(project.workflow("build.yml"));
    assert_eq!((builds(&again), &again.outputs()["hit"]), (0, &"exact".into()), "{}", again.log());
}

#[test]
fn evaluations_are_kept_as_a_level_of_their_own() {
    let Some(act) = act() else { return };
    for nix in nix::all() {
        let project = Project::new(&act, nix, FakeConfig::default());
        let level = |run: &ActRun, hit: &str| {
            let report = run.report("build");
            let level =
                report["levels"].as_array().unwrap().iter().find(|level| level["name"] == "eval-cache").unwrap();
            assert_eq!(level["hit"], hit, "{report}");
            let number = |field: &str| level[field].as_u64().unwrap();
            assert_eq!(number("restored") > 0, hit != "miss", "{level}");
            assert_eq!(number("downloaded-bytes") > 0, hit != "miss", "{level}");
            number("saved")
        };
        // How many attributes Nix had to evaluate.
        let evaluated = |run: &ActRun| run.result("evaluation.json")["uncached"].as_u64().unwrap();
        let cold = green(project.workflow("eval-cache.yml"));
        assert_built(&cold);
        assert!(level(&cold, "miss") > 0, "{}", cold.text);
        let all = evaluated(&cold);
        assert!(all > 0, "{}", cold.text);
        // A layer, a snapshot, and Nix's caches.
        assert_eq!((project.fake.saved().len(), &cold.report("build")["save"]["entries-created"]), (3, &3.into()));

        let warm = green(project.workflow("eval-cache.yml"));
        level(&warm, "exact");
        assert!(evaluated(&warm) < all, "Nix evaluated anew what the last job did");
        assert_eq!((builds(&warm), &warm.outputs()["hit"]), (0, &"exact".into()), "{}", warm.log());

        // Another Nix file and the same lock: the caches of the near key are there, and those of the new one are saved.
        project.rewrite_flake();
        let changed = green(project.workflow("eval-cache.yml"));
        assert!(level(&changed, "partial") > 0, "{}", changed.text);
        assert_eq!((evaluated(&changed), builds(&changed)), (all, 0), "{}", changed.log());
        let again = green(project.workflow("eval-cache.yml"));
        level(&again, "exact");
        assert!(evaluated(&again) < all, "{}", again.text);
    }
}

#[test]
fn two_jobs_that_save_at_once_both_win() {
    let Some(project) = project() else { return };
    let cold = project.workflow("matrix.yml").run();
    assert_eq!((cold.job("left"), cold.job("right")), ("success", "success"), "{}", cold.text);
    let lanes = ["left", "right"].map(|half| cold.report(half)["job"]["lane"].clone());
    assert_eq!(lanes, ["halves/left", "halves/right"]);
    // Two layers; and two snapshots, the second of which knows the first. A job that came second by a hair has also left an offer.
    let saved = || {
        let is_offer = |key: &str| key.rsplit_once("#g").is_some_and(|(_, number)| number.contains('.'));
        project.fake.saved().into_iter().filter(|entry| !is_offer(&entry.key)).count()
    };
    assert_eq!(saved(), 4, "{:?}", project.fake.entries());
    let warm = project.workflow("matrix.yml").run();
    assert_eq!((warm.job("left"), warm.job("right")), ("success", "success"), "{}", warm.text);
    assert_eq!(builds(&warm), 0, "{}", warm.log());
    for half in ["left", "right"] {
        assert_eq!(warm.result(&format!("outputs-{half}.json"))["hit"], "exact");
        assert_eq!(warm.report(half)["save"]["reason"], "nothing-new");
    }
    assert_eq!(saved(), 4);
}

#[test]
fn a_failed_job_saves_what_it_built() {
    let Some(project) = project() else { return };
    let failed = project.workflow("failing.yml").run();
    assert_eq!((failed.green, failed.job(""), failed.step("Post ./nix-cache")), (false, "failure", "success"));
    assert_eq!(failed.report("build")["save"]["outcome"], "saved", "{}", failed.text);
    let next = green(project.workflow("build.yml"));
    assert_eq!((builds(&next), &next.outputs()["hit"]), (0, &"exact".into()), "{}", next.log());
}

#[test]
fn a_cancelled_job_saves_what_it_built() {
    let Some(project) = project() else { return };
    let cancelled = project.workflow("cancelled.yml").cancelled_at("Cancel me.").run();
    assert!(!cancelled.green, "{}", cancelled.text);
    let report = cancelled.report("build");
    assert_eq!(
        (&report["job"]["status"], &report["save"]["outcome"]),
        (&"cancelled".into(), &"saved".into()),
        "{report}"
    );
    let next = green(project.workflow("build.yml"));
    assert_eq!((builds(&next), &next.outputs()["hit"]), (0, &"exact".into()), "{}", next.log());
}

#[test]
fn a_token_that_may_not_write_makes_a_green_job_and_a_notice() {
    let Some(project) = project() else { return };
    green(project.workflow("build.yml"));
    project.write_words("second\n");
    // As GitHub gives it to `pull_request_target` and the like; and a service that refuses though the token says nothing.
    let untrusted = green(project.workflow("build.yml").scopes(&[Scope::read(MAIN)]));
    assert_eq!(untrusted.outputs()["hit"], "partial");
    project.fake.fault(Fault::new(FaultName::WriteDenied));
    let denied = green(project.workflow("build.yml"));
    for (run, at_the_start) in [(&untrusted, true), (&denied, false)] {
        assert_built(run);
        let report = run.report("build");
        assert_eq!((&report["save"]["outcome"], &report["save"]["reason"]), (&"skipped".into(), &"refused".into()));
        let codes = ActRun::notes(&report);
        assert_eq!(codes.contains(&"read-only-token"), at_the_start, "{codes:?}");
        assert!(codes.contains(&"save-refused"), "{codes:?}");
        assert!(
            run.summary().contains("nothing saved, because the cache accepts nothing from this job."),
            "{}",
            run.summary()
        );
        assert_eq!((run.annotations("warning"), run.annotations("error")), (vec![], vec![]), "{}", run.text);
    }
    assert_eq!(project.fake.saved().len(), 2);
}

#[test]
fn a_fork_reads_the_base_and_writes_to_itself() {
    let Some(project) = project() else { return };
    green(project.workflow("build.yml"));
    project.write_words("of the fork\n");
    let merge = "refs/pull/7/merge";
    let scopes = [Scope::read_write(merge), Scope::read(MAIN)];
    let fork = green(project.workflow("build.yml").scopes(&scopes));
    assert_eq!(
        (&fork.outputs()["hit"], &fork.report("build")["save"]["outcome"]),
        (&"partial".into(), &"saved".into())
    );
    assert!(!ActRun::notes(&fork.report("build")).contains(&"read-only-token"));
    let entries = project.fake.saved();
    assert_eq!(entries.iter().filter(|entry| entry.scope == merge).count(), 2, "{entries:?}");
    // The default branch sees nothing of it.
    let main = green(project.workflow("build.yml"));
    assert_eq!(main.outputs()["hit"], "partial");
}

#[test]
fn cache_mode_read_is_known_from_the_start() {
    let Some(project) = project() else { return };
    let read = green(project.workflow("build.yml").env("ACTIONS_CACHE_MODE", "read"));
    let report = read.report("build");
    assert_eq!((&report["save"]["outcome"], &report["save"]["reason"]), (&"skipped".into(), &"read-only".into()));
    assert!(ActRun::notes(&report).contains(&"read-only-token"), "{report}");
    assert_eq!(project.fake.stats().count(Operation::Create), 0);
}

#[test]
fn never_means_never() {
    let Some(project) = project() else { return };
    let run = green(project.workflow("never.yml"));
    assert_built(&run);
    assert_eq!(run.report("build")["save"]["reason"], "not-wanted");
    assert!(
        run.summary().contains("nothing saved, because <code>save</code> is <code>never</code>."),
        "{}",
        run.summary()
    );
    assert_eq!(project.fake.stats().count(Operation::Create), 0);
}

#[test]
fn a_lookup_restores_nothing() {
    let Some(project) = project() else { return };
    assert_eq!(green(project.workflow("lookup.yml")).outputs()["hit"], "miss");
    green(project.workflow("build.yml"));
    let there = green(project.workflow("lookup.yml"));
    let outputs = there.outputs();
    assert_eq!((&outputs["hit"], &outputs["paths-restored"]), (&"exact".into(), &"0".into()), "{outputs}");
    assert!(there.summary().contains("Exact hit: only looked up, nothing restored"), "{}", there.summary());
    assert!(!there.store.root.exists(), "no store was made");
}

#[test]
fn fail_on_fails_the_job_as_the_user_wished() {
    let Some(project) = project() else { return };
    let missed = project.workflow("fail-on.yml").run();
    assert_eq!((missed.job(""), missed.step("./nix-cache")), ("failure", "failure"), "{}", missed.text);
    let errors = missed.annotations("error");
    assert!(errors.len() == 1 && errors[0].contains("`fail-on` names primary-key.miss"), "{errors:?}");
    // Its post step saves nothing, as nothing was built; the next job finds what another one saved.
    assert_eq!(missed.report("build")["save"]["reason"], "nothing-to-save");
    green(project.workflow("build.yml"));
    green(project.workflow("fail-on.yml"));
}

#[test]
fn a_wrong_input_fails_the_job_and_is_named() {
    let Some(project) = project() else { return };
    let run = project.workflow("wrong-input.yml").run();
    assert_eq!((run.job(""), run.step("./nix-cache")), ("failure", "failure"), "{}", run.text);
    let errors = run.annotations("error");
    assert!(errors.iter().any(|text| text.contains("The input \"restore-mode\" is \"sideways\"")), "{errors:?}");
    assert_eq!(project.fake.stats().requests.values().sum::<u64>(), 0);
}

#[test]
fn restore_and_save_can_be_steps_of_their_own() {
    let Some(project) = project() else { return };
    let cold = green(project.workflow("split.yml"));
    assert_built(&cold);
    let (restored, saved) = (cold.outputs(), cold.result("saved.json"));
    assert_eq!(restored["hit"], "miss");
    assert_eq!((&saved["hit-rate"], &saved["primary-key"]), (&"0.0000".into(), &restored["primary-key"]));
    let number = |value: &Value| value.as_str().and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    assert!(number(&saved["paths-new"]) > 12 && number(&saved["bytes-uploaded"]) > 0, "{saved}");
    assert_eq!(cold.report("build")["save"]["entries-created"], 2);
    let warm = green(project.workflow("split.yml"));
    assert_eq!((builds(&warm), &warm.result("saved.json")["hit-rate"]), (0, &"1.0000".into()), "{}", warm.log());
}
