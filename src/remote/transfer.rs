//! Downloads an entry into a file in parallel ranges, and checks every chunk before it is written.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::{Entry, Remote, RemoteError};

/// Number of reads of one entry that have or wait for a slot: more than there are slots, so that none stays free.
const AWAITING: usize = 16;
/// Interval at which reads check whether the remote answers with whole entries.
const LOOK: Duration = Duration::from_millis(50);

/// What to download, and how.
#[derive(Clone, Debug)]
pub(crate) struct FetchPlan {
    /// The size of the entry in bytes.
    pub size: u64,
    /// The size of a chunk in bytes; the last one may be shorter.
    pub chunk_size: u64,
    /// The SHA-256 of each chunk.
    pub digests: Vec<[u8; 32]>,
    /// Number of concurrent reads, shared with all other plans that use these slots.
    pub slots: Arc<Semaphore>,
    /// Number of chunks per read. Multiplied by the slots and the size of a chunk, it bounds the memory in use.
    pub range_chunks: usize,
    /// Counts the bytes of chunks that were checked and written.
    pub progress: Arc<AtomicU64>,
}

/// The result of a download.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FetchOutcome {
    /// The chunks whose bytes were wrong twice, in order. They were not written.
    pub bad_chunks: Vec<usize>,
    /// Number of bytes that were checked and written.
    pub bytes: u64,
}

impl FetchPlan {
    /// The byte range of a chunk in the file.
    fn place(&self, chunk: usize) -> Range<u64> {
        let start = chunk as u64 * self.chunk_size;
        start..self.size.min(start + self.chunk_size)
    }

    fn bytes_of(&self, chunks: &Range<usize>) -> Range<u64> {
        self.place(chunks.start).start..self.place(chunks.end - 1).end
    }

    fn reads(&self) -> Vec<Range<usize>> {
        let (count, step) = (self.digests.len(), self.range_chunks.max(1));
        (0..count).step_by(step).map(|start| start..count.min(start + step)).collect()
    }

    fn fits_itself(&self) -> bool {
        self.chunk_size > 0 && self.size.div_ceil(self.chunk_size) == self.digests.len() as u64
    }
}

/// Downloads `entry` into the file `into` at the same offsets. Every chunk is compared with its digest; a wrong one is read
/// again, and reported if it is still wrong. If ranges do not work, the entry is read as one stream.
///
/// # Errors
/// See [`Remote::read`] and [`Remote::stream`]; also [`RemoteError::Failed`] when the plan contradicts itself or the file cannot
/// be written.
pub(crate) async fn fetch_file(
    remote: &dyn Remote,
    entry: &Entry,
    plan: &FetchPlan,
    into: &File,
) -> Result<FetchOutcome, RemoteError> {
    if !plan.fits_itself() {
        let (chunks, size) = (plan.digests.len(), plan.size);
        return Err(RemoteError::Failed(format!(
            "The snapshot lists {chunks} digests for the {size} bytes of {}, which is not one for every {} bytes. The \
             snapshot is damaged.",
            entry.name, plan.chunk_size
        )));
    }
    let fetch =
        Fetch { remote, entry, plan, file: Arc::new(into.try_clone().map_err(|error| unwritten(entry, &error))?) };
    // Slots are first come, first served: an entry that is nearly done leaves its slots to the next one.
    let reads = stream::iter(plan.reads()).map(|chunks| fetch.range(chunks)).buffer_unordered(AWAITING);
    let done: Vec<Done> = reads.try_collect().await?;
    let mut bad_chunks = Vec::new();
    let mut left = Vec::new();
    for done in done {
        match done {
            Done::Read { bad } => bad_chunks.extend(bad),
            Done::Left { chunks } => left.extend(chunks),
        }
    }
    if !left.is_empty() {
        left.sort_unstable();
        bad_chunks.extend(fetch.in_order(&left).await?);
    }
    bad_chunks.sort_unstable();
    let missing: u64 = bad_chunks.iter().map(|chunk| plan.place(*chunk)).map(|place| place.end - place.start).sum();
    Ok(FetchOutcome { bad_chunks, bytes: plan.size - missing })
}

/// The result of one range.
enum Done {
    Read {
        bad: Vec<usize>,
    },
    /// Not read, because the remote ignores ranges.
    Left {
        chunks: Range<usize>,
    },
}

struct Fetch<'a> {
    remote: &'a dyn Remote,
    entry: &'a Entry,
    plan: &'a FetchPlan,
    file: Arc<File>,
}

