//! Host double of a page table and its mapper: a map from page address to frame, activated per host thread.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Perms;
use crate::addr::{PAGE_SIZE, UserAddr};
use crate::frame::{Frame, Kind, LargeFrame, OutOfMemory};

std::thread_local! {
    static ACTIVE: RefCell<Option<Arc<PageTable>>> = const { RefCell::new(None) };
}

/// What one call over a range does: little, so that tests see callers go on.
const BOUND: u64 = 7 * PAGE_SIZE as u64;

type Pages = BTreeMap<u64, (Frame, Perms)>;

/// The page table of one user address space.
#[derive(Debug)]
pub struct PageTable(Mutex<Pages>);

/// What changes a page table: there is one of it.
#[derive(Debug)]
pub struct Mapper(Arc<PageTable>);

/// What is mapped at an address.
#[derive(Debug)]
pub struct Mapped {
    /// The page's frame.
    pub frame: Frame,
    /// What may be done with it.
    pub perms: Perms,
    /// For a page in a large one, how many other page tables share that: there is none.
    pub large: Option<usize>,
}

/// Of `perms` what a page gives: boot memory is constant.
fn granted(frame: &Frame, perms: Perms) -> Perms {
    if frame.is_boot_memory() {
        perms - Perms::WRITE
    } else {
        perms
    }
}

impl Mapper {
    /// Of a new page table, with an empty user half.
    ///
    /// # Errors
    /// None on the host.
    pub fn new() -> Result<Mapper, OutOfMemory> {
        Ok(Mapper(Arc::new(PageTable(Mutex::new(BTreeMap::new())))))
    }

    /// The page table.
    #[must_use]
    pub fn table(&self) -> &Arc<PageTable> {
        &self.0
    }

    /// Maps `new` at the page of `addr` in place of `old`, if that is mapped there and may not be stored to.
    /// Whether it was.
    pub fn replace(&self, addr: UserAddr, old: &Frame, new: Frame, perms: Perms) -> bool {
        let mut pages = self.0.pages();
        let Some(page) = pages.get_mut(&addr.page_base().0) else {
            return false;
        };
        let may_go = page.0.phys() == old.phys() && !page.1.contains(Perms::WRITE);
        if may_go {
            let perms = granted(&new, perms);
            *page = (new, perms);
        }
        may_go
    }

    /// Takes the page at `addr` out.
    pub fn unmap_page(&self, addr: UserAddr) {
        self.0.pages().remove(&addr.page_base().0);
    }

    /// Maps the frames of `frames` at the pages from `start` on, but for those that have a page already;
    /// what is mapped is taken out of `frames`. Returns how many were mapped.
    ///
    /// # Errors
    /// None on the host.
    pub fn fill(
        &self,
        start: UserAddr,
        frames: &mut [Option<Frame>],
        perms: Perms,
    ) -> Result<usize, OutOfMemory> {
        let mut mapped = 0;
        let mut table = self.0.pages();
        for (n, frame) in frames.iter_mut().enumerate() {
            let addr = start.0 + (n * PAGE_SIZE) as u64;
            if !table.contains_key(&addr)
                && let Some(frame) = frame.take()
            {
                let perms = granted(&frame, perms);
                table.insert(addr, (frame, perms));
                mapped += 1;
            }
        }
        Ok(mapped)
    }

    /// Maps a large frame: the host has none.
    ///
    /// # Errors
    /// None.
    pub fn fill_large(
        &self,
        addr: UserAddr,
        frame: LargeFrame,
        perms: Perms,
    ) -> Result<bool, OutOfMemory> {
        let _ = (addr, frame, perms);
        Ok(false)
    }

    /// Whether a large page can be mapped at `addr`: none can.
    #[must_use]
    pub fn is_vacant(&self, addr: UserAddr) -> bool {
        let _ = addr;
        false
    }

    /// Sets the permissions of the page at `addr`.
    pub fn protect_page(&self, addr: UserAddr, perms: Perms) {
        if let Some(page) = self.0.pages().get_mut(&addr.page_base().0) {
            page.1 = perms;
        }
    }

    /// How many pages it has in a page-aligned range.
    #[must_use]
    pub fn mapped(&self, range: Range<UserAddr>) -> usize {
        self.0.pages().range(range.start.0..range.end.0).count()
    }

