//! Tests of [`super`]: errors as Nix words them, with the logs of the builds they are about.

use std::fs;
use std::time::Duration;

use super::*;
use crate::building::event::{Activity, Event};

const DRV: &str = "/nix/store/l29larry4mnjw6z9s6drby2dgbcj6dlc-fail.drv";

fn scene(root: Option<PathBuf>) -> Scene {
    let workspace = root.clone().unwrap_or_else(|| "/nowhere".into());
    let substituters = Substituters::new(vec!["https://c.example".into()], None);
    Scene { project: Project { flake: workspace.clone(), workspace }, store_root: root, substituters }
}

/// What is seen of a build that prints these lines, in this phase, and fails with this error.
fn seen(lines: &[&str], phase: Option<&str>, errors: &[&str]) -> Watch {
    let mut watch = Watch::default();
    let mut observe = |event| {
        watch.observe(event, Duration::ZERO);
    };
    observe(Event::Start { id: 1, activity: Activity::Builds });
    observe(Event::Start { id: 2, activity: Activity::Build { derivation: DRV.into() } });
    if let Some(phase) = phase {
        observe(Event::Phase { id: 2, name: phase.into() });
    }
    for line in lines {
        observe(Event::Line { id: 2, text: (*line).into() });
    }
    observe(Event::Progress { id: 1, counts: [0, 1, 1, 0] });
    observe(Event::Progress { id: 1, counts: [0, 1, 0, 1] });
    for error in errors {
        observe(Event::Said(Message { text: (*error).into(), ..Message::default() }));
    }
    watch
}

fn builder_failed() -> String {
    format!("error: builder for '{DRV}' failed with exit code 1")
}

fn category(lines: &[&str], phase: Option<&str>) -> Category {
    let failures = explain(&seen(lines, phase, &[&builder_failed()]), &scene(None));
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert_eq!(failures[0].derivation, DRV);
    failures[0].category
}

#[test]
fn the_log_and_the_phase_tell_builds_from_tests_and_machines() {
    assert_eq!(category(&["main.c:3:5: error: expected ;"], Some("buildPhase")), Category::Build);
    assert_eq!(category(&["anything"], Some("checkPhase")), Category::Test);
    assert_eq!(category(&["anything"], Some("installCheckPhase")), Category::Test);
    assert_eq!(category(&["test result: FAILED. 1 passed; 1 failed"], None), Category::Test);
    // A machine that fails is not a failed test.
    assert_eq!(
        category(&["dd: No space left on device", "test result: FAILED."], Some("checkPhase")),
        Category::DiskFull
    );
    assert_eq!(category(&["c++: fatal error: Killed signal terminated program cc1plus"], None), Category::OutOfMemory);
    // Without a network, its absence is expected.
    assert_eq!(category(&["curl: (7) Failed to connect"], None), Category::Build);
}

#[test]
fn a_download_may_lack_the_network() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join(&DRV[1..]);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let derivation = r#"Derive([("out","/nix/store/li9gfjzbzv436hk4wxhsczmpr9fasnz4-fail","sha256","0000000000000000000000000000000000000000000000000000000000000000")],[],[],"x86_64-linux","/bin/sh",[],[("name","fail"),("out","/nix/store/li9gfjzbzv436hk4wxhsczmpr9fasnz4-fail"),("system","x86_64-linux")])"#;
    fs::write(&file, derivation).unwrap();
    let scene = scene(Some(root.path().to_owned()));
    let of = |line: &str| explain(&seen(&[line], None, &[&builder_failed()]), &scene).remove(0);
    let refused = of("wget: can't connect to remote host (127.0.0.1): Connection refused");
    assert_eq!((refused.category, refused.transient), (Category::Network, true));
    let gone = of("curl: (22) The requested URL returned error: 404");
    assert_eq!((gone.category, gone.transient), (Category::Network, false));
}

#[test]
fn consequences_and_words_beside_errors_are_no_failures() {
    let watch = seen(
        &[],
        None,
        &[
            &builder_failed(),
            &builder_failed(),
            "error: 1 dependencies of derivation '/nix/store/0dwvfc63l5xqqdvc3gcn3mxgqps2rh89-two.drv' failed to build",
            "(use '--show-trace' to show detailed location information)",
            "error (ignored): write of 146 bytes: No space left on device",
        ],
    );
    let failures = explain(&watch, &scene(None));
    assert_eq!(failures.iter().map(|failure| failure.category).collect::<Vec<_>>(), [Category::Build]);
}

