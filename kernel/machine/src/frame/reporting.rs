//! Free memory that the host need not keep: [`FreeBlock`]s are taken from the allocator, told to a device, and given back.
//!
//! The allocator counts the frames of its larger blocks that the host may have memory for ([`unreported`]). When there
//! are as many as [`arm`] was told, what [`set_upcall`] named is called, once: in an interrupt, because frames are freed with
//! any lock held.

#[cfg(target_os = "none")]
mod bare;
#[cfg(not(target_os = "none"))]
mod host;

#[cfg(target_os = "none")]
pub(super) use bare::note;
#[cfg(target_os = "none")]
pub(crate) use bare::poll;
#[cfg(target_os = "none")]
pub use bare::{FreeBlock, arm, set_upcall, unreported};
#[cfg(not(target_os = "none"))]
pub use host::{FreeBlock, arm, pretend_free, reported, set_upcall, unreported};
