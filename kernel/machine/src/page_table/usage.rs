//! The word of a page table: how many of its entries are used, between which indices they are, and its lock.
//!
//! Empty and sparse tables so cost little to walk: most tables of a process have a few entries side by side. Who changes
//! entries of a leaf table beside others holds its lock, a bit of the word: taking it tells what is used, and letting
//! go of it writes what is used then, so a change costs one locked instruction. The tests under `loom`
//! (`tests/interleavings.rs`) try it in all orders.

use core::ops::Range;

use super::atomic::{AtomicU32, Ordering};

/// Somebody changes the table's entries.
const LOCKED: u32 = 1 << 31;

/// How many entries are used, and the lowest and highest index of them. The bounds only widen, until the table is
/// empty again.
#[derive(Debug)]
pub(super) struct Usage {
    count: u32,
    low: u32,
    high: u32,
}

/// Takes the lock of a table; `relax` is called between two looks.
#[inline]
pub(super) fn lock(word: &AtomicU32, mut relax: impl FnMut()) -> Usage {
    loop {
        let now = word.load(Ordering::Relaxed);
        let is_ours = now & LOCKED == 0
            && word
                .compare_exchange(now, now | LOCKED, Ordering::Acquire, Ordering::Relaxed)
                .is_ok();
        if is_ours {
            return Usage::from_bits(now);
        }
        relax();
    }
}

impl Usage {
    const COUNT: u32 = 0x3ff;
    const LOW_SHIFT: u32 = 10;
    const HIGH_SHIFT: u32 = 19;
    const INDEX: u32 = 0x1ff;

    /// What the word says now, whoever has the lock.
    pub(super) fn of(word: &AtomicU32) -> Self {
        Self::from_bits(word.load(Ordering::Relaxed))
    }

    fn from_bits(word: u32) -> Self {
        let count = word & Self::COUNT;
        // Of an empty table the bounds are the wrong way round, so that any index widens them.
        let is_empty = count == 0;
        Usage {
            count,
            low: if is_empty {
                Self::INDEX
            } else {
                word >> Self::LOW_SHIFT & Self::INDEX
            },
            high: word >> Self::HIGH_SHIFT & Self::INDEX,
        }
    }

    fn bits(&self) -> u32 {
        if self.count == 0 {
            return 0;
        }
        self.count | self.low << Self::LOW_SHIFT | self.high << Self::HIGH_SHIFT
    }

    /// Writes the word, and lets go of the lock.
    #[inline]
    pub(super) fn store(&self, word: &AtomicU32) {
        word.store(self.bits(), Ordering::Release);
    }

    pub(super) fn count(&self) -> usize {
        self.count as usize
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The indices that may be used.
    pub(super) fn indices(&self) -> Range<usize> {
        if self.is_empty() {
            return 0..0;
        }
        self.low as usize..self.high as usize + 1
    }

    /// An entry is used from now on.
    #[inline]
    pub(super) fn add(&mut self, index: usize) {
        let index = index as u32 & Self::INDEX;
        self.count += 1;
        self.low = self.low.min(index);
        self.high = self.high.max(index);
    }

    /// An entry is used no more.
    pub(super) fn remove(&mut self) {
        self.count -= 1;
    }
}
