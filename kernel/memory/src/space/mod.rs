//! Address spaces: the areas of a process and the page table that shows what has been touched.
//!
//! One sleeping lock guards the areas and what is mapped. Faults share it; what takes pages or tables out has it
//! alone. It is held while pages are mapped, never while one is read in, and
//! nothing that may close a file is dropped under it ([`tree::Removed`]).

mod advise;
mod area;
mod attach;
mod change;
mod fault;
mod footprint;
mod fork;
mod heap;
mod limits;
mod lock;
mod map;
mod placement;
mod remap;
mod remote;
mod report;
mod request;
mod tree;

use alloc::sync::{Arc, Weak};
use core::convert::Infallible;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::{Errno, Result};
use machine::page_table::{Mapper, PageTable, Perms};
use machine::{Frame, PAGE_SIZE, UserAddr};

use crate::pressure::Freeing;
use placement::Bases;
use tree::AreaTree;

pub use area::{Area, AreaFlags, Prot};
pub use attach::{Attach, Attachment};
pub use fault::FaultError;
pub use footprint::Footprint;
pub use limits::Limits;
pub use report::{AreaInfo, Layout, Statistics};
pub use request::{MapRequest, Placement};

const PAGE: u64 = PAGE_SIZE as u64;
/// Bytes of a large page.
const LARGE_LEN: u64 = 512 * PAGE;

/// The memory of one process: areas, and the page table that shows what has been touched.
#[derive(Debug)]
pub struct AddressSpace {
    serial: u64,
    table: Arc<PageTable>,
    me: Weak<AddressSpace>,
    areas: sched::RwLock<Areas>,
    /// No large pages (`PR_SET_THP_DISABLE`).
    denies_large: AtomicBool,
}

/// What the area lock guards.
#[derive(Debug)]
struct Areas {
    tree: AreaTree,
    /// What has been touched of them.
    pages: Mapper,
    bases: Bases,
    layout: Layout,
    limits: Limits,
    /// What is mapped from now on is locked (`MCL_FUTURE`).
    locks_future: bool,
    /// The most bytes there have been.
    peak: u64,
    /// The most resident pages there were when some were last taken out.
    peak_resident: u64,
}

/// The address space of the calling thread.
#[must_use]
pub fn current() -> Option<Arc<AddressSpace>> {
    sched::thread::current().memory()?.downcast().ok()
}

impl AddressSpace {
    /// An empty one; `randomize` places stack, mappings, brk and PIE at random (ASLR).
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(randomize: bool) -> Result<Arc<AddressSpace>> {
        Self::with(Areas {
            tree: AreaTree::default(),
            pages: new_mapper()?,
            bases: Bases::new(randomize),
            layout: Layout::default(),
            limits: Limits::default(),
            locks_future: false,
            peak: 0,
            peak_resident: 0,
        })
    }

    fn with(areas: Areas) -> Result<Arc<AddressSpace>> {
        let table = areas.pages.table().clone();
        let areas = sched::RwLock::new(areas);
        Ok(collections::try_arc_cyclic(|me| AddressSpace {
            serial: crate::serial::new(),
            table,
            me: me.clone(),
            areas,
            denies_large: AtomicBool::new(false),
        })?)
    }

    /// A number that no other address space or mapping ever has: an address is used again.
    #[must_use]
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Whether it gets no large pages (prctl(2), `PR_GET_THP_DISABLE`).
    #[must_use]
    pub fn denies_large(&self) -> bool {
        self.denies_large.load(Ordering::Relaxed)
    }

    /// Sets that (`PR_SET_THP_DISABLE`). What is there stays.
    pub fn set_denies_large(&self, denies: bool) {
        self.denies_large.store(denies, Ordering::Relaxed);
    }

    /// Its page table: [`sched::Thread::set_page_table`].
    #[must_use]
    pub fn page_table(&self) -> &Arc<PageTable> {
        &self.table
    }

    /// One past the top of the stack: page-aligned, placed at random when it is to be.
    #[must_use]
    pub fn stack_top(&self) -> UserAddr {
        self.areas.read().bases.stack_top()
    }

    /// Where a position-independent program is loaded: the address of its first page.
    #[must_use]
    pub fn pie_base(&self) -> UserAddr {
        self.areas.read().bases.pie_base()
    }

    /// Sets the limits it enforces (`RLIMIT_AS`, `RLIMIT_DATA`, `RLIMIT_STACK`, `RLIMIT_MEMLOCK`).
    pub fn set_limits(&self, limits: Limits) {
        let mut areas = self.areas.write();
        areas.limits = limits;
        if areas.tree.is_empty() {
            areas.bases.make_room_for_stack(limits.stack);
        }
    }

