//! Makes sure that the store exists.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use super::dirs::store_argument;
use super::error::show;
use super::{StoreDirs, StoreError};
use crate::base::child::without_secrets;
use crate::base::env_vars;

/// Makes sure that the store has a database. An empty store below a root is created with the `nix-store` in `PATH`; creating the
/// machine's own store is left to the Nix installer.
///
/// # Errors
/// When there is no database and none can be made, with the remedy.
pub(crate) fn ensure(dirs: &StoreDirs) -> Result<(), StoreError> {
    ensure_with(dirs, OsStr::new("nix-store"))
}

/// Like [`ensure`], with a given `nix-store`: a path, or a name to look up in `PATH`.
///
/// # Errors
/// When there is no database and none can be made, with the remedy.
pub fn ensure_with(dirs: &StoreDirs, nix_store: &OsStr) -> Result<(), StoreError> {
    if is_there(dirs) {
        return Ok(());
    }
    let Some(root) = dirs.root() else {
        return Err(StoreError::no_store(dirs));
    };
    initialise(dirs, root, nix_store)?;
    if is_there(dirs) { Ok(()) } else { Err(StoreError::no_store(dirs)) }
}

fn is_there(dirs: &StoreDirs) -> bool {
    dirs.db_path().is_file() && dirs.state_dir().join("db/schema").is_file()
}

/// `--init` of Nix 2.8 and 2.34 creates every missing folder above the store and needs no home, group or settings.
fn initialise(dirs: &StoreDirs, root: &Path, nix_store: &OsStr) -> Result<(), StoreError> {
    let mut command = Command::new(nix_store);
    command.arg("--store").arg(store_argument(root)).arg("--init").stdin(Stdio::null());
    // They would make it use another place for a part of the store.
    for name in env_vars::NIX_FOLDERS.into_iter().chain([env_vars::NIX_REMOTE]) {
        command.env_remove(name);
    }
    let output = crate::base::child::output(without_secrets(&mut command)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => StoreError::NoStore {
            place: show(&dirs.db_path()),
            remedy: "`nix-store` is needed on PATH to create one; install Nix in a step before this one".into(),
        },
        _ => StoreError::Init { root: show(root), why: error.to_string() },
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(StoreError::Init {
        root: show(root),
        why: format!("{} ({})", said.trim().trim_end_matches('.'), output.status),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_nix_the_error_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = StoreDirs::new(Some(dir.path()));
        let error = ensure_with(&dirs, OsStr::new("/nonexistent/nix-store")).unwrap_err().to_string();
        assert!(error.contains("install Nix") && error.contains(dir.path().to_str().unwrap()), "{error}");
    }

    #[test]
    fn what_nix_says_is_passed_on() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = ensure_with(&StoreDirs::new(Some(&file)), OsStr::new("false")).unwrap_err();
        assert!(matches!(&error, StoreError::Init { .. }) && error.to_string().contains("exit status: 1"), "{error}");
    }
}
