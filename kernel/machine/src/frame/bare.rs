//! Frames of real memory: a handle is the frame's physical address, counted in its metadata.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use super::account::{self, AccountId, Purpose};
use super::meta::{FrameFlags, Kind, Meta};
use super::zone::{MAX_ORDER, Wanted};
use super::{OutOfMemory, allocator, bytes};
use crate::addr::{PAGE_SIZE, PhysAddr};
use crate::fail;
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
        fail::check()?;
        let (phys, is_zero) = allocator::allocate(Wanted::Zero, 1).ok_or(OutOfMemory)?;
        let frame = Frame(phys.0);
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
        fail::check()?;
        let (phys, _) = allocator::allocate(Wanted::Any, 1).ok_or(OutOfMemory)?;
        let copy = Frame(phys.0);
        bytes::copy_page(self.as_ptr(), copy.as_ptr());
        Ok(copy)
    }

    /// The frame that a page-aligned page of boot memory (the archive) already is: mapped
    /// read-only in place, never freed. `None` when `page` is not such a page.
    #[must_use]
    pub fn from_boot_memory(page: &'static [u8]) -> Option<Frame> {
        if page.len() != PAGE_SIZE || !page.as_ptr().addr().is_multiple_of(PAGE_SIZE) {
            return None;
        }
        // Only the archive is never freed, and never written.
        let phys = layout::phys_of(NonNull::from(page).cast())?;
        layout::is_archive(phys).then_some(Frame(phys.0 | BOOT))
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
        self.meta().map_or(usize::MAX / 2, |meta| {
            meta.count.load(Ordering::Acquire) as usize
        })
    }

    /// Copies bytes at `offset` into `to`. Panics when the range leaves the frame.
    pub fn read(&self, offset: usize, to: &mut [u8]) {
        check(offset, to.len());
        bytes::copy_out(self.as_ptr(), offset, to);
    }

    /// Copies `from` to `offset`. Panics when the range leaves the frame, and for boot memory.
    pub fn write(&self, offset: usize, from: &[u8]) {
        check(offset, from.len());
        self.check_writable();
        bytes::copy_in(self.as_ptr(), offset, from);
    }

    /// Fills `[offset, offset + len)` with `byte`. Panics as [`Frame::write`] does.
    pub fn fill(&self, offset: usize, len: usize, byte: u8) {
        check(offset, len);
        self.check_writable();
        bytes::fill(self.as_ptr(), offset, len, byte);
    }

    /// Atomically reads the aligned word at `offset` (futexes on shared frames).
    #[must_use]
    pub fn load_u32(&self, offset: usize) -> u32 {
        check(offset, 4);
        assert!(offset.is_multiple_of(4), "misaligned word in a frame");
        bytes::load_u32(self.as_ptr(), offset)
    }

    /// Says what the frame is used for; once, by who allocated it.
    pub fn set_kind(&self, kind: Kind) {
        if self.meta().is_some() {
            allocator::set_kind(frame_number(self.phys()), kind);
        }
    }

    /// What the frame is used for.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.meta().map_or(Kind::Other, Meta::kind)
    }

    /// The account that the frame is charged to.
    #[must_use]
    pub fn account(&self) -> AccountId {
        self.meta().map_or(AccountId::ROOT, Meta::payer)
    }

    /// A pool keeps the frame from now on, which nobody pays for.
    pub(crate) fn leave_account(phys: PhysAddr) {
        let meta = allocator::meta(frame_number(phys));
        let payer = meta.payer();
        if payer != AccountId::ROOT {
            meta.set_payer(AccountId::ROOT);
            account::uncharge(payer, 1);
        }
    }

    /// The running task has it from the pool.
    ///
    /// # Errors
    /// [`OutOfMemory`] when its account is at its limit.
    pub(crate) fn enter_account(phys: PhysAddr) -> Result<(), OutOfMemory> {
        let payer = account::charge_current(1, Purpose::Programs).ok_or(OutOfMemory)?;
        if payer != AccountId::ROOT {
            allocator::meta(frame_number(phys)).set_payer(payer);
        }
        Ok(())
    }

    /// Clears flags, atomically; returns those that were set before.
    pub(crate) fn clear_flags(&self, flags: FrameFlags) -> FrameFlags {
        self.meta()
            .map_or(FrameFlags::empty(), |meta| meta.clear(flags))
    }

    /// The flags that are set.
    #[must_use]
    pub fn flags(&self) -> FrameFlags {
        self.meta().map_or(FrameFlags::empty(), Meta::flags)
    }

    /// Says that all bytes are zero and that nobody writes them any more: the last drop gives the
    /// frame back as such, and the next owner need not clear it.
    ///
    /// # Safety
    /// It is so: page tables are made of such frames without a look at their bytes.
    pub(crate) unsafe fn mark_zero(&self) {
        if let Some(meta) = self.meta() {
            meta.mark_zero();
        }
    }

    /// The owner's word of a frame: how many share a large page that it is the first of; for a page table, the list of
    /// those put aside.
    pub(crate) fn owner_word(phys: PhysAddr) -> &'static AtomicU64 {
        &allocator::meta(frame_number(phys)).owner
    }

    /// The number of page-table entries in use in it, when it is a table.
    pub(crate) fn table_entries(phys: PhysAddr) -> Option<&'static AtomicU32> {
        Some(&allocator::meta(frame_number(phys)).number)
    }

    pub(super) fn meta(&self) -> Option<&'static Meta> {
        (!self.is_boot_memory()).then(|| allocator::meta(frame_number(self.phys())))
    }

    /// Whether its bytes are the archive's, which is mapped read-only and constant to Rust.
    pub(crate) fn is_boot_memory(&self) -> bool {
        self.0 & BOOT != 0
    }

    /// Panics for boot memory, which nobody may write.
    pub(crate) fn check_writable(&self) {
        assert!(!self.is_boot_memory(), "a write to boot memory");
    }
}

