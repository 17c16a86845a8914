//! Dead bytes: those that a restore downloads although nothing needs them.
//!
//! 1. [`Accounts::of`] determines, for each layer, the stored bytes that its wanted paths use: its own, and those of other layers in
//!    its recipe. If the restore did not store the spans of the paths, their NAR sizes are used instead.
//! 2. Stored bytes that no wanted path uses are dead. [`Accounts::choose`] selects layers to repack until few enough bytes are dead.
//!
//! Bytes of a layer whose paths are all gone are therefore alive as long as a newer layer uses them.

use std::collections::{BTreeMap, BTreeSet};

use super::repack::{own_bytes, scaled};
use crate::base::digest::Sha;
use crate::layer::recipe::Segment;
use crate::layer::squashfs::usage::{Span, Usage, length, union};
use crate::snapshot::{Layer, Snapshot};

/// A layer's use of one piece of stored bytes.
#[derive(Default)]
struct Needed {
    spans: Vec<Span>,
    /// Number of used bytes whose position is not known.
    elsewhere: u64,
}

/// The stored bytes that each layer needs.
pub(super) struct Accounts {
    layers: BTreeMap<Sha, BTreeMap<Sha, Needed>>,
    sizes: BTreeMap<Sha, u64>,
}

impl Accounts {
    /// Computes them for `snapshot`. `usage` says which bytes of a layer belong to which path.
    pub(super) fn of(snapshot: &Snapshot, usage: &BTreeMap<Sha, Usage>) -> Self {
        let needed = |(id, layer): (&Sha, &Layer)| {
            let needed = match usage.get(id) {
                Some(usage) => known(layer, usage),
                None => guessed(snapshot, layer),
            };
            (*id, needed)
        };
        Self {
            layers: snapshot.layers.iter().map(needed).collect(),
            sizes: snapshot.stored.iter().map(|(id, stored)| (*id, stored.digests.size)).collect(),
        }
    }

    /// Returns how many of the stored bytes `id` are alive without the layers in `gone`.
    pub(super) fn live(&self, id: &Sha, gone: &BTreeSet<Sha>) -> u64 {
        let needed = self.layers.iter().filter(|(layer, _)| !gone.contains(*layer)).filter_map(|(_, all)| all.get(id));
        let (mut spans, mut elsewhere) = (Vec::new(), 0);
        for needed in needed {
            spans.extend_from_slice(&needed.spans);
            elsewhere += needed.elsewhere;
        }
        let size = self.sizes.get(id).copied().unwrap_or(0);
        (length(&union(spans)) + elsewhere).min(size)
    }

    /// The layers that need any of the stored bytes `id`.
    fn users(&self, id: &Sha) -> BTreeSet<Sha> {
        self.layers.iter().filter(|(_, all)| all.contains_key(id)).map(|(layer, _)| *layer).collect()
    }

    /// Selects more layers until the dead bytes are at most `most_dead` percent of the needed bytes, beginning with those that use the
    /// bytes with the greatest dead part. `is_here` says which layers can be repacked.
    pub(super) fn choose(&self, chosen: &mut BTreeSet<Sha>, most_dead: u64, is_here: &dyn Fn(&Sha) -> bool) {
        let live: u64 = self.sizes.keys().map(|id| self.live(id, &BTreeSet::new())).sum();
        loop {
            let (mut all_dead, mut worst) = (0, None);
            for (id, size) in &self.sizes {
                let mut users = self.users(id);
                users.retain(|layer| !chosen.contains(layer));
                if users.is_empty() {
                    continue;
                }
                let dead = size - self.live(id, chosen);
                all_dead += dead;
                let share = dead * 1000 / size.max(&1);
                let is_worse = worst.as_ref().is_none_or(|(most, _)| share > *most);
                if share > 0 && is_worse && users.iter().all(is_here) {
                    worst = Some((share, users));
                }
            }
            match worst {
                Some((_, users)) if all_dead > live * most_dead / 100 => chosen.extend(users),
                _ => return,
            }
        }
    }
}

/// The bytes that the wanted paths of `layer` use, if their spans are known.
fn known(layer: &Layer, usage: &Usage) -> BTreeMap<Sha, Needed> {
    let spans = usage.spans_of(layer.paths.iter().map(|(path, _)| path));
    let mut needed: BTreeMap<Sha, Needed> = BTreeMap::new();
    let whole = [Segment { stored: layer.own_stored(), offset: 0, length: layer.digests.size }];
    let segments = layer.recipe.as_ref().map_or(&whole[..], |recipe| &recipe.0);
    let (mut start, mut spans) = (0, spans.into_iter().peekable());
    for segment in segments {
        let end = start + segment.length;
        let place = |at: u64| segment.offset + (at - start);
        while let Some((from, to)) = spans.peek_mut() {
            if *from >= end {
                break;
            }
            let part = (place((*from).max(start)), place((*to).min(end)));
            needed.entry(segment.stored).or_default().spans.push(part);
            if *to > end {
                *from = end;
                break;
            }
            spans.next();
        }
        start = end;
    }
    // The size of its tables is proportional to the number of its files.
    let tables = layer.digests.size.saturating_sub(length(&usage.all_spans()));
    let share = tables * layer.paths.len() as u64 / usage.paths().max(1);
    needed.entry(layer.own_stored()).or_default().elsewhere += share.min(tables);
    needed
}

