//! The global allocator: slabs for small objects, frames beside each other for some pages, virtually contiguous
//! memory for what is larger, and a small `linked_list_allocator` heap in the image for what is needed before
//! there are frames.
//!
//! Each CPU has a stock of free objects of each class, so the common case takes no lock. An object of up to
//! eight pages is contiguous in physical memory where such frames are free; devices must not rely on it.
//!
//! Locking: one [`IrqLock`] a size class; stocks are used with interrupts off. Interrupt handlers may allocate.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};

use linked_list_allocator::Heap;

use super::fallible::Slot as ReservedSlot;
use super::slab::{Class, Pages, Place, SIZES, Stock, Usage, place_of, stock_of};
use super::{poison, vmalloc};
use crate::addr::{PAGE_SIZE, PhysAddr};
use crate::frame::bare::{give_contiguous, take_contiguous};
use crate::frame::meta::Meta;
use crate::frame::{Kind, OutOfMemory, allocator, refusal};
use crate::interrupt::InterruptsOff;
use crate::sync::IrqLock;
use crate::x86::{layout, percpu};

const EARLY_LEN: usize = 32 * 1024;

struct EarlyMemory(UnsafeCell<[u8; EARLY_LEN]>);

// SAFETY: only the early heap reaches the bytes, under its lock.
unsafe impl Sync for EarlyMemory {}

static EARLY_MEMORY: EarlyMemory = EarlyMemory(UnsafeCell::new([0; EARLY_LEN]));
static EARLY: IrqLock<Heap> = IrqLock::new(Heap::empty());
static HAS_FRAMES: AtomicBool = AtomicBool::new(false);
static CLASSES: [IrqLock<Class>; SIZES.len()] = [const { IrqLock::new(Class::new()) }; SIZES.len()];

/// Frames of the direct map as the slabs' pages.
struct DirectMap;

// SAFETY: a frame is the heap's alone from `take_raw` to `give_raw`; the direct map shows it at one address; a frame's
// owner words are its user's.
unsafe impl Pages for DirectMap {
    fn take(&self) -> Option<u32> {
        allocator::take_raw(Kind::Slab).map(|number| number as u32)
    }

    fn give(&self, page: u32) {
        allocator::give_raw(page as usize);
    }

    fn at(&self, page: u32) -> NonNull<u8> {
        let at: *mut u8 = layout::at(PhysAddr(u64::from(page) * PAGE_SIZE as u64));
        NonNull::new(at).unwrap_or(NonNull::dangling())
    }

    fn page_of(&self, object: NonNull<u8>) -> u32 {
        ((object.addr().get() as u64 - layout::direct_map()) / PAGE_SIZE as u64) as u32
    }

    fn meta(&self, page: u32) -> &Meta {
        allocator::meta(page as usize)
    }
}

/// Each CPU's free objects.
#[derive(Debug)]
pub(crate) struct Stocks(UnsafeCell<[Stock; SIZES.len()]>);

impl Stocks {
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new([const { Stock::new() }; SIZES.len()]))
    }
}

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
        if crate::fail::is_due() {
            return core::ptr::null_mut();
        }
        let block = match place_of(layout.size(), layout.align()) {
            Place::Object(class) => take_object(class),
            Place::Pages {
                count,
                beside,
                mapped,
            } => take_pages(count, beside, mapped),
        };
        block.map_or_else(|| refuse(layout), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        let Some(block) = NonNull::new(at) else {
            return;
        };
        if is_early(at) {
            // SAFETY: the early heap gave it out with this layout.
            unsafe { EARLY.lock().deallocate(block, layout) };
            return;
        }
        match place_of(layout.size(), layout.align()) {
            // SAFETY: the layout says that `take_object` gave it, and the caller is done.
            Place::Object(class) => unsafe { give_object(class, block) },
            // SAFETY: the layout says that `take_pages` gave it, and the caller is done.
            Place::Pages { count, .. } => unsafe { give_pages(block, count) },
        }
    }
}

#[cold]
fn refuse(layout: Layout) -> *mut u8 {
    refusal::note(layout.size().div_ceil(PAGE_SIZE));
    core::ptr::null_mut()
}

/// Calls `with` with this CPU's stock of a class; with interrupts off.
fn with_stock<R>(class: usize, with: impl FnOnce(&mut Stock) -> R) -> R {
    let stocks = percpu::here().stocks.0.get();
    // SAFETY: the stocks are this CPU's, interrupts are off, and `with` (in this file) does not come back here.
    with(unsafe { &mut (*stocks)[class] })
}

fn take_object(class: usize) -> Option<NonNull<u8>> {
    let _off = InterruptsOff::new();
    let object = with_stock(class, |stock| stock.take().or_else(|| refill(class, stock)))?;
    poison::check(object, SIZES[class]);
    Some(object)
}

/// Takes an object from the class, and some more for the stock, which is empty.
#[cold]
fn refill(class: usize, stock: &mut Stock) -> Option<NonNull<u8>> {
    let (_, batch) = stock_of(class);
    CLASSES[class]
        .lock()
        .fill(&DirectMap, class, stock, batch)?;
    if poison::IS_ON {
        stock.for_each(|object| poison::fill(object, SIZES[class]));
    }
    stock.take()
}

/// # Safety
/// [`take_object`] gave it for this class, and nobody uses it any more.
unsafe fn give_object(class: usize, object: NonNull<u8>) {
    let _off = InterruptsOff::new();
    poison::free(object, SIZES[class]);
    with_stock(class, |stock| {
        // SAFETY: the caller's promise.
        unsafe { stock.give(object) };
        if stock.count() > stock_of(class).0 {
            drain(class, stock);
        }
    });
}

#[cold]
fn drain(class: usize, stock: &mut Stock) {
    let (_, batch) = stock_of(class);
    let mut slab = CLASSES[class].lock();
    for _ in 0..batch {
        if let Some(object) = stock.take() {
            // SAFETY: the stock has objects of its class that nobody uses.
            unsafe { slab.give(&DirectMap, class, object) };
        }
    }
}

/// How each class of small objects is used.
pub fn usage() -> impl Iterator<Item = Usage> {
    let classes = CLASSES.iter().enumerate();
    classes.map(|(class, slab)| slab.lock().usage(class))
}

/// Gives the objects that this CPU keeps back to their classes, and so the pages that are empty then.
pub(crate) fn drain_stocks() {
    let _off = InterruptsOff::new();
    for class in 0..SIZES.len() {
        with_stock(class, |stock| {
            while stock.count() > 0 {
                drain(class, stock);
            }
        });
    }
}

fn take_pages(pages: usize, beside: bool, mapped: bool) -> Option<NonNull<u8>> {
    if beside && let Some(phys) = take_contiguous(pages) {
        allocator::count_kind(Kind::Slab, pages.cast_signed());
        return NonNull::new(layout::at(phys));
    }
    if !mapped {
        return None;
    }
    vmalloc::take(pages, Kind::Vmalloc).ok()
}

/// # Safety
/// [`take_pages`] gave it for so many pages, and nobody uses it any more.
unsafe fn give_pages(block: NonNull<u8>, pages: usize) {
    if vmalloc::has(block) {
        // SAFETY: the caller's promise.
        unsafe { vmalloc::give(block, pages) };
        return;
    }
    let phys = PhysAddr(block.addr().get() as u64 - layout::direct_map());
    allocator::count_kind(Kind::Slab, -pages.cast_signed());
    // SAFETY: the caller's promise.
    unsafe { give_contiguous(phys, pages) };
}
