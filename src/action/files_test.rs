//! Tests of what is written to the runner's files. Their paths are in the environment, which a process must not change for
//! itself, so each test starts this test binary again with another environment.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::outputs;
use crate::github::state;
use crate::report::{Key, Report, Restore, summary};
use crate::series::Hit;

const CHILD: &str = "NIX_CACHE_TEST_CHILD";
const FILES: [&str; 3] = ["GITHUB_OUTPUT", "GITHUB_STATE", "GITHUB_STEP_SUMMARY"];

fn report() -> Report {
    let key = Key { hit: Hit::Exact, primary: "two\nlines".to_owned(), ..Key::default() };
    Report { key, restore: Some(Restore::default()), ..Report::default() }
}

/// The child's part: a test in name only, because it is started by name.
#[test]
fn child() {
    if std::env::var_os(CHILD).is_some() {
        outputs::set(&report(), Path::new("/r")).unwrap();
        state::save("lane", "CI/build").unwrap();
        assert!(state::save("token", &std::env::var("ACTIONS_RUNTIME_TOKEN").unwrap()).is_err());
        summary::write(&report()).unwrap();
        assert_eq!(state::load("given").as_deref(), Some("by main"));
    }
}

/// Runs [`child`] with the files in `folder`, and returns their contents and its output.
fn written(folder: &Path, files: &[&str]) -> (Vec<String>, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", "action::files_test::child"]).env(CHILD, "1");
    command.env("STATE_given", "by main").env("ACTIONS_RUNTIME_TOKEN", "eyJhbGciOi");
    for name in FILES {
        command.env_remove(name);
    }
    for name in files {
        command.env(name, folder.join(name));
        fs::OpenOptions::new().create(true).append(true).open(folder.join(name)).unwrap();
    }
    let output = command.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
    (files.iter().map(|name| fs::read_to_string(folder.join(name)).unwrap()).collect(), printed)
}

#[test]
fn outputs_state_and_summary_reach_the_runners_files() {
    let folder = tempfile::tempdir().unwrap();
    let (contents, _) = written(folder.path(), &FILES);
    let mut lines = contents[0].lines();
    let end = lines.next().and_then(|line| line.strip_prefix("primary-key<<")).unwrap();
    assert_eq!((lines.next(), lines.next(), lines.next()), (Some("two"), Some("lines"), Some(end)));
    assert_eq!(
        contents[0].lines().filter(|line| line.contains("<<")).count(),
        outputs::of(&report(), Path::new("/r")).len()
    );
    assert!(contents[1].starts_with("lane<<") && contents[1].contains("\nCI/build\n") && !contents[1].contains("eyJ"));
    assert_eq!(contents[2], summary::render(&report()));
}

#[test]
fn where_the_summary_is_almost_full_the_sentence_alone_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let before = "x".repeat(summary::MOST - 100);
    fs::write(folder.path().join("GITHUB_STEP_SUMMARY"), &before).unwrap();
    let (contents, _) = written(folder.path(), &FILES);
    assert_eq!(contents[2].strip_prefix(&before).unwrap(), format!("{}\n", summary::headline(&report())));
}

#[test]
fn without_a_runner_nothing_is_written_or_printed() {
    let folder = tempfile::tempdir().unwrap();
    let (_, printed) = written(folder.path(), &[]);
    assert!(!printed.contains("::set-output") && !printed.contains("::save-state"), "{printed}");
}
