//! The page table that a CPU loads, and telling CPUs what to forget of it. What is in it is its [`super::Mapper`]'s.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::counts::bare::{self as counts, Counts};
use crate::addr::{PAGE_SIZE, PhysAddr};
use crate::frame::{Frame, Kind, LargeFrame, OutOfMemory};
use crate::heap;
use crate::interrupt::InterruptsOff;
use crate::x86::{paging, percpu, tlb};

/// Up to this many pages are invalidated one by one.
const FEW_PAGES: u64 = 16;

/// The page table of one user address space.
#[derive(Debug)]
pub struct PageTable {
    pub(super) root: PhysAddr,
    /// The CPUs on which it is loaded, a bit each; some may be lazy (see [`PageTable::deactivate`]).
    cpus: AtomicU64,
    /// Flushes that were begun, and those that are done, for CPUs that were not told because they were lazy. One
    /// that is going on when a CPU becomes lazy may find it so and not tell it.
    flushes: AtomicU64,
    flushes_done: AtomicU64,
    pub(super) counts: Counts,
    /// Pages of 2 MiB.
    pub(super) large_pages: AtomicUsize,
}

impl PageTable {
    /// An empty user half.
    pub(super) fn new() -> Result<Arc<PageTable>, OutOfMemory> {
        let root = Frame::alloc_zeroed()?;
        root.set_kind(Kind::PageTable);
        let root = root.into_phys();
        paging::share_kernel_half(root);
        // On failure the drop frees the root.
        heap::try_arc(PageTable {
            root,
            cpus: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
            flushes_done: AtomicU64::new(0),
            counts: Counts::new(),
            large_pages: AtomicUsize::new(0),
        })
    }

    /// How many pages it has.
    #[must_use]
    pub fn resident(&self) -> usize {
        self.counts.sum().pages()
    }

    /// How many of them are pages of files, shared memory among them.
    #[must_use]
    pub fn file_pages(&self) -> usize {
        self.counts.sum().files()
    }

    /// Entries of all page tables that are pages of files.
    #[must_use]
    pub fn all_file_pages() -> usize {
        counts::all_file_pages()
    }

    /// How many pages of 2 MiB it has.
    #[must_use]
    pub fn large_pages(&self) -> usize {
        self.large_pages.load(Ordering::Relaxed)
    }

    /// Pages of 2 MiB of all page tables, each once however many share it.
    #[must_use]
    pub fn all_large_pages() -> usize {
        LargeFrame::count()
    }

    /// Makes this the table of the CPU this runs on; it stays alive as long as it is.
    pub fn activate(self: &Arc<Self>) {
        switch(Arc::clone(self));
    }

    /// No user memory is used on this CPU from now on. What is loaded stays so, lazily: the CPU most often comes
    /// back to it. It is not told of flushes meanwhile but looks whether there was one ([`go_on`]).
    pub fn deactivate() {
        let _off = InterruptsOff::new();
        let area = percpu::here();
        if area.is_lazy.load(Ordering::Relaxed) {
            // What it missed since it is so, it still has to look for.
            return;
        }
        if let Some(table) = area.active.borrow().as_ref() {
            let seen = table.flushes_done.load(Ordering::SeqCst);
            area.flushes_seen.set(seen);
            area.is_lazy.store(true, Ordering::Release);
        }
    }

    /// Makes every CPU that uses this table forget `pages` pages from `addr`.
    pub(super) fn flush(&self, addr: u64, pages: u64) {
        // Before the look at who is lazy, and a fence between the change of entries and that look.
        self.flushes.fetch_add(1, Ordering::SeqCst);
        self.flush_here(addr, pages);
        let loaded = self.cpus.load(Ordering::SeqCst);
        tlb::flush_others(tlb::without_lazy(loaded));
        self.flushes_done.fetch_add(1, Ordering::SeqCst);
    }

    /// As [`Self::flush`], and lazy CPUs too: tables are about to be freed, which a CPU may walk on its own
    /// initiative as long as it has their root loaded.
    pub(super) fn flush_everywhere(&self, addr: u64, pages: u64) {
        self.flushes.fetch_add(1, Ordering::SeqCst);
        self.flush_here(addr, pages);
        tlb::flush_others(self.cpus.load(Ordering::SeqCst));
        self.flushes_done.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn flush_here(&self, addr: u64, pages: u64) {
        let _off = InterruptsOff::new();
        if self.cpus.load(Ordering::SeqCst) & (1 << percpu::here().id()) == 0 {
            return;
        }
        if pages > FEW_PAGES {
            tlb::flush_here();
            return;
        }
        for page in 0..pages {
            paging::invalidate(addr + page * PAGE_SIZE as u64);
        }
    }
}

/// Loads another table on this CPU, then lets go of the one that was.
fn switch(next: Arc<PageTable>) {
    let off = InterruptsOff::new();
    let area = percpu::here();
    if go_on(area, &next) {
        return;
    }
    let bit = 1 << area.id();
    // Before it is loaded, so that no change goes untold.
    next.cpus.fetch_or(bit, Ordering::SeqCst);
    let root = next.root;
    if paging::current_root() != root {
        // SAFETY: `new` gave the root the kernel's half, and `active` keeps it until another is loaded.
        unsafe { paging::load_root(root) };
    }
    let previous = area.active.replace(Some(next));
    if let Some(table) = &previous
        && table.root != root
    {
        table.cpus.fetch_and(!bit, Ordering::SeqCst);
    }
    drop(off);
    drop(previous);
}

/// Ends being lazy. Whether `table` was loaded all the time, and is used again.
fn go_on(area: &percpu::Area, table: &Arc<PageTable>) -> bool {
    if !area.is_lazy.swap(false, Ordering::SeqCst) {
        return false;
    }
    let is_loaded = area
        .active
        .borrow()
        .as_ref()
        .is_some_and(|active| Arc::ptr_eq(active, table));
    if is_loaded && table.flushes.load(Ordering::SeqCst) != area.flushes_seen.get() {
        tlb::flush_here();
    }
    is_loaded
}

impl Drop for PageTable {
    fn drop(&mut self) {
        // SAFETY: no CPU has it loaded (`active` would keep it alive), and its mapper, which holds a reference, emptied
        // the user's half. The root is a frame that `into_phys` gave up.
        drop(unsafe { Frame::from_phys(self.root) });
    }
}
