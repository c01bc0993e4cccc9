//! Changes of a [`Mapper`] that somebody has alone: what takes pages and tables out, moves, protects or copies them, a
//! bounded part of a range a call. No lock is needed.
//!
//! A frame leaves a table, and a table the tree, only after every CPU that may have it in its TLB has been told.

use core::ops::Range;

use super::Perms;
use super::bits::{ENTRIES, Encoder, LARGE, LEAF, index, is_used, read_only, unmarked};
use super::entry::{add_owner, frame_of, large_frame_of, large_handle, with_perms};
use super::mapper::{Change, Mapper, count_file};
use super::tree::large::{LARGE_LEN, LARGE_LEVEL};
use super::tree::walk::Place;
use super::tree::{Leaf, Tables, Visit};
use crate::addr::{PAGE_SIZE, PhysAddr, UserAddr};
use crate::frame::{LargeFrame, OutOfMemory};

/// Entries that one call changes: some 100,000 instructions.
const BOUND: usize = 4096;
/// As how many a large page counts there.
const LARGE_COST: usize = 16;

fn stop_at_bound(done: usize) -> Visit {
    if done < BOUND {
        Visit::Continue
    } else {
        Visit::Stop
    }
}

fn pages_between(start: UserAddr, end: u64) -> u64 {
    (end - start.0) / PAGE_SIZE as u64
}

/// What was shared with a child.
#[derive(Default)]
struct Shared {
    change: Change,
    pages: usize,
    /// Those of them that are pages of files.
    files: usize,
    cost: usize,
}

/// Why sharing stopped.
enum Stop {
    /// It has done enough, up to this address.
    At(u64),
    NoMemory,
}

impl From<OutOfMemory> for Stop {
    fn from(_: OutOfMemory) -> Self {
        Stop::NoMemory
    }
}

impl Mapper {
    /// Takes the pages of the first part of a page-aligned range out, and frees them and the tables that are
    /// empty then once no TLB has them. Returns the end of the part.
    pub fn unmap(&mut self, range: Range<UserAddr>) -> UserAddr {
        self.split_ends(&range);
        let end = self.tree.take(range.start.0..range.end.0, &mut self.gather);
        if !self.gather.is_empty() {
            self.free_gathered(range.start.0, pages_between(range.start, end));
        }
        UserAddr(end)
    }

    /// Makes CPUs forget what was gathered, of `pages` pages from an address on, and frees it.
    fn free_gathered(&mut self, start: u64, pages: u64) {
        if self.gather.tables().is_empty() {
            self.table.flush(start, pages);
        } else {
            self.table.flush_everywhere(start, pages);
        }
        let pages = self.gather.pages();
        self.forget_large_pages(self.gather.large_pages());
        let mut files = 0;
        let mut let_go = |value| {
            if value & LARGE != 0 {
                // SAFETY: as below, for a share of all of its frames.
                drop(unsafe { large_frame_of(value) });
                return;
            }
            // SAFETY: each entry that owned a handle is gone and given here once.
            let frame = unsafe { frame_of(value) };
            files += count_file(value, &frame);
        };
        // SAFETY: all CPUs that have the tree loaded have just forgotten what was gathered.
        unsafe { self.tree.release(&mut self.gather, &mut let_go) };
        self.table
            .counts
            .add(pages.wrapping_neg(), files.wrapping_neg());
    }

    /// Sets the permissions of the pages in the first part of a page-aligned range. Returns the part's end.
    pub fn protect(&mut self, range: Range<UserAddr>, perms: Perms) -> UserAddr {
        let encoder = Encoder::new(perms);
        let mut change = Change::default();
        let mut visited = 0;
        self.split_ends(&range);
        let end = self.tree.visit(range.start.0..range.end.0, &mut |leaf| {
            visited += 1;
            if !encoder.is_like(leaf.value) {
                let changed = with_perms(leaf.value, encoder);
                if change.note(leaf.value, changed) {
                    self.tree.replace(leaf.table, leaf.index, changed);
                }
            }
            stop_at_bound(visited)
        });
        self.flush_change(range.start.0, pages_between(range.start, end), change);
        UserAddr(end)
    }

    /// Maps in `child` whatever pages are here in the first part of the range, both sides read-only. Returns
    /// the part's end.
    ///
    /// # Errors
    /// [`OutOfMemory`] when no frame is free for a table of the child.
    pub fn share_with(
        &mut self,
        child: &mut Mapper,
        range: Range<UserAddr>,
    ) -> Result<UserAddr, OutOfMemory> {
        let mut shared = Shared::default();
        self.split_ends(&range);
        let walked = self
            .tree
            .places(&(range.start.0..range.end.0), &mut |place| {
                let end = match place {
                    Place::Large(leaf) => {
                        self.share_large(child, &leaf, &mut shared)?;
                        leaf.addr + LARGE_LEN
                    }
                    Place::Table(table, base, part) => {
                        self.share_table(child, (table, base), part, &mut shared)?;
                        base + LARGE_LEN
                    }
                };
                if shared.cost < BOUND {
                    Ok(())
                } else {
                    Err(Stop::At(end))
                }
            });
        child.table.counts.add(shared.pages, shared.files);
        let (end, outcome) = match walked {
            Ok(()) => (range.end, Ok(range.end)),
            Err(Stop::At(end)) => {
                let end = UserAddr(end).min(range.end);
                (end, Ok(end))
            }
            Err(Stop::NoMemory) => (range.end, Err(OutOfMemory)),
        };
        let pages = pages_between(range.start, end.0);
        self.flush_change(range.start.0, pages, shared.change);
        outcome
    }

