//! Address spaces: the areas of a process and the page table that shows what has been touched.
//!
//! One sleeping lock guards the areas. It is held while pages are mapped, never while one is read in, and
//! nothing that may close a file is dropped under it ([`tree::Removed`]).

mod advise;
mod area;
mod change;
mod fault;
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
mod set_aside;
mod tree;

use alloc::sync::{Arc, Weak};
use core::ops::Range;

use abi::{Errno, Result};
use machine::page_table::PageTable;
use machine::{Frame, PAGE_SIZE, UserAddr};

use placement::Bases;
use set_aside::SetAside;
use tree::AreaTree;

pub use area::{Area, AreaFlags, Prot};
pub use fault::FaultError;
pub use limits::Limits;
pub use report::{AreaInfo, Layout, Statistics};
pub use request::{MapRequest, Placement};

const PAGE: u64 = PAGE_SIZE as u64;

/// The memory of one process: areas, and the page table that shows what has been touched.
#[derive(Debug)]
pub struct AddressSpace {
    table: Arc<PageTable>,
    me: Weak<AddressSpace>,
    areas: sched::Mutex<Areas>,
}

/// What the area lock guards.
#[derive(Debug)]
struct Areas {
    tree: AreaTree,
    bases: Bases,
    layout: Layout,
    limits: Limits,
    /// Pages of areas that may not be accessed at all just now.
    set_aside: SetAside,
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
            bases: Bases::new(randomize),
            layout: Layout::default(),
            limits: Limits::default(),
            set_aside: SetAside::default(),
            locks_future: false,
            peak: 0,
            peak_resident: 0,
        })
    }

    fn with(areas: Areas) -> Result<Arc<AddressSpace>> {
        crate::pressure::ensure_headroom()?;
        let table = PageTable::new().map_err(|_| Errno::ENOMEM)?;
        let areas = sched::Mutex::new(areas);
        Ok(Arc::new_cyclic(|me| AddressSpace {
            table,
            me: me.clone(),
            areas,
        }))
    }

    /// Its page table: [`sched::Thread::set_page_table`].
    #[must_use]
    pub fn page_table(&self) -> &Arc<PageTable> {
        &self.table
    }

    /// One past the top of the stack: page-aligned, placed at random when it is to be.
    #[must_use]
    pub fn stack_top(&self) -> UserAddr {
        self.areas.lock().bases.stack_top()
    }

    /// Where a position-independent program is loaded: the address of its first page.
    #[must_use]
    pub fn pie_base(&self) -> UserAddr {
        self.areas.lock().bases.pie_base()
    }

    /// Sets the limits it enforces (`RLIMIT_AS`, `RLIMIT_DATA`, `RLIMIT_STACK`, `RLIMIT_MEMLOCK`).
    pub fn set_limits(&self, limits: Limits) {
        let mut areas = self.areas.lock();
        areas.limits = limits;
        if areas.tree.is_empty() {
            areas.bases.make_room_for_stack(limits.stack);
        }
    }

    /// Drops every mapping at once, as the last thread exits; a leftover reference costs little then.
    pub fn clear(&self) {
        let removed = {
            let mut areas = self.areas.lock();
            self.note_peak(&mut areas);
            areas.set_aside.clear();
            let removed = areas.tree.take_all();
            if let (Some((first, _)), Some((_, last))) = (removed.first(), removed.last()) {
                self.table.unmap(addresses(*first..last.end));
            }
            removed
        };
        // Outside the lock: this may close files.
        drop(removed);
    }
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
