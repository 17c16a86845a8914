//! The memory of this machine, from `/proc/meminfo`. Source: `proc_meminfo(5)`.

/// Bytes of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Total memory.
    pub total: u64,
    /// Memory that a program may use without making others swap.
    pub available: u64,
}

impl Memory {
    /// Reads the current values. Returns None if the system does not report them, as on macOS.
    pub(crate) fn now() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/meminfo").ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let bytes = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
        };
        Some(Self { total: bytes("MemTotal:")?, available: bytes("MemAvailable:")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_by_their_names() {
        let text = "MemTotal:       16374384 kB\nMemFree: 1 kB\nMemAvailable:   5 kB\n";
        assert_eq!(Memory::parse(text), Some(Memory { total: 16_374_384 * 1024, available: 5 * 1024 }));
        assert_eq!(Memory::parse("MemTotal: 9 kB\nMemFree: 1 kB\n"), None);
        assert_eq!(Memory::parse("MemTotal: lots\nMemAvailable: 5 kB\n"), None);
        assert_eq!(Memory::parse(&format!("MemTotal: {} kB\nMemAvailable: 5 kB\n", u64::MAX)), None);
    }

    #[test]
    fn this_machine_has_more_than_is_available() {
        if let Some(memory) = Memory::now() {
            assert!(memory.total > memory.available && memory.available > 0, "{memory:?}");
        }
    }
}
