//! User page tables in memory: each entry that maps a page owns a handle to its frame.
//!
//! Locking: `tables` of a page table for changes; of parent and child, the parent's first. Frames that a
//! change removed are dropped after every CPU that may know them has been told, with no lock held
//! that an interrupted CPU could be waiting for (waiting CPUs answer flushes, see `x86::tlb`).

use alloc::sync::Arc;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::Perms;
use super::entry::{another_handle, entry_for, flags, frame_of, perms_of};
use super::tree::{self, Visit};
use crate::addr::{PAGE_SIZE, PhysAddr, UserAddr};
use crate::frame::{Frame, OutOfMemory};
use crate::interrupt::InterruptsOff;
use crate::sync::SpinLock;
use crate::x86::paging::{self, BOOT_MEMORY, PRESENT, WRITE};
use crate::x86::{percpu, tlb};

/// Pages to drop at once: what fits on the stack.
const BATCH: usize = 64;
/// Up to this many pages are invalidated one by one.
const FEW_PAGES: u64 = 16;

/// The page table of one user address space.
#[derive(Debug)]
pub struct PageTable {
    root: PhysAddr,
    tables: SpinLock<()>,
    /// The CPUs on which it is loaded, a bit each.
    cpus: AtomicU64,
    /// Pages that are mapped. Changes under `tables`.
    resident: AtomicUsize,
}

/// Frames taken out of entries, on their way to be dropped.
struct Removed {
    frames: [Option<Frame>; BATCH],
    count: usize,
}

impl Removed {
    fn new() -> Self {
        Self {
            frames: [const { None }; BATCH],
            count: 0,
        }
    }

    fn push(&mut self, frame: Frame) {
        self.frames[self.count] = Some(frame);
        self.count += 1;
    }
}

impl PageTable {
    /// An empty user half.
    ///
    /// # Errors
    /// [`OutOfMemory`] when no frame is free for the root.
    pub fn new() -> Result<Arc<PageTable>, OutOfMemory> {
        let root = Frame::alloc_zeroed()?.into_phys();
        paging::share_kernel_half(root);
        Ok(Arc::new(PageTable {
            root,
            tables: SpinLock::new(()),
            cpus: AtomicU64::new(0),
            resident: AtomicUsize::new(0),
        }))
    }

    /// Maps `frame` at the page of `addr`, in place of what was there.
    ///
    /// # Errors
    /// [`OutOfMemory`] when no frame is free for a table.
    pub fn map(&self, addr: UserAddr, frame: Frame, perms: Perms) -> Result<(), OutOfMemory> {
        assert!(
            addr < UserAddr::LIMIT,
            "mapping outside user space: {addr:?}"
        );
        let guard = self.tables.lock();
        let table = tree::leaf_table(self.root, addr.0)?;
        let old = tree::set(table, paging::index(addr.0, 1), entry_for(frame, perms));
        if old & PRESENT == 0 {
            self.add_resident(1);
        }
        drop(guard);
        if old & PRESENT != 0 {
            self.flush(addr.page_base().0, 1);
            // SAFETY: the entry that owned the handle is gone.
            drop(unsafe { frame_of(old) });
        }
        Ok(())
    }

    /// For each of `pages` pages from `start` on that is not mapped, asks `frame(n)` for what to map
    /// there; `None` leaves it out. One walk. Returns how many were mapped.
    ///
    /// # Errors
    /// [`OutOfMemory`] when no frame is free for a table.
    pub fn fill(
        &self,
        start: UserAddr,
        pages: usize,
        perms: Perms,
        mut frame: impl FnMut(usize) -> Option<Frame>,
    ) -> Result<usize, OutOfMemory> {
        let _guard = self.tables.lock();
        let mut filling = None;
        let mut mapped = 0;
        for n in 0..pages {
            let addr = start.0 + (n * PAGE_SIZE) as u64;
            assert!(
                UserAddr(addr) < UserAddr::LIMIT,
                "mapping outside user space: {addr:#x}"
            );
            let index = paging::index(addr, 1);
            if filling.is_none() || index == 0 {
                // The last table's usage is written before the next one is looked for.
                drop(filling.take());
                match tree::leaf_table(self.root, addr) {
                    Ok(table) => filling = Some(tree::Filling::of(table)),
                    Err(OutOfMemory) if mapped > 0 => break,
                    Err(failed) => return Err(failed),
                }
            }
            // Nothing was there, so no TLB can know better.
            if let Some(table) = &mut filling
                && table.is_free(index)
                && let Some(frame) = frame(n)
            {
                table.set(index, entry_for(frame, perms));
                mapped += 1;
            }
        }
        drop(filling);
        self.add_resident(mapped);
        Ok(mapped)
    }

