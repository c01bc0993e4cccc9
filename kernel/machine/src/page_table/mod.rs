//! A user address space as the CPU sees it. The kernel half is shared by all.
//!
//! Locking is inside: calls may come from any CPU. A frame leaves a table only after every CPU
//! that may have it in its TLB has been told.

#[cfg(target_os = "none")]
mod bare;
#[cfg(target_os = "none")]
mod entry;
#[cfg(not(target_os = "none"))]
mod host;
#[cfg(target_os = "none")]
mod tree;

#[cfg(target_os = "none")]
pub use bare::PageTable;
#[cfg(not(target_os = "none"))]
pub use host::PageTable;

bitflags::bitflags! {
    /// What user code may do with a page. Readable is implied by being mapped.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Perms: u8 {
        /// Stores.
        const WRITE = 1;
        /// Instruction fetch.
        const EXEC = 2;
    }
}
