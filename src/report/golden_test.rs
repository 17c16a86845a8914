//! Whole job summaries as people read them, in one file each in `testdata/`. After an intended change, rewrite them with
//! `NIX_CACHE_TEST_RENEW=1 cargo test --lib report::golden`, and check `git diff`.

use std::path::Path;

use super::*;
use crate::base::note::Code;
use crate::building::checks::{Check, Verdict};
use crate::building::watch::{Ending, Way};
use crate::building::{Category, DerivationTime, Failure, PhaseTime, Resources, Totals, TransferTime};
use crate::building::{Outcome as BuildOutcome, artifacts::Artifact};
use crate::series::Hit;

const MIB: u64 = 1 << 20;
const KEY: &str = "nix-v1-x86_64-linux-26.05-9f3d1c2b7a60-4be0d51f8e92-none";

/// Compares the summary of `report` with the file of this name, byte by byte.
fn compare(name: &str, report: &Report) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report/testdata").join(name);
    let made = summary::render(report);
    if std::env::var_os("NIX_CACHE_TEST_RENEW").is_some() {
        std::fs::write(&file, &made).unwrap();
        panic!("Wrote {}. Read it, and run the test without NIX_CACHE_TEST_RENEW.", file.display());
    }
    let golden = std::fs::read_to_string(&file).unwrap();
    let differing = made.lines().zip(golden.lines()).find(|(made, golden)| made != golden);
    assert!(made == golden, "{} differs, first at {differing:#?}:\n{made}", file.display());
}

/// A job of a project with a lock, on a GitHub-hosted machine.
fn job() -> Report {
    let facts = Facts {
        repository: "octo/clock".to_owned(),
        workflow: "CI".to_owned(),
        job: "build".to_owned(),
        event: "push".to_owned(),
        run_id: Some(1_658_821_493),
        run_attempt: Some(1),
        ..Facts::default()
    };
    let mut report = Report::new(Action::Both, &facts, "CI/build");
    report.key.primary = KEY.to_owned();
    report.machine = Machine {
        system: "x86_64-linux".to_owned(),
        nix_version: "2.34.8".to_owned(),
        installation: "multi-user".to_owned(),
        cpus: 4,
        memory_bytes: 15 * 1024 * MIB + 600 * MIB,
        disk_free_bytes: 88 * 1024 * MIB,
        ..Machine::default()
    };
    report.paths.baseline = 73;
    report
}

fn phases(report: &mut Report, phases: &[(&str, u64)]) {
    report.timings.extend(phases.iter().map(|(phase, ms)| Timing { phase: (*phase).to_owned(), ms: *ms }));
}

fn layer(name: &str, bytes: u64, ms: u64) -> Layer {
    Layer { name: name.repeat(64), bytes, ms }
}

fn new(path: &str, nar_bytes: u64) -> NewPath {
    NewPath { path: path.to_owned(), nar_bytes }
}

fn level(name: &str) -> Level {
    Level { name: name.to_owned(), ..Level::default() }
}

fn restored(report: &mut Report) {
    report.key.hit = Hit::Exact;
    report.key.matched = Some(KEY.to_owned());
    report.layers = vec![layer("4", 941 * MIB, 9_410), layer("d", 37 * MIB + 300 * 1024, 520)];
    report.restore =
        Some(Restore { mode: "mount".to_owned(), ms: 10_640, downloaded_bytes: 979 * MIB, ..Restore::default() });
    let (hit, restored_bytes) = (Hit::Exact, 2_786 * MIB);
    report.levels = vec![
        Level { hit, restored: 1_356, restored_bytes, downloaded_bytes: 979 * MIB, ..level("nix-store") },
        Level {
            hit: Hit::Partial,
            restored: 212,
            restored_bytes: 9 * MIB,
            downloaded_bytes: 3 * MIB,
            ..level("paths")
        },
        level("eval-cache"),
    ];
    report.paths.restored = 1_356;
    phases(
        report,
        &[("restore.snapshot", 310), ("restore.fetch", 9_720), ("restore.mount", 41), ("restore.register", 390)],
    );
}

