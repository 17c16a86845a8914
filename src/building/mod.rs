//! Builds with Nix and explains what failed:
//!
//! 1. `nix build` runs, and its log for programs is parsed and printed by derivation.
//! 2. Failures get a category and a remedy; temporary ones are retried.
//! 3. Times and machine usage are measured.
//!
//! The entry point is [`build`], which returns everything in a [`BuildReport`]. Nothing here knows the runner.

pub(crate) mod artifacts;
pub(crate) mod category;
pub(crate) mod checks;
pub(crate) mod drvs;
pub(crate) mod event;
pub(crate) mod failure;
mod files;
mod hashes;
pub(crate) mod limits;
pub(crate) mod live;
mod log;
mod mentions;
mod modules;
mod nix;
pub(crate) mod patterns;
pub(crate) mod position;
mod remedies;
mod report;
mod resources;
mod retry;
mod statuses;
pub(crate) mod substituters;
mod table;
pub(crate) mod text;
pub(crate) mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::watch::Receiver;

pub(crate) use category::Category;
pub(crate) use failure::Failure;
pub(crate) use live::{Live, Style};
pub(crate) use report::{BuildReport, DerivationTime, Outcome, TransferTime};
#[cfg(test)]
pub(crate) use report::{PhaseTime, Totals};
pub(crate) use resources::Resources;

use artifacts::ArtifactRequest;
use checks::CheckRequest;
use limits::Limit;
use resources::Sampler;

/// What is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// What to build: attribute paths of the flake, or whole installables. None builds nothing.
    pub targets: Vec<String>,
    /// Targets that need not be evaluated: their derivations, as `nix build` takes them.
    pub derivations: BTreeMap<String, String>,
    pub flake: String,
    /// Further arguments for `nix build`.
    pub nix_args: Vec<String>,
    /// Builds at once.
    pub jobs: Limit,
    /// Processes that each may use.
    pub cores: Limit,
    /// Whether the rest is built when something fails.
    pub keep_going: bool,
    /// Whether nothing is built, and only what would be is found out.
    pub dry_run: bool,
    /// How it is retried.
    pub retry: Retry,
    /// Longest time for all of it.
    pub timeout: Option<Duration>,
    /// Longest time for one derivation.
    pub derivation_timeout: Option<Duration>,
    /// Longest time that a builder may print nothing.
    pub silent_timeout: Option<Duration>,
    /// The root of the store; none for the machine's own.
    pub store_root: Option<PathBuf>,
    /// The link to the results; none for no link.
    pub out_link: Option<PathBuf>,
    /// The folder that Nix is started in.
    pub folder: PathBuf,
    /// The folder that annotations count from.
    pub workspace: PathBuf,
    /// The file that keeps what is known of substituters for the next step.
    pub state: Option<PathBuf>,
    /// Files to make of the outputs.
    pub artifacts: Option<ArtifactRequest>,
    /// Checks to run before.
    pub checks: Vec<CheckRequest>,
}

/// How often and how long it is retried after a transient failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retry {
    /// At most so often.
    pub times: u32,
    /// The first pause; each one is twice as long as the one before it.
    pub delay: Duration,
    /// No attempt begins so long after the first failure.
    pub budget: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { times: 2, delay: Duration::from_secs(5), budget: Duration::from_mins(10) }
    }
}

/// Why nothing could be built at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    /// There is no Nix.
    #[error("`nix` cannot be started: {error}. Install Nix before this step, such as with cachix/install-nix-action.")]
    NoNix {
        /// What the system says.
        error: std::io::Error,
    },
}

/// The words of a line, as a shell parts them. None where a quote is not closed.
#[must_use]
pub(crate) fn words(line: &str) -> Option<Vec<String>> {
    shlex::split(line)
}

