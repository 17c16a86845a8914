//! Images taken apart, changed where only their maker could change them, and put together again.

use std::path::Path;
use std::process::Command;

pub(crate) const SUPERBLOCK: usize = 96;

/// An image and what follows it, with its tables decompressed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Parts {
    pub superblock: Vec<u8>,
    pub data: Vec<u8>,
    /// Blocks of the tables of inodes, listings and fragments.
    pub tables: [Vec<Vec<u8>>; 3],
    pub owners: Vec<u8>,
    pub behind: Vec<u8>,
}

fn long(bytes: &[u8], at: usize) -> usize {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize
}

fn blocks(mut raw: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    while let [low, high, rest @ ..] = raw {
        let header = u16::from_le_bytes([*low, *high]);
        let (body, rest) = rest.split_at(usize::from(header & 0x7fff));
        out.push(if header & 0x8000 == 0 { zstd::bulk::decompress(body, 8192).unwrap() } else { body.to_vec() });
        raw = rest;
    }
    out
}

/// A block as it is stored.
pub(crate) fn stored(plain: &[u8]) -> Vec<u8> {
    let small = zstd::bulk::compress(plain, 9).unwrap();
    let (header, body) =
        if small.len() < plain.len() { (small.len() as u16, &small[..]) } else { (plain.len() as u16 | 0x8000, plain) };
    [&header.to_le_bytes(), body].concat()
}

impl Parts {
    /// Takes a sound layer apart.
    pub(crate) fn of(layer: &[u8]) -> Self {
        let superblock = layer[..SUPERBLOCK].to_vec();
        let [used, ids, inodes, listings, list] = [40, 48, 64, 72, 80].map(|at| long(&superblock, at));
        let fragments = u32::from_le_bytes(superblock[16..20].try_into().unwrap());
        let end = if fragments == 0 { list } else { long(layer, list) };
        Self {
            data: layer[SUPERBLOCK..inodes].to_vec(),
            tables: [&layer[inodes..listings], &layer[listings..end], &layer[end..list]].map(blocks),
            owners: layer[ids - 8..ids].to_vec(),
            behind: layer[used.next_multiple_of(4096)..].to_vec(),
            superblock,
        }
    }

    /// The layer, with everything that says where things are as it has to be.
    pub(crate) fn join(&self) -> Vec<u8> {
        self.join_stored(&self.tables.each_ref().map(|table| table.iter().map(|block| stored(block)).collect()))
    }

    /// As [`Self::join`], with other tables, whose blocks are as they are stored.
    pub(crate) fn join_stored(&self, tables: &[Vec<Vec<u8>>; 3]) -> Vec<u8> {
        let mut out = [&self.superblock[..], &self.data].concat();
        let mut starts = Vec::new();
        let mut list = Vec::new();
        for (number, table) in tables.iter().enumerate() {
            starts.push(out.len());
            for block in table {
                if number == 2 {
                    list.extend((out.len() as u64).to_le_bytes());
                }
                out.extend(block);
            }
        }
        starts.push(out.len());
        out.extend(list);
        let owners = out.len() as u64;
        out.extend([8, 0x80]);
        out.extend(&self.owners);
        let ids = out.len();
        out.extend(owners.to_le_bytes());
        for (at, value) in [(40, out.len()), (48, ids), (64, starts[0]), (72, starts[1]), (80, starts[3])] {
            out[at..at + 8].copy_from_slice(&(value as u64).to_le_bytes());
        }
        out.resize(out.len().next_multiple_of(4096), 0);
        out.extend(&self.behind);
        out
    }

    /// Writes number `value` at byte `at` of the superblock.
    pub(crate) fn set(&mut self, at: usize, value: u32) {
        self.superblock[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
}

/// The most memory that a process of its own takes to look at the image in `file` and to unpack from it, in MiB.
pub(crate) fn memory_for(file: &Path) -> u64 {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "layer::bounds::looks_at_an_image", "--ignored", "--nocapture"])
        .env("NIX_CACHE_TEST_IMAGE", file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let peak = said.lines().find_map(|line| line.split_once("peak: ")).expect("the process says it");
    peak.1.trim().parse::<u64>().unwrap() / 1024
}

/// The most memory that this process took so far, in KiB.
pub(crate) fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says it");
    line.trim().trim_end_matches(" kB").to_owned()
}
