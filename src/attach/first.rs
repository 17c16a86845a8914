//! Asks a stream for what is read soon of its layers: first what the restore itself reads to prove the records, then what the last
//! job of the lane read first.

use std::collections::BTreeMap;

use super::Admit;
use super::facts::read_by_proof;
use super::layers::AttachLayer;
use super::mounted::places;
use super::register::InPlace;
use super::stream;
use crate::base::digest::Sha;
use crate::layer::squashfs::usage::{Span, Usage};
use crate::store::{StoreDirs, StorePath};

/// Largest number of bytes that are asked for of one path, and of all of them, because the last job read them.
const FIRST_OF_PATH: u64 = 8 << 20;
const FIRST: u64 = 256 << 20;

/// Asks for what the proof of the mounted paths in `placed` reads: one read after the other would wait for the network each time.
pub(crate) fn ask_for_proof(
    dirs: &StoreDirs,
    layers: &[AttachLayer],
    (placed, admit): (&BTreeMap<StorePath, InPlace>, Admit),
    usage: &BTreeMap<Sha, Usage>,
) {
    let streamed: Vec<&AttachLayer> = layers.iter().filter(|layer| stream::is_streamed(&layer.file)).collect();
    if streamed.is_empty() {
        return;
    }
    let read = read_by_proof(placed, admit);
    for layer in streamed {
        let Some(usage) = usage.get(&layer.id) else { continue };
        let paths = layer.infos.iter().map(|info| &info.path).filter(|path| read.contains(path));
        stream::fetch_first(&places(dirs), layer.id, &usage.spans_of(paths));
    }
}

/// Asks for the paths `first`, in their order.
pub(super) fn ask_for_read(
    dirs: &StoreDirs,
    first: &[StorePath],
    layers: &[AttachLayer],
    usage: &BTreeMap<Sha, Usage>,
) {
    let held = |layer: &AttachLayer| layer.infos.iter().map(|info| (info.path.clone(), layer.id)).collect::<Vec<_>>();
    let layer_of: BTreeMap<StorePath, Sha> = layers.iter().flat_map(held).collect();
    let (mut together, mut left): (Vec<(Sha, Vec<Span>)>, u64) = (Vec::new(), FIRST);
    for path in first {
        let Some(usage) = layer_of.get(path).and_then(|id| usage.get(id)) else { continue };
        let mut most = FIRST_OF_PATH.min(left);
        for (from, to) in usage.spans_of(std::iter::once(path)) {
            let to = to.min(from + most);
            (most, left) = (most - (to - from), left - (to - from));
            match together.last_mut().filter(|(last, _)| *last == layer_of[path]) {
                Some((_, spans)) => spans.push((from, to)),
                None => together.push((layer_of[path], vec![(from, to)])),
            }
        }
    }
    for (id, mut spans) in together {
        spans.retain(|(from, to)| from < to);
        stream::fetch_first(&places(dirs), id, &spans);
    }
}
