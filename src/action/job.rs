//! The job that an action runs in: its inputs, its key and its cache.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use crate::action::given::ActionInputs;
use crate::action::inputs::Inputs;
use crate::app::Failure;
use crate::app::place::{OpenError, Opened, UNSIGNED, check_shared, is_open_to_others, limited, open};
use crate::app::settings::{escaped, sinks};
use crate::base::env_vars;
use crate::base::note::{Code, Note};
use crate::base::printing::Raw;
use crate::base::secrets;
use crate::cache::{self, Context, Identity};
use crate::flake::{Key, KeyRequest, current_system, key as make_key};
use crate::github::annotate::{self, Annotator, Style};
use crate::github::env::{Environment, Facts};
use crate::github::lane::default_lane;
use crate::github::state;
use crate::remote::github::{GithubRemote, TokenScope};
use crate::remote::{Location, Purpose, Remote, RemoteError};
use crate::report::{Action, KeyPart, Report, Severity};
use crate::series::sign::Keyring;
use crate::store::StoreDirs;

/// The name under which main passes the key to post: the lock file can change while the job runs.
pub(super) const STATE_KEY: &str = "nix_cache_key";

/// The name under which main tells post that the service has answered.
const STATE_SPOKEN: &str = "nix_cache_spoken";

pub(super) struct Job {
    pub inputs: Inputs,
    pub facts: Facts,
    pub lane: String,
    pub report: Report,
    pub report_path: PathBuf,
    /// The keys with which it signs, and whose signatures it requires.
    pub keys: Keyring,
    /// The store, which has another root only in tests.
    pub dirs: StoreDirs,
}

/// An escaped key, for lookups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lookup {
    pub primary: String,
    pub prefixes: Vec<String>,
    /// The part of the key for the lock, for the levels above the store.
    pub lock: String,
}

/// The cache of this job.
pub(super) struct Place {
    pub remote: Arc<dyn Remote>,
    /// The same for what is read beside a save, with limits of its own: the save warns of a cache that does not answer.
    pub beside: Arc<dyn Remote>,
    /// The same, if it is GitHub's.
    pub github: Option<Arc<GithubRemote>>,
    /// Why nothing is saved without a signature: an object store and a directory have no scopes of branches.
    pub unsigned: Option<&'static str>,
    /// What did not work of several remotes, as it comes.
    pub troubles: Arc<Mutex<Vec<String>>>,
}

impl Place {
    /// Whether the job may write to the cache, as far as that is known before it tries.
    pub(super) fn may_write(&self) -> bool {
        let may = |github: &Arc<GithubRemote>| {
            let scopes = github.scopes();
            github.mode().writable() && (scopes.is_empty() || scopes.iter().any(TokenScope::writable))
        };
        self.github.as_ref().is_none_or(may)
    }
}

/// Why a pull request saves nothing to a directory.
const UNSIGNED_PULL_REQUEST: &str = "because jobs of all branches would use what a pull request saves in a directory. With the inputs \
    `trusted-public-keys` and `signing-key`, only what a trusted job signed is used; `nix key generate-secret` makes a key";

/// The annotator for the run's page.
pub(super) fn annotator() -> Annotator<Raw> {
    Annotator::new(Raw::out(), style())
}

/// The output style for a runner or a terminal.
pub(super) fn style() -> Style {
    let on_runner = std::env::var(env_vars::GITHUB_ACTIONS).is_ok_and(|value| value == "true");
    if on_runner { Style::Workflow } else { Style::Plain }
}

impl Job {
    /// The job of this process.
    ///
    /// # Errors
    /// When an input is wrong.
    pub(super) fn from_environment() -> Result<Self, Failure> {
        Self::with(Inputs::from_environment().map_err(Failure::usage)?)
    }

    /// The job of this process, with these inputs.
    ///
    /// # Errors
    /// When they contain an invalid key.
    pub(super) fn with(inputs: Inputs) -> Result<Self, Failure> {
        if let Some(token) = &inputs.secrets.token {
            annotate::mask(token.expose_secret());
        }
        if let Some(name) = &inputs.remote.remote {
            Location::parse_all(name).map_err(|why| Failure::usage(format!("{why} Correct the input \"remote\".")))?;
        }
        let shared =
            Location::parse_all(&remote_name(&inputs)).map(|all| check_shared(&inputs.remote.share.share_with, &all));
        if let Ok(Err(OpenError::Usage(why))) = shared {
            return Err(Failure::usage(format!("{why} Correct the input \"share-with\".")));
        }
        sinks(&inputs.push.push_to)
            .map_err(|failure| Failure::usage(format!("{} Correct the input \"push-to\".", failure.message)))?;
        let keys = keyring(&inputs)?;
        let facts = Facts::from_environment();
        let lane = inputs.lane.lane.clone().unwrap_or_else(|| default_lane(&facts, &inputs.job.matrix));
        let mut report = Report::new(inputs.action, &facts, &lane);
        report.job.status = inputs.job.job_status;
        let report_path = facts.report_path(&lane);
        let root = env_vars::path(env_vars::NIX_CACHE_STORE_ROOT);
        Ok(Self { inputs, facts, lane, report, report_path, keys, dirs: StoreDirs::new(root.as_deref()) })
    }

