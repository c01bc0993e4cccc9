//! Device registers: physical ranges outside RAM, mapped uncached into the kernel half.

use core::ptr::NonNull;

use crate::addr::PhysAddr;

/// Maps `len` bytes of device registers at `phys` (any alignment; whole pages are mapped), for
/// good. Mapping a page a second time gives the same address. `None` when there is no room, as
/// on the host.
#[cfg(not(target_os = "none"))]
pub(crate) fn map(phys: PhysAddr, len: usize) -> Option<NonNull<u8>> {
    let _ = (phys, len);
    None
}

/// The physical address of a byte of the kernel's own memory (a frame's, or the heap's), for
/// devices to reach it by. What follows it in the same allocation follows it there too. On the
/// host, where it is.
#[cfg(not(target_os = "none"))]
pub(crate) fn phys_of(byte: NonNull<u8>) -> PhysAddr {
    PhysAddr(byte.addr().get() as u64)
}
