//! The matrix of jobs: their targets and runners.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::decide::{Decision, Level, Verdict};

/// Most jobs that GitHub makes of one matrix. Source: "Running variations of jobs in a workflow" in GitHub's documentation.
pub(super) const MOST_ENTRIES: usize = 256;

/// Which runners are there for which system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunnerMap(BTreeMap<String, Value>);

/// A text that is not a map of runners.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}. A map of runners is a JSON object from systems to what `runs-on` takes, such as \
     {{\"x86_64-linux\": \"ubuntu-latest\", \"aarch64-linux\": [\"self-hosted\", \"arm\"]}}."
)]
pub(crate) struct RunnerMapError(String);

impl Default for RunnerMap {
    /// GitHub's own machines.
    fn default() -> Self {
        let labels = [
            ("x86_64-linux", "ubuntu-latest"),
            ("aarch64-linux", "ubuntu-24.04-arm"),
            ("aarch64-darwin", "macos-latest"),
            ("x86_64-darwin", "macos-15-intel"),
        ];
        Self(labels.map(|(system, label)| (system.to_owned(), label.into())).into())
    }
}

impl RunnerMap {
    /// The map that `text` is.
    ///
    /// # Errors
    /// [`RunnerMapError`] when it is not a JSON object of labels, lists of labels, or groups.
    pub(crate) fn parse(text: &str) -> Result<Self, RunnerMapError> {
        let map: BTreeMap<String, Value> =
            serde_json::from_str(text).map_err(|error| RunnerMapError(format!("It is not a JSON object: {error}")))?;
        let is_label = |value: &Value| value.as_str().is_some_and(|label| !label.is_empty());
        for (system, labels) in &map {
            let good = match labels {
                Value::Array(labels) => !labels.is_empty() && labels.iter().all(is_label),
                Value::Object(group) => !group.is_empty(),
                other => is_label(other),
            };
            if !good {
                return Err(RunnerMapError(format!("Its value for {system:?} is not valid for `runs-on`")));
            }
        }
        Ok(Self(map))
    }

    fn labels(&self, system: &str) -> Option<&Value> {
        self.0.get(system)
    }

    fn systems(&self) -> String {
        self.0.keys().cloned().collect::<Vec<_>>().join(", ")
    }
}

/// One job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Entry {
    /// A name for people.
    pub name: String,
    /// What to build, between spaces: attribute paths of the flake.
    pub attrs: String,
    /// For each of `attrs` its derivation and the outputs to build of it, or `-`; empty where the cache has none of them.
    pub drvs: String,
    /// The targets, between spaces.
    pub targets: String,
    /// The system of all of them.
    pub system: String,
    /// Labels of the runner.
    pub runs_on: Value,
    /// The key of the job's cache, for a job without a checkout; empty where it is not known.
    pub key: String,
    /// Its restore prefixes, from near to far, one a line.
    pub restore_keys: String,
}

/// What GitHub's `strategy.matrix` takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Matrix {
    /// The jobs.
    pub include: Vec<Entry>,
}

/// Targets that are one derivation: built once, whatever they are called.
struct Unit<'a> {
    system: &'a str,
    is_small: bool,
    targets: Vec<&'a Decision>,
}

/// Skips what there is no runner for.
pub(super) fn leave_out(decisions: &mut [Decision], runners: &RunnerMap) {
    for decision in decisions.iter_mut().filter(|decision| decision.verdict == Verdict::Build) {
        if runners.labels(&decision.system).is_none() {
            decision.verdict = Verdict::Skip;
            decision.level = Level::Runner;
            decision.reason = format!("no runner is there for {}, only for {}", decision.system, runners.systems());
        }
    }
}

/// The jobs that build all that is to be built: each large target in one of its own, small ones of a system in groups of at most
/// `group`, and larger groups where there would be more than [`MOST_ENTRIES`] otherwise. The order is that of the targets.
#[must_use]
pub(super) fn matrix(decisions: &[Decision], runners: &RunnerMap, group: usize) -> Matrix {
    let units = units(decisions);
    let (mut small, mut large) = (group.max(1), 1);
    loop {
        let include = entries(&units, runners, small, large);
        if include.len() <= MOST_ENTRIES || large > units.len() {
            return Matrix { include };
        }
        if small <= units.len() {
            small *= 2;
        } else {
            large *= 2;
        }
    }
}

fn units(decisions: &[Decision]) -> Vec<Unit<'_>> {
    let mut units: Vec<Unit<'_>> = Vec::new();
    let mut places: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for decision in decisions.iter().filter(|decision| decision.verdict == Verdict::Build) {
        let key = decision.drv.as_ref().map(|drv| (decision.system.as_str(), drv.as_str()));
        if let Some(place) = key.and_then(|key| places.get(&key)) {
            let unit = &mut units[*place];
            unit.is_small &= decision.is_small;
            unit.targets.push(decision);
            continue;
        }
        places.extend(key.map(|key| (key, units.len())));
        units.push(Unit { system: &decision.system, is_small: decision.is_small, targets: vec![decision] });
    }
    units
}

