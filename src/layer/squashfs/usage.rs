//! Which bytes of an image belong to which store path, to estimate a layer without some of them.
//!
//! 1. The check of an image ([`super::check`]) knows the position of every file; [`Places`] collects those of each path. A file that
//!    several paths share belongs to all of them. Small files share blocks: each gets its proportional part of the compressed block.
//! 2. A restore stores this for the save ([`Usage::encode`]), which uses it to decide which layers to repack.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::format::UNCOMPRESSED_BLOCK;
use crate::layer::index::content_hash;
use crate::store::StorePath;

/// Largest number of recorded spans: 24 MiB.
const MAX_SPANS: usize = 1 << 20;
const ENTRY: usize = 24;
/// Fetching a path with so many bytes although nobody reads them costs hardly any time.
const SMALL: u64 = 1 << 20;
/// Largest encoded usage in bytes.
pub(crate) const MAX_USAGE: u64 = 32 + (MAX_SPANS * ENTRY) as u64;

/// From the first byte to after the last one.
pub(crate) type Span = (u64, u64);

/// The spans in the file of a layer that belong to each path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Sorted by path and position. A path is represented by a part of its hash, so that thousands of paths need little memory.
    spans: Vec<(u64, Span)>,
}

impl Usage {
    /// The spans of `paths`, ascending and disjoint.
    pub(crate) fn spans_of<'a>(&self, paths: impl Iterator<Item = &'a StorePath>) -> Vec<Span> {
        let mut found = Vec::new();
        for path in paths {
            let path = number(path.as_str().as_bytes());
            let first = self.spans.partition_point(|(other, _)| *other < path);
            found.extend(self.spans[first..].iter().take_while(|(other, _)| *other == path).map(|(_, span)| *span));
        }
        union(found)
    }

    /// The spans of all paths.
    pub(crate) fn all_spans(&self) -> Vec<Span> {
        union(self.spans.iter().map(|(_, span)| *span).collect())
    }

    /// Those of `paths` that have bytes in one of these spans.
    pub(crate) fn with_bytes_in<'a>(
        &self,
        paths: impl Iterator<Item = &'a StorePath>,
        spans: &[Span],
    ) -> Vec<&'a StorePath> {
        let is_in = |(from, to): &Span| spans.iter().any(|(low, high)| from < high && low < to);
        paths.filter(|path| self.spans_of(std::iter::once(*path)).iter().any(is_in)).collect()
    }

    /// For each of the parts `units` of `size` bytes: those of `paths` that were probably read if this part was. One of more than
    /// [`SMALL`] bytes must have the whole part, because a part with one of its ends is also read for the tables of the image, or for
    /// the path beside it.
    pub(crate) fn by_unit<'a>(
        &self,
        paths: impl Iterator<Item = &'a StorePath>,
        units: &BTreeSet<u32>,
        size: u64,
    ) -> BTreeMap<u32, Vec<&'a StorePath>> {
        let mut found: BTreeMap<u32, Vec<&StorePath>> = BTreeMap::new();
        for path in paths {
            let spans = self.spans_of(std::iter::once(path));
            let is_small = length(&spans) <= SMALL;
            for (from, to) in spans {
                for unit in units.range((from / size) as u32..=((to - 1) / size) as u32) {
                    let start = u64::from(*unit) * size;
                    if is_small || (from <= start && start + size <= to) {
                        found.entry(*unit).or_default().push(path);
                    }
                }
            }
        }
        found
    }

    /// How many paths there are.
    pub(crate) fn paths(&self) -> u64 {
        self.spans.iter().map(|(path, _)| path).collect::<BTreeSet<_>>().len() as u64
    }

    /// Encodes it for [`Usage::decode`], which detects truncation.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let body: Vec<u8> =
            self.spans.iter().flat_map(|(path, (from, to))| [*path, *from, *to]).flat_map(u64::to_le_bytes).collect();
        [blake3::hash(&body).as_bytes(), &body[..]].concat()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (hash, body) = bytes.split_first_chunk::<32>()?;
        if blake3::hash(body) != *hash {
            return None;
        }
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        let entry = |entry: &[u8]| (number(&entry[..8]), (number(&entry[8..16]), number(&entry[16..])));
        Some(Self { spans: body.chunks_exact(ENTRY).map(entry).collect() })
    }
}

