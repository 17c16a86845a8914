//! Every delay, count and size of the remotes in one place, so that tests can shrink them.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use crate::base::env_vars::NIX_CACHE_TUNING;

const MIB: u64 = 1024 * 1024;

/// Delays, counts and sizes. The defaults are for the hosted service.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// Longest time for one request to the service or to the REST interface. 30 s; an answer takes a quarter of a second.
    pub rpc_timeout: Duration,
    /// Longest time for one lookup. 10 s, so that a hanging lookup leaves time for others.
    pub lookup_timeout: Duration,
    /// Total time for all lookups of a step. 30 s.
    pub lookup_budget: Duration,
    /// Number of attempts when the service fails or cannot be reached. 7, over about 20 s. Only two once that did not help.
    pub rpc_tries: usize,
    /// First pause between attempts, doubled each time up to twelve times as much. 0.5 s.
    pub rpc_delay: Duration,
    /// Total time that a lookup waits when the service throttles. 5 s: a miss is cheaper than a long wait.
    pub find_patience: Duration,
    /// Total time that a reservation or a commit waits when the service throttles. 90 s, two windows of the service.
    pub put_patience: Duration,
    /// Total time for a reservation or a commit, even if it hangs or its answers get lost. 90 s.
    pub commit_budget: Duration,
    /// Number of times that a commit is repeated if the service does not see the bytes yet. 5.
    pub finalize_retries: usize,
    /// Pause before each repetition. 2 s.
    pub finalize_delay: Duration,
    /// Number of reservations that may be made at once before they are paced. 50 of the 200 that a repository has per minute.
    pub creation_burst: u32,
    /// Pause between reservations after that. Half a second: with the burst, 170 in any minute, which stays below the 200 at which
    /// the service throttles the repository.
    pub creation_interval: Duration,
    /// Longest time that a download may stall or take to start. 10 s.
    pub stall: Duration,
    /// A download that delivers fewer than [`Tuning::slow_bytes`] in this waiting time is abandoned, after one retry with a new
    /// address. 15 s.
    pub slow_window: Duration,
    /// 32 KiB: with the window, 2 KiB/s for each of the concurrent ranges.
    pub slow_bytes: u64,
    /// Longest time for an upload of [`Tuning::piece`], or for its answer after the last byte. 30 s: at least 9 KiB/s for each of
    /// the concurrent blocks.
    pub upload_stall: Duration,
    /// Number of attempts for a blob request. 6.
    pub blob_tries: usize,
    /// First pause between these attempts, doubled each time. 0.25 s.
    pub blob_delay: Duration,
    /// Number of bytes after which an interrupted download gets all its attempts back. 64 KiB.
    pub progress: u64,
    /// Largest entry that is uploaded in one request. 16 MiB.
    pub single_put: u64,
    /// Largest block size above that, unless there would be too many blocks. 16 MiB.
    pub block: u64,
    /// Smallest block size. 4 MiB.
    pub least_block: u64,
    /// Largest number of blocks in a blob. 50,000, Azure's limit.
    pub max_blocks: u64,
    /// Number of concurrent block uploads. 8.
    pub parallel_blocks: usize,
    /// Number of bytes of a block that are in memory at once. 256 KiB.
    pub piece: u64,
    /// No new request uses a signed address within this time before it expires. 30 s.
    pub address_margin: Duration,
    /// Longest time that a read of a streamed layer waits for bytes that do not come. 5 minutes: an error would break the job for
    /// sure, but a process that waits cannot be killed.
    pub stream_patience: Duration,
    /// How long an entry must be missing, or its bytes wrong, before a read of a streamed layer fails. 30 s: an error breaks the job, and
    /// what a service has lost it may find again.
    pub stream_give_up: Duration,
    /// How long after the tables of streamed layers the background begins. At once.
    pub stream_fill: Duration,
    /// Whether the next worker of a stream lets the kernel send again what its predecessor left unanswered, where the kernel can (since
    /// Linux 6.9). If not, it answers what is in its table. Yes.
    pub stream_resend: bool,
    /// Layers of fewer bytes are downloaded, unless streaming is asked for. 64 MiB: downloading them takes little longer than a
    /// stream takes to start, and cannot fail while the job runs.
    pub stream_from: u64,
    /// Least time between two saves while a job runs, and longest wait for more to save with the first new path. A minute.
    pub checkpoint_interval: Duration,
    /// How often such a process looks for new paths. 5 s.
    pub checkpoint_look: Duration,
    /// Number of objects in a page of a list. 1,000, the greatest that S3 allows.
    pub list_page: u32,
    /// Age at which an unfinished upload to an object store is aborted. 24 h.
    pub upload_age: Duration,
    /// Largest number of pages of 100 entries in a REST listing. 10.
    pub rest_pages: u32,
    /// Total time that a run of `prune` waits for GitHub's limits of requests. 15 minutes.
    pub rest_patience: Duration,
    /// Pause if GitHub asks for one without saying how long. 60 s.
    pub rest_pause: Duration,
    /// Least time between two deletions. 1 s, as GitHub asks of requests that change something.
    pub delete_interval: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            rpc_timeout: Duration::from_secs(30),
            lookup_timeout: Duration::from_secs(10),
            lookup_budget: crate::remote::Limits::LOOKUPS,
            rpc_tries: 7,
            rpc_delay: Duration::from_millis(500),
            find_patience: Duration::from_secs(5),
            put_patience: Duration::from_secs(90),
            commit_budget: Duration::from_secs(90),
            finalize_retries: 5,
            finalize_delay: Duration::from_secs(2),
            creation_burst: 50,
            creation_interval: Duration::from_millis(500),
            stall: Duration::from_secs(10),
            slow_window: Duration::from_secs(15),
            slow_bytes: 32 * 1024,
            upload_stall: Duration::from_secs(30),
            blob_tries: 6,
            blob_delay: Duration::from_millis(250),
            progress: 64 * 1024,
            single_put: 16 * MIB,
            block: 16 * MIB,
            least_block: 4 * MIB,
            max_blocks: 50_000,
            parallel_blocks: 8,
            piece: 256 * 1024,
            address_margin: Duration::from_secs(30),
            stream_patience: Duration::from_mins(5),
            stream_give_up: Duration::from_secs(30),
            stream_fill: Duration::ZERO,
            stream_resend: true,
            stream_from: 64 * MIB,
            checkpoint_interval: Duration::from_mins(1),
            checkpoint_look: Duration::from_secs(5),
            list_page: 1000,
            upload_age: Duration::from_hours(24),
            rest_pages: 10,
            rest_patience: Duration::from_mins(15),
            rest_pause: Duration::from_mins(1),
            delete_interval: Duration::from_secs(1),
        }
    }
}

