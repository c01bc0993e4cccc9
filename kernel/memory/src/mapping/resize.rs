//! Truncation, holes, and files that changed at the backing: what is cut off or replaced leaves the cache and
//! every mapping, and reads as zeroes where it comes back.

use core::ops::Range;
use core::sync::atomic::Ordering;

use machine::{Frame, PAGE_SIZE};

use super::pages::{Found, Pages};
use super::{Mapping, PAGE, Store, offset_in_page};

/// Pages taken out of the list before they are dropped, without the lock.
const BATCH: usize = 64;

impl Mapping {
    /// Sets the size: the file was truncated or has grown. Pages beyond leave the cache and every mapping; in the
    /// page of the smaller of the two ends, what is behind it becomes zeroes.
    pub fn set_size(&self, size_bytes: u64) {
        {
            let mut pages = self.pages.lock();
            let old = self.size_bytes();
            if size_bytes == old {
                return;
            }
            // Before the new size shows: a store that it allows must not be wiped.
            self.zero_tail(&mut pages, size_bytes.min(old));
            self.size.store(size_bytes, Ordering::Release);
            if size_bytes > old {
                return;
            }
        }
        let first_gone = size_bytes.div_ceil(PAGE);
        self.drop_pages(first_gone..u64::MAX, false);
        // Private copies go with the end of the file, not with a hole in it.
        self.mappings.unmap_from(self, first_gone);
        self.settled.wake_all();
    }

    /// The file reaches at least to `end`.
    pub fn grow_to(&self, end: u64) {
        if end > self.size_bytes() {
            self.set_size(end);
        }
    }

    /// Something is about to be written at `offset`: where that leaves a gap behind the end of the file, what stores
    /// have left in the last page must not show in it.
    pub(super) fn close_gap(&self, offset: u64) {
        if offset <= self.size_bytes() {
            return;
        }
        let mut pages = self.pages.lock();
        let end = self.size_bytes();
        if end < offset {
            self.zero_tail(&mut pages, end);
        }
    }

    /// The file reaches to `end` at least: bytes up to there have just been put.
    pub(super) fn reach(&self, end: u64) {
        let _pages = self.pages.lock();
        if end > self.size_bytes() {
            self.size.store(end, Ordering::Release);
        }
    }

    /// Zeroes the page of `end` from there on. Stores through mappings can reach there, and what a fetch in flight
    /// brings was asked for before.
    fn zero_tail(&self, pages: &mut Pages, end: u64) {
        let keep = offset_in_page(end);
        if keep > 0 {
            self.zero_part(pages, end / PAGE, keep, PAGE_SIZE);
        }
    }

    fn zero_part(&self, pages: &mut Pages, index: u64, from: usize, to: usize) {
        match pages.find(index) {
            Found::Ready(frame) => frame.fill(from, to - from, 0),
            Found::Busy => drop(pages.remove(index)),
            Found::Absent => {}
        }
    }

    /// Makes a range of bytes read as zeroes in the cache and in every mapping; the backing knows already. Whole
    /// pages are given up. Private copies stay.
    pub(super) fn forget_range(&self, bytes: Range<u64>) {
        let first_whole = bytes.start.div_ceil(PAGE);
        let end_whole = bytes.end / PAGE;
        {
            let mut pages = self.pages.lock();
            let (head, tail) = (offset_in_page(bytes.start), offset_in_page(bytes.end));
            if first_whole > end_whole {
                self.zero_part(&mut pages, end_whole, head, tail);
            } else {
                if head > 0 {
                    self.zero_part(&mut pages, first_whole - 1, head, PAGE_SIZE);
                }
                if tail > 0 {
                    self.zero_part(&mut pages, end_whole, 0, tail);
                }
            }
        }
        if first_whole < end_whole {
            self.drop_pages(first_whole..end_whole, false);
            self.mappings.unmap_pages(self, first_whole..end_whole);
        }
        self.settled.wake_all();
    }

    /// A hole was punched, or a range zeroed, at the backing of a device mapping.
    pub fn punched(&self, bytes: Range<u64>) {
        self.forget_range(bytes);
    }

    /// The file changed at the backing: what was not stored to here leaves the cache and every mapping, to be read
    /// again. What was stored to stays, and is written back in time.
    pub fn invalidate(&self, bytes: Range<u64>) {
        let range = bytes.start / PAGE..bytes.end.div_ceil(PAGE);
        if self.pages.lock().len() == 0 {
            return;
        }
        self.drop_pages(range.clone(), true);
        // Those that stay are found again by the next touch.
        self.mappings.unmap_pages(self, range);
        self.settled.wake_all();
    }

    /// Takes pages out of the list and gives them back, some at a time: the list may be long, and memory short.
    pub(super) fn drop_pages(&self, mut range: Range<u64>, clean_only: bool) {
        loop {
            let mut gone: [Option<Frame>; BATCH] = [const { None }; BATCH];
            let mut count = 0;
            let mut pages = self.pages.lock();
            while count < BATCH {
                let Some((index, frame)) = pages.remove_first(range.clone(), clean_only) else {
                    break;
                };
                range.start = index + 1;
                gone[count] = Some(frame);
                count += 1;
            }
            drop(pages);
            drop(gone);
            if let Store::Memory {
                quota: Some(quota), ..
            } = &self.store
            {
                quota.give_pages(count as u64);
            }
            if count < BATCH {
                return;
            }
            sched::cond_resched();
        }
    }
}
