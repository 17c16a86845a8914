//! Tests of the table of failures, with what two versions of Nix and many programs really print: `testdata/captured/`, by
//! `scripts/capture-failures.py`. After a change that is meant, `NIX_CACHE_TEST_RENEW=1` writes what comes of each case into
//! `testdata/expected.tsv`, for you to read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use super::*;
use crate::building::event::{Event, Line, parse};
use crate::building::failure::{Failure, Scene, explain};
use crate::building::position::Project;
use crate::building::substituters::Substituters;
use crate::building::watch::Watch;

static OLD: LazyLock<String> = LazyLock::new(|| kept("captured/nix-2.8.txt"));
static NEW: LazyLock<String> = LazyLock::new(|| kept("captured/nix-2.34.txt"));
static TOOLS: LazyLock<String> = LazyLock::new(|| kept("captured/tools.txt"));
static QUOTED: LazyLock<String> = LazyLock::new(|| kept("captured/quoted.txt"));
const DERIVATION: &str = "/nix/store/l29larry4mnjw6z9s6drby2dgbcj6dlc-tool.drv";

fn kept(name: &str) -> String {
    fs::read_to_string(testdata().join(name)).unwrap()
}

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/building/testdata")
}

/// One case: its derivations that are downloads, and its lines.
#[derive(Default)]
struct Case<'a> {
    fixed: Vec<&'a str>,
    lines: Vec<&'a str>,
}

fn cases(text: &str) -> Vec<(&str, Case<'_>)> {
    let mut cases: Vec<(&str, Case<'_>)> = Vec::new();
    for line in text.lines().skip(1) {
        match (line.strip_prefix("#: fixed "), line.strip_prefix("#: "), cases.last_mut()) {
            (Some(path), _, Some((_, case))) => case.fixed.push(path),
            (None, Some(name), _) => cases.push((name.split(' ').next().unwrap(), Case::default())),
            (None, None, Some((_, case))) => case.lines.push(line),
            _ => panic!("{line} is in no case"),
        }
    }
    cases
}

/// The flake that the cases were provoked with, and a store with what they speak of.
struct Stage {
    folder: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let flake = include_str!("../../scripts/capture/flake.nix");
        for (name, text) in
            [("flake.nix", flake), ("broken.nix", "{\n  a = 1 +;\n}\n"), ("undefined.nix", "{ }: undefinedVar\n")]
        {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Self { folder }
    }

    fn scene(&self, name: &str, case: &Case<'_>) -> Scene {
        let root = self.folder.path().join("root");
        for path in &case.fixed {
            let text = format!(
                r#"Derive([("out","/nix/store/li9gfjzbzv436hk4wxhsczmpr9fasnz4-x","sha256","{}")],[],[],"x86_64-linux","/bin/sh",[],[("out","/nix/store/li9gfjzbzv436hk4wxhsczmpr9fasnz4-x")])"#,
                "0".repeat(64)
            );
            write(&root, path, &text);
        }
        for line in &case.lines {
            // What was evaluated was in the store.
            for (at, _) in line.match_indices("-source/") {
                if let Some(start) = line[..at].rfind("/nix/store/") {
                    fs::create_dir_all(root.join(&line[start + 1..at + "-source".len()])).unwrap();
                }
            }
        }
        let caches = match name.split_once('-') {
            Some(("cache" | "path" | "only", fault)) => {
                let own = format!("http://127.0.0.1:8901/{fault}");
                vec![
                    own,
                    "http://127.0.0.1:1".to_owned(),
                    "https://no-such-host.example".to_owned(),
                    "https://tls.example".to_owned(),
                ]
            }
            _ => Vec::new(),
        };
        Scene {
            project: Project { workspace: self.folder.path().to_owned(), flake: self.folder.path().to_owned() },
            store_root: Some(root),
            substituters: Substituters::new(caches, None),
        }
    }

    /// What is made of a case of Nix's.
    fn of_nix(&self, name: &str, case: &Case<'_>) -> Vec<Failure> {
        let mut watch = Watch::default();
        for line in &case.lines {
            match parse(line) {
                Line::Event(event) => drop(watch.observe(event, Duration::ZERO)),
                Line::Text(text) => watch.hear(text),
            }
        }
        watch.finish(Duration::ZERO);
        explain(&watch, &self.scene(name, case))
    }

    /// What is made of the log of a builder that ends with these lines.
    fn of_tool(&self, name: &str, case: &Case<'_>) -> Vec<Failure> {
        let fixed = if name.starts_with("download") { vec![DERIVATION] } else { Vec::new() };
        let json = |value: serde_json::Value| format!("@nix {value}");
        let mut lines = vec![
            json(serde_json::json!({"action": "start", "id": 1, "type": 104})),
            json(serde_json::json!({"action": "start", "id": 2, "type": 105, "fields": [DERIVATION]})),
        ];
        lines.extend(
            case.lines
                .iter()
                .map(|line| json(serde_json::json!({"action": "result", "id": 2, "type": 101, "fields": [line]}))),
        );
        let error = format!("error: builder for '{DERIVATION}' failed with exit code 1");
        lines.push(json(serde_json::json!({"action": "msg", "level": 0, "msg": error})));
        let case = Case { fixed, lines: lines.iter().map(String::as_str).collect() };
        self.of_nix("tool", &case)
    }
}

fn write(root: &Path, path: &str, text: &str) {
    let file: PathBuf = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
}

/// `build`, `network?` for what may pass, and where it is, for each failure.
fn told(failures: &[Failure]) -> String {
    let one = |failure: &Failure| {
        let mark = if failure.transient { "?" } else { "" };
        let place =
            failure.file.as_ref().map(|file| format!(" {file}:{}", failure.line.unwrap_or(0))).unwrap_or_default();
        format!("{}{mark}{place}", failure.category.word())
    };
    let all: Vec<String> = failures.iter().map(one).collect();
    if all.is_empty() { "nothing".to_owned() } else { all.join(" + ") }
}

#[test]
fn what_was_captured_is_understood() {
    let stage = Stage::new();
    let mut found: BTreeMap<&str, [String; 2]> = BTreeMap::new();
    for (version, text) in [&*OLD, &*NEW].into_iter().enumerate() {
        for (name, case) in cases(text) {
            found.entry(name).or_default()[version] = told(&stage.of_nix(name, &case));
        }
    }
    let mut out = String::from("# What comes of each case: with Nix 2.8, with Nix 2.34; or of the log of a tool.\n");
    for (name, [old, new]) in &found {
        writeln!(out, "{name}\t{old}\t{new}").unwrap();
    }
    for (name, case) in cases(&TOOLS).iter().chain(&cases(&QUOTED)) {
        writeln!(out, "{name}\t{}", told(&stage.of_tool(name, case))).unwrap();
    }
    if std::env::var_os("NIX_CACHE_TEST_RENEW").is_some() {
        fs::write(testdata().join("expected.tsv"), &out).unwrap();
        return;
    }
    let known = kept("expected.tsv");
    let (expected, found): (Vec<&str>, Vec<&str>) = (known.lines().collect(), out.lines().collect());
    let differ: Vec<_> = expected
        .iter()
        .filter(|line| !found.contains(line))
        .chain(found.iter().filter(|line| !expected.contains(line)))
        .collect();
    assert!(differ.is_empty(), "{differ:#?}");
}

#[test]
fn every_row_has_a_line_that_was_captured_and_that_no_row_above_it_takes() {
    let mut taken = BTreeSet::new();
    let mut take = |row: Option<&'static Row>| {
        taken.extend(row.and_then(|row| TABLE.iter().position(|other| std::ptr::eq(other, row))));
    };
    for (_, case) in cases(&OLD).iter().chain(&cases(&NEW)) {
        let mut heard = Vec::new();
        for line in &case.lines {
            match parse(line) {
                Line::Event(Event::Said(message)) => {
                    take(look_up(&[Place::Message], &message.error));
                    take(look_up(&[Place::Message], &message.text));
                }
                Line::Event(Event::Line { text, .. }) | Line::Text(text) => heard.push(text),
                Line::Event(_) => {}
            }
        }
        for line in &heard {
            take(look_up_in(&[Place::Download], &[line]));
            take(look_up_in(&[Place::Log], &[line]));
        }
    }
    for (name, case) in cases(&TOOLS).iter().chain(&cases(&QUOTED)) {
        let place = if name.starts_with("download") { Place::Download } else { Place::Log };
        for line in &case.lines {
            take(look_up_in(&[place], &[&crate::building::text::line(line)]));
        }
    }
    let idle: Vec<_> =
        TABLE.iter().enumerate().filter(|(at, _)| !taken.contains(at)).map(|(_, row)| row.parts).collect();
    assert!(idle.is_empty(), "no captured line comes to these rows: {idle:#?}");
}

