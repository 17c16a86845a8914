//! Closures: what a set of paths needs, and what needs it.

use std::borrow::Borrow;
use std::collections::BTreeSet;

use super::{PathInfo, Paths, StorePath};
use crate::base::quick::{QuickMap, QuickSet};

impl<I: Borrow<PathInfo>> Paths<I> {
    /// Returns the paths of these that `roots` need, including the roots, like `nix-store --query --requisites`. References
    /// outside them are ignored.
    #[must_use]
    pub fn closure<'a>(&'a self, roots: impl IntoIterator<Item = &'a StorePath>) -> BTreeSet<StorePath> {
        follow(roots, |path, found| {
            let Some(info) = self.get(path) else { return false };
            found.extend(&info.borrow().references);
            true
        })
    }

    /// Like [`Paths::closure`], but a derivation also needs those of its outputs that are among these, like `nix-store --query
    /// --requisites --include-outputs`.
    #[must_use]
    pub fn closure_with_outputs<'a>(&'a self, roots: impl IntoIterator<Item = &'a StorePath>) -> BTreeSet<StorePath> {
        follow(roots, |path, found| {
            let Some(info) = self.get(path) else { return false };
            let info = info.borrow();
            found.extend(info.references.iter().chain(info.outputs.values()));
            true
        })
    }

    /// Returns the paths of these that need one of `of`, including these, like `nix-store --query --referrers-closure`.
    #[must_use]
    pub fn referrers_closure<'a>(&'a self, of: impl IntoIterator<Item = &'a StorePath>) -> BTreeSet<StorePath> {
        let mut of = of.into_iter().peekable();
        if of.peek().is_none() {
            return BTreeSet::new();
        }
        let referrers = self.referrers();
        follow(of, |path, found| {
            found.extend(referrers.get(path).into_iter().flatten());
            self.contains_key(path)
        })
    }

    /// Returns `lost`, everything that refers to them, and the other outputs of the derivations that built any of these, with
    /// their referrers: several versions of Nix fail to build a derivation if one output is valid and another is not.
    #[must_use]
    pub(crate) fn useless_without<'a>(&'a self, lost: impl IntoIterator<Item = &'a StorePath>) -> BTreeSet<StorePath> {
        let mut all = self.referrers_closure(lost);
        loop {
            let made_by = |path: &StorePath| self.get(path).and_then(|info| info.borrow().deriver.as_ref());
            let derivers: BTreeSet<&StorePath> = all.iter().filter_map(made_by).collect();
            let is_sibling = |info: &&PathInfo| info.deriver.as_ref().is_some_and(|deriver| derivers.contains(deriver));
            let siblings: Vec<&StorePath> = self
                .values()
                .map(Borrow::borrow)
                .filter(is_sibling)
                .map(|info| &info.path)
                .filter(|path| !all.contains(*path))
                .collect();
            if siblings.is_empty() {
                return all;
            }
            all.extend(self.referrers_closure(siblings));
        }
    }

    /// Returns the largest subset of these paths in which every reference is in the subset or already `valid`. A path with a
    /// missing reference is left out, and so is everything that refers to it.
    #[must_use]
    pub(crate) fn closed_subset(&self, valid: &dyn Fn(&StorePath) -> bool) -> BTreeSet<StorePath> {
        let lacks = |info: &PathInfo| {
            info.references.iter().any(|reference| !self.contains_key(reference) && !valid(reference))
        };
        let mut out: QuickSet<&StorePath> =
            self.iter().filter(|(_, info)| lacks((*info).borrow())).map(|(path, _)| path).collect();
        if out.is_empty() {
            return self.keys().cloned().collect();
        }
        let referrers = self.referrers();
        let mut queue: Vec<&StorePath> = out.iter().copied().collect();
        while let Some(path) = queue.pop() {
            if valid(path) {
                continue;
            }
            for &referrer in referrers.get(path).into_iter().flatten() {
                if out.insert(referrer) {
                    queue.push(referrer);
                }
            }
        }
        self.keys().filter(|path| !out.contains(path)).cloned().collect()
    }

    fn referrers(&self) -> QuickMap<&StorePath, Vec<&StorePath>> {
        let mut referrers: QuickMap<&StorePath, Vec<&StorePath>> = QuickMap::default();
        for (path, info) in self {
            for reference in &info.borrow().references {
                referrers.entry(reference).or_default().push(path);
            }
        }
        referrers
    }
}

