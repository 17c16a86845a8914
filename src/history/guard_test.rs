//! When the guard stops a lane, tests it, and uses the cache as usual again.

use super::*;
use crate::history::sample::{LANE, PULL, of_lane};

/// A run that restored 100 MB in a second and saved for `save` seconds, where a substituter would have taken ten seconds.
fn run(number: u64, save: u64, guard: &str) -> Run {
    Run {
        hit: "exact".into(),
        restore_ms: Some(1_000),
        save_ms: Some(save * 1_000),
        downloaded: 50_000_000,
        cached_bytes: Some(100_000_000),
        fetched_bytes: Some(100_000_000),
        fetched_ms: Some(10_000),
        ..of_lane(number, guard)
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

#[test]
fn records_of_other_repositories_decide_nothing() {
    let dear: Vec<Run> = (1..=6).map(|number| run(number, DEAR, "")).collect();
    assert_ne!(state(&dear), "");
    let foreign: Vec<Run> = dear.iter().map(|run| Run { is_foreign: true, ..run.clone() }).collect();
    assert_eq!(decided(&foreign), None);
    // Nor do they measure for a lane of ours, or are they compared with.
    let ours = Run { fetched_bytes: None, fetched_ms: None, ..run(7, DEAR, "") };
    let mixed = History::of(foreign.iter().cloned().chain([ours.clone()]));
    assert_eq!(Costs::of(mixed.own(), LANE.lane, LANE.system).saved(&ours), None);
    assert_eq!(super::super::trend(&mixed, &ours), None);
    assert_eq!(super::super::usual(&History::of(foreign), (LANE.lane, LANE.system, LANE.git_ref)), None);
}

#[test]
fn five_losses_in_a_row_stop_a_lane_that_has_gained_and_four_do_not() {
    let dear = |count: u64| {
        // The first run is not judged.
        let gains = (0..2).map(|number| run(number, CHEAP, ""));
        gains.chain((2..count + 2).map(|number| run(number, DEAR, ""))).collect::<Vec<_>>()
    };
    assert_eq!((state(&[]), state(&dear(4))), (String::new(), String::new()));
    let guard = decided(&dear(5)).unwrap();
    assert_eq!((&*guard.state, guard.judged_ms[0], guard.judged_ms.last()), (STOPPED, -11_000, Some(&9_000)));
    // Restores saved ten seconds and took one for 50 MB: what takes five is still restored.
    assert!(guard.most_bytes.is_some_and(|most| most.abs_diff(250_000_000) < 2), "{guard:?}");
    // What is judged are the last ten runs together: one that gains more than the others lose makes up for them.
    let gain = Run { cached_bytes: Some(1_000_000_000), ..run(4, CHEAP, "") };
    let mut mixed = dear(8);
    mixed[4] = gain;
    assert_eq!((state(&mixed), state(&dear(8))), (String::new(), STOPPED.to_owned()));
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

/// What jobs are like: seconds for their paths without the cache, for a restore, for a save, and whether what is restored is of use.
#[derive(Clone, Copy)]
struct Nature {
    need: u64,
    restore: u64,
    save: u64,
    is_found: bool,
}

const NEVER_PAYS: Nature = Nature { need: 10, restore: 30, save: 20, is_found: true };

/// Lets jobs of 60 s and their paths end one after the other, each as the guard decides. Returns what it decided.
fn lane(natures: impl IntoIterator<Item = Nature>) -> Vec<String> {
    let mut runs: Vec<Run> = Vec::new();
    for nature in natures {
        let guard = state(&runs);
        let is_cold = runs.is_empty();
        let is_restored = !is_cold && guard != STOPPED && guard != SPARED;
        let cached = if is_restored && nature.is_found { nature.need } else { 0 };
        let own = nature.need - cached;
        let restore = if is_restored { nature.restore } else { 0 };
        let save = if guard.is_empty() || guard == TEST { nature.save } else { 0 };
        runs.push(Run {
            hit: if is_restored { "exact" } else { "miss" }.into(),
            restore_ms: Some(restore * 1_000),
            downloaded: if is_restored { 50_000_000 } else { 0 },
            uploaded: save * 1_000_000,
            cached_bytes: Some(cached * 10_000_000),
            fetched_bytes: Some(own * 10_000_000),
            fetched_ms: Some(own * 1_000),
            job_ms: Some((60 + restore + own + save) * 1_000),
            ..run(runs.len() as u64, save, &guard)
        });
    }
    runs.into_iter().map(|run| run.guard).collect()
}

fn places(decisions: &[String], state: &str) -> Vec<usize> {
    (0..decisions.len()).filter(|at| decisions[*at] == state).collect()
}

#[test]
fn a_lane_that_cannot_gain_is_spared_its_losses_before_it_is_stopped() {
    let decisions = lane([NEVER_PAYS; 300]);
    // One run saves, and one restores. What is judged is the second.
    assert_eq!(decisions[..7], ["", "", SPARED, SPARED, SPARED, SPARED, STOPPED], "{decisions:?}");
    // The link cannot be seen without a test, which is made when it costs half a percent at most: 35 s of 7,000, because the one restore may
    // have been slow by chance, and then 50 s of 10,000.
    let tests = places(&decisions, TEST);
    assert!(tests.len() == 2 && (100..110).contains(&tests[0]) && (240..250).contains(&tests[1]), "{tests:?}");
    // It has restored, so it is known what the next run would measure.
    assert_eq!((places(&decisions, FOLLOW), &*decisions[tests[0] + 1]), (Vec::new(), STOPPED));
}

#[test]
fn a_lane_that_may_not_gain_measures_one_restore_before_it_saves_again() {
    // What took 40 s to fetch took 60 s to save, so a restore may take longer than that, or a quarter of it.
    let first = Run {
        hit: "miss".into(),
        downloaded: 0,
        uploaded: 50_000_000,
        cached_bytes: Some(0),
        fetched_bytes: Some(400_000_000),
        fetched_ms: Some(40_000),
        ..run(0, 60, "")
    };
    let of = |recorded, git_ref| {
        let guard = decide(&History::of([first.clone()]), JobOf { git_ref, ..LANE }, recorded);
        guard.map(|guard| (guard.state, guard.expected_ms))
    };
    assert_eq!(of(Recorded::Yes, LANE.git_ref), Some((FOLLOW.to_owned(), None)));
    // Nobody sees what the others measure.
    let spared = Some((SPARED.to_owned(), Some(-20_000)));
    assert_eq!((of(Recorded::No, LANE.git_ref), of(Recorded::Yes, PULL.git_ref)), (spared.clone(), spared));
    // It took as long as the save: the cache pays, and is used. It took longer than what it saves.
    let follow = |restore: u64| Run {
        restore_ms: Some(restore * 1_000),
        cached_bytes: Some(400_000_000),
        fetched_bytes: Some(0),
        fetched_ms: Some(0),
        ..run(1, 0, FOLLOW)
    };
    assert_eq!(
        (state(&[first.clone(), follow(10)]), state(&[first.clone(), follow(90)])),
        (String::new(), SPARED.into())
    );
    // There is no doubt where the need is greater, or all is over in a moment.
    let built = Run { built: 1, built_ms: Some(30_000), ..first.clone() };
    let short = Run { save_ms: Some(45_000), ..first.clone() };
    assert_eq!((state(&[built]), state(&[short])), (String::new(), String::new()));
    // And none either where even a quarter of the save is more than the need.
    assert_eq!(state(&[Run { save_ms: Some(170_000), ..first }]), SPARED);
}

#[test]
fn what_the_first_save_of_a_lane_cost_does_not_stop_it() {
    // It took a minute, and each run since has gained nine seconds.
    let runs: Vec<Run> = [run(0, 60, "")].into_iter().chain((1..6).map(|number| run(number, CHEAP, ""))).collect();
    assert_eq!(decided(&runs), None);
}

#[test]
fn a_lane_whose_need_grows_is_tested_at_once() {
    let grown = |need: u64| lane((0..60).map(|run| Nature { need: if run < 30 { 10 } else { need }, ..NEVER_PAYS }));
    let tested = grown(200);
    assert_eq!((&*tested[30], &*tested[31]), (STOPPED, TEST), "{tested:?}");
    assert!(tested[32..].iter().all(String::is_empty), "{tested:?}");
    // Where it is worth ten tests, there is nothing to test.
    assert!(grown(1_000)[31..].iter().all(String::is_empty));
    // It is still too little.
    assert!(grown(30)[31..].iter().all(|state| state == STOPPED));
}

#[test]
fn every_tenth_run_is_a_test_where_the_forecast_is_a_gain() {
    // Nothing that is restored is of use, which no forecast knows.
    let decisions = lane([Nature { need: 250, is_found: false, ..NEVER_PAYS }; 60]);
    assert!(decisions[..6].iter().all(String::is_empty) && decisions[6] == STOPPED, "{decisions:?}");
    let tests = places(&decisions, TEST);
    assert_eq!(tests, [15, 26, 37, 48, 59], "{decisions:?}");
    assert!(tests[..4].iter().all(|test| decisions[test + 1] == FOLLOW), "{decisions:?}");
    // With shorter jobs, the same tests would cost more than two percent, so there are fewer.
    let decisions = lane([Nature { need: 100, is_found: false, ..NEVER_PAYS }; 60]);
    assert_eq!(places(&decisions, TEST), [22, 43], "{decisions:?}");
}

#[test]
fn a_test_that_found_nothing_is_followed_by_a_run_that_decides() {
    let stopped = |number: u64| Run { downloaded: 0, cached_bytes: Some(0), ..run(number, 0, STOPPED) };
    let before: Vec<Run> = (0..5).map(|number| run(number, DEAR, "")).chain((5..20).map(stopped)).collect();
    let test = Run { downloaded: 0, cached_bytes: Some(0), hit: "miss".into(), uploaded: 9, ..run(20, 4, TEST) };
    let with = |more: &[Run]| state(&[&before, more].concat());
    assert_eq!(with(std::slice::from_ref(&test)), FOLLOW);
    // It gained nine seconds, of which saves take none or twenty.
    let follow = Run { save_ms: None, ..run(21, 0, FOLLOW) };
    assert_eq!(with(&[test.clone(), follow.clone()]), STOPPED);
    let cheap: Vec<Run> = before.iter().map(|run| Run { save_ms: Some(0), ..run.clone() }).collect();
    assert_eq!(state(&[cheap, vec![test, follow]].concat()), "");
}

#[test]
fn only_a_job_whose_record_is_seen_by_the_next_one_is_a_test() {
    let need = |number: u64| Run { fetched_ms: Some(90_000), job_ms: Some(200_000), ..run(number, 0, STOPPED) };
    let runs: Vec<Run> = (0..5).map(|number| run(number, DEAR, "")).chain((5..20).map(need)).collect();
    let history = History::of(runs);
    let decided = |job, recorded| decide(&history, job, recorded).unwrap().state;
    assert_eq!(decided(LANE, Recorded::Yes), TEST);
    assert_eq!((decided(LANE, Recorded::No), decided(PULL, Recorded::Yes)), (STOPPED.to_owned(), STOPPED.to_owned()));
}

#[test]
fn a_lane_that_builds_nothing_itself_is_judged_by_the_builds_of_others() {
    let other = Run { lane: "CI/other".into(), built: 10, built_ms: Some(10_000), ..run(0, CHEAP, "") };
    let warm: Vec<Run> = (1..7).map(|number| Run { cached_built: Some(10), ..run(number, DEAR, "") }).collect();
    assert_eq!(
        (state(&warm), state(&[vec![other.clone()], warm.clone()].concat())),
        (String::new(), STOPPED.to_owned())
    );
    // What it has built itself is too little to tell.
    let own = Run { built: 1, built_ms: Some(99_000), ..run(1, DEAR, "") };
    assert_eq!(state(&[vec![other, own], warm[1..].to_vec()].concat()), STOPPED);
}

#[test]
fn the_newest_speed_of_substituters_counts() {
    // They have become slow: what was fetched in ten seconds takes a hundred now, and the cache saves that.
    let slow = |number: u64| Run { fetched_bytes: Some(60_000_000), fetched_ms: Some(60_000), ..run(number, DEAR, "") };
    let runs = |newest: Run| (0..6).map(|number| run(number, DEAR, "")).chain([newest]).collect::<Vec<_>>();
    assert_eq!((state(&runs(run(6, DEAR, ""))), state(&runs(slow(6)))), (STOPPED.to_owned(), String::new()));
    // Too little was fetched to tell.
    let little = Run { fetched_bytes: Some(40_000_000), ..slow(6) };
    assert_eq!(state(&runs(little)), STOPPED);
}
