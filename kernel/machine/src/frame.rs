//! Untyped frames: the only memory that can be mapped to users or handed to devices.
//!
//! A [`Frame`] is a counted handle to 4 KiB of bytes that have no Rust type; user code and devices
//! may change them at any time, so they are only ever copied in and out.

use crate::addr::{PAGE_SIZE, PhysAddr};

/// No frame is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory;

/// A counted handle to an untyped 4 KiB frame. Cloning adds a reference; the last drop frees it.
#[derive(Debug)]
pub struct Frame(());

impl Frame {
    /// A frame of zeroes.
    ///
    /// # Errors
    /// [`OutOfMemory`] when none is free.
    pub fn alloc_zeroed() -> Result<Frame, OutOfMemory> {
        todo!()
    }

    /// A frame with a copy of `self`.
    ///
    /// # Errors
    /// [`OutOfMemory`] when none is free.
    pub fn duplicate(&self) -> Result<Frame, OutOfMemory> {
        todo!()
    }

    /// The frame that a page-aligned page of boot memory (the archive) already is: mapped
    /// read-only in place, never freed. `None` when `page` is not page-aligned or not one page long.
    pub fn from_boot_memory(page: &'static [u8]) -> Option<Frame> {
        let _ = page;
        todo!()
    }

    /// Its physical address.
    #[must_use]
    pub fn phys(&self) -> PhysAddr {
        todo!()
    }

    /// Where the kernel sees its bytes. Others may change them at any time: copy only.
    #[cfg_attr(
        not(target_os = "none"),
        allow(dead_code, reason = "used by the virtio queues")
    )]
    pub(crate) fn as_ptr(&self) -> core::ptr::NonNull<u8> {
        todo!()
    }

    /// Gives the handle up without freeing the frame: the frame has gone to a device.
    #[cfg_attr(
        not(target_os = "none"),
        allow(dead_code, reason = "used by the virtio queues")
    )]
    pub(crate) fn into_phys(self) -> PhysAddr {
        todo!()
    }

    /// Takes back a handle that [`Frame::into_phys`] gave up.
    ///
    /// # Safety
    /// `phys` came from `into_phys`, once for each call of this.
    #[cfg_attr(
        not(target_os = "none"),
        allow(dead_code, reason = "used by the virtio queues")
    )]
    pub(crate) unsafe fn from_phys(phys: PhysAddr) -> Frame {
        let _ = phys;
        todo!()
    }

    /// How many handles there are; 1 means that only the caller's is left. Boot memory reports
    /// a large number, so that it is never taken as exclusively owned.
    #[must_use]
    pub fn handles(&self) -> usize {
        todo!()
    }

    /// Copies bytes at `offset` into `to`. Panics when the range leaves the frame.
    pub fn read(&self, offset: usize, to: &mut [u8]) {
        let _ = (offset, to);
        todo!()
    }

    /// Copies `from` to `offset`. Panics when the range leaves the frame.
    pub fn write(&self, offset: usize, from: &[u8]) {
        let _ = (offset, from);
        todo!()
    }

    /// Fills `[offset, offset + len)` with `byte`.
    pub fn fill(&self, offset: usize, len: usize, byte: u8) {
        let _ = (offset, len, byte, PAGE_SIZE);
        todo!()
    }

    /// Atomically reads the aligned word at `offset` (futexes on shared frames).
    #[must_use]
    pub fn load_u32(&self, offset: usize) -> u32 {
        let _ = offset;
        todo!()
    }
}

impl Clone for Frame {
    fn clone(&self) -> Self {
        todo!()
    }
}

/// Frames in the machine.
#[must_use]
pub fn total() -> usize {
    todo!()
}

/// Frames free now.
#[must_use]
pub fn free() -> usize {
    todo!()
}
