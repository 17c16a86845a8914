//! What `nix-cache audit` and the action of that name share: from a project to a report.

use std::fs;
use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDate};

use crate::app::Failure;
use crate::audit::feed::{Feeds, read_folder};
use crate::audit::lock::LockSubject;
use crate::audit::output::{cyclonedx, json, sarif};
use crate::audit::packages::{Evaluation, Package, evaluate, from_evaluation, gather};
use crate::audit::policy::{FILE, Policy};
use crate::audit::report::Report;
use crate::audit::rules::{LOOKS, Topic, vulnerability_wants};
use crate::audit::source::{Looked, look};
use crate::audit::tools::{ToolRun, run_all};
use crate::audit::{Subject, audit};
use crate::base::{clock, human};
use crate::flake::LockInputs;
use crate::plan::{FetchToken, FlakeRef, Repository};
use crate::store::StoreDirs;

/// The name of the lock file in a project.
const LOCK: &str = "flake.lock";

/// What to audit.
#[derive(Debug, Default)]
pub(crate) struct AuditRequest {
    /// The folder of the project.
    pub project: PathBuf,
    /// The file with the policy; none for the usual one, if it is there.
    pub rules: Option<PathBuf>,
    /// The commit to compare with.
    pub base: Option<String>,
    /// A report to compare with.
    pub baseline: Option<PathBuf>,
    /// To fetch the base with.
    pub token: Option<FetchToken>,
    /// Targets whose packages are audited, beside those of the policy.
    pub targets: Vec<String>,
    /// Store paths whose closure is audited as well.
    pub store_paths: Vec<String>,
    /// The folder with feeds; none for that of the policy.
    pub feeds: Option<PathBuf>,
    /// The root of another store.
    pub store_root: Option<PathBuf>,
}

/// A report, and the policy that it was made by.
#[derive(Debug)]
pub(crate) struct Audited {
    pub report: Report,
    pub policy: Policy,
}

/// Where a report goes.
#[derive(Debug, Default)]
pub(crate) struct Files<'a> {
    pub sarif: Option<&'a Path>,
    pub json: Option<&'a Path>,
    pub sbom: Option<&'a Path>,
}

/// A project, and where it is.
struct Project {
    folder: PathBuf,
    repository: Result<Repository, String>,
    /// Its place in the repository, and the repository's.
    within: String,
    top: PathBuf,
}

/// Audits a project.
///
/// # Errors
/// When the policy, the lock file or the baseline of the user's cannot be used.
pub(crate) async fn carry_out(request: &AuditRequest) -> Result<Audited, Failure> {
    let project = Project::open(request)?;
    let mut policy = policy(request, &project.top)?;
    policy.targets.extend(request.targets.iter().cloned());
    let today = DateTime::from_timestamp(clock::now().cast_signed(), 0).unwrap_or_default().date_naive();
    let mut subject = Subject::default();
    let (lock, note) = lock(&project)?;
    subject.brought_by = name(&project.within, if lock.is_some() { LOCK } else { "flake.nix" });
    subject.lock = lock;
    subject.notes.extend(note);
    (subject.sources, subject.tools) = files(&project.folder, &project.within, project.nix_files(), &policy).await;
    add_packages(&mut subject, &project, request, &policy).await;
    let mut wanted = subject.packages.clone();
    let base = match &request.base {
        Some(commit) => base(&mut subject, &project, &policy, commit, request).await,
        None => None,
    };
    wanted.extend(base.iter().flat_map(|base| base.subject.packages.iter().cloned()));
    subject.feeds = feeds(&wanted, request, &policy, &project.top);
    let mut report = audit(&subject, &policy, today);
    if let Some(path) = &request.baseline {
        report.compare(&json::read(path).map_err(Failure::usage)?, &path.display().to_string(), &[]);
    } else if let (Some(base), Some(commit)) = (base, &request.base) {
        compare(&mut report, base, &subject, &policy, today, commit);
    }
    Ok(Audited { report, policy })
}

impl Project {
    fn open(request: &AuditRequest) -> Result<Self, Failure> {
        let folder = request.project.canonicalize().map_err(|error| {
            Failure::usage(format!("Cannot find the project {}: {error}.", request.project.display()))
        })?;
        let repository = Repository::open(&folder, request.token.clone());
        let within = repository.as_ref().map_or("", Repository::folder).to_owned();
        let top = repository.as_ref().map_or(folder.as_path(), Repository::top).to_owned();
        Ok(Self { repository: repository.map_err(|error| error.to_string()), within, top, folder })
    }
}

