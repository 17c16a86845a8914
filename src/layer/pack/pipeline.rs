//! Compresses on all cores and writes the blocks in the order in which they were sent.

use std::io::{self, Write};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::Options;
use super::older::OldBlock;
use crate::layer::digest::DigestWriter;
use crate::layer::frame::ZSTD_BLOCK;
use crate::layer::index::{StoredBlock, entries};
use crate::layer::squashfs::{BLOCK_SIZE, Tree, UNCOMPRESSED_BLOCK};

/// Blocks that may wait for the writer: 24 MiB, and as much again after compression.
const QUEUE: usize = 24;

/// A block, its size word, and its entries in the index.
struct Compressed {
    bytes: Vec<u8>,
    word: u32,
    parts: Vec<StoredBlock>,
}

/// The source of a block.
enum Source {
    /// Bytes to compress.
    Plain(Vec<u8>),
    /// A block that is stored already.
    Old(OldBlock),
}

struct Job {
    source: Source,
    reply: Sender<io::Result<Compressed>>,
}

/// A task for the writer.
enum Step {
    /// The next block of a content.
    Block(u32, Receiver<io::Result<Compressed>>),
    /// The next block of a content is all zeros: nothing is written.
    Hole(u32),
    /// The next fragment block.
    Fragment(Receiver<io::Result<Compressed>>),
}

/// The writer has failed; [`run`] returns the reason.
#[derive(Debug)]
pub(super) struct WriterGone;

/// Why blocks are no longer sent.
#[derive(Debug)]
pub(super) enum Stopped {
    WriterGone,
    Failed(io::Error),
}

impl From<WriterGone> for Stopped {
    fn from(_: WriterGone) -> Self {
        Self::WriterGone
    }
}

/// The input of the pipeline.
pub(super) struct BlockSender {
    jobs: Sender<Job>,
    steps: Sender<Step>,
    spare: (Sender<Vec<u8>>, Receiver<Vec<u8>>),
}

impl BlockSender {
    /// A buffer for a block, with whatever is in it. New memory for each block would have to be cleared by the kernel.
    pub(super) fn buffer(&self) -> Vec<u8> {
        self.spare.1.try_recv().unwrap_or_default()
    }

    /// A buffer that is not sent.
    pub(super) fn done_with(&self, buffer: Vec<u8>) {
        let _ = self.spare.0.try_send(buffer);
    }

    /// The next block of the content with this number.
    pub(super) fn block(&self, content: u32, block: Vec<u8>) -> Result<(), WriterGone> {
        if block.iter().all(|byte| *byte == 0) {
            return self.steps.send(Step::Hole(content)).map_err(|_| WriterGone);
        }
        let step = Step::Block(content, self.give(Source::Plain(block))?);
        self.steps.send(step).map_err(|_| WriterGone)
    }

    /// The next block of the content with this number, as an older layer has it.
    pub(super) fn old_block(&self, content: u32, block: OldBlock) -> Result<(), WriterGone> {
        let step = Step::Block(content, self.give(Source::Old(block))?);
        self.steps.send(step).map_err(|_| WriterGone)
    }

    /// The next fragment block.
    pub(super) fn fragment(&self, block: Vec<u8>) -> Result<(), WriterGone> {
        let step = Step::Fragment(self.give(Source::Plain(block))?);
        self.steps.send(step).map_err(|_| WriterGone)
    }

    /// The next fragment block, as an older layer has it.
    pub(super) fn old_fragment(&self, block: OldBlock) -> Result<(), WriterGone> {
        let step = Step::Fragment(self.give(Source::Old(block))?);
        self.steps.send(step).map_err(|_| WriterGone)
    }

    fn give(&self, source: Source) -> Result<Receiver<io::Result<Compressed>>, WriterGone> {
        let (reply, answer) = bounded(1);
        self.jobs.send(Job { source, reply }).map_err(|_| WriterGone)?;
        Ok(answer)
    }
}

/// The positions of everything that was written.
#[derive(Default)]
pub(super) struct Written {
    /// Content, start of its first block, size word: one for each block, in order.
    blocks: Vec<(u32, u64, u32)>,
    /// Start and size word of each fragment block.
    pub fragments: Vec<(u64, u32)>,
    /// All blocks, in order.
    pub stored: Vec<StoredBlock>,
}

