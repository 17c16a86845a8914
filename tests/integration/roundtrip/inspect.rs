//! What `inspect` says of a snapshot.

use super::{KEY, inspect, saved};
use crate::support::machine::Machine;
use crate::support::nix;
use crate::support::program::Run;
use crate::support::rows::rows;

#[test]
fn inspect_tells_what_is_in_the_cache() {
    for nix in nix::all() {
        let machine = Machine::new(nix);
        let cache = machine.path("cache");
        let first = saved(&machine, &cache);
        first.build(&["onTop"]);
        first.save(&cache, KEY, &["--lane", "second lane"]);
        let found = inspect(&machine, &cache, KEY);
        assert_eq!((&found["key"], &found["generation"]), (&KEY.into(), &2.into()));
        let rows = rows(&first);
        let paths = found["paths"].as_array().unwrap();
        assert_eq!(paths.len(), rows.paths.len());
        for path in paths {
            let full = format!("/nix/store/{}", path["path"].as_str().unwrap());
            let row = &rows.paths[&full];
            assert_eq!((&path["nar-hash"], path["nar-size"].as_i64()), (&row.hash.clone().into(), row.nar_size));
            let references = rows.references.iter().filter(|(referrer, _)| *referrer == full).count();
            assert_eq!(path["references"], references);
        }
        let layers = found["layers"].as_array().unwrap();
        assert_eq!(layers.len(), 2);
        for layer in layers {
            let file = cache.join("layer").join(layer["id"].as_str().unwrap());
            assert_eq!(layer["bytes"], file.metadata().unwrap().len());
        }
        let lanes: Vec<&String> = found["lanes"].as_object().unwrap().keys().collect();
        assert_eq!(lanes, ["default", "second lane"]);
        assert_eq!(found["facts"]["lane"], "second lane");
        let text = inspect_text(&machine, &cache);
        assert!(text.contains(&format!("{KEY}, generation 2")) && text.contains("lane second lane"), "{text}");
        assert!(rows.paths.keys().all(|path| text.contains(&path["/nix/store/".len()..])), "{text}");
    }
}

fn inspect_text(machine: &Machine, cache: &std::path::Path) -> String {
    let remote = format!("dir:{}", cache.display());
    let run = Run::of(machine.nix_cache(&["inspect", "--paths", "--primary-key", KEY, "--remote", &remote]));
    assert_eq!(run.code, Some(0), "{}", run.log);
    run.out
}
