//! Memory without a file behind it that several can share: tmpfs files, memfd, shared anonymous maps.

use alloc::sync::Arc;
use core::ops::Range;

use abi::Result;

use crate::io::{IoReader, IoWriter};

/// Pages that exist once touched; holes read as zeroes. A [`crate::PageSource`].
#[derive(Debug)]
pub struct Shm(());

impl Shm {
    /// `size_bytes` of zeroes.
    #[must_use]
    pub fn new(size_bytes: u64) -> Arc<Shm> {
        let _ = size_bytes;
        todo!()
    }

    /// Its size.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        todo!()
    }

    /// Sets its size; what is cut off leaves every mapping.
    pub fn set_size(&self, size_bytes: u64) {
        let _ = size_bytes;
        todo!()
    }

    /// Pages it holds (st_blocks).
    #[must_use]
    pub fn pages(&self) -> u64 {
        todo!()
    }

    /// Reads from `offset` on, up to its size.
    ///
    /// # Errors
    /// `EFAULT` from `to` when not a byte was read.
    pub fn read(&self, offset: u64, to: &mut IoWriter<'_>) -> Result<usize> {
        let _ = (offset, to);
        todo!()
    }

    /// Writes at `offset`, growing it if need be.
    ///
    /// # Errors
    /// `EFAULT` from `from`, `ENOMEM` or `EFBIG` when not a byte was written.
    pub fn write(&self, offset: u64, from: &mut IoReader<'_>) -> Result<usize> {
        let _ = (offset, from);
        todo!()
    }

    /// Makes the pages of a range exist (fallocate).
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn allocate(&self, bytes: Range<u64>) -> Result<()> {
        let _ = bytes;
        todo!()
    }

    /// Turns a range into a hole.
    pub fn punch(&self, bytes: Range<u64>) {
        let _ = bytes;
        todo!()
    }
}

impl crate::PageSource for Shm {
    fn page(&self, index: u64, write: bool) -> Result<machine::Frame> {
        let _ = (index, write);
        todo!()
    }
    fn size_bytes(&self) -> u64 {
        todo!()
    }
}
