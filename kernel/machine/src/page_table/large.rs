//! Pages of 2 MiB of a [`PageTable`]: mapping them, splitting them, counting them.
//!
//! Locking: as in `bare`.

use core::ops::Range;
use core::sync::atomic::Ordering;

use super::Perms;
use super::bare::{LARGE_PAGES, PageTable};
use super::bits::ENTRIES;
use super::tree::large::LARGE_LEN;
use crate::addr::{PAGE_SIZE, UserAddr};
use crate::frame::{LargeFrame, OutOfMemory};

impl PageTable {
    /// Maps a large frame at `addr`, which is aligned to its size, if nothing is there. Whether it did.
    ///
    /// # Errors
    /// [`OutOfMemory`] when no frame is free for a table.
    pub fn fill_large(
        &self,
        addr: UserAddr,
        frame: LargeFrame,
        perms: Perms,
    ) -> Result<bool, OutOfMemory> {
        let page = frame.into_phys();
        let mapped = {
            let _guard = self.lock.lock();
            let mapped = self.tree.map_large(addr.0, page.0, perms);
            if mapped == Ok(true) {
                self.add_resident(ENTRIES);
                self.add_large_pages(1);
            }
            mapped
        };
        if mapped != Ok(true) {
            // SAFETY: it is not mapped: the handles are given up as they came.
            drop(unsafe { LargeFrame::from_phys(page) });
        }
        mapped
    }

    /// Whether a large page can be mapped at `addr`: there is nothing yet, not even a table.
    #[must_use]
    pub fn is_vacant(&self, addr: UserAddr) -> bool {
        let _guard = self.lock.lock();
        self.tree.is_vacant(addr.0)
    }

    /// Sets the permissions of the page at `addr`, and of all of a large page that it is in: that is nobody else's.
    pub fn protect_page(&self, addr: UserAddr, perms: Perms) {
        let large = if self.large_pages() > 0 {
            let _guard = self.lock.lock();
            self.tree.large_at(addr.0)
        } else {
            None
        };
        let (start, len) = match large {
            Some(large) => (large.addr, LARGE_LEN),
            None => (addr.page_base().0, PAGE_SIZE as u64),
        };
        self.protect(UserAddr(start)..UserAddr(start + len), perms);
    }

    /// How many pages of 2 MiB it has.
    #[must_use]
    pub fn large_pages(&self) -> usize {
        self.large_pages.load(Ordering::Relaxed)
    }

    /// Pages of 2 MiB of all page tables.
    #[must_use]
    pub fn all_large_pages() -> usize {
        LARGE_PAGES.load(Ordering::Relaxed)
    }

    /// Counts large pages that came; fewer, when `pages` wraps.
    pub(super) fn add_large_pages(&self, pages: usize) {
        if pages != 0 {
            self.large_pages.fetch_add(pages, Ordering::Relaxed);
            LARGE_PAGES.fetch_add(pages, Ordering::Relaxed);
        }
    }

    /// Splits the large pages that a range ends in; under `lock`.
    pub(super) fn split_ends(&self, range: &Range<UserAddr>) {
        if self.large_pages() > 0 {
            let split = self.tree.split_ends(&(range.start.0..range.end.0));
            self.add_large_pages(split.wrapping_neg());
        }
    }

    /// Splits the large pages in the first part of a range, which it returns; under `lock`.
    pub(super) fn split_part(&self, mut range: Range<UserAddr>) -> Range<UserAddr> {
        /// Some 30,000 instructions.
        const MOST: u64 = 8 * LARGE_LEN;
        if self.large_pages() > 0 {
            range.end = range.end.min(UserAddr(range.start.0 + MOST));
            self.split_ends(&range);
            let split = self.tree.split_all(&(range.start.0..range.end.0));
            self.add_large_pages(split.wrapping_neg());
        }
        range
    }
}