/// Returns everything reachable from `start`. `next` adds the neighbours of a path and returns whether the path itself counts.
fn follow<'a>(
    start: impl IntoIterator<Item = &'a StorePath>,
    next: impl Fn(&StorePath, &mut Vec<&'a StorePath>) -> bool,
) -> BTreeSet<StorePath> {
    let mut seen = QuickSet::default();
    let mut reached = BTreeSet::new();
    let mut queue: Vec<&StorePath> = start.into_iter().collect();
    while let Some(path) = queue.pop() {
        if seen.insert(path) && next(path, &mut queue) {
            reached.insert(path.clone());
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::NarHash;

    fn path(number: usize) -> StorePath {
        format!("{number:032}-p{number}").parse().unwrap()
    }

    fn info(number: usize, references: &BTreeSet<usize>, outputs: &BTreeSet<usize>) -> PathInfo {
        PathInfo {
            nar_hash: NarHash([0; 32]),
            nar_size: 1,
            references: references.iter().copied().map(path).collect(),
            outputs: outputs.iter().map(|&output| (format!("o{output}"), path(output))).collect(),
            ..PathInfo::sample(path(number))
        }
    }

    const PATHS: usize = 12;

    type Edges = Vec<(usize, usize)>;

    /// Any graph, including cycles. Numbers up to `PATHS + 3` leave some references dangling.
    fn edges() -> impl Strategy<Value = Edges> {
        prop::collection::vec((0..PATHS, 0..PATHS + 3), 0..40)
    }

    fn graph(references: &Edges, outputs: &Edges) -> Paths {
        let from = |edges: &Edges, number| edges.iter().filter(|e| e.0 == number).map(|e| e.1).collect();
        (0..PATHS)
            .map(|number| (path(number), info(number, &from(references, number), &from(outputs, number))))
            .collect()
    }

    /// The slow way: add the targets of edges until nothing changes.
    fn reach(edges: &[(usize, usize)], start: usize) -> BTreeSet<usize> {
        let mut set = BTreeSet::from([start]);
        loop {
            let more: BTreeSet<usize> =
                edges.iter().filter(|e| set.contains(&e.0) && e.1 < PATHS).map(|e| e.1).collect();
            if more.is_subset(&set) {
                return set;
            }
            set.extend(more);
        }
    }

    fn named(numbers: BTreeSet<usize>) -> BTreeSet<StorePath> {
        numbers.into_iter().map(path).collect()
    }

    proptest! {
        #[test]
        fn closures_are_what_the_edges_reach(references in edges(), outputs in edges(), start in 0..PATHS) {
            let paths = graph(&references, &outputs);
            prop_assert_eq!(paths.closure([&path(start)]), named(reach(&references, start)));

            let both: Edges = references.iter().chain(&outputs).copied().collect();
            prop_assert_eq!(paths.closure_with_outputs([&path(start)]), named(reach(&both, start)));

            let back: Edges = references.iter().filter(|e| e.1 < PATHS).map(|e| (e.1, e.0)).collect();
            prop_assert_eq!(paths.referrers_closure([&path(start)]), named(reach(&back, start)));
        }

        #[test]
        fn without_a_path_its_referrers_and_the_other_outputs_are_useless(
            references in edges(),
            made_by in prop::collection::vec(prop::option::of(0..4_usize), PATHS),
            lost in 0..PATHS,
        ) {
            let mut paths = graph(&references, &Vec::new());
            for (info, maker) in paths.values_mut().zip(&made_by) {
                info.deriver = maker.map(|maker| path(100 + maker));
            }
            let siblings = (0..PATHS).flat_map(|a| (0..PATHS).map(move |b| (a, b)));
            let siblings = siblings.filter(|(a, b)| made_by[*a].is_some() && made_by[*a] == made_by[*b]);
            let drags: Edges = references.iter().map(|e| (e.1, e.0)).chain(siblings).collect();
            prop_assert_eq!(paths.useless_without([&path(lost)]), named(reach(&drags, lost)));
        }

        #[test]
        fn the_closed_subset_is_closed_and_the_largest(references in edges(), here in prop::collection::btree_set(0..PATHS + 3, 0..6)) {
            let paths = graph(&references, &Vec::new());
            let valid = |path: &StorePath| named(here.clone()).contains(path);
            let subset = paths.closed_subset(&valid);

            // The slow way: remove candidates with missing references until there are none.
            let mut largest: BTreeSet<usize> = (0..PATHS).collect();
            while let Some(&(lacking, _)) = references
                .iter()
                .find(|e| largest.contains(&e.0) && !largest.contains(&e.1) && !here.contains(&e.1))
            {
                largest.remove(&lacking);
            }
            prop_assert_eq!(subset, named(largest));
        }
    }

    #[test]
    fn a_root_that_is_not_there_is_left_out() {
        let paths = graph(&vec![(0, 1)], &Vec::new());
        assert_eq!(paths.closure([&path(99), &path(0)]), named([0, 1].into()));
        assert_eq!(paths.referrers_closure([&path(99)]), BTreeSet::new());
    }
}
