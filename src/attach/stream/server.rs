//! The worker: answers the kernel's requests for the files of layers.
//!
//! 1. The descriptor of `/dev/fuse` is its standard input and the local file its standard output; the plan comes through standard
//!    error, a socket that takes the log afterwards. They belong to the guard, so another worker can continue with them.
//! 2. Requests that an earlier worker left unanswered are answered first.
//! 3. A read of bytes that are here is answered at once, any other when its chunks have arrived. It fails only if they were given
//!    up: squashfs would not read them again.
//! 4. A file besides the layers returns the state when it is read, and takes a command when it is written ([`super::control`]). Another
//!    one is a tiny image, for the self-test of this machine.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;
use tokio::task::AbortHandle;

use super::blobs::{Arrived, Blobs};
use super::fuse::{self, MAX_READ, Node, Operation, ROOT, Request};
use super::plan::{Layout, OWNER, Piece, SLOT, SLOTS, StreamPlan};
use super::{CONTROL, PROBE, probe};

const FOLDER: u32 = 0o040_555;
const LAYER: u32 = 0o100_644;
const PRIVATE: u32 = 0o100_600;
const PROBE_FILE: u32 = 0o100_444;
pub(super) const CONTROL_NODE: u64 = 2;
const PROBE_NODE: u64 = 3;
const FIRST_LAYER: u64 = 4;

/// Serves until the files are unmounted, or a command ends it.
///
/// # Errors
/// When it cannot begin, or the descriptor fails.
#[allow(clippy::disallowed_methods, reason = "these descriptors are not printed to")]
pub(crate) async fn serve() -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let fuse = std::io::stdin().as_fd().try_clone_to_owned().map_err(text)?;
    let file = File::from(std::io::stdout().as_fd().try_clone_to_owned().map_err(text)?);
    let mut channel = File::from(std::io::stderr().as_fd().try_clone_to_owned().map_err(text)?);
    let mut plan = String::new();
    channel.read_to_string(&mut plan).map_err(text)?;
    let plan: StreamPlan = serde_json::from_str(&plan).map_err(|error| error.to_string())?;
    let remote = plan.remote.clone().open().map_err(|error| error.to_string())?;
    if !plan.is_sound() {
        return Err("the plan contradicts itself".into());
    }
    let blobs = Arc::new(Blobs::open(plan, file, remote).map_err(text)?);
    let server = Arc::new(Server::new(fuse, Arc::clone(&blobs)).map_err(text)?);
    let _filling = tokio::spawn(Arc::clone(&blobs).begin());
    server.take_over();
    let runtime = tokio::runtime::Handle::current();
    let serving = tokio::task::spawn_blocking(move || {
        let _inside = runtime.enter();
        server.run()
    });
    serving.await.map_err(|error| error.to_string())?.map_err(text)
}

pub(super) struct Server {
    pub fuse: OwnedFd,
    pub blobs: Arc<Blobs>,
    /// The image for the self-test.
    probe: Vec<u8>,
    names: Vec<String>,
    /// The owner written into each layer: its position, and the bytes.
    owners: Mutex<Vec<Option<Owner>>>,
    /// Free slots of the table of requests.
    free: Mutex<Vec<usize>>,
    /// The state as it was last read from its start.
    pub status: Mutex<Vec<u8>>,
    /// Reads that wait for chunks.
    pub waiting: Mutex<HashMap<u64, (AbortHandle, Option<usize>)>>,
}

/// A position in a layer, and the bytes there.
type Owner = (u64, [u8; 8]);

/// A read that is being answered.
#[derive(Clone, Copy)]
struct Reading {
    unique: u64,
    layer: usize,
    offset: u64,
    size: u32,
    slot: Option<usize>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Server {
    fn new(fuse: OwnedFd, blobs: Arc<Blobs>) -> std::io::Result<Self> {
        let layers = &blobs.plan.layers;
        let mut owners = Vec::new();
        for layer in 0..layers.len() {
            let mut bytes = [0; OWNER];
            blobs.file.read_exact_at(&mut bytes, Layout::owner(layer))?;
            let [position, owner] = [0, 8].map(|at| <[u8; 8]>::try_from(&bytes[at..at + 8]).unwrap_or_default());
            let position = u64::from_ne_bytes(position);
            owners.push((position > 0).then_some((position, owner)));
        }
        let names = layers.iter().map(|layer| layer.id.to_string()).collect();
        let free = Mutex::new((0..SLOTS).collect());
        Ok(Self {
            fuse,
            blobs,
            probe: probe::image()?,
            names,
            owners: Mutex::new(owners),
            free,
            status: Mutex::default(),
            waiting: Mutex::default(),
        })
    }

    fn node(&self, number: u64) -> Option<Node> {
        let (size, mode) = match number {
            ROOT => (0, FOLDER),
            CONTROL_NODE => (0, PRIVATE),
            PROBE_NODE => (self.probe.len() as u64, PROBE_FILE),
            _ => (self.blobs.plan.layers.get(Self::layer(number)?)?.size(), LAYER),
        };
        Some(Node { number, size, mode })
    }

    fn layer(node: u64) -> Option<usize> {
        node.checked_sub(FIRST_LAYER).map(|layer| layer as usize)
    }

    fn names(&self) -> impl Iterator<Item = (u64, &str)> {
        [(CONTROL_NODE, CONTROL), (PROBE_NODE, PROBE)]
            .into_iter()
            .chain((FIRST_LAYER..).zip(self.names.iter().map(String::as_str)))
    }

    /// Answers what an earlier worker left unanswered: the kernel sends it again, or it is in the table.
    fn take_over(self: &Arc<Self>) {
        let is_sent_again = self.blobs.plan.resend && fuse::resend(&self.fuse);
        let mut left = Vec::new();
        for slot in 0..SLOTS {
            let mut bytes = [0; SLOT];
            if self.blobs.file.read_exact_at(&mut bytes, Layout::slot(slot)).is_err() {
                break;
            }
            let field = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap_or_default());
            if field(0) > 0 {
                left.push((slot, field(0), field(8), field(16), field(24)));
            }
        }
        for (slot, unique, node, offset, size) in left {
            if is_sent_again {
                self.clear(slot);
                continue;
            }
            lock(&self.free).retain(|free| *free != slot);
            let Some(layer) = Self::layer(node).filter(|layer| *layer < self.names.len()) else { continue };
            self.read(Reading { unique, layer, offset, size: (size as u32).min(MAX_READ), slot: Some(slot) });
        }
    }

