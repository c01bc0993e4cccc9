//! User memory through the active page table: fallible copies, nothing more.
//!
//! A fault ends the copy; nothing is resolved here. The memory layer resolves the fault (demand
//! paging, copy-on-write) and goes on from where the copy stopped.

use crate::addr::UserAddr;

/// Where a copy stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Bytes copied before the fault.
    pub copied: usize,
}

/// Copies user memory into `to`. Addresses at or above [`UserAddr::LIMIT`] fault.
///
/// # Errors
/// [`Fault`] when a page is not mapped.
pub fn read(from: UserAddr, to: &mut [u8]) -> Result<(), Fault> {
    let _ = (from, to);
    todo!()
}

/// Copies `from` into user memory.
///
/// # Errors
/// [`Fault`] when a page is not mapped or not writable.
pub fn write(to: UserAddr, from: &[u8]) -> Result<(), Fault> {
    let _ = (to, from);
    todo!()
}

/// Fills user memory with zeroes.
///
/// # Errors
/// [`Fault`] when a page is not mapped or not writable.
pub fn zero(to: UserAddr, len: usize) -> Result<(), Fault> {
    let _ = (to, len);
    todo!()
}

/// Atomically reads a 4-aligned word (a misaligned address faults).
///
/// # Errors
/// [`Fault`] when the page is not mapped.
pub fn load_u32(from: UserAddr) -> Result<u32, Fault> {
    let _ = from;
    todo!()
}

/// Atomically replaces a 4-aligned word if it is `current`. `Ok(Ok(previous))` when replaced,
/// `Ok(Err(actual))` when not.
///
/// # Errors
/// [`Fault`] when the page is not mapped or not writable.
pub fn compare_exchange_u32(
    at: UserAddr,
    current: u32,
    new: u32,
) -> Result<Result<u32, u32>, Fault> {
    let _ = (at, current, new);
    todo!()
}
