//! Content-addressed derivations (the experimental feature `ca-derivations` of Nix): what they made is known after a restore.

use std::process::Command;

use super::saved;
use crate::support::machine::{Machine, TestStore};
use crate::support::nix;
use crate::support::program::{KEY, Run, notes};

const CONFIG: &str = "experimental-features = nix-command flakes ca-derivations
substituters =
build-users-group =
sandbox-paths =
";

fn with_feature(mut command: Command) -> Command {
    command.env("NIX_CONFIG", CONFIG);
    command
}

/// What a build prints, and how many derivations it had to build.
fn build(store: &TestStore) -> (String, usize) {
    let mut command = with_feature(store.build_command(&["usesAddressed"]));
    let output = command.arg("--no-out-link").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let count = said.lines().filter(|line| line.starts_with("building '")).count();
    (String::from_utf8(output.stdout).unwrap(), count)
}

#[test]
fn a_content_addressed_derivation_is_not_built_again_after_a_restore() {
    for nix in nix::all() {
        let machine = Machine::new(nix);
        let cache = machine.path("cache");
        // The snapshot of a store without the feature gets them from a later save.
        let first = saved(&machine, &cache);
        let (made, built) = build(&first);
        assert_eq!(built, 3);
        let outcome = first.save(&cache, KEY, &[]);
        assert_eq!((&outcome["reason"], notes(&outcome)), (&"new-paths".into(), vec![]), "{outcome}");
        for mode in ["unpack", "mount"] {
            let store = machine.store(mode);
            assert!(with_feature(store.command("nix-store")).arg("--init").status().unwrap().success());
            let outcome = store.restore(&cache, KEY, &["--restore-mode", mode]);
            assert_eq!((outcome["paths-lost"].as_u64(), notes(&outcome)), (Some(0), vec![]), "{outcome}");
            assert_eq!(build(&store), (made.clone(), 0), "with Nix {}, {mode}", nix.version);
            store.assert_sound();
            assert_eq!(store.save(&cache, KEY, &[])["reason"], "nothing-new");
            let mut detach = machine.nix_cache(&["detach"]);
            detach.arg("--store-root").arg(&store.root);
            let run = Run::of(detach);
            assert_eq!(run.code, Some(0), "{run:?}");
        }
        // Where Nix has no place for them, the paths are restored all the same.
        let plain = machine.store("plain");
        let outcome = plain.restore(&cache, KEY, &[]);
        assert_eq!((outcome["paths-lost"].as_u64(), notes(&outcome)), (Some(0), vec![]), "{outcome}");
    }
}
