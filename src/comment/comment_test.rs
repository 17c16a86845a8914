//! What a comment says, and what no report can make it say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::base::{Base, Why};
use super::difference::parts;
use super::*;
use crate::base::digest::Sha;
use crate::building::watch::Ending;
use crate::building::{BuildReport, Category, DerivationTime, Failure};
use crate::github::env::Facts;
use crate::github::status::JobStatus;
use crate::history::{History, Run, Usual, usual};
use crate::layer::digest::Digests;
use crate::report::{Action, Closure, NewPath, Paths, Report, Restore, Save};
use crate::series::Hit;
use crate::snapshot::{Layer, Record, Snapshot};
use crate::store::{PathInfo, StorePath};

const MIB: u64 = 1 << 20;
const KEY: &str = "nix-v1-x86_64-linux-26.05-9f3d1c2b7a60-4be0d51f8e92-none";
pub(super) const LANE: &str = "CI/build";
pub(super) const HEAD: &str = "1111111111111111111111111111111111111111";

/// A store path whose hash is made of `hash`.
fn path(hash: char, name: &str) -> StorePath {
    format!("{}-{name}", hash.to_string().repeat(32)).parse().unwrap()
}

/// A snapshot of these paths, with sizes and references.
fn snapshot(paths: &[(StorePath, u64, Vec<StorePath>)]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let mut held = BTreeSet::new();
    for (path, size, references) in paths {
        let deriver = format!("{}-{}.drv", "d".repeat(32), path.name()).parse().ok();
        let references = references.iter().cloned().collect();
        let info = PathInfo { nar_size: *size, references, deriver, ..PathInfo::sample(path.clone()) };
        held.insert((path.clone(), info.nar_hash));
        snapshot.paths.insert((path.clone(), info.nar_hash), Record { info, last_used: 5 });
    }
    let lane = snapshot.lanes.entry(LANE.to_owned()).or_default();
    lane.save(paths.iter().map(|(path, ..)| path.clone()), 5);
    let digests = Digests { size: 1, chunks: Vec::new() };
    let layer = Layer { digests, recipe: None, paths: held, nar_bytes: 1, created: 5, tables: 0 };
    snapshot.layers.insert(Sha([1; 32]), layer);
    snapshot
}

/// The base: a clock with two libraries, and a page.
fn base() -> Base {
    let (openssl, zlib, glibc) = (path('b', "openssl-3.0.13"), path('c', "zlib-1.3.1"), path('g', "glibc-2.42"));
    let clock = path('a', "clock-0.4.0");
    let snapshot = snapshot(&[
        (clock, 9 * MIB, vec![openssl.clone(), zlib.clone()]),
        (openssl, 6 * MIB, vec![glibc.clone()]),
        (zlib, MIB, vec![glibc.clone()]),
        (glibc, 30 * MIB, vec![]),
        (path('f', "page-1"), 4 * MIB, vec![]),
        // Of another lane, and in no closure.
        (path('h', "unrelated-7"), 900 * MIB, vec![]),
    ]);
    Base::of(snapshot, KEY, 12, true)
}

fn new(path: &StorePath, nar_bytes: u64) -> NewPath {
    NewPath { path: path.to_string(), nar_bytes }
}

pub(super) fn report() -> Report {
    let facts = Facts {
        repository: "octo/clock".to_owned(),
        workflow: "CI".to_owned(),
        job: "build".to_owned(),
        event: "pull_request".to_owned(),
        sha: "2".repeat(40),
        run_id: Some(99),
        run_attempt: Some(1),
        ..Facts::default()
    };
    let mut report = Report::new(Action::Both, &facts, LANE);
    report.job.head_sha = HEAD.to_owned();
    (report.job.started, report.job.ended) = (1_790_000_000, 1_790_000_083);
    report.job.status = JobStatus::Success;
    report.machine.system = "x86_64-linux".to_owned();
    report.key.primary = KEY.to_owned();
    report.key.hit = Hit::Partial;
    report.restore = Some(Restore { ms: 4_200, ..Restore::default() });
    report.save = Some(Save { ms: 1_900, ..Save::default() });
    report.paths = Paths { needed: Some(960), built_here: 30, fetched_upstream: 10, ..Paths::default() };
    let build = |name: &str, ms, ending| DerivationTime {
        name: name.to_owned(),
        derivation: format!("/nix/store/{}-{name}.drv", "i".repeat(32)),
        ending,
        ms,
        ..DerivationTime::default()
    };
    report.builds = vec![BuildReport {
        derivations: vec![
            build("clock-0.4.1", 61_000, Ending::Built),
            build("zlib-1.3.1", 8_000, Ending::Built),
            build("hands-1.0", 900, Ending::Failed),
        ],
        failures: vec![Failure { derivation: "hands-1.0".to_owned(), ..Failure::new(Category::Test, "no") }],
        ..BuildReport::default()
    }];
    let (clock, openssl, zlib, glibc) =
        (path('1', "clock-0.4.1"), path('2', "openssl-3.0.14"), path('3', "zlib-1.3.1"), path('g', "glibc-2.42"));
    let hands = path('4', "hands-1.0");
    report.closure = Some(Closure {
        outputs: vec![clock.to_string()],
        paths: vec![
            new(&clock, 10 * MIB),
            new(&openssl, 7 * MIB),
            new(&zlib, MIB),
            new(&glibc, 30 * MIB),
            new(&hands, MIB / 2),
        ],
    });
    report
}

