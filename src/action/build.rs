//! The step of the action `build/`. A failed build fails the step; nothing else here does.

use std::fs;
use std::path::{Path, PathBuf};

use super::given::ActionInputs;
use super::inputs::JobArgs;
use super::{drvs, job};
use crate::action::build_inputs::BuildInputs;
use crate::action::build_outputs;
use crate::app::Failure;
use crate::app::build::{absolute, annotate, carry_out, explain, verdict};
use crate::app::drvs::build_by;
use crate::app::settings::LaneArgs;
use crate::base::env_vars;
use crate::base::note::Note;
use crate::base::printing::Raw;
use crate::building::{BuildReport, Live, Request, Style};
use crate::github::env::Facts;
use crate::github::lane::default_lane;
use crate::report::{Action, Report, machine, summary};
use crate::store::StoreDirs;

/// Builds, reports, and fails if the build failed.
pub(super) async fn build() -> Result<(), Failure> {
    let done = build_and_report().await;
    if let Err((failure, Told::No)) = &done {
        job::annotator().error("nix-cache", &failure.message);
    }
    done.map_err(|(failure, _)| failure)
}

/// Whether the failure is already on the run's page.
enum Told {
    Yes,
    No,
}

async fn build_and_report() -> Result<(), (Failure, Told)> {
    let untold = |failure: Failure| (failure, Told::No);
    let inputs = BuildInputs::from_environment().map_err(|error| untold(Failure::usage(error)))?;
    let facts = Facts::from_environment();
    let root = env_vars::path(env_vars::NIX_CACHE_STORE_ROOT);
    let mut request = request(&inputs, &facts, root.as_deref());
    let mut notes = drvs::take_notes(&facts);
    notes.extend(build_by(&mut request, inputs.planned().map_err(untold)?).await);
    if request.targets.is_empty() && request.checks.is_empty() {
        tracing::info!("`targets` is empty, so there is nothing to build.");
    }
    let style = if facts.on_github { Style::Groups } else { Style::Plain };
    let mut live = Live::new(Box::new(Raw::out()), style);
    let mut built = carry_out(&request, &mut live).await.map_err(untold)?;
    explain(&built, &mut live);
    annotate(&built, &mut job::annotator());
    tracing::info!("{}", summary::build_headline(&built));
    let path = report_path(&facts, &inputs.lane, &inputs.job);
    if !inputs.job.no_summarize && !summary::is_promised(&path) {
        match summary::write_build(&built) {
            Ok(()) => built.summarized = true,
            Err(error) => tracing::warn!("{error}"),
        }
    }
    keep((&built, notes), &path, &inputs, &facts, root.as_deref()).await;
    if let Err(error) = build_outputs::set(&built, &path) {
        tracing::warn!("{error}");
    }
    verdict(&built).map_err(|failure| (failure, Told::Yes))
}

fn request(inputs: &BuildInputs, facts: &Facts, root: Option<&Path>) -> Request {
    let folder = absolute(facts.workspace.as_deref().unwrap_or(Path::new(".")));
    let mut request = inputs.build.request(folder.clone(), root);
    request.state = Some(facts.scratch().join("substituters.json"));
    if let Some(artifacts) = &mut request.artifacts {
        artifacts.folder = folder.join(&artifacts.folder);
    }
    request
}

/// The report of this job: that of the cache in the same lane, otherwise an existing one, otherwise a new one.
pub(super) fn report_path(facts: &Facts, lane: &LaneArgs, job: &JobArgs) -> PathBuf {
    let lane = lane.lane.clone().unwrap_or_else(|| default_lane(facts, &job.matrix));
    let ours = facts.report_path(&lane);
    if ours.exists() {
        return ours;
    }
    let folders = fs::read_dir(facts.scratch()).into_iter().flatten().filter_map(Result::ok);
    let reports = folders.map(|folder| folder.path().join("report.json"));
    let newest = reports.filter_map(|report| Some((report.metadata().ok()?.modified().ok()?, report))).max();
    newest.map_or(ours, |(_, report)| report)
}

/// The report at `path`, or otherwise a new one of a job that does no more than `action`.
pub(super) async fn report_of_job(
    path: &Path,
    action: Action,
    facts: &Facts,
    (lane, job): (&LaneArgs, &JobArgs),
    root: Option<&Path>,
) -> Report {
    if let Ok(report) = Report::read(path) {
        return report;
    }
    let lane = lane.lane.clone().unwrap_or_else(|| default_lane(facts, &job.matrix));
    let mut report = Report::new(action, facts, &lane);
    let dirs = StoreDirs::new(root);
    report.job.status = job.job_status;
    report.machine = machine::describe(&dirs, facts.environment, machine::free_space(&dirs)).await;
    report
}

/// Adds the build to the report of the job.
async fn keep(
    (built, notes): (&BuildReport, Vec<Note>),
    path: &Path,
    inputs: &BuildInputs,
    facts: &Facts,
    root: Option<&Path>,
) {
    let mut report = report_of_job(path, Action::Build, facts, (&inputs.lane, &inputs.job), root).await;
    report.builds.push(built.clone());
    report.job.ended = crate::base::clock::now();
    for note in notes {
        report.note(note);
    }
    if let Err(error) = report.write(path) {
        tracing::warn!("{error}");
    }
}