    /// Shares pages of a leaf table, whose reach begins at an address.
    fn share_table(
        &self,
        child: &Mapper,
        (table, base): (PhysAddr, u64),
        part: Range<usize>,
        shared: &mut Shared,
    ) -> Result<(), OutOfMemory> {
        let mut theirs = None;
        for (index, value) in self.tree.used(table, part) {
            let theirs = match &mut theirs {
                Some(entries) => entries,
                none => none.insert(child.tree.entries(child.tree.table_for(base, LEAF)?)),
            };
            let entry = read_only(value);
            if theirs.is_free(index) {
                shared.files += add_owner(value);
                theirs.fill(index, unmarked(entry));
                shared.pages += 1;
            }
            if shared.change.note(value, unmarked(entry)) {
                self.tree.replace(table, index, entry);
            }
            shared.cost += 1;
        }
        Ok(())
    }

    /// Shares a large page, if the child has nothing at its address.
    fn share_large(
        &self,
        child: &Mapper,
        leaf: &Leaf,
        shared: &mut Shared,
    ) -> Result<(), OutOfMemory> {
        let above = child.tree.table_for(leaf.addr, LARGE_LEVEL)?;
        let aside = child.tree.memory.alloc()?;
        let entry = read_only(leaf.value);
        if child
            .tree
            .map_large((above, leaf.addr), unmarked(entry), aside)
        {
            large_handle(leaf.value, LargeFrame::share).into_phys();
            child.note_large_page();
            shared.pages += ENTRIES;
        } else {
            // SAFETY: something is there, so this table did not get into the tree.
            unsafe { child.tree.memory.free(aside) };
        }
        if shared.change.note(leaf.value, unmarked(entry)) {
            self.tree.replace(leaf.table, leaf.index, entry);
        }
        shared.cost += LARGE_COST;
        Ok(())
    }

    /// Moves the pages of the first part of a page-aligned range to where `shift` (wrapping) takes them;
    /// nothing may be there. Returns the part's end.
    ///
    /// # Errors
    /// [`OutOfMemory`] when no frame is free for a table; the pages before the last part have moved then.
    ///
    /// # Panics
    /// When the target is not in user space.
    pub fn relocate(&mut self, from: Range<UserAddr>, shift: u64) -> Result<UserAddr, OutOfMemory> {
        let mut outcome = Ok(());
        let mut large = None;
        let mut moved = 0;
        self.split_ends(&from);
        let mut end = self.tree.visit(from.start.0..from.end.0, &mut |leaf| {
            if leaf.is_large() {
                large = Some(leaf.addr);
                return Visit::Stop;
            }
            match self.move_entry(&leaf, shift) {
                Ok(()) => {
                    moved += 1;
                    stop_at_bound(moved)
                }
                Err(failed) => {
                    outcome = Err(failed);
                    Visit::Stop
                }
            }
        });
        if let Some(addr) = large {
            // Its pages are moved by the next call.
            self.split_shared(addr);
            end = addr;
        }
        if moved > 0 {
            self.table
                .flush(from.start.0, pages_between(from.start, end));
        }
        outcome.map(|()| UserAddr(end))
    }

    fn move_entry(&self, leaf: &Leaf, shift: u64) -> Result<(), OutOfMemory> {
        let to = leaf.addr.wrapping_add(shift);
        let table = self.tree.table_for(to, LEAF)?;
        self.tree.set(leaf.table, leaf.index, 0);
        let old = self.tree.set(table, index(to, LEAF), leaf.value);
        assert!(!is_used(old), "a page moves to {to:#x}, where one is");
        Ok(())
    }

    /// Whether user code used a page in the range since this was last asked. Not exact: what a TLB knows is
    /// used without a trace.
    #[must_use]
    pub fn take_accessed(&mut self, range: Range<UserAddr>) -> bool {
        let mut was_accessed = false;
        self.tree.visit(range.start.0..range.end.0, &mut |leaf| {
            was_accessed |= self.tree.take_accessed(&leaf);
            Visit::Continue
        });
        was_accessed
    }
}

impl Drop for Mapper {
    fn drop(&mut self) {
        let everything = UserAddr(0)..UserAddr::LIMIT;
        let mut start = everything.start;
        while start < everything.end {
            start = self.unmap(start..everything.end);
        }
    }
}
