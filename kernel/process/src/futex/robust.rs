//! Robust futexes: locks that a dying thread holds are marked, so that the next owner learns of it
//! (set_robust_list(2)).

use machine::UserAddr;

use super::ops;
use super::table::ANY;
use crate::task::thread::Thread;
use abi::Result;

const OWNER_DIED: u32 = 0x4000_0000;
const WAITERS: u32 = 0x8000_0000;
const TID_MASK: u32 = 0x3fff_ffff;
/// The list is the program's: it may be a circle.
const MOST_LOCKS: usize = 2048;

/// Marks every lock in the thread's list, and wakes a waiter of each.
pub(crate) fn release(thread: &Thread) {
    let head = thread.robust_list();
    thread.set_robust_list(0);
    if head != 0 {
        // A list that cannot be read ends the walk: it is the program's own.
        let _ = walk(thread, UserAddr(head));
    }
}

fn read_u64(addr: u64) -> Result<u64> {
    memory::user::read::<u64>(UserAddr(addr))
}

/// `struct robust_list_head`: next, offset from entry to word, the entry being locked.
fn walk(thread: &Thread, head: UserAddr) -> Result<()> {
    let offset = read_u64(head.0.wrapping_add(8))?;
    let pending = read_u64(head.0.wrapping_add(16))?;
    let mut entry = read_u64(head.0)?;
    for _ in 0..MOST_LOCKS {
        // Bit 0 says that it is a PI futex.
        let at = entry & !1;
        if at == head.0 {
            break;
        }
        // Read before the word is released: another thread may free the entry then.
        let next = read_u64(at);
        if at != pending & !1 {
            mark(thread, at.wrapping_add(offset), false)?;
        }
        entry = next?;
    }
    if pending != 0 {
        mark(thread, (pending & !1).wrapping_add(offset), true)?;
    }
    Ok(())
}

fn mark(thread: &Thread, word: u64, is_pending: bool) -> Result<()> {
    let addr = UserAddr(word);
    let tid = thread.tid().unsigned_abs();
    let mut value = memory::user::read::<u32>(addr)?;
    loop {
        if is_pending && value == 0 {
            // Died between releasing the lock and waking: wake in its place.
            ops::wake(addr, true, 1, ANY)?;
            return Ok(());
        }
        if value & TID_MASK != tid {
            return Ok(());
        }
        let marked = (value & WAITERS) | OWNER_DIED;
        match memory::user::compare_exchange_u32(addr, value, marked)? {
            Ok(_) => break,
            Err(actual) => value = actual,
        }
    }
    if value & WAITERS != 0 {
        ops::wake(addr, true, 1, ANY)?;
    }
    Ok(())
}
