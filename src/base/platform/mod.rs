//! System calls that only Linux has, under the same names on every system, so that everything else is written once and compiles
//! for macOS (`scripts/check-macos.sh`). On other systems, each of them is refused as unsupported, and nothing relies on them
//! there: layers are unpacked instead of mounted.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;

#[cfg(target_os = "linux")]
pub(crate) use linux::*;
#[cfg(not(target_os = "linux"))]
pub(crate) use other::*;

use rustix::fs::{Mode, RawMode};

/// The mode with the permission bits of `bits`.
pub(crate) fn mode(bits: u32) -> Mode {
    // RawMode has 16 bits on macOS, and permissions have twelve.
    Mode::from_raw_mode((bits & 0o7777) as RawMode)
}
