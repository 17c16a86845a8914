//! What this process knows and no other may: tokens and keys, and how they get here.
//!
//! The environment of a process can be read in `/proc` by every process of its user, so the hook hands tokens over on standard
//! input: a JSON object with `variables`, which stand in the place of those in the environment, and `inputs`, which are added
//! to the others. Where nobody hands anything over, the environment is asked. Other processes of the same user can look into
//! neither memory nor environment ([`lock`]); root can.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::base::child::{is_secret, without_secrets};
use crate::base::env_vars::{NIX_CACHE_INPUTS, NIX_CACHE_JOB_STATUS, NIX_CACHE_MATRIX, NIX_CACHE_SECRETS};

/// Inputs that a composite action cannot put into that JSON.
const ADDED: [(&str, &str); 2] = [(NIX_CACHE_MATRIX, "matrix"), (NIX_CACHE_JOB_STATUS, "job-status")];
/// More bytes than any token has.
const MOST: u64 = 1 << 20;

static TAKEN: OnceLock<Secrets> = OnceLock::new();

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Secrets {
    variables: BTreeMap<String, String>,
    inputs: Map<String, Value>,
}

/// Keeps other processes of the same user out of this one's memory and environment, as far as the system can.
pub(crate) fn lock() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable) {
        tracing::debug!("other processes can look into this one: {error}");
    }
}

/// Takes in what the hook hands over, if it does. To be called once, before anything asks for it.
pub(crate) fn take_in() -> Result<(), String> {
    if std::env::var_os(NIX_CACHE_SECRETS).is_none_or(|how| how != "stdin") {
        return Ok(());
    }
    let mut text = String::new();
    let read = std::io::stdin().lock().take(MOST).read_to_string(&mut text);
    // What was given is never part of the message.
    let Some(secrets) = read.ok().and_then(|_| serde_json::from_str::<Secrets>(&text).ok()) else {
        return Err(format!("{NIX_CACHE_SECRETS} says that tokens come on standard input, and none came."));
    };
    let _ = TAKEN.set(secrets); // only the first call sets it
    Ok(())
}

/// The value of a variable: as it was handed over, or as the environment has it.
pub(crate) fn var(name: &str) -> Option<String> {
    let handed = TAKEN.get().and_then(|secrets| secrets.variables.get(name).cloned());
    handed.or_else(|| std::env::var(name).ok())
}

/// The inputs of the action, as JSON.
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

/// Starts this program again without the tokens in its environment, if it has any: for work that needs none and runs code of
/// others. The environment that a process began with stays readable whatever it does, so removing variables is not enough.
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
    // It comes back only when that fails.
    let error = command.exec();
    tracing::warn!("The tokens in the environment cannot be removed ({error}): what is built here can read them.");
}
