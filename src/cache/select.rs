//! Selects the paths that a save keeps, as a function from sets of store paths to sets of store paths.

use std::collections::BTreeSet;

use crate::store::{Paths, StorePath};

/// The input of the selection.
pub(super) struct Situation<'a> {
    /// All valid paths.
    pub valid: &'a Paths,
    /// Paths that were valid before the restore.
    pub baseline: &'a BTreeSet<StorePath>,
    /// Paths of the restored snapshot, or of the one of this key.
    pub known: &'a BTreeSet<StorePath>,
    /// Paths that the restore made valid.
    pub restored: &'a BTreeSet<StorePath>,
    /// Paths that this lane used when it last saved, if it ever did.
    pub lane_before: Option<&'a BTreeSet<StorePath>>,
    /// Garbage collector roots.
    pub roots: &'a BTreeSet<StorePath>,
    /// Whether the lock differs from that of the restored snapshot.
    pub lock_changed: bool,
}

pub(super) struct Selection {
    /// All paths for the snapshot, closed under references.
    pub wanted: BTreeSet<StorePath>,
    /// Of these, the paths that this job added or certainly needs: the rest is kept because there is no reason to drop it.
    pub used: BTreeSet<StorePath>,
    /// Of these, the paths that the next job of this lane should find.
    pub lane: BTreeSet<StorePath>,
    /// Of these, the paths that this job is known to have used: built or fetched, rooted, or needed by such a path.
    pub lane_used: BTreeSet<StorePath>,
    /// Paths that this job had to build or fetch because the restore did not provide them, and that will be wanted again.
    pub missed: BTreeSet<StorePath>,
}