    /// Drops every mapping at once, as the last thread exits; a leftover reference costs little then.
    pub fn clear(&self) {
        let removed = {
            let _freeing = Freeing::new();
            let mut areas = self.areas.write();
            self.note_peak(&mut areas);
            let bounds = areas.tree.bounds();
            unmap_pages(&mut areas.pages, bounds);
            areas.tree.take_all()
        };
        // Outside the lock: this may close files.
        for areas in removed {
            drop(areas);
            sched::cond_resched();
        }
    }
}

impl Drop for AddressSpace {
    fn drop(&mut self) {
        let areas = self.areas.get_mut();
        let range = areas.tree.bounds();
        if !range.is_empty() {
            let _freeing = Freeing::new();
            unmap_pages(&mut areas.pages, range);
        }
        areas.leave_sources(&self.me);
    }
}

impl Areas {
    /// Takes a space that goes out of the lists of what it maps, which keep its memory otherwise until they are pruned.
    fn leave_sources(&self, me: &Weak<AddressSpace>) {
        let mut last = core::ptr::null();
        for (_, area) in self.tree.iter() {
            // The areas of a program are often beside each other.
            if let Some(source) = &area.source
                && !core::ptr::addr_eq(Arc::as_ptr(source), last)
            {
                last = Arc::as_ptr(source).cast::<()>();
                if let Some(list) = source.mappings() {
                    list.remove(me);
                }
            }
            sched::cond_resched();
        }
    }
}

/// # Errors
/// `ENOMEM`.
fn new_mapper() -> Result<Mapper> {
    crate::pressure::ensure_headroom()?;
    Mapper::new().map_err(|_| Errno::ENOMEM)
}

/// Takes the pages of a range out.
fn unmap_pages(pages: &mut Mapper, range: Range<u64>) {
    let Ok(()) = by_parts::<Infallible>(range, |part| Ok(pages.unmap(part)));
}

/// Sets what is allowed for the pages of a range.
fn protect_pages(pages: &mut Mapper, range: Range<u64>, perms: Perms) {
    let Ok(()) = by_parts::<Infallible>(range, |part| Ok(pages.protect(part, perms)));
}

/// The part of a loop over a range that a call of the page table did; the CPU may be given away in between.
fn by_parts<E>(
    range: Range<u64>,
    mut part: impl FnMut(Range<UserAddr>) -> core::result::Result<UserAddr, E>,
) -> core::result::Result<(), E> {
    let mut start = range.start;
    while start < range.end {
        start = part(addresses(start..range.end))?.0;
        sched::cond_resched();
    }
    Ok(())
}

/// A page-aligned, non-empty range of user addresses.
///
/// # Errors
/// `EINVAL` when `addr` is not page-aligned; `overflow` when the range leaves user space.
fn page_range(addr: UserAddr, len: u64, overflow: Errno) -> Result<Range<u64>> {
    if !addr.is_page_aligned() {
        return Err(Errno::EINVAL);
    }
    let end = round_up(len)
        .and_then(|len| addr.0.checked_add(len))
        .ok_or(overflow)?;
    if end > UserAddr::LIMIT.0 {
        Err(overflow)
    } else {
        Ok(addr.0..end)
    }
}

/// The pages that `len` bytes from `addr` on touch, as mlock(2), msync(2) and madvise(2) take it: a length that
/// wraps when rounded up is none at all, and what is beyond user space is not mapped.
///
/// # Errors
/// `EINVAL` when `addr` is not page-aligned or the range wraps.
fn wrapping_range(addr: UserAddr, len: u64) -> Result<Range<u64>> {
    if !addr.is_page_aligned() {
        return Err(Errno::EINVAL);
    }
    let len = len.wrapping_add(PAGE - 1) & !(PAGE - 1);
    let end = addr.0.checked_add(len).ok_or(Errno::EINVAL)?;
    Ok(addr.0..end)
}

/// `len` rounded up to whole pages.
const fn round_up(len: u64) -> Option<u64> {
    match len.checked_add(PAGE - 1) {
        Some(len) => Some(len & !(PAGE - 1)),
        None => None,
    }
}

const fn addresses(range: Range<u64>) -> Range<UserAddr> {
    UserAddr(range.start)..UserAddr(range.end)
}

/// Pages in a range, as an index type.
fn page_count(range: &Range<u64>) -> usize {
    usize::try_from((range.end - range.start) / PAGE).unwrap_or(usize::MAX)
}

/// The frame that untouched anonymous memory shows to readers.
///
/// # Errors
/// `ENOMEM` when there was none for it yet.
fn zero_frame() -> Result<&'static Frame> {
    static ZERO: spin::Once<Frame> = spin::Once::new();
    ZERO.try_call_once(|| Frame::alloc_zeroed().map_err(|_| Errno::ENOMEM))
}

#[cfg(test)]
mod tests;