/// Like [`known`], but estimated by NAR sizes. Everything that the layer uses of others counts as needed.
fn guessed(snapshot: &Snapshot, layer: &Layer) -> BTreeMap<Sha, Needed> {
    let own = layer.own_stored();
    let mut needed: BTreeMap<Sha, Needed> = BTreeMap::new();
    for segment in layer.recipe.iter().flat_map(|recipe| &recipe.0).filter(|segment| segment.stored != own) {
        let span = (segment.offset, segment.offset + segment.length);
        needed.entry(segment.stored).or_default().spans.push(span);
    }
    let nar_bytes: u64 =
        layer.paths.iter().filter_map(|key| snapshot.paths.get(key)).map(|record| record.info.nar_size).sum();
    needed.entry(own).or_default().elsewhere = scaled(own_bytes(snapshot, layer), layer, nar_bytes);
    needed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::digest::Digests;
    use crate::layer::recipe::Recipe;
    use crate::snapshot::Stored;
    use crate::store::{NarHash, PathInfo};

    fn info(number: u8) -> PathInfo {
        PathInfo {
            nar_hash: NarHash([number; 32]),
            nar_size: 1000,
            ..PathInfo::sample(format!("{number:032}-p").parse().unwrap())
        }
    }

    fn digests(number: u8, size: u64) -> Digests {
        Digests { size, chunks: vec![Sha([number; 32])] }
    }

    /// A layer of 1,000 bytes that holds the paths 1 and 2, half each, and one of the path 3 that is made of 100 bytes of its own and of
    /// the bytes of path 2. Path 2 is not wanted any more.
    fn replaced() -> (Snapshot, Sha, Sha) {
        let (first, second, new) = (digests(1, 1000), digests(2, 600), digests(3, 100));
        let stored = |digests: &Digests| Stored { digests: digests.clone(), entry: digests.id().to_string() };
        let recipe = Recipe(vec![
            Segment { stored: new.id(), offset: 0, length: 100 },
            Segment { stored: first.id(), offset: 500, length: 500 },
        ]);
        let mut snapshot = Snapshot::default();
        snapshot.add_layer((first.clone(), None), stored(&first), [info(1), info(2)], 1);
        snapshot.add_layer((second.clone(), Some(recipe)), stored(&new), [info(3)], 2);
        snapshot.retain(|(path, _)| *path != info(2).path);
        (snapshot, first.id(), second.id())
    }

    #[test]
    fn bytes_of_paths_that_went_are_alive_while_another_layer_is_made_of_them() {
        let (snapshot, first, second) = replaced();
        let accounts = Accounts::of(&snapshot, &BTreeMap::new());
        assert_eq!(accounts.live(&first, &BTreeSet::new()), 1000);
        assert_eq!(accounts.live(&first, &BTreeSet::from([second])), 500);
        let mut chosen = BTreeSet::new();
        accounts.choose(&mut chosen, 15, &|_| true);
        assert_eq!(chosen, BTreeSet::new());
        // Without the newer layer half of the bytes are dead; those that cannot be packed here stay all the same.
        let mut chosen = BTreeSet::from([second]);
        accounts.choose(&mut chosen, 15, &|id| *id != first);
        assert_eq!(chosen, BTreeSet::from([second]));
        accounts.choose(&mut chosen, 15, &|_| true);
        assert_eq!(chosen, BTreeSet::from([first, second]));
    }

    #[test]
    fn what_no_layer_holds_any_more_but_one_is_made_of_goes_when_it_is_mostly_dead() {
        let (mut snapshot, first, second) = replaced();
        snapshot.retain(|(path, _)| *path == info(3).path);
        let accounts = Accounts::of(&snapshot, &BTreeMap::new());
        assert_eq!((snapshot.layers.len(), accounts.live(&first, &BTreeSet::new())), (1, 500));
        let mut chosen = BTreeSet::new();
        accounts.choose(&mut chosen, 100, &|_| true);
        assert_eq!(chosen, BTreeSet::new());
        accounts.choose(&mut chosen, 15, &|_| true);
        assert_eq!(chosen, BTreeSet::from([second]));
    }
}
