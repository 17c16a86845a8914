//! The action `push`, as the hook starts it.

use std::fs;

use serde_json::json;

use super::{fetch, file, files};
use crate::signed::key;
use crate::support::machine::Machine;
use crate::support::nix;
use crate::support::program::Run;

#[test]
fn the_action_pushes_what_its_inputs_name_and_stays_green_if_a_sink_refuses() {
    let Some(nix) = nix::all().last() else { return };
    let machine = Machine::new(nix);
    let (ours, store, cache) = (key(&machine, "ours-1"), machine.store("first"), machine.path("cache"));
    let built = store.build(&["onTop"]);
    let closure = store.nix_store(&["--query", "--requisites", &built[0]]).lines().count().to_string();
    for name in ["output", "summary", "not-a-folder"] {
        fs::write(machine.path(name), "").unwrap();
    }
    let secret = fs::read_to_string(&ours.secret).unwrap();
    let step = |inputs: serde_json::Value| {
        let mut command = machine.nix_cache(&["action", "push"]);
        command.env("NIX_CACHE_INPUTS", inputs.to_string()).env("NIX_CACHE_STORE_ROOT", &store.root);
        command.env("GITHUB_ACTIONS", "true").env("GITHUB_WORKSPACE", &store.root);
        command.env("GITHUB_OUTPUT", machine.path("output")).env("GITHUB_STEP_SUMMARY", machine.path("summary"));
        command.env("RUNNER_TEMP", machine.path("temp"));
        Run::of(command)
    };
    // `result` is the link that the build made, in the workspace.
    let sinks = format!("{}\n{}", file(&cache), file(&machine.path("not-a-folder/cache")));
    let run = step(json!({ "to": sinks, "store-paths": "result", "signing-key": secret, "action": "push" }));
    assert_eq!(run.code, Some(0), "{}{}", run.out, run.log);
    assert!(run.out.contains("::warning") && run.out.contains("not-a-folder"), "{}", run.out);
    let [output, summary] = ["output", "summary"].map(|name| fs::read_to_string(machine.path(name)).unwrap());
    for (name, value) in [("paths-pushed", &*closure), ("complete", "false")] {
        let at = output.split_once(&format!("{name}<<")).unwrap().1;
        assert_eq!(at.lines().nth(1), Some(value), "{output}");
    }
    assert!(summary.contains("Pushed to binary caches"), "{summary}");
    let masked = |line: &&str| !line.starts_with("::add-mask::");
    let told = [&run.log, &output, &summary].iter().any(|text| text.contains(secret.trim()));
    assert!(!told && !run.out.lines().filter(masked).any(|line| line.contains(secret.trim())));
    fetch(&machine.store("reader"), &file(&cache), &ours.public, &built[0]).unwrap();

    let before = files(&cache);
    for (inputs, code, says) in [
        (json!({ "to": file(&cache) }), 0, "no restore was recorded"),
        (json!({}), 2, "nothing to push to"),
        (json!({ "to": "file://cache" }), 2, "not absolute"),
        (json!({ "to": file(&cache), "store-paths": "absent" }), 2, "nor a link to one"),
    ] {
        let run = step(inputs);
        assert_eq!(run.code, Some(code), "{}{}", run.out, run.log);
        assert!(run.out.contains(says), "{says}: {}", run.out);
    }
    assert_eq!(files(&cache), before);
}
