//! User page tables in memory: each entry that maps a page owns a handle to its frame.
//!
//! Locking: `lock` of a page table for its tree; of parent and child, the parent's first. Under it only the spare
//! tables and the frame allocator are locked; nothing is asked of other CPUs. What a change removed is dropped
//! with the lock released, after every CPU that may know it has been told.

use alloc::sync::Arc;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::Perms;
use super::bits::{BOOT_MEMORY, LARGE, index, is_used, perms_of};
use super::entry::{another_handle, entry_for, frame_of, large_frame_of, maps, with_perms};
use super::gather::Gather;
use super::spare::Memory;
use super::tree::{Leaf, Tree, Visit};
use crate::addr::{PAGE_SIZE, UserAddr};
use crate::frame::{Frame, Kind, OutOfMemory};
use crate::heap;
use crate::interrupt::InterruptsOff;
use crate::sync::SpinLock;
use crate::x86::{paging, percpu, tlb};

/// Up to this many pages are invalidated one by one.
const FEW_PAGES: u64 = 16;
/// Entries that one call changes: some 100,000 instructions.
const BOUND: usize = 4096;

/// The page table of one user address space.
#[derive(Debug)]
pub struct PageTable {
    pub(super) tree: Tree<Memory>,
    pub(super) lock: SpinLock<()>,
    /// The CPUs on which it is loaded, a bit each; some may be lazy (see [`PageTable::deactivate`]).
    cpus: AtomicU64,
    /// Flushes that were begun, and those that are done, for CPUs that were not told because they were lazy. One
    /// that is going on when a CPU becomes lazy may find it so and not tell it.
    flushes: AtomicU64,
    flushes_done: AtomicU64,
    /// Pages that it has. Changes under `lock`.
    resident: AtomicUsize,
    /// Those of them that are pages of files.
    file_pages: AtomicUsize,
    /// Pages of 2 MiB.
    pub(super) large_pages: AtomicUsize,
}

/// [`PageTable::file_pages`] of all page tables.
static FILE_PAGES: AtomicUsize = AtomicUsize::new(0);
/// [`PageTable::large_pages`] of all page tables.
pub(super) static LARGE_PAGES: AtomicUsize = AtomicUsize::new(0);

/// 1 for a page of a file or of shared memory, and for boot memory, which files are in.
fn count_file(entry: u64, frame: &Frame) -> usize {
    let is_file = entry & BOOT_MEMORY != 0 || matches!(frame.kind(), Kind::File | Kind::Shmem);
    usize::from(is_file)
}

impl PageTable {
    /// An empty user half.
    ///
    /// # Errors
    /// [`OutOfMemory`] when no frame is free for the root.
    pub fn new() -> Result<Arc<PageTable>, OutOfMemory> {
        let root = Frame::alloc_zeroed()?;
        root.set_kind(Kind::PageTable);
        let root = root.into_phys();
        paging::share_kernel_half(root);
        // On failure the drop frees the root.
        heap::try_arc(PageTable {
            tree: Tree {
                memory: Memory,
                root,
            },
            lock: SpinLock::new(()),
            cpus: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
            flushes_done: AtomicU64::new(0),
            resident: AtomicUsize::new(0),
            file_pages: AtomicUsize::new(0),
            large_pages: AtomicUsize::new(0),
        })
    }

    /// Maps `new` at the page of `addr` in place of `old`, if that is mapped there and may not be stored to.
    /// Whether it was.
    pub fn replace(&self, addr: UserAddr, old: &Frame, new: Frame, perms: Perms) -> bool {
        let guard = self.lock.lock();
        let page = addr.page_base();
        self.split_ends(&(page..UserAddr(page.0 + PAGE_SIZE as u64)));
        let found = self
            .tree
            .find(addr.0)
            .filter(|leaf| !perms_of(leaf.value).contains(Perms::WRITE) && maps(leaf.value, old));
        let Some(leaf) = found else {
            return false;
        };
        let came = entry_for_counted(new, perms);
        self.tree.replace(&leaf, came.0);
        drop(guard);
        if perms_of(leaf.value) != Perms::NO_ACCESS {
            self.flush(addr.page_base().0, 1);
        }
        // SAFETY: the entry that owned the handle is gone.
        let old = unsafe { frame_of(leaf.value) };
        self.add_file_pages(came.1.wrapping_sub(count_file(leaf.value, &old)));
        true
    }

