//! Evaluates targets to their derivations, several at a time, with limited memory.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::Value;

use super::nix::{FlakeRef, quoted};
use super::{AttrPath, Nix, NixError, Output, Target, eval_jobs};
use crate::base::memory::Memory;
use crate::store::{STORE_DIR, StorePath};

/// So many small targets are evaluated by one process: each has to read the same packages first.
const BATCH: usize = 16;

/// What evaluating a target gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Evaluated {
    Derivation(Derivation),
    /// A value that cannot be built.
    Other,
    /// Nothing.
    Failed(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Derivation {
    pub path: StorePath,
    pub system: String,
    /// What `nix build` builds of it, as far as the paths are known beforehand.
    pub outputs: BTreeMap<String, StorePath>,
    /// Whether all are known: not so for what is addressed by its content.
    pub knows_outputs: bool,
    /// The names of the outputs that `nix build` builds, between commas; `*` where they are not known.
    pub wanted: String,
}

/// How many evaluate at a time, and the most memory of each, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Workers {
    pub count: usize,
    pub memory: u64,
}

impl Workers {
    /// As many as there are cores and memory for.
    pub(super) fn new(count: Option<usize>, memory: u64) -> Self {
        let memory = memory.max(1);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let room = Memory::now().map_or(cores, |now| (now.available / memory) as usize);
        Self { count: count.unwrap_or_else(|| cores.min(room)).max(1), memory }
    }
}

/// What Nix is asked of each derivation. `nix build` builds the outputs that are to be installed.
const FACTS: &str = "(d: if (d.type or null) != \"derivation\" then null else let \
    wanted = if d.outputSpecified or false then [ d.outputName ] else d.meta.outputsToInstall or \
      (let all = d.outputs or [ \"out\" ]; in if builtins.elem \"out\" all then [ \"out\" ] else [ (builtins.head all) ]); in { \
    drv = builtins.unsafeDiscardStringContext d.drvPath; inherit (d) system; \
    outputs = builtins.listToAttrs (map (name: { inherit name; \
      value = builtins.unsafeDiscardStringContext (d.${name}.outPath or d.outPath); }) wanted); })";

#[derive(Deserialize)]
struct Facts {
    drv: String,
    system: String,
    outputs: BTreeMap<String, String>,
}

/// What is evaluated by one process.
enum Work<'a> {
    One(&'a Target),
    Several(AttrPath, Vec<&'a Target>),
}

/// Evaluates `targets`; each gets an answer.
pub(super) async fn evaluate(
    nix: &Nix,
    flake: &FlakeRef,
    targets: &[&Target],
    workers: Workers,
) -> BTreeMap<AttrPath, Evaluated> {
    let mut found = eval_jobs::evaluate(nix, flake, targets, workers).await;
    let left: Vec<&Target> = targets.iter().copied().filter(|target| !found.contains_key(&target.attr)).collect();
    let done: Vec<_> = futures_util::stream::iter(split(&left))
        .map(|work| carry_out(nix, flake, work, workers))
        .buffer_unordered(workers.count)
        .collect()
        .await;
    let mut large = Vec::new();
    for (target, evaluated) in done.into_iter().flatten() {
        match evaluated {
            Ok(evaluated) => drop(found.insert(target.attr.clone(), evaluated)),
            Err(NixError::Memory) => large.push(target),
            Err(error) => drop(found.insert(target.attr.clone(), Evaluated::Failed(error.to_string()))),
        }
    }
    // What is too large for a worker may have the whole machine, when nobody else needs it.
    for target in large {
        tracing::info!("{} needs more memory than a worker has and is evaluated again, alone.", target.attr);
        let alone = one(nix, flake, target, None).await;
        found.insert(target.attr.clone(), alone.unwrap_or_else(|error| Evaluated::Failed(error.to_string())));
    }
    found
}

fn split<'a>(targets: &[&'a Target]) -> Vec<Work<'a>> {
    let mut sets: BTreeMap<(Output, AttrPath), Vec<&Target>> = BTreeMap::new();
    let mut work = Vec::new();
    for target in targets {
        if target.is_small() && target.attr.names().len() > 1 {
            let names = target.attr.names();
            let set = AttrPath::new(names[..names.len() - 1].iter().cloned());
            sets.entry((target.output, set)).or_default().push(target);
        } else {
            work.push(Work::One(target));
        }
    }
    for ((_, set), targets) in sets {
        work.extend(targets.chunks(BATCH).map(|some| Work::Several(set.clone(), some.to_vec())));
    }
    work
}

type Answer<'a> = (&'a Target, Result<Evaluated, NixError>);

async fn carry_out<'a>(nix: &Nix, flake: &FlakeRef, work: Work<'a>, workers: Workers) -> Vec<Answer<'a>> {
    let (set, targets) = match work {
        Work::One(target) => return vec![(target, one(nix, flake, target, Some(workers.memory)).await)],
        Work::Several(set, targets) => (set, targets),
    };
    let mut together = several(nix, flake, &set, &targets, workers).await;
    let mut answers = Vec::new();
    for target in targets {
        let answer = match together.remove(target.attr.last()) {
            Some(evaluated) => Ok(evaluated),
            // One that fails hides the others, and why it fails is only told when it is alone.
            None => one(nix, flake, target, Some(workers.memory)).await,
        };
        answers.push((target, answer));
    }
    answers
}