fn entries(units: &[Unit<'_>], runners: &RunnerMap, small: usize, large: usize) -> Vec<Entry> {
    let mut sets: BTreeMap<(bool, &str), Vec<&Unit<'_>>> = BTreeMap::new();
    for unit in units {
        sets.entry((unit.is_small, unit.system)).or_default().push(unit);
    }
    let mut include = Vec::new();
    for ((is_small, system), units) in sets {
        // As many groups as are needed, and all of about the same size.
        let groups = units.len().div_ceil(if is_small { small } else { large });
        for number in 0..groups {
            let group = &units[units.len() * number / groups..units.len() * (number + 1) / groups];
            include.push(entry(system, group, runners));
        }
    }
    include
}

fn entry(system: &str, units: &[&Unit<'_>], runners: &RunnerMap) -> Entry {
    let targets: Vec<&Decision> = units.iter().flat_map(|unit| unit.targets.iter().copied()).collect();
    let join = |text: fn(&Decision) -> &str| targets.iter().map(|target| text(target)).collect::<Vec<_>>().join(" ");
    let first = targets.first().map_or("", |target| target.target.as_str());
    Entry {
        name: if targets.len() > 1 { format!("{first} and {} more", targets.len() - 1) } else { first.to_owned() },
        attrs: join(|target| &target.attr),
        drvs: String::new(),
        targets: join(|target| &target.target),
        system: system.to_owned(),
        runs_on: runners.labels(system).cloned().unwrap_or_default(),
        key: String::new(),
        restore_keys: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::plan::{AttrPath, Target};

    fn decision(attr: &str, system: &str, drv: u32) -> Decision {
        let target = Target::of(AttrPath::parse(attr).unwrap()).unwrap();
        Decision {
            target: attr.to_owned(),
            attr: target.derivation().to_string(),
            verdict: Verdict::Build,
            level: Level::Derivation,
            reason: String::new(),
            system: system.to_owned(),
            drv: Some(format!("{drv:032}-x.drv").parse().unwrap()),
            wanted: "out".to_owned(),
            is_small: target.is_small(),
        }
    }

    #[test]
    fn machines_have_jobs_of_their_own_and_small_things_share() {
        let mut all = vec![
            decision("nixosConfigurations.a", "x86_64-linux", 1),
            decision("nixosConfigurations.b", "aarch64-linux", 2),
        ];
        for (number, name) in (3..).zip(["a", "b", "c", "d", "e"]) {
            all.push(decision(&format!("checks.x86_64-linux.{name}"), "x86_64-linux", number));
        }
        all.push(decision("packages.x86_64-linux.default", "x86_64-linux", 3));
        let matrix = matrix(&all, &RunnerMap::default(), 4);
        let names: Vec<&str> = matrix.include.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "nixosConfigurations.b",
                "nixosConfigurations.a",
                "checks.x86_64-linux.a and 2 more",
                "checks.x86_64-linux.c and 2 more"
            ]
        );
        assert_eq!(matrix.include[0].runs_on, "ubuntu-24.04-arm");
        assert_eq!(matrix.include[1].attrs, "nixosConfigurations.a.config.system.build.toplevel");
        // The same derivation under two names is built in one job.
        assert_eq!(
            matrix.include[2].targets,
            "checks.x86_64-linux.a packages.x86_64-linux.default checks.x86_64-linux.b"
        );
    }

    #[test]
    fn a_system_without_a_runner_is_left_out_and_said() {
        let mut all = [
            decision("checks.riscv64-linux.a", "riscv64-linux", 1),
            decision("checks.x86_64-linux.a", "x86_64-linux", 2),
        ];
        leave_out(&mut all, &RunnerMap::parse(r#"{"x86_64-linux": ["self-hosted", "big"]}"#).unwrap());
        assert_eq!((all[0].verdict, all[0].level, all[1].verdict), (Verdict::Skip, Level::Runner, Verdict::Build));
        assert!(all[0].reason.contains("riscv64-linux") && all[0].reason.contains("only for x86_64-linux"));
    }

    #[test]
    fn a_map_of_runners_is_checked() {
        for wrong in ["", "[]", r#"{"a": 1}"#, r#"{"a": []}"#, r#"{"a": [""]}"#, r#"{"a": ""}"#, r#"{"a": {}}"#] {
            assert!(RunnerMap::parse(wrong).unwrap_err().to_string().contains("x86_64-linux"), "{wrong}");
        }
        assert!(RunnerMap::parse(r#"{"a": {"group": "big", "labels": ["x"]}}"#).is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn nothing_is_lost_and_there_are_never_too_many(
            machines in 0..600u32, checks in 0..900u32, group in 1..20usize, same in 1..4u32,
        ) {
            let systems = ["x86_64-linux", "aarch64-linux", "aarch64-darwin"];
            let mut all = Vec::new();
            for number in 0..machines {
                all.push(decision(&format!("nixosConfigurations.m{number}"), systems[number as usize % 2], number));
            }
            for number in 0..checks {
                let system = systems[number as usize % 3];
                all.push(decision(&format!("checks.{system}.c{number}"), system, 10_000 + number / 3 / same * 3 + number % 3));
            }
            let matrix = matrix(&all, &RunnerMap::default(), group);
            prop_assert!(matrix.include.len() <= MOST_ENTRIES);
            let built: Vec<&str> = matrix.include.iter().flat_map(|entry| entry.attrs.split(' ')).filter(|attr| !attr.is_empty()).collect();
            let expected: BTreeSet<&str> = all.iter().map(|decision| decision.attr.as_str()).collect();
            prop_assert_eq!(built.len(), all.len());
            prop_assert_eq!(built.iter().copied().collect::<BTreeSet<_>>(), expected);
            for entry in &matrix.include {
                prop_assert!(entry.attrs.split(' ').all(|attr| !attr.contains("linux") || attr.contains(&entry.system)));
            }
            let names: BTreeSet<&str> = matrix.include.iter().map(|entry| entry.name.as_str()).collect();
            prop_assert_eq!(names.len(), matrix.include.len(), "names tell jobs apart");
        }
    }
}