    /// What is mapped at `addr`.
    #[must_use]
    pub fn query(&self, addr: UserAddr) -> Option<Mapped> {
        let (frame, perms) = self.0.page(addr)?;
        Some(Mapped {
            frame,
            perms,
            large: None,
        })
    }

    /// Takes the pages of the first part of a page-aligned range out. Returns the part's end.
    pub fn unmap(&mut self, range: Range<UserAddr>) -> UserAddr {
        let part = part_of(range);
        let mut pages = self.0.pages();
        let mut rest = pages.split_off(&part.start.0);
        let mut behind = rest.split_off(&part.end.0);
        pages.append(&mut behind);
        part.end
    }

    /// Sets the permissions of the pages in the first part of a page-aligned range. Returns the part's end.
    pub fn protect(&mut self, range: Range<UserAddr>, perms: Perms) -> UserAddr {
        let part = part_of(range);
        for (_, page) in self.0.pages().range_mut(part.start.0..part.end.0) {
            page.1 = granted(&page.0, perms);
        }
        part.end
    }

    /// Maps in `child` whatever pages are here in the first part of the range, both sides read-only. Returns
    /// the part's end.
    ///
    /// # Errors
    /// None on the host.
    pub fn share_with(
        &mut self,
        child: &mut Mapper,
        range: Range<UserAddr>,
    ) -> Result<UserAddr, OutOfMemory> {
        let part = part_of(range);
        let mut shared = Vec::new();
        for (addr, page) in self.0.pages().range_mut(part.start.0..part.end.0) {
            page.1.remove(Perms::WRITE);
            shared.push((*addr, page.clone()));
        }
        child.0.pages().extend(shared);
        Ok(part.end)
    }

    /// Whether user code used a page in the range since this was last asked: unknown to the double.
    #[must_use]
    pub fn take_accessed(&mut self, range: Range<UserAddr>) -> bool {
        let _ = range;
        false
    }

    /// Moves the pages of the first part of a page-aligned range to where `shift` (wrapping) takes them;
    /// nothing may be there. Returns the part's end.
    ///
    /// # Errors
    /// None on the host.
    pub fn relocate(&mut self, from: Range<UserAddr>, shift: u64) -> Result<UserAddr, OutOfMemory> {
        let part = part_of(from);
        let mut pages = self.0.pages();
        let mut moved = pages.split_off(&part.start.0);
        let mut behind = moved.split_off(&part.end.0);
        pages.append(&mut behind);
        for (addr, page) in moved {
            let to = UserAddr(addr.wrapping_add(shift));
            assert!(to < UserAddr::LIMIT, "mapping outside user space: {to:?}");
            let old = pages.insert(to.0, page);
            assert!(old.is_none(), "a page moves to {to:?}, where one is");
        }
        Ok(part.end)
    }
}

impl PageTable {
    /// How many pages it has.
    #[must_use]
    pub fn resident(&self) -> usize {
        self.pages().len()
    }

    /// How many of them are pages of files, shared memory among them.
    #[must_use]
    pub fn file_pages(&self) -> usize {
        let is_file = |frame: &Frame| matches!(frame.kind(), Kind::File | Kind::Shmem);
        let pages = self.pages();
        pages.values().filter(|(frame, _)| is_file(frame)).count()
    }

    /// Entries of all page tables that are pages of files: not counted by the double.
    #[must_use]
    pub fn all_file_pages() -> usize {
        0
    }

    /// How many pages of 2 MiB it has: none.
    #[must_use]
    pub fn large_pages(&self) -> usize {
        0
    }

    /// Pages of 2 MiB of all page tables: none.
    #[must_use]
    pub fn all_large_pages() -> usize {
        0
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

    fn page(&self, addr: UserAddr) -> Option<(Frame, Perms)> {
        self.pages().get(&addr.page_base().0).cloned()
    }

    /// The frame at `addr`, where user code may read.
    pub(crate) fn readable(&self, addr: UserAddr) -> Option<Frame> {
        let (frame, perms) = self.page(addr)?;
        (!perms.contains(Perms::NO_ACCESS)).then_some(frame)
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

fn part_of(range: Range<UserAddr>) -> Range<UserAddr> {
    let is_short = range.end.0 - range.start.0 <= BOUND;
    let end = if is_short || range.end.0 - range.start.0 > 1 << 40 {
        range.end
    } else {
        UserAddr(range.start.0 + BOUND)
    };
    range.start..end
}
