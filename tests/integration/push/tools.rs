//! Pushes with the tools of services. The tools cannot be installed here: programs that check their arguments, input and
//! environment take their place, by the conventions that each tool documents.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{failing, push_command};
use crate::support::machine::{Machine, TestStore};
use crate::support::nix;
use crate::support::program::{Run, notes};

/// Writes a program for `sh` into a folder.
pub(crate) fn program(folder: &Path, name: &str, script: &str) {
    fs::create_dir_all(folder).unwrap();
    let file = folder.join(name);
    // No token of ours, and no secret of the tool among the arguments.
    let checks = "[ -z \"$GITHUB_TOKEN$NIX_CACHE_PUSH_TOKEN$ACTIONS_RUNTIME_TOKEN\" ] || exit 65\n\
                  case \"$*\" in *hunter2*) exit 66;; esac\n";
    fs::write(&file, format!("#!/bin/sh\n{checks}{script}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
}

/// `nix-cache push` with the programs of a folder on PATH.
fn with_tools(store: &TestStore, tools: &Path, to: &str, paths: &[String]) -> std::process::Command {
    let mut command = push_command(store, to, None, paths);
    let known = command.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, value)| value).unwrap().to_owned();
    let folders = [tools.to_owned()].into_iter().chain(std::env::split_paths(&known));
    command.env("PATH", std::env::join_paths(folders).unwrap());
    for name in ["GITHUB_TOKEN", "NIX_CACHE_PUSH_TOKEN", "ACTIONS_RUNTIME_TOKEN"] {
        command.env(name, "a-token-of-ours");
    }
    command.env("CACHIX_AUTH_TOKEN", "hunter2");
    command
}

#[test]
fn each_tool_gets_the_paths_as_it_documents_and_in_their_order() {
    let Some(nix) = nix::all().last() else { return };
    let machine = Machine::new(nix);
    let (store, tools, given) = (machine.store("first"), machine.path("tools"), machine.path("given"));
    let built = store.build(&["everything"]);
    let expected: Vec<String> =
        store.nix_store(&["--query", "--requisites", &built[0]]).lines().map(str::to_owned).collect();
    let keep = format!("cat >> {}", given.display());
    let arguments = |words: &str| format!("[ \"$*\" = '{words}' ] || exit 64\n");
    let cachix = format!("{}[ \"$CACHIX_AUTH_TOKEN\" = hunter2 ] || exit 67\n{keep}", arguments("push my-cache"));
    program(&tools, "cachix", &cachix);
    program(&tools, "attic", &format!("{}{keep}", arguments("push --stdin --no-closure ci:main")));
    let server =
        "[ \"$NIKS3_SERVER_URL\" = https://niks3.example.org ] || exit 68\n[ \"$1\" = push ] || exit 64\nshift";
    program(&tools, "niks3", &format!("{server}\nprintf '%s\\n' \"$@\" >> {}", given.display()));
    for to in ["cachix:my-cache", "attic:ci:main", "niks3:https://niks3.example.org"] {
        let outcome = Run::of(with_tools(&store, &tools, to, &built)).json();
        assert_eq!((&outcome["sinks"][0]["complete"], notes(&outcome)), (&true.into(), vec![]), "{outcome}");
        let text = fs::read_to_string(&given).unwrap();
        fs::remove_file(&given).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.iter().copied().collect::<BTreeSet<_>>(), expected.iter().map(String::as_str).collect());
        assert_eq!((lines.len(), lines.last()), (expected.len(), Some(&&*built[0])), "{to}");
    }
}

#[test]
fn a_tool_that_fails_or_is_absent_is_a_warning_with_a_remedy() {
    let Some(nix) = nix::all().last() else { return };
    let machine = Machine::new(nix);
    let (store, tools) = (machine.store("first"), machine.path("tools"));
    let built = store.build(&["one"]);
    for (to, package) in
        [("cachix:c", "cachix"), ("attic:s:c", "attic-client"), ("niks3:https://n.example.org", "niks3")]
    {
        let outcome = failing(with_tools(&store, &tools, to, &built));
        let text = outcome["notes"][0]["message"].as_str().unwrap();
        assert!(text.contains(&format!("nixpkgs#{package}")), "{outcome}");
    }
    program(&tools, "cachix", "cat > /dev/null; echo 'Error: unauthorised, token=hunter2' >&2; exit 3");
    let run = Run::of(with_tools(&store, &tools, "cachix:c", &built));
    assert_eq!(run.code, Some(1), "{}", run.log);
    for says in ["exit status: 3", "unauthorised", "Check CACHIX_AUTH_TOKEN"] {
        assert!(run.log.contains(says), "{}", run.log);
    }
    assert!(!run.log.contains("hunter2") && !run.out.contains("hunter2"), "{}", run.log);
    // One that does not read its input to the end is not trouble.
    program(&tools, "cachix", "exit 0");
    assert_eq!(Run::of(with_tools(&store, &tools, "cachix:c", &built)).code, Some(0));
    // One that hangs is ended.
    program(&tools, "cachix", "exec sleep 600");
    let mut hanging = with_tools(&store, &tools, "cachix:c", &built);
    hanging.args(["--push-timeout", "3"]);
    assert!(failing(hanging)["notes"][0]["message"].as_str().unwrap().contains("time for it was used up"));
}
