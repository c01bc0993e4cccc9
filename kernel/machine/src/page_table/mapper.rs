//! What is mapped in a user address space: each entry that maps a page owns a handle to its frame.
//!
//! Locking: who only has a [`Mapper`] shared (faults of several threads) adds pages and tables, and changes pages one by
//! one: under the lock of the leaf table they are in, so that faults at different addresses do not meet; new tables, and
//! large pages, under `structure`. Who has it alone (the address space's lock is held for writing) takes
//! pages and tables out, needs no lock, and waits for nobody: see `alone`. So a table that was found without a lock
//! stays. Under the locks only the spare tables and the frame allocator are locked; frames are allocated, and CPUs asked to
//! forget, without.

use alloc::sync::Arc;
use core::ops::Range;
use core::sync::atomic::Ordering;

use super::Perms;
use super::bare::PageTable;
use super::bits::{BOOT_MEMORY, Encoder, LEAF, index, is_used, perms_of, takes_away, unmarked};
use super::entry::{another_handle, entry_for, frame_of, large_handle, maps, with_perms};
use super::gather::Gather;
use super::spare::Memory;
use super::tree::{Found, Tables, Tree};
use crate::addr::{PAGE_SIZE, PhysAddr, UserAddr};
use crate::frame::{Frame, Kind, OutOfMemory};
use crate::sync::SpinLock;

/// What changes a page table: there is one of it.
#[derive(Debug)]
pub struct Mapper {
    pub(super) table: Arc<PageTable>,
    pub(super) tree: Tree<Memory>,
    pub(super) structure: SpinLock<()>,
    /// Empty but while something is taken out: it costs more to make than a small unmap.
    pub(super) gather: Gather,
}

/// What is mapped at an address.
#[derive(Debug)]
pub struct Mapped {
    /// The page's frame.
    pub frame: Frame,
    /// What may be done with it.
    pub perms: Perms,
    /// For a page in a large one, how many other page tables share that, without handles of their own.
    pub large: Option<usize>,
}

/// What was done to permissions.
#[derive(Clone, Copy, Default)]
pub(super) struct Change {
    pub(super) is_any: bool,
    /// Some are fewer than CPUs may know.
    pub(super) takes_away: bool,
}

impl Change {
    /// Notes a change of an entry from `old` to `new`; whether it is one.
    #[inline]
    pub(super) fn note(&mut self, old: u64, new: u64) -> bool {
        let is_one = unmarked(old) != new;
        self.is_any |= is_one;
        self.takes_away |= takes_away(old, new);
        is_one
    }
}

/// 1 for a page of a file or of shared memory, and for boot memory, which files are in.
pub(super) fn count_file(entry: u64, frame: &Frame) -> usize {
    let is_file = entry & BOOT_MEMORY != 0 || matches!(frame.kind(), Kind::File | Kind::Shmem);
    usize::from(is_file)
}

/// The entry that owns `frame`, and 1 if that is a page of a file.
#[inline]
fn entry_for_counted(frame: Frame, encoder: Encoder) -> (u64, usize) {
    // The handle's own bit says what is boot memory, and the entry's is not there yet.
    let is_file = matches!(frame.kind(), Kind::File | Kind::Shmem);
    let entry = entry_for(frame, encoder);
    (entry, usize::from(is_file || entry & BOOT_MEMORY != 0))
}

impl Mapper {
    /// Of a new page table, with an empty user half.
    ///
    /// # Errors
    /// [`OutOfMemory`] when no frame is free for the root.
    pub fn new() -> Result<Mapper, OutOfMemory> {
        let table = PageTable::new()?;
        let root = table.root;
        Ok(Mapper {
            table,
            tree: Tree {
                memory: Memory,
                root,
            },
            structure: SpinLock::new(()),
            gather: Gather::new(),
        })
    }

    /// The page table.
    #[must_use]
    pub fn table(&self) -> &Arc<PageTable> {
        &self.table
    }

