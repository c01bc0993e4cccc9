//! The kernel's heap: size-class slabs cut from frames in front of whole frames, and a small
//! `linked_list_allocator` heap in the image for what is needed before there are frames.
//!
//! Everything lies in the direct map, so an allocation is contiguous in physical memory too, as
//! devices need it. Freed slab objects are kept for their class.
//!
//! Locking: one [`IrqLock`] a size class; interrupt handlers may allocate.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};

use linked_list_allocator::Heap;

use super::fallible::Slot as ReservedSlot;
use crate::addr::{PAGE_SIZE, PhysAddr};
use crate::frame::OutOfMemory;
use crate::frame::bare::{give_contiguous, take_contiguous};
use crate::sync::IrqLock;
use crate::x86::{layout, percpu};

/// Object sizes; alignment is the size's own largest power of two, so powers of two only but for
/// two sizes that many objects have.
const CLASSES: [usize; 10] = [16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048];
const EARLY_LEN: usize = 32 * 1024;

struct EarlyMemory(UnsafeCell<[u8; EARLY_LEN]>);

// SAFETY: only the early heap reaches the bytes, under its lock.
unsafe impl Sync for EarlyMemory {}

static EARLY_MEMORY: EarlyMemory = EarlyMemory(UnsafeCell::new([0; EARLY_LEN]));
static EARLY: IrqLock<Heap> = IrqLock::new(Heap::empty());
static HAS_FRAMES: AtomicBool = AtomicBool::new(false);
static SLABS: [IrqLock<Slab>; CLASSES.len()] =
    [const { IrqLock::new(Slab { free: None }) }; CLASSES.len()];

/// A class's free objects, linked through their first words.
struct Slab {
    free: Option<NonNull<Object>>,
}

struct Object {
    next: Option<NonNull<Object>>,
}

// SAFETY: the objects belong to the slab alone while they are in its list.
unsafe impl Send for Slab {}

struct KernelHeap;

#[global_allocator]
static HEAP: KernelHeap = KernelHeap;

/// Gives the early heap its memory; before the first allocation.
pub(crate) fn start_early() {
    let start: *mut u8 = EARLY_MEMORY.0.get().cast();
    // SAFETY: the memory is the early heap's alone, and this runs once, at boot.
    unsafe { EARLY.lock().init(start, EARLY_LEN) };
}

/// From now on memory comes from frames.
pub(crate) fn use_frames() {
    HAS_FRAMES.store(true, Ordering::Release);
}

/// Calls `with` with the slot of this CPU.
pub(super) fn with_slot<R>(with: impl FnOnce(&ReservedSlot) -> R) -> R {
    with(&percpu::here().reserved)
}

/// To be called before an allocation that may fail; the allocator itself says so here.
///
/// # Errors
/// None.
#[inline]
pub fn admit() -> Result<(), OutOfMemory> {
    Ok(())
}

fn is_early(at: *mut u8) -> bool {
    let start = EARLY_MEMORY.0.get().addr();
    (start..start + EARLY_LEN).contains(&at.addr())
}

fn class_of(layout: Layout) -> Option<usize> {
    let wanted = layout.size().max(layout.align());
    // 96 and 192 are aligned to 32 and 64.
    CLASSES
        .iter()
        .position(|size| *size >= wanted && size.is_multiple_of(layout.align()))
}

// SAFETY: blocks come from frames (or the early heap) that belong to the heap until freed; classes
// and page counts are functions of the layout, which the caller repeats on `dealloc`.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !HAS_FRAMES.load(Ordering::Acquire) {
            let block = EARLY.lock().allocate_first_fit(layout);
            return block.map_or(core::ptr::null_mut(), NonNull::as_ptr);
        }
        if let Some(block) = percpu::here().reserved.take(layout) {
            return block.as_ptr();
        }
        let block = match class_of(layout) {
            Some(class) => SLABS[class].lock().take(CLASSES[class]),
            None => take_pages(layout),
        };
        block.map_or(core::ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        let Some(block) = NonNull::new(at) else {
            return;
        };
        if is_early(at) {
            // SAFETY: the early heap gave it out with this layout.
            unsafe { EARLY.lock().deallocate(block, layout) };
        } else if let Some(class) = class_of(layout) {
            SLABS[class].lock().give(block);
        } else {
            let phys = PhysAddr(at.addr() as u64 - layout::direct_map());
            // SAFETY: `take_pages` took these frames for this layout, and the caller is done.
            unsafe { give_contiguous(phys, pages_of(layout)) };
        }
    }
}

fn pages_of(layout: Layout) -> usize {
    layout.size().max(layout.align()).div_ceil(PAGE_SIZE)
}

fn take_pages(layout: Layout) -> Option<NonNull<u8>> {
    // Blocks are aligned to their size rounded up to a power of two, so to `align` too.
    let phys = take_contiguous(pages_of(layout))?;
    NonNull::new(layout::at(phys))
}

impl Slab {
    fn take(&mut self, size: usize) -> Option<NonNull<u8>> {
        if self.free.is_none() {
            self.refill(size)?;
        }
        let object = self.free?;
        // SAFETY: objects in the list are the slab's, and `give` or `refill` wrote their links.
        self.free = unsafe { object.read() }.next;
        Some(object.cast())
    }

    fn give(&mut self, block: NonNull<u8>) {
        let object: NonNull<Object> = block.cast();
        // SAFETY: the block is of this class, so long and aligned enough, and free again.
        unsafe { object.write(Object { next: self.free }) };
        self.free = Some(object);
    }

    fn refill(&mut self, size: usize) -> Option<()> {
        let page: NonNull<u8> = NonNull::new(layout::at(take_contiguous(1)?))?;
        for offset in (0..PAGE_SIZE / size).rev().map(|number| number * size) {
            // SAFETY: the object is inside the page just taken.
            self.give(unsafe { page.add(offset) });
        }
        Some(())
    }
}
