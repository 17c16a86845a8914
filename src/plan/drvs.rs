//! Which derivations the jobs of a plan build, and how the matrix says so.

use std::collections::{BTreeMap, BTreeSet};

use super::{Decision, Plan, Verdict};
use crate::store::{STORE_DIR, StorePath};

/// Most bytes that the matrix may take with derivations in it. GitHub takes 1 MiB of outputs of a job, two bytes for each letter, and
/// the reasons are outputs too.
const MOST_BYTES: usize = 160 << 10;
/// Stands for a derivation that is not known.
const UNKNOWN: &str = "-";

impl Plan {
    /// The derivations that its jobs build.
    #[must_use]
    pub(crate) fn drvs(&self) -> BTreeSet<StorePath> {
        let built = self.decisions.iter().filter(|decision| decision.verdict == Verdict::Build);
        built.filter_map(|decision| decision.drv.clone()).collect()
    }

    /// Puts those of the derivations that a job can restore into the matrix.
    pub(crate) fn hand_over(&mut self, held: &BTreeSet<StorePath>) {
        let decisions: BTreeMap<&str, &Decision> =
            self.decisions.iter().map(|decision| (decision.target.as_str(), decision)).collect();
        let word = |target: &str| {
            let decision = decisions.get(target)?;
            let drv = decision.drv.as_ref().filter(|drv| held.contains(*drv))?;
            Some(format!("{}^{}", drv.full(STORE_DIR), decision.wanted))
        };
        let mut bytes = 0;
        for entry in &mut self.matrix.include {
            let words: Vec<Option<String>> = entry.targets.split(' ').map(word).collect();
            if words.iter().any(Option::is_some) {
                let words = words.into_iter().map(|word| word.unwrap_or_else(|| UNKNOWN.to_owned()));
                entry.drvs = words.collect::<Vec<_>>().join(" ");
            }
            bytes += entry.drvs.len() + entry.attrs.len() + entry.targets.len() + entry.name.len();
        }
        if bytes > MOST_BYTES {
            self.matrix.include.iter_mut().for_each(|entry| entry.drvs.clear());
            self.notes.push(
                "The matrix would be too large for an output with the derivations in it, so the jobs evaluate. Have this plan look at \
                 fewer targets, by `include`."
                    .to_owned(),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::matrix::matrix;
    use super::super::{AttrPath, Base, Level, RunnerMap, Target};
    use super::*;

    fn drv(number: u32) -> StorePath {
        format!("{number:032}-x.drv").parse().unwrap()
    }

    fn plan(targets: &[(&str, Option<u32>)]) -> Plan {
        let decision = |(attr, number): &(&str, Option<u32>)| {
            let target = Target::of(AttrPath::parse(attr).unwrap()).unwrap();
            Decision {
                target: (*attr).to_owned(),
                attr: target.derivation().to_string(),
                verdict: Verdict::Build,
                level: Level::Base,
                reason: String::new(),
                system: "x86_64-linux".to_owned(),
                drv: number.map(drv),
                wanted: "out,man".to_owned(),
                is_small: target.is_small(),
            }
        };
        let decisions: Vec<Decision> = targets.iter().map(decision).collect();
        Plan {
            base: Base { commit: None, why: String::new(), planned: None, changed: Err(String::new()) },
            rules: String::new(),
            matrix: matrix(&decisions, &RunnerMap::default(), 8),
            decisions,
            notes: Vec::new(),
            kept: None,
            scope: String::new(),
            evaluation_ms: 0,
        }
    }

    #[test]
    fn each_attribute_has_its_derivation_or_a_dash() {
        let mut plan = plan(&[
            ("nixosConfigurations.a", Some(1)),
            ("nixosConfigurations.b", Some(2)),
            ("checks.x86_64-linux.c", None),
            ("checks.x86_64-linux.d", Some(3)),
        ]);
        assert_eq!(plan.drvs(), BTreeSet::from([1, 2, 3].map(drv)));
        assert!(plan.matrix.include.iter().all(|entry| entry.drvs.is_empty()));
        plan.hand_over(&BTreeSet::from([1, 3].map(drv)));
        let full = |number| format!("/nix/store/{number:032}-x.drv^out,man");
        let drvs: Vec<&str> = plan.matrix.include.iter().map(|entry| entry.drvs.as_str()).collect();
        assert_eq!(drvs, [full(1), String::new(), format!("- {}", full(3))]);
        for entry in plan.matrix.include.iter().filter(|entry| !entry.drvs.is_empty()) {
            assert_eq!(entry.drvs.split(' ').count(), entry.attrs.split(' ').count());
        }
        assert!(plan.notes.is_empty());
    }

    #[test]
    fn a_matrix_that_no_output_could_hold_goes_without() {
        let names: Vec<String> = (0..2000).map(|number| format!("checks.x86_64-linux.check-{number}")).collect();
        let targets: Vec<_> = names.iter().map(String::as_str).zip((0..).map(Some)).collect();
        let mut plan = plan(&targets);
        plan.hand_over(&plan.drvs());
        assert!(plan.matrix.include.iter().all(|entry| entry.drvs.is_empty()));
        assert!(plan.notes[0].contains("include"));
    }
}
