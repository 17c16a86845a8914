//! The three steps of the action `warm`:
//!
//! 1. [`prepare`], with the tokens: finds the pull request, if one is asked for, and restores.
//! 2. [`realise`], without any token, because it runs the code of the flake: fetches and builds.
//! 3. [`save`], with the tokens again: saves, touches, and reports.
//!
//! A file in the runner's temporary folder tells each step what the one before it did.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::given::ActionInputs;
use super::job::{Job, annotator};
use super::warm_inputs::WarmInputs;
use super::{Step, outputs, post, restore};
use crate::app::Failure;
use crate::app::place::remote;
use crate::app::warm::lock_bump::{BumpRequest, Bumped, prepare as copy_with_lock};
use crate::app::warm::{State, TouchPlace, Touched, WarmReport, WarmRequest, realise as carry_out, shelf, touch};
use crate::base::bounds::{from_json, read_file};
use crate::base::env_vars;
use crate::base::printing::Raw;
use crate::building::{BuildReport, Live, Style};
use crate::cache::snapshot_names;
use crate::github::env::Facts;
use crate::github::lane::default_lane;
use crate::plan::{Nix, Repository};
use crate::remote::Remote;
use crate::remote::github::{Pulls, RestConfig, Tuning};
use crate::report::{Report, page};

/// The file that the steps share, and the folder with the copy of the branch.
const FILE: &str = "warm.json";
const COPY: &str = "warm-branch";
/// More bytes than the file has.
const MOST: u64 = 16 << 20;
/// Events that nobody outside of the repository can cause, and whose jobs may write the caches of the default branch.
const EVENTS: [&str; 5] = ["push", "repository_dispatch", "schedule", "workflow_dispatch", "workflow_run"];
/// Time for touching.
const TOUCH_TIME: Duration = Duration::from_mins(5);

/// The first step.
pub(super) async fn prepare() -> Result<(), Failure> {
    let (inputs, mut job) = begin()?;
    let (file, copy) = (job.facts.scratch().join(FILE), job.facts.scratch().join(COPY));
    // Those of an earlier use in the same job.
    let _ = fs::remove_file(&file);
    let _ = fs::remove_dir_all(&copy);
    if inputs.warm.pull_request.is_some() {
        let report = match follow(&inputs, &job, &copy).await? {
            Ok(bumped) => WarmReport { pull_request: Some(bumped.pull), ..WarmReport::default() },
            Err(why) => WarmReport::skipped(&why),
        };
        write(&file, &report)?;
        if let Some(why) = &report.skipped {
            tracing::info!("Nothing is warmed: {why}");
            return Ok(());
        }
        job.facts.workspace = Some(copy);
    }
    restore::restore(&mut job).await
}

fn begin() -> Result<(WarmInputs, Job), Failure> {
    let inputs = WarmInputs::from_environment().map_err(Failure::usage)?;
    let job = Job::with(inputs.of_the_job().map_err(Failure::usage)?)?;
    Ok((inputs, job))
}

/// Copies the branch with the lock file of the pull request; or says why it does not.
async fn follow(inputs: &WarmInputs, job: &Job, copy: &Path) -> Result<Result<Bumped, String>, Failure> {
    let Some(wanted) = &inputs.warm.pull_request else { return Ok(Err("no pull request is asked for".to_owned())) };
    let facts = &job.facts;
    if !EVENTS.contains(&&*facts.event) {
        return Err(Failure::usage(format!(
            "The input \"pull-request\" cannot be used for the event {:?}, whose jobs run code of others or may not write to the cache. \
             Use one of {} (examples/warm.yml).",
            facts.event,
            EVENTS.join(", ")
        )));
    }
    let project = job.project().join(&inputs.flake);
    let head = Repository::open(&project, None).and_then(|repository| repository.head());
    if head.as_ref().is_ok_and(|head| *head != facts.sha) {
        return Err(Failure::usage(format!(
            "The commit in the workspace is not that of this run, {}. With the input \"pull-request\", check out the default branch: \
             leave `ref` of actions/checkout away.",
            facts.sha
        )));
    }
    let rest = RestConfig::from_env(|name| job.variable(name)).ok_or_else(|| {
        Failure::usage("The input \"pull-request\" needs a token with `pull-requests: read` and `contents: read`.")
    })?;
    let pulls = Pulls::new(&rest, Tuning::from_env(), env_vars::ca_file().as_deref()).map_err(Failure::work)?;
    fs::create_dir_all(copy).map_err(Failure::work)?;
    let authors = &inputs.warm.trusted_authors;
    let request = BumpRequest { wanted, authors, project: &project, git_ref: Some(&facts.git_ref), into: copy };
    Ok(copy_with_lock(&pulls, &request).await)
}

