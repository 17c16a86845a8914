//! Tests of [`super`]: what is shown, and that nothing breaks it or makes it too long.

use proptest::prelude::*;

use super::*;
use crate::building::Category;
use crate::building::artifacts::Artifact;

fn failed() -> BuildReport {
    let failure = Failure {
        derivation: "/nix/store/yr41fk39rlz7skyqyjxk5jma0wpy1vqr-a-1.0.drv".into(),
        phase: "checkPhase".into(),
        file: Some("src/a.rs".into()),
        line: Some(3),
        log: vec!["one".into(), String::new(), "<b>two</b>".into()],
        ..Failure::new(Category::Test, "builder failed | badly")
    };
    BuildReport {
        outcome: Outcome::Failed,
        category: Some(Category::Test),
        ms: 61_000,
        attempts: 2,
        failures: vec![failure],
        retried: vec![Failure::new(Category::Network, "x")],
        substituters_left_out: vec!["https://c".into()],
        targets: vec!["default".into()],
        checks: vec![
            Check { name: "statix".into(), reason: "`statix` is not installed".into(), ..Check::default() },
            Check { name: "format".into(), verdict: Verdict::Failed, ..Check::default() },
        ],
        artifacts: vec![Artifact {
            file: "/o/a.nar.zst".into(),
            nar_bytes: 2048,
            bytes: 1024,
            ratio: 0.5,
            ..Artifact::default()
        }],
        resources: Some(Resources { memory_peak_bytes: 1 << 30, ..Resources::default() }),
        ..BuildReport::default()
    }
}

#[test]
fn what_failed_is_explained() {
    let shown = one(&failed());
    for part in [
        "### Nix build\n",
        "Failed (test) in 1 min 01 s&#58; 0 derivations built here, 0 paths fetched, 2 attempts; checks&#58; 0 passed, 1 failed, 1 not run.",
        "❌ **Tests failed: <code>a-1.0</code>** in checkPhase at <code>src/a.rs&#58;3</code>",
        "<pre>one\n&#32;\n&#60;b&#62;two&#60;/b&#62;</pre>",
        "The substituter <code>https&#58;//c</code> kept failing",
        "➖ not run | <code>statix</code> is not installed",
        "| <code>a.nar.zst</code> | 2.0 KiB | 1.0 KiB | 50.0 % |",
        "at most 1.0 GiB of memory",
    ] {
        assert!(shown.contains(part), "{part} is missing in {shown}");
    }
}

#[test]
fn a_build_with_a_summary_of_its_own_is_not_told_again() {
    let told = BuildReport { summarized: true, ..failed() };
    assert_eq!(all(std::slice::from_ref(&told)), "");
    assert_eq!(all(&[told, failed()]).matches("### Nix build").count(), 1);
    let many = vec![failed(); 9];
    let shown = all(&many);
    assert_eq!(shown.matches("### Nix build").count(), BUILDS);
    assert!(shown.contains("and 4 builds more in the report"), "{shown}");
}

#[test]
fn success_is_one_sentence() {
    let mut build = BuildReport { targets: vec!["a".into()], ms: 900, ..BuildReport::default() };
    build.totals.built = 1;
    assert_eq!(headline(&build), "Built in 900 ms: 1 derivation built here, 0 paths fetched.");
    build.targets.clear();
    assert_eq!(headline(&build), "Done in 900 ms: nothing to build.");
}

proptest! {
    #[test]
    fn no_text_makes_it_too_long(text in any::<String>(), count in 0_usize..60) {
        let long = text.repeat(200);
        let mut build = failed();
        let failure = Failure { log: vec![long.clone(); count], message: long.clone(), remedy: long.clone(), ..build.failures[0].clone() };
        build.failures = vec![failure; count];
        build.substituters_left_out = vec![long.clone(); 3];
        build.targets = vec![long; count];
        let shown = all(&vec![build; 9]);
        prop_assert!(shown.len() < super::super::summary::MOST / 2, "{}", shown.len());
    }
}
