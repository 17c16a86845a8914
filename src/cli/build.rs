//! `nix-cache build`.

use std::sync::Arc;
use std::time::Instant;

use super::args::{BuildCommand, Format};
use super::verbs;
use crate::app::build::{carry_out, explain, verdict};
use crate::app::drvs::build_by;
use crate::app::place::remote;
use crate::app::print::{print, print_json};
use crate::app::settings::DrvsArgs;
use crate::app::{self, Failure};
use crate::base::printing::Raw;
use crate::building::checks::Verdict;
use crate::building::drvs::{self, Drvs};
use crate::building::{BuildReport, Live, Outcome, Request, Style};
use crate::remote::Remote;
use crate::report::summary::build_headline;
use crate::store::StoreDirs;

/// Builds and prints the result.
pub(super) async fn build(command: &BuildCommand) -> Result<(), Failure> {
    let mut request = request(command)?;
    let planned = drvs::parse(&request.targets, command.drvs.drvs.as_deref().unwrap_or_default());
    let planned = planned.map_err(|error| Failure::usage(format!("--drvs: {error}")))?;
    if let (false, Some(name)) = (planned.is_empty(), &command.remote) {
        restore(command, remote(name)?, &planned).await?;
    }
    build_by(&mut request, planned).await;
    let mut live = Live::new(Box::new(Raw::err()), Style::Plain);
    let report = carry_out(&request, &mut live).await?;
    explain(&report, &mut live);
    match command.output.format {
        Format::Json => print_json(&report)?,
        Format::Text => print(&describe(&report)),
    }
    verdict(&report)
}

/// Restores the derivations of a plan. Missing ones are evaluated.
async fn restore(command: &BuildCommand, remote: Arc<dyn Remote>, planned: &Drvs) -> Result<(), Failure> {
    let DrvsArgs { prefix_key, restore, trust, .. } = &command.drvs;
    let dirs = StoreDirs::new(command.root.store_root.as_deref());
    let mut context = app::drvs::local(remote, prefix_key, verbs::keys(None, trust)?, dirs);
    context.place.mode = verbs::mode(restore);
    context.place.deadline = Some(Instant::now() + restore.restore_timeout);
    app::drvs::restore(&context, planned).await;
    Ok(())
}

fn request(command: &BuildCommand) -> Result<Request, Failure> {
    let folder = std::env::current_dir().map_err(Failure::work)?;
    let mut request = command.build.request(folder, command.root.store_root.as_deref());
    if request.targets.is_empty() && request.checks.is_empty() {
        request.targets.push("default".to_owned());
    }
    if command.no_link {
        request.out_link = None;
    }
    Ok(request)
}

fn describe(report: &BuildReport) -> String {
    // What failed is said once, as the error of the program.
    let is_well = report.outcome == Outcome::Succeeded;
    let mut out = if is_well { format!("{}\n", build_headline(report)) } else { String::new() };
    let checks = report.checks.iter().map(|check| match check.verdict {
        Verdict::Passed => format!("check {}: passed\n", check.name),
        Verdict::Failed => format!("check {}: failed, {}\n", check.name, check.reason),
        Verdict::NotRun => format!("check {}: not run, {}\n", check.name, check.reason),
    });
    out.extend(checks);
    out.extend(report.paths.iter().map(|path| format!("{path}\n")));
    out.extend(report.artifacts.iter().map(|artifact| format!("{}\n", artifact.file)));
    out
}
