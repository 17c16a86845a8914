//! Layers stored as recipes: the file of a layer as ranges of stored bytes of older layers, and new bytes.
//!
//! Each block of a file is compressed separately and divided into parts ([`super::frame`]), and small files share blocks whose
//! boundaries depend on their content. The same
//! bytes therefore become the same stored block in every layer. A layer of slightly changed paths consists mostly of blocks that
//! an older layer has; only the others are uploaded, with the tables. A recipe refers to *stored* bytes, never to the file of
//! another recipe, so every layer is assembled in a single step.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};

use super::digest::{DigestWriter, Digests};
use super::index::{ContentHash, StoredBlock};
use super::squashfs::SUPERBLOCK_SIZE;
use crate::base::digest::Sha;
use crate::base::disk::Guarded;

/// One range of bytes of a layer's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment {
    /// The id of the stored bytes that contain the range; see [`Digests::id`].
    pub stored: Sha,
    /// Where they begin there.
    pub offset: u64,
    /// How many they are.
    pub length: u64,
}

/// The composition of a layer's file: ranges of stored bytes, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Recipe(pub Vec<Segment>);

impl Recipe {
    /// The ids of all stored bytes that it refers to.
    #[must_use]
    pub fn stored(&self) -> BTreeSet<Sha> {
        self.0.iter().map(|segment| segment.stored).collect()
    }

    /// Returns whether all its ranges are stored, according to the sizes from `size_of`, and whether its result is at most as large
    /// as the stored bytes, so that small entries cannot expand to a large file.
    pub(crate) fn fits(&self, size_of: impl Fn(&Sha) -> Option<u64>) -> bool {
        let inside = |segment: &Segment| {
            let end = segment.offset.checked_add(segment.length);
            end.zip(size_of(&segment.stored)).is_some_and(|(end, size)| end <= size)
        };
        let stored = self.stored().iter().filter_map(&size_of).fold(0, u64::saturating_add);
        self.0.iter().all(inside) && self.length() <= stored
    }

    /// Size of the resulting file in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.0.iter().fold(0, |sum, segment| sum.saturating_add(segment.length))
    }
}

/// Largest number of blocks of older layers that are indexed: 64 GiB of files. Each takes some 100 bytes of memory.
const MAX_KNOWN: usize = 1 << 19;

/// The positions of stored blocks of older layers.
#[derive(Default)]
pub struct KnownBlocks {
    places: HashMap<ContentHash, Segment>,
}

impl KnownBlocks {
    /// Adds the `blocks` of the layer `id`, which is stored by `recipe`, or whole.
    pub fn add(&mut self, id: Sha, blocks: &[StoredBlock], recipe: Option<&Recipe>) {
        let whole = [Segment { stored: id, offset: 0, length: u64::MAX }];
        let mut segments = recipe.map_or(&whole[..], |recipe| &recipe.0).iter();
        let (mut segment, mut start) = (segments.next(), 0);
        let mut offset = SUPERBLOCK_SIZE as u64;
        for block in blocks {
            let length = u64::from(block.length);
            while let Some(current) = segment.filter(|current| offset - start >= current.length) {
                start += current.length;
                segment = segments.next();
            }
            let Some(current) = segment.filter(|_| self.places.len() < MAX_KNOWN) else { return };
            let inside = offset - start;
            if inside + length <= current.length {
                let place = Segment { stored: current.stored, offset: current.offset + inside, length };
                self.places.entry(block.hash).or_insert(place);
            }
            offset += length;
        }
    }