    /// Maps the frames of `frames` at the pages from `start` on, but for those that have a page already.
    /// One walk; what is mapped is taken out of `frames`. Returns how many were mapped.
    ///
    /// # Errors
    /// [`OutOfMemory`] when no frame is free for a table.
    ///
    /// # Panics
    /// When the pages are not all in user space.
    pub fn fill(
        &self,
        start: UserAddr,
        frames: &mut [Option<Frame>],
        perms: Perms,
    ) -> Result<usize, OutOfMemory> {
        // The last table reaches one page further.
        let end = start.checked_add((frames.len() * PAGE_SIZE) as u64);
        assert!(
            end.is_some_and(|end| end <= UserAddr::LIMIT),
            "mapping outside user space: {start:?}"
        );
        let _guard = self.lock.lock();
        let mut filling = None;
        let mut mapped = 0;
        let mut files = 0;
        for (n, frame) in frames.iter_mut().enumerate() {
            let addr = start.0 + (n * PAGE_SIZE) as u64;
            let index = index(addr, 1);
            if filling.is_none() || index == 0 {
                // The last table's usage is written before the next one is looked for.
                drop(filling.take());
                if self.large_pages() > 0 && self.tree.large_at(addr).is_some() {
                    continue;
                }
                match self.tree.leaf_table(addr) {
                    Ok(table) => filling = Some(self.tree.filling(table)),
                    Err(OutOfMemory) if mapped > 0 => break,
                    Err(failed) => return Err(failed),
                }
            }
            // Nothing was there, so no TLB can know better.
            if let Some(table) = &mut filling
                && table.is_free(index)
                && let Some(frame) = frame.take()
            {
                let (entry, is_file) = entry_for_counted(frame, perms);
                table.set(index, entry);
                files += is_file;
                mapped += 1;
            }
        }
        drop(filling);
        self.add_resident(mapped);
        self.add_file_pages(files);
        Ok(mapped)
    }

    /// How many pages it has.
    #[must_use]
    pub fn resident(&self) -> usize {
        self.resident.load(Ordering::Relaxed)
    }

    /// How many of them are pages of files, shared memory among them.
    #[must_use]
    pub fn file_pages(&self) -> usize {
        self.file_pages.load(Ordering::Relaxed)
    }

    /// Entries of all page tables that are pages of files.
    #[must_use]
    pub fn all_file_pages() -> usize {
        FILE_PAGES.load(Ordering::Relaxed)
    }

    /// Counts entries that came; fewer, when `pages` wraps.
    fn add_file_pages(&self, pages: usize) {
        if pages != 0 {
            self.file_pages.fetch_add(pages, Ordering::Relaxed);
            FILE_PAGES.fetch_add(pages, Ordering::Relaxed);
        }
    }

    /// Under `lock`, so a load and a store are enough.
    pub(super) fn add_resident(&self, pages: usize) {
        let now = self.resident.load(Ordering::Relaxed).wrapping_add(pages);
        self.resident.store(now, Ordering::Relaxed);
    }

    /// How many pages it has in a page-aligned range.
    #[must_use]
    pub fn mapped(&self, range: Range<UserAddr>) -> usize {
        let _guard = self.lock.lock();
        self.tree.count(range.start.0..range.end.0)
    }

    /// Takes the pages of the first part of a page-aligned range out, and frees them and the tables that are
    /// empty then once no TLB has them. Returns the end of the part.
    pub fn unmap(&self, range: Range<UserAddr>) -> UserAddr {
        let mut gather = Gather::new();
        let guard = self.lock.lock();
        self.split_ends(&range);
        let end = self.tree.take(range.start.0..range.end.0, &mut gather);
        self.add_resident(gather.pages().wrapping_neg());
        self.add_large_pages(gather.large_pages().wrapping_neg());
        drop(guard);
        if !gather.is_empty() {
            let pages = (end - range.start.0) / PAGE_SIZE as u64;
            if gather.tables().is_empty() {
                self.flush(range.start.0, pages);
            } else {
                self.flush_everywhere(range.start.0, pages);
            }
            let mut files = 0;
            let mut let_go = |value| {
                if value & LARGE != 0 {
                    // SAFETY: as below, for all of its frames.
                    drop(unsafe { large_frame_of(value) });
                    return;
                }
                // SAFETY: each entry that owned a handle is gone and given here once.
                let frame = unsafe { frame_of(value) };
                files += count_file(value, &frame);
            };
            // SAFETY: all CPUs that have the tree loaded have just forgotten its range.
            unsafe { self.tree.release(&mut gather, &mut let_go) };
            self.add_file_pages(files.wrapping_neg());
        }
        UserAddr(end)
    }

