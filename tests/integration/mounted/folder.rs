//! Our folder beside a store that belongs to a user, while root and that user work with it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Bench, benches, path_named, run, run_detach};
use crate::support::machine::TestStore;
use crate::support::program::KEY;

const USER: u32 = 1234;

fn users_store(bench: &Bench, name: &str) -> TestStore {
    let store = bench.machine.store(name);
    run(Command::new("chown").arg("-R").arg(format!("{USER}:{USER}")).arg(&store.root));
    store
}

fn owner(path: &Path) -> (u32, u32) {
    let found = fs::symlink_metadata(path).unwrap();
    (found.uid(), found.gid())
}

/// Everything at and below a folder: owner, mode and bytes.
fn contents(folder: &Path) -> BTreeMap<PathBuf, (u32, u32, u32, Vec<u8>)> {
    let entry = |path: &Path| {
        let found = fs::symlink_metadata(path).unwrap();
        let bytes = if found.is_file() { fs::read(path).unwrap() } else { Vec::new() };
        (found.uid(), found.gid(), found.permissions().mode(), bytes)
    };
    let all = walkdir::WalkDir::new(folder).into_iter().map(|found| found.unwrap().into_path());
    all.map(|path| (path.clone(), entry(&path))).collect()
}

#[test]
fn after_root_the_owner_of_the_store_goes_on() {
    for bench in benches().take(1) {
        for mode in ["unpack", "mount"] {
            let store = users_store(&bench, mode);
            let outcome = store.restore(&bench.cache, KEY, &["--restore-mode", mode]);
            assert_eq!((&outcome["mode"], &outcome["hit"]), (&mode.into(), &"exact".into()), "{outcome}");
            store.save(&bench.machine.path("other-cache"), "other-key", &[]);
            let assert_owned = || {
                let own = store.dirs().own_dir();
                for entry in walkdir::WalkDir::new(store.root.join("nix/var")) {
                    let path = entry.unwrap().into_path();
                    // What is mounted must not be the user's.
                    if !path.starts_with(own.join("mounts")) {
                        assert_eq!(owner(&path), (USER, USER), "{}", path.display());
                    }
                }
            };
            assert_owned();
            assert_eq!(owner(&store.dirs().real(&path_named(&store, "everything"))), (USER, USER));
            run_detach(&store).json();
            assert_owned();
            store.assert_sound();
        }
    }
}

#[test]
fn roots_paths_are_of_roots_group() {
    for bench in benches().take(1) {
        for mode in ["unpack", "mount"] {
            let store = bench.machine.store(mode);
            // As a multi-user installation has it, with a group for the build users.
            lchown(store.dirs().real_store(), Some(0), Some(4321)).unwrap();
            store.restore(&bench.cache, KEY, &["--restore-mode", mode]);
            for name in ["everything", "package-3"] {
                assert_eq!(owner(&store.dirs().real(&path_named(&store, name))), (0, 0), "{name} by {mode}");
            }
            run_detach(&store).json();
        }
    }
}

/// What root must not touch: folders and files with the names that we use.
fn victim(bench: &Bench) -> PathBuf {
    let victim = bench.machine.path("victim");
    for name in ["layers", "work/work", "upper", "images/one", "indexes", "kept", "mounts/layers", "users/1234"] {
        fs::create_dir_all(victim.join(name)).unwrap();
        fs::write(victim.join(name).join("file"), "root's").unwrap();
    }
    for name in ["lock", "restore.json", "mounted.json", "layer-1-a", ".new-1-1"] {
        fs::write(victim.join(name), "root's").unwrap();
        fs::set_permissions(victim.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    victim
}

#[test]
fn root_follows_no_link_that_a_user_left_in_our_folder() {
    for bench in benches().take(1) {
        let victim = victim(&bench);
        let before = contents(&victim);
        let names =
            ["", "lock", "restore.json", "mounted.json", "layers", "indexes", "mounts", "users", "kept", "layer-1-a"];
        for (number, name) in names.iter().enumerate() {
            let store = users_store(&bench, &format!("planted-{number}"));
            let own = store.dirs().own_dir();
            let place = if name.is_empty() { own.clone() } else { own.join(name) };
            if !name.is_empty() {
                fs::create_dir(&own).unwrap();
                lchown(&own, Some(USER), Some(USER)).unwrap();
            }
            let target = if name.is_empty() { victim.clone() } else { victim.join(name) };
            for target in [target, victim.clone()] {
                for mode in ["mount", "unpack"] {
                    if place.symlink_metadata().is_ok_and(|found| found.is_symlink()) {
                        fs::remove_file(&place).unwrap();
                    } else {
                        nix_cache::store::tree::remove_tree(&place).unwrap();
                    }
                    symlink(&target, &place).unwrap();
                    lchown(&place, Some(USER), Some(USER)).unwrap();
                    let mut command = store.verb("restore", &bench.cache, KEY, &["--restore-mode", mode]);
                    let restored = command.output().unwrap();
                    assert_eq!(contents(&victim), before, "after {name:?}: {}", super::both(&restored));
                    let detached = run_detach(&store);
                    assert_eq!(contents(&victim), before, "after {name:?}: {}{}", detached.out, detached.log);
                    if !name.is_empty() {
                        assert!(restored.status.success(), "{name}: {}", super::both(&restored));
                        assert_eq!(detached.code, Some(0), "{name}: {}", detached.log);
                    }
                }
            }
        }
    }
}

#[test]
fn root_mounts_no_file_that_somebody_else_can_write_to() {
    use nix_cache::attach;
    use nix_cache::attach::{Answer, AttachLayer, AttachRequest, Mode, Request};
    for bench in benches().take(1) {
        let infos = nix_cache::store::read_all(&bench.saved.dirs()).unwrap();
        let layers = crate::support::cache::entries(&bench.cache, "layer");
        for trick in ["owner", "mode", "name"] {
            let store = bench.machine.store(trick);
            let folder = store.dirs().own_dir().join("layers");
            fs::create_dir_all(&folder).unwrap();
            let file = folder.join("layer");
            fs::copy(&layers[0], &file).unwrap();
            match trick {
                "owner" => lchown(&file, Some(USER), Some(USER)).unwrap(),
                "mode" => fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap(),
                _ => fs::hard_link(&file, bench.machine.path("second-name")).unwrap(),
            }
            let layer = AttachLayer {
                id: nix_cache::base::digest::Sha([1; 32]),
                file,
                infos: infos.values().cloned().map(std::sync::Arc::new).collect(),
            };
            let root = Some(store.root.clone());
            let (mode, layers, realisations) = (Mode::Mount, vec![layer], Vec::new());
            let request = AttachRequest {
                store_root: root,
                mode,
                layers,
                threads: 1,
                milliseconds: None,
                realisations,
                daemon_sockets: Vec::new(),
                admit: attach::Admit::Sound,
                first: Vec::new(),
            };
            let answer = attach::perform(&Request::Attach(request), &std::sync::atomic::AtomicU64::new(0)).unwrap();
            let Answer::Attached(attached) = answer else { panic!("{answer:?}") };
            assert_eq!(attached.mode, Mode::Unpack, "{trick}");
            assert!(attached.not_mounted.unwrap().contains("only this user can write to"), "{trick}");
            store.assert_sound();
        }
    }
}
