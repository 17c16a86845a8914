//! Machine usage of a build: processors, memory and disk, sampled while it runs. Linux only.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::memory::Memory;
use crate::base::process::Ticks;

/// Between two samples.
const INTERVAL: Duration = Duration::from_secs(2);

/// The usage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Resources {
    /// Number of samples.
    pub samples: u64,
    /// Mean share of all processors that was busy, in percent.
    pub cpu_mean_percent: f64,
    /// Largest share between two samples, in percent.
    pub cpu_peak_percent: f64,
    /// Mean of the memory in use on the machine, in bytes.
    pub memory_mean_bytes: u64,
    /// Most memory in use on the machine, in bytes.
    pub memory_peak_bytes: u64,
    /// Largest increase of the used space on the store's disk since the start, in bytes.
    pub disk_peak_bytes: u64,
    /// Least free space on the store's disk, in bytes.
    pub disk_free_bytes: u64,
}

/// One look at the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sample {
    /// Ticks of the processors.
    cpu: Ticks,
    memory: u64,
    free: u64,
}

/// Samples until it is ended.
#[derive(Debug)]
pub(super) struct Sampler {
    end: Sender<()>,
    thread: JoinHandle<Vec<Sample>>,
}

impl Sampler {
    /// Starts to sample, with the disk that holds `store`. None where nothing can be known.
    #[must_use]
    pub(super) fn start(store: PathBuf) -> Option<Self> {
        let first = sample(&store)?;
        let (end, ended) = channel();
        let thread = std::thread::Builder::new().name("resources".to_owned()).spawn(move || {
            let mut samples = vec![first];
            while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                samples.extend(sample(&store));
            }
            samples.extend(sample(&store));
            samples
        });
        Some(Self { end, thread: thread.ok()? })
    }

    /// Stops sampling and returns the usage.
    #[must_use]
    pub(super) fn end(self) -> Option<Resources> {
        drop(self.end);
        Some(sum(&self.thread.join().ok()?))
    }
}

fn sample(store: &Path) -> Option<Sample> {
    let cpu = Ticks::now()?;
    let memory = Memory::now().map(|memory| memory.total.saturating_sub(memory.available))?;
    let there = store.ancestors().find(|path| path.exists())?;
    let free = rustix::fs::statvfs(there).ok().map(|space| space.f_bavail.saturating_mul(space.f_frsize))?;
    Some(Sample { cpu, memory, free })
}

fn sum(samples: &[Sample]) -> Resources {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return Resources::default() };
    let share = |from: &Sample, to: &Sample| {
        let all = to.cpu.all.saturating_sub(from.cpu.all);
        let busy = all.saturating_sub(to.cpu.idle.saturating_sub(from.cpu.idle));
        if all == 0 { 0.0 } else { (busy as f64 * 1000.0 / all as f64).round() / 10.0 }
    };
    let free = samples.iter().map(|sample| sample.free).min().unwrap_or_default();
    let mean = samples.iter().map(|sample| u128::from(sample.memory)).sum::<u128>() / samples.len() as u128;
    Resources {
        samples: samples.len() as u64,
        cpu_mean_percent: share(first, last),
        cpu_peak_percent: samples.windows(2).map(|pair| share(&pair[0], &pair[1])).fold(0.0, f64::max),
        memory_mean_bytes: mean as u64,
        memory_peak_bytes: samples.iter().map(|sample| sample.memory).max().unwrap_or_default(),
        disk_peak_bytes: first.free.saturating_sub(free),
        disk_free_bytes: free,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_and_means() {
        let samples = [((100, 10), 4, 90), ((200, 110), 8, 40), ((400, 110), 6, 60)];
        let cpu = |(all, busy)| Ticks { all, idle: all - busy, processors: 1 };
        let samples = samples.map(|(ticks, memory, free)| Sample { cpu: cpu(ticks), memory, free });
        let used = sum(&samples);
        assert_eq!((used.samples, used.cpu_mean_percent, used.cpu_peak_percent), (3, 33.3, 100.0));
        assert_eq!((used.memory_mean_bytes, used.memory_peak_bytes), (6, 8));
        assert_eq!((used.disk_peak_bytes, used.disk_free_bytes), (50, 40));
        assert_eq!(sum(&[]), Resources::default());
    }

    #[test]
    fn this_machine_can_be_sampled() {
        let sampler = Sampler::start(std::env::temp_dir().join("not/there"));
        assert_eq!(sampler.is_some(), Path::new("/proc/stat").exists());
        let Some(sampler) = sampler else {
            eprintln!("There is no /proc here.");
            return;
        };
        let used = sampler.end().unwrap();
        assert!(used.samples >= 2 && used.memory_peak_bytes > 0 && used.disk_free_bytes > 0, "{used:?}");
    }
}
