//! Tokens and keys that only this process may know, and how it receives them.
//!
//! Every process of the same user can read the environment of a process in `/proc`. The hook therefore passes tokens on standard
//! input: a JSON object with `variables`, which replace those in the environment, and `inputs`, which are added to the others.
//! If nothing is passed, the environment is used. Other processes of the same user can read neither memory nor environment
//! ([`lock`]); root can.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::base::child::{is_login, is_secret, without_secrets};
use crate::base::env_vars::{NIX_CACHE_INPUTS, NIX_CACHE_JOB_STATUS, NIX_CACHE_MATRIX, NIX_CACHE_SECRETS};
use crate::base::platform::{Gid, Uid, become_user};

/// Inputs that a composite action cannot add to that JSON.
const ADDED: [(&str, &str); 2] = [(NIX_CACHE_MATRIX, "matrix"), (NIX_CACHE_JOB_STATUS, "job-status")];
/// Largest input in bytes; more than any token has.
const MOST: u64 = 1 << 20;

static TAKEN: OnceLock<Secrets> = OnceLock::new();

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Secrets {
    variables: BTreeMap<String, String>,
    inputs: Map<String, Value>,
}

/// Keeps other processes of the same user from reading the memory and environment of this one, as far as the system supports it.
pub(crate) fn lock() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable) {
        tracing::debug!("other processes can inspect this one: {error}");
    }
}

/// Takes the rights of another user for good, as root. Other processes of that user cannot inspect this one at any time, because it
/// was started as root. Call this before there is a second thread: rights belong to threads, and new ones inherit them.
///
/// # Errors
/// When the rights cannot be changed.
pub(crate) fn become_for_good(user: u32, group: u32) -> std::io::Result<()> {
    become_user(Uid::from_raw(user), Gid::from_raw(group))?;
    // The change of rights resets it to a setting of the system.
    lock();
    Ok(())
}

/// Reads what the hook passes on standard input, if it does. Call this once, before any value is needed.
pub(crate) fn take_in() -> Result<(), String> {
    if std::env::var_os(NIX_CACHE_SECRETS).is_none_or(|how| how != "stdin") {
        return Ok(());
    }
    let mut text = String::new();
    let read = std::io::stdin().lock().take(MOST).read_to_string(&mut text);
    // The message never contains the input.
    let Some(secrets) = read.ok().and_then(|_| serde_json::from_str::<Secrets>(&text).ok()) else {
        return Err(format!("{NIX_CACHE_SECRETS} says that tokens are passed on standard input, but none were."));
    };
    let _ = TAKEN.set(secrets); // only the first call sets it
    Ok(())
}

/// Returns the value of a variable: the one passed by the hook, otherwise that of the environment.
pub(crate) fn var(name: &str) -> Option<String> {
    let handed = TAKEN.get().and_then(|secrets| secrets.variables.get(name).cloned());
    handed.or_else(|| std::env::var(name).ok())
}

/// Returns the inputs of the action, as JSON.
pub(crate) fn inputs() -> String {
    let given = std::env::var(NIX_CACHE_INPUTS).unwrap_or_else(|_| "{}".to_owned());
    let Ok(Value::Object(mut all)) = serde_json::from_str(&given) else { return given };
    for (variable, input) in ADDED {
        if let Ok(value) = std::env::var(variable) {
            all.entry(input).or_insert(value.into());
        }
    }
    if let Some(secrets) = TAKEN.get() {
        all.extend(secrets.inputs.clone());
    }
    Value::Object(all).to_string()
}

/// Returns the user's logins that were passed and are not in the environment, for programs that need them there.
pub(crate) fn logins() -> Vec<(String, String)> {
    let passed = TAKEN.get().into_iter().flat_map(|secrets| &secrets.variables);
    let missing = passed.filter(|(name, _)| is_login(name) && std::env::var_os(name).is_none());
    missing.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Returns the text that [`take_in`] reads, for another process of this program that needs the same tokens and inputs: everything that
/// is kept from other child processes, the user's logins, and `more` variables.
pub(crate) fn to_hand_on(more: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let mut variables = TAKEN.get().map(|secrets| secrets.variables.clone()).unwrap_or_default();
    // What is not text is no token.
    let all =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    for (name, value) in all.filter(|(name, _)| is_secret(name) || is_login(name)) {
        if ![NIX_CACHE_INPUTS, NIX_CACHE_SECRETS].contains(&&*name) {
            variables.entry(name).or_insert(value);
        }
    }
    variables.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
    let inputs = serde_json::from_str(&inputs()).unwrap_or(Value::Null);
    serde_json::json!({ "variables": variables, "inputs": inputs }).to_string()
}

/// Restarts this program without the tokens in its environment, if there are any: for work that needs none and runs foreign code.
/// The initial environment of a process stays readable whatever it does, so removing variables is not enough.
pub(crate) fn shed() {
    let secret = |name: &std::ffi::OsStr| name.to_str().is_some_and(|name| is_secret(name) && name != NIX_CACHE_INPUTS);
    if !std::env::vars_os().any(|(name, _)| secret(&name)) {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1));
    without_secrets(&mut command);
    if let Some(inputs) = std::env::var_os(NIX_CACHE_INPUTS) {
        command.env(NIX_CACHE_INPUTS, inputs);
    }
    // `exec` returns only if it fails.
    let error = command.exec();
    tracing::warn!("Cannot remove the tokens from the environment ({error}): builders can read them.");
}
