//! Where the frames' metadata is: an array in virtual memory indexed by frame number, of which the pages that
//! are needed are mapped. The direct map grows with it by whole GiB where boot left some out.
//!
//! Locking: `populate` runs under the allocator's lock; it maps for itself, because the tables it needs come from
//! where the frames come from. Mapped pages stay.

use core::sync::atomic::{AtomicU64, Ordering};

use super::bytes;
use super::meta::Meta;
use super::zone::MetaMemory;
use crate::addr::{PAGE_SIZE, PhysAddr};
use crate::page_table::bits;
use crate::x86::{layout, paging};

/// The level whose entries span a GiB.
const GIB_LEVEL: u32 = 3;

/// The metadata of all frames.
#[derive(Debug)]
pub(super) struct Vmemmap;

impl MetaMemory for Vmemmap {
    fn meta(&self, number: usize) -> &Meta {
        meta(number)
    }

    fn populate(&self, first: usize, take: &mut dyn FnMut() -> Option<(usize, bool)>) -> bool {
        map_ram(first, take).is_some() && map_page(address(first), take).is_some()
    }
}

/// The metadata of a frame that the allocator knows: one that was given out, or is in its lists.
pub(super) fn meta(number: usize) -> &'static Meta {
    let meta: *const Meta = core::ptr::with_exposed_provenance(address(number) as usize);
    // SAFETY: callers have the number from a frame's handle or from the zone, which populated the page that its
    // metadata is in; pages stay mapped. `Meta` is atomics, valid when zero.
    unsafe { &*meta }
}

fn address(number: usize) -> u64 {
    layout::VMEMMAP_START + (number * size_of::<Meta>()) as u64
}

/// Maps the GiB of RAM around a frame in the direct map unless that is done: boot does it where RAM begins and ends, so
/// that a GiB which is missing is RAM from end to end (see `boot::ranges`).
fn map_ram(number: usize, take: &mut dyn FnMut() -> Option<(usize, bool)>) -> Option<()> {
    let phys = (number * PAGE_SIZE) as u64;
    let entry = entry_for(layout::direct_map() + phys, GIB_LEVEL, take)?;
    if entry.load(Ordering::Acquire) & bits::PRESENT != 0 {
        return Some(());
    }
    let (table, step) = (zeroed(take)?, bits::span(GIB_LEVEL - 1));
    let start = phys & !(bits::span(GIB_LEVEL) - 1);
    for (index, page) in (0..bits::ENTRIES).zip((start..).step_by(step as usize)) {
        let value = page | paging::DATA | bits::LARGE;
        paging::entry(table, index).store(value, Ordering::Relaxed);
    }
    entry.store(table.0 | bits::PRESENT | bits::WRITE, Ordering::Release);
    Some(())
}

/// Maps a page of zeroes at `virt` unless one is there, with frames from `take` for it and for the tables above it.
fn map_page(virt: u64, take: &mut dyn FnMut() -> Option<(usize, bool)>) -> Option<()> {
    let entry = entry_for(virt, 1, take)?;
    if entry.load(Ordering::Acquire) & bits::PRESENT == 0 {
        entry.store(zeroed(take)?.0 | paging::DATA, Ordering::Release);
    }
    Some(())
}

/// The entry of `level` for `virt`, with the tables above it made of frames from `take`. The root's entries are there.
fn entry_for(
    virt: u64,
    level: u32,
    take: &mut dyn FnMut() -> Option<(usize, bool)>,
) -> Option<&'static AtomicU64> {
    let mut table = paging::kernel_root();
    for above in (level + 1..=bits::ROOT).rev() {
        let entry = paging::entry(table, bits::index(virt, above));
        let value = entry.load(Ordering::Acquire);
        table = if value & bits::PRESENT != 0 {
            PhysAddr(value & bits::ADDRESS)
        } else {
            let made = zeroed(take)?;
            entry.store(made.0 | bits::PRESENT | bits::WRITE, Ordering::Release);
            made
        };
    }
    Some(paging::entry(table, bits::index(virt, level)))
}

fn zeroed(take: &mut dyn FnMut() -> Option<(usize, bool)>) -> Option<PhysAddr> {
    let (number, is_zero) = take()?;
    let phys = PhysAddr((number * PAGE_SIZE) as u64);
    if !is_zero {
        bytes::clear_page(core::ptr::NonNull::new(layout::at(phys))?);
    }
    Some(phys)
}
