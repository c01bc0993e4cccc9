//! The tree of tables below a root: finding, visiting and setting leaf entries of the user's half.
//!
//! Each table has a word ([`Usage`]) that tells which of its entries are used; the root's, those of the user's half. The
//! memory that tables are in is a [`Tables`], so that the tree is tested on the host.
//!
//! Locking: what takes a table out is called by somebody who has the tree alone, so a table that was found stays. Beside
//! others, a leaf table's entries are looked at and changed under its own lock ([`Tree::lock`]); tables and
//! large pages come, and large pages are looked at and split, under the page table's lock. Finding
//! needs none: an entry that has a table keeps it.

pub(super) mod large;
pub(super) mod walk;

use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::bits::{
    ACCESSED, ADDRESS, ENTRIES, LEAF, PRESENT, ROOT, USER, WRITE, index, is_large, is_used, span,
};
use super::gather::Gather;
use super::usage::{self, Usage};
use crate::addr::{PAGE_SIZE, PhysAddr, UserAddr};
use crate::frame::OutOfMemory;
use crate::sync::Held;
use large::LARGE_LEVEL;

/// The memory that tables are in.
pub(super) trait Tables {
    /// A table whose entries and usage are zero.
    fn alloc(&self) -> Result<PhysAddr, OutOfMemory>;

    /// Frees a table.
    ///
    /// # Safety
    /// It came from [`Self::alloc`], its entries and usage are zero again, and neither a tree nor the
    /// translation caches of a CPU refer to it.
    unsafe fn free(&self, table: PhysAddr);

    /// The entries of a table.
    fn entries(&self, table: PhysAddr) -> &[AtomicU64; ENTRIES];

    /// The word in which a table's [`Usage`] is kept.
    fn usage(&self, table: PhysAddr) -> &AtomicU32;

    /// Keeps a table for a large page that is in table `above`, until it is asked for.
    fn put_aside(&self, above: PhysAddr, table: PhysAddr);

    /// A table that was put aside for the large pages in table `above`: there are as many.
    fn take_aside(&self, above: PhysAddr) -> PhysAddr;

    /// Makes an entry's share of the large page at `page` a handle of each of its frames.
    fn share_out(&self, page: u64);
}

/// Whether a visit goes on.
pub(super) enum Visit {
    /// To the next entry.
    Continue,
    /// No further.
    Stop,
}

/// An entry that maps a page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaf {
    /// The page it maps.
    pub(super) addr: u64,
    /// The table it is in, and where.
    pub(super) table: PhysAddr,
    pub(super) index: usize,
    /// What it holds.
    pub(super) value: u64,
}

impl Leaf {
    /// Whether it is above the leaves.
    pub(super) fn is_large(&self) -> bool {
        is_large(self.value)
    }
}

/// A root table and what is below it.
#[derive(Debug)]
pub(super) struct Tree<M> {
    pub(super) memory: M,
    pub(super) root: PhysAddr,
}

/// What is found where a table may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// It.
    Table(PhysAddr),
    /// A large page instead.
    Large,
    /// Nothing, from this entry of this table on.
    Missing(PhysAddr, usize),
}

/// A leaf table whose entries are this holder's to change. Its usage is written at the end.
pub(super) struct Entries<'a> {
    entries: &'a [AtomicU64; ENTRIES],
    word: &'a AtomicU32,
    usage: Usage,
    _held: Option<Held>,
}

impl Entries<'_> {
    pub(super) fn get(&self, index: usize) -> u64 {
        self.entries[index].load(Ordering::Relaxed)
    }

    pub(super) fn is_free(&self, index: usize) -> bool {
        !is_used(self.get(index))
    }

    /// Sets an entry that is free to one that is used.
    pub(super) fn fill(&mut self, index: usize, value: u64) {
        self.replace(index, value);
        self.usage.add(index);
    }

    /// Sets an entry that is used to another value that is. The CPU may set its accessed and dirty bits
    /// meanwhile, which nobody reads.
    pub(super) fn replace(&self, index: usize, value: u64) {
        self.entries[index].store(value, Ordering::Release);
    }

    /// Makes an entry that is used free.
    pub(super) fn clear(&mut self, index: usize) {
        self.replace(index, 0);
        self.usage.remove();
    }
}

impl Drop for Entries<'_> {
    fn drop(&mut self) {
        self.usage.store(self.word);
    }
}

