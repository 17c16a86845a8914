//! The action `prune`: plans, deletes if `apply` says so, and reports.

use std::fs;
use std::path::PathBuf;

use super::given::ActionInputs;
use super::job::{Job, annotator};
use super::outputs;
use super::prune_inputs::PruneInputs;
use crate::app::Failure;
use crate::app::print::print;
use crate::app::prune::{Target, prune, verdict};
use crate::base::human;
use crate::prune::{PruneReport, table};
use crate::remote::github::RestConfig;
use crate::report::page;

/// Prunes the cache of the repository.
pub(super) async fn run() -> Result<(), Failure> {
    let inputs = PruneInputs::from_environment().map_err(Failure::usage)?;
    let job = Job::with(inputs.of_the_job().map_err(Failure::usage)?)?;
    let target = target(&job)?;
    let report = prune(&target, &inputs.prune).await?;
    print(&table(&report));
    let path = write(&job, &report)?;
    outputs::set_all(vec![
        ("entries-planned", report.planned.len().to_string()),
        ("entries-deleted", report.deleted_entries.to_string()),
        ("bytes-deleted", report.deleted_bytes.to_string()),
        ("report", path.display().to_string()),
    ])
    .map_err(Failure::work)?;
    if !inputs.job.no_summarize {
        summarize(&report);
    }
    if let Some(error) = &report.ended {
        let mut annotator = annotator();
        annotator.warning("nix-cache", &error.to_string());
        annotator.finish();
    }
    verdict(&report)
}

/// The cache of this job.
fn target(job: &Job) -> Result<Target, Failure> {
    if let Some(target) = Target::elsewhere(&job.remote_name())? {
        return Ok(target);
    }
    let rest = RestConfig::from_env(|name| job.variable(name));
    // Without the cache service, entries can still be listed, and what they may name stays.
    let github = job.place(None).inspect_err(|error| tracing::warn!("{error}")).ok().and_then(|place| place.github);
    Target::github(rest, github, &job.facts.git_ref)
}

/// Writes the report as JSON and returns its path.
fn write(job: &Job, report: &PruneReport) -> Result<PathBuf, Failure> {
    let path = job.facts.scratch().join("prune.json");
    let written = fs::create_dir_all(job.facts.scratch())
        .and_then(|()| fs::write(&path, serde_json::to_vec_pretty(report).unwrap_or_default()));
    written.map_err(|error| Failure::work(format!("Cannot write the report to {}: {error}.", path.display())))?;
    Ok(path)
}

fn summarize(report: &PruneReport) {
    let row = |(reason, count, bytes): (crate::prune::Reason, u64, u64)| {
        vec![reason.text().to_owned(), human::number(count), human::bytes(bytes)]
    };
    let rows: Vec<_> = report.by_reason().into_iter().map(row).collect();
    let head = ["Entries", "Number", "Size"];
    page::write("Pruning of the cache", &report.sentences(), &head, &rows);
}
