//! The tree of tables below a root: finding, visiting and setting leaf entries of the user's half.
//!
//! Each table's frame counts its used entries (the root only those of the user's half) and knows bounds
//! of where they are, so that empty and sparse tables cost little to walk: most tables of a process
//! have a few entries side by side. The memory that tables are in is a [`Tables`], so that the tree is
//! tested on the host. The caller holds the page table's lock.

pub(super) mod large;

use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::bits::{
    ACCESSED, ADDRESS, ENTRIES, LARGE, LEAF, PRESENT, ROOT, USER, WRITE, index, is_large, is_used,
    page_of, span,
};
use super::gather::Gather;
use crate::addr::{PAGE_SIZE, PhysAddr, UserAddr};
use crate::frame::OutOfMemory;
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

    /// An entry of a table.
    fn entry(&self, table: PhysAddr, index: usize) -> &AtomicU64;

    /// The word in which a table's [`Usage`] is kept.
    fn usage(&self, table: PhysAddr) -> &AtomicU32;

    /// Keeps a table for the large page at `page`, until it is asked for.
    fn put_aside(&self, page: u64, table: PhysAddr);

    /// The table that was put aside for a large page.
    fn take_aside(&self, page: u64) -> PhysAddr;
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

/// A leaf table while a run of its entries is set: its usage is written once, at the end.
pub(super) struct Filling<'a, M: Tables> {
    memory: &'a M,
    table: PhysAddr,
    usage: Usage,
}

impl<M: Tables> Filling<'_, M> {
    pub(super) fn is_free(&self, index: usize) -> bool {
        !is_used(self.memory.entry(self.table, index).load(Ordering::Relaxed))
    }

    /// Sets an entry that is free.
    pub(super) fn set(&mut self, index: usize, value: u64) {
        let entry = self.memory.entry(self.table, index);
        entry.store(value, Ordering::Release);
        self.usage.add(index);
    }
}

impl<M: Tables> Drop for Filling<'_, M> {
    fn drop(&mut self) {
        let word = self.memory.usage(self.table);
        word.store(self.usage.0, Ordering::Relaxed);
    }
}

/// How many entries of a table are used, and between which indices they are: count, lowest and highest
/// index in one word. The bounds only widen, until the table is empty again.
pub(super) struct Usage(u32);

impl Usage {
    const COUNT: u32 = 0x3ff;
    const LOW_SHIFT: u32 = 10;
    const HIGH_SHIFT: u32 = 19;
    const INDEX: u32 = 0x1ff;

    pub(super) fn count(&self) -> usize {
        (self.0 & Self::COUNT) as usize
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// The indices that may be used.
    pub(super) fn indices(&self) -> Range<usize> {
        if self.is_empty() {
            return 0..0;
        }
        let low = self.0 >> Self::LOW_SHIFT & Self::INDEX;
        let high = self.0 >> Self::HIGH_SHIFT & Self::INDEX;
        low as usize..high as usize + 1
    }

    fn add(&mut self, index: usize) {
        let indices = self.indices();
        let (low, high) = if indices.is_empty() {
            (index, index)
        } else {
            (indices.start.min(index), (indices.end - 1).max(index))
        };
        let count = (self.0 & Self::COUNT) + 1;
        self.0 = count | (low as u32) << Self::LOW_SHIFT | (high as u32) << Self::HIGH_SHIFT;
    }

    fn remove(&mut self) {
        self.0 = self.0.wrapping_sub(1);
        if self.is_empty() {
            self.0 = 0;
        }
    }
}

impl<M: Tables> Tree<M> {
    pub(super) fn usage(&self, table: PhysAddr) -> Usage {
        Usage(self.memory.usage(table).load(Ordering::Relaxed))
    }

    /// The leaf table's entries, to be set one after another.
    pub(super) fn filling(&self, table: PhysAddr) -> Filling<'_, M> {
        Filling {
            memory: &self.memory,
            table,
            usage: self.usage(table),
        }
    }