    /// Sets the permissions of the pages in the first part of a page-aligned range. Returns the part's end.
    pub fn protect(&self, range: Range<UserAddr>, perms: Perms) -> UserAddr {
        let mut taken_away = false;
        let mut changed = false;
        let mut visited = 0;
        let guard = self.lock.lock();
        self.split_ends(&range);
        let end = self.tree.visit(range.start.0..range.end.0, &mut |leaf| {
            let old = perms_of(leaf.value);
            if old != perms {
                self.tree.replace(&leaf, with_perms(leaf.value, perms));
                changed = true;
                // What was not present is in no TLB.
                taken_away |= old != Perms::NO_ACCESS && !perms.contains(old);
            }
            visited += 1;
            stop_at_bound(visited)
        });
        drop(guard);
        let pages = (end - range.start.0) / PAGE_SIZE as u64;
        if taken_away {
            self.flush(range.start.0, pages);
        } else if changed {
            // Other CPUs may fault once more on what they remember, and then look again.
            self.flush_here(range.start.0, pages);
        }
        UserAddr(end)
    }

    /// Maps in `child` whatever pages are here in the first part of the range, both sides read-only. Returns
    /// the part's end.
    ///
    /// # Errors
    /// [`OutOfMemory`] when no frame is free for a table of the child.
    pub fn share_with(
        &self,
        child: &PageTable,
        range: Range<UserAddr>,
    ) -> Result<UserAddr, OutOfMemory> {
        let mut outcome = Ok(());
        let mut taken_away = false;
        let mut shared_pages = 0;
        let mut files = 0;
        let guard = self.lock.lock();
        let range = self.split_part(range);
        let child_guard = child.lock.lock();
        // The parent's leaf table, and the child's for the same addresses.
        let mut filling = None;
        let end = self.tree.visit(range.start.0..range.end.0, &mut |leaf| {
            if filling.as_ref().is_none_or(|(of, _)| *of != leaf.table) {
                // The last table's usage is written before the next one is looked for.
                drop(filling.take());
                match child.tree.leaf_table(leaf.addr) {
                    Ok(table) => filling = Some((leaf.table, child.tree.filling(table))),
                    Err(failed) => {
                        outcome = Err(failed);
                        return Visit::Stop;
                    }
                }
            }
            let perms = perms_of(leaf.value) - Perms::WRITE;
            if perms != perms_of(leaf.value) {
                self.tree.replace(&leaf, with_perms(leaf.value, perms));
                taken_away = true;
            }
            if let Some((_, table)) = &mut filling
                && table.is_free(leaf.index)
            {
                let (entry, is_file) = entry_for_counted(another_handle(leaf.value), perms);
                table.set(leaf.index, entry);
                files += is_file;
                shared_pages += 1;
            }
            stop_at_bound(shared_pages)
        });
        drop(filling);
        child.add_resident(shared_pages);
        child.add_file_pages(files);
        drop(child_guard);
        drop(guard);
        if taken_away {
            self.flush(range.start.0, (end - range.start.0) / PAGE_SIZE as u64);
        }
        outcome.map(|()| UserAddr(end))
    }

    /// The frame at `addr` and its permissions.
    #[must_use]
    pub fn query(&self, addr: UserAddr) -> Option<(Frame, Perms)> {
        let _guard = self.lock.lock();
        let leaf = self.tree.find(addr.0)?;
        let value = if leaf.is_large() {
            Tree::<Memory>::small_value(&leaf, addr.0)
        } else {
            leaf.value
        };
        Some((another_handle(value), perms_of(value)))
    }