impl Written {
    /// Writes a block and returns its size word.
    fn store(&mut self, out: &mut impl Write, block: &Compressed) -> io::Result<u32> {
        out.write_all(&block.bytes)?;
        self.stored.extend(&block.parts);
        Ok(block.word)
    }

    /// Sets the positions of the blocks in the contents of `tree`.
    pub(super) fn complete(&self, tree: &mut Tree) {
        for &(content, start, word) in &self.blocks {
            let content = &mut tree.contents[content as usize];
            if content.blocks.is_empty() {
                content.start = start;
            }
            content.blocks.push(word);
        }
    }
}

/// Runs `produce` on this thread and writes the blocks that it sends to `out`. Returns the result of `produce` and the positions.
pub(super) fn run<W: Write + Send, T>(
    out: &mut DigestWriter<W>,
    options: Options,
    produce: impl FnOnce(&BlockSender) -> Result<T, Stopped>,
) -> io::Result<(T, Written)> {
    let (jobs, job_queue) = bounded(QUEUE);
    let (steps, step_queue) = bounded(QUEUE);
    let spare = bounded(QUEUE);
    std::thread::scope(|scope| {
        for _ in 0..options.threads.max(1) {
            let queue: Receiver<Job> = job_queue.clone();
            let spare = spare.0.clone();
            scope.spawn(move || compress_all(&queue, &spare, options.level));
        }
        drop(job_queue);
        let writer = scope.spawn(move || write_all(out, &step_queue));
        let sender = BlockSender { jobs, steps, spare };
        let produced = produce(&sender);
        drop(sender);
        let written = writer.join().map_err(|_| io::Error::other("the thread that writes the layer broke off"))??;
        let produced = produced.map_err(|why| match why {
            Stopped::WriterGone => io::Error::other("the layer was not written to its end"),
            Stopped::Failed(error) => error,
        })?;
        Ok((produced, written))
    })
}

/// Compresses blocks that have several parts. The size of the content, which changes with the end of a file, is not in the first one.
pub(in crate::layer) fn compressor(level: i32) -> io::Result<zstd::bulk::Compressor<'static>> {
    let mut compressor = zstd::bulk::Compressor::new(level)?;
    compressor.include_contentsize(false)?;
    Ok(compressor)
}

fn compress_all(queue: &Receiver<Job>, spare: &Sender<Vec<u8>>, level: i32) {
    let (mut small, mut large) = (zstd::bulk::Compressor::new(level), compressor(level));
    let mut buffer = vec![0; BLOCK_SIZE];
    for Job { source, reply } in queue {
        let is_large = matches!(&source, Source::Plain(block) if block.len() > ZSTD_BLOCK);
        let done = match (source, if is_large { &mut large } else { &mut small }) {
            (Source::Old(block), _) => {
                block.stored().map(|bytes| Compressed { word: block.word, parts: entries(&bytes, block.word), bytes })
            }
            // A block that does not become smaller does not fit the buffer and is stored uncompressed.
            (Source::Plain(block), Ok(compressor)) => {
                let compressed = compressor.compress_to_buffer(&block, &mut buffer[..block.len() - 1]);
                let (word, bytes) = match compressed {
                    Ok(size) => {
                        let _ = spare.try_send(block);
                        (size as u32, buffer[..size].to_vec())
                    }
                    Err(_) => (block.len() as u32 | UNCOMPRESSED_BLOCK, block),
                };
                Ok(Compressed { word, parts: entries(&bytes, word), bytes })
            }
            (_, Err(error)) => Err(io::Error::new(error.kind(), format!("zstd cannot be set up: {error}"))),
        };
        // If the writer failed, there is no receiver any more.
        let _ = reply.send(done);
    }
}

fn write_all<W: Write>(out: &mut DigestWriter<W>, steps: &Receiver<Step>) -> io::Result<Written> {
    let lost = |_| io::Error::other("a thread that compresses broke off");
    let mut written = Written::default();
    for step in steps {
        let start = out.position();
        match step {
            Step::Hole(content) => written.blocks.push((content, start, 0)),
            Step::Block(content, answer) => {
                let block = written.store(out, &answer.recv().map_err(lost)??)?;
                written.blocks.push((content, start, block));
            }
            Step::Fragment(answer) => {
                let block = written.store(out, &answer.recv().map_err(lost)??)?;
                written.fragments.push((start, block));
            }
        }
    }
    Ok(written)
}