    /// Sets an entry and keeps the table's usage. Returns what it was. The CPU may set its accessed and dirty bits
    /// meanwhile, but not in an entry that is zero.
    pub(super) fn set(&self, table: PhysAddr, index: usize, value: u64) -> u64 {
        let entry = self.memory.entry(table, index);
        let old = entry.load(Ordering::Relaxed);
        entry.store(value, Ordering::Release);
        if is_used(old) != is_used(value) {
            let mut usage = self.usage(table);
            if is_used(value) {
                usage.add(index);
            } else {
                usage.remove();
            }
            self.memory.usage(table).store(usage.0, Ordering::Relaxed);
        }
        old
    }

    /// Sets an entry that is used to another value that is. The CPU may set its accessed and dirty bits
    /// meanwhile, which nobody reads.
    pub(super) fn replace(&self, leaf: &Leaf, value: u64) {
        let entry = self.memory.entry(leaf.table, leaf.index);
        entry.store(value, Ordering::Release);
    }

    /// Whether the CPU marked an entry as used since this was last asked.
    pub(super) fn take_accessed(&self, leaf: &Leaf) -> bool {
        let entry = self.memory.entry(leaf.table, leaf.index);
        leaf.value & ACCESSED != 0 && entry.fetch_and(!ACCESSED, Ordering::Relaxed) & ACCESSED != 0
    }

    /// The table with the leaf entry for `addr`, made if need be. A large page there is split.
    ///
    /// Panics outside the user's half, whose entries alone are this tree's.
    pub(super) fn leaf_table(&self, addr: u64) -> Result<PhysAddr, OutOfMemory> {
        let above = self.table_for(addr, LARGE_LEVEL)?;
        let index = index(addr, LARGE_LEVEL);
        let value = self.memory.entry(above, index).load(Ordering::Relaxed);
        if !is_used(value) {
            return self.add_table(above, index);
        }
        if is_large(value) {
            return Ok(self.split_at(addr).unwrap_or(above));
        }
        Ok(PhysAddr(value & ADDRESS))
    }

    /// A new table behind an entry that is not used.
    fn add_table(&self, above: PhysAddr, index: usize) -> Result<PhysAddr, OutOfMemory> {
        let made = self.memory.alloc()?;
        self.set(above, index, made.0 | PRESENT | WRITE | USER);
        Ok(made)
    }

    /// The table of a level above the leaves for `addr`, made if need be.
    fn table_for(&self, addr: u64, lowest: u32) -> Result<PhysAddr, OutOfMemory> {
        assert!(
            UserAddr(addr) < UserAddr::LIMIT,
            "mapping outside user space: {addr:#x}"
        );
        let mut table = self.root;
        for level in (lowest + 1..=ROOT).rev() {
            let index = index(addr, level);
            let value = self.memory.entry(table, index).load(Ordering::Relaxed);
            table = if is_used(value) {
                PhysAddr(value & ADDRESS)
            } else {
                self.add_table(table, index)?
            };
        }
        Ok(table)
    }

    /// The used entry that maps `addr`.
    pub(super) fn find(&self, addr: u64) -> Option<Leaf> {
        if UserAddr(addr) >= UserAddr::LIMIT {
            return None;
        }
        let above = self.large_entry(addr)?;
        if above.is_large() {
            return Some(above);
        }
        let (table, index) = (PhysAddr(above.value & ADDRESS), index(addr, LEAF));
        let value = self.memory.entry(table, index).load(Ordering::Relaxed);
        is_used(value).then_some(Leaf {
            addr,
            table,
            index,
            value,
        })
    }

