//! The error of what may allocate, and how alloc's and the frames' become it.

use alloc::collections::TryReserveError;
use core::fmt;

use crate::frame::OutOfMemory;
use abi::Errno;

/// There was no memory for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllocError;

/// What a method that may allocate returns.
pub type Result<T> = core::result::Result<T, AllocError>;

impl fmt::Display for AllocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("out of memory")
    }
}

impl core::error::Error for AllocError {}

impl From<AllocError> for Errno {
    fn from(_: AllocError) -> Errno {
        Errno::ENOMEM
    }
}

impl From<OutOfMemory> for AllocError {
    fn from(_: OutOfMemory) -> AllocError {
        AllocError
    }
}

/// Also for a capacity that overflows: Linux has ENOMEM for that, too.
impl From<TryReserveError> for AllocError {
    fn from(_: TryReserveError) -> AllocError {
        AllocError
    }
}
