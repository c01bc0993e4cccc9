//! What is known of each frame: 32 bytes, found by arithmetic from the frame's number.
//!
//! All zero means: never used, or in use without anything said about it. Every word is an atomic, since
//! allocator, reverse map and reclaim look at frames that others have; who may change which is said
//! with each. A free frame's `owner` and `index` are its links in the allocator's list, a slab page's are
//! the heap's; a page table counts its entries in `number`; in a queue ([`super::Queue`]) `owner` has the links, `number`
//! and `index` say whose page it is.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bitflags::bitflags;

use super::account::AccountId;

/// What a frame is used for: what /proc/meminfo shows. Set once, after the allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Nothing was said; not counted.
    Other,
    /// Anonymous memory of a program.
    Anon,
    /// A page of a file that has a store behind it.
    File,
    /// A page of tmpfs, memfd or shared memory.
    Shmem,
    /// Objects of the kernel's heap.
    Slab,
    /// A kernel stack.
    KernelStack,
    /// A page table.
    PageTable,
    /// Large objects of the kernel, in virtually contiguous memory.
    Vmalloc,
}

/// How many kinds there are.
pub(crate) const KINDS: usize = 8;

impl Kind {
    const ALL: [Kind; KINDS] = [
        Kind::Other,
        Kind::Anon,
        Kind::File,
        Kind::Shmem,
        Kind::Slab,
        Kind::KernelStack,
        Kind::PageTable,
        Kind::Vmalloc,
    ];
}

bitflags! {
    /// What reclaim notes on a frame. They are its owner's; all are clear in a new frame.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct FrameFlags: u32 {
        /// In an LRU list.
        const LRU = 1 << 8;
        /// In the list of what is used often.
        const ACTIVE = 1 << 9;
        /// Used since it was last looked at.
        const REFERENCED = 1 << 10;
        /// Not to be evicted (mlock).
        const UNEVICTABLE = 1 << 11;
        /// What tells the queues apart that a frame may be in.
        const QUEUES = Self::LRU.bits() | Self::ACTIVE.bits();
    }
}

/// So many handles are counted. A program can make more, of the page of zeroes say: with this many the frame stays
/// for good, as with Linux's `refcount_t`.
const MOST_HANDLES: u32 = 1 << 31;
/// Half-way from there to the end, out of reach of CPUs that count at the same time.
const SATURATED: u32 = 3 << 30;

/// The low bits of the flags hold the [`Kind`].
const KIND: u32 = 0xff;
/// The frame's bytes are zero.
const ZERO: u32 = 1 << 16;
/// The first frame of a free block.
const FREE: u32 = 1 << 17;
/// Where a free block's order stands.
const ORDER_SHIFT: u32 = 24;

/// What is known of a frame.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Meta {
    /// Handles, while it is in use. 0 for frames that the kernel uses without handles.
    pub(crate) count: AtomicU32,
    flags: AtomicU32,
    pub(crate) owner: AtomicU64,
    pub(crate) index: AtomicU64,
    /// For a page table, its entries in use; for a page in a queue, the number of its file.
    pub(crate) number: AtomicU32,
    /// The account that pays for it; stays when the frame is freed, for nobody to read.
    payer: AtomicU32,
}

const _: () = assert!(size_of::<Meta>() == 32, "metadata is 32 bytes a frame");

impl Meta {
    /// Says of a frame just taken that nothing is known but who pays for it. Its taker's alone.
    pub(crate) fn start(&self, count: u32, payer: AccountId) {
        self.flags.store(0, Ordering::Relaxed);
        self.owner.store(0, Ordering::Relaxed);
        self.index.store(0, Ordering::Relaxed);
        self.number.store(0, Ordering::Relaxed);
        self.set_payer(payer);
        self.count.store(count, Ordering::Release);
    }

    /// The account that the frame is charged to.
    pub(crate) fn payer(&self) -> AccountId {
        AccountId::from_raw(self.payer.load(Ordering::Relaxed))
    }

