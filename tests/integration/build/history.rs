//! Builds in the history: a record of their own where no main action runs in the job, and none where its post step writes one.

use serde_json::{Value, json};

use super::project::{Project, first};
use super::steps::Job;
use crate::support::program::Run;

/// A step of the action whose cache is a folder.
fn inputs(project: &Project, more: &Value) -> Value {
    let mut inputs = json!({ "remote": format!("dir:{}", project.machine.path("cache").display()) });
    for (name, value) in more.as_object().unwrap() {
        inputs[name] = value.clone();
    }
    inputs
}

fn runs(project: &Project) -> Vec<Value> {
    let remote = format!("dir:{}", project.machine.path("cache").display());
    let run = Run::of(project.machine.nix_cache(&["history", "export", "--remote", &remote]));
    assert_eq!(run.code, Some(0), "{run:?}");
    run.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn table(project: &Project) -> String {
    let remote = format!("dir:{}", project.machine.path("cache").display());
    Run::of(project.machine.nix_cache(&["history", "--remote", &remote])).out
}

#[test]
fn a_build_without_the_main_action_has_one_record_however_many_steps_it_has() {
    let Some(project) = first() else { return };
    std::fs::create_dir_all(project.machine.path("cache")).unwrap();
    let job = Job::named(&project, "alone");
    // A job without a build has no record.
    assert_eq!(job.step_of("record", inputs(&project, &json!({}))).code, Some(0));
    assert!(runs(&project).is_empty());
    let built = job.build(inputs(&project, &json!({ "targets": "one" })));
    assert_eq!(built.code, Some(0), "{built:?}");
    let done = job.step_of("record", inputs(&project, &json!({ "job-status": "success" })));
    assert_eq!(done.code, Some(0), "{done:?}");
    let first = runs(&project);
    assert_eq!(first.len(), 1, "{first:?}");
    for (name, value) in
        [("kind", json!("build")), ("hit", json!("")), ("status", json!("success")), ("built", json!(1))]
    {
        assert_eq!(first[0][name], value, "{name}: {first:?}");
    }
    assert!(first[0]["cached"].is_null() && first[0]["build-ms"].is_u64() && first[0]["evaluation-ms"].is_u64());
    assert_eq!(first[0]["slowest"][0]["name"], "one", "{first:?}");
    // The next step of the same job fails: its record replaces the first one, and knows both.
    assert_eq!(job.build(inputs(&project, &json!({ "targets": "fails" }))).code, Some(1));
    assert_eq!(job.step_of("record", inputs(&project, &json!({ "job-status": "failure" }))).code, Some(0));
    let second = runs(&project);
    assert_eq!((second.len(), &second[0]["status"], &second[0]["category"]), (1, &"failure".into(), &"build".into()));
    assert_eq!((&second[0]["failed"][0]["name"], &second[0]["built"]), (&"fails".into(), &1.into()), "{second:?}");
    let shown = table(&project);
    assert!(shown.contains("  build  -  ") && shown.contains("1 run of 1 lane"), "{shown}");
    // A job that keeps no history adds nothing.
    let silent = Job::named(&project, "silent");
    assert_eq!(silent.build(inputs(&project, &json!({ "targets": "two", "lane": "silent" }))).code, Some(0));
    assert_eq!(
        silent.step_of("record", inputs(&project, &json!({ "history": "false", "lane": "silent" }))).code,
        Some(0)
    );
    assert_eq!(runs(&project).len(), 1);
}

#[test]
fn a_build_within_the_main_action_is_in_the_record_of_its_job() {
    let Some(project) = first() else { return };
    std::fs::create_dir_all(project.machine.path("cache")).unwrap();
    let job = Job::named(&project, "both");
    let main = || inputs(&project, &json!({ "key": "tests", "job-status": "success" }));
    assert_eq!(job.step_of("restore", main()).code, Some(0));
    assert_eq!(job.build(inputs(&project, &json!({ "targets": "one" }))).code, Some(0));
    let left = job.step_of("record", inputs(&project, &json!({ "job-status": "success" })));
    assert!(left.log.contains("The post step of nix-cache-action adds this build"), "{left:?}");
    assert!(runs(&project).is_empty());
    let post = job.step_of("post", main());
    assert_eq!(post.code, Some(0), "{post:?}");
    let all = runs(&project);
    assert_eq!((all.len(), &all[0]["hit"]), (1, &"miss".into()), "{all:?}");
    assert!(all[0]["kind"].is_null() && all[0]["build-ms"].is_u64(), "{all:?}");
    // A build after the post step, as with `save/` in the middle of a job, becomes part of the same record.
    assert_eq!(job.build(inputs(&project, &json!({ "targets": "two" }))).code, Some(0));
    assert_eq!(job.step_of("record", inputs(&project, &json!({ "job-status": "success" }))).code, Some(0));
    let all = runs(&project);
    assert_eq!((all.len(), &all[0]["hit"], all[0]["slowest"].as_array().map(Vec::len)), (1, &"miss".into(), Some(2)));
}
