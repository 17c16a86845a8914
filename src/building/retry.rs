//! Retries temporary failures, with increasing pauses, within a time budget.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::sync::watch::Receiver;

use super::failure::{Scene, add_build, explain, troubled};
use super::live::{Live, seconds};
use super::nix::{Attempt, Settings, Stop, asked, run};
use super::position::Project;
use super::substituters::Substituters;
use super::watch::Ending;
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
    // What cannot be evaluated is set aside, so that the rest is built.
    let (mut request, mut aside) = (request.clone(), Vec::new());
    loop {
        let settings = Settings { limits, substituters: scene.substituters.option() };
        let began = start.elapsed();
        let attempt = run(&request, &settings, live, cancelled, deadline).await?;
        report.add(&attempt, began);
        let mut failures = failures(&attempt, &request, &scene);
        note_substituters(&attempt, &failures, &request, &mut scene, live);
        report.substituters_left_out = scene.substituters.left_out();
        let budget_ends = *first_failure.get_or_insert_with(Instant::now) + retry.budget;
        if is_of_targets(&attempt, &failures, &request)
            && let Some(sifted) = sift(&request, &settings, &scene, cancelled, deadline).await?
        {
            live.line(&format!("{} cannot be evaluated: the rest is built.", sifted.bad.join(", ")));
            aside.extend(sifted.failures);
            request.targets = sifted.good;
            continue;
        }
        failures.splice(0..0, aside.iter().cloned());
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

/// Whether nothing was built because some of several targets cannot be evaluated.
fn is_of_targets(attempt: &Attempt, failures: &[Failure], request: &Request) -> bool {
    let lasts = |failure: &Failure| !failure.transient && failure.derivation.is_empty();
    request.keep_going
        && request.targets.len() > 1
        && attempt.stop.is_none()
        && attempt.watch.builds.is_empty()
        && failures.iter().any(lasts)
}

/// Targets that can be evaluated, and those that cannot, with their failures.
struct Sifted {
    good: Vec<String>,
    bad: Vec<String>,
    failures: Vec<Failure>,
}

/// Evaluates each target by itself. None where that tells nothing: where none or all of them can be.
async fn sift(
    request: &Request,
    settings: &Settings,
    scene: &Scene,
    cancelled: &mut Receiver<bool>,
    deadline: Option<Instant>,
) -> Result<Option<Sifted>, BuildError> {
    let mut sifted = Sifted { good: Vec::new(), bad: Vec::new(), failures: Vec::new() };
    let mut silent = Live::new(Box::new(std::io::sink()), super::Style::Plain);
    for target in &request.targets {
        let alone = Request { targets: vec![target.clone()], dry_run: true, ..request.clone() };
        let attempt = run(&alone, settings, &mut silent, cancelled, deadline).await?;
        if attempt.stop.is_some() {
            return Ok(None);
        }
        let failures = failures(&attempt, &alone, scene);
        if failures.iter().all(|failure| failure.transient) {
            sifted.good.push(target.clone());
        } else {
            sifted.bad.push(target.clone());
            sifted.failures.extend(failures.into_iter().map(|failure| Failure { target: target.clone(), ..failure }));
        }
    }
    Ok((!sifted.good.is_empty() && !sifted.bad.is_empty()).then_some(sifted))
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
            let builds = &attempt.watch.builds;
            let mut running: Vec<_> = builds.iter().filter(|build| build.ending == Ending::Stopped).collect();
            running.sort_by_key(|build| build.start);
            let names: Vec<&str> = running.iter().map(|build| build.name()).collect();
            let what = if names.is_empty() { String::new() } else { format!(" It was building {}.", names.join(", ")) };
            let message = format!("The build was stopped after {limit}, which is all that `timeout` allows.{what}");
            let mut failure = Failure::new(Category::TimeOut, &message);
            // The one that has taken longest is what most likely hangs.
            if let Some(build) = running.first() {
                add_build(&mut failure, build);
            }
            return vec![failure];
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
