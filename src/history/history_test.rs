//! Properties of histories, and what is called a trend.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::audit::figures::AuditFigures;
use crate::report::Report;

fn run(number: u64, time: u64, cached: u64) -> Run {
    Run {
        time,
        run: number,
        attempt: 1,
        lane: "CI/build".into(),
        hit: "exact".into(),
        status: "success".into(),
        cached: Some(cached),
        built: 100 - cached.min(100),
        job_ms: Some(60_000),
        ..Run::default()
    }
}

fn any_run() -> impl Strategy<Value = Run> {
    (0..6_u64, 1..3_u64, "[ab]", 0..9_u64, proptest::option::of(0..5_u64), any::<Index>()).prop_map(
        |(number, attempt, lane, time, cached, hit)| Run {
            attempt,
            lane,
            cached,
            hit: (*hit.get(&["exact", "partial", "miss"])).into(),
            ..run(number, time, 1)
        },
    )
}

#[test]
fn records_of_other_repositories_give_way_first() {
    let own = (0..MOST as u64 - 3).map(|number| run(number, number + 10, 9));
    let foreign = (5_000..5_100).map(|number| Run { is_foreign: true, ..run(number, 90_000 + number, 9) });
    let all = History::of(own.chain(foreign));
    let mut kept = all.clone();
    kept.prune();
    assert_eq!((kept.runs.len(), kept.own().count()), (MOST, MOST - 3));
    assert!(kept.runs.values().filter(|run| run.is_foreign).all(|run| run.run >= 5_097));
    assert!(kept.covers(&all), "what was pruned is missing");
}

#[test]
fn a_record_with_impossible_numbers_is_not_read() {
    let sound = run(1, 2, 3);
    assert!(sound.is_sound());
    for wrong in [
        Run { cached: Some(u64::MAX), ..sound.clone() },
        Run { downloaded: 1 << 51, ..sound.clone() },
        Run { job_ms: Some(41 * 86_400_000), ..sound.clone() },
        Run { slowest: vec![run::Built { name: "a".into(), ms: u64::MAX }], ..sound.clone() },
        Run { audit: Some(AuditFigures { new: Some(1 << 40), ..AuditFigures::default() }), ..sound.clone() },
    ] {
        assert!(!wrong.is_sound(), "{wrong:?}");
        let text = History::of([wrong, Run { run: 2, ..sound.clone() }]).encode(Vec::new()).unwrap();
        assert_eq!(History::decode(&text).unwrap().runs.len(), 1);
    }
}

fn history() -> impl Strategy<Value = History> {
    (prop::collection::vec(any_run(), 0..8), prop::collection::btree_map(1..9_u64, 0..5_u64, 0..3))
        .prop_map(|(runs, unread)| History { unread, ..History::of(runs) })
}

fn union(mut a: History, b: &History) -> History {
    a.merge(b.clone());
    a
}

proptest! {
    #[test]
    fn a_union_is_the_same_in_any_order_and_covers_its_parts(a in history(), b in history(), c in history()) {
        let both = union(a.clone(), &b);
        prop_assert_eq!(&union(b.clone(), &a), &both);
        prop_assert_eq!(union(both.clone(), &c), union(a.clone(), &union(b.clone(), &c)));
        prop_assert_eq!(&union(both.clone(), &a), &both);
        prop_assert!(both.covers(&a) && both.covers(&b));
    }

    #[test]
    fn it_is_read_as_it_is_written(history in history()) {
        prop_assert_eq!(History::decode(&history.encode(Vec::new()).unwrap()).unwrap(), history);
    }
}

#[test]
fn a_thousand_runs_are_small_and_the_newest_are_kept() {
    let mut history = History::of((0..1_200).map(|number| Run {
        sha: format!("{:040x}", number * 7_919),
        git_ref: "refs/heads/main".into(),
        downloaded: number * 1_000_003,
        ..run(number, 1_790_000_000 + number * 977, 90 + number % 10)
    }));
    let all = history.clone();
    history.prune();
    assert_eq!((history.runs.len(), history.by_time()[0].run), (1_000, 200));
    // Runs that are too old to be kept do not make a job write again and again.
    assert!(history.covers(&all) && !History::default().covers(&all));
    let bytes = history.encode(Vec::new()).unwrap().len();
    println!("{bytes} bytes");
    assert!(bytes < 60_000, "{bytes}");
}

