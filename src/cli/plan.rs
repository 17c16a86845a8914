//! `nix-cache plan`.

use std::fmt::Write;

use serde::Serialize;

use super::plan_args::{PlanCommand, PlanFormat, When};
use super::{show, verbs};
use crate::app::Failure;
use crate::app::known::{Caches, plan_key};
use crate::app::place::{bytes, remote};
use crate::app::plan::{given_rules, headline, keep, not_a_repository, rules_and_filter};
use crate::app::print::{print, print_json};
use crate::plan::{
    self, Decision, Evaluate, EvaluateBase, Matrix, Nix, Plan, Policy, RULES_FILE, Repository, Request, RulesFile,
    RunnerMap, Trust, Verdict, Wish,
};

/// Plans and prints the plan.
pub(super) async fn plan(command: &PlanCommand) -> Result<(), Failure> {
    let request = request(command)?;
    let remote = command.remote.as_deref().map(remote).transpose()?;
    let key = show::request(&command.key);
    let plan_key = plan_key(&key.prefix);
    let keys = verbs::keys(command.signing_key_file.as_deref(), &command.trust)?;
    let caches = Caches {
        remote: remote.clone(),
        plan_key: plan_key.clone(),
        key,
        keys: keys.clone(),
        substituters: !command.no_substituters,
    };
    let plan = plan::plan(&request, &caches).await.map_err(Failure::work)?;
    match command.format {
        PlanFormat::Text => print(&describe(&plan)),
        PlanFormat::Matrix => print_json(&plan.matrix)?,
        PlanFormat::Json => print_json(&Printed::of(&plan))?,
    }
    for note in &plan.notes {
        tracing::warn!("{note}");
    }
    if let (true, Some(remote)) = (command.keep, remote) {
        keep(&*remote, &plan_key, &keys, &plan).await.map_err(Failure::work)?;
    }
    Ok(())
}

fn request(command: &PlanCommand) -> Result<Request, Failure> {
    let project = command.key.project.canonicalize().map_err(|error| {
        Failure::usage(format!("Cannot find the project {}: {error}.", command.key.project.display()))
    })?;
    let repository = Repository::open(&project, None).map_err(|error| not_a_repository(&error.to_string()));
    let top = repository.as_ref().map_or(project.as_path(), Repository::top);
    let file = match &command.rules {
        Some(path) => Some(given_rules(path, &path.display().to_string())?),
        None => RulesFile::read(&top.join(RULES_FILE), RULES_FILE).map_err(Failure::usage)?,
    };
    let (rules, filter) = rules_and_filter(file, &command.include, &command.exclude)?;
    let runners = command.runner_map.as_deref().map(RunnerMap::parse).transpose();
    Ok(Request {
        base: base(command, repository.as_ref().ok()),
        project,
        repository,
        nix: Nix { store_root: command.store_root.clone(), arguments: command.nix_arg.clone() },
        rules,
        filter,
        evaluate: match command.evaluate {
            When::Auto => Evaluate::Auto,
            When::Always => Evaluate::Always,
            When::Never => Evaluate::Never,
        },
        evaluate_base: match command.evaluate_base {
            When::Auto => EvaluateBase::Auto,
            When::Always => EvaluateBase::Always,
            When::Never => EvaluateBase::Never,
        },
        policy: Policy { skip_cached: !command.build_cached, retry_unbuilt: !command.no_retry },
        workers: command.workers.map(usize::from),
        worker_memory: bytes("--worker-memory", &command.worker_memory)?,
        runners: runners.map_err(|error| Failure::usage(format!("--runner-map: {error}")))?.unwrap_or_default(),
        group: usize::from(command.group_size),
    })
}

fn base(command: &PlanCommand, repository: Option<&Repository>) -> Wish {
    let commit = |commit: &str, trust| Wish::Commit { commit: commit.to_owned(), trust };
    match (&command.base, &command.before, repository) {
        (Some(base), ..) => commit(base, Trust::Assumed),
        (None, Some(before), _) => commit(before, Trust::Planned),
        (None, None, Some(repository)) if !repository.is_dirty() => match repository.commit("HEAD^") {
            Ok(parent) => commit(&parent, Trust::Assumed),
            Err(_) => Wish::None { why: "there is no commit before this one".to_owned() },
        },
        _ => commit("HEAD", Trust::Assumed),
    }
}

/// A plan for programs.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Printed<'a> {
    base: Option<&'a str>,
    base_why: &'a str,
    rules: &'a str,
    changed: Option<&'a [String]>,
    decisions: &'a [Decision],
    matrix: &'a Matrix,
    notes: &'a [String],
}

impl<'a> Printed<'a> {
    fn of(plan: &'a Plan) -> Self {
        Self {
            base: plan.base.commit.as_deref(),
            base_why: &plan.base.why,
            rules: &plan.rules,
            changed: plan.base.changed.as_deref().ok(),
            decisions: &plan.decisions,
            matrix: &plan.matrix,
            notes: &plan.notes,
        }
    }
}

fn describe(plan: &Plan) -> String {
    let mut out = format!("{}\n", headline(plan));
    let width = plan.decisions.iter().map(|decision| decision.target.len()).max().unwrap_or(0);
    // Writing to a String cannot fail.
    for decision in &plan.decisions {
        let verdict = if decision.verdict == Verdict::Build { "build" } else { "skip " };
        let _ = writeln!(out, "{verdict}  {:width$}  {}", decision.target, decision.reason);
    }
    for entry in &plan.matrix.include {
        let _ = writeln!(out, "job    {} on {}: {}", entry.name, entry.runs_on, entry.attrs);
    }
    out
}
