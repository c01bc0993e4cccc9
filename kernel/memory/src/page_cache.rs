//! The page cache of one file.

use alloc::sync::Arc;
use core::ops::Range;

use abi::Result;
use machine::Frame;

use crate::io::{IoReader, IoWriter};

/// Where the pages of a cached file live when they are not in memory.
pub trait Backing: Send + Sync {
    /// Reads whole pages from page `first` on, one into each frame; bytes beyond the end of the
    /// file are zeroes. May sleep.
    ///
    /// # Errors
    /// What the file system says.
    fn read_pages(&self, first: u64, frames: &[Frame]) -> Result<()>;

    /// Writes `len_bytes` bytes from page `first` on (the last page may be partial). May sleep.
    ///
    /// # Errors
    /// What the file system says.
    fn write_pages(&self, first: u64, frames: &[Frame], len_bytes: u64) -> Result<()>;

    /// How many pages to read at once when a read goes on where the last one ended.
    fn readahead_pages(&self) -> usize {
        32
    }
}

/// The pages of one file that are in memory.
#[derive(Debug)]
pub struct PageCache(());

impl PageCache {
    /// An empty cache over `backing` (which must not own the cache) for a file of `size_bytes`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(backing: Arc<dyn Backing>, size_bytes: u64) -> Result<Arc<PageCache>> {
        let _ = (backing, size_bytes);
        todo!()
    }

    /// Bytes in the file.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        todo!()
    }

    /// Sets the size: the file was truncated or has grown. Pages beyond leave the cache and every
    /// mapping; the rest of the last page becomes zeroes.
    pub fn set_size(&self, size_bytes: u64) {
        let _ = size_bytes;
        todo!()
    }

    /// Reads from `offset` on, up to the end of the file, as far as `to` takes it.
    ///
    /// # Errors
    /// `EFAULT` from `to`, or what the backing says, when not a byte was read.
    pub fn read(&self, offset: u64, to: &mut IoWriter<'_>) -> Result<usize> {
        let _ = (offset, to);
        todo!()
    }

    /// Writes to the cache at `offset`, growing the file if need be; the pages are dirty until
    /// [`Self::write_back`].
    ///
    /// # Errors
    /// `EFAULT` from `from`, `ENOMEM`, or what the backing says, when not a byte was written.
    pub fn write(&self, offset: u64, from: &mut IoReader<'_>) -> Result<usize> {
        let _ = (offset, from);
        todo!()
    }

    /// The file was written behind the cache (write-through): copies the bytes into the pages that are
    /// cached. Does not grow the file.
    pub fn update(&self, offset: u64, bytes: &[u8]) {
        let _ = (offset, bytes);
        todo!()
    }

    /// Writes the dirty pages of a range of bytes back.
    ///
    /// # Errors
    /// What the backing says; pages not written stay dirty.
    pub fn write_back(&self, bytes: Range<u64>) -> Result<()> {
        let _ = bytes;
        todo!()
    }

    /// Whether any page is dirty.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        todo!()
    }

    /// Drops the clean pages of a range of bytes from the cache and every mapping: the file has changed
    /// on the other side.
    pub fn invalidate(&self, bytes: Range<u64>) {
        let _ = bytes;
        todo!()
    }
}
