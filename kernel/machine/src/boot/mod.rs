//! Boot: entry from the VMM or by PVH, and what was learnt on the way.
//!
//! `machine::entry!(main)` names the `fn(BootConfig) -> !` that runs on the boot CPU once the
//! heap, frames, traps and timers work. [`start_other_cpus`] then brings up the rest.

use crate::heap::String;

#[cfg(target_os = "none")]
pub(crate) mod bare;
#[cfg(target_os = "none")]
mod entry;
#[cfg(not(target_os = "none"))]
mod host;
#[cfg(target_os = "none")]
mod pvh;
#[cfg_attr(not(target_os = "none"), allow(dead_code, reason = "used by tests"))]
mod ranges;
#[cfg(target_os = "none")]
mod smp;

#[cfg(target_os = "none")]
pub use bare::start_other_cpus;
#[cfg(not(target_os = "none"))]
pub use host::start_other_cpus;

/// What the boot path hands to the kernel binary.
#[derive(Debug)]
pub struct BootConfig {
    /// The command line, as given.
    pub command_line: String,
    /// The initramfs archive, where the host put it; empty when there is none.
    pub archive: &'static [u8],
}