/// The second step. It fails only if there is no Nix or an input is wrong: what cannot be built is reported.
pub(super) async fn realise() -> Result<(), Failure> {
    let inputs = WarmInputs::from_environment().map_err(Failure::usage)?;
    let facts = Facts::from_environment();
    let file = facts.scratch().join(FILE);
    let before = read(&file);
    if before.skipped.is_some() {
        return Ok(());
    }
    let request = request(&inputs, &facts, before.pull_request.is_some())?;
    let style = if facts.on_github { Style::Groups } else { Style::Plain };
    let mut live = Live::new(Box::new(Raw::out()), style);
    let (report, builds) = carry_out(&request, &mut live).await?;
    let report = WarmReport { pull_request: before.pull_request, ..report };
    write(&file, &report)?;
    keep(builds, &facts, &inputs);
    let mut annotator = annotator();
    for target in report.targets.iter().filter(|target| target.state != State::Warmed) {
        annotator.warning("nix-cache", &format!("Not warmed: {}: {}.", target.name, target.why));
    }
    annotator.finish();
    Ok(())
}

fn request(inputs: &WarmInputs, facts: &Facts, is_bump: bool) -> Result<WarmRequest, Failure> {
    let workspace = facts.workspace.clone().unwrap_or_else(|| PathBuf::from("."));
    let project = if is_bump { facts.scratch().join(COPY) } else { workspace }.join(&inputs.flake);
    let project = project.canonicalize().map_err(|error| {
        Failure::usage(format!("The input \"flake\" is {}, which cannot be found: {error}.", project.display()))
    })?;
    let settings = &inputs.warm;
    let mut arguments = settings.nix_arg.clone();
    if is_bump {
        // A lock file that does not fit the flake must not be completed with what it does not say.
        arguments.push("--no-update-lock-file".to_owned());
    }
    Ok(WarmRequest {
        project,
        nix: Nix { store_root: env_vars::path(env_vars::NIX_CACHE_STORE_ROOT), arguments },
        targets: settings.targets.clone(),
        inputs: !settings.no_flake_inputs,
        feeds_from: (!settings.no_feeds && !is_bump).then(|| settings.feeds_from.clone()),
        end: Instant::now() + settings.warm_timeout,
        state: Some(facts.scratch().join("substituters.json")),
    })
}

/// Adds the builds to the report of the job, which the last step shows.
fn keep(builds: Vec<BuildReport>, facts: &Facts, inputs: &WarmInputs) {
    let lane = inputs.lane.lane.clone().unwrap_or_else(|| default_lane(facts, &inputs.job.matrix));
    let path = facts.report_path(&lane);
    let added = Report::read(&path).map(|mut report| {
        report.builds.extend(builds);
        report.write(&path)
    });
    match added {
        Ok(Ok(())) => {}
        Ok(Err(error)) | Err(error) => tracing::debug!("the builds are not in the report: {error}"),
    }
}

