//! The action `plan`: from the event to the outputs.

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::given::ActionInputs;
use super::history::{add_step, is_left_to_post};
use super::job::{Job, Lookup, Place, annotator};
use crate::action::plan_inputs::PlanInputs;
use crate::app::Failure;
use crate::app::drvs::{self, drvs_key};
use crate::app::known::{Caches, plan_key};
use crate::app::plan::{headline, keep, no_plan};
use crate::base::env_vars;
use crate::building::Category;
use crate::cache::Context;
use crate::flake::KeyRequest;
use crate::github::env::Facts;
use crate::github::event::Event;
use crate::github::status::JobStatus;
use crate::history::Failed;
use crate::plan::{self, FetchToken, Plan, Repository, Request, Trust, Verdict, Wish};
use crate::report::{Action, Plan as Figures, Report, machine, page};

/// Largest output with reasons in bytes: GitHub allows 1 MiB for a job's outputs.
const MOST_REASONS: usize = 512 << 10;
/// Longest time for the history.
const LIMIT: Duration = Duration::from_secs(20);

/// Plans, sets the outputs, and stores the plan for later ones. Unlike problems with the cache, a failed plan fails the job:
/// without it, the following jobs would build nothing.
pub(super) async fn run() -> Result<(), Failure> {
    let inputs = PlanInputs::from_environment().map_err(Failure::usage)?;
    let mut job = Job::with(inputs.of_the_job().map_err(Failure::usage)?)?;
    let event = Event::read(&job.facts.event, job.facts.event_path.as_deref());
    let request = request(&inputs, &job, &event)?;
    let place = job.place(None).inspect_err(|error| job.note_no_cache(error)).ok();
    let key = job.key_request();
    let (prefix, plan_key) = (key.prefix.clone(), plan_key(&key.prefix));
    let caches = Caches {
        remote: place.as_ref().map(|place| place.remote.clone()),
        plan_key: plan_key.clone(),
        key: KeyRequest { ..key },
        keys: job.keys.clone(),
        substituters: !inputs.plan.no_substituters,
    };
    let planned = plan::plan(&request, &caches).await;
    if let Err(error) = &planned
        && !error.is_of_usage()
    {
        remember(&mut job, place.as_ref(), Planned::Failed).await;
    }
    let mut plan = planned.map_err(no_plan)?;
    caches.name_keys(&mut plan.matrix);
    tracing::info!("{}", headline(&plan));
    for decision in &plan.decisions {
        let verdict = if decision.verdict == Verdict::Build { "build" } else { "skip" };
        tracing::info!("{verdict} {}: {}", decision.target, decision.reason);
    }
    if let Some(place) = place.as_ref().filter(|_| !inputs.no_evaluate_once && !inputs.save.when.is_never()) {
        let lookup = Lookup { primary: drvs_key(&prefix), prefixes: Vec::new(), lock: String::new() };
        hand_over(drvs::context(job.context(place, &lookup)), job.inputs.save_timeout(), &mut plan).await;
    }
    set_outputs(&plan)?;
    report(&plan, &inputs);
    remember(&mut job, place.as_ref(), Planned::Done(figures(&plan))).await;
    if let Some(place) = place.filter(|_| is_kept(&inputs, &event))
        && let Err(error) = keep(&*place.remote, &plan_key, &job.keys, &plan).await
    {
        tracing::warn!("The plan is not stored: {error} The next one compares with an older commit and builds more.");
    }
    Ok(())
}

/// What there is to remember of a plan.
enum Planned {
    Done(Figures),
    Failed,
}

fn figures(plan: &Plan) -> Figures {
    Figures {
        targets: plan.decisions.len() as u64,
        skipped: plan.decisions.iter().filter(|decision| decision.verdict == Verdict::Skip).count() as u64,
        jobs: plan.matrix.include.len() as u64,
        evaluation_ms: plan.evaluation_ms,
    }
}