#[test]
fn what_no_job_wrote_is_not_read() {
    let read = |runs: serde_json::Value| {
        let body = zstd::encode_all(serde_json::json!({ "runs": runs }).to_string().as_bytes(), 1).unwrap();
        History::decode(&body)
    };
    let sound = serde_json::to_value(run(1, 1, 90)).unwrap();
    let with = |name: &str, value: serde_json::Value| {
        let mut run = sound.clone();
        run[name] = value;
        run
    };
    let mixed = serde_json::json!([
        sound,
        with("lane", "a\u{1b}[0m".into()),
        with("hit", "<script>".into()),
        with("sha", "a".repeat(1_000).into())
    ]);
    assert_eq!(read(mixed).unwrap(), History::of([run(1, 1, 90)]));
    assert!(read(with("time", (-1).into())).is_err() && read(serde_json::json!([with("time", (-1).into())])).is_err());
    let many: Vec<_> = (0..=MOST_READ as u64).map(|number| run(number, 1, 1)).collect();
    assert!(read(serde_json::to_value(many).unwrap()).unwrap_err().to_string().contains("2000 runs"));
}

#[test]
fn only_what_the_spread_does_not_explain_is_called_worse() {
    let steady =
        |rates: &[u64]| History::of(rates.iter().zip(1..).map(|(cached, number)| run(number, number, *cached)));
    let now = |cached, job_ms| Run { job_ms: Some(job_ms), ..run(99, 99, cached) };
    let usual = steady(&[95, 96, 95, 94, 95, 96, 95]);
    let found = trend(&usual, &now(95, 60_500)).unwrap();
    assert_eq!((found.runs, found.hit_rate_median, found.job_median_ms), (7, Some(0.95), Some(60_000)));
    assert_eq!((found.remarks.len(), found.sparkline.chars().count()), (0, 8));
    let worse = trend(&usual, &now(60, 90_000)).unwrap().remarks;
    assert!(worse[0].contains("60.0 %") && worse[0].contains("95.0 %") && worse[0].contains("7 runs"), "{worse:?}");
    assert!(worse[1].contains("1 min 30 s") && worse[1].contains("1 min 00 s"), "{worse:?}");
    // Where the runs differ a lot, the same value is nothing special, and a few runs say nothing.
    assert!(trend(&steady(&[95, 40, 80, 20, 99, 60, 30]), &now(20, 60_000)).unwrap().remarks.is_empty());
    assert!(trend(&steady(&[95, 95, 95]), &now(10, 60_000)).unwrap().remarks.is_empty());
    // Runs that failed ended early, so they are not what a success is compared with.
    let failed = |number| Run { status: "failure".into(), job_ms: Some(1_000), ..run(number, number, 100) };
    let red = History::of(usual.runs.into_values().chain((10..40).map(failed)));
    let found = trend(&red, &now(95, 60_500)).unwrap();
    assert_eq!((found.runs, found.job_median_ms, found.remarks.len()), (7, Some(60_000), 0), "{found:?}");
    // Other lanes, other systems, later runs and the run itself are not compared with.
    let other = Run { lane: "CI/other".into(), ..run(1, 1, 1) };
    let system = Run { system: "aarch64-linux".into(), ..run(2, 2, 1) };
    assert_eq!(trend(&History::of([other, system, run(99, 99, 1), run(100, 100, 1)]), &now(50, 1)), None);
}