    /// How many pages are mapped.
    #[must_use]
    pub fn resident(&self) -> usize {
        self.resident.load(Ordering::Relaxed)
    }

    /// Under `tables`, so a load and a store are enough.
    fn add_resident(&self, pages: usize) {
        let now = self.resident.load(Ordering::Relaxed).wrapping_add(pages);
        self.resident.store(now, Ordering::Relaxed);
    }

    /// How many pages are mapped in a page-aligned range.
    #[must_use]
    pub fn mapped(&self, range: Range<UserAddr>) -> usize {
        let _guard = self.tables.lock();
        let mut count = 0;
        tree::visit(self.root, range.start.0..range.end.0, &mut |_| {
            count += 1;
            Visit::Continue
        });
        count
    }

    /// Removes every mapping in a page-aligned range, and drops the frames once no TLB has them.
    pub fn unmap(&self, range: Range<UserAddr>) {
        let mut start = range.start.0;
        while start < range.end.0 {
            let mut removed = Removed::new();
            let from = start;
            let guard = self.tables.lock();
            start = tree::visit(self.root, start..range.end.0, &mut |leaf| {
                let old = tree::set(leaf.table, leaf.index, 0);
                // SAFETY: the entry that owned the handle is gone.
                removed.push(unsafe { frame_of(old) });
                if removed.count == BATCH {
                    Visit::Stop
                } else {
                    Visit::Continue
                }
            });
            self.add_resident(removed.count.wrapping_neg());
            drop(guard);
            if removed.count > 0 {
                self.flush(from, (start - from) / PAGE_SIZE as u64);
            }
        }
    }

    /// Sets the permissions of the pages that are mapped in a page-aligned range.
    pub fn protect(&self, range: Range<UserAddr>, perms: Perms) {
        let mut taken_away = false;
        let mut changed = false;
        let guard = self.tables.lock();
        tree::visit(self.root, range.start.0..range.end.0, &mut |leaf| {
            let kept = leaf.value & (paging::ADDRESS | BOOT_MEMORY);
            tree::set(leaf.table, leaf.index, kept | flags(perms));
            changed |= perms_of(leaf.value) != perms;
            taken_away |= !perms.contains(perms_of(leaf.value));
            Visit::Continue
        });
        drop(guard);
        let pages = pages_in(&range);
        if taken_away {
            self.flush(range.start.0, pages);
        } else if changed {
            // Other CPUs may fault once more on what they remember, and then look again.
            self.flush_here(range.start.0, pages);
        }
    }

    /// Maps in `child` whatever is mapped here in the range, both sides read-only when
    /// `copy_on_write`, else with the same permissions.
    ///
    /// # Errors
    /// [`OutOfMemory`] when no frame is free for a table of the child.
    pub fn share_with(
        &self,
        child: &PageTable,
        range: Range<UserAddr>,
        copy_on_write: bool,
    ) -> Result<(), OutOfMemory> {
        let mut outcome = Ok(());
        let mut taken_away = false;
        let mut shared_pages = 0;
        let guard = self.tables.lock();
        let child_guard = child.tables.lock();
        tree::visit(self.root, range.start.0..range.end.0, &mut |leaf| {
            let shared = if copy_on_write {
                leaf.value & !WRITE
            } else {
                leaf.value
            };
            if shared != leaf.value {
                tree::set(leaf.table, leaf.index, shared);
                taken_away = true;
            }
            match tree::leaf_table(child.root, leaf.addr) {
                Ok(table) => {
                    let entry = entry_for(another_handle(shared), perms_of(shared));
                    tree::set(table, leaf.index, entry);
                    shared_pages += 1;
                    Visit::Continue
                }
                Err(failed) => {
                    outcome = Err(failed);
                    Visit::Stop
                }
            }
        });
        child.add_resident(shared_pages);
        drop(child_guard);
        drop(guard);
        if taken_away {
            self.flush(range.start.0, pages_in(&range));
        }
        outcome
    }