impl Project {
    /// The Nix files that Git knows, from the folder of the project.
    fn nix_files(&self) -> Vec<String> {
        let Ok(repository) = &self.repository else { return Vec::new() };
        let inside = |file: String| match self.within.as_str() {
            "" => Some(file),
            within => file.strip_prefix(within)?.strip_prefix('/').map(str::to_owned),
        };
        repository.nix_files().unwrap_or_default().into_iter().filter_map(inside).collect()
    }
}

fn policy(request: &AuditRequest, top: &Path) -> Result<Policy, Failure> {
    let mut policy = match &request.rules {
        Some(path) if !path.exists() => {
            let path = path.display();
            return Err(Failure::usage(format!("There is no rules file {path}. Correct its name, or omit it.")));
        }
        Some(path) => Policy::read(path, &path.display().to_string()).map_err(Failure::usage)?,
        None => Policy::read(&top.join(FILE), FILE).map_err(Failure::usage)?,
    };
    if let Some(file) = policy.vulnerabilities.exceptions_file.clone() {
        policy.add_whitelist(&top.join(&file), &file).map_err(Failure::usage)?;
    }
    Ok(policy)
}

/// The lock file, or a note that there is none.
fn lock(project: &Project) -> Result<(Option<LockSubject>, Option<String>), Failure> {
    let path = project.folder.join(LOCK);
    if fs::symlink_metadata(&path).is_err() {
        let why = if project.folder.join("flake.nix").exists() {
            "There is a flake.nix and no flake.lock: its inputs are not locked, and not audited. Run `nix flake lock`."
        } else {
            "There is no flake.lock here: no inputs are audited."
        };
        return Ok((None, Some(why.to_owned())));
    }
    let inputs = LockInputs::read(&path).map_err(Failure::usage)?;
    Ok((Some(LockSubject { file: name(&project.within, LOCK), inputs, base: None }), None))
}