impl Clone for Frame {
    fn clone(&self) -> Self {
        if let Some(meta) = self.meta() {
            meta.add_handle();
        }
        Frame(self.0)
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        let Some(meta) = self.meta() else { return };
        if meta.drop_handle() {
            fence(Ordering::Acquire);
            allocator::release(frame_number(self.phys()));
        }
    }
}

/// Frames that programs and kernel may have: the machine's, or the limit if that is less.
#[must_use]
pub fn total() -> usize {
    allocator::total()
}

/// Frames free now.
#[must_use]
pub fn free() -> usize {
    allocator::free()
}

/// Frames that this CPU can have now: those free but for what other CPUs keep for themselves.
#[must_use]
#[inline]
pub fn at_hand() -> usize {
    allocator::at_hand()
}

/// Frames in use.
#[must_use]
pub fn in_use() -> usize {
    allocator::in_use()
}

/// Frames that are free or as good as that, but kept by CPUs and pools: see [`release_kept`].
#[must_use]
pub fn kept() -> usize {
    super::kept::count()
}

/// Has all CPUs and pools give back what they keep, and returns how many frames that was. Waits for the other CPUs:
/// not to be called with a spin lock held.
pub fn release_kept() -> usize {
    super::kept::release()
}

/// Frames of a kind in use.
#[must_use]
pub fn count(kind: Kind) -> usize {
    allocator::count(kind)
}

/// Sets the most frames that may be in use; further allocations fail.
pub fn set_limit(frames: usize) {
    allocator::set_limit(frames);
}

/// The most frames that may be in use.
#[must_use]
pub fn limit() -> usize {
    allocator::limit()
}

/// Consecutive frames for the kernel's own use (heap, stacks), not zeroed, as many as asked for.
pub(crate) fn take_contiguous(frames: usize) -> Option<PhysAddr> {
    let order = frames.next_power_of_two().ilog2() as usize;
    if order > MAX_ORDER {
        return None;
    }
    let (phys, _) = allocator::take_block(order, Wanted::Any, (frames, Purpose::Kernel))?;
    let spare = (1 << order) - frames;
    if spare > 0 {
        allocator::give_block(PhysAddr(phys.0 + (frames * PAGE_SIZE) as u64), spare);
    }
    Some(phys)
}

/// Gives back what [`take_contiguous`] took.
///
/// # Safety
/// Exactly the frames of one call of `take_contiguous`, which nothing uses any more.
pub(crate) unsafe fn give_contiguous(phys: PhysAddr, frames: usize) {
    allocator::give_charged_block(phys, frames);
}

fn frame_number(phys: PhysAddr) -> usize {
    allocator::number_of(phys)
}

fn check(offset: usize, len: usize) {
    let fits = offset.checked_add(len).is_some_and(|end| end <= PAGE_SIZE);
    assert!(fits, "range {offset}+{len} leaves the frame");
}
