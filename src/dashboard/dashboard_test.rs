//! What a page shows, and what it never contains.

use super::*;
use crate::audit::figures::AuditFigures;
use crate::history::{Built, Failed};

/// Runs of a repository: cold at first, then with the cache.
fn runs(count: u64) -> Vec<Run> {
    let run = |number: u64| {
        let cold = number < 6 || number.is_multiple_of(97);
        let failed = number.is_multiple_of(23);
        Run {
            time: 1_785_000_000 + number * 7_000,
            run: 9_000_000_000 + number,
            attempt: 1,
            lane: format!("CI/build ({})", ["x86_64-linux", "aarch64-linux"][number as usize % 2]),
            workflow: "CI".into(),
            git_ref: if number.is_multiple_of(3) { "refs/pull/7/merge".into() } else { "refs/heads/main".into() },
            status: if failed { "failure".into() } else { "success".into() },
            hit: if cold { "miss".into() } else { "partial".into() },
            cached: Some(if cold { 0 } else { 950 }),
            built: if cold { 1_000 } else { 50 },
            restore_ms: Some(if cold { 900 } else { 14_000 }),
            evaluation_ms: Some(21_000),
            build_ms: Some(if cold { 900_000 } else { 60_000 + number % 40_000 }),
            save_ms: Some(9_000),
            job_ms: Some(if cold { 960_000 } else { 125_000 + number % 40_000 }),
            downloaded: 700 << 20,
            uploaded: 30 << 20,
            held: Some((5 << 30) + number * 1_000_000),
            category: if failed { "network".into() } else { String::new() },
            failed: if failed {
                vec![Failed { name: format!("source-{}", number % 5), category: "network".into(), transient: true }]
            } else {
                Vec::new()
            },
            slowest: (0..5).map(|n| Built { name: format!("package-{}", (number + n) % 11), ms: 1_000 * n }).collect(),
            retries: number % 11 / 10,
            cpus: 4,
            memory: 16 << 30,
            cpu_percent: Some(73),
            memory_peak: Some(5 << 30),
            ..Run::default()
        }
    };
    (0..count).map(run).collect()
}

fn made(runs: Vec<Run>, goals: Goals) -> (Written, String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let facts =
        Facts { address: Some("https://github.com/a/b".into()), ..Facts::of("a/b".into(), 1_795_000_000, goals, runs) };
    let written = write(&facts, folder.path()).unwrap();
    let page = std::fs::read_to_string(folder.path().join(INDEX)).unwrap();
    (written, page, folder)
}

#[test]
fn the_time_before_the_cache_is_compared_with_the_time_since() {
    let runs = runs(40);
    let since = runs[0].time;
    let folder = tempfile::tempdir().unwrap();
    let job = |name: &str, ended, minutes: u64| GithubJob {
        name: name.to_owned(),
        ended,
        ms: minutes * 60_000,
        queued_ms: None,
        has_failed: false,
    };
    let jobs = (1..=5).flat_map(|n| {
        [job("CI / <script>alert(1)</script>", since - n, 20), job("CI / <script>alert(1)</script>", since + n, 12)]
    });
    let github = GithubJobs { days: 90, jobs: jobs.collect(), read: 10, total: 10, ..GithubJobs::default() };
    let goals = Goals { job_time_reduction: Some(0.3), ..Goals::default() };
    let facts = Facts { github: Some(github), ..Facts::of("a/b".into(), 1_795_000_000, goals, runs) };
    write(&facts, folder.path()).unwrap();
    let page = std::fs::read_to_string(folder.path().join(INDEX)).unwrap();
    assert!(page.contains("jobs are 40.0 % shorter (goal of 30.0 %: reached)."), "{page}");
    assert!(page.contains("<th scope=row>CI / &lt;script&gt;") && !page.contains("<script>alert"), "{page}");
    let data: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(folder.path().join("data.json")).unwrap()).unwrap();
    assert_eq!(
        (&data["adoption"]["since"], &data["adoption"]["jobs"][0]["before-ms"]),
        (&since.into(), &1_200_000.into())
    );
}

