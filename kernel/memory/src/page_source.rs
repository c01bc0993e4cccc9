//! What a file or shared mapping shows: the trait its pages come from.

use core::any::Any;
use core::ops::Range;

use abi::{Errno, Result};
use collections::Vec;
use machine::Frame;

use crate::rmap::MappingList;
use crate::space::Prot;

/// Pages by index, of 4 KiB each. Frames that it hands out are mapped as they are: shared
/// mappings see each other's stores, private ones are mapped read-only and copied on write.
pub trait PageSource: Any + Send + Sync {
    /// The frame of page `index`, read in if need be; may sleep. `write`: a shared mapping is about
    /// to store to it. The same page gives the same frame until it is truncated away.
    ///
    /// # Errors
    /// `ENOMEM`; anything else, such as `EIO`, and the toucher gets SIGBUS.
    fn page(&self, index: u64, write: bool) -> Result<Frame>;

    /// As [`Self::page`] if that needs no waiting. Called under an area lock, also for pages around
    /// the one that was touched. `None` is always a right answer.
    fn page_at_hand(&self, index: u64, write: bool) -> Option<Frame> {
        let _ = (index, write);
        None
    }

    /// As [`Self::page_at_hand`] for pages from `first` on that nobody stores to, where there is no frame yet.
    fn pages_at_hand(&self, first: u64, frames: &mut [Option<Frame>]) {
        for (index, frame) in (first..).zip(frames) {
            if frame.is_none() {
                *frame = self.page_at_hand(index, false);
            }
        }
    }

    /// Length in bytes; a fault on a page wholly past it is SIGBUS.
    fn size_bytes(&self) -> u64;

    /// Whether it wants to be asked before the first store to a page: shared mappings then show it
    /// read-only until there is one.
    fn tracks_stores(&self) -> bool {
        true
    }

    /// Writes dirty pages of the range back (msync(2)); `last_page` is included.
    ///
    /// # Errors
    /// `EIO` and what the store answers.
    fn sync(&self, first_page: u64, last_page: u64) -> Result<()> {
        let _ = (first_page, last_page);
        Ok(())
    }

    /// Frees the pages of a range of bytes, which read as zeroes from then on (`MADV_REMOVE`).
    ///
    /// # Errors
    /// `EOPNOTSUPP` unless the source can.
    fn punch(&self, bytes: Range<u64>) -> Result<()> {
        let _ = bytes;
        Err(Errno::EOPNOTSUPP)
    }

    /// Brings pages in that will be touched soon, as far as they can be read. `end_page` is not included.
    fn read_ahead(&self, first_page: u64, end_page: u64) {
        let _ = (first_page, end_page);
    }

    /// What a new mapping may ever allow: without `WRITE` when the source is sealed against stores.
    ///
    /// # Errors
    /// `EPERM` when `prot` is more than that.
    fn map_rights(&self, is_shared: bool, prot: Prot) -> Result<Prot> {
        let _ = (is_shared, prot);
        Ok(Prot::all())
    }

    /// Who maps it, for sources whose pages can be taken away (truncation).
    fn mappings(&self) -> Option<&MappingList> {
        None
    }
}

impl core::fmt::Debug for dyn PageSource {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PageSource({} bytes)", self.size_bytes())
    }
}

/// Where a mapping came from, for /proc/PID/maps; keeps the file open.
pub trait Origin: Send + Sync {
    /// The path, as maps shows it.
    ///
    /// # Errors
    /// `ENOMEM`.
    fn path(&self) -> Result<Vec<u8>>;
    /// Device (major, minor) and inode number.
    fn identity(&self) -> ((u32, u32), u64);
}
