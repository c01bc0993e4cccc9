//! Where the frames' metadata is: an array in virtual memory indexed by frame number, of which the pages that
//! are needed are mapped.
//!
//! Locking: `populate` runs under the allocator's lock; it maps for itself, because the tables it needs come from
//! where the frames come from. Mapped pages stay.

use core::sync::atomic::Ordering;

use super::bytes;
use super::meta::Meta;
use super::zone::MetaMemory;
use crate::addr::{PAGE_SIZE, PhysAddr};
use crate::page_table::bits;
use crate::x86::{layout, paging};

/// The metadata of all frames.
#[derive(Debug)]
pub(super) struct Vmemmap;

impl MetaMemory for Vmemmap {
    fn meta(&self, number: usize) -> &Meta {
        meta(number)
    }

    fn populate(&self, first: usize, take: &mut dyn FnMut() -> Option<(usize, bool)>) -> bool {
        map_page(address(first), take).is_some()
    }
}

/// The metadata of a frame that the allocator knows: one that was given out, or is in its lists.
pub(super) fn meta(number: usize) -> &'static Meta {
    let meta: *const Meta = core::ptr::with_exposed_provenance(address(number) as usize);
    // SAFETY: callers have the number from a frame's handle or from the zone, which populated the page that its
    // metadata is in; pages stay mapped. `Meta` is atomics, valid when zero.
    unsafe { &*meta }
}

/// Whether a frame has metadata.
pub(super) fn has_meta(number: usize) -> bool {
    let most = (layout::VMEMMAP_END - layout::VMEMMAP_START) as usize / size_of::<Meta>();
    number < most && paging::kernel_translate(address(number)).is_some()
}

fn address(number: usize) -> u64 {
    layout::VMEMMAP_START + (number * size_of::<Meta>()) as u64
}

/// Maps a page of zeroes at `virt` unless one is there, with frames from `take` for it and for the tables above it.
fn map_page(virt: u64, take: &mut dyn FnMut() -> Option<(usize, bool)>) -> Option<()> {
    let mut table = paging::kernel_root();
    for level in (1..=4).rev() {
        let entry = paging::entry(table, bits::index(virt, level));
        let value = entry.load(Ordering::Acquire);
        if value & bits::PRESENT != 0 {
            table = PhysAddr(value & bits::ADDRESS);
            continue;
        }
        let made = zeroed(take)?;
        let flags = if level == 1 {
            paging::DATA
        } else {
            bits::PRESENT | bits::WRITE
        };
        entry.store(made.0 | flags, Ordering::Release);
        table = made;
    }
    Some(())
}

fn zeroed(take: &mut dyn FnMut() -> Option<(usize, bool)>) -> Option<PhysAddr> {
    let (number, is_zero) = take()?;
    let phys = PhysAddr((number * PAGE_SIZE) as u64);
    if !is_zero {
        bytes::clear_page(core::ptr::NonNull::new(layout::at(phys))?);
    }
    Some(phys)
}
