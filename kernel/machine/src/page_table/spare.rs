//! The memory that page tables are in, with a few empty tables at hand: programs that map, touch and
//! unmap again and again take one and give it back each time, and an empty table is known to be zero.

use core::sync::atomic::{AtomicU32, AtomicU64};

use super::tree::Tables;
use crate::addr::PhysAddr;
use crate::frame::{Frame, Kind, OutOfMemory};
use crate::sync::SpinLock;
use crate::x86::paging;

/// Tables that are kept: 2 MiB. Few would do for speed. On a host whose KVM emulates the guest's kernel, Python
/// with OpenSSL and threads died of SIGSEGV once the tables of unmapped ranges became user pages; under QEMU's
/// emulation it ran with 16 kept. As long as the cause is not known, tables stay tables while that costs little.
const MOST: usize = 512;

static SPARE: SpinLock<Spare> = SpinLock::new(Spare {
    tables: [PhysAddr(0); MOST],
    count: 0,
});

struct Spare {
    tables: [PhysAddr; MOST],
    count: usize,
}

/// Frames of the machine as tables.
#[derive(Debug)]
pub(super) struct Memory;

impl Tables for Memory {
    fn alloc(&self) -> Result<PhysAddr, OutOfMemory> {
        let kept = {
            let mut spare = SPARE.lock();
            match spare.count.checked_sub(1) {
                Some(last) => {
                    spare.count = last;
                    Some(spare.tables[last])
                }
                None => None,
            }
        };
        if let Some(table) = kept {
            return Ok(table);
        }
        let table = Frame::alloc_zeroed()?;
        table.set_kind(Kind::PageTable);
        Ok(table.into_phys())
    }

    unsafe fn free(&self, table: PhysAddr) {
        {
            let mut spare = SPARE.lock();
            let count = spare.count;
            if count < MOST {
                spare.tables[count] = table;
                spare.count += 1;
                return;
            }
        }
        // SAFETY: `alloc` took the handle apart, and the caller gives the table up.
        let table = unsafe { Frame::from_phys(table) };
        table.mark_zero();
    }

    fn entry(&self, table: PhysAddr, index: usize) -> &AtomicU64 {
        paging::entry(table, index)
    }

    fn usage(&self, table: PhysAddr) -> &AtomicU32 {
        match Frame::table_entries(table) {
            Some(word) => word,
            None => panic!("a page table at {table:?}, which is not RAM"),
        }
    }
}
