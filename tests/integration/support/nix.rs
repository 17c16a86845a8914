//! The versions of Nix that are here.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use super::{folder::Folder, machine::Machine, skip};

/// One Nix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Nix {
    /// What it says of itself: `2.34.8`.
    pub version: String,
    /// The folder of its programs; None where they are found on PATH.
    pub programs: Option<PathBuf>,
}

impl Nix {
    fn at(programs: Option<PathBuf>) -> Option<Self> {
        let program = programs.as_ref().map_or_else(|| "nix-store".into(), |folder| folder.join("nix-store"));
        let output = Command::new(program).arg("--version").output().ok().filter(|output| output.status.success())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Some(Self { version: text.split_whitespace().last()?.to_owned(), programs })
    }
}

/// Every Nix that is here and can build in a store of its own: the installed one and the one that `NIX_CACHE_TEST_NEWER_NIX`
/// names. Says which they are, and why one is left out.
pub(crate) fn all() -> &'static [Nix] {
    static ALL: OnceLock<Vec<Nix>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut found = Vec::new();
        match Nix::at(None) {
            Some(nix) => found.push(nix),
            None => skip("There is no `nix-store` on PATH: nothing of Nix is tested."),
        }
        match std::env::var_os("NIX_CACHE_TEST_NEWER_NIX") {
            Some(folder) => match Nix::at(Some(folder.into())) {
                Some(nix) => found.push(nix),
                None => skip("NIX_CACHE_TEST_NEWER_NIX names no folder with a `nix-store` that runs."),
            },
            None => eprintln!("NIX_CACHE_TEST_NEWER_NIX is not set: no newer Nix is tested."),
        }
        found.retain(can_build);
        for nix in &found {
            eprintln!("Tested with Nix {}", nix.version);
        }
        found
    })
}

/// Whether a build in a store of one's own works. Nix does that only in its sandbox, which needs namespaces.
fn can_build(nix: &Nix) -> bool {
    let machine = Machine::in_folder(Folder::new(), nix);
    let built = machine.store("probe").try_build(&["one"]);
    if let Err(said) = &built {
        skip(&format!("Nix {} cannot build in a store of its own here: {said}", nix.version));
    }
    built.is_ok()
}
