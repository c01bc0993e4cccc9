//! Large pages of a tree: entries one level above the leaves that map 2 MiB themselves.
//!
//! A large page is 512 frames beside each other, of each of which the entry owns a handle: so it can be split at any time
//! into the leaf entries that own them one by one. The table for that is put aside when the page is mapped
//! ([`Tables::put_aside`]), because what splits (munmap(2), mprotect(2)) must not fail. Changes of a part split first
//! ([`Tree::split_ends`]), so that what walks a range finds large pages only where they lie in it whole.
//!
//! Splitting changes no translation, so it needs no flush; a change of the entries behind it does, as ever: that of
//! one page makes a CPU forget the large page around it.

use core::ops::Range;
use core::sync::atomic::Ordering;

use super::super::bits::{
    ADDRESS, ENTRIES, LARGE, LEAF, PRESENT, ROOT, USER, WRITE, encode, index, is_large, is_used,
    page_of, perms_of, span,
};
use super::{Leaf, Tables, Tree};
use crate::addr::{PAGE_SIZE, PhysAddr, UserAddr};
use crate::frame::OutOfMemory;
use crate::page_table::Perms;

/// The level whose entries map large pages.
pub(in crate::page_table) const LARGE_LEVEL: u32 = LEAF + 1;
/// Bytes of a large page.
pub(in crate::page_table) const LARGE_LEN: u64 = (ENTRIES * PAGE_SIZE) as u64;

impl<M: Tables> Tree<M> {
    /// The used entry that a large page at an address has, or a leaf table.
    pub(super) fn large_entry(&self, addr: u64) -> Option<Leaf> {
        let mut table = self.root;
        for level in (LARGE_LEVEL..=ROOT).rev() {
            let index = index(addr, level);
            let value = self.memory.entry(table, index).load(Ordering::Relaxed);
            if !is_used(value) {
                return None;
            }
            if level == LARGE_LEVEL {
                return Some(Leaf {
                    addr: addr & !(LARGE_LEN - 1),
                    table,
                    index,
                    value,
                });
            }
            table = PhysAddr(value & ADDRESS);
        }
        None
    }

    /// The large page around an address.
    #[cold]
    #[inline(never)]
    pub(in crate::page_table) fn large_at(&self, addr: u64) -> Option<Leaf> {
        self.large_entry(addr).filter(|leaf| is_large(leaf.value))
    }

    /// Whether there is neither a large page nor a leaf table.
    pub(in crate::page_table) fn is_vacant(&self, addr: u64) -> bool {
        self.large_entry(addr).is_none()
    }

    /// Maps a large page at `addr`, if nothing is there, not even an empty table. Whether it did. `page` is where its
    /// frames are, and for which a table is put aside.
    ///
    /// # Errors
    /// [`OutOfMemory`] when there is no table.
    pub(in crate::page_table) fn map_large(
        &self,
        addr: u64,
        page: u64,
        perms: Perms,
    ) -> Result<bool, OutOfMemory> {
        let table = self.table_for(addr, LARGE_LEVEL)?;
        let index = index(addr, LARGE_LEVEL);
        if is_used(self.memory.entry(table, index).load(Ordering::Relaxed)) {
            return Ok(false);
        }
        let aside = self.memory.alloc()?;
        self.memory.put_aside(page, aside);
        self.set(table, index, encode(page | LARGE, perms));
        Ok(true)
    }

    /// Splits the large page around an address, if there is one: the table that is there instead.
    pub(in crate::page_table) fn split_at(&self, addr: u64) -> Option<PhysAddr> {
        let large = self.large_at(addr)?;
        let (page, perms) = (page_of(large.value) & ADDRESS, perms_of(large.value));
        let table = self.memory.take_aside(page);
        let mut filling = self.filling(table);
        for index in 0..ENTRIES {
            filling.set(index, encode(page + (index * PAGE_SIZE) as u64, perms));
        }
        drop(filling);
        let entry = self.memory.entry(large.table, large.index);
        entry.store(table.0 | PRESENT | WRITE | USER, Ordering::Release);
        Some(table)
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

    /// Splits the large pages of a range. How many it were.
    pub(in crate::page_table) fn split_all(&self, range: &Range<u64>) -> usize {
        let mut split = 0;
        let mut addr = range.start;
        while addr < range.end.min(UserAddr::LIMIT.0) {
            let (table, end) = self.table_at(addr);
            if table.is_none() {
                split += usize::from(self.split_at(addr).is_some());
            }
            addr = end;
        }
        split
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
