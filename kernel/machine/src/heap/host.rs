//! Host double of the heap: std's allocator, and allocations that fail on demand.
//!
//! Counted are the calls of [`admit`], which everything fallible makes before it allocates, per host
//! thread: tests run beside each other.

use core::cell::Cell;

use super::fallible::Slot;
use crate::frame::{OutOfMemory, refusal};

std::thread_local! {
    static SLOT: Slot = const { Slot::new() };
    /// Allocations until one fails; 0 when none is to fail.
    static UNTIL_FAILURE: Cell<usize> = const { Cell::new(0) };
}

/// Calls `with` with the slot of this thread.
pub(super) fn with_slot<R>(with: impl FnOnce(&Slot) -> R) -> R {
    SLOT.with(with)
}

/// To be called before an allocation that may fail.
///
/// # Errors
/// [`OutOfMemory`] when a test wants this allocation to fail.
pub fn admit() -> Result<(), OutOfMemory> {
    let left = UNTIL_FAILURE.get();
    UNTIL_FAILURE.set(left.saturating_sub(1));
    if left == 1 {
        refusal::note(1);
        return Err(OutOfMemory);
    }
    Ok(())
}

/// There are no classes on the host.
pub fn usage() -> impl Iterator<Item = super::Usage> {
    core::iter::empty()
}

/// Failures for tests.
pub mod testing {
    use super::UNTIL_FAILURE;

    /// Makes the `nth` fallible allocation from now on fail on this thread, once. 1 is the next one.
    pub fn fail_nth(nth: usize) {
        UNTIL_FAILURE.set(nth);
    }

    /// Lets allocations succeed again. True when the failure asked for has not happened.
    pub fn fail_never() -> bool {
        UNTIL_FAILURE.replace(0) != 0
    }
}

#[cfg(test)]
std::thread_local! {
    /// Blocks that were taken from the slot.
    pub(super) static TAKEN: Cell<usize> = const { Cell::new(0) };
}

/// The global allocator of this crate's tests: as on the bare machine, the slot comes first.
#[cfg(test)]
mod global {
    use core::alloc::{GlobalAlloc, Layout};
    use std::alloc::System;

    use super::{TAKEN, with_slot};

    struct WithSlot;

    #[global_allocator]
    static HEAP: WithSlot = WithSlot;

    // SAFETY: blocks are the system's; those in the slot were allocated with the same layout.
    unsafe impl GlobalAlloc for WithSlot {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            if let Some(block) = with_slot(|slot| slot.take(layout)) {
                TAKEN.with(|taken| taken.set(taken.get() + 1));
                return block.as_ptr();
            }
            // SAFETY: the caller's promise.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
            // SAFETY: the caller's promise.
            unsafe { System.dealloc(at, layout) };
        }
    }
}
