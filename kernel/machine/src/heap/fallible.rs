//! Boxes and reference-counted objects whose making can fail.
//!
//! Stable Rust has no `Arc::try_new`. So a block of the layout that `Arc`'s constructor asks for is allocated
//! first, which may fail, and laid into this CPU's slot; the constructor, run with interrupts off, gets
//! the block from there. The layout is that of `ArcInner`: two counters and the value, `repr(C)`. Should it
//! ever differ, the block stays in the slot and is freed, and the constructor allocates for itself; a
//! unit test sees that.
//!
//! Locking: none; the slot belongs to its CPU, and interrupts are off while it is full.

use alloc::alloc::{alloc, dealloc};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use core::alloc::Layout;
use core::cell::Cell;
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, compiler_fence};

#[cfg(target_os = "none")]
use super::bare::with_slot;
#[cfg(not(target_os = "none"))]
use super::host::with_slot;
use crate::frame::OutOfMemory;
use crate::interrupt::InterruptsOff;

#[cfg(target_os = "none")]
pub use super::bare::admit;
#[cfg(not(target_os = "none"))]
pub use super::host::admit;

/// A block put aside for the next allocation of its layout on this CPU.
#[derive(Debug)]
pub(crate) struct Slot(Cell<Option<(NonNull<u8>, Layout)>>);

impl Slot {
    /// An empty slot.
    pub(crate) const fn new() -> Self {
        Self(Cell::new(None))
    }

    /// Takes the block, if it has this layout. Volatile: the compiler may assume that calls of an allocator
    /// change nothing that it can see.
    pub(crate) fn take(&self, layout: Layout) -> Option<NonNull<u8>> {
        // SAFETY: the cell is this CPU's, and interrupts are off while a block is in it.
        let (block, has) = unsafe { self.0.as_ptr().read_volatile() }?;
        if has != layout {
            return None;
        }
        self.set(None);
        Some(block)
    }

    fn set(&self, block: Option<(NonNull<u8>, Layout)>) {
        // SAFETY: as in `take`.
        unsafe { self.0.as_ptr().write_volatile(block) };
    }
}

/// A block in the slot, and interrupts off. Dropping it frees the block unless it was taken.
struct Reserved {
    layout: Layout,
    _off: InterruptsOff,
}

impl Reserved {
    fn new(layout: Layout) -> Result<Reserved, OutOfMemory> {
        admit()?;
        // SAFETY: the callers' layouts contain two counters, so they are not empty.
        let block = NonNull::new(unsafe { alloc(layout) }).ok_or(OutOfMemory)?;
        let reserved = Reserved {
            layout,
            _off: InterruptsOff::new(),
        };
        with_slot(|slot| slot.set(Some((block, layout))));
        compiler_fence(Ordering::SeqCst);
        Ok(reserved)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        compiler_fence(Ordering::SeqCst);
        if let Some(block) = with_slot(|slot| slot.take(self.layout)) {
            #[cfg(any(test, target_os = "none"))]
            debug_assert!(false, "the reserved block was not what was asked for");
            // SAFETY: `new` allocated it with this layout, and nobody took it.
            unsafe { dealloc(block.as_ptr(), self.layout) };
        }
    }
}

/// The layout of what an `Arc` of `value` points to.
fn counted(value: Layout) -> Result<Layout, OutOfMemory> {
    let counters = Layout::new::<[usize; 2]>();
    let (whole, _) = counters.extend(value).map_err(|_| OutOfMemory)?;
    Ok(whole.pad_to_align())
}

/// `value` in a box of its own.
///
/// # Errors
/// [`OutOfMemory`] when there is none; the value is dropped.
pub fn try_box<T>(value: T) -> Result<Box<T>, OutOfMemory> {
    let layout = Layout::new::<T>();
    if layout.size() == 0 {
        // Does not allocate.
        return Ok(Box::new(value));
    }
    admit()?;
    // SAFETY: the layout is not empty.
    let block = NonNull::new(unsafe { alloc(layout) }).ok_or(OutOfMemory)?;
    let block: NonNull<T> = block.cast();
    // SAFETY: the block is new and of T's layout.
    unsafe { block.write(value) };
    // SAFETY: the global allocator gave the block for T's layout, and it holds a T.
    Ok(unsafe { Box::from_raw(block.as_ptr()) })
}

