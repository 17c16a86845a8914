//! The default rules, and rules as a user would write them, replayed over the histories of real repositories. A history tells which
//! files each commit changed and not what was in them, so it shows what rules alone would do, without any evaluation: in a plan,
//! derivations have the last word wherever they are known.
//!
//! `NIX_CACHE_TEST_HISTORIES` may name a folder of further histories: NAME/history.jsonl.

use std::fs;
use std::path::PathBuf;

use nix_cache::plan::{AttrPath, Reads, Rules, RulesFile, Target, defaults};
use serde::Deserialize;

#[derive(Deserialize)]
struct Commit {
    commit: String,
    changed: Vec<String>,
}

/// What became of the jobs of a history.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    commits: usize,
    run: usize,
    skipped: usize,
    /// Commits of which every job was skipped.
    quiet: usize,
}

fn read(text: &str) -> Vec<Commit> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn targets(attrs: &[&str]) -> Vec<Target> {
    attrs.iter().map(|attr| Target::of(AttrPath::parse(attr).unwrap()).unwrap()).collect()
}

/// The targets of the first history, of the outputs that its flake has.
fn blazedots() -> Vec<Target> {
    let attrs = ["statix", "deadnix", "treefmt"].map(|name| format!("checks.x86_64-linux.{name}"));
    let mut all: Vec<&str> = attrs.iter().map(String::as_str).collect();
    all.extend(["nixosConfigurations.blazar", "devShells.x86_64-linux.default"]);
    targets(&all)
}

/// Whether a build may read this file, by its name: all Nix code, what Nix itself reads, and whatever is not text for people. Said the
/// other way round than the rules say it, so that one can be held against the other.
fn matters(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap();
    let about = [".gitignore", ".gitattributes", ".envrc", ".editorconfig", "LICENSE", "dependabot.yml", "release.yml"];
    let text = [".md", ".markdown", ".rst", ".adoc"].iter().any(|end| name.ends_with(end));
    !(text || about.contains(&name) || file.starts_with(".vscode/") || file.starts_with(".github/ISSUE_TEMPLATE/"))
}

fn replay(commits: &[Commit], targets: &[Target], rules: impl Fn(&[String]) -> Rules) -> Tally {
    let mut tally = Tally { commits: commits.len(), ..Tally::default() };
    for commit in commits {
        let touched = rules(&commit.changed).touched(&commit.changed, targets);
        let run = targets.iter().filter(|target| touched.why(&target.attr).is_some()).count();
        tally.run += run;
        tally.skipped += targets.len() - run;
        tally.quiet += usize::from(run == 0);
    }
    tally
}

/// Every commit that may matter touches everything, and every commit that changes anything touches the checks.
fn assert_nothing_is_missed(commits: &[Commit], targets: &[Target]) {
    for commit in commits.iter().filter(|commit| !commit.changed.is_empty()) {
        let touched = defaults(&commit.changed, &Reads::default()).touched(&commit.changed, targets);
        let may_matter = commit.changed.iter().any(|file| matters(file));
        assert!(!may_matter || touched.all.is_some(), "{}: {:?}", commit.commit, commit.changed);
        let mut checks = targets.iter().filter(|target| target.attr.to_string().starts_with("checks"));
        assert!(checks.all(|check| touched.why(&check.attr).is_some()), "{}", commit.commit);
    }
}

#[test]
fn the_defaults_skip_no_commit_that_may_matter() {
    let here = read(include_str!("../../data/blazedots.jsonl"));
    let all = blazedots();
    let by_default = |files: &[String]| defaults(files, &Reads::default());
    assert_nothing_is_missed(&here, &all);
    let tally = replay(&here, &all, by_default);
    eprintln!("dscv103-BlazeDots, defaults: {tally:?}");
    assert_eq!(tally.commits, 74);
}

#[test]
fn rules_of_ones_own_skip_most_of_it() {
    let here = read(include_str!("../../data/blazedots.jsonl"));
    let text = include_str!("../../../examples/nix-cache.toml");
    let tally = replay(&here, &blazedots(), |_| RulesFile::parse(text, "nix-cache.toml").unwrap().rules.unwrap());
    let by_default = replay(&here, &blazedots(), |files| defaults(files, &Reads::default()));
    eprintln!("dscv103-BlazeDots, examples/nix-cache.toml: {tally:?}");
    assert!(tally.run < by_default.run && tally.quiet > by_default.quiet, "{tally:?} {by_default:?}");
}

#[test]
fn further_histories_show_the_same() {
    let Some(folder) = std::env::var_os("NIX_CACHE_TEST_HISTORIES").map(PathBuf::from) else { return };
    let mut folders: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    for folder in folders {
        let commits = read(&fs::read_to_string(folder.join("history.jsonl")).unwrap());
        let all = targets(&["checks.x86_64-linux.a", "packages.x86_64-linux.a", "devShells.x86_64-linux.default"]);
        assert_nothing_is_missed(&commits, &all);
        let tally = replay(&commits, &all, |files| defaults(files, &Reads::default()));
        let matter = commits.iter().filter(|commit| commit.changed.iter().any(|file| matters(file))).count();
        eprintln!("{}: {matter} commits may matter; defaults: {tally:?}", folder.file_name().unwrap().display());
    }
}
