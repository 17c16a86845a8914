//! Makes a plan, in this order: the base, the rules, the targets, their derivations, the caches, the derivations at the base, the
//! matrix.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Instant;

use async_trait::async_trait;

use super::at_base::{commit_to_evaluate, evaluate_base, open};
use super::base::{self, Base, Trust, Wish};
use super::decide::{Decision, Facts, Level, Verdict, decide, planned, questions};
use super::discover::{Broken, Discovered, discover};
use super::evaluate::{Workers, evaluate};
use super::matrix::{Matrix, leave_out, matrix};
use super::memory::{Planned, PlannedCommit};
use super::names::{nearest, unknown};
use super::nix::FlakeRef;
use super::request::{Evaluate, EvaluateBase, Request};
use super::{AttrPath, Filter, NixError, Output, Reads, Repository, Rules, Target, Touched, defaults};
use crate::base::bounds::{MAX_TEXT, read_text};
use crate::base::clock::now;
use crate::flake::current_system;
use crate::store::StorePath;

/// What is known elsewhere.
#[async_trait]
pub(crate) trait Known: Sync {
    /// What is kept of earlier plans; None where there is no place for it.
    async fn planned(&self) -> Option<Planned>;
    /// Which of these outputs, each with its system, a cache has, and what that is called.
    async fn held(&self, outputs: &BTreeMap<StorePath, String>) -> BTreeMap<StorePath, String>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// What was compared with.
    pub base: Base,
    /// Where the rules were from.
    pub rules: String,
    /// What becomes of each target, in the order of the targets.
    pub decisions: Vec<Decision>,
    /// The jobs.
    pub matrix: Matrix,
    /// What else is worth saying.
    pub notes: Vec<String>,
    /// What is to be kept for later plans: the name of the commit, and its targets.
    pub kept: Option<(String, PlannedCommit)>,
    /// What tells the plans of one flake and filter from others.
    pub scope: String,
    /// How long it took to list the targets and to evaluate them, here and at the base.
    pub evaluation_ms: u64,
}

/// The errors of planning.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    /// The flake's outputs cannot be read.
    #[error("The targets of the flake in {project} cannot be listed: Nix says of its output `{}`: {error}", output.name())]
    Discover {
        /// The flake's folder.
        project: PathBuf,
        output: Output,
        /// What Nix says.
        error: NixError,
    },
    /// A pattern of the user's that should mean something means nothing.
    #[error(
        "{what} {pattern:?} means no target of the flake.{nearest} `nix-cache plan` without `include` lists all targets."
    )]
    Idle {
        /// What it is a pattern of.
        what: String,
        /// The pattern.
        pattern: String,
        /// The names that are like it, as a sentence.
        nearest: String,
    },
}

impl PlanError {
    /// Whether the user has to correct what he asked for.
    #[must_use]
    pub(crate) fn is_of_usage(&self) -> bool {
        matches!(self, Self::Idle { .. })
    }
}

/// Decides what to build.
///
/// # Errors
/// When the flake's targets cannot be listed. A target that cannot be evaluated is not an error: it is built.
pub(crate) async fn plan(request: &Request, known: &dyn Known) -> Result<Plan, PlanError> {
    let kept = known.planned().await;
    let repository = request.repository.as_ref().ok();
    let scope = scope(request);
    let base = base::choose(&request.base, repository, kept.as_ref().filter(|_| !wants_exact_base(request)), &scope);
    let rules = rules(request, &base);
    let head = Head::of(request, &scope);
    let start = Instant::now();
    let mut notes: Vec<String> = request.repository.as_ref().err().cloned().into_iter().collect();
    let (found, touched) = targets(request, &base, &rules, &head).await?;
    refuse_idle_patterns((request, &head.flake), &rules, &found, &mut notes).await?;
    let Discovered { targets: all, broken, .. } = found;
    let (targets, unnamed): (Vec<Target>, Vec<Target>) = all
        .into_iter()
        .filter(|target| request.filter.takes(&target.attr))
        .partition(|target| target.attr.can_be_named());
    notes.extend(unnamed.iter().map(|target| {
        format!("{} is left out: its name has a quote or a space in it, which no command line takes.", target.attr)
    }));
    let workers = Workers::new(request.workers, request.worker_memory);
    let chosen: Vec<&Target> = targets.iter().filter(|target| is_evaluated(request, target, &base, &touched)).collect();
    if !chosen.is_empty() {
        tracing::info!(
            "Evaluating {} of {}, {} at a time.",
            chosen.len(),
            crate::base::human::count(targets.len() as u64, "target"),
            workers.count
        );
    }
    let evaluated = evaluate(&request.nix, &head.flake, &chosen, workers).await;
    let mut evaluation = start.elapsed();
    let (at_base, cached) = match commit_to_evaluate(request, &base, &chosen) {
        None => {
            let cached = known.held(&questions(&targets, &evaluated, base.planned.as_ref(), request.policy)).await;
            (base.planned.clone(), cached)
        }
        Some(commit) => {
            // The base cannot change the verdict on what a cache holds.
            let cached = known.held(&questions(&targets, &evaluated, None, request.policy)).await;
            let start = Instant::now();
            let open = open(request, &chosen, &evaluated, &cached);
            let planned = evaluate_base(request, &commit, &base, &open, workers).await;
            evaluation += start.elapsed();
            (Some(planned), cached)
        }
    };
    let evaluation_ms = u64::try_from(evaluation.as_millis()).unwrap_or(u64::MAX);
    let at_base = at_base.as_ref();
    let base_name = base.commit.as_ref().map(|_| base.short());
    let facts = Facts {
        touched: &touched,
        evaluated: &evaluated,
        base: at_base,
        base_name,
        held: &cached,
        policy: request.policy,
    };
    let mut decisions: Vec<Decision> = targets.iter().map(|target| decide(target, &facts)).collect();
    warn_of_rules(&touched, &decisions, &targets, &mut notes);
    decisions.extend(broken.iter().map(of_broken));
    leave_out(&mut decisions, &request.runners);
    let record = head.commit.map(|commit| (commit, planned(&decisions, &facts, &targets, now())));
    let matrix = matrix(&decisions, &request.runners, request.group);
    Ok(Plan { base, rules: rules.source().to_owned(), decisions, matrix, notes, kept: record, scope, evaluation_ms })
}