    /// Moves the pages of the first part of a page-aligned range to where `shift` (wrapping) takes them;
    /// nothing may be there. Returns the part's end.
    ///
    /// # Errors
    /// [`OutOfMemory`] when no frame is free for a table; the pages before the last part have moved then.
    ///
    /// # Panics
    /// When the target is not in user space.
    pub fn relocate(&self, from: Range<UserAddr>, shift: u64) -> Result<UserAddr, OutOfMemory> {
        let mut outcome = Ok(());
        let mut moved = 0;
        let guard = self.lock.lock();
        let from = self.split_part(from);
        let end = self
            .tree
            .visit(
                from.start.0..from.end.0,
                &mut |leaf| match self.move_entry(&leaf, shift) {
                    Ok(()) => {
                        moved += 1;
                        stop_at_bound(moved)
                    }
                    Err(failed) => {
                        outcome = Err(failed);
                        Visit::Stop
                    }
                },
            );
        drop(guard);
        if moved > 0 {
            self.flush(from.start.0, (end - from.start.0) / PAGE_SIZE as u64);
        }
        outcome.map(|()| UserAddr(end))
    }

    fn move_entry(&self, leaf: &Leaf, shift: u64) -> Result<(), OutOfMemory> {
        let to = leaf.addr.wrapping_add(shift);
        let table = self.tree.leaf_table(to)?;
        self.tree.set(leaf.table, leaf.index, 0);
        let old = self.tree.set(table, index(to, 1), leaf.value);
        assert!(!is_used(old), "a page moves to {to:#x}, where one is");
        Ok(())
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
        if let Some(table) = area.active.borrow().as_ref() {
            let seen = table.flushes_done.load(Ordering::SeqCst);
            area.flushes_seen.set(seen);
            area.is_lazy.store(true, Ordering::Release);
        }
    }

    /// Whether user code used a page in the range since this was last asked. Not exact: what a TLB knows is
    /// used without a trace.
    #[must_use]
    pub fn take_accessed(&self, range: Range<UserAddr>) -> bool {
        let _guard = self.lock.lock();
        let mut was_accessed = false;
        self.tree.visit(range.start.0..range.end.0, &mut |leaf| {
            was_accessed |= self.tree.take_accessed(&leaf);
            Visit::Continue
        });
        was_accessed
    }

    /// Makes every CPU that uses this table forget `pages` pages from `addr`.
    fn flush(&self, addr: u64, pages: u64) {
        // Before the look at who is lazy, and a fence between the change of entries and that look.
        self.flushes.fetch_add(1, Ordering::SeqCst);
        self.flush_here(addr, pages);
        let loaded = self.cpus.load(Ordering::SeqCst);
        tlb::flush_others(tlb::without_lazy(loaded));
        self.flushes_done.fetch_add(1, Ordering::SeqCst);
    }

    /// As [`Self::flush`], and lazy CPUs too: tables are about to be freed, which a CPU may walk on its own
    /// initiative as long as it has their root loaded.
    fn flush_everywhere(&self, addr: u64, pages: u64) {
        self.flushes.fetch_add(1, Ordering::SeqCst);
        self.flush_here(addr, pages);
        tlb::flush_others(self.cpus.load(Ordering::SeqCst));
        self.flushes_done.fetch_add(1, Ordering::SeqCst);
    }

    fn flush_here(&self, addr: u64, pages: u64) {
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

/// The entry that owns `frame`, and 1 if that is a page of a file.
fn entry_for_counted(frame: Frame, perms: Perms) -> (u64, usize) {
    // The handle's own bit says what is boot memory, and the entry's is not there yet.
    let is_file = matches!(frame.kind(), Kind::File | Kind::Shmem);
    let entry = entry_for(frame, perms);
    (entry, usize::from(is_file || entry & BOOT_MEMORY != 0))
}

fn stop_at_bound(done: usize) -> Visit {
    if done < BOUND {
        Visit::Continue
    } else {
        Visit::Stop
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
    let root = next.tree.root;
    if paging::current_root() != root {
        // SAFETY: `new` gave the root the kernel's half, and `active` keeps it until another is loaded.
        unsafe { paging::load_root(root) };
    }
    let previous = area.active.replace(Some(next));
    if let Some(table) = &previous
        && table.tree.root != root
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
        let everything = UserAddr(0)..UserAddr::LIMIT;
        let mut start = everything.start;
        while start < everything.end {
            start = self.unmap(start..everything.end);
        }
        // SAFETY: no CPU has it loaded (`active` would keep it alive), and the user's half is empty. The root
        // is a frame that `into_phys` gave up.
        drop(unsafe { Frame::from_phys(self.tree.root) });
    }
}
