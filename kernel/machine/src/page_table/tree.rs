//! The tree of tables below a root: finding, visiting and setting leaf entries of the user's half.
//!
//! Each table's frame counts its used entries (the root only those of the user's half) and knows bounds
//! of where they are, so that empty and sparse tables cost little to walk: most tables of a process
//! have a few entries side by side. The caller holds the page table's lock.

use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::addr::{PAGE_SIZE, PhysAddr};
use crate::frame::{Frame, OutOfMemory};
use crate::x86::paging::{self, ADDRESS, PRESENT, USER, WRITE};

const LEAF: u32 = 1;
const ROOT: u32 = 4;
const ENTRIES: usize = 512;

/// Whether a visit goes on.
pub(super) enum Visit {
    /// To the next entry.
    Continue,
    /// No further.
    Stop,
}

/// A present leaf entry.
pub(super) struct Leaf {
    /// The page it maps.
    pub(super) addr: u64,
    /// The table it is in, and where.
    pub(super) table: PhysAddr,
    pub(super) index: usize,
    /// What it holds.
    pub(super) value: u64,
}

/// Sets an entry and keeps the table's count. Returns what it was.
pub(super) fn set(table: PhysAddr, index: usize, value: u64) -> u64 {
    let old = paging::entry(table, index).swap(value, Ordering::AcqRel);
    if let Some(count) = Frame::table_entries(table) {
        let was_used = u32::from(old & PRESENT != 0);
        let is_used = u32::from(value & PRESENT != 0);
        if was_used != is_used {
            let mut usage = Usage(count.load(Ordering::Relaxed));
            if value & PRESENT != 0 {
                usage.add(index);
            } else {
                usage.remove();
            }
            count.store(usage.0, Ordering::Relaxed);
        }
    }
    old
}

/// A leaf table while a run of its entries is set: its usage is written once, at the end.
pub(super) struct Filling {
    table: PhysAddr,
    word: Option<&'static AtomicU32>,
    usage: Usage,
}

impl Filling {
    pub(super) fn of(table: PhysAddr) -> Self {
        let word = Frame::table_entries(table);
        let usage = Usage(word.map_or(0, |word| word.load(Ordering::Relaxed)));
        Self { table, word, usage }
    }

    pub(super) fn is_free(&self, index: usize) -> bool {
        paging::entry(self.table, index).load(Ordering::Relaxed) & PRESENT == 0
    }

    /// Sets an entry that is free.
    pub(super) fn set(&mut self, index: usize, value: u64) {
        paging::entry(self.table, index).store(value, Ordering::Release);
        self.usage.add(index);
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        if let Some(word) = self.word {
            word.store(self.usage.0, Ordering::Relaxed);
        }
    }
}

/// How many entries of a table are used, and between which indices they are: count, lowest and highest
/// index in one word. The bounds only widen, until the table is empty again.
struct Usage(u32);

impl Usage {
    const COUNT: u32 = 0x3ff;
    const LOW_SHIFT: u32 = 10;
    const HIGH_SHIFT: u32 = 19;
    const INDEX: u32 = 0x1ff;

    fn of(table: PhysAddr) -> Self {
        let everything = ENTRIES as u32 | Self::INDEX << Self::HIGH_SHIFT;
        let word = Frame::table_entries(table);
        Self(word.map_or(everything, |word| word.load(Ordering::Relaxed)))
    }

    fn is_empty(&self) -> bool {
        self.0 & Self::COUNT == 0
    }

