//! Many small layers become few when the cache is warmed.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::Project;
use crate::support::cache::entries;
use crate::support::nix;

/// Number of layers above which a save joins some.
const MOST: usize = 8;

/// The newest generation of the snapshot.
fn newest(project: &Project) -> Option<PathBuf> {
    entries(&project.cache, "snapshot").into_iter().max_by_key(|file| {
        let name = file.to_string_lossy().into_owned();
        name.rsplit_once("#g").map_or(0, |(_, number)| number.parse::<u64>().unwrap())
    })
}

fn layers(project: &Project) -> usize {
    newest(project).map_or(0, |file| nix_cache::snapshot::decode(&fs::read(file).unwrap()).unwrap().layers.len())
}

#[test]
fn layers_that_killed_jobs_left_are_joined() {
    let Some(nix) = nix::all().last() else { return };
    let project = Project::new(nix);
    let mut paths = BTreeSet::new();
    for number in 0..2 * MOST {
        let store = project.flake.machine.store(&format!("part-{number}"));
        let file = project.flake.machine.path(&format!("content-{number}"));
        fs::write(&file, format!("{number} ").repeat(10_000)).unwrap();
        store.nix_store(&["--add", file.to_str().unwrap()]);
        paths.extend(store.valid());
        let before = newest(&project);
        let mut save = project.flake.machine.nix_cache(&["save", "--quiet", "--lane", &format!("part-{number}")]);
        save.arg("--project").arg(&project.flake.repository).arg("--store-root").arg(&store.root);
        save.arg("--remote").arg(format!("dir:{}", project.cache.display()));
        let mut save = save.spawn().unwrap();
        // The last ones end before they can join layers.
        while number >= MOST && newest(&project) == before && save.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(20));
        }
        if number >= MOST {
            let _ = save.kill();
        }
        save.wait().unwrap();
        if layers(&project) > MOST {
            break;
        }
    }
    assert!(layers(&project) > MOST);
    let run = project.warm(&project.flake.machine.store("warm"), &["--targets", "tool"]);
    assert_eq!(run.code, Some(0), "{}{}", run.out, run.log);
    assert!(layers(&project) <= MOST, "{} layers: {}", layers(&project), run.log);
    let (store, outcome) = project.restored("next");
    assert_eq!((&outcome["hit"], &outcome["paths-lost"]), (&"exact".into(), &0.into()), "{outcome}");
    assert!(store.valid().is_superset(&paths), "everything that the jobs saved");
}