    /// Whether a recipe can name this block.
    pub(crate) fn contains(&self, block: &StoredBlock) -> bool {
        self.places.get(&block.hash).is_some_and(|place| place.length == u64::from(block.length))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Returns the ranges of a file of `length` bytes with these `blocks`: stored bytes where they exist, new bytes for the rest.
    fn ranges(&self, blocks: &[StoredBlock], length: u64) -> Vec<Range> {
        let mut joined = Joined::default();
        joined.new_bytes(SUPERBLOCK_SIZE as u64);
        let mut position = SUPERBLOCK_SIZE as u64;
        for block in blocks {
            let known = self.places.get(&block.hash).filter(|place| place.length == u64::from(block.length));
            match known {
                Some(place) => joined.push(Range::at(place)),
                None => joined.new_bytes(u64::from(block.length)),
            }
            position += u64::from(block.length);
        }
        joined.new_bytes(length - position);
        joined.list
    }
}

/// A segment without an id if its bytes are new.
#[derive(Clone, Copy)]
struct Range {
    stored: Option<Sha>,
    offset: u64,
    length: u64,
}

impl Range {
    fn at(segment: &Segment) -> Self {
        Self { stored: Some(segment.stored), offset: segment.offset, length: segment.length }
    }
}

/// Ranges, joined if they are contiguous.
#[derive(Default)]
struct Joined {
    list: Vec<Range>,
    new: u64,
}

impl Joined {
    fn new_bytes(&mut self, length: u64) {
        let offset = self.new;
        self.new += length;
        self.push(Range { stored: None, offset, length });
    }

