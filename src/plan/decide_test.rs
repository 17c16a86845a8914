//! Properties of decisions: nothing is skipped that anything known speaks against.

use proptest::prelude::*;

use super::super::evaluate::derivation;
use super::*;

#[derive(Clone, Debug)]
struct Case {
    evaluated: Option<Evaluated>,
    old: Option<PlannedTarget>,
    has_base: bool,
    is_touched: bool,
    held: BTreeMap<StorePath, String>,
    policy: Policy,
}

fn path(number: u8, name: &str) -> StorePath {
    format!("{number:032}-{name}").parse().unwrap()
}

fn evaluated() -> impl Strategy<Value = Option<Evaluated>> {
    let drv = (0..3u8, any::<bool>()).prop_map(|(number, knows)| {
        let out = knows.then(|| format!("/nix/store/{}", path(number, "out")));
        derivation(
            &format!("/nix/store/{}", path(number, "a.drv")),
            "x86_64-linux".into(),
            [("out".into(), out)].into_iter(),
        )
    });
    prop_oneof![
        4 => drv.prop_map(Some),
        1 => Just(Some(Evaluated::Failed("no".into()))),
        1 => Just(Some(Evaluated::Other)),
        2 => Just(None),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let old =
        proptest::option::of((proptest::option::of(0..3u8), any::<bool>()).prop_map(|(drv, pending)| PlannedTarget {
            drv: drv.map(|number| path(number, "a.drv")),
            outputs: drv.iter().map(|number| ("out".to_owned(), path(*number, "out"))).collect(),
            system: "x86_64-linux".into(),
            pending: pending || drv.is_none(),
        }));
    let held = proptest::collection::btree_set(0..3u8, 0..3)
        .prop_map(|numbers| numbers.into_iter().map(|number| (path(number, "out"), "the cache".to_owned())).collect());
    let policy =
        (any::<bool>(), any::<bool>()).prop_map(|(skip_cached, retry_unbuilt)| Policy { skip_cached, retry_unbuilt });
    (evaluated(), old, any::<bool>(), any::<bool>(), held, policy).prop_map(
        |(evaluated, old, has_base, is_touched, held, policy)| Case {
            evaluated,
            old: old.filter(|_| has_base),
            has_base,
            // Without a base, everything is touched.
            is_touched: is_touched || !has_base,
            held,
            policy,
        },
    )
}

fn target() -> Target {
    Target::of(AttrPath::new(["nixosConfigurations", "desk"])).unwrap()
}

fn decided(case: &Case) -> (Decision, PlannedCommit) {
    let target = target();
    let touched = Touched { all: case.is_touched.then(|| "a file".to_owned()), ..Touched::default() };
    let evaluated = case.evaluated.iter().map(|one| (target.attr.clone(), one.clone())).collect();
    let old = case.old.iter().map(|old| (target.attr.to_string(), old.clone())).collect();
    let base = PlannedCommit { time: 1, targets: old };
    let facts = Facts {
        touched: &touched,
        evaluated: &evaluated,
        base: case.has_base.then_some(&base),
        base_name: case.has_base.then_some("base"),
        held: &case.held,
        policy: case.policy,
    };
    let decision = decide(&target, &facts);
    let kept = planned(std::slice::from_ref(&decision), &facts, &[target], 2);
    (decision, kept)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn only_a_reason_makes_a_skip(case in case()) {
        let (decision, _) = decided(&case);
        let derivation = match &case.evaluated {
            Some(Evaluated::Derivation(derivation)) => Some(derivation),
            _ => None,
        };
        let old = case.old.as_ref();
        let is_same = derivation.is_some() && old.is_some_and(|old| old.drv.as_ref() == derivation.map(|new| &new.path));
        let new_held = derivation.is_some_and(|new| new.knows_outputs && new.outputs.values().all(|out| case.held.contains_key(out)));
        let old_held = old.is_some_and(|old| !old.outputs.is_empty() && old.outputs.values().all(|out| case.held.contains_key(out)));
        let owed = case.policy.retry_unbuilt && old.is_some_and(|old| old.pending);
        let may_skip = match &case.evaluated {
            Some(Evaluated::Failed(_) | Evaluated::Other) => false,
            Some(Evaluated::Derivation(_)) if is_same => !owed || new_held,
            Some(Evaluated::Derivation(_)) => (case.policy.skip_cached && new_held) || (!case.has_base && !case.is_touched),
            None => !case.is_touched && (!owed || old_held),
        };
        prop_assert_eq!(decision.verdict == Verdict::Skip, may_skip, "{:?}", decision);
        prop_assert!(!decision.reason.is_empty() && !decision.system.is_empty());
    }

    #[test]
    fn a_derivation_that_is_known_outweighs_the_rules(case in case()) {
        let both = case.old.as_ref().is_some_and(|old| old.drv.is_some()) && matches!(case.evaluated, Some(Evaluated::Derivation(_)));
        let other = Case { is_touched: !case.is_touched, ..case.clone() };
        prop_assert!(!both || decided(&case).0 == decided(&other).0);
    }

    /// What is built, and what is still owed, is told to the next plan; what is skipped is told as it was.
    #[test]
    fn the_next_plan_knows_what_is_owed(case in case()) {
        let (decision, kept) = decided(&case);
        let target = kept.targets.get(&decision.target);
        let is_told = match &case.evaluated {
            Some(evaluated) => *evaluated != Evaluated::Other,
            None => case.old.is_some(),
        };
        if decision.verdict == Verdict::Build && is_told {
            prop_assert!(target.is_some_and(|target| target.pending));
        }
        if let (None, Some(old), Some(kept)) = (&case.evaluated, &case.old, target) {
            prop_assert_eq!((&kept.drv, &kept.outputs), (&old.drv, &old.outputs));
            prop_assert!(kept.pending || !old.pending || case.policy.retry_unbuilt);
        }
        // The same commit once more, with everything in a cache: nothing is left to do.
        if let (Some(kept), Some(Evaluated::Derivation(new))) = (target, &case.evaluated) {
            let held = new.outputs.values().map(|out| (out.clone(), "c".to_owned())).collect();
            let again = Case { old: Some(kept.clone()), has_base: true, held, ..case.clone() };
            prop_assert!(decided(&again).0.verdict == Verdict::Skip || !new.knows_outputs);
        }
    }
}

#[test]
fn a_system_is_taken_from_where_it_is_known() {
    let case = Case {
        evaluated: Some(Evaluated::Failed("no".into())),
        old: Some(PlannedTarget { system: "aarch64-linux".into(), ..PlannedTarget::default() }),
        has_base: true,
        is_touched: true,
        held: BTreeMap::new(),
        policy: Policy { skip_cached: true, retry_unbuilt: true },
    };
    assert_eq!(decided(&case).0.system, "aarch64-linux");
    assert_eq!(decided(&Case { old: None, ..case }).0.system, current_system());
}
