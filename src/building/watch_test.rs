//! Tests of [`super`]: orders of events as Nix 2.8 and 2.34 send them, and any order at all.

use proptest::prelude::*;

use super::*;

fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

const COUNTS: u64 = 1;

fn build(watch: &mut Watch, id: u64, at: u64) {
    let activity = Activity::Build { derivation: format!("/nix/store/b{id}.drv") };
    assert!(matches!(watch.observe(Event::Start { id, activity }, ms(at)), Shown::Began { .. }));
}

fn count(watch: &mut Watch, counts: [u64; 4], at: u64) -> Shown {
    watch.observe(Event::Progress { id: COUNTS, counts }, ms(at))
}

fn watch() -> Watch {
    let mut watch = Watch::default();
    watch.observe(Event::Start { id: COUNTS, activity: Activity::Builds }, ms(0));
    watch
}

fn ended(watch: &Watch) -> Vec<(&str, u64, u64, Ending)> {
    let of = |build: &'_ Build| (build.start.as_millis() as u64, build.end.as_millis() as u64, build.ending);
    watch
        .builds
        .iter()
        .map(|build| {
            let (start, end, ending) = of(build);
            (build.name(), start, end, ending)
        })
        .collect()
}

#[test]
fn the_count_ends_a_build_whose_stop_comes_late() {
    let mut watch = watch();
    build(&mut watch, 10, 5);
    count(&mut watch, [0, 2, 1, 0], 5);
    assert_eq!(count(&mut watch, [1, 2, 0, 0], 20), Shown::Ended(0));
    build(&mut watch, 11, 21);
    count(&mut watch, [1, 2, 1, 0], 21);
    assert_eq!(count(&mut watch, [2, 2, 0, 0], 30), Shown::Ended(1));
    for id in [10, 11] {
        assert_eq!(watch.observe(Event::Stop { id }, ms(99)), Shown::Nothing);
    }
    assert_eq!(ended(&watch), [("b10", 5, 20, Ending::Built), ("b11", 21, 30, Ending::Built)]);
    assert_eq!(watch.expected, 2);
}

#[test]
fn the_stop_that_follows_says_whose_end_it_was() {
    let mut watch = watch();
    for id in [10, 11, 12] {
        build(&mut watch, id, 0);
    }
    count(&mut watch, [0, 3, 3, 0], 1);
    assert_eq!(count(&mut watch, [0, 3, 2, 1], 10), Shown::Nothing);
    assert_eq!(watch.observe(Event::Stop { id: 11 }, ms(10)), Shown::Ended(0));
    count(&mut watch, [1, 3, 1, 1], 20);
    watch.observe(Event::Stop { id: 12 }, ms(20));
    watch.observe(Event::Stop { id: 10 }, ms(25));
    assert_eq!(
        ended(&watch),
        [("b11", 0, 10, Ending::Failed), ("b12", 0, 20, Ending::Built), ("b10", 0, 25, Ending::Stopped)]
    );
}

#[test]
fn what_fails_with_another_does_not_end_what_runs() {
    let mut watch = watch();
    build(&mut watch, 10, 0);
    build(&mut watch, 11, 0);
    count(&mut watch, [0, 3, 2, 0], 1);
    count(&mut watch, [0, 2, 1, 1], 10);
    watch.observe(Event::Stop { id: 10 }, ms(10));
    // What needed it fails, too.
    assert_eq!(count(&mut watch, [0, 1, 1, 2], 11), Shown::Nothing);
    assert_eq!(watch.running().len(), 1);
    count(&mut watch, [1, 1, 0, 2], 30);
    assert_eq!(ended(&watch), [("b10", 0, 10, Ending::Failed), ("b11", 0, 30, Ending::Built)]);
}

#[test]
fn ends_of_which_nothing_tells_whose_they_were_are_marked() {
    let mut watch = watch();
    build(&mut watch, 10, 0);
    build(&mut watch, 11, 0);
    count(&mut watch, [0, 2, 2, 0], 1);
    count(&mut watch, [0, 2, 1, 1], 10);
    count(&mut watch, [1, 2, 0, 1], 20);
    for id in [10, 11] {
        watch.observe(Event::Stop { id }, ms(25));
    }
    assert_eq!([watch.builds[0].known, watch.builds[1].known], [Known::Not, Known::Not]);
}

#[test]
fn an_error_says_whose_end_it_was() {
    let mut watch = watch();
    build(&mut watch, 10, 0);
    build(&mut watch, 11, 0);
    count(&mut watch, [0, 2, 2, 0], 1);
    count(&mut watch, [0, 2, 1, 1], 10);
    let text = "error: builder for '/nix/store/b11.drv' failed with exit code 1".to_owned();
    watch.observe(Event::Said(Message { text, ..Message::default() }), ms(11));
    // Nix stops the other one first.
    watch.observe(Event::Stop { id: 10 }, ms(12));
    watch.observe(Event::Stop { id: 11 }, ms(12));
    assert_eq!(ended(&watch), [("b11", 0, 10, Ending::Failed), ("b10", 0, 12, Ending::Stopped)]);
    assert_eq!(watch.messages.len(), 1);
}