    fn push(&mut self, range: Range) {
        match self.list.last_mut() {
            Some(last) if last.stored == range.stored && last.offset + last.length == range.offset => {
                last.length += range.length;
            }
            _ => self.list.push(range),
        }
    }
}

/// Splits the file of a new layer with these `blocks` into a recipe and the new bytes, which are written to `out`. Returns the
/// recipe and the digests of the new bytes; None, with nothing written, if this would save less than a tenth.
///
/// # Errors
/// When a file cannot be read or written.
pub fn split(
    layer: &File,
    blocks: &[StoredBlock],
    known: &KnownBlocks,
    out: &File,
) -> io::Result<Option<(Recipe, Digests)>> {
    let length = layer.metadata()?.len();
    let ranges = known.ranges(blocks, length);
    let new: u64 = ranges.iter().filter(|range| range.stored.is_none()).map(|range| range.length).sum();
    if new > length / 10 * 9 {
        return Ok(None);
    }
    let mut writer = DigestWriter::new(BufWriter::with_capacity(1 << 20, Guarded::new(out)));
    let mut position = 0;
    for range in &ranges {
        if range.stored.is_none() {
            copy_range(layer, position, range.length, &mut writer)?;
        }
        position += range.length;
    }
    writer.flush()?;
    let digests = writer.finish().1;
    let id = digests.id();
    let segment =
        |range: Range| Segment { stored: range.stored.unwrap_or(id), offset: range.offset, length: range.length };
    Ok(Some((Recipe(ranges.into_iter().map(segment).collect()), digests)))
}

/// Assembles the file of a layer in `out`, which is empty. `open` opens the file of stored bytes by their id. Returns the digests
/// of the result, which the caller compares with those of the layer.
///
/// # Errors
/// When a file cannot be read or written, is missing, or is shorter than the recipe says.
pub fn assemble(recipe: &Recipe, open: &mut dyn FnMut(Sha) -> io::Result<File>, out: &File) -> io::Result<Digests> {
    let mut writer = DigestWriter::new(BufWriter::with_capacity(1 << 20, Guarded::new(out)));
    let mut files: BTreeMap<Sha, File> = BTreeMap::new();
    for segment in &recipe.0 {
        let file = match files.entry(segment.stored) {
            Entry::Occupied(slot) => slot.into_mut(),
            Entry::Vacant(slot) => slot.insert(open(segment.stored)?),
        };
        copy_range(file, segment.offset, segment.length, &mut writer)?;
    }
    writer.flush()?;
    Ok(writer.finish().1)
}

fn copy_range(mut from: &File, offset: u64, length: u64, to: &mut impl Write) -> io::Result<()> {
    from.seek(SeekFrom::Start(offset))?;
    if io::copy(&mut from.take(length), to)? == length {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a stored layer is shorter than the recipe says"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::layer::index::content_hash;

    fn file_of(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn read(mut file: &File) -> Vec<u8> {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// A file with the structure of a layer: a superblock, blocks, a tail. Blocks with the same number have the same bytes.
    fn layer(numbers: &[u8], tail: u8) -> (Vec<u8>, Vec<StoredBlock>) {
        let mut bytes = vec![tail; SUPERBLOCK_SIZE];
        let mut blocks = Vec::new();
        for number in numbers {
            let block = vec![*number; 100 + usize::from(*number) * 7];
            blocks.push(StoredBlock { hash: content_hash(&block), length: block.len() as u32 });
            bytes.extend(block);
        }
        bytes.extend(vec![tail; 50]);
        (bytes, blocks)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Successive layers, each stored by recipe if that saves something: all are reassembled unchanged, and recipes refer only
        /// to stored bytes.
        #[test]
        fn layers_come_back_from_recipes(many in prop::collection::vec(prop::collection::vec(0_u8..12, 0..12), 1..5)) {
            let mut known = KnownBlocks::default();
            let mut stored: BTreeMap<Sha, Vec<u8>> = BTreeMap::new();
            for (number, numbers) in (0..).zip(&many) {
                let (bytes, blocks) = layer(numbers, number);
                let out = tempfile::tempfile().unwrap();
                let digests = Digests::of_reader(&bytes[..]).unwrap();
                let split = split(&file_of(&bytes), &blocks, &known, &out).unwrap();
                let recipe = if let Some((recipe, of_new)) = split {
                        prop_assert_eq!(recipe.length(), bytes.len() as u64);
                        let new = read(&out);
                        prop_assert!(new.len() <= bytes.len() / 10 * 9);
                        prop_assert_eq!(&of_new, &Digests::of_reader(&new[..]).unwrap());
                        stored.insert(of_new.id(), new);
                        let back = tempfile::tempfile().unwrap();
                        let made = assemble(&recipe, &mut |id| Ok(file_of(&stored[&id])), &back).unwrap();
                        prop_assert_eq!(read(&back), &bytes[..]);
                        prop_assert_eq!(&made, &digests);
                        Some(recipe)
                } else {
                        stored.insert(digests.id(), bytes);
                        None
                };
                known.add(digests.id(), &blocks, recipe.as_ref());
            }
        }
    }

    #[test]
    fn a_recipe_makes_no_more_bytes_than_it_takes_from() {
        let segment = |stored: u8, offset, length| Segment { stored: Sha([stored; 32]), offset, length };
        let size_of = |id: &Sha| (id.0[0] < 3).then(|| 100 * u64::from(id.0[0]));
        let fits = |segments: &[Segment]| Recipe(segments.to_vec()).fits(size_of);
        assert!(fits(&[segment(1, 0, 100), segment(2, 50, 150), segment(1, 10, 50)]));
        assert!(!fits(&[segment(1, 0, 100), segment(1, 0, 1)]), "more than there is");
        assert!(!fits(&[segment(1, 1, 100)]) && !fits(&[segment(1, u64::MAX, 2)]), "outside of it");
        assert!(!fits(&[segment(3, 0, 1)]), "what is not stored");
    }

    #[test]
    fn a_base_that_is_too_short_is_an_error() {
        let (bytes, blocks) = layer(&[1, 2, 3], 0);
        let mut known = KnownBlocks::default();
        known.add(Sha([1; 32]), &blocks, None);
        let out = tempfile::tempfile().unwrap();
        let (recipe, new) = split(&file_of(&bytes), &blocks, &known, &out).unwrap().unwrap();
        assert_eq!(recipe.stored(), BTreeSet::from([Sha([1; 32]), new.id()]));
        let mut open = |id: Sha| Ok(file_of(if id == new.id() { &bytes } else { &bytes[..200] }));
        assert!(assemble(&recipe, &mut open, &tempfile::tempfile().unwrap()).is_err());
    }
}