#[test]
fn a_time_out_finds_its_derivation() {
    let failures = explain(&seen(&["working"], None, &["error: timed out after 1 seconds"]), &scene(None));
    assert_eq!((failures[0].category, failures[0].derivation.as_str()), (Category::TimeOut, DRV));
    assert_eq!(failures[0].log, ["working"]);
}

#[test]
fn a_hash_mismatch_says_what_to_put_where() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("flake.nix"), "{\n  hash = \"sha256-AAAA=\";\n}\n").unwrap();
    let text = format!(
        "error: hash mismatch in fixed-output derivation '{DRV}':\n  specified: sha256-AAAA=\n     got:    sha256-BBBB="
    );
    let failure = explain(&seen(&[], None, &[&text]), &scene(Some(root.path().to_owned()))).remove(0);
    assert_eq!((failure.category, failure.derivation.as_str()), (Category::HashMismatch, DRV));
    assert!(failure.remedy.contains("put sha256-BBBB= in place of sha256-AAAA="), "{failure:?}");
    assert_eq!((failure.file.as_deref(), failure.line), (Some("flake.nix"), Some(2)));
}

#[test]
fn what_comes_from_a_substituter_is_its_failure() {
    let of = |text: &str| explain(&seen(&[], None, &[text]), &scene(None)).remove(0);
    let failure = of("error: unable to download 'https://c.example/some/file': HTTP error 503");
    let name = "https://c.example";
    assert_eq!(
        (failure.category, failure.transient, failure.substituter.as_str()),
        (Category::Substituter, true, name)
    );
    let failure = of("error: unable to download 'https://other.example/some/file': HTTP error 503");
    assert_eq!((failure.category, failure.transient, failure.substituter.as_str()), (Category::Network, true, ""));
    let failure = of("error: unable to download 'https://other.example/some/file': HTTP error 404");
    assert_eq!((failure.category, failure.transient), (Category::Network, false));
    let mut watch = Watch::default();
    let warning = |text: &str| Event::Said(Message { level: 1, text: text.into(), ..Message::default() });
    for text in [
        "warning: unable to download 'https://a/nix-cache-info': HTTP error 503; retrying in 300 ms",
        "warning: unable to download 'https://c.example/nix-cache-info': HTTP error 503",
        "warning: something else about https://c.example/x",
    ] {
        watch.observe(warning(text), Duration::ZERO);
    }
    assert_eq!(troubled(&watch, &scene(None)).into_iter().collect::<Vec<_>>(), [name]);
}

#[test]
fn before_anything_is_built_only_the_code_can_be_wrong() {
    let mut watch = Watch::default();
    let error = Message { text: "error: this attribute is broken".into(), ..Message::default() };
    watch.observe(Event::Said(error.clone()), Duration::ZERO);
    assert_eq!(explain(&watch, &scene(None))[0].category, Category::Evaluation);
    let failure = explain(&seen(&[], None, &[&error.text]), &scene(None)).remove(0);
    assert_eq!((failure.category, failure.message.as_str()), (Category::Unknown, "this attribute is broken"));
}

fn failure_in(root: &std::path::Path, text: &str) -> Failure {
    explain(&seen(&[], None, &[text]), &scene(Some(root.to_owned()))).remove(0)
}

#[test]
fn a_hash_is_found_however_the_code_writes_it() {
    let zeros = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let hash = "sha256-oWIb6VBAI57hQ2LBbiBRDdwg9SfXctgjsqFnmzP1zXQ=";
    for (specified, code) in [
        (hash, "sha256 = \"a1621be95040239ee14362c16e20510ddc20f527d772d823b2a1679b33f5cd74\";"),
        (hash, "hash = \"oWIb6VBAI57hQ2LBbiBRDdwg9SfXctgjsqFnmzP1zXQ=\";"),
        (
            "sha256:1l64xs31rnx5xg6xlcnn2mrfp1j8qinxg7x7fj03kx0kya4s584f",
            "sha256 = \"1l64xs31rnx5xg6xlcnn2mrfp1j8qinxg7x7fj03kx0kya4s584f\";",
        ),
        (zeros, "hash = \"\";"),
        (zeros, "vendorHash = lib.fakeHash;"),
        (zeros, "sha256 = \"0000000000000000000000000000000000000000000000000000\";"),
    ] {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("package.nix"), format!("{{\n  {code}\n}}\n")).unwrap();
        let text = format!(
            "error: hash mismatch in fixed-output derivation '{DRV}':\n  specified: {specified}\n     got:    sha256-BBBB="
        );
        let failure = failure_in(root.path(), &text);
        assert_eq!((failure.file.as_deref(), failure.line), (Some("package.nix"), Some(2)), "{code}");
    }
}