/// A job that ended before its report was complete.
fn broken() -> Report {
    let mut report = report();
    report.job.lane = "CI/page".to_owned();
    report.job.status = JobStatus::Cancelled;
    (report.job.ended, report.restore, report.save, report.closure) = (0, None, None, None);
    (report.paths.needed, report.key.hit) = (None, Hit::Miss);
    report.builds = Vec::new();
    report
}

fn page(sections: Vec<Section>) -> Page {
    Page {
        marker: "<!-- nix-cache:report:default -->".to_owned(),
        sha: HEAD.to_owned(),
        branch: "main".to_owned(),
        run: Some("https://github.com/octo/clock/actions/runs/99".to_owned()),
        sections,
        refused: vec![("other/report.json".to_owned(), "it is about another run".to_owned())],
        is_cut: false,
    }
}

#[test]
fn a_comment_as_people_read_it() {
    let known = Usual { runs: 20, hit_rate: Some(0.982), job_ms: Some(41_000) };
    let base = base();
    let sections = vec![
        Section::of(&report(), Some(known), Ok(&base)),
        Section::of(&broken(), None, Err("the cache has no snapshot of main for this key")),
    ];
    let made = render(&page(sections));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/comment/testdata/comment.md");
    if std::env::var_os("NIX_CACHE_TEST_RENEW").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, &made).unwrap();
        panic!("Wrote {}. Read it, and run the test without NIX_CACHE_TEST_RENEW.", file.display());
    }
    let golden = fs::read_to_string(&file).unwrap();
    assert_eq!(made, golden, "renew it with NIX_CACHE_TEST_RENEW=1");
}

#[test]
fn only_what_the_outputs_need_is_compared() {
    let base = base();
    let section = Section::of(&report(), None, Ok(&base));
    let difference = section.closure.unwrap().difference;
    assert_eq!(difference.outputs, [("clock-0.4.1".to_owned(), Some("clock-0.4.0".to_owned()))]);
    assert_eq!((difference.paths_before, difference.paths_after), (4, 5));
    assert_eq!((difference.paths_added, difference.paths_removed), (4, 3));
    assert_eq!(difference.growth(), Some((48 * MIB + MIB / 2).cast_signed() - (46 * MIB).cast_signed()));
    let names =
        |changes: &[super::difference::Change]| changes.iter().map(|one| one.name.clone()).collect::<BTreeSet<_>>();
    assert_eq!(names(&difference.changed), ["clock", "openssl"].map(str::to_owned).into());
    assert_eq!(names(&difference.rebuilt), ["zlib".to_owned()].into());
    assert_eq!((names(&difference.added), difference.removed.len()), (["hands".to_owned()].into(), 0));
    // The same output again is not a change, and an output that the base does not have is new as a whole.
    let mut same = report();
    let closure = [('a', "clock-0.4.0"), ('b', "openssl-3.0.13"), ('c', "zlib-1.3.1"), ('g', "glibc-2.42")];
    let paths: Vec<NewPath> = closure.iter().map(|(hash, name)| new(&path(*hash, name), 1)).collect();
    same.closure = Some(Closure { outputs: vec![paths[0].path.clone()], paths });
    assert!(Section::of(&same, None, Ok(&base)).closure.unwrap().difference.is_empty());
    let lone = path('5', "sundial-1");
    same.closure = Some(Closure { outputs: vec![lone.to_string()], paths: vec![new(&lone, 7)] });
    let difference = Section::of(&same, None, Ok(&base)).closure.unwrap().difference;
    assert_eq!((difference.paths_before, difference.paths_added, difference.outputs[0].1.clone()), (0, 1, None));
}