impl<M: Tables> Tree<M> {
    pub(super) fn usage(&self, table: PhysAddr) -> Usage {
        Usage::of(self.memory.usage(table))
    }

    /// A leaf table's entries, for somebody who has the tree alone.
    pub(super) fn entries(&self, table: PhysAddr) -> Entries<'_> {
        Entries {
            entries: self.memory.entries(table),
            word: self.memory.usage(table),
            usage: self.usage(table),
            _held: None,
        }
    }

    /// A leaf table's entries, locked.
    #[inline]
    pub(super) fn lock(&self, table: PhysAddr) -> Entries<'_> {
        let word = self.memory.usage(table);
        let usage = usage::lock(word, crate::cpu::relax);
        Entries {
            entries: self.memory.entries(table),
            word,
            usage,
            _held: Some(Held::new()),
        }
    }

    /// An entry of a table.
    fn entry(&self, table: PhysAddr, index: usize) -> &AtomicU64 {
        &self.memory.entries(table)[index]
    }

    /// The entries of a table among `indices` that are used, with what they hold.
    pub(super) fn used(
        &self,
        table: PhysAddr,
        indices: Range<usize>,
    ) -> impl Iterator<Item = (usize, u64)> {
        let first = indices.start;
        let entries = self.memory.entries(table).get(indices).unwrap_or(&[]);
        entries.iter().enumerate().filter_map(move |(n, entry)| {
            // Behind the entry is what its setter wrote before.
            let value = entry.load(Ordering::Acquire);
            is_used(value).then_some((first + n, value))
        })
    }

    /// Sets an entry of a table that nobody else changes, and keeps the table's usage. Returns what it was. The CPU may
    /// set its accessed and dirty bits meanwhile, but not in an entry that is zero.
    pub(super) fn set(&self, table: PhysAddr, index: usize, value: u64) -> u64 {
        let entry = self.entry(table, index);
        let old = entry.load(Ordering::Relaxed);
        entry.store(value, Ordering::Release);
        if is_used(old) != is_used(value) {
            let mut usage = self.usage(table);
            if is_used(value) {
                usage.add(index);
            } else {
                usage.remove();
            }
            usage.store(self.memory.usage(table));
        }
        old
    }

    /// Sets an entry that is used to another value that is, as [`Entries::replace`] does.
    pub(super) fn replace(&self, table: PhysAddr, index: usize, value: u64) {
        self.entry(table, index).store(value, Ordering::Release);
    }

    /// Whether the CPU marked an entry as used since this was last asked.
    pub(super) fn take_accessed(&self, leaf: &Leaf) -> bool {
        let entry = self.entry(leaf.table, leaf.index);
        leaf.value & ACCESSED != 0 && entry.fetch_and(!ACCESSED, Ordering::Relaxed) & ACCESSED != 0
    }

    /// The table of `level` with the entry for `addr`.
    ///
    /// Panics outside the user's half, whose entries alone are this tree's.
    #[inline]
    pub(super) fn table_at(&self, addr: u64, level: u32) -> Found {
        assert!(
            UserAddr(addr) < UserAddr::LIMIT,
            "mapping outside user space: {addr:#x}"
        );
        let mut table = self.root;
        for above in (level + 1..=ROOT).rev() {
            let index = index(addr, above);
            // Behind the entry is what its setter wrote before.
            let value = self.entry(table, index).load(Ordering::Acquire);
            if !is_used(value) {
                return Found::Missing(table, index);
            }
            if is_large(value) {
                return Found::Large;
            }
            table = PhysAddr(value & ADDRESS);
        }
        Found::Table(table)
    }

    /// Puts a new table behind an entry that is not used; `false` when it is by now.
    pub(super) fn add_table(&self, above: PhysAddr, index: usize, made: PhysAddr) -> bool {
        let is_missing = !is_used(self.entry(above, index).load(Ordering::Relaxed));
        if is_missing {
            self.set(above, index, made.0 | PRESENT | WRITE | USER);
        }
        is_missing
    }

    /// As [`Self::table_at`], made if need be, for somebody who has the tree alone.
    pub(super) fn table_for(&self, addr: u64, level: u32) -> Result<PhysAddr, OutOfMemory> {
        loop {
            match self.table_at(addr, level) {
                Found::Table(table) => return Ok(table),
                Found::Large => drop(self.split_at(addr)),
                Found::Missing(above, index) => {
                    let made = self.memory.alloc()?;
                    self.add_table(above, index, made);
                }
            }
        }
    }

    /// The used entry that maps `addr`, for somebody who has the tree alone.
    #[cfg(test)]
    pub(super) fn find(&self, addr: u64) -> Option<Leaf> {
        if UserAddr(addr) >= UserAddr::LIMIT {
            return None;
        }
        let Found::Table(table) = self.table_at(addr, LEAF) else {
            return self.large_at(addr);
        };
        let index = index(addr, LEAF);
        let value = self.entry(table, index).load(Ordering::Relaxed);
        is_used(value).then_some(Leaf {
            addr,
            table,
            index,
            value,
        })
    }

    /// The indices of a table of `level` that may be used and reach into a range.
    #[inline]
    fn indices_within(
        &self,
        table: PhysAddr,
        level: u32,
        base: u64,
        range: &Range<u64>,
    ) -> Range<usize> {
        let used = self.usage(table).indices();
        let shift = span(level).trailing_zeros();
        let first = range.start.saturating_sub(base) >> shift;
        let end = (range.end.saturating_sub(base) + span(level) - 1) >> shift;
        used.start.max(first as usize)..used.end.min(end as usize)
    }

    /// Takes the entries of a page-aligned range out of the tree, and the tables that are empty then. A leaf
    /// table of which all is taken goes as it is. No large page reaches beyond the range. Returns where it stopped
    /// because `gather` had no room, or the range's end. For somebody who has the tree alone.
    pub(super) fn take(&mut self, range: Range<u64>, gather: &mut Gather) -> u64 {
        let within = range.start..range.end.min(UserAddr::LIMIT.0);
        match self.take_below(self.root, ROOT, 0, &within, gather) {
            Ok(()) => range.end,
            Err(stopped) => stopped,
        }
    }

    /// `base` is the first address of the table's reach. The error is where there was no more room.
    fn take_below(
        &self,
        table: PhysAddr,
        level: u32,
        base: u64,
        range: &Range<u64>,
        gather: &mut Gather,
    ) -> Result<(), u64> {
        let span = span(level);
        for (index, value) in self.used(table, self.indices_within(table, level, base, range)) {
            let start = base + index as u64 * span;
            if !gather.has_room() {
                return Err(start.max(range.start));
            }
            if level == LEAF {
                self.set(table, index, 0);
                gather.push_entry(value);
                continue;
            }
            if level == LARGE_LEVEL && is_large(value) {
                self.set(table, index, 0);
                gather.push_large(value);
                let aside = self.memory.take_aside(table);
                // SAFETY: it was never in the tree, and is as `alloc` gave it.
                unsafe { self.memory.free(aside) };
                continue;
            }
            let below = PhysAddr(value & ADDRESS);
            let goes_whole = level == LARGE_LEVEL && self.is_used_within(below, start, range);
            if !goes_whole {
                self.take_below(below, level - 1, start, range, gather)?;
            }
            let left = self.usage(below);
            if goes_whole || left.is_empty() {
                self.set(table, index, 0);
                gather.push_table(below, left.count());
            }
        }
        Ok(())
    }

    /// Whether all that is used of a leaf table is in `range`, which reaches into it.
    fn is_used_within(&self, table: PhysAddr, base: u64, range: &Range<u64>) -> bool {
        let used = self.usage(table).indices();
        range.start <= base + (used.start * PAGE_SIZE) as u64
            && base + (used.end * PAGE_SIZE) as u64 <= range.end
    }

    /// Frees what was gathered: calls `leaf` for each leaf entry and each large page, then frees the tables.
    ///
    /// # Safety
    /// No CPU's translation caches refer to what was gathered, from this tree.
    pub(super) unsafe fn release(&self, gather: &mut Gather, leaf: &mut dyn FnMut(u64)) {
        for value in gather.entries() {
            leaf(*value);
        }
        for &table in gather.tables() {
            for (index, value) in self.used(table, self.usage(table).indices()) {
                self.entry(table, index).store(0, Ordering::Relaxed);
                leaf(value);
            }
            self.memory.usage(table).store(0, Ordering::Relaxed);
            // SAFETY: it was taken out of the tree, which had it from `alloc`; it is empty now; the caller
            // promises the rest.
            unsafe { self.memory.free(table) };
        }
        gather.clear();
    }
}

const _: () = assert!(ENTRIES == 512, "`Usage` has ten bits for the count");

#[cfg(test)]
mod tests;
