//! What an unmap took out of a tree, on its way to be freed: leaf entries, and whole tables (Linux's
//! `mmu_gather`). It is freed behind one flush of the TLBs.

use crate::addr::PhysAddr;

/// Single entries: at the ends of a range, where its tables are shared with others.
const ENTRIES: usize = 32;
/// Tables: some 18 MiB of mapped memory.
const TABLES: usize = 12;
/// Tables that one step may add: a leaf table and those above it.
const STEP: usize = 3;

/// Entries and tables that no tree refers to any more.
#[derive(Debug)]
pub(super) struct Gather {
    entries: [u64; ENTRIES],
    entry_count: usize,
    tables: [PhysAddr; TABLES],
    table_count: usize,
    /// Of the entries, those of large pages.
    large_count: usize,
    /// Pages of 4 KiB in all.
    pages: usize,
}

impl Gather {
    pub(super) fn new() -> Self {
        Self {
            entries: [0; ENTRIES],
            entry_count: 0,
            tables: [PhysAddr(0); TABLES],
            table_count: 0,
            large_count: 0,
            pages: 0,
        }
    }

    /// Whether it takes another entry or table, and the tables above that.
    pub(super) fn has_room(&self) -> bool {
        self.entry_count < ENTRIES && self.table_count + STEP <= TABLES
    }

    pub(super) fn push_entry(&mut self, value: u64) {
        self.entries[self.entry_count] = value;
        self.entry_count += 1;
        self.pages += 1;
    }

    /// Adds a table with `pages` leaf entries in it.
    pub(super) fn push_table(&mut self, table: PhysAddr, pages: usize) {
        self.tables[self.table_count] = table;
        self.table_count += 1;
        self.pages += pages;
    }

    /// Adds the entry of a large page.
    pub(super) fn push_large(&mut self, value: u64) {
        self.push_entry(value);
        self.large_count += 1;
        self.pages += super::bits::ENTRIES - 1;
    }

    /// Large pages that were taken out.
    pub(super) fn large_pages(&self) -> usize {
        self.large_count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entry_count == 0 && self.table_count == 0
    }

    /// Pages of 4 KiB that were taken out.
    pub(super) fn pages(&self) -> usize {
        self.pages
    }

    pub(super) fn entries(&self) -> &[u64] {
        &self.entries[..self.entry_count]
    }

    pub(super) fn tables(&self) -> &[PhysAddr] {
        &self.tables[..self.table_count]
    }

    pub(super) fn clear(&mut self) {
        self.entry_count = 0;
        self.table_count = 0;
        self.large_count = 0;
        self.pages = 0;
    }
}