/// `value` with a reference count.
///
/// # Errors
/// [`OutOfMemory`] when there is none; the value is dropped.
pub fn try_arc<T>(value: T) -> Result<Arc<T>, OutOfMemory> {
    let reserved = Reserved::new(counted(Layout::new::<T>())?)?;
    let mut made = Arc::<T>::new_uninit();
    drop(reserved);
    if let Some(place) = Arc::get_mut(&mut made) {
        place.write(value);
    }
    // SAFETY: nobody else has the new object, so the value was written.
    Ok(unsafe { made.assume_init() })
}

/// A counted object that is made by `make` from a weak reference to itself, as by [`Arc::new_cyclic`].
///
/// # Errors
/// [`OutOfMemory`] when there is none; `make` is not called then.
pub fn try_arc_cyclic<T>(make: impl FnOnce(&Weak<T>) -> T) -> Result<Arc<T>, OutOfMemory> {
    let reserved = Reserved::new(counted(Layout::new::<T>())?)?;
    Ok(Arc::new_cyclic(|this| {
        // The object has its memory: interrupts may come again.
        drop(reserved);
        make(this)
    }))
}

/// A counted copy of `items`.
///
/// # Errors
/// [`OutOfMemory`] when there is none.
pub fn try_arc_slice<T: Copy>(items: &[T]) -> Result<Arc<[T]>, OutOfMemory> {
    let reserved = Reserved::new(counted(Layout::for_value(items))?)?;
    let mut made = Arc::<[T]>::new_uninit_slice(items.len());
    drop(reserved);
    for (place, item) in Arc::get_mut(&mut made).into_iter().flatten().zip(items) {
        place.write(*item);
    }
    // SAFETY: nobody else has the new object, so every item was written.
    Ok(unsafe { made.assume_init() })
}

/// A counted copy of `text`.
///
/// # Errors
/// [`OutOfMemory`] when there is none.
pub fn try_arc_str(text: &str) -> Result<Arc<str>, OutOfMemory> {
    let bytes = Arc::into_raw(try_arc_slice(text.as_bytes())?);
    // SAFETY: a `str` is laid out as its bytes, these are UTF-8, and the pointer came from `into_raw`.
    Ok(unsafe { Arc::from_raw(bytes as *const str) })
}

#[cfg(test)]
mod tests {
    use super::super::host::{TAKEN, testing};
    use super::{try_arc, try_arc_cyclic, try_arc_slice, try_box};
    use alloc::sync::{Arc, Weak};

    fn taken() -> usize {
        TAKEN.with(core::cell::Cell::get)
    }

    #[repr(align(64))]
    struct Aligned([u8; 3]);

    struct Own(Weak<Own>);

    #[test]
    fn reserved_blocks_are_what_the_constructors_ask_for() {
        let before = taken();
        assert_eq!(try_arc([7_u8; 100]).map(|it| it[99]), Ok(7));
        assert_eq!(try_arc(()).map(|it| *it), Ok(()));
        assert_eq!(try_arc(Aligned([1, 2, 3])).map(|it| it.0), Ok([1, 2, 3]));
        let text: Arc<[u8]> = try_arc_slice(b"some bytes").expect("memory");
        assert_eq!(*text, *b"some bytes");
        let none: Arc<[u16]> = try_arc_slice(&[]).expect("memory");
        assert!(none.is_empty());
        let own = try_arc_cyclic(|this: &Weak<Own>| Own(this.clone())).expect("memory");
        assert!(core::ptr::eq(own.0.as_ptr(), Arc::as_ptr(&own)));
        assert_eq!(taken() - before, 6, "each took its block from the slot");
    }

    #[test]
    fn a_failed_allocation_is_told() {
        for nth in 1..=3 {
            testing::fail_nth(nth);
            let made = [
                try_box(1).is_ok(),
                try_arc(1).is_ok(),
                try_arc_slice(&[1]).is_ok(),
            ];
            testing::fail_never();
            for (index, is_ok) in made.iter().enumerate() {
                assert_eq!(*is_ok, index + 1 != nth, "allocation {nth}, number {index}");
            }
        }
    }
}