#[test]
fn a_size_that_the_snapshot_does_not_know_is_unknown() {
    let missing = path('m', "upstream-1");
    let clock = path('a', "clock-0.4.0");
    let base = Base::of(snapshot(&[(clock, 5, vec![missing])]), KEY, 1, true);
    let difference = Section::of(&report(), None, Ok(&base)).closure.unwrap().difference;
    assert_eq!((difference.paths_before, difference.bytes_before, difference.growth()), (2, None, None));
}

#[test]
fn derivations_are_explained_by_what_the_base_has() {
    let base = base();
    let why =
        |hash: char, name: &str| base.why_built(&format!("/nix/store/{}-{name}.drv", hash.to_string().repeat(32)));
    assert_eq!(why('i', "clock-0.4.1"), Why::Version("0.4.0".to_owned()));
    assert_eq!(why('i', "zlib-1.3.1"), Why::Inputs);
    assert_eq!(why('d', "zlib-1.3.1"), Why::NotRestored);
    assert_eq!(why('i', "hands-1.0"), Why::New);
    assert_eq!(base.why_built("<script>"), Why::Unknown);
    for (name, expected) in [
        ("openssl-3.0.13-dev", ("openssl-dev", "3.0.13")),
        ("gtk+3-3.24.43", ("gtk+3", "3.24.43")),
        ("nixos-system-desk-26.05.20261125.abc", ("nixos-system-desk", "26.05.20261125.abc")),
        ("source", ("source", "")),
        ("x-", ("x-", "")),
        ("-dev", ("-dev", "")),
    ] {
        assert_eq!(parts(name), (expected.0.to_owned(), expected.1.to_owned()));
    }
}

#[test]
fn only_successful_runs_of_the_lane_on_the_branch_are_usual() {
    let run = |number: u64, status: &str, git_ref: &str, cached| Run {
        time: number,
        run: number,
        lane: LANE.to_owned(),
        system: "x86_64-linux".to_owned(),
        status: status.to_owned(),
        git_ref: git_ref.to_owned(),
        hit: "exact".to_owned(),
        cached: Some(cached),
        built: 100 - cached,
        job_ms: Some(cached * 1_000),
        ..Run::default()
    };
    let main = "refs/heads/main";
    let history = History::of([
        run(1, "success", main, 90),
        run(2, "success", main, 70),
        run(3, "success", main, 80),
        run(4, "failure", main, 1),
        run(5, "success", "refs/pull/7/merge", 2),
    ]);
    let found = usual(&history, (LANE, "x86_64-linux", main)).unwrap();
    assert_eq!(found, Usual { runs: 3, hit_rate: Some(0.8), job_ms: Some(80_000) });
    assert_eq!(usual(&history, (LANE, "aarch64-linux", main)), None);
}

/// The text outside spans of code.
fn outside(markdown: &str) -> String {
    markdown.split('`').step_by(2).collect()
}

#[test]
fn nothing_in_a_report_becomes_markdown() {
    let hostile =
        "<img src=x onerror=1> @octocat [a](http://x) www.evil.test #1 `b` | c\n\n# d\u{202e} ![](//e) ::error::";
    let mut report = report();
    report.key.matched = Some(hostile.to_owned());
    report.builds[0].derivations[0].name = hostile.to_owned();
    report.builds[0].failures[0].derivation = hostile.to_owned();
    report.machine.system = hostile.to_owned();
    for base in [Ok(&base()), Err(hostile)] {
        let mut made = page(vec![Section::of(&report, None, base)]);
        made.refused = vec![(hostile.to_owned(), hostile.to_owned())];
        made.branch = hostile.to_owned();
        let text = render(&made);
        assert!(text.contains("octocat") && !text.contains('\u{202e}'));
        let plain = outside(&text);
        for part in ["octocat", "evil", "onerror", "# d", "::error"] {
            assert!(!plain.contains(part), "{part}: {text}");
        }
        // No row of a table has a cell too many.
        for row in text.lines().filter(|line| line.starts_with("| ")) {
            assert!([4, 5, 10].contains(&row.matches('|').count()) || row.matches('|').count() == 3, "{row}");
        }
    }
}

proptest! {
    #[test]
    fn a_span_has_one_beginning_and_one_end(value in any::<String>()) {
        let span = crate::report::markdown::span(&value, 50);
        prop_assert!(span == "–" || span.starts_with('`') && span.ends_with('`') && span.matches('`').count() == 2);
        prop_assert!(!span.contains(['|', '\n', '\r']) && span.chars().count() <= 52);
    }
}