#[test]
fn what_the_cache_saved_is_known_after_three_runs_without_it() {
    const DAY: u64 = 86_400;
    let cold = |number, job_ms| Run {
        hit: "miss".into(),
        job_ms: Some(job_ms),
        restore_ms: Some(1_000),
        save_ms: Some(9_000),
        ..run(number, number * DAY, 0)
    };
    let now = Run { job_ms: Some(128_000), ..run(50, 10 * DAY, 95) };
    let warm = Run { job_ms: Some(200_000), ..run(8, 8 * DAY, 95) };
    let two = [cold(1, 510_000), cold(2, 530_000), warm];
    assert_eq!(trend(&History::of(two.clone()), &now).unwrap().saved_ms, None);
    let history = History::of(two.into_iter().chain([cold(3, 510_000)]));
    let found = trend(&history, &now).unwrap();
    // The median without the cache is 500 s; the cold runs were more than a week ago.
    assert_eq!((found.saved_ms, found.saved_week_ms), (Some(372_000), Some(672_000)));
    let slower = Run { job_ms: Some(512_000), ..now.clone() };
    assert_eq!(trend(&history, &slower).unwrap().saved_ms, Some(-12_000));
    // A job that failed early saved nothing.
    let failed = Run { status: "failure".into(), ..now };
    assert_eq!(trend(&history, &failed).unwrap().saved_ms, None);
}

#[test]
fn texts_in_a_table_are_neither_cells_nor_formulas() {
    let odd = Run { lane: "a,\"b\"".into(), workflow: "=1+1".into(), ..run(7, 8, 90) };
    let csv = to_csv([&odd]);
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[1].contains("\"a,\"\"b\"\"\"") && lines[1].contains("'=1+1"), "{csv}");
    let plain = to_csv([&run(7, 8, 90)]);
    assert_eq!(plain.lines().nth(1).unwrap().matches(',').count(), lines[0].matches(',').count());
}

#[test]
fn a_record_says_what_ran_and_one_of_a_kind_from_the_future_is_left_out() {
    let read = |run: serde_json::Value| {
        let body = zstd::encode_all(serde_json::json!({ "runs": [run] }).to_string().as_bytes(), 1).unwrap();
        History::decode(&body).unwrap().runs.into_values().next().map(|run| run.kind)
    };
    let of = |kind: &str, hit: &str| serde_json::json!({ "time": 1, "kind": kind, "hit": hit });
    assert_eq!(read(serde_json::json!({ "time": 1, "hit": "miss" })), Some(RunKind::Job));
    assert_eq!((read(of("plan", "")), read(of("build", ""))), (Some(RunKind::Plan), Some(RunKind::Build)));
    assert_eq!((read(of("audit", "")), read(of("audit", "miss"))), (Some(RunKind::Audit), None));
    assert_eq!((read(of("plan", "exact")), read(of("job", "")), read(of("warm", ""))), (None, None, None));
    // Of two records of one job that were made in the same second, the one that knows more counts.
    let build = Run { kind: RunKind::Build, hit: String::new(), ..run(1, 5, 90) };
    let both = History::of([run(1, 5, 90), build.clone()]);
    assert_eq!((both.clone(), both.runs.len()), (History::of([build, run(1, 5, 90)]), 1));
    assert_eq!(both.by_time()[0].kind, RunKind::Job);
}

#[test]
fn the_figures_of_audits_are_in_the_record_of_their_job() {
    let found = AuditFigures { errors: 1, warnings: 2, notices: 3, new: None, paths: 10, ..AuditFigures::default() };
    let both = found.and(&AuditFigures { new: Some(4), ..found });
    assert_eq!((both.findings(), both.paths, both.new), (12, 20, Some(4)));
    let mut report = Report { audit: Some(both), ..Report::default() };
    assert_eq!((Run::of(&report, 9).kind, Run::of(&report, 9).audit), (RunKind::Audit, Some(both)));
    report.restore = Some(crate::report::Restore::default());
    assert_eq!((Run::of(&report, 9).kind, Run::of(&report, 9).audit), (RunKind::Job, Some(both)));
    let kept = History::of([Run::of(&report, 9)]);
    assert_eq!(History::decode(&kept.encode(Vec::new()).unwrap()).unwrap(), kept);
}

#[test]
fn a_job_is_not_compared_with_the_plans_of_its_lane() {
    let plan = Run { kind: RunKind::Plan, hit: String::new(), cached: None, ..run(1, 1, 0) };
    assert_eq!(trend(&History::of([plan]), &run(9, 9, 50)), None);
}
