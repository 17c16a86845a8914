//! `uses: ./build` in whole workflows: with the cache, without it, passing and failing.

use super::project;

#[test]
fn builds_and_cache_share_a_report_and_a_summary() {
    let Some(project) = project() else { return };
    let run = project.workflow("with-build.yml").run();
    assert_eq!((run.job(""), run.step("./nix-cache")), ("failure", "success"), "{}", run.text);
    let (good, bad) = (run.result("good.json"), run.result("bad.json"));
    assert_eq!((&good["result"], &good["category"], &good["failed"]), (&"success".into(), &"".into(), &"[]".into()));
    // `left` has six packages and needs three more.
    assert!(good["built"].as_str().unwrap().parse::<u64>().unwrap() >= 7, "{good}");
    assert_eq!((&bad["result"], &bad["category"]), (&"failure".into(), &"build".into()), "{bad}");
    assert_eq!(bad["failed"], "[\"broken\"]");

    let report = run.report("build");
    let builds = report["builds"].as_array().unwrap();
    assert_eq!((builds.len(), &report["action"]), (2, &"both".into()), "{report}");
    assert_eq!((&builds[0]["outcome"], &builds[1]["outcome"]), (&"succeeded".into(), &"failed".into()));
    assert_eq!(builds[0]["checks"][0]["verdict"], "passed");
    assert_eq!(builds[0]["artifacts"].as_array().unwrap().len(), 1);
    assert_eq!(builds[1]["failures"][0]["log"][0], "this is broken");
    // The post step saves what was built, although the job failed.
    assert_eq!(report["save"]["outcome"], "saved");

    let summary = run.summary();
    assert_eq!(summary.matches("### Nix build").count(), 2, "{summary}");
    assert_eq!(summary.matches("### Nix store cache").count(), 1, "{summary}");
    assert!(summary.contains("Build failure: <code>broken</code>") && summary.contains("this is broken"), "{summary}");
    let errors = run.annotations("error");
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("this is broken") && errors[0].contains("nix log"), "{errors:?}");
    // What was built is folded; what failed is not.
    let groups: Vec<_> = run.events.iter().filter(|event| event["command"] == "group").collect();
    assert!(groups.iter().all(|group| !group["arg"].as_str().unwrap_or_default().contains("broken")), "{groups:?}");
    assert!(run.log().contains("broken> this is broken"), "{}", run.log());
}

#[test]
fn a_build_needs_no_cache() {
    let Some(project) = project() else { return };
    let run = project.workflow("only-build.yml").run();
    assert_eq!(run.job(""), "failure", "{}", run.text);
    let errors = run.annotations("error");
    assert!(errors.len() == 1 && errors[0].contains("The input \"max-jobs\" is \"many\""), "{errors:?}");
    let report = run.report("build");
    assert_eq!((&report["action"], &report["key"]["primary"]), (&"build".into(), &"".into()), "{report}");
    let builds = report["builds"].as_array().unwrap();
    assert_eq!((builds.len(), &builds[0]["summarized"]), (2, &true.into()));
    assert_eq!((&builds[1]["attempts"], &builds[1]["outcome"]), (&0.into(), &"succeeded".into()));
    let summary = run.summary();
    assert_eq!(summary.matches("### Nix build").count(), 2, "{summary}");
    assert!(!summary.contains("### Nix store cache"), "{summary}");
    // Only the history is in the cache: one record, once more after the second step.
    let entries = project.fake.entries();
    assert!(!entries.is_empty() && entries.iter().all(|entry| entry.key.starts_with("history-v1-")), "{entries:?}");
}