#[test]
fn an_exact_hit_with_a_small_save() {
    let mut report = job();
    restored(&mut report);
    report.paths = Paths { needed: Some(1_344), built_here: 6, fetched_upstream: 1, new: 7, ..report.paths };
    report.save = Some(Save {
        outcome: Outcome::Saved,
        reason: "new-paths".to_owned(),
        because: "because the snapshot of this key lacked these paths".to_owned(),
        ms: 1_910,
        generation: Some(12),
        entries_created: 2,
        uploaded_bytes: 4 * MIB + 200 * 1024,
        running: None,
    });
    (report.levels[0].saved, report.levels[0].uploaded_bytes) = (7, 4 * MIB + 200 * 1024);
    report.largest_new = vec![
        new("1g58n1lsc2ajwr7ylvynbpcz8yxk4qrs-clock-0.4.1", 9 * MIB),
        new("7zfq5w6rds0q0cyqjrbqzd9kfi5cjpnl-clock-0.4.1-doc", 812 * 1024),
    ];
    phases(&mut report, &[("save.read the store", 120), ("save.pack", 240), ("save.upload", 1_330)]);
    report.quota = Some(Quota { used_bytes: 3_174 * MIB, limit_bytes: None, entries: 31 });
    compare("exact-hit.md", &report);
}

#[test]
fn a_miss_with_the_first_save() {
    let mut report = job();
    report.restore = Some(Restore { ms: 420, ..Restore::default() });
    report.levels = vec![Level { saved: 1_407, uploaded_bytes: 1_042 * MIB, ..level("nix-store") }];
    phases(&mut report, &[("restore.snapshot", 410)]);
    report.paths = Paths { needed: Some(0), built_here: 61, fetched_upstream: 1_346, new: 1_407, ..report.paths };
    report.save = Some(Save {
        outcome: Outcome::Saved,
        reason: "new-key".to_owned(),
        because: "because there was no snapshot of this key".to_owned(),
        ms: 38_200,
        generation: Some(1),
        entries_created: 9,
        uploaded_bytes: 1_042 * MIB,
        running: None,
    });
    report.largest_new = vec![
        new("k7c2n2gyv3qm5zjx1jcrqm6yv4f2lqnd-rustc-1.95.0", 604 * MIB),
        new("r1mzqv5vvd3h1nnxwzqaxr5yl1p5ph2k-llvm-21.1.2-lib", 413 * MIB),
        new("m4y0s8cn5i9w6rc0l5m9cgqg4kz4hjs1-glibc-2.42-31", 30 * MIB),
    ];
    phases(&mut report, &[("save.read the store", 960), ("save.pack", 11_300), ("save.upload", 25_600)]);
    let full = "The repository's cache is close to or above the free 10 GiB, so GitHub deletes the least recently used entries.";
    report.note(Note::silent(Severity::Notice, Code::Quota, full));
    report.quota = Some(Quota { used_bytes: 9_620 * MIB, limit_bytes: None, entries: 44 });
    compare("first-save.md", &report);
}

fn derivation(name: &str, ending: Ending, start_ms: u64, phases: &[(&str, u64)]) -> DerivationTime {
    let phases: Vec<_> = phases.iter().map(|(name, ms)| PhaseTime { name: (*name).to_owned(), ms: *ms }).collect();
    DerivationTime {
        name: name.to_owned(),
        derivation: format!("/nix/store/yr41fk39rlz7skyqyjxk5jma0wpy1vqr-{name}.drv"),
        ending,
        start_ms,
        ms: phases.iter().map(|phase| phase.ms).sum(),
        phases,
    }
}

fn check(name: &str, verdict: Verdict, reason: &str, ms: u64) -> Check {
    Check { name: name.to_owned(), verdict, reason: reason.to_owned(), ms, ..Check::default() }
}