    /// The key that main passed, or otherwise that of the current lock. Its parts are added to the report.
    ///
    /// # Errors
    /// When the inputs or the lock yield none.
    pub(super) fn key(&mut self) -> Result<Lookup, Failure> {
        if let Some(left) = state::load(STATE_KEY).and_then(|text| serde_json::from_str(&text).ok()) {
            return Ok(left);
        }
        let key = make_key(&self.key_request()).map_err(Failure::usage)?;
        annotate::fold(style(), "Key of the Nix store cache", key.describe().trim_end());
        let (primary, prefixes) = escaped(&key)?;
        let lookup = Lookup { primary, prefixes, lock: part(&key, "lock") };
        self.report.key.primary.clone_from(&key.primary);
        self.report.key.prefixes.clone_from(&key.restore_prefixes);
        self.report.key.parts =
            key.parts.into_iter().map(|part| KeyPart { name: part.name, value: part.value }).collect();
        if let Err(error) = serde_json::to_string(&lookup)
            .map_err(Failure::work)
            .and_then(|text| state::save(STATE_KEY, &text).map_err(Failure::work))
        {
            tracing::debug!("{}", error.message);
        }
        Ok(lookup)
    }

    /// The project's folder: the workspace, or the current folder.
    pub(super) fn project(&self) -> PathBuf {
        self.facts.workspace.clone().unwrap_or_else(|| PathBuf::from("."))
    }

    /// The parts of the key.
    pub(super) fn key_request(&self) -> KeyRequest {
        self.inputs.key.request(&self.project(), "")
    }

    /// The name of the cache: the input `remote`, or `NIX_CACHE_REMOTE`, or else `github`.
    pub(super) fn remote_name(&self) -> String {
        remote_name(&self.inputs)
    }

