//! `nix-cache build`, and what it shares with the action of that name.

use std::io;
use std::path::{Path, PathBuf};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::Failure;
use super::args::{ArtifactFormat, BuildCommand, Format};
use super::logging::{print, print_json};
use crate::building::artifacts::{self, ArtifactRequest};
use crate::building::checks::{Verdict, defaults};
use crate::building::{self, BuildReport, Live, Outcome, Request, Retry, Style};
use crate::printing::Raw;
use crate::runner::annotate::{Annotator, Place};
use crate::runner::summary::build_headline;

/// Longest excerpt of a log in an annotation, in lines.
const LINES: usize = 15;

/// Builds and prints what came of it.
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

/// Builds until it is done or somebody stops this program.
pub(super) async fn carry_out(request: &Request, live: &mut Live) -> Result<BuildReport, Failure> {
    let (cancel, mut cancelled) = watch::channel(false);
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let mut stream = signal(kind).map_err(Failure::work)?;
        let cancel = cancel.clone();
        tokio::spawn(async move {
            stream.recv().await;
            // Nobody listens any more once the build is over.
            let _ = cancel.send(true);
        });
    }
    let built = building::build(request, live, &mut cancelled).await;
    drop(cancel);
    built.map_err(Failure::work)
}

/// Says what failed, why, and what to do about it: for people who read the log.
pub(super) fn explain(report: &BuildReport, live: &mut Live) {
    for failure in &report.failures {
        live.line("");
        let place = match (&failure.file, failure.line) {
            (Some(file), Some(number)) => format!(", {file}:{number}"),
            _ => String::new(),
        };
        let of = if failure.derivation.is_empty() { String::new() } else { format!(" of {}", failure.derivation) };
        live.line(&format!("{}{of}{place}", failure.category.title()));
        for line in failure.message.lines() {
            live.line(&format!("  {line}"));
        }
        for line in &failure.log {
            live.line(&format!("  > {line}"));
        }
        live.line(&format!("  {}", failure.remedy));
    }
}

/// Shows failures on the run's page, at the lines that they name.
pub(super) fn annotate<W: io::Write>(report: &BuildReport, annotator: &mut Annotator<W>) {
    for failure in &report.failures {
        let mut text = format!("{}\n{}", failure.message, failure.remedy);
        let tail = failure.log.iter().skip(failure.log.len().saturating_sub(LINES));
        for line in tail {
            text = format!("{text}\n> {line}");
        }
        let title = match failure.derivation.as_str() {
            "" => failure.category.title().to_owned(),
            _ => format!("{}: {}", failure.category.title(), failure.subject()),
        };
        match (&failure.file, failure.line) {
            (Some(file), Some(line)) => {
                annotator.error_at(&Place { file, line, column: failure.column }, &title, &text);
            }
            _ => annotator.error(&title, &text),
        }
    }
    for check in report.failed_checks() {
        annotator
            .error(&format!("Check failed: {}", check.name), &format!("{}\n{}", check.reason, check.log.join("\n")));
    }
    for name in &report.substituters_left_out {
        annotator.warning(
            "nix-cache",
            &format!("The substituter {name} kept failing and is left out for the rest of the job."),
        );
    }
    annotator.finish();
}

/// Whether the step succeeds.
pub(super) fn verdict(report: &BuildReport) -> Result<(), Failure> {
    match report.outcome {
        Outcome::Succeeded => Ok(()),
        Outcome::Cancelled => Err(Failure::work("The build was cancelled.")),
        Outcome::Failed => Err(Failure::work(build_headline(report))),
    }
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

/// A path that does not depend on the working directory.
pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
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
