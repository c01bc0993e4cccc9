//! How many pages a page table has: each CPU counts what came and went on it, so that faults of one process on
//! several CPUs do not meet at one counter.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::cpu::MAX_CPUS;
use crate::x86::percpu;

/// Where the pages of files stand in a sum; below are all pages.
const FILES: u32 = 32;

/// Sums a CPU, of pages and of those among them that are files'. What went away on another CPU makes one wrap;
/// together they are right.
#[derive(Debug)]
pub(super) struct Counts([AtomicU64; MAX_CPUS]);

impl Counts {
    pub(super) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; MAX_CPUS])
    }

    /// Pages came, `files` of them of files; fewer, when they wrap.
    #[inline]
    pub(super) fn add(&self, pages: usize, files: usize) {
        let area = percpu::here();
        let sum = &self.0[area.id()];
        let change = (pages as u64).wrapping_add((files as u64) << FILES);
        // Only this CPU writes it, and no interrupt handler does.
        let now = sum.load(Ordering::Relaxed).wrapping_add(change);
        sum.store(now, Ordering::Relaxed);
        if files != 0 {
            let all = area.file_pages.load(Ordering::Relaxed);
            area.file_pages
                .store(all.wrapping_add(files), Ordering::Relaxed);
        }
    }

    /// All pages.
    pub(super) fn pages(&self) -> usize {
        (self.sum() & ((1 << FILES) - 1)) as usize
    }

    /// Pages of files.
    pub(super) fn files(&self) -> usize {
        (self.sum() >> FILES) as usize
    }

    fn sum(&self) -> u64 {
        let sums = self.0[..percpu::count()].iter();
        sums.fold(0, |sum, each| {
            sum.wrapping_add(each.load(Ordering::Relaxed))
        })
    }
}

/// Entries of all page tables that are pages of files.
pub(super) fn all_file_pages() -> usize {
    let areas = (0..percpu::count()).filter_map(percpu::of);
    let sum = areas.fold(0_usize, |sum, area| {
        sum.wrapping_add(area.file_pages.load(Ordering::Relaxed))
    });
    // A page that went may be seen before it came, on another CPU.
    usize::try_from(sum.cast_signed()).unwrap_or(0)
}