    /// A variable of the runner's, of which the token for REST is an input.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        let token = self.inputs.secrets.token.as_ref().filter(|_| name == env_vars::GITHUB_TOKEN);
        token.map(|token| token.expose_secret().to_owned()).or_else(|| secrets::var(name))
    }

    /// Opens the cache: that in the input `remote`, in `NIX_CACHE_REMOTE`, or GitHub's, with a time budget for all its lookups
    /// in this step, and `total` for everything.
    ///
    /// # Errors
    /// When there is none; the job continues without a cache.
    pub(super) fn place(&self, total: Option<Duration>) -> Result<Place, RemoteError> {
        self.place_for(Purpose::Save, total)
    }

    /// Like [`Job::place`], for a restore: of several remotes, those that work are used.
    ///
    /// # Errors
    /// See [`Job::place`].
    pub(super) fn place_to_restore(&self, total: Option<Duration>) -> Result<Place, RemoteError> {
        self.place_for(Purpose::Restore, total)
    }

    fn place_for(&self, purpose: Purpose, total: Option<Duration>) -> Result<Place, RemoteError> {
        let (name, shared) = (self.remote_name(), &self.inputs.remote.share.share_with);
        let is_open = is_open_to_others(&name, shared);
        if is_open && !self.keys.asks_for_signatures() {
            return Err(RemoteError::Failed(UNSIGNED.to_owned()));
        }
        let Opened { remote, github, troubles } = open(&name, shared, purpose, |name| self.variable(name))?;
        if let Some(github) = github.as_ref().filter(|_| state::load(STATE_SPOKEN).is_some()) {
            github.note_spoken();
        }
        let unsigned = match Location::main(&name) {
            Ok(Location::Directory(_)) if !is_open && self.facts.is_of_pull_request() => Some(UNSIGNED_PULL_REQUEST),
            _ => is_open.then_some("because others can write there, and the input `signing-key` is empty"),
        };
        let beside = limited(Arc::clone(&remote), total);
        Ok(Place { remote: limited(remote, total), beside, github, unsigned, troubles })
    }

    /// Adds notes about those of several remotes that could not be used.
    pub(super) fn note_troubles(&mut self, place: &Place) {
        let troubles: Vec<String> = place.troubles.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect();
        for text in troubles {
            // Main and post step have the same ones.
            if self.report.notes.iter().all(|note| note.message != text) {
                self.report.note(Note::silent(Severity::Warning, Code::RemoteFailed, text));
            }
        }
    }

    /// Tells post whether the service has answered: then a failure there is an outage and not a missing service.
    pub(super) fn leave_spoken(place: &Place) {
        if place.github.as_ref().is_some_and(|github| github.has_spoken())
            && let Err(error) = state::save(STATE_SPOKEN, "true")
        {
            tracing::debug!("{error}");
        }
    }

    /// The run, its attempt and the id of the job in the workflow.
    pub(super) fn run(&self) -> String {
        let Facts { run_id, run_attempt, job, .. } = &self.facts;
        format!("{}-{}-{job}", run_id.unwrap_or(0), run_attempt.unwrap_or(0))
    }

    /// The same with the lane, which no other job has.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.run(), self.lane)
    }

    /// The context for restore and save.
    pub(super) fn context(&self, place: &Place, lookup: &Lookup) -> Context {
        let is_hosted = self.facts.environment == Environment::GithubHosted;
        let inputs = &self.inputs;
        Context {
            identity: Identity {
                key: lookup.primary.clone(),
                prefixes: lookup.prefixes.clone(),
                system: current_system(),
                lane: self.lane.clone(),
                run: self.run(),
            },
            packing: inputs.packing.packing(),
            place: cache::Place {
                dirs: self.dirs.clone(),
                remote: Arc::clone(&place.remote),
                keys: self.keys.clone(),
                mode: inputs.restore.mode(is_hosted),
                temporary: self.facts.scratch(),
                deadline: None,
                limit: None,
            },
        }
    }

    /// Adds a note that there is no cache, and why.
    pub(super) fn note_no_cache(&mut self, error: &RemoteError) {
        tracing::warn!("{error}");
        let severity = if matches!(error, RemoteError::Unavailable(_)) { Severity::Notice } else { Severity::Warning };
        self.report.note(
            Note::silent(severity, Code::NoCache, error.to_string()).with_remedy("The job continues without a cache."),
        );
    }

    /// Adds a note if the job wants to save but is known to have no write access before any request. The scopes of the token are
    /// only a hint, so the save is tried anyway.
    pub(super) fn note_read_only(&mut self, place: &Place) {
        let Some(github) = place.github.as_ref().filter(|_| self.wants_to_save()) else { return };
        let (mode, scopes) = (github.mode(), github.scopes());
        let (message, remedy) = if !mode.writable() {
            let message = format!("The `cache-mode` of this job is `{}`: nothing can be saved.", mode.word());
            (message, "Set `cache-mode: write` for the job, or the workflow, that is to save.")
        } else if !scopes.is_empty() && !scopes.iter().any(TokenScope::writable) {
            let names: Vec<&str> = scopes.iter().map(|scope| &*scope.scope).collect();
            let message = format!("This job may read the cache and not write to it ({}).", names.join(", "));
            let remedy = "GitHub does so for events that anyone can cause. Have a job on `push` or `schedule` of the default \
                          branch save; this one finds what that one saved.";
            (message, remedy)
        } else {
            return;
        };
        tracing::info!("{message} {remedy}");
        self.report.note(Note::silent(Severity::Notice, Code::ReadOnlyToken, message).with_remedy(remedy));
    }

    fn wants_to_save(&self) -> bool {
        self.inputs.action != Action::Restore && !self.inputs.save.when.is_never()
    }

    /// Takes over what earlier steps planned and built.
    pub(super) fn take_over_steps(&mut self) {
        if let Ok(before) = Report::read(&self.report_path) {
            (self.report.plan, self.report.builds) = (before.plan, before.builds);
        }
    }

    /// Writes the report; it is only informative, so a failure is just logged.
    pub(super) fn write_report(&mut self) {
        self.report.job.ended = crate::base::clock::now();
        if let Err(error) = self.report.write(&self.report_path) {
            tracing::warn!("{error}");
        }
    }
}

/// The name of the cache: the input `remote`, or `NIX_CACHE_REMOTE`, or else `github`.
fn remote_name(inputs: &Inputs) -> String {
    let given = inputs.remote.remote.clone().or_else(|| std::env::var(env_vars::NIX_CACHE_REMOTE).ok());
    given.filter(|name| !name.is_empty()).unwrap_or_else(|| "github".to_owned())
}

/// The keys in the inputs. Secret keys are masked in the log before they are used.
fn keyring(inputs: &Inputs) -> Result<Keyring, Failure> {
    let signing = inputs.secrets.signing_key.as_ref().map_or("", |key| key.expose_secret());
    signing.split_whitespace().for_each(annotate::mask);
    inputs.trust.keyring(signing)
}

fn part(key: &Key, name: &str) -> String {
    key.parts.iter().find(|part| part.name == name).map(|part| part.value.clone()).unwrap_or_default()
}