#[test]
fn parts_follow_each_other() {
    assert!(fits(&["a", "b"], "x a y b z") && !fits(&["b", "a"], "a b") && fits(&[], ""));
    assert!(TABLE.iter().all(|row| row.parts.iter().all(|part| *part == folded(part) || part.trim() == folded(part))));
}

#[test]
fn remedies_are_sentences() {
    assert!(TABLE.iter().all(|row| row.remedy.is_empty() || row.remedy.ends_with('.')));
}

#[test]
fn failures_that_have_a_remedy_of_their_own_name_it() {
    let stage = Stage::new();
    for text in [&*OLD, &*NEW] {
        let all: BTreeMap<&str, Case<'_>> = cases(text).into_iter().collect();
        for (name, part) in [
            ("platform", "runner-map"),
            ("platform", "binfmt"),
            ("features", "system-features"),
            ("kvm", "/dev/kvm"),
            ("rebuild", "SOURCE_DATE_EPOCH"),
            ("disallowed", "removeReferencesTo"),
            ("input-github-limit", "access-tokens"),
            ("input-github-404", "access-tokens"),
            ("input-git-401", "token"),
            ("input-git-ssh-key", "deploy key"),
            ("input-ssh-host-key", "known_hosts"),
            ("input-git-tls", "certificate"),
            ("url-tls", "certificate"),
            ("path-unsigned", "trusted-public-keys"),
            ("untracked", "git add"),
            ("absent", "git add"),
        ] {
            let failures = stage.of_nix(name, &all[name]);
            assert!(failures[0].remedy.contains(part), "{name}: {failures:#?}");
        }
    }
}
