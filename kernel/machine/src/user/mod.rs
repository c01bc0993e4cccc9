//! User memory through the active page table: fallible copies, nothing more.
//!
//! A fault ends the copy; nothing is resolved here. The memory layer resolves the fault (demand
//! paging, copy-on-write) and goes on from where the copy stopped.

#[cfg(target_os = "none")]
mod bare;
#[cfg(not(target_os = "none"))]
mod host;

#[cfg(target_os = "none")]
pub use bare::{compare_exchange_u32, load_u32, read, read_frame, write, write_frame, zero};
#[cfg(not(target_os = "none"))]
pub use host::{compare_exchange_u32, load_u32, read, read_frame, write, write_frame, zero};

/// Where a copy stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Bytes copied before the fault.
    pub copied: usize,
}
