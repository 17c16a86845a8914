//! `nix-cache build`.

use super::args::{ArtifactFormat, BuildCommand, Format};
use crate::app::Failure;
use crate::app::build::{absolute, carry_out, explain, verdict};
use crate::app::print::{print, print_json};
use crate::base::printing::Raw;
use crate::building::artifacts::{self, ArtifactRequest};
use crate::building::checks::{Verdict, defaults};
use crate::building::{BuildReport, Live, Request, Retry, Style};
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
    let mut checks = if command.checks { defaults() } else { Vec::new() };
    checks.retain(|usual| command.check_command.iter().all(|own| own.name != usual.name));
    checks.extend(command.check_command.iter().cloned());
    let mut targets = command.targets.clone();
    if targets.is_empty() && checks.is_empty() {
        targets.push("default".to_owned());
    }
    let folder = std::env::current_dir().map_err(Failure::work)?;
    let limits = &command.limits;
    Ok(Request {
        targets,
        flake: command.flake.clone(),
        nix_args: command.nix_args.clone(),
        jobs: limits.max_jobs,
        cores: limits.cores,
        keep_going: !limits.no_keep_going,
        retry: Retry { times: limits.retries, delay: limits.retry_delay, budget: limits.retry_budget },
        timeout: limits.timeout,
        derivation_timeout: limits.derivation_timeout,
        silent_timeout: limits.max_silent_time,
        store_root: command.store_root.as_deref().map(absolute),
        out_link: (!command.no_link).then(|| command.out_link.clone()),
        workspace: folder.clone(),
        folder,
        state: None,
        artifacts: command.artifacts.clone().map(|folder| ArtifactRequest {
            folder,
            format: match command.artifact_format {
                ArtifactFormat::NarZst => artifacts::Format::Zstd,
                ArtifactFormat::NarGz => artifacts::Format::Gzip,
            },
        }),
        checks,
    })
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
