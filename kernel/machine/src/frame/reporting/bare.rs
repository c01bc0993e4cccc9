//! Reporting of real memory.
//!
//! Locking: none; [`note`] is called with the allocator's lock held.

use core::mem::ManuallyDrop;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

use super::super::account::AccountId;
use super::super::zone::Unreported;
use super::super::{Frame, allocator};
use crate::addr::PAGE_SIZE;
use crate::interrupt::bare::FLUSH_VECTOR;
use crate::x86::{apic, percpu};

/// With so many unreported frames the upcall is made. Looked at under the allocator's lock.
static TELL_AT: AtomicUsize = AtomicUsize::new(usize::MAX);
/// It is to be made by the next interrupt.
static IS_DUE: AtomicBool = AtomicBool::new(false);
static UPCALL: spin::Once<fn()> = spin::Once::new();

/// Names what is called once the number of [`arm`] is reached, with interrupts off.
pub fn set_upcall(upcall: fn()) {
    UPCALL.call_once(|| upcall);
}

/// Has the upcall made, once, when `frames` are unreported; at once if they are.
pub fn arm(frames: usize) {
    TELL_AT.store(frames, Ordering::SeqCst);
    // The allocator's lock is taken between: who frees some before it is counted, who does so behind it sees the number.
    note(unreported());
}

/// Frames that the host may have memory for, in blocks that are large enough to be told.
#[must_use]
pub fn unreported() -> usize {
    allocator::unreported()
}

/// The allocator's new count.
#[inline]
pub(in super::super) fn note(unreported: usize) {
    if unreported >= TELL_AT.load(Ordering::Relaxed) {
        tell();
    }
}

#[cold]
fn tell() {
    if TELL_AT.swap(usize::MAX, Ordering::SeqCst) != usize::MAX {
        IS_DUE.store(true, Ordering::Release);
        // Taken once interrupts are on: whatever lock is held here is free then.
        apic::send(percpu::here().apic_id.load(Ordering::Relaxed), FLUSH_VECTOR);
    }
}

/// Makes the upcall if it is due; in an interrupt.
pub(crate) fn poll() {
    if IS_DUE.load(Ordering::Relaxed)
        && IS_DUE.swap(false, Ordering::Acquire)
        && let Some(upcall) = UPCALL.get()
    {
        upcall();
    }
}

/// A block of free frames that nobody else can have. Dropping it gives it back as it was.
#[derive(Debug)]
pub struct FreeBlock {
    /// A handle of its first frame, which segments of a device's request have, too.
    first: ManuallyDrop<Frame>,
    block: Unreported,
}

impl FreeBlock {
    /// Takes one that the host may have memory for. `None` when there are no more, or too little memory is free to take
    /// some of it away for a moment.
    #[must_use]
    pub fn take() -> Option<FreeBlock> {
        let block = allocator::take_unreported()?;
        allocator::meta(block.number).start(1, AccountId::ROOT);
        // SAFETY: the count of one handle that was just set is this one's.
        let first = unsafe { Frame::from_phys(allocator::phys_of(block.number)) };
        Some(FreeBlock {
            first: ManuallyDrop::new(first),
            block,
        })
    }

    /// Bytes in it.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a block is never empty")]
    pub fn len(&self) -> usize {
        self.block.frames() * PAGE_SIZE
    }

    /// The most of its frames that the host has memory for.
    #[must_use]
    pub fn unreported(&self) -> usize {
        self.block.unreported as usize
    }

    /// Gives it back: the host has taken its memory.
    pub fn give_reported(self) {
        ManuallyDrop::new(self).give(true);
    }

    /// Its first frame.
    pub(crate) fn first(&self) -> &Frame {
        &self.first
    }

    fn give(&self, is_reported: bool) {
        // With a request still under way the device may write to it: then it stays away for good.
        if self.first.handles() == 1 {
            fence(Ordering::Acquire);
            allocator::give_isolated(&self.block, is_reported);
        }
    }
}

impl Drop for FreeBlock {
    fn drop(&mut self) {
        self.give(false);
    }
}