/// The third step.
pub(super) async fn save() -> Result<(), Failure> {
    let (inputs, mut job) = begin()?;
    let file = job.facts.scratch().join(FILE);
    let mut report = read(&file);
    if report.skipped.is_none() {
        if report.pull_request.is_some() {
            job.facts.workspace = Some(job.facts.scratch().join(COPY));
        }
        post::save(&mut job, Step::Save).await?;
        if !inputs.warm.no_touch && report.pull_request.is_none() {
            report.touched = touch_newest(&mut job).await;
        }
        write(&file, &report)?;
    }
    for sentence in report.sentences() {
        tracing::info!("{sentence}");
    }
    if !inputs.job.no_summarize {
        let rows: Vec<Vec<String>> = report
            .targets
            .iter()
            .map(|target| vec![target.name.clone(), target.state.word().to_owned(), target.why.clone()])
            .collect();
        page::write("Warming of the cache", &report.sentences(), &["Target", "", "Why"], &rows);
    }
    outputs::set_all(outputs(&report, &file)).map_err(Failure::work)
}

/// Touches what the newest snapshots name, without the limits of a step's lookups.
async fn touch_newest(job: &mut Job) -> Option<Touched> {
    let lookup = job.key().ok()?;
    let place = job.place(None).inspect_err(|error| tracing::debug!("nothing is touched: {error}")).ok()?;
    let remote: Arc<dyn Remote> = match &place.github {
        Some(github) => github.clone(),
        None => remote(&job.remote_name()).ok()?,
    };
    let shelf = shelf(&job.remote_name(), RestConfig::from_env(|name| job.variable(name)));
    let scope = if place.github.is_some() { &*job.facts.git_ref } else { "" };
    let names = snapshot_names(&job.context(&place, &lookup));
    let place = TouchPlace { remote: &*remote, shelf: shelf.as_deref(), scope, keys: &job.keys, names };
    let touched = tokio::time::timeout(TOUCH_TIME, touch(&place)).await;
    touched
        .inspect_err(|_| tracing::warn!("Reading what must stay took longer than {TOUCH_TIME:?} and was stopped."))
        .ok()
}

fn outputs(report: &WarmReport, file: &Path) -> Vec<(&'static str, String)> {
    let names = |state| serde_json::Value::from(report.names(state)).to_string();
    vec![
        ("warmed", names(State::Warmed)),
        ("failed", names(State::Failed)),
        ("left", names(State::Left)),
        ("touched", report.touched.as_ref().map_or(0, |touched| touched.entries).to_string()),
        ("pull-request", report.pull_request.as_ref().map_or_else(String::new, |pull| pull.number.to_string())),
        ("report", file.display().to_string()),
    ]
}

fn read(file: &Path) -> WarmReport {
    read_file(file, MOST).ok().and_then(|bytes| from_json(&bytes).ok()).unwrap_or_default()
}

fn write(file: &Path, report: &WarmReport) -> Result<(), Failure> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let text = serde_json::to_vec_pretty(report).map_err(Failure::work)?;
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(file, text));
    written.map_err(|error| Failure::work(format!("Cannot write {}: {error}.", file.display())))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::outputs::declared;
    use super::*;

    #[test]
    fn the_action_declares_just_what_is_set() {
        let all = outputs(&WarmReport::default(), Path::new("/r"));
        let set: BTreeSet<_> = all.iter().map(|(name, _)| *name).collect();
        let file = include_str!("../../warm/action.yml");
        assert_eq!(declared(file), set);
        assert!(declared(include_str!("../../hook/action.yml")).is_superset(&set));
    }

    #[test]
    fn the_step_that_builds_gets_no_secret_input() {
        let file = include_str!("../../warm/action.yml");
        let (_, step) = file.split_once("run: exec").unwrap();
        let (step, _) = step.split_once("- id: save").unwrap();
        assert!(!step.contains("toJSON(inputs)") && !step.contains("token") && !step.contains("signing"), "{step}");
        // What it gets are inputs, and every one that decides what is built is among them.
        for name in ["flake", "targets", "flake-inputs", "warm-timeout", "feeds", "feeds-from", "nix-args", "lane"] {
            assert!(step.contains(&format!("\"{name}\": ${{{{ toJSON(inputs.{name}) }}}}")), "{name}");
        }
    }
}