#[test]
fn a_comment_of_many_jobs_says_what_it_leaves_out() {
    let base = base();
    let of = |number: usize| {
        let mut report = report();
        report.job.lane = format!("CI/{}{number}", "é".repeat(60));
        let mut section = Section::of(&report, None, Ok(&base));
        let row = section.derivations[0].clone();
        section.derivations = vec![super::section::Derivation { name: "\u{1F980}".repeat(100), ..row }; 30];
        section
    };
    let made = render(&page((0..256).map(of).collect()));
    assert!(made.len() <= 65_536, "{}", made.len());
    assert!(
        made.contains("more jobs would not fit into this table.") || made.matches("| `CI/").count() == 256,
        "{made}"
    );
    assert!(made.contains("jobs are left out: GitHub takes at most 65,536 characters"), "{made}");
    assert!(made.ends_with("</sub>\n") && made.contains("it is about another run"));
    assert_eq!(made.matches("<details>").count(), made.matches("</details>").count());
}

#[test]
fn numbers_that_cannot_be_are_unknown() {
    let mut report = report();
    report.paths.built_here = u64::MAX;
    (report.job.started, report.job.ended) = (1, u64::MAX);
    report.restore = Some(Restore { ms: u64::MAX, ..Restore::default() });
    report.builds[0].derivations[0].ms = u64::MAX;
    report.closure.as_mut().unwrap().paths[0].nar_bytes = u64::MAX;
    let section = Section::of(&report, None, Ok(&base()));
    assert_eq!((section.hit_rate, section.built, section.job_ms, section.restore_ms), (None, None, None, None));
    assert_eq!(section.derivations[0].ms, None);
    assert_eq!(section.closure.unwrap().difference.growth(), None);
    // A closure that is none of ours is unknown.
    for name in ["../../etc/passwd", "x", ""] {
        report.closure.as_mut().unwrap().paths[1].path = name.to_owned();
        assert!(Section::of(&report, None, Ok(&base())).closure.is_err(), "{name}");
    }
    report.closure = Some(Closure { outputs: vec![path('z', "x-1").to_string()], paths: vec![] });
    assert!(Section::of(&report, None, Ok(&base())).closure.is_err());
}

#[test]
fn a_base_is_chosen_by_the_branch_of_its_entry() {
    use crate::remote::Kind;
    use crate::remote::github::{CacheEntryInfo, version};
    use std::time::{Duration, SystemTime};
    let entry = |key: &str, git_ref: &str, created: u64| CacheEntryInfo {
        key: key.to_owned(),
        version: version(Kind::Snapshot),
        size: 1,
        git_ref: git_ref.to_owned(),
        last_accessed: SystemTime::UNIX_EPOCH,
        created: SystemTime::UNIX_EPOCH + Duration::from_secs(created),
    };
    let (main, own) = ("refs/heads/main", "refs/pull/7/merge");
    let entries = [
        entry("k#g1", main, 1),
        entry("k#g2", main, 2),
        entry("k#g3", own, 3),
        entry("k#g3", main, 4),
        entry("k#g9", "refs/pull/8/merge", 9),
        entry("k#g10", main, 10),
        CacheEntryInfo { version: "of another tool".to_owned(), ..entry("k#g11", main, 11) },
        entry("k", main, 12),
    ];
    let readable = |scopes: &[&str]| {
        let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        super::base::readable(&entries, main, &scopes)
    };
    // In the pull request, its own generation 3 would be found in place of main's.
    assert_eq!(readable(&[main, own]), ["k#g10", "k#g2", "k#g1"]);
    assert_eq!(readable(&[main]), ["k#g10", "k#g3", "k#g2", "k#g1"]);
    assert_eq!(readable(&[]), ["k#g10", "k#g2", "k#g1"]);
}

#[test]
fn a_closure_of_the_greatest_size_is_compared() {
    let paths: BTreeMap<String, u64> = (0..20_000).map(|number| (format!("{number:032}-p{number}-1"), 1)).collect();
    let mut report = report();
    report.closure = Some(Closure {
        outputs: vec![paths.keys().next().unwrap().clone()],
        paths: paths.iter().map(|(path, bytes)| NewPath { path: path.clone(), nar_bytes: *bytes }).collect(),
    });
    let made = render(&page(vec![Section::of(&report, None, Ok(&base()))]));
    assert!(made.contains("and 19,985 more"), "{made}");
}