/// The number that represents a path.
fn number(name: &[u8]) -> u64 {
    content_hash(name).first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Sorts `spans` and joins adjacent ones.
pub(crate) fn union(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable();
    let mut joined: Vec<Span> = Vec::new();
    for (from, to) in spans.into_iter().filter(|(from, to)| from < to) {
        match joined.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => joined.push((from, to)),
        }
    }
    joined
}

/// Total bytes of disjoint spans.
pub(crate) fn length(spans: &[Span]) -> u64 {
    spans.iter().map(|(from, to)| to - from).sum()
}

/// As text, for the answer of another process.
impl Serialize for Usage {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64_STANDARD.encode(self.encode()))
    }
}

impl<'de> Deserialize<'de> for Usage {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let bytes = BASE64_STANDARD.decode(String::deserialize(from)?).map_err(D::Error::custom)?;
        Self::decode(&bytes).ok_or_else(|| D::Error::custom("the usage of a layer is damaged"))
    }
}

/// Collects the positions of files, path after path.
#[derive(Default)]
pub(super) struct Places {
    path: u64,
    spans: Vec<(u64, Span)>,
    /// Path, block of small files, and the position in its content.
    small: Vec<(u64, u32, Span)>,
}

impl Places {
    /// Begins the path `name`. A path without files gets a span too, so that all paths are counted.
    pub(super) fn begin(&mut self, name: &[u8]) {
        self.path = number(name);
        self.spans.push((self.path, (0, 0)));
    }

    /// Adds a file with blocks of its own.
    pub(super) fn large(&mut self, span: Span) {
        match self.spans.last_mut() {
            Some((last, (_, to))) if *last == self.path && *to == span.0 => *to = span.1,
            _ => self.spans.push((self.path, span)),
        }
    }

    /// Adds a file in block `index` of small files, with its position there.
    pub(super) fn small(&mut self, index: u32, span: Span) {
        match self.small.last_mut() {
            Some((last, same, (_, to))) if (*last, *same, *to) == (self.path, index, span.0) => *to = span.1,
            _ => self.small.push((self.path, index, span)),
        }
    }

