//! The one error of this crate, and how alloc's and the machine's become it.

use alloc::collections::TryReserveError;
use core::fmt;

use abi::Errno;
use machine::frame::OutOfMemory;

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
