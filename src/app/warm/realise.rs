//! Fetches and builds what is to be warm:
//!
//! 1. The inputs of the flake, into the store.
//! 2. All targets for this system, evaluated apart and then built by one Nix, or those that the user names.
//! 3. The environment of each shell, which `nix develop` builds beside the shell itself.
//! 4. Vulnerability feeds, if the policy of an audit names a folder for them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::feeds::feeds;
use super::report::{State, WarmReport, Warmed};
use crate::app::Failure;
use crate::app::build::{carry_out, explain};
use crate::building::limits::Limit;
use crate::building::{BuildReport, Live, Outcome, Request, Retry};
use crate::nix::names_outputs;
use crate::plan::{
    AttrPath, Buildable, Buildables, Filter, Nix, RULES_FILE, Repository, RulesFile, all_buildable, flake_in,
    named_buildable,
};
use crate::store::{StoreDirs, StorePath, is_valid};

/// What to fetch and build.
#[derive(Clone, Debug)]
pub(crate) struct WarmRequest {
    /// The folder of the flake.
    pub project: PathBuf,
    /// How Nix is called.
    pub nix: Nix,
    /// What the user names; empty for everything.
    pub targets: Vec<String>,
    /// Whether the inputs of the flake are fetched.
    pub inputs: bool,
    /// Where feeds are fetched from; None for no feeds.
    pub feeds_from: Option<String>,
    /// When to stop.
    pub end: Instant,
    /// The file that keeps what is known of substituters for the next step.
    pub state: Option<PathBuf>,
}

/// Why something was not begun.
const NO_TIME: &str = "the time was over";

impl WarmRequest {
    fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// Runs Nix in the time that is left.
    async fn nix(&self, name: &str, words: &[&str]) -> Warmed {
        match tokio::time::timeout(self.left(), self.nix.run(words)).await {
            Ok(Ok(())) => Warmed::new(name, State::Warmed, ""),
            Ok(Err(error)) => Warmed::new(name, State::Failed, &error.to_string()),
            Err(_) => Warmed::new(name, State::Left, NO_TIME),
        }
    }
}

/// Fetches and builds. Returns what became of each target, and the reports of the builds.
///
/// # Errors
/// When the settings are invalid, or there is no Nix.
pub(crate) async fn realise(request: &WarmRequest, live: &mut Live) -> Result<(WarmReport, Vec<BuildReport>), Failure> {
    let mut report = WarmReport::default();
    let mut builds = Vec::new();
    let top = Repository::open(&request.project, None).map_or_else(|_| request.project.clone(), |of| of.top().into());
    let named = request.targets.iter().partition::<Vec<&String>, _>(|target| is_installable(target));
    let (installables, attrs) = named;
    if request.inputs {
        live.line("Fetching the inputs of the flake.");
        let url = flake_in(&request.project).url();
        report.targets.push(request.nix("inputs", &["flake", "archive", &url]).await);
    }
    let Buildables { found, failed, elsewhere } = if request.targets.is_empty() {
        all(request, &top, &mut report).await?
    } else {
        named_buildable(&request.nix, &request.project, &parsed(&attrs)?).await
    };
    report.elsewhere = elsewhere;
    report.targets.extend(failed.iter().map(|(name, why)| Warmed::new(name, State::Failed, why)));
    build_all(request, &found, (&mut report, &mut builds), live).await?;
    for target in installables {
        let built = build(request, std::slice::from_ref(target), BTreeMap::new(), live).await?;
        report.targets.push(match built.as_ref().map(|built| why(target, "", built)) {
            None => Warmed::new(target, State::Left, NO_TIME),
            Some(None) => Warmed::new(target, State::Warmed, ""),
            Some(Some(why)) => Warmed::new(target, State::Failed, &why),
        });
        builds.extend(built);
    }
    if let Some(from) = &request.feeds_from {
        report.targets.extend(feeds(&top, from).await);
    }
    Ok((report, builds))
}

/// Whether Nix takes it as it is, and not as an attribute of the flake.
fn is_installable(target: &str) -> bool {
    target.contains(['#', ':']) || target.starts_with(['/', '.'])
}

fn parsed(names: &[&String]) -> Result<Vec<AttrPath>, Failure> {
    let parse = |name: &&String| {
        AttrPath::parse(name).map_err(|error| Failure::usage(format!("{name:?} is not a target: {error}")))
    };
    names.iter().map(parse).collect()
}

/// All targets that plans look at. A flake whose outputs cannot be listed is a failed target.
async fn all(request: &WarmRequest, top: &Path, report: &mut WarmReport) -> Result<Buildables, Failure> {
    let file = RulesFile::read(&top.join(RULES_FILE), RULES_FILE).map_err(Failure::usage)?;
    let (include, exclude) = file.map_or_else(Default::default, |file| (file.include, file.exclude));
    let filter = Filter::parse(&include, &exclude).map_err(Failure::usage)?;
    tracing::info!("Evaluating the targets of the flake.");
    let found = tokio::time::timeout(request.left(), all_buildable(&request.nix, &request.project, &filter)).await;
    let failed = match found {
        Ok(Ok(found)) => return Ok(found),
        Ok(Err(error)) => Warmed::new("targets", State::Failed, &error.to_string()),
        Err(_) => Warmed::new("targets", State::Left, NO_TIME),
    };
    report.targets.push(failed);
    Ok(Buildables::default())
}

