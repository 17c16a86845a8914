//! Paths of the store that are not what the database says.

use std::collections::BTreeSet;

use super::{KEY, base};
use crate::support::check::flip_byte;
use crate::support::machine::Machine;
use crate::support::nix;
use crate::support::program::notes;

#[test]
fn a_corrupt_path_is_left_out_with_all_that_refers_to_it() {
    for nix in nix::all() {
        let machine = Machine::new(nix);
        let (cache, store) = (machine.path("cache"), machine.store("store"));
        store.build(&["everything"]);
        let corrupt = store.valid().into_iter().find(|path| path.name() == "package-11").unwrap();
        flip_byte(&store.dirs().real(&corrupt).join("lib/small"), 1000);
        let outcome = store.save(&cache, KEY, &[]);
        assert_eq!(notes(&outcome), ["path-corrupt"]);
        let message = outcome["notes"][0]["message"].as_str().unwrap();
        assert!(message.contains(corrupt.as_str()) && message.contains("--repair-path"), "{message}");
        let referrers = store.nix_store(&["-q", "--referrers-closure", &corrupt.full("/nix/store")]);
        let mut lost: BTreeSet<String> = referrers.lines().map(base).collect();
        assert!(lost.len() > 1, "something refers to it");
        // Nix 2.8 fails to build a derivation that has one output and lacks another.
        lost.insert(store.valid().into_iter().find(|path| path.name() == "package-11-doc").unwrap().to_string());
        assert_eq!(outcome["paths-left-out"], lost.len());
        let second = machine.store("second");
        second.restore(&cache, KEY, &[]);
        let there: BTreeSet<String> = second.valid().iter().map(ToString::to_string).collect();
        let expected = store.valid().iter().map(ToString::to_string).filter(|path| !lost.contains(path)).collect();
        assert_eq!(there, expected);
        second.assert_verifies();
        // The next job makes it and saves it.
        assert_eq!(second.builds(&["everything"]), 2);
        second.save(&cache, KEY, &[]);
        let third = machine.store("third");
        third.restore(&cache, KEY, &[]);
        assert_eq!(third.builds(&["everything"]), 0);
        third.assert_verifies();
    }
}

#[test]
fn verify_finds_a_flipped_byte_and_nothing_where_nothing_is() {
    for nix in nix::all() {
        let machine = Machine::new(nix);
        let (cache, store) = (machine.path("cache"), machine.store("store"));
        store.build(&["everything"]);
        store.save(&cache, KEY, &[]);
        let second = machine.store("second");
        second.restore(&cache, KEY, &[]);
        let run = second.verify_program();
        let count = second.valid().len();
        assert_eq!((&run.json()["sound"], &run.json()["damaged"]), (&count.into(), &serde_json::json!({})));
        let victim = second.valid().into_iter().find(|path| path.name() == "package-8-doc").unwrap();
        flip_byte(&second.dirs().real(&victim).join("share/licence"), 3);
        let run = second.verify_program();
        assert_eq!(run.code, Some(1), "{}", run.log);
        assert!(run.log.contains("--repair-path"), "{}", run.log);
        let found: serde_json::Value = serde_json::from_str(&run.out).unwrap();
        let damaged: Vec<&String> = found["damaged"].as_object().unwrap().keys().collect();
        assert_eq!((damaged, &found["sound"]), (vec![&victim.to_string()], &(count - 1).into()));
    }
}
