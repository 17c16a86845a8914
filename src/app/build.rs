//! What `nix-cache build` and the action of that name share.

use std::io;
use std::path::{Path, PathBuf};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::app::Failure;
use crate::building::{self, BuildReport, Live, Outcome, Request};
use crate::github::annotate::{Annotator, Place};
use crate::report::summary::build_headline;

/// Builds until the build ends or this program is stopped.
pub(crate) async fn carry_out(request: &Request, live: &mut Live) -> Result<BuildReport, Failure> {
    let (cancel, mut cancelled) = watch::channel(false);
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let mut stream = signal(kind).map_err(Failure::work)?;
        let cancel = cancel.clone();
        tokio::spawn(async move {
            stream.recv().await;
            // If the build has ended, there is no receiver any more.
            let _ = cancel.send(true);
        });
    }
    let built = building::build(request, live, &mut cancelled).await;
    drop(cancel);
    built.map_err(Failure::work)
}

/// Explains in the log what failed, why, and what to do about it.
pub(crate) fn explain(report: &BuildReport, live: &mut Live) {
    for failure in &report.failures {
        live.line("");
        let place = match (&failure.file, failure.line) {
            (Some(file), Some(number)) => format!(", {file}:{number}"),
            _ => String::new(),
        };
        let of = match (failure.derivation.as_str(), failure.target.as_str()) {
            ("", "") => String::new(),
            ("", target) => format!(" of {target}"),
            (derivation, _) => format!(" of {derivation}"),
        };
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

/// Annotates failures on the run's page, at the lines that they name.
pub(crate) fn annotate<W: io::Write>(report: &BuildReport, annotator: &mut Annotator<W>) {
    for failure in &report.failures {
        let mut text = format!("{}\n{}", failure.message, failure.remedy);
        let tail = failure.log.iter().skip(failure.log.len().saturating_sub(LINES));
        for line in tail {
            text = format!("{text}\n> {line}");
        }
        let title = match (failure.derivation.as_str(), failure.target.as_str()) {
            ("", "") => failure.category.title().to_owned(),
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
            &format!("The substituter {name} kept failing and is not used for the rest of the job."),
        );
    }
    annotator.finish();
}

/// Returns whether the step succeeds.
pub(crate) fn verdict(report: &BuildReport) -> Result<(), Failure> {
    match report.outcome {
        Outcome::Succeeded => Ok(()),
        Outcome::Cancelled => Err(Failure::work("The build was cancelled.")),
        Outcome::Failed => Err(Failure::work(build_headline(report))),
    }
}

/// A path that does not depend on the working directory.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Longest excerpt of a log in an annotation, in lines.
pub(crate) const LINES: usize = 15;