#[test]
fn an_error_that_comes_last_puts_it_right() {
    let mut watch = watch();
    build(&mut watch, 10, 0);
    build(&mut watch, 11, 0);
    count(&mut watch, [0, 2, 2, 0], 1);
    count(&mut watch, [0, 2, 1, 1], 10);
    for id in [10, 11] {
        watch.observe(Event::Stop { id }, ms(12));
    }
    let text = "error: builder for '/nix/store/b11.drv' failed with exit code 1".to_owned();
    watch.observe(Event::Said(Message { text, ..Message::default() }), ms(13));
    assert_eq!(ended(&watch), [("b10", 0, 12, Ending::Stopped), ("b11", 0, 10, Ending::Failed)]);
}

#[test]
fn a_substitution_and_the_copy_inside_it_are_one() {
    let mut watch = watch();
    let (path, from) = ("/nix/store/x".to_owned(), "https://c".to_owned());
    watch.observe(Event::Start { id: 5, activity: Activity::Substitute { path: path.clone(), from } }, ms(1));
    watch.observe(Event::Start { id: 6, activity: Activity::Copy { path, from: String::new() } }, ms(2));
    watch.observe(Event::Start { id: 7, activity: Activity::Download { url: String::new() } }, ms(2));
    watch.observe(Event::Progress { id: 7, counts: [500, 500, 0, 0] }, ms(3));
    assert_eq!(watch.moving(), 1);
    for id in [7, 6, 5] {
        watch.observe(Event::Stop { id }, ms(9));
    }
    assert_eq!((watch.transfers.len(), watch.transfers[0].end, watch.downloaded), (1, ms(9), 500));
    assert_eq!(watch.first_work, Some(ms(1)));
}

#[test]
fn phases_and_lines_belong_to_their_build() {
    let mut watch = watch();
    build(&mut watch, 10, 0);
    watch.observe(Event::Phase { id: 10, name: "checkPhase".into() }, ms(3));
    let shown = watch.observe(Event::Line { id: 10, text: "hello".into() }, ms(4));
    assert_eq!(shown, Shown::Line { name: "b10".into(), text: "hello".into() });
    assert_eq!(watch.observe(Event::Line { id: 99, text: "nobody's".into() }, ms(4)), Shown::Nothing);
    assert_eq!(watch.finish(ms(7)), [0]);
    let build = &watch.builds[0];
    assert_eq!((build.phase(), build.log.tail(1), build.end), (Some("checkPhase"), vec!["hello"], ms(7)));
}

#[test]
fn an_end_that_changes_places_is_not_before_the_start() {
    let mut watch = watch();
    build(&mut watch, 1, 0);
    build(&mut watch, 3, 1);
    watch.observe(Event::Start { id: 4, activity: Activity::Builds }, ms(2));
    watch.observe(Event::Progress { id: 4, counts: [0, 0, 5, 0] }, ms(3));
    watch.observe(Event::Progress { id: 4, counts: [0, 0, 0, 1] }, ms(4));
    build(&mut watch, 7, 5);
    watch.observe(Event::Stop { id: 3 }, ms(6));
    watch.observe(Event::Stop { id: 7 }, ms(7));
    let named = watch.builds[1].derivation.clone();
    watch.observe(Event::Said(Message { text: named, ..Message::default() }), ms(8));
    let ends: Vec<_> = watch.builds.iter().map(|build| (build.start, build.end, build.ending)).collect();
    assert_eq!(ends, [(ms(1), ms(7), Ending::Stopped), (ms(5), ms(5), Ending::Failed)]);
}

fn any_event() -> impl Strategy<Value = Event> {
    let id = 1_u64..8;
    prop_oneof![
        (id.clone(), 0_u8..5).prop_map(|(id, kind)| {
            let text = format!("/nix/store/p{id}");
            let activity = match kind {
                0 => Activity::Builds,
                1 => Activity::Download { url: text },
                2 => Activity::Substitute { path: text.clone(), from: text },
                3 => Activity::Copy { path: text.clone(), from: text },
                _ => Activity::Build { derivation: text },
            };
            Event::Start { id, activity }
        }),
        id.clone().prop_map(|id| Event::Stop { id }),
        (id.clone(), any::<[u64; 4]>()).prop_map(|(id, counts)| Event::Progress { id, counts: counts.map(|n| n % 9) }),
        (id.clone(), ".*").prop_map(|(id, text)| Event::Line { id, text }),
        id.prop_map(|id| Event::Said(Message { text: format!("/nix/store/p{id}"), ..Message::default() })),
    ]
}

proptest! {
    #[test]
    fn every_build_ends_once_and_after_its_start(events in prop::collection::vec(any_event(), 0..80)) {
        let mut watch = Watch::default();
        let mut running = std::collections::BTreeSet::new();
        let mut begun = 0;
        for (at, event) in events.into_iter().enumerate() {
            if let Event::Start { id, activity: Activity::Build { .. } } = &event {
                // Nix does not use a number twice.
                if !running.insert(*id) { continue; }
                begun += 1;
            }
            watch.observe(event, ms(at as u64));
        }
        watch.finish(ms(100));
        prop_assert_eq!(watch.builds.len(), begun);
        prop_assert!(watch.builds.iter().all(|build| build.start <= build.end && build.end <= ms(100)));
        prop_assert!(watch.running().is_empty());
    }
}