    /// Maps the frames of `frames` at the pages from `start` on, but for those that have a page already.
    /// What is mapped is taken out of `frames`. Returns how many were mapped.
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
        let encoder = Encoder::new(perms);
        let mut entries = None;
        let mut mapped = 0;
        let mut files = 0;
        for (n, frame) in frames.iter_mut().enumerate() {
            let addr = start.0 + (n * PAGE_SIZE) as u64;
            let index = index(addr, LEAF);
            if entries.is_none() || index == 0 {
                // The last table is let go of before the next one is looked for.
                drop(entries.take());
                match self.shared_table(addr, LEAF) {
                    Ok(Some(table)) => entries = Some(self.tree.lock(table)),
                    Ok(None) => continue,
                    Err(OutOfMemory) if mapped > 0 => break,
                    Err(failed) => return Err(failed),
                }
            }
            // Nothing was there, so no TLB can know better.
            if let Some(entries) = &mut entries
                && entries.is_free(index)
                && let Some(frame) = frame.take()
            {
                let (entry, is_file) = entry_for_counted(frame, encoder);
                entries.fill(index, entry);
                files += is_file;
                mapped += 1;
            }
        }
        drop(entries);
        self.table.counts.add(mapped, files);
        Ok(mapped)
    }

    /// The table of `level` for an address, made if need be; `None` where there is a large page instead.
    #[inline]
    pub(super) fn shared_table(
        &self,
        addr: u64,
        level: u32,
    ) -> Result<Option<PhysAddr>, OutOfMemory> {
        loop {
            match self.tree.table_at(addr, level) {
                Found::Table(table) => return Ok(Some(table)),
                Found::Large => return Ok(None),
                Found::Missing(above, index) => self.add_table(above, index)?,
            }
        }
    }

    #[cold]
    fn add_table(&self, above: PhysAddr, index: usize) -> Result<(), OutOfMemory> {
        // Zeroed, if it must be, before the lock is taken.
        let made = self.tree.memory.alloc()?;
        let was_missing = {
            let _guard = self.structure.lock();
            self.tree.add_table(above, index, made)
        };
        if !was_missing {
            // SAFETY: another CPU was faster: this one never got into the tree.
            unsafe { self.tree.memory.free(made) };
        }
        Ok(())
    }

    /// The leaf table for an address, if there is one; a large page there is split.
    #[inline]
    fn small_table(&self, addr: u64) -> Option<PhysAddr> {
        loop {
            match self.tree.table_at(addr, LEAF) {
                Found::Table(table) => return Some(table),
                Found::Large => self.split_shared(addr),
                Found::Missing(..) => return None,
            }
        }
    }

    /// Maps `new` at the page of `addr` in place of `old`, if that is mapped there and may not be stored to.
    /// Whether it was.
    pub fn replace(&self, addr: UserAddr, old: &Frame, new: Frame, perms: Perms) -> bool {
        let Some(table) = self.small_table(addr.0) else {
            return false;
        };
        let entries = self.tree.lock(table);
        let index = index(addr.0, LEAF);
        let entry = entries.get(index);
        if !is_used(entry) || perms_of(entry).contains(Perms::WRITE) || !maps(entry, old) {
            // The handle that is left over is not dropped under the lock.
            drop(entries);
            return false;
        }
        let came = entry_for_counted(new, Encoder::new(perms));
        entries.replace(index, came.0);
        drop(entries);
        if perms_of(entry) != Perms::NO_ACCESS {
            self.table.flush(addr.page_base().0, 1);
        }
        // SAFETY: the entry that owned the handle is gone.
        let old = unsafe { frame_of(entry) };
        let files = came.1.wrapping_sub(count_file(entry, &old));
        self.table.counts.add(0, files);
        true
    }

    /// Takes the page at `addr` out, and frees it once no TLB has it.
    pub fn unmap_page(&self, addr: UserAddr) {
        let Some(table) = self.small_table(addr.0) else {
            return;
        };
        let mut entries = self.tree.lock(table);
        let index = index(addr.0, LEAF);
        let entry = entries.get(index);
        if !is_used(entry) {
            return;
        }
        entries.clear(index);
        drop(entries);
        self.table.flush(addr.page_base().0, 1);
        // SAFETY: the entry that owned the handle is gone.
        let frame = unsafe { frame_of(entry) };
        let files = count_file(entry, &frame);
        self.table
            .counts
            .add(1_usize.wrapping_neg(), files.wrapping_neg());
    }

    /// Sets the permissions of the page at `addr`, and of all of a large page that it is in; if those are to store,
    /// only where nobody else has any of it, else it is split.
    pub fn protect_page(&self, addr: UserAddr, perms: Perms) {
        let change = loop {
            match self.tree.table_at(addr.0, LEAF) {
                Found::Table(table) => break self.protect_small(table, addr, perms),
                Found::Large => {
                    if let Some(change) = self.protect_large(addr, perms) {
                        break change;
                    }
                }
                Found::Missing(..) => return,
            }
        };
        // A CPU that is to forget one page forgets all of the large page around it.
        self.flush_change(addr.page_base().0, 1, change);
    }

    fn protect_small(&self, table: PhysAddr, addr: UserAddr, perms: Perms) -> Change {
        let mut change = Change::default();
        let entries = self.tree.lock(table);
        let index = index(addr.0, LEAF);
        let entry = entries.get(index);
        let changed = with_perms(entry, Encoder::new(perms));
        if is_used(entry) && change.note(entry, changed) {
            entries.replace(index, changed);
        }
        change
    }

    /// Makes CPUs forget what a change of permissions took away.
    pub(super) fn flush_change(&self, addr: u64, pages: u64, change: Change) {
        if change.takes_away {
            self.table.flush(addr, pages);
        } else if change.is_any {
            // Other CPUs may fault once more on what they remember, and then look again.
            self.table.flush_here(addr, pages);
        }
    }

    /// How many pages it has in a page-aligned range; about, while others change them.
    #[must_use]
    pub fn mapped(&self, range: Range<UserAddr>) -> usize {
        self.tree.count(range.start.0..range.end.0)
    }

    /// What is mapped at `addr`.
    #[must_use]
    pub fn query(&self, addr: UserAddr) -> Option<Mapped> {
        if addr >= UserAddr::LIMIT {
            return None;
        }
        loop {
            match self.tree.table_at(addr.0, LEAF) {
                Found::Table(table) => {
                    let entries = self.tree.lock(table);
                    let entry = entries.get(index(addr.0, LEAF));
                    return is_used(entry).then(|| Mapped {
                        frame: another_handle(entry),
                        perms: perms_of(entry),
                        large: None,
                    });
                }
                Found::Large => {
                    let _guard = self.structure.lock();
                    // It may have been split just now.
                    let Some(large) = self.tree.large_at(addr.0) else {
                        continue;
                    };
                    let entry = Tree::<Memory>::small_value(&large, addr.0);
                    let sharers =
                        large_handle(large.value, |page| page.sharers().load(Ordering::Acquire));
                    return Some(Mapped {
                        frame: another_handle(entry),
                        perms: perms_of(entry),
                        large: Some(sharers as usize),
                    });
                }
                Found::Missing(..) => return None,
            }
        }
    }
}
