//! Untyped frames: the only memory that can be mapped to users or handed to devices.
//!
//! A [`Frame`] is a counted handle to 4 KiB of bytes that have no Rust type; user code and devices
//! may change them at any time, so they are only ever copied in and out.

#[cfg(target_os = "none")]
pub(crate) mod allocator;
#[cfg(target_os = "none")]
pub(crate) mod bare;
#[cfg(target_os = "none")]
mod bytes;
#[cfg(not(target_os = "none"))]
mod host;

#[cfg(target_os = "none")]
pub use bare::{Frame, free, total};
#[cfg(not(target_os = "none"))]
pub use host::{Frame, free, total};

/// No frame is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory;
