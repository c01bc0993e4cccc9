//! Device registers: physical ranges outside RAM, mapped uncached into the kernel half.

use core::ptr::NonNull;

use crate::addr::PhysAddr;

/// Maps `len` bytes of device registers at `phys` (any alignment; whole pages are mapped), for
/// good. Mapping a page a second time gives the same address. `None` when there is no room.
pub(crate) fn map(phys: PhysAddr, len: usize) -> Option<NonNull<u8>> {
    let _ = (phys, len);
    todo!()
}

/// The physical address of a byte of the kernel's own memory (a frame's, or the heap's), for
/// devices to reach it by. What follows it in the same allocation follows it there too.
pub(crate) fn phys_of(byte: NonNull<u8>) -> PhysAddr {
    let _ = byte;
    todo!()
}