#[test]
fn an_input_that_is_not_what_its_lock_says_is_to_be_updated() {
    let root = tempfile::tempdir().unwrap();
    let lock = r#"{ "nodes": {
        "root": { "inputs": { "home": "home_2", "x": "x" } },
        "home_2": { "inputs": { "nixpkgs": "n" }, "locked": { "narHash": "sha256-HOME" } },
        "x": { "inputs": { "n": ["home", "nixpkgs"] }, "locked": { "narHash": "sha256-X" } },
        "n": { "locked": {
            "narHash": "sha256-LOCKED" } }
    }, "root": "root", "version": 7 }"#;
    fs::write(root.path().join("flake.lock"), lock).unwrap();
    // Which of the two is locked depends on the version of Nix.
    for (expected, got) in [("sha256-LOCKED", "sha256-OTHER"), ("sha256-OTHER", "sha256-LOCKED")] {
        let text = format!(
            "error: NAR hash mismatch in input 'path:/n' (/nix/store/x-source), expected '{expected}', got '{got}'"
        );
        let failure = failure_in(root.path(), &text);
        assert_eq!(failure.category, Category::HashMismatch);
        assert!(failure.remedy.contains("run `nix flake update home/nixpkgs`"), "{failure:?}");
        assert_eq!((failure.file.as_deref(), failure.line), (Some("flake.lock"), Some(6)));
    }
}

#[test]
fn a_file_that_git_does_not_track_is_no_damage_of_the_store() {
    let root = tempfile::tempdir().unwrap();
    let source = root.path().join("nix/store/bl9mz7ay7y9qrgy6yi25g6v8jrdna59l-source");
    fs::create_dir_all(&source).unwrap();
    fs::write(root.path().join("package.nix"), "{ }\n").unwrap();
    let missing = |file: &str| {
        format!(
            "error: getting status of '/nix/store/bl9mz7ay7y9qrgy6yi25g6v8jrdna59l-source{file}': No such file or directory"
        )
    };
    let failure = failure_in(root.path(), &missing("/package.nix"));
    assert_eq!(failure.category, Category::Evaluation);
    assert!(failure.remedy.contains("`git add package.nix`"), "{failure:?}");
    let failure = failure_in(root.path(), &missing("/misspelled.nix"));
    assert_eq!(failure.category, Category::Evaluation);
    assert!(failure.remedy.contains("correct its name"), "{failure:?}");
    // Where the source itself is gone, the store lost it.
    fs::remove_dir(&source).unwrap();
    assert_eq!(failure_in(root.path(), &missing("/package.nix")).category, Category::Cache);
    assert_eq!(failure_in(root.path(), &missing("")).category, Category::Cache);
}

#[test]
fn names_that_nix_thinks_were_meant_are_kept() {
    let mut watch = Watch::default();
    let text =
        "error: attribute 'helo' missing\n       at /x/flake.nix:1:1:\n            1| { }\n       Did you mean hello?";
    let error = Message { text: text.into(), error: "attribute 'helo' missing".into(), ..Message::default() };
    watch.observe(Event::Said(error), Duration::ZERO);
    assert_eq!(explain(&watch, &scene(None))[0].message, "attribute 'helo' missing\nDid you mean hello?");
}

#[test]
fn a_nixos_test_is_a_test_whatever_it_prints() {
    let derivation = "/nix/store/rwgi076jccn2afn74izajcmi2xkxwchy-vm-test-run-simple.drv";
    let mut watch = Watch::default();
    for event in [
        Event::Start { id: 1, activity: Activity::Builds },
        Event::Start { id: 2, activity: Activity::Build { derivation: derivation.into() } },
        Event::Line { id: 2, text: "Traceback (most recent call last):".into() },
        Event::Said(Message {
            text: format!("error: builder for '{derivation}' failed with exit code 1"),
            ..Message::default()
        }),
    ] {
        watch.observe(event, Duration::ZERO);
    }
    assert_eq!(explain(&watch, &scene(None))[0].category, Category::Test);
}
