//! Pages of 2 MiB of a [`Mapper`]: mapping them, splitting them, counting them.
//!
//! Locking: as in `mapper`.

use core::ops::Range;
use core::sync::atomic::Ordering;

use super::Perms;
use super::bits::{ENTRIES, Encoder, LARGE, encode};
use super::entry::{large_handle, with_perms};
use super::mapper::{Change, Mapper};
use super::tree::large::LARGE_LEVEL;
use super::tree::{Found, Tables};
use crate::addr::UserAddr;
use crate::frame::{LargeFrame, OutOfMemory};

impl Mapper {
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
        let Some(above) = self.shared_table(addr.0, LARGE_LEVEL)? else {
            return Ok(false);
        };
        let aside = self.tree.memory.alloc()?;
        let page = frame.into_phys();
        let entry = encode(page.0 | LARGE, perms);
        let is_mapped = {
            let _guard = self.structure.lock();
            self.tree.map_large((above, addr.0), entry, aside)
        };
        if is_mapped {
            self.table.counts.add(ENTRIES, 0);
            self.note_large_page();
        } else {
            // SAFETY: it did not get into the tree.
            unsafe { self.tree.memory.free(aside) };
            // SAFETY: it is not mapped: the share is given up as it came.
            drop(unsafe { LargeFrame::from_phys(page) });
        }
        Ok(is_mapped)
    }

    /// Whether a large page can be mapped at `addr`: there is nothing yet, not even a table.
    #[must_use]
    pub fn is_vacant(&self, addr: UserAddr) -> bool {
        matches!(
            self.tree.table_at(addr.0, LARGE_LEVEL - 1),
            Found::Missing(..)
        )
    }

    /// Sets the permissions of the large page around an address. `None` when it had to be split: it was just now, or
    /// stores are to be allowed and others have some of it.
    #[cold]
    pub(super) fn protect_large(&self, addr: UserAddr, perms: Perms) -> Option<Change> {
        let mut change = Change::default();
        let _guard = self.structure.lock();
        let leaf = self.tree.large_at(addr.0)?;
        let is_ours = || large_handle(leaf.value, |page| page.is_sole(addr));
        if perms.contains(Perms::WRITE) && !is_ours() {
            self.tree.split_at(addr.0)?;
            self.forget_large_pages(1);
            return None;
        }
        let changed = with_perms(leaf.value, Encoder::new(perms));
        if change.note(leaf.value, changed) {
            self.tree.replace(leaf.table, leaf.index, changed);
        }
        Some(change)
    }

    /// Splits the large page around an address.
    #[cold]
    pub(super) fn split_shared(&self, addr: u64) {
        let _guard = self.structure.lock();
        let split = usize::from(self.tree.split_at(addr).is_some());
        self.forget_large_pages(split);
    }

    /// Counts one that came.
    pub(super) fn note_large_page(&self) {
        self.table.large_pages.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts those that are gone.
    pub(super) fn forget_large_pages(&self, pages: usize) {
        if pages > 0 {
            self.table.large_pages.fetch_sub(pages, Ordering::Relaxed);
        }
    }

    /// Splits the large pages that a range ends in.
    pub(super) fn split_ends(&mut self, range: &Range<UserAddr>) {
        if self.table.large_pages() > 0 {
            let split = self.tree.split_ends(&(range.start.0..range.end.0));
            self.forget_large_pages(split);
        }
    }
}