    /// Visits the used leaf entries of a page-aligned range, upwards, and the large pages that touch it. Returns the
    /// address behind the entry that stopped it, or the range's end.
    pub(super) fn visit(&self, range: Range<u64>, act: &mut impl FnMut(Leaf) -> Visit) -> u64 {
        let mut addr = range.start;
        while addr < range.end.min(UserAddr::LIMIT.0) {
            let (table, end) = self.table_at(addr);
            let end = end.min(range.end);
            let Some(table) = table else {
                let large = self.large_at(addr);
                addr = end;
                if large.is_some_and(|large| matches!(act(large), Visit::Stop)) {
                    return addr;
                }
                continue;
            };
            let base = addr & !(span(LEAF + 1) - 1);
            let used = self.usage(table).indices();
            addr = addr.max(base + (used.start * PAGE_SIZE) as u64);
            let used_end = end.min(base + (used.end * PAGE_SIZE) as u64);
            while addr < used_end {
                let leaf = Leaf {
                    addr,
                    table,
                    index: index(addr, LEAF),
                    value: self
                        .memory
                        .entry(table, index(addr, LEAF))
                        .load(Ordering::Relaxed),
                };
                addr += PAGE_SIZE as u64;
                if is_used(leaf.value) && matches!(act(leaf), Visit::Stop) {
                    return addr;
                }
            }
            addr = end;
        }
        range.end
    }

    /// How many pages of 4 KiB of a page-aligned range are mapped.
    pub(super) fn count(&self, range: Range<u64>) -> usize {
        let mut addr = range.start;
        let mut count = 0;
        while addr < range.end.min(UserAddr::LIMIT.0) {
            let (table, end) = self.table_at(addr);
            let part = addr..end.min(range.end);
            addr = end;
            let Some(table) = table else {
                if self.large_at(part.start).is_some() {
                    count += ((part.end - part.start) / PAGE_SIZE as u64) as usize;
                }
                continue;
            };
            if self.is_used_within(table, part.start & !(span(LEAF + 1) - 1), &part) {
                count += self.usage(table).count();
                continue;
            }
            for page in part.step_by(PAGE_SIZE) {
                let entry = self.memory.entry(table, index(page, LEAF));
                count += usize::from(is_used(entry.load(Ordering::Relaxed)));
            }
        }
        count
    }

    /// The leaf table for `addr` if there is one that is not empty, and where its reach (or that of the
    /// gap, or large page) ends.
    fn table_at(&self, addr: u64) -> (Option<PhysAddr>, u64) {
        let mut table = self.root;
        for level in (LEAF + 1..=ROOT).rev() {
            let span = span(level);
            let value = self
                .memory
                .entry(table, index(addr, level))
                .load(Ordering::Relaxed);
            let below = PhysAddr(value & ADDRESS);
            if !is_used(value) || value & LARGE != 0 || self.usage(below).is_empty() {
                return (None, (addr & !(span - 1)) + span);
            }
            table = below;
        }
        let span = span(LEAF + 1);
        (Some(table), (addr & !(span - 1)) + span)
    }

    /// Takes the entries of a page-aligned range out of the tree, and the tables that are empty then. A leaf
    /// table of which all is taken goes as it is. No large page reaches beyond the range. Returns where it stopped
    /// because `gather` had no room, or the range's end.
    pub(super) fn take(&self, range: Range<u64>, gather: &mut Gather) -> u64 {
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
        let used = self.usage(table).indices();
        let first = (range.start.saturating_sub(base) / span) as usize;
        for index in used.start.max(first)..used.end {
            let start = base + index as u64 * span;
            if start >= range.end {
                break;
            }
            let value = self.memory.entry(table, index).load(Ordering::Relaxed);
            if !is_used(value) {
                continue;
            }
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
                continue;
            }
            let below = PhysAddr(value & ADDRESS);
            let goes_whole = level == LEAF + 1 && self.is_used_within(below, start, range);
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

    /// Whether all that is used of a leaf table is in `range`.
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
            let aside = is_large(*value).then(|| self.memory.take_aside(page_of(*value) & ADDRESS));
            leaf(*value);
            if let Some(aside) = aside {
                // SAFETY: it was never in the tree, and is as `alloc` gave it.
                unsafe { self.memory.free(aside) };
            }
        }
        for &table in gather.tables() {
            for index in self.usage(table).indices() {
                let entry = self.memory.entry(table, index);
                let value = entry.load(Ordering::Relaxed);
                if is_used(value) {
                    entry.store(0, Ordering::Relaxed);
                    leaf(value);
                }
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
