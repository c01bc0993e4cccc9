//! The allocator of physical frames: buddy lists for what was freed, and a frontier a region for
//! what was never used, which is known to be zero and is not touched before its first use.
//!
//! Each region of RAM starts with its frames' [`Meta`], 16 bytes a frame. That memory is zero at boot,
//! which says "never used", so nothing has to be filled in however large the machine is.
//!
//! Locking: one [`IrqLock`] for lists and frontiers; reference counts are atomics of their own.

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::addr::{PAGE_SIZE, PhysAddr};
use crate::sync::IrqLock;
use crate::x86::layout;

/// Blocks are up to `2^MAX_ORDER` frames: 4 MiB.
pub(crate) const MAX_ORDER: usize = 10;
const MAX_REGIONS: usize = 16;
/// Recycled frames are preferred once this many fresh ones are in use: below it, clearing a
/// recycled frame costs more than touching a fresh one.
const FRESH_FIRST: usize = 16 * 1024;
/// [`Meta::state`] of the first frame of a free block, plus its order.
const FREE: u32 = 0x100;

/// What is known of a frame. All zero: never used.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Meta {
    /// Handles, while it is in use.
    pub(super) count: AtomicU32,
    /// Free: the next block of the list (frame number, 0 for none). A page table: entries in use.
    pub(super) next: AtomicU32,
    /// Free: the previous block of the list.
    previous: AtomicU32,
    /// [`FREE`] plus the order, for the first frame of a free block; else 0.
    state: AtomicU32,
}

#[derive(Debug, Clone, Copy)]
struct Region {
    end: usize,
    /// Frames from here on were never used.
    fresh: usize,
}

const NO_REGION: Region = Region { end: 0, fresh: 0 };

#[derive(Debug)]
struct Allocator {
    regions: [Region; MAX_REGIONS],
    count: usize,
    heads: [u32; MAX_ORDER + 1],
    fresh_used: usize,
}

static ALLOCATOR: IrqLock<Allocator> = IrqLock::new(Allocator {
    regions: [NO_REGION; MAX_REGIONS],
    count: 0,
    heads: [0; MAX_ORDER + 1],
    fresh_used: 0,
});

/// First frame, end and metadata of each region, for lookups without the lock; written at boot.
static BOUNDS: [(AtomicUsize, AtomicUsize); MAX_REGIONS] =
    [const { (AtomicUsize::new(0), AtomicUsize::new(0)) }; MAX_REGIONS];
static FREE_FRAMES: AtomicUsize = AtomicUsize::new(0);
static TOTAL_FRAMES: AtomicUsize = AtomicUsize::new(0);

/// A block of frames that was allocated.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    pub(super) phys: PhysAddr,
    pub(super) is_zero: bool,
}

/// Where the metadata of frame `number` is. `None` when no region has the frame.
pub(super) fn meta(number: usize) -> Option<&'static Meta> {
    for (first, end) in &BOUNDS {
        let (first, end) = (first.load(Ordering::Relaxed), end.load(Ordering::Relaxed));
        if end == 0 {
            break;
        }
        if (first..end).contains(&number) {
            return Some(meta_in(first, end, number));
        }
    }
    None
}

/// The metadata lies in the last frames before `first`.
fn meta_in(first: usize, end: usize, number: usize) -> &'static Meta {
    let frames = meta_frames(end - first);
    let table: *const Meta = layout::at(PhysAddr(((first - frames) * PAGE_SIZE) as u64));
    // SAFETY: `add_region` set `meta_frames` frames before `first` aside, mapped in the direct map, zero,
    // for `end - first` entries; `number` is below `end`. `Meta` is atomics, valid when zero.
    unsafe { &*table.wrapping_add(number - first) }
}

fn meta_frames(frames: usize) -> usize {
    (frames * size_of::<Meta>()).div_ceil(PAGE_SIZE)
}

fn known(number: usize) -> &'static Meta {
    let Some(meta) = meta(number) else {
        panic!("frame {number:#x} is not RAM");
    };
    meta
}

/// Adds a range of zeroed, unused RAM. `dirty_tail` bytes at its end may not be zero.
pub(crate) fn add_region(start: PhysAddr, end: PhysAddr, dirty_tail: u64) {
    let first = start.0.div_ceil(PAGE_SIZE as u64) as usize;
    let end = (end.0 / PAGE_SIZE as u64) as usize;
    // One entry a frame, of the frames left after setting the entries aside.
    let room = end.saturating_sub(first);
    let first = first + meta_frames(room);
    if end <= first + 16 {
        return;
    }
    // With fewer frames left, fewer entries suffice: the table begins later than it could.
    let mut allocator = ALLOCATOR.lock();
    let index = allocator.count;
    if index == MAX_REGIONS {
        return;
    }
    let fresh_end = end
        .saturating_sub((dirty_tail as usize).div_ceil(PAGE_SIZE))
        .max(first);
    allocator.regions[index] = Region {
        end: fresh_end,
        fresh: first,
    };
    allocator.count += 1;
    BOUNDS[index].0.store(first, Ordering::Relaxed);
    BOUNDS[index].1.store(end, Ordering::Release);
    TOTAL_FRAMES.fetch_add(end - first, Ordering::Relaxed);
    FREE_FRAMES.fetch_add(fresh_end - first, Ordering::Relaxed);
    allocator.free_range(fresh_end, end - fresh_end);
}