/// Adds the plan to the report of the job, and to the history unless a later step does so. Trouble changes nothing.
async fn remember(job: &mut Job, place: Option<&Place>, planned: Planned) {
    job.report.action = Action::Plan;
    if let Ok(before) = Report::read(&job.report_path) {
        let status = job.report.job.status;
        job.report = before;
        job.report.job.status = status;
    }
    if job.report.machine.system.is_empty() {
        let free = machine::free_space(&job.dirs);
        job.report.machine = machine::describe(&job.dirs, job.facts.environment, free).await;
    }
    let failed = match planned {
        Planned::Done(figures) => {
            job.report.plan = Some(figures);
            None
        }
        Planned::Failed => {
            job.report.plan = Some(Figures::default());
            job.report.job.status = JobStatus::Failure;
            let category = Category::Evaluation.word().to_owned();
            Some(Failed { name: "plan".to_owned(), category, transient: false })
        }
    };
    job.write_report();
    let Some(place) = place.filter(|_| !job.inputs.history.is_off() && !is_left_to_post(&job.report)) else {
        return;
    };
    if tokio::time::timeout(LIMIT, add_step(job, place, failed)).await.is_err() {
        tracing::info!("The cache did not answer in time, so this plan is not in the history.");
    }
}

/// Saves the derivations of `plan` within `limit` and puts them into its matrix. Without them, the jobs evaluate.
async fn hand_over(context: Context, limit: Duration, plan: &mut Plan) {
    if tokio::time::timeout(limit, drvs::save(context, plan)).await.is_err() {
        drvs::not_saved(plan, &format!("saving them took longer than {} s, the `save-timeout`.", limit.as_secs()));
    }
}

fn request(inputs: &PlanInputs, job: &Job, event: &Result<Event, String>) -> Result<Request, Failure> {
    let project = job.project().join(&inputs.flake);
    let project = project.canonicalize().map_err(|error| {
        Failure::usage(format!("The input \"flake\" is {}, which cannot be found: {error}.", project.display()))
    })?;
    let token = job.inputs.secrets.token.as_ref().zip(job.facts.server_url.clone());
    let token = token.map(|(token, server)| FetchToken { server, token: token.expose_secret().to_owned() });
    inputs.plan.request(project, &job.project(), token, job.dirs.root(), |repository| {
        match (&inputs.plan.base, repository) {
            (Some(base), _) => Wish::Commit { commit: base.clone(), trust: Trust::Assumed },
            (None, Ok(repository)) => wish(event, &job.facts, repository),
            (None, Err(why)) => Wish::None { why: why.trim_end_matches('.').to_owned() },
        }
    })
}

/// The commit to compare with, according to the event.
pub(super) fn wish(event: &Result<Event, String>, facts: &Facts, repository: &Repository) -> Wish {
    let commit = |commit: &str, trust| Wish::Commit { commit: commit.to_owned(), trust };
    match event {
        Err(why) => Wish::None { why: why.clone() },
        Ok(Event::Push { before: Some(before), .. }) => commit(before, Trust::Planned),
        Ok(Event::Push { before: None, default_branch }) => first_push(facts, repository, default_branch),
        Ok(Event::MergeGroup { base }) => commit(base, Trust::Assumed),
        Ok(Event::PullRequest { base }) => {
            // For a pull request, a merge is checked out, whose first parent is newer than the base in the event.
            let head = repository.head().unwrap_or_default();
            match repository.parents(&head).unwrap_or_default().as_slice() {
                [first, _] if head == facts.sha => commit(first, Trust::Assumed),
                _ => {
                    let _ = repository.fetch(base);
                    commit(&repository.merge_base(&head, base).unwrap_or_else(|| base.clone()), Trust::Assumed)
                }
            }
        }
        Ok(Event::Other(name)) => {
            Wish::None { why: format!("the event `{name}` changes nothing, so everything counts as changed") }
        }
    }
}