/// Builds targets by their derivations, all at once, and prepares the shells among them.
async fn build_all(
    request: &WarmRequest,
    targets: &[Buildable],
    (report, builds): (&mut WarmReport, &mut Vec<BuildReport>),
    live: &mut Live,
) -> Result<(), Failure> {
    if targets.is_empty() {
        return Ok(());
    }
    let names_outputs = names_outputs().await;
    let names: Vec<String> = targets.iter().map(|target| target.name.clone()).collect();
    let of = |target: &Buildable| (target.name.clone(), target.installable(names_outputs));
    let together = build(request, &names, targets.iter().map(of).collect(), live).await?;
    let is_whole = together.as_ref().is_some_and(|built| built.failures.is_empty());
    for target in targets {
        let drv = target.drv.full(crate::store::STORE_DIR);
        let mut built = None;
        let is_there = match &target.outputs {
            Some(outputs) => is_whole || are_valid(request, outputs),
            None if is_whole => true,
            // Its outputs have no names before it is built, so only Nix can tell whether they are there.
            None => {
                built = build(request, std::slice::from_ref(&target.name), BTreeMap::from([of(target)]), live).await?;
                built.as_ref().is_some_and(|built| built.failures.is_empty())
            }
        };
        let row = match built.as_ref().or(together.as_ref()) {
            _ if is_there && target.is_shell => shell(request, &target.name, &drv).await,
            _ if is_there => Warmed::new(&target.name, State::Warmed, ""),
            _ if request.left().is_zero() => Warmed::new(&target.name, State::Left, NO_TIME),
            Some(built) => {
                let why = why(&target.name, &drv, built).unwrap_or_else(|| "its outputs are missing".to_owned());
                Warmed::new(&target.name, State::Failed, &why)
            }
            None => Warmed::new(&target.name, State::Left, NO_TIME),
        };
        report.targets.push(row);
        builds.extend(built);
    }
    builds.extend(together);
    Ok(())
}

fn are_valid(request: &WarmRequest, paths: &std::collections::BTreeSet<StorePath>) -> bool {
    let dirs = StoreDirs::new(request.nix.store_root.as_deref());
    paths.iter().all(|path| is_valid(&dirs, path).unwrap_or(false))
}

/// Has Nix build the environment of a shell that is built.
async fn shell(request: &WarmRequest, name: &str, drv: &str) -> Warmed {
    let mut row = request.nix(name, &["print-dev-env", drv]).await;
    if row.state == State::Failed {
        row.why = format!("the shell is built, but not its environment for `nix develop`: {}", row.why);
    }
    row
}

/// Builds targets, those in `derivations` without evaluating them. None if there is no time for it.
async fn build(
    request: &WarmRequest,
    targets: &[String],
    derivations: BTreeMap<String, String>,
    live: &mut Live,
) -> Result<Option<BuildReport>, Failure> {
    if request.left().is_zero() {
        return Ok(None);
    }
    let build = Request {
        targets: targets.to_vec(),
        derivations,
        flake: flake_in(&request.project).url(),
        nix_args: request.nix.arguments.clone(),
        jobs: Limit::Auto,
        cores: Limit::Auto,
        keep_going: true,
        dry_run: false,
        retry: Retry::default(),
        timeout: Some(request.left()),
        derivation_timeout: None,
        silent_timeout: None,
        store_root: request.nix.store_root.clone(),
        out_link: None,
        folder: request.project.clone(),
        workspace: request.project.clone(),
        state: request.state.clone(),
        artifacts: None,
        checks: Vec::new(),
    };
    let report = carry_out(&build, live).await?;
    explain(&report, live);
    if report.outcome == Outcome::Cancelled {
        return Err(Failure::work("Warming was cancelled."));
    }
    Ok(Some(report))
}

/// Why a build did not make `name`, whose derivation is `drv`; None if nothing failed.
fn why(name: &str, drv: &str, report: &BuildReport) -> Option<String> {
    let first = report.failures.first()?;
    let own =
        report.failures.iter().find(|failure| (!drv.is_empty() && failure.derivation == drv) || failure.target == name);
    let line = |text: &str| text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned();
    if let Some(failure) = own.or(Some(first).filter(|_| drv.is_empty())) {
        return Some(line(&failure.message));
    }
    let others: Vec<&str> = report.failures.iter().take(3).map(crate::building::Failure::subject).collect();
    Some(format!("something that it needs failed to build: {}", others.join(", ")))
}