    fn run(self: Arc<Self>) -> std::io::Result<()> {
        let mut buffer = vec![0; fuse::REQUEST];
        loop {
            let length = match rustix::io::read(&self.fuse, &mut buffer) {
                Ok(length) => length,
                Err(Errno::NODEV) => return Ok(()),
                // The waiter of the request was killed, or the request was too long and refused by the kernel.
                Err(Errno::NOENT | Errno::INTR | Errno::AGAIN | Errno::IO) => continue,
                Err(error) => return Err(error.into()),
            };
            let Some(request) = Request::parse(&buffer[..length]) else { continue };
            if !self.handle(&request) {
                return Ok(());
            }
        }
    }

    /// Handles a request. Returns false after the last one.
    fn handle(self: &Arc<Self>, request: &Request<'_>) -> bool {
        let answer = |result: Result<&[u8], Errno>| fuse::answer(&self.fuse, request.unique, result);
        let node = self.node(request.node).ok_or(Errno::NOENT);
        match &request.what {
            Operation::Init { minor, readahead } => answer(Ok(&fuse::init(*minor, *readahead))),
            Operation::Lookup(name) => {
                let found = self.names().find(|(_, known)| known.as_bytes() == *name);
                let found = found.and_then(|(number, _)| self.node(number)).ok_or(Errno::NOENT);
                answer(found.map(|node| fuse::entry(&node)).as_deref().map_err(|error| *error));
            }
            Operation::Attributes => {
                answer(node.map(|node| fuse::attributes(&node)).as_deref().map_err(|error| *error));
            }
            Operation::Open => answer(Ok(&fuse::opened(request.node == CONTROL_NODE))),
            Operation::OpenFolder => answer(Ok(&fuse::opened(false))),
            Operation::ReadFolder { offset, size } => answer(Ok(&fuse::listing(self.names(), *offset, *size))),
            Operation::Statistics => answer(Ok(&fuse::statistics())),
            Operation::Close => answer(Ok(&[])),
            Operation::Write { offset, bytes } => return self.write(request, *offset, bytes),
            Operation::Read { offset, size } => self.read_node(request, *offset, *size),
            Operation::Interrupt { unique } => {
                let interrupted = lock(&self.waiting).remove(unique);
                if let Some((reading, slot)) = interrupted {
                    reading.abort();
                    fuse::answer(&self.fuse, *unique, Err(Errno::INTR));
                    self.release(slot);
                }
            }
            Operation::Forget => {}
            Operation::Destroy => {
                answer(Ok(&[]));
                return false;
            }
            Operation::Unsupported => answer(Err(Errno::NOSYS)),
        }
        true
    }

    fn read_node(self: &Arc<Self>, request: &Request<'_>, offset: u64, size: u32) {
        let unique = request.unique;
        let (offset, size) = (offset, size.min(MAX_READ));
        match Self::layer(request.node).filter(|layer| *layer < self.names.len()) {
            Some(layer) => {
                let slot = lock(&self.free).pop();
                if let Some(slot) = slot {
                    let fields = [unique, request.node, offset, u64::from(size)].map(u64::to_ne_bytes);
                    let _ = self.blobs.file.write_all_at(&fields.concat(), Layout::slot(slot));
                }
                self.read(Reading { unique, layer, offset, size, slot });
            }
            None if request.node == CONTROL_NODE => self.read_status(unique, offset, size),
            None if request.node == PROBE_NODE => {
                let start = self.probe.len().min(offset as usize);
                let end = self.probe.len().min(start + size as usize);
                fuse::answer(&self.fuse, unique, Ok(&self.probe[start..end]));
            }
            None => fuse::answer(&self.fuse, unique, Err(Errno::ISDIR)),
        }
    }

