//! Device registers get addresses one after another in a part of the kernel half of their own.

use core::ptr::NonNull;

use crate::addr::{PAGE_SIZE, PhysAddr};
use crate::frame::allocator;
use crate::heap::Vec;
use crate::sync::IrqLock;
use crate::x86::{features, layout, paging};

#[derive(Debug)]
struct Windows {
    mapped: Vec<Window>,
    next: u64,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    phys: u64,
    len: u64,
    at: u64,
}

static WINDOWS: IrqLock<Windows> = IrqLock::new(Windows {
    mapped: Vec::new(),
    next: layout::MMIO_START,
});

/// Maps `len` bytes of device registers at `phys` (any alignment; whole pages are mapped), for
/// good. Mapping a page a second time gives the same address. `None` when there is no room, when the CPU has no
/// such address, and when it is RAM of the allocator's: where a device or a table says that its registers are is
/// a claim.
pub(crate) fn map(phys: PhysAddr, len: usize) -> Option<NonNull<u8>> {
    let start = phys.0 & !(PAGE_SIZE as u64 - 1);
    let end = phys
        .0
        .checked_add(len.max(1) as u64)?
        .checked_next_multiple_of(PAGE_SIZE as u64)?;
    if end > features::physical_end() || is_memory(start, end) {
        return None;
    }
    let mut windows = WINDOWS.lock();
    let known = windows
        .mapped
        .iter()
        .find(|window| window.phys <= start && end <= window.phys + window.len)
        .map(|window| window.at + (start - window.phys));
    let at = match known {
        Some(at) => at,
        None => windows.add(start, end - start)?,
    };
    let address = (at + (phys.0 - start)) as usize;
    NonNull::new(core::ptr::with_exposed_provenance_mut(address))
}

/// Whether a byte of a range is the allocator's, or the image's.
fn is_memory(start: u64, end: u64) -> bool {
    let (image, at) = (layout::image(), layout::image_phys());
    let is_image = start < at + (image.end - image.start) && at < end;
    is_image || allocator::is_ram(PhysAddr(start), PhysAddr(end))
}

impl Windows {
    fn add(&mut self, phys: u64, len: u64) -> Option<u64> {
        let at = self.next;
        if len > layout::MMIO_END - at {
            return None;
        }
        self.mapped.try_reserve(1).ok()?;
        paging::map_kernel(at, phys, len, paging::REGISTERS).ok()?;
        self.next += len;
        self.mapped.try_push(Window { phys, len, at }).ok()?;
        Some(at)
    }
}
