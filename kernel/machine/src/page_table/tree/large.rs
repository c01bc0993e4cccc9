//! Large pages of a tree: entries one level above the leaves that map 2 MiB themselves.
//!
//! A large page is 512 frames beside each other, so it can be split at any time into leaf entries that own them one by one.
//! The table for that is put aside when the page is mapped ([`Tables::put_aside`]), because what splits (munmap(2),
//! mprotect(2)) must not fail. Changes of a part split first ([`Tree::split_ends`]), so that what walks a range finds
//! large pages only where they lie in it whole.
//!
//! Splitting changes no translation, so it needs no flush; a change of the entries behind it does, as ever: that of
//! one page makes a CPU forget the large page around it.
//!
//! Locking: beside others, under the page table's lock.

use core::ops::Range;
use core::sync::atomic::Ordering;

use super::super::bits::{
    ADDRESS, ENTRIES, Encoder, LEAF, PRESENT, ROOT, USER, WRITE, encode, index, is_large, is_used,
    page_of, perms_of, span,
};
use super::{Leaf, Tables, Tree};
use crate::addr::{PAGE_SIZE, PhysAddr};

/// The level whose entries map large pages.
pub(in crate::page_table) const LARGE_LEVEL: u32 = LEAF + 1;
/// Bytes of a large page.
pub(in crate::page_table) const LARGE_LEN: u64 = (ENTRIES * PAGE_SIZE) as u64;

impl<M: Tables> Tree<M> {
    /// The large page around an address.
    #[cold]
    #[inline(never)]
    pub(in crate::page_table) fn large_at(&self, addr: u64) -> Option<Leaf> {
        let mut table = self.root;
        for level in (LARGE_LEVEL..=ROOT).rev() {
            let index = index(addr, level);
            let value = self.entry(table, index).load(Ordering::Acquire);
            if is_large(value) {
                return Some(Leaf {
                    addr: addr & !(LARGE_LEN - 1),
                    table,
                    index,
                    value,
                });
            }
            if !is_used(value) {
                return None;
            }
            table = PhysAddr(value & ADDRESS);
        }
        None
    }

    /// Maps a large page at `addr`, whose entry is in table `above`, if nothing is there, not even an empty table. Whether
    /// it did. `aside` is the table that is put aside for it.
    pub(in crate::page_table) fn map_large(
        &self,
        (above, addr): (PhysAddr, u64),
        entry: u64,
        aside: PhysAddr,
    ) -> bool {
        let index = index(addr, LARGE_LEVEL);
        let is_vacant = !is_used(self.entry(above, index).load(Ordering::Relaxed));
        if is_vacant {
            self.memory.put_aside(above, aside);
            self.set(above, index, entry);
        }
        is_vacant
    }

    /// Splits the large page around an address, if there is one: where its frames are. The entries now own a
    /// handle of each of them.
    pub(in crate::page_table) fn split_at(&self, addr: u64) -> Option<PhysAddr> {
        let large = self.large_at(addr)?;
        let page = page_of(large.value) & ADDRESS;
        let encoder = Encoder::new(perms_of(large.value));
        let table = self.memory.take_aside(large.table);
        let mut entries = self.entries(table);
        for index in 0..ENTRIES {
            entries.fill(index, encoder.encode(page + (index * PAGE_SIZE) as u64));
        }
        drop(entries);
        self.memory.share_out(page);
        let entry = self.entry(large.table, large.index);
        entry.store(table.0 | PRESENT | WRITE | USER, Ordering::Release);
        Some(PhysAddr(page))
    }

    /// Splits the large pages that a range ends in. How many it were.
    pub(in crate::page_table) fn split_ends(&self, range: &Range<u64>) -> usize {
        let is_inside = |addr: &&u64| !addr.is_multiple_of(LARGE_LEN);
        let ends = [range.start, range.end];
        ends.iter()
            .filter(is_inside)
            .filter(|addr| self.split_at(**addr).is_some())
            .count()
    }

    /// The leaf entry that a page in a large one would have.
    pub(in crate::page_table) fn small_value(leaf: &Leaf, addr: u64) -> u64 {
        let inside = addr & (span(LARGE_LEVEL) - 1) & !(PAGE_SIZE as u64 - 1);
        encode(
            (page_of(leaf.value) & ADDRESS) + inside,
            perms_of(leaf.value),
        )
    }
}
