//! The order in which parts of layers were first read. It is kept in the local file, so that the death of a worker does not lose it.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;

use super::plan::{Layout, READ, READS, StreamPlan};
use crate::snapshot::Trace;

/// Parts of layers that were read, in order.
#[derive(Default)]
pub(super) struct Touched {
    /// The number of a layer, and of a part of [`Trace::READ_UNIT`] bytes of its file.
    order: Vec<(u32, u32)>,
    seen: BTreeSet<(u32, u32)>,
}

impl Touched {
    /// What earlier workers recorded.
    pub(super) fn open(file: &File, layout: &Layout, layers: usize) -> std::io::Result<Self> {
        let mut bytes = vec![0; READS * READ];
        file.read_exact_at(&mut bytes, layout.read(0))?;
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_ne_bytes);
        let records = bytes.chunks_exact(READ).map(|record| (number(&record[..4]), number(&record[4..])));
        // Layers are counted from 1 there: a record of zeros is none.
        let records = records.take_while(|(layer, _)| (1..=layers as u32).contains(layer));
        let order: Vec<(u32, u32)> = records.map(|(layer, unit)| (layer - 1, unit)).collect();
        let seen = order.iter().copied().collect();
        Ok(Self { order, seen })
    }

    /// Records a read of a layer.
    pub(super) fn add(&mut self, (file, layout): (&File, &Layout), layer: u32, (offset, length): (u64, u64)) {
        if length == 0 {
            return;
        }
        for unit in offset / Trace::READ_UNIT..=(offset + length - 1) / Trace::READ_UNIT {
            let record = (layer, unit as u32);
            if self.order.len() < READS && self.seen.insert(record) {
                let bytes = [(layer + 1).to_ne_bytes(), record.1.to_ne_bytes()].concat();
                // If it cannot be written, only a following worker does not know it.
                let _ = file.write_all_at(&bytes, layout.read(self.order.len()));
                self.order.push(record);
            }
        }
    }

    /// The layers with the numbers of their parts.
    pub(super) fn of_layers(&self, plan: &StreamPlan) -> Vec<(String, Vec<u32>)> {
        grouped(self.order.iter().copied(), |layer| plan.layers[layer as usize].id.to_string())
    }

    /// The stored bytes that they consist of, with the numbers of parts of [`Trace::UNIT`] bytes.
    pub(super) fn of_blobs(&self, plan: &StreamPlan) -> Vec<(String, Vec<u32>)> {
        let pieces = self.order.iter().flat_map(|(layer, unit)| {
            plan.pieces(*layer as usize, u64::from(*unit) * Trace::READ_UNIT, Trace::READ_UNIT)
        });
        let units = pieces.flat_map(|piece| {
            let units = piece.offset / Trace::UNIT..=(piece.offset + piece.length - 1) / Trace::UNIT;
            units.map(move |unit| (piece.chunk.0, unit as u32))
        });
        let mut seen = BTreeSet::new();
        grouped(units.filter(|unit| seen.insert(*unit)), |blob| plan.blobs[blob as usize].id.to_string())
    }
}

/// Numbers with others, as names with lists of numbers.
fn grouped(pairs: impl Iterator<Item = (u32, u32)>, name: impl Fn(u32) -> String) -> Vec<(String, Vec<u32>)> {
    let mut groups: Vec<(u32, Vec<u32>)> = Vec::new();
    for (of, number) in pairs {
        match groups.last_mut() {
            Some((last, numbers)) if *last == of => numbers.push(number),
            _ => groups.push((of, vec![number])),
        }
    }
    groups.into_iter().map(|(of, numbers)| (name(of), numbers)).collect()
}