/// What tells the plans of one flake and filter from others: the flake's folder, and the filter's fingerprint if there is one.
fn scope(request: &Request) -> String {
    let folder = request.repository.as_ref().map_or("", Repository::folder);
    format!("{folder}{}", request.filter.fingerprint().map_or_else(String::new, |print| format!("#{print}")))
}

fn wants_exact_base(request: &Request) -> bool {
    let is_trusted = matches!(request.base, Wish::Commit { trust: Trust::Assumed, .. });
    is_trusted && request.evaluate_base == EvaluateBase::Always
}

/// The flake as it is here.
struct Head {
    flake: FlakeRef,
    /// The name under which its plan is kept; None where it is at no commit.
    commit: Option<String>,
}

impl Head {
    fn of(request: &Request, scope: &str) -> Self {
        let Ok(repository) = &request.repository else {
            return Self { flake: FlakeRef::path(&request.project), commit: None };
        };
        let commit = repository.head().ok().filter(|_| !repository.is_dirty());
        let flake = at(repository, commit.as_deref());
        Self { flake, commit: commit.map(|commit| base::name(&commit, scope)) }
    }
}

fn at(repository: &Repository, commit: Option<&str>) -> FlakeRef {
    FlakeRef::git(repository.top(), repository.folder(), commit, repository.is_shallow())
}

/// The user's rules, or the defaults with what the flake's code seems to read.
fn rules(request: &Request, base: &Base) -> Rules {
    if let Some(rules) = &request.rules {
        return rules.clone();
    }
    let mut reads = Reads::default();
    if let Ok(repository) = &request.repository {
        let code = |file: &String| read_text(&repository.top().join(file), MAX_TEXT);
        match repository.nix_files() {
            // A file that cannot be read may read anything.
            Ok(files) => files.iter().for_each(|file| match code(file) {
                Ok(code) => reads.add(file, &code),
                Err(_) => reads.add("flake.nix", "./."),
            }),
            Err(_) => reads.add("flake.nix", "./."),
        }
    }
    defaults(base.changed.as_deref().unwrap_or_default(), &reads)
}

