//! Frames of real memory: a handle is the frame's physical address, counted in its metadata.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering, fence};

use super::allocator::{self, Block};
use super::{OutOfMemory, bytes};
use crate::addr::{PAGE_SIZE, PhysAddr};
use crate::x86::layout;

/// Set in a handle to boot memory, which is not counted.
const BOOT: u64 = 1;

/// A counted handle to an untyped 4 KiB frame. Cloning adds a reference; the last drop frees it.
pub struct Frame(u64);

impl core::fmt::Debug for Frame {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Frame({:#x})", self.phys().0)
    }
}

impl Frame {
    /// A frame of zeroes.
    ///
    /// # Errors
    /// [`OutOfMemory`] when none is free.
    pub fn alloc_zeroed() -> Result<Frame, OutOfMemory> {
        let (frame, is_zero) = Frame::alloc()?;
        if !is_zero {
            bytes::clear_page(frame.as_ptr());
        }
        Ok(frame)
    }

    /// A frame with a copy of `self`.
    ///
    /// # Errors
    /// [`OutOfMemory`] when none is free.
    pub fn duplicate(&self) -> Result<Frame, OutOfMemory> {
        let (copy, _) = Frame::alloc()?;
        bytes::copy_page(self.as_ptr(), copy.as_ptr());
        Ok(copy)
    }

    /// The frame that a page-aligned page of boot memory (the archive) already is: mapped
    /// read-only in place, never freed. `None` when `page` is not page-aligned or not one page long.
    #[must_use]
    pub fn from_boot_memory(page: &'static [u8]) -> Option<Frame> {
        if page.len() != PAGE_SIZE || !page.as_ptr().addr().is_multiple_of(PAGE_SIZE) {
            return None;
        }
        let phys = layout::phys_of(NonNull::from(page).cast())?;
        // Counted memory can be freed: only what the allocator does not have is boot memory.
        allocator::meta(frame_number(phys))
            .is_none()
            .then_some(Frame(phys.0 | BOOT))
    }

    /// Its physical address.
    #[must_use]
    pub fn phys(&self) -> PhysAddr {
        PhysAddr(self.0 & !BOOT)
    }

    /// Where the kernel sees its bytes. Others may change them at any time: copy only.
    pub(crate) fn as_ptr(&self) -> NonNull<u8> {
        let at: *mut u8 = layout::at(self.phys());
        NonNull::new(at).unwrap_or(NonNull::dangling())
    }

    /// Gives the handle up without freeing the frame: the frame has gone to a device.
    pub(crate) fn into_phys(self) -> PhysAddr {
        PhysAddr(self.into_raw())
    }

    /// Takes back a handle that [`Frame::into_phys`] gave up.
    ///
    /// # Safety
    /// `phys` came from `into_phys`, once for each call of this.
    pub(crate) unsafe fn from_phys(phys: PhysAddr) -> Frame {
        Frame(phys.0)
    }

    /// Gives the handle up as a number: the physical address, bit 0 set for boot memory.
    pub(crate) fn into_raw(self) -> u64 {
        core::mem::ManuallyDrop::new(self).0
    }

    /// How many handles there are; 1 means that only the caller's is left. Boot memory reports
    /// a large number, so that it is never taken as exclusively owned.
    #[must_use]
    pub fn handles(&self) -> usize {
        self.count().map_or(usize::MAX / 2, |count| {
            count.load(Ordering::Acquire) as usize
        })
    }

    /// Copies bytes at `offset` into `to`. Panics when the range leaves the frame.
    pub fn read(&self, offset: usize, to: &mut [u8]) {
        check(offset, to.len());
        bytes::copy_out(self.as_ptr(), offset, to);
    }

    /// Copies `from` to `offset`. Panics when the range leaves the frame.
    pub fn write(&self, offset: usize, from: &[u8]) {
        check(offset, from.len());
        bytes::copy_in(self.as_ptr(), offset, from);
    }

    /// Fills `[offset, offset + len)` with `byte`.
    pub fn fill(&self, offset: usize, len: usize, byte: u8) {
        check(offset, len);
        bytes::fill(self.as_ptr(), offset, len, byte);
    }

    /// Atomically reads the aligned word at `offset` (futexes on shared frames).
    #[must_use]
    pub fn load_u32(&self, offset: usize) -> u32 {
        check(offset, 4);
        assert!(offset.is_multiple_of(4), "misaligned word in a frame");
        bytes::load_u32(self.as_ptr(), offset)
    }

    /// The number of page-table entries in use in it, when it is a table.
    pub(crate) fn table_entries(phys: PhysAddr) -> Option<&'static AtomicU32> {
        allocator::meta(frame_number(phys)).map(|meta| &meta.next)
    }

    fn alloc() -> Result<(Frame, bool), OutOfMemory> {
        let Block { phys, is_zero } = allocator::allocate(0).ok_or(OutOfMemory)?;
        Ok((Frame(phys.0), is_zero))
    }

    fn count(&self) -> Option<&'static AtomicU32> {
        if self.0 & BOOT != 0 {
            return None;
        }
        allocator::meta(frame_number(self.phys())).map(|meta| &meta.count)
    }
}

impl Clone for Frame {
    fn clone(&self) -> Self {
        if let Some(count) = self.count() {
            // A wrapped count would free memory in use; 2^31 handles need more page tables than fit.
            assert!(
                count.fetch_add(1, Ordering::Relaxed) < u32::MAX / 2,
                "too many handles"
            );
        }
        Frame(self.0)
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        let Some(count) = self.count() else { return };
        if count.fetch_sub(1, Ordering::Release) == 1 {
            fence(Ordering::Acquire);
            allocator::release(self.phys(), 1);
        }
    }
}

/// Frames in the machine.
#[must_use]
pub fn total() -> usize {
    allocator::total()
}

/// Frames free now.
#[must_use]
pub fn free() -> usize {
    allocator::free()
}

/// Consecutive frames for the kernel's own use (heap, stacks), not zeroed, as many as asked for.
pub(crate) fn take_contiguous(frames: usize) -> Option<PhysAddr> {
    let order = frames.next_power_of_two().ilog2() as usize;
    if order > allocator::MAX_ORDER {
        return None;
    }
    let block = allocator::allocate(order)?;
    let spare = (1 << order) - frames;
    if spare > 0 {
        allocator::release(PhysAddr(block.phys.0 + (frames * PAGE_SIZE) as u64), spare);
    }
    Some(block.phys)
}

/// Gives back what [`take_contiguous`] took.
///
/// # Safety
/// Exactly the frames of one call of `take_contiguous`, which nothing uses any more.
pub(crate) unsafe fn give_contiguous(phys: PhysAddr, frames: usize) {
    allocator::release(phys, frames);
}

fn frame_number(phys: PhysAddr) -> usize {
    (phys.0 / PAGE_SIZE as u64) as usize
}

fn check(offset: usize, len: usize) {
    let fits = offset.checked_add(len).is_some_and(|end| end <= PAGE_SIZE);
    assert!(fits, "range {offset}+{len} leaves the frame");
}
