//! The memory that page tables are in, with a few empty tables at hand: programs that map, touch and
//! unmap again and again take one and give it back each time, and an empty table is known to be zero.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::bits::ENTRIES;
use super::tree::Tables;
use crate::addr::PhysAddr;
use crate::frame::{Frame, Kind, LargeFrame, OutOfMemory};
use crate::sync::SpinLock;
use crate::x86::paging;

/// Tables that are kept: what a program takes and gives back that maps and unmaps over and over.
const MOST: usize = 16;

static SPARE: SpinLock<Spare> = SpinLock::new(Spare {
    tables: [PhysAddr(0); MOST],
    count: 0,
});

struct Spare {
    tables: [PhysAddr; MOST],
    count: usize,
}

impl Spare {
    fn take(&mut self) -> Option<PhysAddr> {
        self.count = self.count.checked_sub(1)?;
        Some(self.tables[self.count])
    }
}

/// Tables that are kept.
pub(crate) fn count() -> usize {
    SPARE.lock().count
}

/// Gives the tables back that are kept.
pub(crate) fn release() {
    loop {
        let table = SPARE.lock().take();
        let Some(table) = table else { return };
        // SAFETY: the caller of `free` promised it, and nothing but the list had the table since.
        unsafe { give_back(table) };
    }
}

/// Frees a table.
///
/// # Safety
/// As for [`Tables::free`].
unsafe fn give_back(table: PhysAddr) {
    // SAFETY: `alloc` took the handle apart, and the caller gives the table up.
    let table = unsafe { Frame::from_phys(table) };
    // SAFETY: a table that is given up is empty, as the caller promises, and no CPU walks it.
    unsafe { table.mark_zero() };
}

/// Frames of the machine as tables.
#[derive(Debug)]
pub(super) struct Memory;

impl Tables for Memory {
    fn alloc(&self) -> Result<PhysAddr, OutOfMemory> {
        let kept = SPARE.lock().take();
        if let Some(table) = kept {
            if Frame::enter_account(table).is_err() {
                // SAFETY: it was in the list, so nothing else has it.
                unsafe { give_back(table) };
                return Err(OutOfMemory);
            }
            return Ok(table);
        }
        let table = Frame::alloc_zeroed()?;
        table.set_kind(Kind::PageTable);
        Ok(table.into_phys())
    }

    unsafe fn free(&self, table: PhysAddr) {
        Frame::leave_account(table);
        {
            let mut spare = SPARE.lock();
            let count = spare.count;
            if count < MOST {
                spare.tables[count] = table;
                spare.count += 1;
                return;
            }
        }
        // SAFETY: the caller's promise.
        unsafe { give_back(table) };
    }

    fn entries(&self, table: PhysAddr) -> &[AtomicU64; ENTRIES] {
        paging::entries(table)
    }

    // A list, whose links are the owner's words of table `above` and of the tables in it.
    fn put_aside(&self, above: PhysAddr, table: PhysAddr) {
        let first = Frame::owner_word(above);
        let next = first.load(Ordering::Relaxed);
        Frame::owner_word(table).store(next, Ordering::Relaxed);
        first.store(table.0, Ordering::Relaxed);
    }

    fn take_aside(&self, above: PhysAddr) -> PhysAddr {
        let first = Frame::owner_word(above);
        let table = PhysAddr(first.load(Ordering::Relaxed));
        assert!(table.0 != 0, "a large page without a table put aside");
        let next = Frame::owner_word(table).swap(0, Ordering::Relaxed);
        first.store(next, Ordering::Relaxed);
        table
    }

    fn share_out(&self, page: u64) {
        // SAFETY: the entry that is about to be replaced had the share.
        unsafe { LargeFrame::from_phys(PhysAddr(page)) }.into_frames();
    }

    fn usage(&self, table: PhysAddr) -> &AtomicU32 {
        match Frame::table_entries(table) {
            Some(word) => word,
            None => panic!("a page table at {table:?}, which is not RAM"),
        }
    }
}
