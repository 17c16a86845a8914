//! Retries temporary failures, with increasing pauses, within a time budget.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::sync::watch::Receiver;

use super::failure::{Scene, explain, troubled};
use super::live::{Live, seconds};
use super::nix::{Attempt, Settings, Stop, asked, run};
use super::position::Project;
use super::substituters::Substituters;
use super::{BuildError, BuildReport, Category, Failure, Request, limits};
use crate::nix::all_configured_substituters;

/// Runs Nix until it succeeds, fails for good, or the budget is used up, and puts what it did into `report`.
pub(super) async fn attempts(
    request: &Request,
    report: &mut BuildReport,
    live: &mut Live,
    cancelled: &mut Receiver<bool>,
    start: Instant,
) -> Result<(), BuildError> {
    let mut scene = scene(request).await;
    let limits = limits::of_this_machine();
    report.max_jobs = request.jobs.or(limits.jobs);
    report.cores = request.cores.or(limits.cores);
    let deadline = request.timeout.map(|timeout| start + timeout);
    let retry = request.retry;
    let pauses = ExponentialBuilder::default().with_min_delay(retry.delay).with_factor(2.0).with_jitter();
    let mut pauses = pauses.with_max_delay(Duration::from_mins(5)).with_max_times(retry.times as usize).build();
    let mut first_failure = None;
    loop {
        let settings = Settings { limits, substituters: scene.substituters.option() };
        let began = start.elapsed();
        let attempt = run(request, &settings, live, cancelled, deadline).await?;
        report.add(&attempt, began);
        let failures = failures(&attempt, request, &scene);
        note_substituters(&attempt, &failures, request, &mut scene, live);
        report.substituters_left_out = scene.substituters.left_out();
        let budget_ends = *first_failure.get_or_insert_with(Instant::now) + retry.budget;
        let may_pass = !failures.is_empty() && failures.iter().all(|failure| failure.transient);
        let pause = if may_pass { pauses.next() } else { None };
        let fits = |pause: &Duration| {
            let next = Instant::now() + *pause;
            next < budget_ends && deadline.is_none_or(|deadline| next < deadline)
        };
        let Some(pause) = pause.filter(fits) else {
            report.failures = failures;
            return Ok(());
        };
        live.line(&format!("This may be temporary ({}). Retrying in {}.", why(&failures), seconds(pause)));
        report.retried.extend(failures);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = asked(cancelled) => {
                report.failures = vec![cancelled_failure()];
                return Ok(());
            }
        }
    }
}

async fn scene(request: &Request) -> Scene {
    let (arguments, state) = (request.nix_args.clone(), request.state.clone());
    let read = move || Substituters::new(all_configured_substituters(&arguments), state.as_deref());
    let substituters = tokio::task::spawn_blocking(read).await.unwrap_or_default();
    let workspace = request.workspace.clone();
    let flake = request.flake_folder().unwrap_or_else(|| workspace.clone());
    Scene { project: Project { workspace, flake }, store_root: request.store_root.clone(), substituters }
}

/// The failures of an attempt; empty if it succeeded.
fn failures(attempt: &Attempt, request: &Request, scene: &Scene) -> Vec<Failure> {
    match attempt.stop {
        Some(Stop::Cancelled) => return vec![cancelled_failure()],
        Some(Stop::Deadline) => {
            let limit = seconds(request.timeout.unwrap_or_default());
            let running: Vec<&str> = attempt
                .watch
                .builds
                .iter()
                .filter(|build| build.end >= attempt.elapsed)
                .map(super::watch::Build::name)
                .collect();
            let what =
                if running.is_empty() { String::new() } else { format!(" It was building {}.", running.join(", ")) };
            let message = format!("The build was stopped after {limit}, which is all that `timeout` allows.{what}");
            return vec![Failure::new(Category::TimeOut, &message)];
        }
        None if attempt.status.success() => return Vec::new(),
        None => {}
    }
    let known = explain(&attempt.watch, scene);
    if !known.is_empty() {
        return known;
    }
    // The kernel ends what takes more memory than there is, and nothing else ends Nix by this signal.
    if attempt.status.signal() == Some(9) {
        return vec![Failure::new(
            Category::OutOfMemory,
            "Nix was killed (signal 9), as the kernel does when memory runs out.",
        )];
    }
    let last: Vec<&str> = attempt.stray.iter().map(String::as_str).collect();
    let said = if last.is_empty() { "It said nothing more.".to_owned() } else { last.join("\n") };
    vec![Failure::new(Category::Unknown, &format!("Nix ended with {}. {said}", attempt.status))]
}

fn cancelled_failure() -> Failure {
    Failure::new(Category::Cancelled, "The build was cancelled.")
}

/// Counts the substituters that failed, and leaves out those that keep failing.
fn note_substituters(attempt: &Attempt, failures: &[Failure], request: &Request, scene: &mut Scene, live: &mut Live) {
    let mut failed: BTreeSet<String> = troubled(&attempt.watch, scene);
    failed.extend(failures.iter().map(|failure| failure.substituter.clone()).filter(|name| !name.is_empty()));
    for name in scene.substituters.failed(&failed) {
        live.line(&format!("The substituter {name} keeps failing and is not used for the rest of the job."));
    }
    if let Some(state) = &request.state {
        scene.substituters.keep(state);
    }
}

fn why(failures: &[Failure]) -> String {
    let words: BTreeSet<&str> = failures.iter().map(|failure| failure.category.word()).collect();
    words.into_iter().collect::<Vec<_>>().join(", ")
}
