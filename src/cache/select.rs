//! Which paths a save keeps: sets of store paths in, sets of store paths out.

use std::collections::{BTreeMap, BTreeSet};

use crate::store::{PathInfo, StorePath, closure, closure_with_outputs};

/// What a save looks at.
pub(super) struct Situation<'a> {
    /// All valid paths.
    pub valid: &'a BTreeMap<StorePath, PathInfo>,
    /// What was valid before the restore.
    pub baseline: &'a BTreeSet<StorePath>,
    /// What the snapshot has that was restored, or that is there for this key.
    pub known: &'a BTreeSet<StorePath>,
    /// What garbage collector roots name.
    pub roots: &'a BTreeSet<StorePath>,
    /// Whether the lock is another than that of the restored snapshot.
    pub lock_changed: bool,
}

/// What to keep.
pub(super) struct Selection {
    /// All that the snapshot should have, closed under references.
    pub wanted: BTreeSet<StorePath>,
    /// Of these, what this job made or is sure to need: the rest is kept because nothing speaks against it.
    pub used: BTreeSet<StorePath>,
}

/// The paths to keep.
///
/// What is new is kept with its closure, and for a new derivation with the outputs of all that it is built from, because the
/// next build needs those too. After a change of the lock, what is neither reached that way nor rooted has served its time,
/// unless nothing at all is new: then the job only used what was there, and all of it stays.
pub(super) fn select(situation: &Situation<'_>) -> Selection {
    let Situation { valid, baseline, known, roots, lock_changed } = situation;
    let ours = |path: &&StorePath| !baseline.contains(*path);
    let fresh: Vec<&StorePath> = valid.keys().filter(ours).filter(|path| !known.contains(*path)).collect();
    let rooted = roots.iter().filter(ours).filter(|path| valid.contains_key(*path));
    let mut used = closure_with_outputs(valid, fresh.iter().copied());
    used.extend(closure(valid, rooted));
    let wanted =
        if *lock_changed && !fresh.is_empty() { used.clone() } else { closure(valid, valid.keys().filter(ours)) };
    used.retain(|path| wanted.contains(path));
    // Outputs that a derivation leads to bring their own references along.
    Selection { wanted: closure(valid, &wanted), used }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::NarHash;

    fn path(name: &str) -> StorePath {
        format!("{}-{name}", "0".repeat(32)).parse().unwrap()
    }

    fn store(paths: &[(&str, &[&str])]) -> BTreeMap<StorePath, PathInfo> {
        let info = |name: &str, references: &[&str]| PathInfo {
            path: path(name),
            nar_hash: NarHash([0; 32]),
            nar_size: 1,
            references: references.iter().map(|name| path(name)).collect(),
            deriver: None,
            signatures: BTreeSet::new(),
            ca: None,
            registration_time: 1,
            ultimate: false,
            outputs: BTreeMap::new(),
        };
        paths.iter().map(|(name, references)| (path(name), info(name, references))).collect()
    }

    fn set(names: &[&str]) -> BTreeSet<StorePath> {
        names.iter().map(|name| path(name)).collect()
    }

    #[test]
    fn of_the_baseline_only_what_the_rest_needs_is_kept() {
        let valid = store(&[("nix", &["glibc"]), ("glibc", &[]), ("sqlite", &[]), ("app", &["glibc"])]);
        let situation = Situation {
            valid: &valid,
            baseline: &set(&["nix", "glibc", "sqlite"]),
            known: &set(&[]),
            roots: &set(&["nix"]),
            lock_changed: false,
        };
        assert_eq!(select(&situation).wanted, set(&["app", "glibc"]));
    }

    #[test]
    fn after_a_change_of_the_lock_what_is_neither_needed_nor_rooted_goes() {
        let valid = store(&[("old", &["lib"]), ("lib", &[]), ("stale", &[]), ("rooted", &[]), ("new", &["lib"])]);
        let known = set(&["old", "lib", "stale", "rooted"]);
        let roots = set(&["rooted"]);
        let mut situation =
            Situation { valid: &valid, baseline: &set(&[]), known: &known, roots: &roots, lock_changed: true };
        assert_eq!(select(&situation).wanted, set(&["new", "lib", "rooted"]));
        situation.lock_changed = false;
        assert_eq!(select(&situation).wanted.len(), 5);
    }

    #[test]
    fn a_new_derivation_keeps_the_outputs_of_what_it_is_built_from() {
        let mut valid =
            store(&[("new.drv", &["cc.drv"]), ("cc.drv", &[]), ("cc", &["glibc"]), ("glibc", &[]), ("other", &[])]);
        valid.get_mut(&path("cc.drv")).unwrap().outputs.insert("out".into(), path("cc"));
        let known = set(&["cc.drv", "cc", "glibc", "other"]);
        let situation =
            Situation { valid: &valid, baseline: &set(&[]), known: &known, roots: &set(&[]), lock_changed: true };
        assert_eq!(select(&situation).wanted, set(&["new.drv", "cc.drv", "cc", "glibc"]));
    }

    #[test]
    fn when_nothing_is_new_a_changed_lock_drops_nothing() {
        let valid = store(&[("app", &[])]);
        let known = set(&["app"]);
        let situation =
            Situation { valid: &valid, baseline: &set(&[]), known: &known, roots: &set(&[]), lock_changed: true };
        assert_eq!(select(&situation).wanted, set(&["app"]));
    }
}