    /// All spans; those of small files are their part of the `fragments`, each with its start and size word. None if there are too
    /// many.
    pub(super) fn end(mut self, fragments: &[(u64, u32)]) -> Option<Usage> {
        if self.spans.len() + self.small.len() > MAX_SPANS {
            return None;
        }
        let mut sizes: BTreeMap<u32, u64> = BTreeMap::new();
        for (_, index, (_, to)) in &self.small {
            let size = sizes.entry(*index).or_default();
            *size = (*size).max(*to);
        }
        for (path, index, (from, to)) in self.small {
            let Some((start, word)) = fragments.get(index as usize) else { continue };
            let stored = u64::from(word & !UNCOMPRESSED_BLOCK);
            let place = |at: u64| start.saturating_add(at * stored / sizes[&index].max(1));
            self.spans.push((path, (place(from), place(to))));
        }
        self.spans.sort_unstable();
        Some(Usage { spans: self.spans })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::FileExt;
    use std::sync::atomic::{AtomicU64, AtomicUsize};

    use super::*;
    use crate::layer::hash_of;
    use crate::layer::pack::older::Older;
    use crate::layer::pack::{Item, Options, Outcome, pack, pack_with};
    use crate::layer::squashfs::{SUPERBLOCK_SIZE, check_with_usage, tables_start};

    fn noise(seed: u64, size: usize) -> Vec<u8> {
        let mut out = vec![0; size];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
        out
    }

    #[test]
    fn each_path_has_what_its_files_take_and_what_two_have_belongs_to_both() {
        let store = tempfile::tempdir().unwrap();
        let path = |name: &str| format!("{}-{name}", "0".repeat(32)).parse::<StorePath>().unwrap();
        let paths = ["a", "b", "c", "empty"].map(path);
        let write = |path: &StorePath, name: &str, bytes: &[u8]| {
            fs::create_dir_all(store.path().join(path.as_str())).unwrap();
            fs::write(store.path().join(path.as_str()).join(name), bytes).unwrap();
        };
        write(&paths[0], "large", &noise(1, 1 << 20));
        write(&paths[0], "small", &noise(2, 5000));
        write(&paths[1], "large too", &noise(1, 1 << 20));
        write(&paths[1], "zeros", &vec![0; 500_000]);
        write(&paths[2], "small", &noise(3, 15_000));
        fs::write(store.path().join(paths[3].as_str()), b"").unwrap();
        let item = |path: &StorePath| Item {
            path: path.clone(),
            nar_hash: hash_of(&store.path().join(path.as_str())).unwrap(),
        };
        let items: Vec<Item> = paths.iter().map(item).collect();
        let file = tempfile::tempfile().unwrap();
        let packed = pack(store.path(), &items, &file, Options::new(), &AtomicU64::new(0)).unwrap();
        let Outcome::Packed(packed) = packed else { panic!("{packed:?}") };

        let usage = check_with_usage(&file, &AtomicUsize::new(10)).unwrap().usage.unwrap();
        let bytes = |paths: &[&StorePath]| length(&usage.spans_of(paths.iter().copied()));
        let [a, b, c, empty] = &paths;
        let about = |found: u64, expected: u64| assert!(found.abs_diff(expected) < 600, "{found} for {expected}");
        about(bytes(&[a]), (1 << 20) + 5000);
        about(bytes(&[b]), 1 << 20);
        about(bytes(&[a, b]), (1 << 20) + 5000);
        about(bytes(&[c]), 15_000);
        assert_eq!((bytes(&[empty]), bytes(&[&path("other")])), (0, 0));
        let data: u64 = packed.blocks.iter().map(|block| u64::from(block.length)).sum();
        assert_eq!((length(&usage.all_spans()), usage.paths()), (data, 4));
        let mut superblock = [0; SUPERBLOCK_SIZE];
        file.read_exact_at(&mut superblock, 0).unwrap();
        assert_eq!(packed.digests.size - packed.tables, tables_start(&superblock).unwrap());

        let mut kept = usage.encode();
        assert_eq!(Usage::decode(&kept), Some(usage));
        kept[40] ^= 1;
        assert_eq!(Usage::decode(&kept), None);
    }

    #[test]
    fn paths_with_a_rank_come_first_in_an_image_that_is_still_ours() {
        let store = tempfile::tempdir().unwrap();
        let paths = ["a", "b", "c"].map(|name| format!("{}-{name}", "0".repeat(32)).parse::<StorePath>().unwrap());
        for ((path, seed), size) in paths.iter().zip(1..).zip([2 << 20, 2 << 20, 1 << 20]) {
            fs::create_dir(store.path().join(path.as_str())).unwrap();
            fs::write(store.path().join(path.as_str()).join("large"), noise(seed, size)).unwrap();
        }
        let item = |path: &StorePath| Item {
            path: path.clone(),
            nar_hash: hash_of(&store.path().join(path.as_str())).unwrap(),
        };
        let items: Vec<Item> = paths.iter().map(item).collect();
        let file = tempfile::tempfile().unwrap();
        let [a, b, c] = &paths;
        let rank = |path: &StorePath| [c, a].iter().position(|first| *first == path);
        let packed =
            pack_with(store.path(), &items, (&rank, &Older::default()), &file, Options::new(), &AtomicU64::new(0))
                .unwrap();
        assert!(matches!(packed, Outcome::Packed(_)), "{packed:?}");
        let checked = check_with_usage(&file, &AtomicUsize::new(10)).unwrap();
        assert_eq!(checked.members.iter().map(|member| &member.path).collect::<Vec<_>>(), [a, b, c]);
        let usage = checked.usage.unwrap();
        let start = |path: &StorePath| usage.spans_of(std::iter::once(path))[0].0;
        assert!(start(c) < start(a) && start(a) < start(b));
        // The superblock is before the first path, so that each part in which a path ends is that of the next one too.
        let units = BTreeSet::from([0, 8, 9, 24, 25]);
        let found = usage.by_unit(paths.iter(), &units, 128 << 10);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [(0, vec![c]), (8, vec![c]), (9, vec![a]), (25, vec![b])]);
        assert_eq!(usage.with_bytes_in(paths.iter(), &[(start(b), start(b) + 1)]), [b]);
    }
}
