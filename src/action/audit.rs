//! The step of the action `audit/`. Only findings that the policy forbids, and unusable user input, fail it.

use std::path::{Path, PathBuf};

use super::audit_inputs::AuditInputs;
use super::build::{report_of_job, report_path};
use super::given::ActionInputs;
use super::job;
use super::outputs::set_all;
use super::plan::wish;
use crate::app::Failure;
use crate::app::audit::{AuditRequest, Audited, Files, carry_out, verdict, write_files};
use crate::audit::output::{annotations, summary};
use crate::base::{clock, env_vars};
use crate::github::env::Facts;
use crate::github::event::Event;
use crate::plan::{Repository, Wish};
use crate::report::{Action, page};

/// Audits, reports, and fails according to the policy.
pub(super) async fn run() -> Result<(), Failure> {
    let inputs = AuditInputs::from_environment().map_err(Failure::usage)?;
    let facts = Facts::from_environment();
    let workspace = facts.workspace.clone().unwrap_or_else(|| PathBuf::from("."));
    let audited = carry_out(&request(&inputs, &facts, &workspace)).await?;
    tracing::info!("{}", audited.report.headline());
    let folder = facts.scratch().join("audit");
    let json = folder.join("audit.json");
    let sarif = inputs.audit.sarif.as_ref().map_or_else(|| folder.join("audit.sarif"), |file| workspace.join(file));
    let sbom = inputs.audit.sbom.as_ref().map(|file| workspace.join(file));
    write_files(&audited, &Files { sarif: Some(&sarif), json: Some(&json), sbom: sbom.as_deref() })?;
    if !inputs.no_annotate {
        annotations::annotate(&audited.report, &mut job::annotator());
    }
    if !inputs.job.no_summarize {
        let (sentences, rows) = (summary::sentences(&audited.report), summary::rows(&audited.report));
        page::write("Audit", &sentences, &summary::HEAD, &rows);
    }
    keep(&audited, &inputs, &facts).await;
    if let Err(error) = set_all(outputs(&audited, &sarif, &json)) {
        tracing::warn!("{error}");
    }
    verdict(&audited)
}

/// Adds the audit to the report of the job, for the history.
async fn keep(audited: &Audited, inputs: &AuditInputs, facts: &Facts) {
    let root = env_vars::path(env_vars::NIX_CACHE_STORE_ROOT);
    let path = report_path(facts, &inputs.lane, &inputs.job);
    let mut report = report_of_job(&path, Action::Audit, facts, (&inputs.lane, &inputs.job), root.as_deref()).await;
    let found = audited.report.figures();
    report.audit = Some(report.audit.map_or(found, |before| before.and(&found)));
    report.job.ended = clock::now();
    if let Err(error) = report.write(&path) {
        tracing::warn!("{error}");
    }
}

fn request(inputs: &AuditInputs, facts: &Facts, workspace: &Path) -> AuditRequest {
    let project = workspace.join(&inputs.flake);
    let mut request = inputs.audit.request(project, workspace);
    request.store_root = env_vars::path(env_vars::NIX_CACHE_STORE_ROOT);
    request.base = request.base.or_else(|| {
        let event = Event::read(&facts.event, facts.event_path.as_deref());
        let repository = Repository::open(&request.project, None).ok()?;
        match wish(&event, facts, &repository) {
            Wish::Commit { commit, .. } => Some(commit),
            Wish::None { why } => {
                tracing::info!("Nothing is compared: {why}.");
                None
            }
        }
    });
    request
}

fn outputs(audited: &Audited, sarif: &Path, json: &Path) -> Vec<(&'static str, String)> {
    let report = &audited.report;
    let new = report.findings.iter().filter(|finding| finding.is_new == Some(true)).count();
    vec![
        ("findings", report.findings.len().to_string()),
        ("new-findings", report.compared_with.as_ref().map_or_else(String::new, |_| new.to_string())),
        ("sarif", sarif.display().to_string()),
        ("report", json.display().to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::outputs::declared;
    use super::*;
    use crate::audit::policy::Policy;
    use crate::audit::report::Report;

    #[test]
    fn the_action_declares_just_what_is_set() {
        let audited = Audited { report: Report::default(), policy: Policy::default() };
        let all = outputs(&audited, Path::new("/s"), Path::new("/r"));
        let set: BTreeSet<_> = all.iter().map(|(name, _)| *name).collect();
        assert_eq!(declared(include_str!("../../audit/action.yml")), set);
    }
}