impl Tuning {
    /// The defaults, with the delays in `NIX_CACHE_TUNING`, if it is set.
    pub(crate) fn from_env() -> Self {
        Self::from_text(&Self::text())
    }

    /// The text from which [`Tuning::from_env`] reads, for another process.
    pub(super) fn text() -> String {
        std::env::var(NIX_CACHE_TUNING).unwrap_or_default()
    }

    /// The defaults, with the delays in `text`: `name=milliseconds`, separated by commas. Names are those of the fields here;
    /// `stream_from` is in bytes, and `stream_resend` is 0 or 1. Invalid items are ignored.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        let mut tuning = Self::default();
        for (name, value) in text.split(',').filter_map(|part| part.split_once('=')) {
            let field = match name.trim() {
                "rpc_timeout" => &mut tuning.rpc_timeout,
                "lookup_timeout" => &mut tuning.lookup_timeout,
                "lookup_budget" => &mut tuning.lookup_budget,
                "rpc_delay" => &mut tuning.rpc_delay,
                "find_patience" => &mut tuning.find_patience,
                "put_patience" => &mut tuning.put_patience,
                "commit_budget" => &mut tuning.commit_budget,
                "finalize_delay" => &mut tuning.finalize_delay,
                "stall" => &mut tuning.stall,
                "slow_window" => &mut tuning.slow_window,
                "upload_stall" => &mut tuning.upload_stall,
                "upload_age" => &mut tuning.upload_age,
                "blob_delay" => &mut tuning.blob_delay,
                "stream_patience" => &mut tuning.stream_patience,
                "stream_give_up" => &mut tuning.stream_give_up,
                "stream_fill" => &mut tuning.stream_fill,
                "checkpoint_interval" => &mut tuning.checkpoint_interval,
                "checkpoint_look" => &mut tuning.checkpoint_look,
                "rest_patience" => &mut tuning.rest_patience,
                "stream_from" => {
                    tuning.stream_from = value.trim().parse().unwrap_or(tuning.stream_from);
                    continue;
                }
                "stream_resend" => {
                    tuning.stream_resend = value.trim() != "0";
                    continue;
                }
                "rest_pause" => &mut tuning.rest_pause,
                "delete_interval" => &mut tuning.delete_interval,
                _ => continue,
            };
            if let Ok(milliseconds) = value.trim().parse() {
                *field = Duration::from_millis(milliseconds);
            }
        }
        tuning
    }

    /// The pauses between `tries` attempts of a request to the service.
    pub(super) fn rpc_pauses(&self, tries: usize) -> ExponentialBackoff {
        pauses(self.rpc_delay, tries)
    }

    /// The pauses between the attempts of a blob request.
    pub(super) fn blob_pauses(&self) -> ExponentialBackoff {
        pauses(self.blob_delay, self.blob_tries)
    }

    /// The block size for a blob of `size` bytes: whole MiB, and large enough for [`Tuning::max_blocks`]. All streams are used: one of them
    /// has a quarter of the rate of a hosted runner's link.
    pub(super) fn block_size(&self, size: u64) -> u64 {
        let least = size.div_ceil(self.max_blocks);
        if least > self.block {
            return least.next_multiple_of(MIB);
        }
        let even = size.div_ceil(self.parallel_blocks.max(1) as u64).next_multiple_of(MIB);
        even.max(self.least_block).min(self.block)
    }
}

/// One pause fewer than attempts.
fn pauses(first: Duration, tries: usize) -> ExponentialBackoff {
    let builder = ExponentialBuilder::new().with_min_delay(first).with_max_delay(first * 12);
    builder.with_max_times(tries.saturating_sub(1)).with_jitter().build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_grow_only_when_there_would_be_too_many() {
        let tuning = Tuning::default();
        assert_eq!(tuning.block_size(17 * MIB), 4 * MIB);
        assert_eq!(tuning.block_size(80 * MIB + 1), 11 * MIB);
        assert_eq!(tuning.block_size(129 * MIB), 16 * MIB);
        assert_eq!(tuning.block_size(50_000 * 16 * MIB), 16 * MIB);
        let size = 50_000 * 16 * MIB + 1;
        assert_eq!(tuning.block_size(size), 17 * MIB);
        assert!(size.div_ceil(tuning.block_size(size)) <= tuning.max_blocks);
    }

    #[test]
    fn there_is_one_pause_fewer_than_there_are_tries() {
        let tuning = Tuning { blob_tries: 6, rpc_tries: 1, ..Tuning::default() };
        assert_eq!(tuning.blob_pauses().count(), 5);
        assert_eq!(tuning.rpc_pauses(1).count(), 0);
    }
}
