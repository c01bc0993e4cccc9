//! What a file or shared mapping shows: the trait its pages come from.

use alloc::sync::Weak;
use alloc::vec::Vec;
use core::any::Any;
use core::ops::Range;

use abi::{Errno, Result};
use machine::Frame;
use machine::sync::SpinLock;

use crate::space::AddressSpace;

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
    fn path(&self) -> Vec<u8>;
    /// Device (major, minor) and inode number.
    fn identity(&self) -> ((u32, u32), u64);
}

/// The address spaces that map a source.
#[derive(Debug, Default)]
pub struct MappingList {
    spaces: SpinLock<Vec<Weak<AddressSpace>>>,
}

impl MappingList {
    /// Nobody yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            spaces: SpinLock::new(Vec::new()),
        }
    }

    /// Notes that `space` maps the source. Once is enough however many mappings it has.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn add(&self, space: &Weak<AddressSpace>) -> Result<()> {
        let mut spaces = self.spaces.lock();
        if spaces.iter().any(|it| it.ptr_eq(space)) {
            return Ok(());
        }
        if spaces.len() == spaces.capacity() {
            spaces.retain(|it| it.strong_count() > 0);
            spaces.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        }
        spaces.push(space.clone());
        Ok(())
    }

    /// Takes the pages from `first` on out of every mapping of `source`, private copies included
    /// (ftruncate(2)).
    pub fn unmap_from(&self, source: &dyn PageSource, first: u64) {
        self.each(|space| space.forget_pages(source, first..u64::MAX, true));
    }

    /// Takes a range of pages out of every mapping of `source`, private copies excepted.
    pub fn unmap_pages(&self, source: &dyn PageSource, pages: Range<u64>) {
        self.each(|space| space.forget_pages(source, pages.clone(), false));
    }

    /// Makes every shared mapping ask `source` again before the next store to one of these pages.
    pub fn expect_stores(&self, source: &dyn PageSource, pages: Range<u64>) {
        self.each(|space| space.expect_stores(source, pages.clone()));
    }

    fn each(&self, act: impl Fn(&AddressSpace)) {
        let mut at = 0;
        // One at a time: what is upgraded here may be the last reference, dropped without the lock.
        loop {
            let space = match self.spaces.lock().get(at) {
                Some(space) => space.upgrade(),
                None => return,
            };
            if let Some(space) = space {
                act(&space);
            }
            at += 1;
        }
    }
}
