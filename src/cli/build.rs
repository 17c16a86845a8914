//! `nix-cache build`.

use super::args::{BuildCommand, Format};
use crate::app::Failure;
use crate::app::build::{carry_out, explain, verdict};
use crate::app::print::{print, print_json};
use crate::base::printing::Raw;
use crate::building::checks::Verdict;
use crate::building::{BuildReport, Live, Request, Style};
use crate::report::summary::build_headline;

/// Builds and prints the result.
pub(super) async fn build(command: &BuildCommand) -> Result<(), Failure> {
    let request = request(command)?;
    let mut live = Live::new(Box::new(Raw::err()), Style::Plain);
    let report = carry_out(&request, &mut live).await?;
    explain(&report, &mut live);
    match command.format {
        Format::Json => print_json(&report)?,
        Format::Text => print(&describe(&report)),
    }
    verdict(&report)
}

fn request(command: &BuildCommand) -> Result<Request, Failure> {
    let folder = std::env::current_dir().map_err(Failure::work)?;
    let mut request = command.build.request(folder, command.store_root.as_deref());
    if request.targets.is_empty() && request.checks.is_empty() {
        request.targets.push("default".to_owned());
    }
    if command.no_link {
        request.out_link = None;
    }
    Ok(request)
}

fn describe(report: &BuildReport) -> String {
    let mut out = format!("{}\n", build_headline(report));
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