#[test]
fn audits_show_what_is_open_and_how_much_is_known() {
    let audit = |number: u64, errors, paths, lane: &str, git_ref: &str| Run {
        time: 1_785_000_000 + number * DAY,
        run: number,
        kind: RunKind::Audit,
        lane: lane.into(),
        git_ref: git_ref.into(),
        status: "success".into(),
        audit: Some(AuditFigures {
            errors,
            warnings: 2,
            paths,
            evaluated_paths: paths / 2,
            derivation_paths: paths / 4,
            ..AuditFigures::default()
        }),
        ..Run::default()
    };
    let main = "refs/heads/main";
    let runs = vec![
        audit(0, 5, 0, "a", main),
        audit(1, 1, 200, "b", main),
        // A pull request is not merged yet; the next audit of a lane replaces the last one.
        audit(2, 90, 900, "a", "refs/pull/7/merge"),
        audit(3, 3, 0, "a", main),
    ];
    let (bins, _) = bins::bins(&runs);
    let open = audits::open(&bins);
    // A span that has no audit shows what was open then.
    let errors: Vec<Option<f64>> = audits::findings(&open)[0].values.iter().step_by(6).copied().collect();
    assert_eq!(errors.first(), Some(&Some(5.0)));
    assert_eq!((errors.contains(&Some(6.0)), errors.iter().flatten().any(|count| *count > 6.0)), (true, false));
    assert_eq!(audits::findings(&open)[0].values.last(), Some(&Some(4.0)));
    assert_eq!(audits::coverage(&open)[1].values.last(), Some(&Some(0.25)));
    let (_, page, _folder) = made(runs, Goals::default());
    for part in [
        "<h3>Open findings of audits</h3><p class=value>8</p>",
        "4 errors, 4 warnings, 50.0 % of 200 paths known from the evaluation",
        "<h3 id=findings>Open findings</h3>",
        "<h3 id=coverage>Coverage of audits</h3>",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    // Without findings there is no chart of them, and without audits nothing about them.
    let mut clean = audit(0, 0, 0, "a", main);
    clean.audit = Some(AuditFigures::default());
    let (_, page, _folder) = made(vec![clean.clone()], Goals::default());
    assert!(page.contains("nothing is open") && !page.contains("id=findings") && !page.contains("id=coverage"));
    clean.audit = None;
    assert!(!made(vec![clean], Goals::default()).1.contains("audits"));
}

#[test]
fn an_audit_that_nobody_repeats_counts_no_more() {
    let at = |day: u64, audit: Option<AuditFigures>| Run {
        time: 1_785_000_000 + day * DAY,
        run: day,
        audit,
        ..Run::default()
    };
    let found = AuditFigures { errors: 1, ..AuditFigures::default() };
    let runs = vec![at(0, Some(found)), at(30, None), at(60, None)];
    let (bins, _) = bins::bins(&runs);
    let open = audits::open(&bins);
    assert_eq!((open[0], open[open.len() - 1]), (Some(found), None));
}

const GOALS: Goals = Goals { hit_rate: Some(0.9), job_time_reduction: Some(0.99), success_rate: Some(0.5) };

#[test]
fn a_page_of_a_thousand_runs_is_small_and_says_what_the_runs_come_to() {
    let (written, page, folder) = made(runs(1_000), GOALS);
    println!("{} bytes", page.len());
    assert!(page.len() < 200_000, "{}", page.len());
    assert_eq!(written.runs, 1_000);
    let states: Vec<State> = written.goals.iter().map(|goal| goal.state).collect();
    assert_eq!(states, [State::Reached, State::Missed, State::Reached]);
    for part in [
        "1,000 runs of 2 lanes",
        "✓ goal of 90.0 % reached",
        "✗ goal of 99.0 % missed",
        "package-7",
        "source-3",
        "network",
        "https://github.com/a/b/actions/runs/9000000999",
        "temporary failures were retried",
        "CI/build (aarch64-linux)",
        "pull/7/merge",
    ] {
        assert!(page.contains(part), "{part}");
    }
    // Nothing can be loaded or run.
    for part in ["<script", "javascript:", " src=", "@import", "url(", " style=", " on"] {
        assert!(!page.split_once("<body>").unwrap().1.contains(&format!("{part}=")), "{part}");
    }
    assert!(page.contains("default-src 'none'; style-src 'sha256-") && !page.contains("<script"));
    let data: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("data.json")).unwrap()).unwrap();
    assert_eq!((data["runs"].as_array().unwrap().len(), data["goals"][1]["state"].as_str()), (1_000, Some("missed")));
    assert!(std::fs::read_to_string(folder.path().join("badge.json")).unwrap().contains("% hits"));
}

