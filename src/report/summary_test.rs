//! Tests of [`super`]: what the summary says, and that no value in a report can change its shape or its limits.

use proptest::prelude::*;

use super::*;
use crate::base::note::Severity;
use crate::report::{Key, Layer, Level, NewPath, Note, Paths, Quota, Restore, Save, Timing};

/// A report with every list filled, all of whose texts are `text`.
fn full(text: &str, rows: usize) -> Report {
    let name = || text.to_owned();
    let mut report = Report {
        key: Key { primary: name(), matched: Some(name()), hit: Hit::Exact, ..Key::default() },
        levels: vec![Level { name: name(), restored: 1440, restored_bytes: 3 << 30, ..Level::default() }; rows],
        layers: vec![Layer { name: name(), bytes: 979 << 20, ms: 900 }; rows],
        paths: Paths { restored: 1500, needed: Some(1440), baseline: 73, ..Paths::default() },
        restore: Some(Restore { mode: name(), ms: 1250, ..Restore::default() }),
        save: Some(Save { reason: "nothing-new".to_owned(), because: name(), ..Save::default() }),
        timings: vec![Timing { phase: name(), ms: 300 }; rows],
        largest_new: vec![NewPath { path: name(), nar_bytes: 5 << 20 }; rows],
        notes: vec![Note::silent(Severity::Notice, Code::Evicted, name()).with_remedy(name()); rows],
        quota: Some(Quota { used_bytes: 4 << 30, limit_bytes: Some(10 << 30), entries: 7 }),
        ..Report::default()
    };
    report.job.lane = name();
    report.machine.system = name();
    report
}

#[test]
fn an_exact_hit_is_told_in_one_sentence() {
    let report = full("x", 1);
    let sentence = "Exact hit: 1,440 of 1,440 store paths came from the cache in 1.2 s; nothing new to save.";
    assert_eq!(headline(&report), sentence);
    assert!(render(&report).starts_with(&format!("### Nix store cache\n\n{sentence}\n\n")));
}

#[test]
fn every_end_has_its_sentence() {
    let with = |change: fn(&mut Report)| {
        let mut report = full("x", 0);
        change(&mut report);
        headline(&report)
    };
    for (change, expected) in [
        (
            (|r| {
                r.key.hit = Hit::Partial;
                (r.paths.needed, r.paths.built_here, r.paths.fetched_upstream, r.paths.new) = (Some(1), 1, 2, 3);
                let (outcome, uploaded_bytes) = (Outcome::Saved, 47 << 20);
                r.save = Some(Save { outcome, uploaded_bytes, ms: 380, ..Save::default() });
            }) as fn(&mut Report),
            "Partial hit: 1 of 4 store paths came from the cache in 1.2 s; saved 3 new paths (47.0 MiB uploaded) in 380 ms.",
        ),
        (
            |r| {
                (r.key.hit, r.paths.needed, r.paths.built_here, r.save) = (Hit::Miss, Some(0), 9, None);
            },
            "Miss: no snapshot matches yet, and 9 store paths had to be built or fetched.",
        ),
        (|r| (r.key.hit, r.paths.needed, r.save) = (Hit::Miss, None, None), "Miss: no snapshot matches yet."),
        (|r| (r.paths.needed, r.save) = (None, None), "Exact hit: 1,500 store paths came from the cache in 1.2 s."),
        (
            |r| {
                r.restore.as_mut().unwrap().lookup_only = true;
                r.save.as_mut().unwrap().reason.clear();
                r.save.as_mut().unwrap().because = "the token is read-only".to_owned();
            },
            "Exact hit: only looked up, nothing restored; nothing saved, the token is read-only.",
        ),
        (
            |r| {
                (r.restore, r.save.as_mut().unwrap().outcome) = (None, Outcome::Failed);
                r.save.as_mut().unwrap().because = "because the cache is full".to_owned();
            },
            "The save failed, because the cache is full.",
        ),
        (|r| (r.restore, r.save) = (None, None), "Nothing was restored or saved."),
    ] {
        assert_eq!(with(change), expected);
    }
}

#[test]
fn the_figures_are_there() {
    let mut report = full("nix-store", 1);
    (report.paths.built_here, report.notes[0].severity) = (60, Severity::Warning);
    let shown = render(&report);
    for part in [
        "| nix-store (store paths) | miss | 1,440 (3.0 GiB) | – | – | – |",
        "| Hit rate | <b>96.0 %</b>: of 1,500 store paths that the job needed, 1,440 came from this cache and 60 were built here |",
        "| Restored | 1,500 store paths in 1.2 s: 0 B downloaded for 3.0 GiB of files |",
        "| Saved | nothing, nix-store |",
        "| <code>nix-store</code> | 979.0 MiB | 900 ms | 1.1 GiB/s |",
        "| nix-store | 300 ms | ████████████████████ |",
        "| <code>nix-store</code> | 5.0 MiB |",
        "| Cache of the repository | 4.0 GiB of 10.0 GiB in 7 entries, including those of other tools |",
        "- ⚠️ nix-store nix-store <sub>evicted</sub>",
        "```mermaid\n%%{init: ",
        "<details><summary>Largest new store paths</summary>",
    ] {
        assert!(shown.contains(part), "{part:?} is missing in\n{shown}");
    }
}

#[test]
fn long_lists_are_cut_and_say_so() {
    let shown = render(&full("x", 5000));
    assert_eq!(shown.matches("and 4,990 more in the report").count(), 5);
    assert!(shown.len() < MOST / 4);
}

/// Cells in a line of a table: bars that are not part of a character reference, which has none.
fn shape(markdown: &str) -> Vec<usize> {
    markdown.lines().map(|line| if line.starts_with('|') { line.matches('|').count() } else { 0 }).collect()
}

proptest! {
    #[test]
    fn no_text_changes_the_shape(text in "(?s).{1,400}", rows in 0_usize..14) {
        // The plain report has one letter wherever the other has any text at all; empty rows of facts are left out.
        prop_assume!(!markdown::plain(&text).is_empty());
        let (strange, plain) = (render(&full(&text, rows)), render(&full("x", rows)));
        prop_assert_eq!(shape(&strange), shape(&plain));
        prop_assert_eq!(strange.matches("```").count(), plain.matches("```").count());
        // Text between backticks is code.
        let tags = |shown: &str| shown.replace("<code>", "").replace("</code>", "").matches('<').count();
        prop_assert_eq!(tags(&strange), tags(&plain));
        prop_assert_eq!(strange.matches("<code>").count(), strange.matches("</code>").count());
        prop_assert!(strange.len() <= MOST);
        prop_assert!(!headline(&full(&text, rows)).contains(['\n', '\r']));
    }

    #[test]
    fn no_number_breaks_it(a in any::<u64>(), b in any::<u64>(), c in any::<u64>(), needed in any::<Option<u64>>()) {
        let mut report = full("x", 2);
        report.paths = Paths { restored: a, needed, built_here: b, fetched_upstream: c, new: a, baseline: b };
        (report.layers[0].bytes, report.layers[0].ms) = (a, b);
        (report.timings[0].ms, report.levels[0].restored_bytes) = (c, a);
        prop_assert!(render(&report).len() <= MOST);
        if let Some(rate) = report.paths.hit_rate() {
            prop_assert!((0.0..=1.0).contains(&rate));
        }
    }
}
