//! Builders and checks find no token, neither in their environment nor in that of a parent process.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::project;
use crate::support::program::Run;
use crate::support::skip_refused;

/// Fails where a process above, up to the first, has a secret in the environment it began with. (Its own text does not match.)
const LOOK: &str = "own: p=$$; while [ $p -gt 1 ]; do \
    if tr '\\0' '\\n' </proc/$p/environ 2>/dev/null | grep -q very-secre[t]; then echo $p has it; exit 1; fi; \
    p=$(sed -n 's/^PPid:[[:space:]]*//p' /proc/$p/status); done";

const TOKENS: [&str; 5] =
    ["ACTIONS_RUNTIME_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "GITHUB_TOKEN", "GH_TOKEN", "INPUT_JOB-TOKEN"];

#[test]
fn no_process_above_a_check_has_a_token() {
    let Some(project) = project::first() else { return };
    let mut plain = project.machine.nix_cache(&["build", "--no-link", "--quiet", "--check-command", LOOK]);
    let mut action = project.machine.nix_cache(&["action", "build"]);
    action.env("NIX_CACHE_INPUTS", json!({ "targets": "", "check-commands": LOOK, "summarize": "false" }).to_string());
    action.env("RUNNER_TEMP", project.machine.path("")).env("GITHUB_WORKSPACE", &project.folder);
    for command in [&mut plain, &mut action] {
        command.current_dir(&project.folder).envs(TOKENS.map(|name| (name, "very-secret")));
    }
    for run in [Run::of(plain), Run::of(action)] {
        assert_eq!(run.code, Some(0), "{run:?}");
    }
}

#[test]
fn another_process_of_the_same_user_cannot_look_into_this_one() {
    let Some(project) = project::first() else { return };
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let program = folder.path().join("nix-cache");
    fs::copy(env!("CARGO_BIN_EXE_nix-cache"), &program).unwrap();
    let mut command = project.machine.command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
    command.args(["build", "--no-link", "--check-command", "own: ! cat /proc/$PPID/environ && ! cat /proc/$PPID/maps"]);
    let run = Run::of({
        command.current_dir(folder.path());
        command
    });
    if run.code.is_none() || run.log.contains("setpriv:") {
        return skip_refused("this test cannot become another user.");
    }
    assert_eq!(run.code, Some(0), "{run:?}");
}
