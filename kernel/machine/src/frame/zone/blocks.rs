//! The buddy lists: free blocks of `2^order` frames, aligned to their size, whose links are in the metadata of their first
//! frames.
//!
//! There are four lists an order. Blocks known to be zero are apart from others, and so are those that the host has
//! taken back the memory of, or never gave any for: who takes one of those costs the host a fault. How many frames of a block
//! the host may have memory for stands with it (`unreported`). A block that is split hands that number on to both halves as
//! far as it goes, since nobody knows which half they are in; telling the host of a frame once more does no harm.
//!
//! Locking: the caller's.

use core::sync::atomic::Ordering;

use super::{GROUP, MetaMemory};

/// Blocks are up to `2^MAX_ORDER` frames: 4 MiB.
pub(crate) const MAX_ORDER: usize = 10;
/// The least blocks that are reported: 64 KiB. What a program leaves is larger; less would take a descriptor for every few
/// pages.
const REPORT_ORDER: usize = 4;
/// Buddies of lower orders have their metadata in one page.
const GROUP_ORDER: usize = GROUP.trailing_zeros() as usize;
const NONE: u64 = u64::MAX;

/// Names the lists of one kind of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct List(usize);

impl List {
    pub(super) const ANY: List = List(0);
    pub(super) const ZERO: List = List(1);
    pub(super) const REPORTED_ANY: List = List(2);
    pub(super) const REPORTED_ZERO: List = List(3);
    const COUNT: usize = 4;

    const fn of(is_zero: bool, unreported: u32) -> List {
        List(is_zero as usize + 2 * (unreported == 0) as usize)
    }
}

/// A free block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    /// Its first frame.
    pub(crate) number: usize,
    pub(crate) order: usize,
    pub(crate) is_zero: bool,
    /// The most of its frames that the host has memory for.
    pub(crate) unreported: u32,
}

/// A block that was taken to be reported.
pub(crate) type Unreported = Block;

impl Block {
    /// How many frames it is.
    pub(crate) const fn frames(&self) -> usize {
        1 << self.order
    }
}

/// All free blocks.
#[derive(Debug)]
pub(super) struct Blocks {
    /// The first block of each list.
    heads: [[u64; MAX_ORDER + 1]; List::COUNT],
    /// The orders whose lists have blocks, a bit each.
    filled: [u32; List::COUNT],
    /// Unreported frames of blocks from [`REPORT_ORDER`] on.
    unreported: usize,
}

impl Blocks {
    pub(super) const fn new() -> Self {
        Self {
            heads: [[NONE; MAX_ORDER + 1]; List::COUNT],
            filled: [0; List::COUNT],
            unreported: 0,
        }
    }

    pub(super) const fn has(&self, list: List) -> bool {
        self.filled[list.0] != 0
    }

    pub(super) const fn unreported(&self) -> usize {
        self.unreported
    }

    /// Takes a block of a list, or a part of a larger one: its first frame, and whether it is zero.
    pub(super) fn take(
        &mut self,
        memory: &impl MetaMemory,
        order: usize,
        list: List,
    ) -> Option<(usize, bool)> {
        let filled = self.filled[list.0] >> order;
        if filled == 0 {
            return None;
        }
        let found = order + filled.trailing_zeros() as usize;
        let mut rest = self.first(memory, found, list);
        self.unlink(memory, &rest);
        for half in (order..found).rev() {
            rest.unreported = rest.unreported.min(1 << half);
            let upper = Block {
                number: rest.number + (1 << half),
                order: half,
                ..rest
            };
            self.link(memory, &upper);
        }
        Some((rest.number, rest.is_zero))
    }

    /// Takes the largest block of at most `most` frames that has unreported ones.
    pub(super) fn take_unreported(
        &mut self,
        memory: &impl MetaMemory,
        most: usize,
    ) -> Option<Unreported> {
        let allowed = most.checked_ilog2()?.min(MAX_ORDER as u32);
        let below = (2_u32 << allowed) - (1 << REPORT_ORDER.min(allowed as usize));
        let filled = |list: List| self.filled[list.0] & below;
        let largest = |list: List| filled(list).checked_ilog2();
        let list = if largest(List::ANY) >= largest(List::ZERO) {
            List::ANY
        } else {
            List::ZERO
        };
        let order = largest(list).filter(|order| *order as usize >= REPORT_ORDER)?;
        let block = self.first(memory, order as usize, list);
        self.unlink(memory, &block);
        Some(block)
    }

    /// Gives a block back, which merges with its free buddies. `is_known` says which frames have metadata.
    pub(super) fn give(
        &mut self,
        memory: &impl MetaMemory,
        mut block: Block,
        is_known: impl Fn(usize) -> bool,
    ) {
        while block.order < MAX_ORDER {
            let number = block.number ^ (1 << block.order);
            if block.order >= GROUP_ORDER && !is_known(number) {
                break;
            }
            let meta = memory.meta(number);
            let Some((order, is_zero)) = meta.free_block() else {
                break;
            };
            if order != block.order {
                break;
            }
            let buddy = Block {
                number,
                order,
                is_zero,
                unreported: meta.number.load(Ordering::Relaxed),
            };
            self.unlink(memory, &buddy);
            block.is_zero &= is_zero;
            block.unreported += buddy.unreported;
            block.number = block.number.min(number);
            block.order += 1;
        }
        self.link(memory, &block);
    }

    /// The first block of a list that has one.
    fn first(&self, memory: &impl MetaMemory, order: usize, list: List) -> Block {
        let number = self.heads[list.0][order] as usize;
        Block {
            number,
            order,
            is_zero: list.0 & 1 != 0,
            unreported: memory.meta(number).number.load(Ordering::Relaxed),
        }
    }

    fn link(&mut self, memory: &impl MetaMemory, block: &Block) {
        let list = List::of(block.is_zero, block.unreported).0;
        let head = &mut self.heads[list][block.order];
        let meta = memory.meta(block.number);
        meta.mark_free(block.order, block.is_zero);
        meta.number.store(block.unreported, Ordering::Relaxed);
        meta.owner.store(*head, Ordering::Relaxed);
        meta.index.store(NONE, Ordering::Relaxed);
        if *head != NONE {
            let next = memory.meta(*head as usize);
            next.index.store(block.number as u64, Ordering::Relaxed);
        }
        *head = block.number as u64;
        self.filled[list] |= 1 << block.order;
        if block.order >= REPORT_ORDER {
            self.unreported += block.unreported as usize;
        }
    }

    fn unlink(&mut self, memory: &impl MetaMemory, block: &Block) {
        let meta = memory.meta(block.number);
        let next = meta.owner.load(Ordering::Relaxed);
        let previous = meta.index.load(Ordering::Relaxed);
        if next != NONE {
            let next = memory.meta(next as usize);
            next.index.store(previous, Ordering::Relaxed);
        }
        if previous == NONE {
            let list = List::of(block.is_zero, block.unreported).0;
            self.heads[list][block.order] = next;
            if next == NONE {
                self.filled[list] &= !(1 << block.order);
            }
        } else {
            let previous = memory.meta(previous as usize);
            previous.owner.store(next, Ordering::Relaxed);
        }
        if block.order >= REPORT_ORDER {
            self.unreported -= block.unreported as usize;
        }
        meta.number.store(0, Ordering::Relaxed);
        meta.mark_taken();
    }
}
