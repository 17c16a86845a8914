//! Keys, which select the snapshot for a job. They are computed from the meaning of `flake.lock`, not from its bytes.
//!
//! A computed key is `v1-<prefix>-<system>-<nixpkgs>-<lock>-<extra>`, ordered from the part that changes least to the one that
//! changes most, so that a prefix of it is a near hit.

mod canon;
mod error;
mod escape;
mod extra;
mod files;
mod fingerprint;
mod follows;
mod inputs;
mod key;
mod lock;
mod locks;
mod nixpkgs;
mod pattern;
#[cfg(test)]
mod properties;
mod system;

use std::path::PathBuf;

use serde::Serialize;

pub(crate) use error::KeyError;
pub(crate) use escape::{MAX_KEY_BYTES, escape, series_key};
pub(crate) use files::hash_files;
pub(crate) use inputs::{LockInput, LockInputs};
pub use key::key;
pub(crate) use system::current_system;

/// What a key is made of. [`KeyRequest::new`] has the defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRequest {
    /// The first word of the key, which keeps apart what shall never meet. Empty means `nix`.
    pub prefix: String,
    /// The Nix system, as `x86_64-linux`. Empty means [`current_system`].
    pub system: String,
    /// Lock files, relative to `base` or absolute, and globs under `base`; a glob that starts with `!` takes files away
    /// from what the other globs find. Empty means `flake.lock` in `base`, which need not exist.
    pub locks: Vec<PathBuf>,
    /// The project's folder.
    pub base: PathBuf,
    /// Globs, relative to `base`, of further files that the key shall depend on. See [`hash_files`].
    pub key_files: Vec<String>,
    /// Names of environment variables whose values the key shall depend on.
    pub env_vars: Vec<String>,
    /// Free text that the key shall depend on.
    pub extra: Option<String>,
    /// A key that is used as it is. Nothing is computed then.
    pub primary_key: Option<String>,
    /// Prefixes that are used as they are, the first one first.
    pub restore_prefixes: Option<Vec<String>>,
}

impl KeyRequest {
    /// The request of a user who says nothing, for the project in `base`.
    #[must_use]
    pub fn new(base: impl Into<PathBuf>) -> Self {
        Self {
            prefix: String::new(),
            system: String::new(),
            locks: Vec::new(),
            base: base.into(),
            key_files: Vec::new(),
            env_vars: Vec::new(),
            extra: None,
            primary_key: None,
            restore_prefixes: None,
        }
    }
}

/// A key, what else may stand in for it, and how it came to be. All texts are still to be escaped (see [`escape`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Key {
    /// The key of exactly this job.
    #[serde(rename = "primary-key")]
    pub primary: String,
    /// Prefixes of other keys that are worth having, from near to far.
    pub restore_prefixes: Vec<String>,
    /// What the key is made of, in its order.
    pub parts: Vec<Part>,
}

/// One part of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Part {
    /// What it is called: `format`, `prefix`, `system`, `nixpkgs`, `lock`, `extra`, or `primary-key` for a given one.
    pub name: String,
    /// Its text in the key.
    pub value: String,
    /// For people: what went into it, a line each. Without values of environment variables and without free text.
    pub from: Vec<String>,
}

impl Part {
    fn new(name: &str, value: impl Into<String>, from: impl IntoIterator<Item = String>) -> Self {
        let from = from.into_iter().map(|line| error::printable(&line)).collect();
        Self { name: name.to_owned(), value: value.into(), from }
    }
}

impl Key {
    /// The key, its restore prefixes and what went into each part, as lines for people. Ends in a newline.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut lines = vec![format!("key: {}", self.primary)];
        if self.restore_prefixes.is_empty() {
            lines.push("restore prefixes: none".to_owned());
        } else {
            lines.push("restore prefixes, from near to far:".to_owned());
            lines.extend(self.restore_prefixes.iter().map(|prefix| format!("  {prefix}")));
        }
        lines.push("parts:".to_owned());
        for part in &self.parts {
            lines.push(format!("  {}: {}", part.name, part.value));
            lines.extend(part.from.iter().map(|line| format!("    - {line}")));
        }
        lines.push(String::new());
        lines.join("\n")
    }
}
