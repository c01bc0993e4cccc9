//! How memory is used, for /proc/meminfo and sysinfo(2). All is counted where it changes, so that to ask costs
//! little however much memory there is.

use core::sync::atomic::{AtomicUsize, Ordering};

use machine::frame::{self, Kind};
use machine::page_table::PageTable;

use crate::group::MemoryGroup;

/// Frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// What there is: the machine's, or the limit of what may be used.
    pub total: usize,
    /// Of no use now.
    pub free: usize,
    /// What programs could have without anybody being the worse for it: what is free, and what caches would give.
    pub available: usize,
    /// Pages of files with a store behind them.
    pub file: usize,
    /// Pages of tmpfs, memfd and shared memory.
    pub shmem: usize,
    /// Anonymous memory of programs.
    pub anon: usize,
    /// That part of it which is in pages of 2 MiB.
    pub anon_large: usize,
    /// Pages of files that were used often lately, of those that can be taken back.
    pub active_file: usize,
    /// Pages of files that are mapped.
    pub mapped: usize,
    /// Stored to and not written back.
    pub dirty: usize,
    /// On their way to the store.
    pub writeback: usize,
    /// Objects of the kernel.
    pub slab: usize,
    /// Kernel stacks.
    pub kernel_stacks: usize,
    /// Page tables.
    pub page_tables: usize,
    /// Large objects of the kernel.
    pub vmalloc: usize,
}

/// A number that several add to and take from.
#[derive(Debug)]
pub struct Counter(AtomicUsize);

impl Counter {
    /// Counts `more`.
    pub fn add(&self, more: usize) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Counts `fewer` of what was added.
    pub fn sub(&self, fewer: usize) {
        self.0.fetch_sub(fewer, Ordering::Relaxed);
    }

    /// What it stands at.
    #[must_use]
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Pages that were stored to and have not arrived at the store.
pub static DIRTY: Counter = Counter(AtomicUsize::new(0));
/// Pages that are being written back.
pub static WRITEBACK: Counter = Counter(AtomicUsize::new(0));

/// Pages in the active queues of all groups.
fn active_file() -> usize {
    let groups = MemoryGroup::ROOT.subtree();
    groups.map(|group| group.queues().lens().0).sum()
}

/// How memory is used now.
#[must_use]
pub fn now() -> Numbers {
    let total = frame::total();
    let free = frame::free().min(total);
    let file = frame::count(Kind::File);
    let shmem = frame::count(Kind::Shmem);
    let writeback = WRITEBACK.get();
    // Those on their way are counted in both.
    let dirty = DIRTY.get().saturating_sub(writeback);
    // As Linux estimates it: half of a small cache is taken as in use.
    let cache = file.saturating_sub(dirty + writeback);
    let reserve = crate::pressure::RESERVE_FRAMES;
    let available = free.saturating_sub(reserve) + cache - (cache / 2).min(reserve);
    Numbers {
        total,
        free,
        available: available.min(total),
        file,
        shmem,
        anon: frame::count(Kind::Anon),
        anon_large: PageTable::all_large_pages() * 512,
        active_file: active_file().min(file),
        mapped: PageTable::all_file_pages().min(file + shmem),
        dirty,
        writeback,
        slab: frame::count(Kind::Slab),
        kernel_stacks: frame::count(Kind::KernelStack),
        page_tables: frame::count(Kind::PageTable),
        vmalloc: frame::count(Kind::Vmalloc),
    }
}