    /// The frame mapped at `addr` and its permissions.
    #[must_use]
    pub fn query(&self, addr: UserAddr) -> Option<(Frame, Perms)> {
        let _guard = self.tables.lock();
        let value = tree::find(self.root, addr.0)?;
        Some((another_handle(value), perms_of(value)))
    }

    /// Moves the mappings of one page-aligned range to another of the same length (mremap).
    ///
    /// # Errors
    /// [`OutOfMemory`] when no frame is free for a table; nothing has moved then.
    pub fn relocate(&self, from: Range<UserAddr>, to: UserAddr) -> Result<(), OutOfMemory> {
        let shift = to.0.wrapping_sub(from.start.0);
        let pages = pages_in(&from);
        self.unmap(to..UserAddr(to.0 + (from.end.0 - from.start.0)));
        let guard = self.tables.lock();
        let mut outcome = Ok(());
        tree::visit(
            self.root,
            from.start.0..from.end.0,
            &mut |leaf| match tree::leaf_table(self.root, leaf.addr.wrapping_add(shift)) {
                Ok(_) => Visit::Continue,
                Err(failed) => {
                    outcome = Err(failed);
                    Visit::Stop
                }
            },
        );
        outcome?;
        tree::visit(self.root, from.start.0..from.end.0, &mut |leaf| {
            let addr = leaf.addr.wrapping_add(shift);
            // The table is there: it was made above.
            if let Ok(table) = tree::leaf_table(self.root, addr) {
                tree::set(leaf.table, leaf.index, 0);
                tree::set(table, paging::index(addr, 1), leaf.value);
            }
            Visit::Continue
        });
        drop(guard);
        self.flush(from.start.0, pages);
        Ok(())
    }

    /// Makes this the table of the CPU this runs on; it stays alive as long as it is.
    pub fn activate(self: &Arc<Self>) {
        switch(Some(Arc::clone(self)));
    }

    /// Makes the kernel-only table active on this CPU.
    pub fn deactivate() {
        switch(None);
    }

    /// Makes every CPU that has this table loaded forget `pages` pages from `addr`.
    fn flush(&self, addr: u64, pages: u64) {
        self.flush_here(addr, pages);
        tlb::flush_others(self.cpus.load(Ordering::SeqCst));
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

fn pages_in(range: &Range<UserAddr>) -> u64 {
    (range.end.0 - range.start.0) / PAGE_SIZE as u64
}

/// Loads another table on this CPU, then lets go of the one that was.
fn switch(next: Option<Arc<PageTable>>) {
    let off = InterruptsOff::new();
    let area = percpu::here();
    let bit = 1 << area.id();
    let root = match &next {
        Some(table) => {
            // Before it is loaded, so that no change goes untold.
            table.cpus.fetch_or(bit, Ordering::SeqCst);
            table.root
        }
        None => paging::kernel_root(),
    };
    if paging::current_root() != root {
        // SAFETY: the root has the kernel's half, and `active` keeps it until another is loaded.
        unsafe { paging::load_root(root) };
    }
    let previous = area.active.replace(next);
    let is_same = area.active.borrow().as_ref().map(|table| table.root)
        == previous.as_ref().map(|table| table.root);
    if let (Some(table), false) = (&previous, is_same) {
        table.cpus.fetch_and(!bit, Ordering::SeqCst);
    }
    drop(off);
    drop(previous);
}

impl Drop for PageTable {
    fn drop(&mut self) {
        // SAFETY: each leaf owns a handle and is visited once, its table being freed behind it.
        let mut let_go = |value| drop(unsafe { frame_of(value) });
        // SAFETY: no CPU has it loaded (`active` would keep it alive), so the tree is this value's alone;
        // each table is a frame that `into_phys` gave up.
        unsafe { tree::free(self.root, &mut let_go) };
    }
}
