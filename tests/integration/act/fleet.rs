//! `uses: ./warm`, `./push` and `./prune` in a whole workflow.

use std::fs;

use super::project;

#[test]
fn a_job_warms_pushes_and_plans_a_prune_and_the_next_one_finds_everything() {
    let Some(project) = project() else { return };
    let run = |number: u64| {
        let run = project.workflow("fleet.yml").run();
        assert!(run.green, "{number}: {}", run.text);
        for step in ["./nix-cache/warm", "./nix-cache/push", "./nix-cache/prune"] {
            assert_eq!(run.step(step), "success", "{step}: {}", run.text);
        }
        run
    };
    let first = run(1);
    let (warm, push, prune) = (first.result("warm.json"), first.result("push.json"), first.result("prune.json"));
    assert_eq!((&warm["failed"], &warm["left"]), (&"[]".into(), &"[]".into()), "{warm}: {}", first.text);
    assert!(warm["warmed"].as_str().unwrap().contains("left"), "{warm}");
    // `left` has six packages and needs three more.
    let narinfos = |run: &super::ActRun| {
        let files = fs::read_dir(run.folder.join("results/binary-cache")).unwrap();
        files.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|kind| kind == "narinfo")).count()
    };
    assert_eq!(push["complete"], "true", "{push}");
    let pushed: usize = push["paths-pushed"].as_str().unwrap().parse().unwrap();
    assert!(pushed >= 10 && pushed == narinfos(&first), "{push}");
    assert_eq!((&prune["entries-planned"], &prune["entries-deleted"]), (&"0".into(), &"0".into()), "{prune}");
    assert_eq!(project.fake.saved().len(), 2, "a layer and a snapshot");
    let summary = first.summary();
    for section in ["Warming of the cache", "Pushed to binary caches", "Pruning of the cache"] {
        assert_eq!(summary.matches(section).count(), 1, "{section}: {summary}");
    }

    let second = run(2);
    assert!(!second.log().contains("building '"), "{}", second.text);
    assert_eq!(second.result("push.json")["paths-pushed"], "0", "nothing was built");
    assert_eq!(project.fake.saved().len(), 2);
}
