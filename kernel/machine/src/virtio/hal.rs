//! Where `virtio-drivers` gets memory that devices can see: untyped frames, nothing else.

use core::ptr::NonNull;

use virtio_drivers::{BufferDirection, Hal, PhysAddr as DeviceAddr};

use crate::addr::PhysAddr;
use crate::frame::Frame;

/// The machine as `virtio-drivers` sees it: guest-physical addresses, no IOMMU.
#[derive(Debug)]
pub(super) struct Machine;

// SAFETY: `dma_alloc` hands out zeroed, page-aligned frames that nothing else has a handle to until
// `dma_dealloc`; `mmio_phys_to_virt` maps device registers for good.
unsafe impl Hal for Machine {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (DeviceAddr, NonNull<u8>) {
        // Rings of up to 128 entries fit a page each. Address 0 tells the caller that it failed.
        let frame = (pages == 1).then(Frame::alloc_zeroed).and_then(Result::ok);
        let Some(frame) = frame else {
            return (0, NonNull::dangling());
        };
        let at = frame.as_ptr();
        (frame.into_phys().0, at)
    }

    unsafe fn dma_dealloc(at: DeviceAddr, _virtual: NonNull<u8>, _pages: usize) -> i32 {
        // SAFETY: the caller passes what `dma_alloc` returned, once.
        drop(unsafe { Frame::from_phys(PhysAddr(at)) });
        0
    }

    unsafe fn mmio_phys_to_virt(at: DeviceAddr, size: usize) -> NonNull<u8> {
        crate::mmio::map(PhysAddr(at), size).unwrap_or(NonNull::dangling())
    }

    unsafe fn share(buffer: NonNull<[u8]>, _direction: BufferDirection) -> DeviceAddr {
        crate::mmio::phys_of(buffer.cast()).0
    }

    unsafe fn unshare(_at: DeviceAddr, _buffer: NonNull<[u8]>, _direction: BufferDirection) {}
}
