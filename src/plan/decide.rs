//! Decides each target from known facts, without any queries.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::evaluate::{Derivation, Evaluated};
use super::memory::{PlannedCommit, PlannedTarget};
use super::rules::Touched;
use super::{AttrPath, Output, Target};
use crate::flake::current_system;
use crate::store::{SharedMap, StorePath};

/// The verdict on a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// It is in the matrix.
    Build,
    /// It is not.
    Skip,
}

/// The level that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Level {
    /// The rules for changed files.
    Rules,
    /// Its derivation path, compared with that of the base.
    Derivation,
    /// Its outputs are in a cache.
    Output,
    /// It was to be built before, and no cache has it.
    Unbuilt,
    /// There is nothing to compare with.
    Base,
    /// It could not be evaluated, or is nothing that can be built.
    Evaluation,
    /// No runner is there for its system.
    Runner,
}

/// The decision on a target, with the reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Decision {
    /// What it is called.
    pub target: String,
    /// The attribute path to build.
    pub attr: String,
    /// The verdict.
    pub verdict: Verdict,
    /// The level that decided.
    pub level: Level,
    /// Why, as half a sentence.
    pub reason: String,
    pub system: String,
    /// Its derivation, if it was evaluated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drv: Option<StorePath>,
    /// The names of the outputs to build of it, between commas; `*` for all.
    #[serde(skip)]
    pub(crate) wanted: String,
    #[serde(skip)]
    pub(crate) is_small: bool,
}

/// All that is known.
pub(super) struct Facts<'a> {
    pub touched: &'a Touched,
    pub evaluated: &'a BTreeMap<AttrPath, Evaluated>,
    /// The targets at the base, whoever found out.
    pub base: Option<&'a PlannedCommit>,
    /// What the base is called in reasons; None where there is none.
    pub base_name: Option<&'a str>,
    /// Which outputs a cache holds, and what it is called.
    pub held: &'a BTreeMap<StorePath, String>,
    pub policy: Policy,
}

impl Facts<'_> {
    fn base_name(&self) -> &str {
        self.base_name.unwrap_or("the base")
    }

    /// Files decide only where there is something that they changed since.
    fn level_of_files(&self) -> Level {
        if self.base_name.is_some() { Level::Rules } else { Level::Base }
    }
}

/// What the user wishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Whether what a cache holds needs no job.
    pub skip_cached: bool,
    /// Whether what was to be built before, and is in no cache, is built again.
    pub retry_unbuilt: bool,
}

type Answer = (Verdict, Level, String);

/// Decides `target`.
pub(super) fn decide(target: &Target, facts: &Facts<'_>) -> Decision {
    let name = target.attr.to_string();
    let old = facts.base.and_then(|base| base.targets.get(&name));
    let evaluated = facts.evaluated.get(&target.attr);
    let (verdict, level, reason) = match evaluated {
        Some(Evaluated::Failed(why)) => {
            (Verdict::Build, Level::Evaluation, format!("it cannot be evaluated, and its build will say so: {why}"))
        }
        Some(Evaluated::Other) if target.is_small() => {
            (Verdict::Skip, Level::Evaluation, "it is not a derivation".to_owned())
        }
        Some(Evaluated::Other) => (
            Verdict::Build,
            Level::Evaluation,
            "it has no derivation where one belongs, and its build will say so".to_owned(),
        ),
        Some(Evaluated::Derivation(new)) => compare(target, new, old, facts),
        None => by_rules(target, old, facts),
    };
    let derivation = match evaluated {
        Some(Evaluated::Derivation(derivation)) => Some(derivation),
        _ => None,
    };
    let known = derivation.map(|derivation| derivation.system.clone()).filter(|system| !system.is_empty());
    let named = || target.system().map(str::to_owned);
    let before = || old.map(|old| old.system.clone()).filter(|system| !system.is_empty());
    Decision {
        target: name,
        attr: target.derivation().to_string(),
        verdict,
        level,
        reason,
        system: known.or_else(named).or_else(before).unwrap_or_else(|| usual_system(target)),
        drv: derivation.map(|derivation| derivation.path.clone()),
        wanted: derivation.map(|derivation| derivation.wanted.clone()).unwrap_or_default(),
        // What cannot be evaluated takes nothing else along.
        is_small: target.is_small() && !matches!(evaluated, Some(Evaluated::Failed(_))),
    }
}

/// The system of a target of which nothing else is known.
fn usual_system(target: &Target) -> String {
    if target.output == Output::DarwinConfigurations { "aarch64-darwin".to_owned() } else { current_system() }
}

/// For a target that was evaluated: the derivation decides, whatever rules say.
fn compare(target: &Target, new: &Derivation, old: Option<&PlannedTarget>, facts: &Facts<'_>) -> Answer {
    let is_same = old.is_some_and(|old| old.drv.as_ref() == Some(&new.path));
    let holder = holder(new.outputs.values(), facts).filter(|_| new.knows_outputs);
    if let (true, Some(old)) = (is_same, old) {
        return unchanged(old, holder, facts);
    }
    if let (true, Some(holder)) = (facts.policy.skip_cached, holder) {
        return (Verdict::Skip, Level::Output, format!("its outputs are in {holder}"));
    }
    let touched = facts.touched.why(&target.attr);
    match (facts.base, old) {
        (Some(_), Some(PlannedTarget { drv: Some(drv), .. })) => {
            let (old, new) = (short(drv), short(&new.path));
            (
                Verdict::Build,
                Level::Derivation,
                format!("its derivation changed from {old} to {new} since {}", facts.base_name()),
            )
        }
        (Some(_), _) => (
            Verdict::Build,
            Level::Derivation,
            format!("{} has no derivation of it to compare with", facts.base_name()),
        ),
        // Nothing to compare with but the files.
        (None, _) => match touched {
            Some(why) => (Verdict::Build, facts.level_of_files(), why.to_owned()),
            None => (Verdict::Skip, Level::Rules, untouched(facts)),
        },
    }
}

