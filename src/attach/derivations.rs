//! Reads the derivations of mounted layers from the files of the images, in the order in which they lie there.
//!
//! Through the mount, each of them takes a lookup in the root of the image, which is slow if that has very many names, and the
//! kernel decompresses one block again for each of the small files in it. Both ways lead to the same bytes: the image is checked,
//! and a block that another decoder could read differently is refused. What is not as it should be here is left to the reading
//! through the mount, whose errors are reported.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::facts::LARGEST_DERIVATION;
use super::layers::AttachLayer;
use super::register::InPlace;
use crate::layer::nar;
use crate::layer::pack::packing_order;
use crate::layer::squashfs::{BlockReader, Image, Inode, Piece};
use crate::store::{self, Outputs, PathInfo, StorePath};

/// Derivations that were read and are what their records say, with their outputs.
pub(crate) type Known = BTreeMap<StorePath, Outputs>;

/// Fewer than this are read through the mount.
const MANY: usize = 256;
/// How many a thread reads at a time: neighbours share blocks.
const RUN: usize = 128;

/// Reads those of the `placed` derivations that are mounted from `layers`.
pub(crate) fn read(layers: &[(&AttachLayer, File)], placed: &BTreeMap<StorePath, InPlace>, threads: usize) -> Known {
    let mut known = Known::new();
    for (layer, file) in layers {
        let is_wanted =
            |info: &&PathInfo| info.path.is_derivation() && placed.get(&info.path).is_some_and(InPlace::is_mounted);
        let mut wanted: Vec<&PathInfo> = layer.infos.iter().map(AsRef::as_ref).filter(is_wanted).collect();
        if wanted.len() < MANY {
            continue;
        }
        wanted.sort_by(|a, b| packing_order(&a.path, &b.path));
        if let Some(found) = read_image(file, &wanted, threads) {
            known.extend(found);
        }
    }
    known
}

fn read_image(file: &File, wanted: &[&PathInfo], threads: usize) -> Option<Vec<(StorePath, Outputs)>> {
    // Inodes lie in the order of the paths, and content in that of the names.
    let image = Image::open(file.try_clone().ok()?).ok()?.keeping_inodes();
    let root = image.root().ok()?;
    let inodes: HashMap<&[u8], u64> = root.iter().map(|listed| (&*listed.name, listed.inode)).collect();
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(wanted.len())));
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, wanted.len().div_ceil(RUN)) {
            scope.spawn(|| {
                let Ok(mut blocks) = BlockReader::new(&image) else { return };
                while let Some(run) = wanted.chunks(RUN).nth(next.fetch_add(1, Ordering::Relaxed)) {
                    let read = |info: &&PathInfo| {
                        let inode = *inodes.get(info.path.as_str().as_bytes())?;
                        Some((info.path.clone(), read_one(&image, &mut blocks, inode, info)?))
                    };
                    let read: Vec<_> = run.iter().filter_map(read).collect();
                    found.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(read);
                }
            });
        }
    });
    Some(found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// The outputs of the derivation at `inode`, if its bytes are those of `info`.
fn read_one(image: &Image, blocks: &mut BlockReader<'_>, inode: u64, info: &PathInfo) -> Option<Outputs> {
    let Inode::File(file) = image.inode(inode).ok()? else { return None };
    if file.executable || file.size > info.nar_size.min(LARGEST_DERIVATION) {
        return None;
    }
    let mut content = Vec::with_capacity(file.size as usize);
    let add = |piece: Piece<'_>| {
        match piece {
            Piece::Bytes(bytes) => content.extend_from_slice(bytes),
            Piece::Hole(length) => content.resize(content.len() + length, 0),
        }
        Ok(())
    };
    blocks.file(&file, add).ok()?;
    let mut hasher = nar::hasher_up_to(info.nar_size).ok()?;
    let mut payload = hasher.start_regular(None, false, file.size).ok()?;
    payload.write_all(&content).ok()?;
    payload.finish().ok()?;
    let is_as_recorded = nar::finish(hasher).ok()? == (info.nar_hash, info.nar_size);
    if is_as_recorded { store::outputs(info, &content).ok() } else { None }
}
