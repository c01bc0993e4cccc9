//! A user address space as the CPU sees it. The kernel half is shared by all.
//!
//! A [`PageTable`] is what a CPU loads; its [`Mapper`], of which there is one, changes what is in it. Shared, a mapper
//! serves any number of CPUs at once that add pages or change single ones; whoever takes pages and tables out has it
//! alone, which Rust checks. A frame leaves a table, and a table the tree, only after
//! every CPU that may have it in its TLB has been told. Calls over a range do a bounded part of it and
//! return how far they came, so that the caller can give the CPU away in between.

use core::sync::atomic;

#[cfg(target_os = "none")]
mod alone;
#[cfg(target_os = "none")]
mod bare;
#[cfg_attr(
    not(target_os = "none"),
    allow(dead_code, reason = "only tested on the host")
)]
pub(crate) mod bits;
#[cfg_attr(
    not(target_os = "none"),
    allow(dead_code, reason = "only tested on the host")
)]
mod counts;
#[cfg(target_os = "none")]
mod entry;
#[cfg_attr(
    not(target_os = "none"),
    allow(dead_code, reason = "only tested on the host")
)]
mod gather;
#[cfg(not(target_os = "none"))]
mod host;
#[cfg(target_os = "none")]
mod large;
#[cfg(target_os = "none")]
mod mapper;
#[cfg(target_os = "none")]
pub(crate) mod spare;
#[cfg_attr(
    not(target_os = "none"),
    allow(dead_code, reason = "only tested on the host")
)]
mod tree;
#[cfg_attr(
    not(target_os = "none"),
    allow(dead_code, reason = "only tested on the host")
)]
mod usage;

#[cfg(target_os = "none")]
pub use bare::PageTable;
#[cfg(not(target_os = "none"))]
pub use host::{Mapped, Mapper, PageTable};
#[cfg(target_os = "none")]
pub use mapper::{Mapped, Mapper};

bitflags::bitflags! {
    /// What user code may do with a page. Readable is implied by being mapped, but for `NO_ACCESS`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Perms: u8 {
        /// Stores.
        const WRITE = 1;
        /// Instruction fetch.
        const EXEC = 2;
        /// Nothing at all: the page is kept for when it may be accessed again (`PROT_NONE`).
        const NO_ACCESS = 4;
    }
}
