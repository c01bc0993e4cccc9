//! For tests and fuzzers only: a driver as a guest has one, a FUSE client, and entry points for arbitrary bytes.

#![allow(missing_docs, reason = "what tests do needs no contract")]
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    missing_debug_implementations,
    reason = "a test double may panic"
)]

mod driver;
pub mod files;
pub mod fuzz;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use vm_memory::GuestMemoryMmap;

pub use driver::{BUFFERS, Driver, ENTRIES, NEXT, WRITE};

/// Guest memory of the tests.
pub type Memory = GuestMemoryMmap<()>;
/// As devices reach it.
pub type SharedMemory = Arc<Memory>;
/// Where the registers of the first device are.
pub const MMIO_START: u64 = 0xd000_0000;
