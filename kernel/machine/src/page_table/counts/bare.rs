//! The CPUs' counts of the pages of one page table, and of the pages of files in all.

use core::sync::atomic::{AtomicU64, Ordering};

use super::Sum;
use crate::cpu::MAX_CPUS;
use crate::x86::percpu;

/// Sums a CPU.
#[derive(Debug)]
pub(in crate::page_table) struct Counts([AtomicU64; MAX_CPUS]);

impl Counts {
    pub(in crate::page_table) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; MAX_CPUS])
    }

    /// Pages came, `files` of them of files; fewer, when they wrap.
    #[inline]
    pub(in crate::page_table) fn add(&self, pages: usize, files: usize) {
        let area = percpu::here();
        let word = &self.0[area.id()];
        // Only this CPU writes it, and no interrupt handler does.
        let now = Sum(word.load(Ordering::Relaxed)).plus(Sum::of(pages, files));
        word.store(now.0, Ordering::Relaxed);
        if files != 0 {
            let all = area.file_pages.load(Ordering::Relaxed);
            area.file_pages
                .store(all.wrapping_add(files), Ordering::Relaxed);
        }
    }

    pub(in crate::page_table) fn sum(&self) -> Sum {
        let words = self.0[..percpu::count()].iter();
        words.fold(Sum::default(), |sum, word| {
            sum.plus(Sum(word.load(Ordering::Relaxed)))
        })
    }
}

/// Entries of all page tables that are pages of files.
pub(in crate::page_table) fn all_file_pages() -> usize {
    let areas = (0..percpu::count()).filter_map(percpu::of);
    let sum = areas.fold(0_usize, |sum, area| {
        sum.wrapping_add(area.file_pages.load(Ordering::Relaxed))
    });
    // A page that went may be seen before it came, on another CPU.
    usize::try_from(sum.cast_signed()).unwrap_or(0)
}
