//! A save that leaves out paths of a substituter, and the restore that fetches them from there.

use serde_json::{Value, json};

use crate::support::machine::{Machine, TestStore};
use crate::support::nix;
use crate::support::program::{KEY, Run};

use super::{base, snapshot_paths};

#[test]
fn what_a_substituter_offers_is_not_saved_and_comes_from_there() {
    for nix in nix::all() {
        let machine = Machine::new(nix);
        let (cache, first, second) = (machine.path("cache"), machine.store("first"), machine.store("second"));
        let built = first.build(&["everything"]);
        // Others refer to it.
        let infos = nix_cache::store::read_all(&first.dirs()).unwrap();
        let offered = infos.keys().map(ToString::to_string).find(|path| path.ends_with("-package-1")).unwrap();
        let substituter = format!("file://{}", machine.path("substituter").display());
        let path = format!("/nix/store/{offered}");
        let mut copy = machine.command("nix");
        copy.args(["copy", "--to", &substituter, &path]).arg("--store").arg(&first.root);
        let copied = copy.output().unwrap();
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));

        let config = format!(
            "experimental-features = nix-command flakes\nsubstituters = {substituter}\nrequire-sigs = false\n\
             sandbox-paths =\nbuild-users-group =\n"
        );
        let run = |store: &TestStore, verb: &str, key: &str, more: &[&str]| -> Value {
            let mut command = store.verb(verb, &cache, key, more);
            command.env("NIX_CONFIG", &config);
            Run::of(command).json()
        };
        let saved = run(&first, "save", KEY, &["--include", "not-upstream"]);
        assert_eq!(saved["reason"], "new-key", "{saved}");
        let held = snapshot_paths(&machine, &cache, KEY);
        assert!(!held.contains(&offered) && held.contains(&base(&built[0])), "{held:?}");
        let restored = run(&second, "restore", KEY, &[]);
        assert_eq!((&restored["hit"], &restored["paths-lost"]), (&json!("exact"), &json!(0)), "{restored}");
        second.assert_sound();
        let valid = nix_cache::store::read_all(&second.dirs()).unwrap();
        assert!(valid.keys().any(|path| path.to_string() == offered));
        // A save without the option keeps it.
        run(&first, "save", "tests-all", &[]);
        assert!(snapshot_paths(&machine, &cache, "tests-all").contains(&offered));
    }
}