impl Fetch<'_> {
    /// Reads some chunks with one request, checks and writes them.
    async fn range(&self, chunks: Range<usize>) -> Result<Done, RemoteError> {
        // The slots are never closed; if they were, this read would just not be counted.
        let _slot = self.plan.slots.acquire().await.ok();
        if !self.remote.ranges_work() {
            return Ok(Done::Left { chunks });
        }
        // A read that is answered with the whole entry is cancelled: one stream for all chunks is shorter.
        let bytes = tokio::select! {
            biased;
            bytes = self.read(&chunks) => bytes?,
            () = ranges_lost(self.remote) => return Ok(Done::Left { chunks }),
        };
        let mut bad = Vec::new();
        for chunk in self.keep(chunks, bytes).await? {
            bad.extend(self.again(chunk).await?);
        }
        Ok(Done::Read { bad })
    }

    /// Reads the chunks of `wanted`, which is sorted, from one stream.
    async fn in_order(&self, wanted: &[usize]) -> Result<Vec<usize>, RemoteError> {
        let mut pieces = self.remote.stream(self.entry).await?;
        let mut wanted = wanted.iter().copied().peekable();
        let mut buffer = BytesMut::new();
        let mut bad = Vec::new();
        let mut chunk = 0;
        while wanted.peek().is_some() {
            let place = self.plan.place(chunk);
            let size = (place.end - place.start) as usize;
            while buffer.len() < size {
                buffer.extend_from_slice(&pieces.next().await.ok_or_else(|| self.too_short())??);
            }
            let bytes = buffer.split_to(size).freeze();
            if wanted.next_if_eq(&chunk).is_some() {
                bad.extend(self.keep(chunk..chunk + 1, bytes).await?);
            }
            chunk += 1;
        }
        drop(pieces);
        let mut still_bad = Vec::new();
        for chunk in bad {
            still_bad.extend(self.again(chunk).await?);
        }
        Ok(still_bad)
    }

    /// Reads a wrong chunk again. Returns it if it is still wrong.
    async fn again(&self, chunk: usize) -> Result<Option<usize>, RemoteError> {
        tracing::debug!("chunk {chunk} of {} does not have its digest; reading it again", self.entry.name);
        let bytes = self.read(&(chunk..chunk + 1)).await?;
        Ok(self.keep(chunk..chunk + 1, bytes).await?.pop())
    }

    async fn read(&self, chunks: &Range<usize>) -> Result<Bytes, RemoteError> {
        let place = self.plan.bytes_of(chunks);
        let size = place.end - place.start;
        let bytes = self.remote.read(self.entry, place).await?;
        if bytes.len() as u64 == size { Ok(bytes) } else { Err(self.too_short()) }
    }

    /// Writes the chunks that match their digests and returns the others. Runs outside the threads that drive transfers.
    async fn keep(&self, chunks: Range<usize>, bytes: Bytes) -> Result<Vec<usize>, RemoteError> {
        let start = self.plan.place(chunks.start).start;
        let jobs: Vec<_> = chunks.map(|chunk| (chunk, self.plan.place(chunk), self.plan.digests[chunk])).collect();
        let (file, progress) = (Arc::clone(&self.file), Arc::clone(&self.plan.progress));
        let work = move || {
            let mut bad = Vec::new();
            for (chunk, place, digest) in jobs {
                let bytes = &bytes[(place.start - start) as usize..(place.end - start) as usize];
                if Sha256::digest(bytes)[..] == digest {
                    file.write_all_at(bytes, place.start)?;
                    progress.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                } else {
                    bad.push(chunk);
                }
            }
            Ok(bad)
        };
        let done = tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other);
        done.flatten().map_err(|error| unwritten(self.entry, &error))
    }

    fn too_short(&self) -> RemoteError {
        RemoteError::Short(format!(
            "The {} {} is shorter than the {} bytes stated in its snapshot.",
            self.entry.kind.word(),
            self.entry.name,
            self.plan.size
        ))
    }
}

/// Waits until the remote is known to ignore ranges.
async fn ranges_lost(remote: &dyn Remote) {
    while remote.ranges_work() {
        tokio::time::sleep(LOOK).await;
    }
}

fn unwritten(entry: &Entry, error: &std::io::Error) -> RemoteError {
    RemoteError::Failed(format!(
        "Cannot write the {} {} to the disk: {error}. Check its free space.",
        entry.kind.word(),
        entry.name
    ))
}

#[cfg(test)]
mod tests;