fn failed_build() -> BuildReport {
    let said = "builder for '/nix/store/yr41fk39rlz7skyqyjxk5jma0wpy1vqr-clock-0.4.1.drv' failed with exit code 101";
    let log = [
        "running 14 tests",
        "test tick ... ok",
        "test tock ... FAILED",
        "",
        "thread 'tock' panicked at src/tock.rs:31:5:",
    ];
    let failure = Failure {
        derivation: "/nix/store/yr41fk39rlz7skyqyjxk5jma0wpy1vqr-clock-0.4.1.drv".to_owned(),
        phase: "checkPhase".to_owned(),
        file: Some("src/tock.rs".to_owned()),
        line: Some(31),
        column: Some(5),
        log: log.map(str::to_owned).to_vec(),
        ..Failure::new(Category::Test, said)
    };
    BuildReport {
        targets: vec![".#clock".to_owned(), ".#clock-doc".to_owned()],
        outcome: BuildOutcome::Failed,
        category: Some(Category::Test),
        ms: 96_400,
        attempts: 2,
        max_jobs: Some(4),
        totals: Totals {
            built: 2,
            failed: 1,
            substituted: 3,
            downloaded_bytes: 41 * MIB,
            evaluation_ms: 2_900,
            build_ms: 128_600,
            substitute_ms: 5_200,
            ..Totals::default()
        },
        derivations: vec![
            derivation("clock-0.4.1", Ending::Failed, 18_000, &[("buildPhase", 61_000), ("checkPhase", 17_200)]),
            derivation("clock-doc-0.4.1", Ending::Built, 18_000, &[("buildPhase", 35_700)]),
            derivation("clock-deps-0.4.1", Ending::Built, 3_100, &[("unpackPhase", 300), ("buildPhase", 14_400)]),
        ],
        transfers: vec![TransferTime {
            way: Way::Substituted,
            path: "/nix/store/m4y0s8cn5i9w6rc0l5m9cgqg4kz4hjs1-glibc-2.42-31".to_owned(),
            from: "https://cache.nixos.org".to_owned(),
            ms: 3_900,
            bytes: 30 * MIB,
            ..TransferTime::default()
        }],
        failures: vec![failure],
        retried: vec![Failure::new(Category::Network, "unable to download 'https://example.org/tz.tar.gz'")],
        resources: Some(Resources {
            samples: 48,
            cpu_mean_percent: 61.0,
            cpu_peak_percent: 99.0,
            memory_peak_bytes: 5_222 * MIB,
            disk_peak_bytes: 1_370 * MIB,
            disk_free_bytes: 86 * 1024 * MIB,
            ..Resources::default()
        }),
        artifacts: vec![Artifact {
            file: "/home/runner/work/clock/artifacts/clock-doc-0.4.1.nar.zst".to_owned(),
            nar_bytes: 12 * MIB,
            bytes: 3 * MIB,
            ratio: 0.25,
            ms: 140,
            ..Artifact::default()
        }],
        checks: vec![
            check("format", Verdict::Passed, "", 800),
            check("statix", Verdict::NotRun, "`statix` is not installed", 0),
            check("deadnix", Verdict::Failed, "exit code 1", 90),
        ],
        ..BuildReport::default()
    }
}

#[test]
fn a_build_that_failed() {
    let mut report = job();
    restored(&mut report);
    report.levels.truncate(1);
    report.job.status = JobStatus::Failure;
    report.builds = vec![failed_build()];
    report.paths = Paths { needed: Some(1_344), built_here: 2, fetched_upstream: 3, ..report.paths };
    report.save = Some(Save {
        outcome: Outcome::Skipped,
        reason: "job-failed".to_owned(),
        because: "because the job did not succeed and `save` is `on-success`".to_owned(),
        ..Save::default()
    });
    let damaged = report.layers.pop().unwrap();
    let message = format!(
        "Layer {} is not used by this job: 2 of its 38 chunks do not match their digests. The next save reads them again, and \
         replaces the layer if they are still wrong.",
        damaged.name
    );
    report.note(Note::silent(Severity::Warning, Code::LayerDamaged, message));
    compare("failed-build.md", &report);
}