/// What our own rules and tools find in a folder.
async fn files(folder: &Path, within: &str, files: Vec<String>, policy: &Policy) -> (Looked, Vec<ToolRun>) {
    let (folder, within, wanted) = (folder.to_owned(), within.to_owned(), policy.tools.clone());
    let work = move || {
        let looked = look(&folder, &within, &files, LOOKS);
        (looked, run_all(&folder, &within, &files, wanted.as_deref()))
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_default()
}

/// Evaluates the targets and follows what they refer to. What cannot be evaluated is a note.
async fn add_packages(subject: &mut Subject, project: &Project, request: &AuditRequest, policy: &Policy) {
    let mut targets: Vec<(String, Evaluation)> = Vec::new();
    for target in &policy.targets {
        match evaluate(&project.folder, ".", target, request.store_root.as_deref()).await {
            Ok(evaluation) => {
                subject.notes.extend(evaluation.note.clone());
                targets.push((target.clone(), evaluation));
            }
            Err(why) => subject.notes.push(why),
        }
    }
    if targets.is_empty() && request.store_paths.is_empty() {
        return;
    }
    let dirs = StoreDirs::new(request.store_root.as_deref());
    match gather(&dirs, &targets, &request.store_paths, policy.closure, policy.licenses.lists) {
        Ok((packages, notes)) => {
            subject.packages = packages;
            subject.notes.extend(notes);
        }
        Err(why) => subject.notes.push(why),
    }
}

/// What feeds have of these packages; none where no feeds are named.
fn feeds(packages: &[Package], request: &AuditRequest, policy: &Policy, top: &Path) -> Option<Feeds> {
    let of_policy = policy.vulnerabilities.feeds.as_ref().map(|folder| top.join(folder));
    let folder = request.feeds.clone().or(of_policy)?;
    let wanted = vulnerability_wants(packages, policy.vulnerabilities.match_by_name);
    Some(read_folder(&folder, |vendor, product| wanted.has(vendor, product)))
}

/// The base, as far as it is known.
struct Base {
    subject: Subject,
    unknown: Vec<Topic>,
}

/// Reads the lock file of the base, and evaluates its targets where `with_packages`. What cannot be is a note.
async fn base(
    subject: &mut Subject,
    project: &Project,
    policy: &Policy,
    commit: &str,
    request: &AuditRequest,
) -> Option<Base> {
    let (with_packages, store_root) = (request.baseline.is_none(), request.store_root.as_deref());
    let fetched = project.repository.as_ref().map_err(Clone::clone).and_then(|repository| {
        let lock = base_lock(repository, &project.within, commit)?;
        let commit = repository.commit(commit).map_err(|error| error.to_string())?;
        Ok((lock, FlakeRef::git(repository.top(), repository.folder(), Some(&commit), repository.is_shallow())))
    });
    let (inputs, flake) = match fetched {
        Ok(fetched) => fetched,
        Err(why) => {
            let commit = short(commit);
            subject
                .notes
                .push(format!("Nothing could be compared with {commit}: {why}. Every finding counts, new or not."));
            return None;
        }
    };
    if let Some(lock) = &mut subject.lock {
        lock.base = Some(inputs.clone());
    }
    let before = LockSubject { file: name(&project.within, LOCK), inputs, base: None };
    let mut base = Base { subject: Subject { lock: Some(before), ..Subject::default() }, unknown: Vec::new() };
    if !subject.tools.is_empty() || !project.nix_files().is_empty() {
        match base_files(project, commit) {
            Ok(copy) => {
                let folder = copy.path().join(&project.within);
                (base.subject.sources, base.subject.tools) =
                    files(&folder, &project.within, project.nix_files(), policy).await;
            }
            Err(why) => {
                subject.notes.push(format!(
                    "What tools find anew since {} is not known, and fails nothing: {why}.",
                    short(commit)
                ));
                base.unknown.push(Topic::Files);
            }
        }
    }
    for target in policy.targets.iter().filter(|_| with_packages && !subject.packages.is_empty()) {
        let why = match evaluate(&project.folder, &flake.url(), target, store_root).await {
            Ok(evaluation) => {
                let dirs = StoreDirs::new(store_root);
                base.subject.packages.extend(from_evaluation(&dirs, &evaluation, policy.licenses.lists));
                evaluation.note
            }
            Err(why) => Some(why),
        };
        if let Some(why) = why {
            let commit = short(commit);
            subject
                .notes
                .push(format!("What of the packages is new since {commit} is not known, and fails nothing: {why}"));
            base.unknown.push(Topic::Packages);
        }
    }
    Some(base)
}

/// The files of another commit, in a folder of their own.
fn base_files(project: &Project, commit: &str) -> Result<tempfile::TempDir, String> {
    let copy = tempfile::tempdir().map_err(|error| error.to_string())?;
    let repository = project.repository.as_ref().map_err(Clone::clone)?;
    repository.export(commit, copy.path()).map_err(|error| error.to_string())?;
    Ok(copy)
}

/// The inputs at another commit; none of them where it has no lock file.
fn base_lock(repository: &Repository, folder: &str, commit: &str) -> Result<LockInputs, String> {
    if repository.commit(commit).is_err() {
        repository.fetch(commit).map_err(|error| error.to_string())?;
    }
    let file = name(folder, LOCK);
    match repository.file(commit, &file).map_err(|error| error.to_string())? {
        None => Ok(LockInputs::default()),
        Some(text) => LockInputs::parse(Path::new(&format!("{file} of {}", short(commit))), text.as_bytes())
            .map_err(|error| error.to_string().trim_end_matches('.').to_owned()),
    }
}

fn compare(report: &mut Report, mut base: Base, now: &Subject, policy: &Policy, today: NaiveDate, commit: &str) {
    base.subject.feeds.clone_from(&now.feeds);
    let before = audit(&base.subject, policy, today);
    report.compare(&before, &short(commit), &base.unknown);
}

/// A file of the project, from the top of the repository.
fn name(folder: &str, file: &str) -> String {
    if folder.is_empty() { file.to_owned() } else { format!("{folder}/{file}") }
}

fn short(commit: &str) -> String {
    let is_hash = commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hash { commit[..12].to_owned() } else { commit.to_owned() }
}

/// Writes the reports that were asked for.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn write_files(audited: &Audited, files: &Files<'_>) -> Result<(), Failure> {
    if let Some(path) = files.sarif {
        write(path, &sarif::sarif(&audited.report))?;
    }
    if let Some(path) = files.json {
        write(path, &audited.report)?;
    }
    if let Some(path) = files.sbom {
        write(path, &cyclonedx::bom(&audited.report.packages, crate::store::STORE_DIR))?;
    }
    Ok(())
}

fn write(path: &Path, value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(Failure::work)?;
    let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, text + "\n"));
    made.map_err(|error| Failure::work(format!("{} cannot be written: {error}.", path.display())))
}

/// Whether the policy fails the job.
///
/// # Errors
/// When there are findings that `fail-on` names.
pub(crate) fn verdict(audited: &Audited) -> Result<(), Failure> {
    let mut failing = audited.report.failing(&audited.policy);
    let Some(first) = failing.next() else { return Ok(()) };
    let count = human::count(1 + failing.count() as u64, "finding");
    let new =
        if audited.policy.new_only && audited.report.compared_with.is_some() { " that the base lacks" } else { "" };
    Err(Failure::work(format!(
        "The audit fails for {count}{new}, first {} ({}): {}",
        first.subject, first.rule, first.message
    )))
}
