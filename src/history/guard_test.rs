//! When the guard stops a lane, tests it, and uses the cache as usual again.

use super::*;

const LANE: (&str, &str) = ("CI/build", "x86_64-linux");

/// A run that restored 100 MB in a second and saved for `save` seconds, where a substituter would have taken ten seconds.
fn run(number: u64, save: u64, guard: &str) -> Run {
    Run {
        time: number,
        run: number,
        lane: LANE.0.into(),
        system: LANE.1.into(),
        status: "success".into(),
        hit: "exact".into(),
        restore_ms: Some(1_000),
        save_ms: Some(save * 1_000),
        downloaded: 50_000_000,
        cached_built: Some(0),
        cached_bytes: Some(100_000_000),
        fetched_bytes: Some(100_000_000),
        fetched_ms: Some(10_000),
        guard: guard.into(),
        ..Run::default()
    }
}

/// A cheap run saves nine seconds, a dear one loses eleven.
const CHEAP: u64 = 0;
const DEAR: u64 = 20;

fn decided(runs: &[Run]) -> Option<Guard> {
    decide(&History::of(runs.iter().cloned()), LANE, Recorded::Yes)
}

fn state(runs: &[Run]) -> String {
    decided(runs).map(|guard| guard.state).unwrap_or_default()
}

/// Lets jobs end one after the other, each as the guard decides. Returns what it decided.
fn lane(saves: impl IntoIterator<Item = u64>) -> Vec<String> {
    let mut runs: Vec<Run> = Vec::new();
    for save in saves {
        let guard = state(&runs);
        let save = if guard == STOPPED || guard == FOLLOW { 0 } else { save };
        let restored = if guard == STOPPED { 0 } else { 50_000_000 };
        let gross = if guard == STOPPED { 0 } else { 100_000_000 };
        let number = runs.len() as u64;
        runs.push(Run { downloaded: restored, cached_bytes: Some(gross), ..run(number, save, &guard) });
    }
    runs.into_iter().map(|run| run.guard).collect()
}

#[test]
fn five_losses_in_a_row_stop_a_lane_and_four_do_not() {
    let dear = |count: u64| (0..count).map(|number| run(number, DEAR, "")).collect::<Vec<_>>();
    assert_eq!((state(&[]), state(&dear(4))), (String::new(), String::new()));
    let guard = decided(&dear(5)).unwrap();
    assert_eq!((&*guard.state, guard.judged_ms.len(), guard.judged_ms[0]), (STOPPED, 5, -11_000));
    // Restores saved ten seconds and took one for 50 MB: what takes five is still restored.
    assert!(guard.most_bytes.is_some_and(|most| most.abs_diff(250_000_000) < 2), "{guard:?}");
    let mut mixed = dear(6);
    mixed[3] = run(3, CHEAP, "");
    assert_eq!(state(&mixed), "");
    // Other lanes and systems, plans, and runs that failed are not judged.
    let failed = Run { status: "failure".into(), ..run(7, CHEAP, "") };
    assert_eq!(state(&[dear(5), vec![failed]].concat()), STOPPED);
    for other in [
        |run: Run| Run { lane: "other".into(), ..run },
        |run: Run| Run { system: "aarch64-linux".into(), ..run },
        |run: Run| Run { status: "failure".into(), ..run },
        |run: Run| Run { kind: RunKind::Plan, ..run },
    ] {
        assert_eq!(state(&dear(9).into_iter().map(other).collect::<Vec<_>>()), "");
    }
}

#[test]
fn what_is_unknown_stops_nothing() {
    for unknown in [
        |run: Run| Run { cached_built: Some(3), ..run },
        |run: Run| Run { fetched_ms: None, ..run },
        |run: Run| Run { fetched_bytes: Some(1_000), ..run },
        |run: Run| Run { restore_ms: None, ..run },
        |run: Run| Run { cached_bytes: None, ..run },
    ] {
        let runs: Vec<Run> = (0..9).map(|number| unknown(run(number, DEAR, ""))).collect();
        assert_eq!(decided(&runs), None, "{:?}", runs[0]);
    }
    // The time of builds is known from a run that built at least half as many.
    let built = |of: u64| {
        let cold = Run { built: of, built_ms: Some(of * 1_000), ..run(0, DEAR, "") };
        let warm = (1..7).map(|number| Run { cached_built: Some(10), ..run(number, DEAR, "") });
        [cold].into_iter().chain(warm).collect::<Vec<Run>>()
    };
    assert_eq!((state(&built(4)), state(&built(5))), (String::new(), STOPPED.to_owned()));
}

#[test]
fn every_tenth_run_tests_and_two_runs_decide() {
    let decisions = lane([DEAR; 40]);
    assert!(decisions[..5].iter().all(String::is_empty) && decisions[5] == STOPPED, "{decisions:?}");
    let tests: Vec<usize> = (0..40).filter(|at| decisions[*at] == TEST).collect();
    assert_eq!(tests, [14, 25, 36].map(|at| at), "{decisions:?}");
    assert!(tests.iter().all(|at| decisions[at + 1] == FOLLOW && decisions[at + 2] == STOPPED), "{decisions:?}");
    // Once the cache pays, it is used again from the next test on.
    let better = lane((0..40).map(|number| if number < 10 { DEAR } else { CHEAP }));
    assert_eq!((&*better[14], better[15..].iter().all(String::is_empty)), (TEST, true), "{better:?}");
}

#[test]
fn a_job_without_a_record_is_never_the_test() {
    let stopped: Vec<Run> =
        (0..5).map(|number| run(number, DEAR, "")).chain((5..20).map(|number| run(number, 0, STOPPED))).collect();
    let history = History::of(stopped);
    assert_eq!(decide(&history, LANE, Recorded::Yes).unwrap().state, TEST);
    assert_eq!(decide(&history, LANE, Recorded::No).unwrap().state, STOPPED);
}
