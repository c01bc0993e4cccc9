//! Untyped frames: the only memory that can be mapped to users or handed to devices.
//!
//! A [`Frame`] is a counted handle to 4 KiB of bytes that have no Rust type; user code and devices
//! may change them at any time, so they are only ever copied in and out. Each frame has 32 bytes of
//! metadata (`meta`): what it is used for, who owns it, how often it is mapped.
//!
//! `zone` is the allocator's policy and `lists` each CPU's stock in front of it, both tested on the host;
//! `allocator` has the real memory. On the host a frame is a heap page.

pub mod account;
#[cfg(target_os = "none")]
pub(crate) mod allocator;
#[cfg(target_os = "none")]
pub(crate) mod bare;
#[cfg(target_os = "none")]
mod bytes;
#[cfg(not(target_os = "none"))]
mod host;
#[cfg(target_os = "none")]
pub(crate) mod kept;
#[cfg(target_os = "none")]
mod large;
#[cfg_attr(not(target_os = "none"), allow(dead_code, reason = "used by tests"))]
mod links;
#[cfg_attr(not(target_os = "none"), allow(dead_code, reason = "used by tests"))]
pub(crate) mod lists;
#[cfg_attr(
    not(target_os = "none"),
    allow(dead_code, reason = "used by the allocator")
)]
pub(crate) mod meta;
mod queue;
pub mod refusal;
pub mod reporting;
#[cfg(target_os = "none")]
mod vmemmap;
#[cfg_attr(not(target_os = "none"), allow(dead_code, reason = "used by tests"))]
pub(crate) mod zone;

#[cfg(target_os = "none")]
pub use bare::{Frame, at_hand, count, free, in_use, kept, limit, release_kept, set_limit, total};
#[cfg(not(target_os = "none"))]
pub use host::{
    Frame, LargeFrame, at_hand, count, free, in_use, kept, limit, release_kept, set_limit, total,
};
#[cfg(target_os = "none")]
pub use large::LargeFrame;
pub use meta::{FrameFlags, Kind};
pub use queue::{Place, Queue};

/// No frame is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory;