async fn one(nix: &Nix, flake: &FlakeRef, target: &Target, memory: Option<u64>) -> Result<Evaluated, NixError> {
    nix.eval(flake, &target.derivation(), FACTS, memory).await.map(|value| read(&value))
}

/// Evaluates several of one set. What is not in the answer is not known.
async fn several(
    nix: &Nix,
    flake: &FlakeRef,
    set: &AttrPath,
    targets: &[&Target],
    workers: Workers,
) -> BTreeMap<String, Evaluated> {
    let names: Vec<String> = targets.iter().map(|target| quoted(target.attr.last())).collect();
    let apply = format!(
        "set: builtins.listToAttrs (map (name: {{ inherit name; value = \
         let facts = {FACTS} set.${{name}}; tried = builtins.tryEval (builtins.deepSeq facts facts); in \
         if tried.success then {{ facts = tried.value; }} else null; }}) [ {} ])",
        names.join(" ")
    );
    match nix.eval(flake, set, &apply, Some(workers.memory)).await {
        Ok(Value::Object(all)) => {
            all.into_iter().filter_map(|(name, value)| Some((name, read(value.get("facts")?)))).collect()
        }
        Ok(_) => BTreeMap::new(),
        Err(error) => {
            tracing::debug!("{set} is evaluated one by one: {error}");
            BTreeMap::new()
        }
    }
}

fn read(value: &Value) -> Evaluated {
    if value.is_null() {
        return Evaluated::Other;
    }
    let facts = match Facts::deserialize(value) {
        Ok(facts) => facts,
        Err(error) => return Evaluated::Failed(format!("it is not a valid derivation: {error}")),
    };
    let wanted = facts.outputs.keys().cloned().collect::<Vec<_>>().join(",");
    match derivation(&facts.drv, facts.system, facts.outputs.into_iter().map(|(name, path)| (name, Some(path)))) {
        Evaluated::Derivation(derivation) if !wanted.is_empty() => {
            Evaluated::Derivation(Derivation { wanted, ..derivation })
        }
        other => other,
    }
}

/// A derivation of these texts. A path that is none, or none yet, is not known.
pub(super) fn derivation(
    drv: &str,
    system: String,
    outputs: impl Iterator<Item = (String, Option<String>)>,
) -> Evaluated {
    let path = match StorePath::from_full(drv, STORE_DIR) {
        Ok(path) => path,
        Err(error) => return Evaluated::Failed(error.to_string()),
    };
    let all: Vec<_> =
        outputs.map(|(name, path)| (name, path.and_then(|path| StorePath::from_full(&path, STORE_DIR).ok()))).collect();
    let knows_outputs = !all.is_empty() && all.iter().all(|(_, path)| path.is_some());
    let outputs = all.into_iter().filter_map(|(name, path)| Some((name, path?))).collect();
    Evaluated::Derivation(Derivation { path, system, outputs, knows_outputs, wanted: "*".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(attrs: &[&str]) -> Vec<Target> {
        attrs.iter().map(|attr| Target::of(AttrPath::parse(attr).unwrap()).unwrap()).collect()
    }

    #[test]
    fn small_ones_of_one_set_share_a_process() {
        let names: Vec<String> = (0..20).map(|number| format!("packages.x86_64-linux.p{number}")).collect();
        let mut all: Vec<&str> = names.iter().map(String::as_str).collect();
        all.extend(["nixosConfigurations.a", "nixosConfigurations.b", "checks.x86_64-linux.c"]);
        let all = targets(&all);
        let work = split(&all.iter().collect::<Vec<_>>());
        let sizes: Vec<usize> =
            work.iter().map(|work| if let Work::Several(_, some) = work { some.len() } else { 0 }).collect();
        assert_eq!(sizes, [0, 0, 16, 4, 1]);
    }

    #[test]
    fn answers_are_read_and_what_is_not_known_is_said() {
        let drv = format!("/nix/store/{}-a.drv", "0".repeat(32));
        let out = format!("/nix/store/{}-a", "1".repeat(32));
        let value = serde_json::json!({"drv": drv, "system": "x86_64-linux", "outputs": {"out": out}});
        let Evaluated::Derivation(found) = read(&value) else { panic!() };
        assert_eq!((found.path.name(), found.knows_outputs, found.outputs.len()), ("a.drv", true, 1));
        let floating =
            serde_json::json!({"drv": drv, "system": "s", "outputs": {"out": "/1rz4g4znpzjwh1xymhjpm42vipw92pr7"}});
        let Evaluated::Derivation(found) = read(&floating) else { panic!() };
        assert!(!found.knows_outputs && found.outputs.is_empty());
        assert_eq!(read(&Value::Null), Evaluated::Other);
        assert!(matches!(read(&serde_json::json!({"drv": 1})), Evaluated::Failed(_)));
        assert!(matches!(read(&serde_json::json!({"drv": "/x", "system": "s", "outputs": {}})), Evaluated::Failed(_)));
    }

    #[test]
    fn there_is_always_a_worker() {
        assert!(Workers::new(None, 4 << 30).count >= 1);
        assert_eq!(Workers::new(None, u64::MAX).count, 1);
        assert_eq!(Workers::new(Some(7), 1), Workers { count: 7, memory: 1 });
    }
}