    /// Answers a read of a layer, now or later.
    fn read(self: &Arc<Self>, reading: Reading) {
        let pieces = self.blobs.plan.pieces(reading.layer, reading.offset, u64::from(reading.size));
        let length: u64 = pieces.iter().map(|piece| piece.length).sum();
        self.blobs.touch(reading.layer, (reading.offset, length));
        let is_here = pieces.iter().all(|piece| self.blobs.is_here(piece.chunk));
        // What is read comes before what may be.
        let wanted: Vec<_> =
            if is_here { Vec::new() } else { pieces.iter().map(|piece| self.blobs.need(piece.chunk)).collect() };
        self.blobs.read_on(pieces.iter().map(|piece| piece.chunk));
        if is_here {
            let here = pieces.iter().map(|piece| (*piece, Arrived::Here)).collect::<Vec<_>>();
            self.finish(&reading, &here);
            return;
        }
        let server = Arc::clone(self);
        let mut waiting = lock(&self.waiting);
        let task = tokio::spawn(async move {
            let mut arrived = Vec::new();
            for (piece, mut wanted) in pieces.into_iter().zip(wanted) {
                let found = wanted.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
                arrived.push((piece, found.unwrap_or(Arrived::Lost)));
            }
            if lock(&server.waiting).remove(&reading.unique).is_some() {
                server.finish(&reading, &arrived);
            }
        });
        waiting.insert(reading.unique, (task.abort_handle(), reading.slot));
    }

    fn finish(&self, reading: &Reading, pieces: &[(Piece, Arrived)]) {
        if !self.blobs.has_tables.load(Ordering::Relaxed) && !self.blobs.remote.ranges_work() {
            tracing::warn!("The remote answers with whole entries instead of ranges.");
            fuse::answer(&self.fuse, reading.unique, Err(Errno::OPNOTSUPP));
            return self.release(reading.slot);
        }
        match self.bytes(reading, pieces) {
            Ok(bytes) => fuse::answer(&self.fuse, reading.unique, Ok(&bytes)),
            Err(error) => {
                tracing::warn!("A read of layer {} failed: {error}", self.names[reading.layer]);
                fuse::answer(&self.fuse, reading.unique, Err(Errno::IO));
            }
        }
        self.release(reading.slot);
    }

    fn release(&self, slot: Option<usize>) {
        if let Some(slot) = slot {
            self.clear(slot);
            lock(&self.free).push(slot);
        }
    }

    fn clear(&self, slot: usize) {
        let _ = self.blobs.file.write_all_at(&[0; SLOT], Layout::slot(slot));
    }

    fn bytes(&self, reading: &Reading, pieces: &[(Piece, Arrived)]) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(reading.size as usize);
        for (piece, arrived) in pieces {
            let (blob, chunk) = piece.chunk;
            match arrived {
                Arrived::Here => {
                    let start = bytes.len();
                    bytes.resize(start + piece.length as usize, 0);
                    self.blobs.file.read_exact_at(&mut bytes[start..], self.blobs.layout.byte(blob, piece.offset))?;
                }
                Arrived::InMemory(held) => {
                    let from =
                        (piece.offset - u64::from(chunk) * self.blobs.plan.blobs[blob as usize].chunk_size) as usize;
                    bytes.extend_from_slice(&held[from..from + piece.length as usize]);
                }
                Arrived::Lost => return Err(std::io::Error::other("its bytes cannot be fetched")),
            }
        }
        if let Some((position, owner)) = lock(&self.owners)[reading.layer] {
            for (place, byte) in (position..).zip(owner) {
                if let Some(at) = place.checked_sub(reading.offset).filter(|at| *at < bytes.len() as u64) {
                    bytes[at as usize] = byte;
                }
            }
        }
        Ok(bytes)
    }

    /// Takes the owner of a layer, once, or a command. Returns false if the command ends this process.
    fn write(self: &Arc<Self>, request: &Request<'_>, offset: u64, bytes: &[u8]) -> bool {
        let answer = |result: Result<&[u8], Errno>| fuse::answer(&self.fuse, request.unique, result);
        let done = fuse::written(bytes.len());
        if request.node == CONTROL_NODE {
            return self.obey(request, bytes);
        }
        let Some(layer) = Self::layer(request.node).filter(|layer| *layer < self.names.len()) else {
            answer(Err(Errno::ISDIR));
            return true;
        };
        let (mut owners, owner) = (lock(&self.owners), <[u8; 8]>::try_from(bytes));
        match owner {
            Ok(owner) if owners[layer].is_none() && offset > 0 => {
                let record = [offset.to_ne_bytes(), owner].concat();
                if self.blobs.file.write_all_at(&record, Layout::owner(layer)).is_ok() {
                    owners[layer] = Some((offset, owner));
                    answer(Ok(&done));
                } else {
                    answer(Err(Errno::IO));
                }
            }
            _ => answer(Err(Errno::ROFS)),
        }
        true
    }
}