impl Request {
    /// What `nix build` is to build: attribute paths stand behind the flake, and whole installables by themselves.
    #[must_use]
    pub(crate) fn installables(&self) -> Vec<String> {
        let whole =
            |target: &str| outside_quotes(target).any(|c| matches!(c, '#' | ':')) || target.starts_with(['/', '.']);
        let of = |target: &String| match target.strip_prefix(".#") {
            Some(attribute) => format!("{}#{}", self.flake, escaped(attribute)),
            None if whole(target) => target.clone(),
            None => format!("{}#{}", self.flake, escaped(target)),
        };
        let known = |target: &String| self.derivations.get(target).cloned();
        self.targets.iter().map(|target| known(target).unwrap_or_else(|| of(target))).collect()
    }

    /// The flake's folder, where it is one here.
    #[must_use]
    pub(crate) fn flake_folder(&self) -> Option<PathBuf> {
        let path = self.flake.strip_prefix("path:").unwrap_or(&self.flake);
        let folder = self.folder.join(path.split('?').next().unwrap_or(path));
        let folder = folder.is_dir().then_some(folder)?;
        Some(folder.components().collect())
    }
}

/// The characters of an attribute path that no quotes are around.
fn outside_quotes(path: &str) -> impl Iterator<Item = char> {
    path.split('"').step_by(2).flat_map(str::chars)
}

/// An attribute path as the fragment of an address: what Nix reads there as something else, inside of quotes, is encoded.
fn escaped(path: &str) -> String {
    let quoted = |part: &str| part.replace('%', "%25").replace('#', "%23").replace('^', "%5E");
    let parts = path.split('"').enumerate();
    parts.map(|(at, part)| if at % 2 == 0 { part.to_owned() } else { quoted(part) }).collect::<Vec<_>>().join("\"")
}

/// Builds, and tells `live` how it goes. It stops when `cancelled` says so.
///
/// # Errors
/// [`BuildError`] when Nix cannot be started. What fails otherwise is in the report.
pub(crate) async fn build(
    request: &Request,
    live: &mut Live,
    cancelled: &mut Receiver<bool>,
) -> Result<BuildReport, BuildError> {
    let start = Instant::now();
    let store = request.store_root.clone().unwrap_or_else(|| PathBuf::from("/")).join("nix/store");
    let sampler = Sampler::start(store);
    let mut report = BuildReport { targets: request.targets.clone(), ..BuildReport::default() };
    if !request.checks.is_empty() {
        let setting = checks::Setting {
            folder: request.flake_folder().unwrap_or_else(|| request.folder.clone()),
            store_root: request.store_root.clone(),
            nix_args: request.nix_args.clone(),
        };
        report.checks = checks::run(&request.checks, &setting, live, cancelled).await;
    }
    if *cancelled.borrow() {
        report.failures.push(Failure::new(Category::Cancelled, "The checks were cancelled."));
    } else if !request.targets.is_empty() {
        retry::attempts(request, &mut report, live, cancelled, start).await?;
    }
    if report.failures.is_empty()
        && let Some(artifacts) = &request.artifacts
    {
        export(request, artifacts.clone(), &mut report).await;
    }
    report.ms = report::ms(start.elapsed());
    report.resources = sampler.and_then(Sampler::end);
    report.conclude();
    Ok(report)
}

async fn export(request: &Request, artifacts: ArtifactRequest, report: &mut BuildReport) {
    let (paths, root) = (report.paths.clone(), request.store_root.clone());
    let work = move || artifacts::export(&paths, root.as_deref(), &artifacts);
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(made)) => report.artifacts = made,
        Ok(Err(error)) => {
            let category = match error.kind {
                Some(std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) => Category::DiskFull,
                Some(std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem) => {
                    Category::Permission
                }
                _ => Category::Unknown,
            };
            report.failures.push(Failure::new(category, &error.to_string()));
        }
        Err(error) => report.failures.push(Failure::new(Category::Unknown, &error.to_string())),
    }
}

#[cfg(test)]
#[path = "mod_test.rs"]
mod tests;