/// Takes a block of `2^order` frames, aligned to its size. Its first frame counts one handle.
pub(super) fn allocate(order: usize) -> Option<Block> {
    let mut allocator = ALLOCATOR.lock();
    let fresh_first = allocator.fresh_used < FRESH_FIRST;
    let (number, is_zero) = if fresh_first {
        allocator
            .take_fresh(order)
            .map(|number| (number, true))
            .or_else(|| allocator.take_listed(order).map(|number| (number, false)))
    } else {
        allocator
            .take_listed(order)
            .map(|number| (number, false))
            .or_else(|| allocator.take_fresh(order).map(|number| (number, true)))
    }?;
    FREE_FRAMES.fetch_sub(1 << order, Ordering::Relaxed);
    known(number).count.store(1, Ordering::Relaxed);
    Some(Block {
        phys: PhysAddr((number * PAGE_SIZE) as u64),
        is_zero,
    })
}

/// Gives frames back, one after another from `phys`.
pub(super) fn release(phys: PhysAddr, frames: usize) {
    ALLOCATOR
        .lock()
        .free_range((phys.0 / PAGE_SIZE as u64) as usize, frames);
}

/// Frames in all regions.
pub(super) fn total() -> usize {
    TOTAL_FRAMES.load(Ordering::Relaxed)
}

/// Frames not in use.
pub(super) fn free() -> usize {
    FREE_FRAMES.load(Ordering::Relaxed)
}

impl Allocator {
    fn take_fresh(&mut self, order: usize) -> Option<usize> {
        let size = 1_usize << order;
        for index in 0..self.count {
            let region = self.regions[index];
            let number = region.fresh.next_multiple_of(size);
            if number + size > region.end {
                continue;
            }
            self.regions[index].fresh = number + size;
            self.fresh_used += number + size - region.fresh;
            let skipped = number - region.fresh;
            FREE_FRAMES.fetch_sub(skipped, Ordering::Relaxed);
            self.free_range(region.fresh, skipped);
            return Some(number);
        }
        None
    }

    fn take_listed(&mut self, order: usize) -> Option<usize> {
        let found = (order..=MAX_ORDER).find(|order| self.heads[*order] != 0)?;
        let number = self.heads[found] as usize;
        self.unlink(number, found);
        for half in (order..found).rev() {
            self.link(number + (1 << half), half);
        }
        Some(number)
    }

    fn free_range(&mut self, mut number: usize, mut frames: usize) {
        FREE_FRAMES.fetch_add(frames, Ordering::Relaxed);
        while frames > 0 {
            let aligned = (number.trailing_zeros() as usize).min(MAX_ORDER);
            let order = aligned.min(frames.ilog2() as usize);
            self.free_block(number, order);
            number += 1 << order;
            frames -= 1 << order;
        }
    }

    fn free_block(&mut self, mut number: usize, mut order: usize) {
        while order < MAX_ORDER {
            let buddy = number ^ (1 << order);
            let is_free = meta(buddy)
                .is_some_and(|meta| meta.state.load(Ordering::Relaxed) == FREE + order as u32);
            if !is_free {
                break;
            }
            self.unlink(buddy, order);
            number = number.min(buddy);
            order += 1;
        }
        self.link(number, order);
    }

    fn link(&mut self, number: usize, order: usize) {
        let meta = known(number);
        let head = self.heads[order];
        meta.state.store(FREE + order as u32, Ordering::Relaxed);
        meta.next.store(head, Ordering::Relaxed);
        meta.previous.store(0, Ordering::Relaxed);
        if head != 0 {
            known(head as usize)
                .previous
                .store(number as u32, Ordering::Relaxed);
        }
        self.heads[order] = number as u32;
    }

    fn unlink(&mut self, number: usize, order: usize) {
        let meta = known(number);
        let next = meta.next.load(Ordering::Relaxed);
        let previous = meta.previous.load(Ordering::Relaxed);
        if next != 0 {
            known(next as usize)
                .previous
                .store(previous, Ordering::Relaxed);
        }
        if previous == 0 {
            self.heads[order] = next;
        } else {
            known(previous as usize).next.store(next, Ordering::Relaxed);
        }
        meta.state.store(0, Ordering::Relaxed);
        meta.next.store(0, Ordering::Relaxed);
    }
}
