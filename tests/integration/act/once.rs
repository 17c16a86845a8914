//! How often a whole workflow evaluates: a wrapper around `nix` writes down every call of it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::plan::{Pushed, built};
use crate::support::machine::Machine;

/// A `nix` that writes down the job it was called in and its arguments, and then is the real one.
struct Wrapper {
    folder: PathBuf,
    log: PathBuf,
}

impl Wrapper {
    fn new(machine: &Machine) -> Self {
        let (folder, log) = (machine.path("wrapper"), machine.path("calls"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = machine.nix.programs.iter().cloned().chain(std::env::split_paths(&path));
        let real = path.map(|folder| folder.join("nix")).find(|nix| nix.is_file()).expect("there is a Nix");
        let script = format!(
            "#!/bin/sh\nprintf '%s\\t%s\\n' \"${{NIX_CACHE_STORE_ROOT##*/}}\" \"$*\" >>'{}'\nexec '{}' \"$@\"\n",
            log.display(),
            real.display()
        );
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("nix"), script).unwrap();
        fs::set_permissions(folder.join("nix"), fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder, log }
    }

    /// Every call since the last look: the job, and the arguments.
    fn calls(&self) -> Vec<(String, String)> {
        let text = fs::read_to_string(&self.log).unwrap();
        fs::write(&self.log, "").unwrap();
        text.lines().filter_map(|line| line.split_once('\t')).map(|(job, call)| (job.into(), call.into())).collect()
    }
}

/// Whether a call evaluates anything: it says so, or names an attribute of a flake.
fn evaluates(call: &str) -> bool {
    let first = call.split(' ').next().unwrap_or_default();
    first == "eval" || first == "flake" || call.contains('#') || call.contains("--expr")
}

/// The attributes of which derivations were asked for, and how often each.
fn asked(calls: &[(String, String)]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for (_, call) in calls.iter().filter(|(_, call)| call.contains("drvPath")) {
        let attr = call.split(' ').find_map(|word| word.split_once('#')).expect("an attribute is asked for").1;
        *counts.entry(attr.to_owned()).or_default() += 1;
    }
    counts
}

#[test]
fn a_workflow_evaluates_once_and_its_builds_never() {
    let Some(mut pushed) = Pushed::new() else { return };
    let wrapper = Wrapper::new(&pushed.project.machine);
    let first = pushed.push_with("once.yml", |act| act.with_programs(&wrapper.folder));
    assert_eq!(built(&first).0.len(), 6, "{}", first.text);
    let calls = wrapper.calls();
    let (of_plan, of_builds): (Vec<_>, Vec<_>) =
        calls.into_iter().filter(|(job, _)| !job.is_empty()).partition(|(job, _)| job == "plan");
    let asked = asked(&of_plan);
    // Three machines, the set of packages and the set of checks: each once.
    assert!(asked.len() == 5 && asked.values().all(|count| *count == 1), "{asked:?}");
    let built: Vec<_> = of_builds.iter().filter(|(_, call)| call.starts_with("build ")).collect();
    assert_eq!(built.len(), 4, "{of_builds:?}");
    assert!(built.iter().all(|(_, call)| call.contains(".drv")), "{built:?}");
    let evaluated: Vec<_> = of_builds.iter().filter(|(_, call)| evaluates(call)).collect();
    assert!(evaluated.is_empty(), "{evaluated:?}");
    // What the jobs built is in their cache: nothing was lost without a checkout.
    pushed.write("docs/manual.md", "2");
    let second = pushed.push_with("once.yml", |act| act.with_programs(&wrapper.folder));
    assert_eq!(super::plan::affected(&second), [""; 0], "{}", second.text);
}