/// For a new ref: a branch is compared with the default branch, a tag with nothing.
fn first_push(facts: &Facts, repository: &Repository, default_branch: &str) -> Wish {
    let none = |why: &str| Wish::None { why: why.to_owned() };
    match facts.git_ref.strip_prefix("refs/heads/") {
        None => none("this is a new tag"),
        Some(branch) if branch == default_branch || default_branch.is_empty() => none("this is the first push"),
        Some(_) => match repository.remote_branch(default_branch) {
            Ok(commit) => Wish::Commit { commit, trust: Trust::Planned },
            Err(error) => {
                Wish::None { why: format!("the branch is new, and {default_branch} is not available: {error}") }
            }
        },
    }
}

/// Pull requests and merge queues are never the base of a plan, and no other job can read their entries.
fn is_kept(inputs: &PlanInputs, event: &Result<Event, String>) -> bool {
    let passing = matches!(event, Ok(Event::PullRequest { .. } | Event::MergeGroup { .. }));
    !inputs.save.when.is_never() && !passing
}

fn set_outputs(plan: &Plan) -> Result<(), Failure> {
    if std::env::var_os(env_vars::GITHUB_OUTPUT).is_none() {
        return Ok(());
    }
    for (name, value) in outputs(plan) {
        actions_rs::output::set_output(name, value)
            .map_err(|error| Failure::work(format!("Cannot set the output \"{name}\": {error}.")))?;
    }
    Ok(())
}

fn outputs(plan: &Plan) -> [(&'static str, String); 5] {
    let names = |verdict: Verdict| {
        let of = plan.decisions.iter().filter(|decision| decision.verdict == verdict);
        Value::from(of.map(|decision| decision.target.as_str()).collect::<Vec<_>>()).to_string()
    };
    [
        ("matrix", json!(plan.matrix).to_string()),
        ("any-jobs", (!plan.matrix.include.is_empty()).to_string()),
        ("affected", names(Verdict::Build)),
        ("skipped", names(Verdict::Skip)),
        ("reason", reasons(plan)),
    ]
}

/// The reason for each target; if there is not enough room for all, targets to build come first.
fn reasons(plan: &Plan) -> String {
    let mut room = MOST_REASONS;
    let mut order: Vec<_> = plan.decisions.iter().collect();
    order.sort_by_key(|decision| decision.verdict);
    let one = |decision: &plan::Decision| json!({"verdict": decision.verdict, "level": decision.level, "reason": decision.reason});
    let all: BTreeMap<&str, Value> = order
        .into_iter()
        .map(|decision| (decision.target.as_str(), one(decision)))
        .take_while(|(target, reason)| {
            let bytes = target.len() + reason.to_string().len() + 8;
            let fits = bytes <= room;
            room = room.saturating_sub(bytes);
            fits
        })
        .collect();
    json!(all).to_string()
}

fn report(plan: &Plan, inputs: &PlanInputs) {
    let mut annotator = annotator();
    for note in &plan.notes {
        annotator.warning("nix-cache", note);
    }
    annotator.finish();
    if inputs.job.no_summarize {
        return;
    }
    let mut sentences = vec![headline(plan), format!("Rules: {}.", plan.rules)];
    sentences.extend(plan.notes.iter().cloned());
    let level = |decision: &plan::Decision| json!(decision.level).as_str().unwrap_or_default().to_owned();
    let row = |decision: &plan::Decision| {
        let verdict = if decision.verdict == Verdict::Build { "build" } else { "skip" };
        vec![decision.target.clone(), verdict.to_owned(), level(decision), decision.reason.clone()]
    };
    let mut decisions: Vec<_> = plan.decisions.iter().collect();
    decisions.sort_by_key(|decision| decision.verdict);
    let rows: Vec<_> = decisions.into_iter().map(row).collect();
    page::write("Build plan", &sentences, &["Target", "", "Decided by", "Why"], &rows);
}

#[cfg(test)]
#[path = "plan_test.rs"]
mod tests;