fn unchanged(old: &PlannedTarget, holder: Option<&str>, facts: &Facts<'_>) -> Answer {
    let same = format!("its derivation is the same as at {}", facts.base_name());
    match holder {
        None if old.pending && facts.policy.retry_unbuilt => (Verdict::Build, Level::Unbuilt, unbuilt(facts)),
        None => (Verdict::Skip, Level::Derivation, same),
        Some(holder) => (Verdict::Skip, Level::Derivation, format!("{same}, and its outputs are in {holder}")),
    }
}

/// For a target that was not evaluated.
fn by_rules(target: &Target, old: Option<&PlannedTarget>, facts: &Facts<'_>) -> Answer {
    if let Some(why) = facts.touched.why(&target.attr) {
        return (Verdict::Build, facts.level_of_files(), why.to_owned());
    }
    let is_pending = old.is_some_and(|old| old.pending && holder(old.outputs.values(), facts).is_none());
    if is_pending && facts.policy.retry_unbuilt {
        return (Verdict::Build, Level::Unbuilt, unbuilt(facts));
    }
    (Verdict::Skip, Level::Rules, untouched(facts))
}

fn untouched(facts: &Facts<'_>) -> String {
    format!("no file that changed since {} touches it", facts.base_name())
}

fn unbuilt(facts: &Facts<'_>) -> String {
    format!(
        "it was to be built at {}, and no cache has it: that build failed, was cancelled or goes on",
        facts.base_name()
    )
}

/// Who holds all of these outputs.
fn holder<'a, 'b>(outputs: impl Iterator<Item = &'b StorePath>, facts: &Facts<'a>) -> Option<&'a str> {
    let holders: Option<BTreeSet<&str>> = outputs.map(|path| facts.held.get(path).map(String::as_str)).collect();
    holders?.into_iter().next()
}

/// The part of a derivation's path that tells it from others.
fn short(drv: &StorePath) -> &str {
    drv.hash_part().get(..8).unwrap_or_default()
}

/// The outputs that decisions may turn on, with their systems: of targets that changed or are new, and of those that may never
/// have been built.
pub(super) fn questions(
    targets: &[Target],
    evaluated: &BTreeMap<AttrPath, Evaluated>,
    base: Option<&PlannedCommit>,
    policy: Policy,
) -> BTreeMap<StorePath, String> {
    let mut asked = BTreeMap::new();
    for target in targets {
        let old = base.and_then(|base| base.targets.get(&target.attr.to_string()));
        let is_pending = old.is_some_and(|old| old.pending) && policy.retry_unbuilt;
        match evaluated.get(&target.attr) {
            Some(Evaluated::Derivation(new)) => {
                let is_same = old.is_some_and(|old| old.drv.as_ref() == Some(&new.path));
                if new.knows_outputs && (is_pending || !is_same && policy.skip_cached) {
                    asked.extend(new.outputs.values().map(|path| (path.clone(), new.system.clone())));
                }
            }
            Some(_) => {}
            None => {
                let old = old.filter(|_| is_pending);
                asked.extend(
                    old.into_iter().flat_map(|old| old.outputs.values().map(|path| (path.clone(), old.system.clone()))),
                );
            }
        }
    }
    asked
}

/// What is to be kept of this plan: each target as it is now, or was at the base where nobody looked.
pub(super) fn planned(decisions: &[Decision], facts: &Facts<'_>, targets: &[Target], time: u64) -> PlannedCommit {
    let mut kept = PlannedCommit { time, ..PlannedCommit::default() };
    for (target, decision) in targets.iter().zip(decisions) {
        let old = facts.base.and_then(|base| base.targets.get(&decision.target));
        let was_pending = !facts.policy.retry_unbuilt && old.is_some_and(|old| old.pending);
        let pending = decision.verdict == Verdict::Build || decision.level == Level::Runner || was_pending;
        let target = match facts.evaluated.get(&target.attr) {
            Some(Evaluated::Derivation(new)) => Some(PlannedTarget {
                drv: Some(new.path.clone()),
                outputs: if new.knows_outputs { new.outputs.clone().into() } else { SharedMap::new() },
                system: decision.system.clone(),
                pending,
            }),
            Some(Evaluated::Other) => None,
            Some(Evaluated::Failed(_)) => {
                Some(PlannedTarget { system: decision.system.clone(), pending: true, ..PlannedTarget::default() })
            }
            None => Some(match old {
                Some(old) => PlannedTarget { pending, ..old.clone() },
                // Without an evaluation nobody can tell later whether it was built.
                None => PlannedTarget { system: decision.system.clone(), ..PlannedTarget::default() },
            }),
        };
        kept.targets.extend(target.map(|target| (decision.target.clone(), target)));
    }
    kept
}

#[cfg(test)]
#[path = "decide_test.rs"]
mod tests;