    /// The indices that may be used.
    fn indices(&self) -> Range<usize> {
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

/// The table with the leaf entry for `addr`, made if need be.
pub(super) fn leaf_table(root: PhysAddr, addr: u64) -> Result<PhysAddr, OutOfMemory> {
    let mut table = root;
    for level in (LEAF + 1..=ROOT).rev() {
        let index = paging::index(addr, level);
        let value = paging::entry(table, index).load(Ordering::Relaxed);
        table = if value & PRESENT != 0 {
            PhysAddr(value & ADDRESS)
        } else {
            let made = Frame::alloc_zeroed()?.into_phys();
            set(table, index, made.0 | PRESENT | WRITE | USER);
            made
        };
    }
    Ok(table)
}

/// The present leaf entry for `addr`.
pub(super) fn find(root: PhysAddr, addr: u64) -> Option<u64> {
    let mut table = root;
    for level in (LEAF..=ROOT).rev() {
        let value = paging::entry(table, paging::index(addr, level)).load(Ordering::Relaxed);
        if value & PRESENT == 0 {
            return None;
        }
        if level == LEAF {
            return Some(value);
        }
        table = PhysAddr(value & ADDRESS);
    }
    None
}

/// Visits the present leaf entries of a page-aligned range, upwards. Returns the address behind the
/// entry that stopped it, or the range's end.
pub(super) fn visit(root: PhysAddr, range: Range<u64>, act: &mut dyn FnMut(Leaf) -> Visit) -> u64 {
    let mut addr = range.start;
    while addr < range.end {
        let (table, end) = table_at(root, addr);
        let end = end.min(range.end);
        let Some(table) = table else {
            addr = end;
            continue;
        };
        let base = addr & !(paging::span(LEAF + 1) - 1);
        let used = Usage::of(table).indices();
        addr = addr.max(base + (used.start * PAGE_SIZE) as u64);
        let used_end = end.min(base + (used.end * PAGE_SIZE) as u64);
        while addr < used_end {
            let index = paging::index(addr, LEAF);
            let value = paging::entry(table, index).load(Ordering::Relaxed);
            let page = addr;
            addr += PAGE_SIZE as u64;
            if value & PRESENT != 0
                && matches!(
                    act(Leaf {
                        addr: page,
                        table,
                        index,
                        value
                    }),
                    Visit::Stop
                )
            {
                return addr;
            }
        }
        addr = end;
    }
    range.end
}

/// The leaf table for `addr` if there is one that is not empty, and where its reach (or that of the
/// gap) ends.
fn table_at(root: PhysAddr, addr: u64) -> (Option<PhysAddr>, u64) {
    let mut table = root;
    for level in (LEAF + 1..=ROOT).rev() {
        let span = paging::span(level);
        let value = paging::entry(table, paging::index(addr, level)).load(Ordering::Relaxed);
        let below = PhysAddr(value & ADDRESS);
        if value & PRESENT == 0 || Usage::of(below).is_empty() {
            return (None, (addr & !(span - 1)) + span);
        }
        table = below;
    }
    let span = paging::span(LEAF + 1);
    (Some(table), (addr & !(span - 1)) + span)
}

/// Calls `leaf` for every leaf entry of the user's half and frees all tables, the root included.
///
/// # Safety
/// The tree is nobody else's any more, and its tables are frames that `into_phys` gave up.
pub(super) unsafe fn free(root: PhysAddr, leaf: &mut dyn FnMut(u64)) {
    // SAFETY: the caller's promise.
    unsafe { free_table(root, ROOT, leaf) };
}

/// # Safety
/// As for [`free`], of the part below one table.
unsafe fn free_table(table: PhysAddr, level: u32, leaf: &mut dyn FnMut(u64)) {
    for index in Usage::of(table).indices() {
        let value = paging::entry(table, index).load(Ordering::Relaxed);
        if value & PRESENT == 0 {
            continue;
        }
        if level == LEAF {
            leaf(value);
        } else {
            // SAFETY: the caller's promise holds for each part.
            unsafe { free_table(PhysAddr(value & ADDRESS), level - 1, leaf) };
        }
    }
    if let Some(count) = Frame::table_entries(table) {
        count.store(0, Ordering::Relaxed);
    }
    // SAFETY: tables are frames that `into_phys` gave up, each in one place of the tree.
    drop(unsafe { Frame::from_phys(table) });
}
