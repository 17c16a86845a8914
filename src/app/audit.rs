//! What `nix-cache audit` and the action of that name share: from a project to a report.

use std::fs;
use std::path::{Path, PathBuf};

use chrono::DateTime;

use crate::app::Failure;
use crate::audit::lock::LockSubject;
use crate::audit::output::{json, sarif};
use crate::audit::policy::Policy;
use crate::audit::report::Report;
use crate::audit::{Subject, audit};
use crate::base::{clock, human};
use crate::flake::LockInputs;
use crate::plan::{FetchToken, RULES_FILE, Repository};

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
}

/// A report, and the policy that it was made by.
#[derive(Debug)]
pub(crate) struct Audited {
    pub report: Report,
    pub policy: Policy,
}

/// Audits a project.
///
/// # Errors
/// When the policy, the lock file or the baseline of the user's cannot be used.
pub(crate) async fn carry_out(request: &AuditRequest) -> Result<Audited, Failure> {
    let project = request
        .project
        .canonicalize()
        .map_err(|error| Failure::usage(format!("Cannot find the project {}: {error}.", request.project.display())))?;
    let repository = Repository::open(&project, request.token.clone());
    let policy = policy(request, repository.as_ref().map_or(&project, Repository::top))?;
    let folder = repository.as_ref().map_or("", Repository::folder).to_owned();
    let mut subject = Subject::default();
    let (lock, note) = lock(&project, &folder)?;
    subject.lock = lock;
    subject.notes.extend(note);
    let today = DateTime::from_timestamp(clock::now().cast_signed(), 0).unwrap_or_default().date_naive();
    let mut base = None;
    if let Some(commit) = &request.base {
        match repository.as_ref().map_err(ToString::to_string).and_then(|it| base_lock(it, &folder, commit)) {
            Ok(inputs) => {
                let before = LockSubject { file: name(&folder, LOCK), inputs: inputs.clone(), base: None };
                base = Some(audit(&Subject { lock: Some(before), notes: Vec::new() }, &policy, today));
                if let Some(lock) = &mut subject.lock {
                    lock.base = Some(inputs);
                }
            }
            Err(why) => {
                subject.notes.push(format!(
                    "Nothing could be compared with {}: {why}. Every finding counts as new.",
                    short(commit)
                ));
            }
        }
    }
    let mut report = audit(&subject, &policy, today);
    if let Some(path) = &request.baseline {
        report.compare(&json::read(path).map_err(Failure::usage)?, &path.display().to_string());
    } else if let (Some(base), Some(commit)) = (base, &request.base) {
        report.compare(&base, &short(commit));
    }
    Ok(Audited { report, policy })
}

fn policy(request: &AuditRequest, top: &Path) -> Result<Policy, Failure> {
    match &request.rules {
        Some(path) if !path.exists() => {
            let path = path.display();
            Err(Failure::usage(format!("There is no rules file {path}. Correct its name, or omit it.")))
        }
        Some(path) => Policy::read(path, &path.display().to_string()).map_err(Failure::usage),
        None => Policy::read(&top.join(RULES_FILE), RULES_FILE).map_err(Failure::usage),
    }
}

/// The lock file, or a note that there is none.
fn lock(project: &Path, folder: &str) -> Result<(Option<LockSubject>, Option<String>), Failure> {
    let path = project.join(LOCK);
    if fs::symlink_metadata(&path).is_err() {
        let why = if project.join("flake.nix").exists() {
            "There is a flake.nix and no flake.lock: its inputs are not locked, and not audited. Run `nix flake lock`."
        } else {
            "There is no flake.lock here: no inputs are audited."
        };
        return Ok((None, Some(why.to_owned())));
    }
    let inputs = LockInputs::read(&path).map_err(Failure::usage)?;
    Ok((Some(LockSubject { file: name(folder, LOCK), inputs, base: None }), None))
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
pub(crate) fn write_files(audited: &Audited, to_sarif: Option<&Path>, to_json: Option<&Path>) -> Result<(), Failure> {
    if let Some(path) = to_sarif {
        write(path, &sarif::sarif(&audited.report))?;
    }
    if let Some(path) = to_json {
        write(path, &audited.report)?;
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
