//! Kernel memory that is contiguous in virtual memory alone: large objects of the heap, and kernel stacks.
//!
//! A piece lies in a slot of the range (see [`super::slots`]); the slot's first page and what is behind the
//! piece stay unmapped, so that running over either end is a fault. The pages are not global: reloading the root
//! table makes a CPU forget them, which is done for many slots at once before they are used again.
//!
//! Locking: [`SLOTS`], then the kernel's page tables and frames. Requests to other CPUs are made without it.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use super::slots::{Links, ORDERS, PART, Slot, Slots, Taken};
use crate::addr::{PAGE_SIZE, PhysAddr};
use crate::frame::{Kind, OutOfMemory, allocator};
use crate::page_table::bits;
use crate::sync::IrqLock;
use crate::x86::{layout, paging, percpu, tlb};

/// The slots' pages come after one that stays unmapped.
const GUARD: usize = 1;
const START: u64 = layout::VMALLOC_START;
const END: u64 = START + ORDERS as u64 * PART * PAGE_SIZE as u64;
const _: () = assert!(END <= layout::VMALLOC_END, "the slots fit their range");

static SLOTS: IrqLock<Slots> = IrqLock::new(Slots::new());

/// The entry of a slot's first page, which is never mapped: the CPU ignores what it holds.
struct FirstEntry;

impl Links for FirstEntry {
    fn get(&self, slot: Slot) -> u32 {
        let Ok(table) = paging::kernel_leaf(address(slot)) else {
            panic!("a slot that was used has a table");
        };
        let entry = paging::entry(table, bits::index(address(slot), 1));
        (entry.load(Ordering::Relaxed) >> 12) as u32
    }

    fn set(&self, slot: Slot, next: u32) {
        let Ok(table) = paging::kernel_leaf(address(slot)) else {
            panic!("a slot that was used has a table");
        };
        let entry = paging::entry(table, bits::index(address(slot), 1));
        entry.store(u64::from(next) << 12, Ordering::Relaxed);
    }
}

fn address(slot: Slot) -> u64 {
    START + slot.page() * PAGE_SIZE as u64
}

/// Whether a byte lies in the range.
pub(crate) fn has(at: NonNull<u8>) -> bool {
    (START..END).contains(&(at.addr().get() as u64))
}

/// Takes `pages` pages of unknown contents.
///
/// # Errors
/// [`OutOfMemory`] when frames or addresses are short.
pub(crate) fn take(pages: usize, kind: Kind) -> Result<NonNull<u8>, OutOfMemory> {
    let order = Slot::order_for(pages + GUARD).ok_or(OutOfMemory)?;
    let slot = take_slot(order)?;
    let start = address(slot) + (GUARD * PAGE_SIZE) as u64;
    let mapped = map(start, pages, kind);
    if mapped < pages {
        unmap(start, mapped);
        SLOTS.lock().give(&FirstEntry, slot);
        return Err(OutOfMemory);
    }
    NonNull::new(core::ptr::with_exposed_provenance_mut(start as usize)).ok_or(OutOfMemory)
}

/// Gives back what [`take`] gave.
///
/// # Safety
/// With the number of pages of that call, and nobody uses them any more.
pub(crate) unsafe fn give(at: NonNull<u8>, pages: usize) {
    let start = at.addr().get() as u64;
    unmap(start, pages);
    let slot = Slot::of_page((start - START) / PAGE_SIZE as u64);
    SLOTS.lock().give(&FirstEntry, slot);
}

/// Where the piece of `pages` pages ends that a byte lies in, if it can be of such a piece.
pub(crate) fn end_of(at: u64, pages: usize) -> Option<u64> {
    let page = at.checked_sub(START).filter(|_| at < END)? / PAGE_SIZE as u64;
    let end = address(Slot::of_page(page)) + ((GUARD + pages) * PAGE_SIZE) as u64;
    (at < end).then_some(end)
}

fn take_slot(order: usize) -> Result<Slot, OutOfMemory> {
    loop {
        let mut slots = SLOTS.lock();
        match slots.take(&FirstEntry, order) {
            Taken::Slot(slot) => {
                // The table that has the slot's link; without it the slot could not be given back.
                let table = paging::kernel_leaf(address(slot));
                if table.is_err() {
                    slots.undo_take(slot);
                }
                return table.map(|_| slot);
            }
            Taken::Flush(stale) => {
                drop(slots);
                tlb::flush_others(running());
                tlb::flush_here();
                SLOTS.lock().add_flushed(&FirstEntry, &stale);
            }
            Taken::None => return Err(OutOfMemory),
        }
    }
}

/// The CPUs that run, a bit each.
fn running() -> u64 {
    u64::MAX >> (64 - percpu::count())
}

/// Maps new frames; returns how many.
fn map(start: u64, pages: usize, kind: Kind) -> usize {
    let mut table = None;
    for page in 0..pages {
        let Some(table) = table_for(&mut table, start, page) else {
            return page;
        };
        let Some(number) = allocator::take_raw(kind) else {
            return page;
        };
        let value = (number * PAGE_SIZE) as u64 | (paging::DATA & !paging::GLOBAL);
        entry(table, start, page).store(value, Ordering::Release);
    }
    pages
}

/// Gives the frames of pages back. TLBs may still have them: nobody uses these addresses before all CPUs were told.
fn unmap(start: u64, pages: usize) {
    let mut table = None;
    for page in 0..pages {
        let Some(table) = table_for(&mut table, start, page) else {
            return;
        };
        let old = entry(table, start, page).swap(0, Ordering::AcqRel);
        if old & bits::PRESENT != 0 {
            allocator::give_raw(((old & bits::ADDRESS) / PAGE_SIZE as u64) as usize);
        }
    }
}

/// The table that has a page's entry, looked up where a new one begins.
fn table_for(table: &mut Option<PhysAddr>, start: u64, page: usize) -> Option<PhysAddr> {
    let at = start + (page * PAGE_SIZE) as u64;
    if table.is_none() || bits::index(at, 1) == 0 {
        *table = paging::kernel_leaf(at).ok();
    }
    *table
}

fn entry(table: PhysAddr, start: u64, page: usize) -> &'static AtomicU64 {
    paging::entry(table, bits::index(start + (page * PAGE_SIZE) as u64, 1))
}