/// Selects the paths to keep.
///
/// New paths are kept with their closure, and a new derivation with the outputs of all its inputs, because the next build needs those
/// too. After a change of the lock, all other paths are dropped unless they are rooted. If nothing is new, the job only used existing
/// paths, and all of them stay.
///
/// Merely reading a path leaves no trace, neither on a mounted layer nor on an unpacked one. A new lane therefore uses everything that
/// it had; a known lane adds what it built, fetched or rooted; and after a change of the lock, only that counts.
pub(super) fn select(situation: &Situation<'_>) -> Selection {
    let Situation { valid, baseline, known, restored, lane_before, roots, lock_changed } = situation;
    let ours = |path: &&StorePath| !baseline.contains(*path);
    let fresh: Vec<&StorePath> = valid.keys().filter(ours).filter(|path| !known.contains(*path)).collect();
    let rooted = roots.iter().filter(ours).filter(|path| valid.contains_key(*path));
    let rooted = valid.closure(rooted);
    let mut used = valid.closure_with_outputs(fresh.iter().copied());
    used.extend(rooted.iter().cloned());
    let drops = *lock_changed && !fresh.is_empty();
    let wanted = if drops { used.clone() } else { valid.closure(valid.keys().filter(ours)) };
    used.retain(|path| wanted.contains(path));
    // The outputs of a derivation are added with their references.
    let wanted = valid.closure(&wanted);
    let missed: BTreeSet<StorePath> =
        valid.keys().filter(ours).filter(|path| !restored.contains(*path)).cloned().collect();
    let mut lane_used = &valid.closure_with_outputs(&missed) | &rooted;
    lane_used.retain(|path| wanted.contains(path));
    let mut lane = match lane_before {
        Some(before) if !drops => *before | &lane_used,
        None if !drops => wanted.clone(),
        _ => lane_used.clone(),
    };
    lane.retain(|path| wanted.contains(path));
    Selection { wanted, used, lane, lane_used, missed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::NarHash;
    use crate::store::PathInfo;

    fn path(name: &str) -> StorePath {
        format!("{}-{name}", "0".repeat(32)).parse().unwrap()
    }

    fn store(paths: &[(&str, &[&str])]) -> Paths {
        let info = |name: &str, references: &[&str]| PathInfo {
            nar_hash: NarHash([0; 32]),
            nar_size: 1,
            references: references.iter().map(|name| path(name)).collect(),
            ..PathInfo::sample(path(name))
        };
        paths.iter().map(|(name, references)| (path(name), info(name, references))).collect()
    }

    fn set(names: &[&str]) -> BTreeSet<StorePath> {
        names.iter().map(|name| path(name)).collect()
    }

    /// After a change of the lock, with all that is known restored.
    fn situation<'a>(valid: &'a Paths, known: &'a BTreeSet<StorePath>, none: &'a BTreeSet<StorePath>) -> Situation<'a> {
        Situation { valid, baseline: none, known, restored: known, lane_before: None, roots: none, lock_changed: true }
    }

    #[test]
    fn of_the_baseline_only_what_the_rest_needs_is_kept() {
        let valid = store(&[("nix", &["glibc"]), ("glibc", &[]), ("sqlite", &[]), ("app", &["glibc"])]);
        let (none, baseline, roots) = (set(&[]), set(&["nix", "glibc", "sqlite"]), set(&["nix"]));
        let plain = situation(&valid, &none, &none);
        let situation = Situation { baseline: &baseline, roots: &roots, lock_changed: false, ..plain };
        assert_eq!(select(&situation).wanted, set(&["app", "glibc"]));
    }

    #[test]
    fn after_a_change_of_the_lock_what_is_neither_needed_nor_rooted_goes() {
        let valid = store(&[("old", &["lib"]), ("lib", &[]), ("stale", &[]), ("rooted", &[]), ("new", &["lib"])]);
        let (none, known, roots) = (set(&[]), set(&["old", "lib", "stale", "rooted"]), set(&["rooted"]));
        let mut situation = Situation { roots: &roots, ..situation(&valid, &known, &none) };
        assert_eq!(select(&situation).wanted, set(&["new", "lib", "rooted"]));
        assert_eq!(select(&situation).lane, set(&["new", "lib", "rooted"]));
        situation.lock_changed = false;
        assert_eq!(select(&situation).wanted.len(), 5);
    }

    #[test]
    fn a_new_derivation_keeps_the_outputs_of_what_it_is_built_from() {
        let mut valid =
            store(&[("new.drv", &["cc.drv"]), ("cc.drv", &[]), ("cc", &["glibc"]), ("glibc", &[]), ("other", &[])]);
        valid.get_mut(&path("cc.drv")).unwrap().outputs.insert("out".into(), path("cc"));
        let (none, known) = (set(&[]), set(&["cc.drv", "cc", "glibc", "other"]));
        assert_eq!(select(&situation(&valid, &known, &none)).wanted, set(&["new.drv", "cc.drv", "cc", "glibc"]));
    }

    #[test]
    fn when_nothing_is_new_a_changed_lock_drops_nothing() {
        let valid = store(&[("app", &[])]);
        let (none, known) = (set(&[]), set(&["app"]));
        assert_eq!(select(&situation(&valid, &known, &none)).wanted, set(&["app"]));
    }

    #[test]
    fn a_lane_has_what_it_had_and_what_it_missed_and_not_what_others_left_it() {
        let valid = store(&[("mine", &["lib"]), ("lib", &[]), ("others", &["lib"]), ("made", &[])]);
        let (none, known) = (set(&[]), set(&["mine", "lib", "others", "made"]));
        let (restored, before) = (set(&["mine", "lib", "others"]), set(&["mine", "lib"]));
        let plain = situation(&valid, &known, &none);
        let mut situation = Situation { restored: &restored, lane_before: Some(&before), lock_changed: false, ..plain };
        let selection = select(&situation);
        assert_eq!((selection.lane, selection.missed), (set(&["mine", "lib", "made"]), set(&["made"])));
        assert_eq!(selection.wanted.len(), 4);
        situation.lane_before = None;
        assert_eq!(select(&situation).lane.len(), 4);
    }
}
