//! Chooses Nix's parallelism from the free processors and memory.

use std::num::NonZero;

use crate::base::memory::Memory;

/// Most builds at once, however large the machine: beyond that they wait for the disk and for each other.
const MOST_JOBS: u64 = 16;
/// Memory that one build may be expected to need.
const FOR_A_JOB: u64 = 2 << 30;
/// Memory that one process of a build may be expected to need, such as a compiler.
const FOR_A_PROCESS: u64 = 512 << 20;

/// The limits for Nix: `--max-jobs` and `--cores`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Builds at once.
    pub jobs: u64,
    /// Processes that one build may use.
    pub cores: u64,
}

/// One of the two limits, as the user wants it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Limit {
    /// From this machine.
    #[default]
    Auto,
    /// As Nix's configuration has it.
    Config,
    /// This many.
    Count(u64),
}

impl Limit {
    /// What a limit takes, for a sentence.
    pub(crate) const TAKES: &'static str = "auto, config (as in nix.conf) or a whole number up to 4096";

    /// Reads `auto`, `config` or a whole number.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "config" => Some(Self::Config),
            _ if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().ok().filter(|count| *count <= 4096).map(Self::Count)
            }
            _ => None,
        }
    }

    /// The number to give to Nix; none where its configuration is to hold.
    #[must_use]
    pub(crate) fn or(self, automatic: u64) -> Option<u64> {
        match self {
            Self::Auto => Some(automatic),
            Self::Config => None,
            Self::Count(count) => Some(count),
        }
    }
}

/// The limits that fit this machine as it is now.
#[must_use]
pub(crate) fn of_this_machine() -> Limits {
    let cpus = std::thread::available_parallelism().map_or(1, NonZero::get) as u64;
    let memory = Memory::now().map(|memory| memory.available);
    limits(cpus, memory)
}

/// The limits for so many processors and bytes of memory. Each build may use all processors, since near the end of a job
/// one build often runs alone, unless the memory would not do for that.
fn limits(cpus: u64, memory: Option<u64>) -> Limits {
    let cpus = cpus.max(1);
    let Some(memory) = memory else { return Limits { jobs: cpus.min(MOST_JOBS), cores: cpus } };
    let jobs = cpus.min(memory / FOR_A_JOB).clamp(1, MOST_JOBS);
    let cores = cpus.min(memory / FOR_A_PROCESS / jobs).max(1);
    Limits { jobs, cores }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn machines_that_people_have() {
        let gib = |count: u64| Some(count << 30);
        for (cpus, memory, jobs, cores) in [
            (4, gib(15), 4, 4),   // hosted by GitHub
            (2, gib(7), 2, 2),    // private repositories
            (1, gib(1), 1, 1),    // a small virtual machine
            (8, gib(3), 1, 6),    // more processors than memory
            (64, gib(60), 16, 7), // a large one
            (8, None, 8, 8),      // no Linux
        ] {
            assert_eq!(limits(cpus, memory), Limits { jobs, cores }, "{cpus} {memory:?}");
        }
        assert!(of_this_machine().jobs >= 1);
    }

    #[test]
    fn limits_are_read() {
        assert_eq!(Limit::parse("auto").unwrap().or(3), Some(3));
        assert_eq!(Limit::parse("config").unwrap().or(3), None);
        assert_eq!(Limit::parse("0").unwrap().or(3), Some(0));
        for wrong in ["", "-1", "+1", "4097", "1.5", "all"] {
            assert_eq!(Limit::parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn never_more_than_the_memory_allows(cpus in 0_u64..2000, memory in any::<u64>()) {
            let Limits { jobs, cores } = limits(cpus, Some(memory));
            prop_assert!((1..=MOST_JOBS).contains(&jobs) && cores >= 1 && cores <= cpus.max(1));
            prop_assert!(jobs == 1 || jobs * FOR_A_JOB <= memory);
            prop_assert!(cores == 1 || jobs * cores * FOR_A_PROCESS <= memory);
        }
    }
}
