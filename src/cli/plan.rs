//! `nix-cache plan`.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use super::plan_args::{PlanCommand, PlanFormat};
use super::{show, verbs};
use crate::app::Failure;
use crate::app::drvs;
use crate::app::known::{Caches, plan_key};
use crate::app::place::remote;
use crate::app::plan::{headline, keep, no_plan};
use crate::app::print::{print, print_json};
use crate::plan::{self, Decision, Matrix, Plan, Repository, Request, Trust, Verdict, Wish};
use crate::store::StoreDirs;

/// Plans and prints the plan.
pub(super) async fn plan(command: &PlanCommand) -> Result<(), Failure> {
    let request = request(command)?;
    let remote = command.remote.as_deref().map(remote).transpose()?;
    let key = show::request(&command.project);
    let (prefix, plan_key) = (key.prefix.clone(), plan_key(&key.prefix));
    let keys = verbs::keys(command.signing.signing_key_file.as_deref(), &command.signing.trust)?;
    let caches = Caches {
        remote: remote.clone(),
        plan_key: plan_key.clone(),
        key,
        keys: keys.clone(),
        substituters: !command.plan.no_substituters,
    };
    let mut plan = plan::plan(&request, &caches).await.map_err(no_plan)?;
    caches.name_keys(&mut plan.matrix);
    if let (true, Some(remote)) = (command.save_drvs, &remote) {
        let dirs = StoreDirs::new(command.root.store_root.as_deref());
        drvs::save(drvs::local(remote.clone(), &prefix, keys.clone(), dirs), &mut plan).await;
    }
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
    let project = &command.project.project;
    let project = project
        .canonicalize()
        .map_err(|error| Failure::usage(format!("Cannot find the project {}: {error}.", project.display())))?;
    command.plan.request(project, Path::new(""), None, command.root.store_root.as_deref(), |repository| {
        base(command, repository.as_ref().ok())
    })
}

fn base(command: &PlanCommand, repository: Option<&Repository>) -> Wish {
    let commit = |commit: &str, trust| Wish::Commit { commit: commit.to_owned(), trust };
    match (&command.plan.base, &command.before, repository) {
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