/// Refuses patterns of `include` and of the user's rules that mean nothing; those of `exclude` are told.
async fn refuse_idle_patterns(
    (request, flake): (&Request, &FlakeRef),
    rules: &Rules,
    found: &Discovered,
    notes: &mut Vec<String>,
) -> Result<(), PlanError> {
    let names: Vec<AttrPath> = found.targets.iter().map(|target| target.attr.clone()).collect();
    let broken = found.broken.iter().map(|broken| broken.attr.clone());
    let known: Vec<AttrPath> = names.iter().cloned().chain(broken).collect();
    let refuse = |what: &str, pattern: &str| PlanError::Idle {
        what: what.to_owned(),
        pattern: pattern.to_owned(),
        nearest: nearest(pattern, &names),
    };
    if let Some(pattern) = request.filter.idle_includes(&known).find(|pattern| !unknown(pattern, &found.broken)) {
        // It has kept others from being asked for.
        let all = discover(&request.nix, flake, &Filter::default()).await.unwrap_or_default();
        let names: Vec<AttrPath> = all.targets.into_iter().map(|target| target.attr).collect();
        let (what, pattern) = ("The pattern of `include`".to_owned(), pattern.to_owned());
        return Err(PlanError::Idle { nearest: nearest(&pattern, &names), what, pattern });
    }
    // A filter hides targets that rules are about.
    if request.filter.fingerprint().is_none()
        && found.broken.is_empty()
        && let Some((glob, pattern)) = rules.idle(&found.targets)
    {
        return Err(refuse(&format!("The rule {glob:?} of {}:", rules.source()), &pattern));
    }
    let seen: Vec<AttrPath> = known.iter().chain(&found.skipped).cloned().collect();
    notes.extend(request.filter.idle_excludes(&seen).map(|pattern| {
        format!("The pattern of `exclude` {pattern:?} means no target of the flake.{}", nearest(pattern, &names))
    }));
    Ok(())
}

/// What becomes of an output or a system whose names cannot be listed: its build says why; but a system that throws on purpose, and
/// is not that of this machine, is not supported.
fn of_broken(broken: &Broken) -> Decision {
    let system = broken.attr.names().get(1).cloned().unwrap_or_else(current_system);
    let is_unsupported = broken.throws && broken.attr.names().len() > 1 && system != current_system();
    let (verdict, reason) = if is_unsupported {
        (Verdict::Skip, format!("the flake does not support it: {}", broken.error))
    } else {
        (Verdict::Build, format!("its names cannot be listed, and its build will say so: {}", broken.error))
    };
    Decision {
        target: broken.attr.to_string(),
        attr: broken.attr.to_string(),
        verdict,
        level: Level::Evaluation,
        reason,
        system,
        drv: None,
        wanted: String::new(),
        is_small: false,
    }
}

/// All targets of the flake, and what the changed files touch of them. Where these touch nothing, the names at the base will do.
async fn targets(
    request: &Request,
    base: &Base,
    rules: &Rules,
    head: &Head,
) -> Result<(Discovered, Touched), PlanError> {
    let of_files = |targets: &[Target]| match &base.changed {
        Ok(files) => rules.touched(files, targets),
        Err(why) => Touched { all: Some(why.clone()), ..Touched::default() },
    };
    let may_skip = request.evaluate == Evaluate::Auto
        && (request.rules.is_some() || base.changed.as_ref().is_ok_and(Vec::is_empty));
    if let Some(planned) = base.planned.as_ref().filter(|_| may_skip) {
        // With no targets to mean, every rule but "none" touches everything.
        let touched = of_files(&[]);
        if touched.all.is_none() {
            let names = planned.targets.keys().filter_map(|name| AttrPath::parse(name).ok());
            let mut targets: Vec<Target> = names.filter_map(Target::of).collect();
            targets.sort();
            return Ok((Discovered { targets, ..Discovered::default() }, touched));
        }
    }
    let found = discover(&request.nix, &head.flake, &request.filter).await;
    let found =
        found.map_err(|(output, error)| PlanError::Discover { project: request.project.clone(), output, error })?;
    let touched = of_files(&found.targets);
    Ok((found, touched))
}

fn is_evaluated(request: &Request, target: &Target, base: &Base, touched: &Touched) -> bool {
    let is_new = || base.planned.as_ref().is_some_and(|at| !at.targets.contains_key(&target.attr.to_string()));
    match request.evaluate {
        Evaluate::Always => true,
        Evaluate::Never => false,
        // The defaults are not trusted where there is something better.
        Evaluate::Auto if request.rules.is_none() && base.changed.as_ref().is_ok_and(|files| !files.is_empty()) => true,
        Evaluate::Auto => touched.why(&target.attr).is_some() || is_new(),
    }
}

/// Says which targets changed though no rule let them.
fn warn_of_rules(touched: &Touched, decisions: &[Decision], targets: &[Target], notes: &mut Vec<String>) {
    let changed = |(target, decision): &(&Target, &Decision)| {
        decision.verdict == Verdict::Build
            && decision.level == Level::Derivation
            && touched.all.is_none()
            && touched.why(&target.attr).is_none()
    };
    let names: BTreeSet<&str> =
        targets.iter().zip(decisions).filter(changed).map(|(_, decision)| decision.target.as_str()).collect();
    if !names.is_empty() {
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        notes.push(format!(
            "The rules say that no changed file touches {names}, but the derivations say otherwise. Built; the rules should be \
             corrected, since without an evaluation they are believed."
        ));
    }
}