#[test]
fn texts_of_records_are_text() {
    let hostile = "</title><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\u{202e}";
    let run = Run {
        time: 1_790_000_000,
        lane: hostile.into(),
        workflow: hostile.into(),
        git_ref: format!("refs/heads/{hostile}"),
        hit: "miss".into(),
        status: hostile.into(),
        category: hostile.into(),
        slowest: vec![Built { name: hostile.into(), ms: u64::MAX }],
        failed: vec![Failed { name: hostile.into(), category: hostile.into(), transient: false }],
        cached: Some(u64::MAX),
        built: u64::MAX,
        job_ms: Some(u64::MAX),
        restore_ms: Some(u64::MAX),
        downloaded: u64::MAX,
        held: Some(u64::MAX),
        cpus: u64::MAX,
        memory: u64::MAX,
        memory_peak: Some(u64::MAX),
        cpu_percent: Some(u64::MAX),
        retries: u64::MAX,
        ..Run::default()
    };
    let later = Run { time: 1_790_000_001, run: 2, status: "success".into(), ..run.clone() };
    let more = (2..9).map(|number| Run { run: number, ..later.clone() });
    let (_, page, folder) = made([run].into_iter().chain(more).collect(), GOALS);
    assert!(page.contains("&lt;script&gt;alert(1)"));
    assert!(!page.contains("<script") && !page.contains("<img") && !page.contains('\u{202e}') && !page.contains("NaN"));
    assert!(!page.contains("inf"), "{page}");
    assert!(std::fs::read_to_string(folder.path().join("badge.svg")).unwrap().contains("</svg>"));
}

#[test]
fn what_is_unknown_is_called_unknown() {
    let (written, page, _) = made(Vec::new(), GOALS);
    assert!(page.contains("There is no run in the history yet") && written.goals[0].state == State::Unknown);
    let bare = Run { time: 1_790_000_000, hit: "miss".into(), ..Run::default() };
    let (_, page, folder) = made(vec![bare.clone()], Goals::default());
    assert!(page.matches("unknown").count() > 5 && !page.contains("0.0 %") && !page.contains("goal of"), "{page}");
    assert!(std::fs::read_to_string(folder.path().join("badge.json")).unwrap().contains("unknown"));
    // Times that no job can have are left out, and do not stretch the charts.
    let odd = [0, u64::MAX, 1_795_200_000].map(|time| Run { time, run: time, ..bare.clone() });
    let (written, page, _) = made(odd.into_iter().chain([bare]).collect(), Goals::default());
    assert!(written.runs == 1 && page.contains("3 runs with an impossible time left out"), "{page}");
}

#[test]
fn old_records_and_long_times_are_shown() {
    let old: Run =
        serde_json::from_str(r#"{"time": 1600000000, "hit": "exact", "lane": "l", "category": "build"}"#).unwrap();
    let runs: Vec<Run> = (0..70).map(|n| Run { time: old.time + n * 2_700_000, run: n, ..old.clone() }).collect();
    let (bins, span) = bins::bins(&runs);
    assert!(bins.len() <= 31 && bins.iter().map(|bin| bin.runs.len()).sum::<usize>() == 70, "{}", bins.len());
    assert_eq!(span, "in spans of 91 days");
    let (_, page, _) = made(runs, Goals::default());
    assert!(page.contains("<th scope=row>build</th>"), "{page}");
}

#[test]
fn a_recovery_is_the_time_from_a_temporary_failure_to_the_next_success_of_the_branch() {
    let run = |time, status: &str, transient| Run {
        time,
        status: status.into(),
        failed: if status == "failure" { vec![Failed { transient, ..Failed::default() }] } else { Vec::new() },
        ..Run::default()
    };
    let other = Run { git_ref: "refs/heads/x".into(), ..run(12, "success", false) };
    let runs = [
        run(10, "failure", true),
        other,
        run(20, "failure", true),
        run(30, "success", false),
        run(40, "failure", false),
    ];
    let found = failures::recovery(&runs);
    assert_eq!((found.failed, found.recovered, found.median_ms), (2, 2, Some(10_000)));
}

#[test]
fn axes_end_at_round_values_above_all_others() {
    use chart::Unit;
    for (unit, most, end) in [
        (Unit::Milliseconds, 61_000.0, "2 min"),
        (Unit::Milliseconds, 5_500_000.0, "2 h 00 min"),
        (Unit::Bytes, 900.0 * 1_048_576.0, "1.0 GiB"),
        (Unit::Count, 3.0, "4"),
        (Unit::Share, 0.3, "100 %"),
    ] {
        assert_eq!(unit.show(unit.above(most)), end);
    }
    let range = |values: Vec<Option<f64>>| {
        let series = vec![chart::Series { name: "s", class: "a", values }];
        let labels = vec!["x"; series[0].values.len()];
        chart::Chart { id: "c", title: "C", text: String::new(), unit: Unit::Count, labels, series, line: None }.range()
    };
    assert_eq!(range(vec![Some(3.0), None]), (0.0, 4.0));
    assert_eq!((range(vec![Some(3.0), Some(-1.0)]), range(vec![Some(1.0), Some(-3.0)])), ((-2.0, 4.0), (-4.0, 4.0)));
    for unit in [Unit::Milliseconds, Unit::Bytes, Unit::Count] {
        for most in [1e-9, 1.0, 1e6, 1e12, 1e19] {
            assert!(unit.above(most) >= most && unit.above(most).is_finite());
        }
    }
}