    pub(crate) fn set_payer(&self, payer: AccountId) {
        self.payer.store(payer.to_raw(), Ordering::Relaxed);
    }

    /// Counts one more handle.
    pub(crate) fn add_handle(&self) {
        if self.count.fetch_add(1, Ordering::Relaxed) >= MOST_HANDLES {
            self.saturate();
        }
    }

    /// Counts one handle less; whether it was the last.
    pub(crate) fn drop_handle(&self) -> bool {
        if self.count.load(Ordering::Acquire) == 1 {
            // Handles are made of handles, so nobody else changes it.
            self.count.store(0, Ordering::Relaxed);
            return true;
        }
        let before = self.count.fetch_sub(1, Ordering::Release);
        if before > MOST_HANDLES {
            self.saturate();
        }
        before == 1
    }

    /// Gives the count up: a count that wraps would free memory in use.
    #[cold]
    fn saturate(&self) {
        self.count.store(SATURATED, Ordering::Relaxed);
    }

    pub(crate) fn kind(&self) -> Kind {
        let number = (self.flags.load(Ordering::Relaxed) & KIND) as usize;
        Kind::ALL.get(number).copied().unwrap_or(Kind::Other)
    }

    /// Before anybody else has a reason to note something in the flags.
    pub(crate) fn set_kind(&self, kind: Kind) {
        let others = self.flags.load(Ordering::Relaxed) & !KIND;
        self.flags.store(others | kind as u32, Ordering::Release);
    }

    pub(crate) fn set(&self, flags: FrameFlags) -> FrameFlags {
        FrameFlags::from_bits_truncate(self.flags.fetch_or(flags.bits(), Ordering::AcqRel))
    }

    pub(crate) fn clear(&self, flags: FrameFlags) -> FrameFlags {
        FrameFlags::from_bits_truncate(self.flags.fetch_and(!flags.bits(), Ordering::AcqRel))
    }

    pub(crate) fn flags(&self) -> FrameFlags {
        FrameFlags::from_bits_truncate(self.flags.load(Ordering::Acquire))
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & ZERO != 0
    }

    /// For a frame that has one handle left.
    pub(crate) fn mark_zero(&self) {
        let others = self.flags.load(Ordering::Relaxed);
        self.flags.store(others | ZERO, Ordering::Relaxed);
    }

    /// Marks the first frame of a free block; under the allocator's lock.
    pub(crate) fn mark_free(&self, order: usize, is_zero: bool) {
        let zero = if is_zero { ZERO } else { 0 };
        let bits = FREE | zero | (order as u32) << ORDER_SHIFT;
        self.flags.store(bits, Ordering::Relaxed);
    }

    /// The block is in the allocator's list no more; under the allocator's lock.
    pub(crate) fn mark_taken(&self) {
        self.flags.store(0, Ordering::Relaxed);
    }

    /// For the first frame of a free block: its order, and whether it is zero.
    pub(crate) fn free_block(&self) -> Option<(usize, bool)> {
        let bits = self.flags.load(Ordering::Relaxed);
        (bits & FREE != 0).then_some(((bits >> ORDER_SHIFT) as usize, bits & ZERO != 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_that_cannot_be_counted_keep_the_frame() {
        let meta = Meta::default();
        meta.start(1, AccountId::ROOT);
        meta.add_handle();
        assert!(!meta.drop_handle() && meta.drop_handle());
        meta.start(MOST_HANDLES - 1, AccountId::ROOT);
        meta.add_handle();
        assert!(!meta.drop_handle());
        assert_eq!(meta.count.load(Ordering::Relaxed), MOST_HANDLES - 1);
        meta.add_handle();
        meta.add_handle();
        for _ in 0..3 {
            assert_eq!(meta.count.load(Ordering::Relaxed), SATURATED);
            assert!(!meta.drop_handle());
        }
    }
}
