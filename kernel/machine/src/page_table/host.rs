//! Host double of a page table: a map from page address to frame, activated per host thread.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Perms;
use crate::addr::UserAddr;
use crate::frame::{Frame, OutOfMemory};

std::thread_local! {
    static ACTIVE: RefCell<Option<Arc<PageTable>>> = const { RefCell::new(None) };
}

type Pages = BTreeMap<u64, (Frame, Perms)>;

/// The page table of one user address space.
#[derive(Debug)]
pub struct PageTable(Mutex<Pages>);

impl PageTable {
    /// An empty user half.
    ///
    /// # Errors
    /// None on the host.
    pub fn new() -> Result<Arc<PageTable>, OutOfMemory> {
        Ok(Arc::new(PageTable(Mutex::new(BTreeMap::new()))))
    }

    /// Maps `frame` at the page of `addr`, in place of what was there.
    ///
    /// # Errors
    /// None on the host.
    pub fn map(&self, addr: UserAddr, frame: Frame, perms: Perms) -> Result<(), OutOfMemory> {
        assert!(
            addr < UserAddr::LIMIT,
            "mapping outside user space: {addr:?}"
        );
        self.pages().insert(addr.page_base().0, (frame, perms));
        Ok(())
    }

    /// For each of `pages` pages from `start` on that is not mapped, asks `frame(n)` for what to map
    /// there; `None` leaves it out. One walk. Returns how many were mapped.
    ///
    /// # Errors
    /// None on the host.
    pub fn fill(
        &self,
        start: UserAddr,
        pages: usize,
        perms: Perms,
        mut frame: impl FnMut(usize) -> Option<Frame>,
    ) -> Result<usize, OutOfMemory> {
        let mut mapped = 0;
        let mut table = self.pages();
        for n in 0..pages {
            let addr = start.0 + (n * crate::PAGE_SIZE) as u64;
            if !table.contains_key(&addr)
                && let Some(frame) = frame(n)
            {
                table.insert(addr, (frame, perms));
                mapped += 1;
            }
        }
        Ok(mapped)
    }

    /// How many pages are mapped.
    #[must_use]
    pub fn resident(&self) -> usize {
        self.pages().len()
    }

    /// How many pages are mapped in a page-aligned range.
    #[must_use]
    pub fn mapped(&self, range: Range<UserAddr>) -> usize {
        self.pages().range(range.start.0..range.end.0).count()
    }

    /// Removes every mapping in a page-aligned range, and drops the frames.
    pub fn unmap(&self, range: Range<UserAddr>) {
        let mut pages = self.pages();
        let mut rest = pages.split_off(&range.start.0);
        let mut behind = rest.split_off(&range.end.0);
        pages.append(&mut behind);
    }

    /// Sets the permissions of the pages that are mapped in a page-aligned range.
    pub fn protect(&self, range: Range<UserAddr>, perms: Perms) {
        for (_, page) in self.pages().range_mut(range.start.0..range.end.0) {
            page.1 = perms;
        }
    }

    /// Maps in `child` whatever is mapped here in the range, both sides read-only when
    /// `copy_on_write`, else with the same permissions.
    ///
    /// # Errors
    /// None on the host.
    pub fn share_with(
        &self,
        child: &PageTable,
        range: Range<UserAddr>,
        copy_on_write: bool,
    ) -> Result<(), OutOfMemory> {
        let mut shared = Vec::new();
        for (addr, page) in self.pages().range_mut(range.start.0..range.end.0) {
            if copy_on_write {
                page.1.remove(Perms::WRITE);
            }
            shared.push((*addr, page.clone()));
        }
        child.pages().extend(shared);
        Ok(())
    }

    /// The frame mapped at `addr` and its permissions.
    #[must_use]
    pub fn query(&self, addr: UserAddr) -> Option<(Frame, Perms)> {
        self.pages().get(&addr.page_base().0).cloned()
    }

    /// Moves the mappings of one page-aligned range to another of the same length (mremap).
    ///
    /// # Errors
    /// None on the host.
    pub fn relocate(&self, from: Range<UserAddr>, to: UserAddr) -> Result<(), OutOfMemory> {
        let mut pages = self.pages();
        let mut moved = pages.split_off(&from.start.0);
        let mut behind = moved.split_off(&from.end.0);
        pages.append(&mut behind);
        let shift = to.0.wrapping_sub(from.start.0);
        for (addr, page) in moved {
            pages.insert(addr.wrapping_add(shift), page);
        }
        Ok(())
    }

    /// Makes this the table of the calling thread.
    pub fn activate(self: &Arc<Self>) {
        ACTIVE.set(Some(Arc::clone(self)));
    }

    /// The calling thread has no user memory from now on.
    pub fn deactivate() {
        ACTIVE.set(None);
    }

    /// The table the calling thread activated.
    pub(crate) fn active() -> Option<Arc<PageTable>> {
        ACTIVE.with_borrow(Clone::clone)
    }

    /// Runs `act` on the writable page at `addr` while no other thread does the same.
    pub(crate) fn with_writable<R>(
        &self,
        addr: UserAddr,
        act: impl FnOnce(&Frame) -> R,
    ) -> Option<R> {
        let pages = self.pages();
        let (frame, perms) = pages.get(&addr.page_base().0)?;
        perms.contains(Perms::WRITE).then(|| act(frame))
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
