//! Memory without a file behind it that several can share: tmpfs files, memfd, shared anonymous maps.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::{Errno, Result};
use machine::sync::SpinLock;
use machine::{Frame, PAGE_SIZE};

use crate::by_pages::{self, offset_in_page};
use crate::io::{IoReader, IoWriter};
use crate::page_source::{MappingList, PageSource};
use crate::pressure;

const PAGE: u64 = PAGE_SIZE as u64;

/// Pages that exist once touched; holes read as zeroes. A [`PageSource`].
#[derive(Debug)]
pub struct Shm {
    pages: SpinLock<BTreeMap<u64, Frame>>,
    /// Changes together with `pages`, under its lock.
    size: AtomicU64,
    mappings: MappingList,
}

impl Shm {
    /// `size_bytes` of zeroes.
    #[must_use]
    pub fn new(size_bytes: u64) -> Arc<Shm> {
        Arc::new(Shm {
            pages: SpinLock::new(BTreeMap::new()),
            size: AtomicU64::new(size_bytes),
            mappings: MappingList::new(),
        })
    }

    /// Its size.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Sets its size; what is cut off leaves every mapping and reads as zeroes if it comes back.
    pub fn set_size(&self, size_bytes: u64) {
        let first_gone = size_bytes.div_ceil(PAGE);
        let gone = {
            let mut pages = self.pages.lock();
            let shrinks = size_bytes < self.size.swap(size_bytes, Ordering::AcqRel);
            if !shrinks {
                return;
            }
            if let Some(last) = pages.get(&(size_bytes / PAGE)) {
                let keep = offset_in_page(size_bytes);
                last.fill(keep, PAGE_SIZE - keep, 0);
            }
            pages.split_off(&first_gone)
        };
        self.mappings.unmap_from(self, first_gone);
        drop(gone);
    }

    /// Pages it holds (`st_blocks`).
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.pages.lock().len() as u64
    }

    /// Reads from `offset` on, up to its size.
    ///
    /// # Errors
    /// `EFAULT` from `to` when not a byte was read.
    pub fn read(&self, offset: u64, to: &mut IoWriter<'_>) -> Result<usize> {
        by_pages::read(offset, to, &self.size, |index| {
            Ok(self.pages.lock().get(&index).cloned())
        })
    }

    /// Writes at `offset`, growing it if need be.
    ///
    /// # Errors
    /// `EFAULT` from `from`, `ENOMEM` or `EFBIG` when not a byte was written.
    pub fn write(&self, offset: u64, from: &mut IoReader<'_>) -> Result<usize> {
        by_pages::write(offset, from, &self.size, |at, len, from| {
            from.read_frame(&self.make(at / PAGE)?, offset_in_page(at), len)
        })
    }

    /// Makes the pages of a range exist (fallocate), whatever its size.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn allocate(&self, bytes: Range<u64>) -> Result<()> {
        for index in bytes.start / PAGE..bytes.end.div_ceil(PAGE) {
            self.make(index)?;
        }
        Ok(())
    }

    /// Turns a range into a hole.
    pub fn punch_hole(&self, bytes: Range<u64>) {
        let (first, last) = (bytes.start.div_ceil(PAGE), bytes.end / PAGE);
        self.zero_part(bytes.start, bytes.end.min(first * PAGE));
        if first <= last {
            let gone = {
                let mut pages = self.pages.lock();
                let mut gone = pages.split_off(&first);
                let mut behind = gone.split_off(&last);
                pages.append(&mut behind);
                gone
            };
            self.mappings.unmap_pages(self, first..last);
            drop(gone);
            self.zero_part((last * PAGE).max(bytes.start), bytes.end);
        }
    }

    /// Zeroes a range that lies in one page, if the page exists.
    fn zero_part(&self, from: u64, to: u64) {
        if from < to
            && let Some(frame) = self.pages.lock().get(&(from / PAGE))
        {
            let len = usize::try_from(to - from).unwrap_or(PAGE_SIZE);
            let start = offset_in_page(from);
            frame.fill(start, len.min(PAGE_SIZE - start), 0);
        }
    }

    /// The page at `index`, made if it is not there.
    fn make(&self, index: u64) -> Result<Frame> {
        if let Some(frame) = self.pages.lock().get(&index) {
            return Ok(frame.clone());
        }
        let fresh = pressure::alloc_zeroed()?;
        Ok(self.pages.lock().entry(index).or_insert(fresh).clone())
    }
}

impl PageSource for Shm {
    fn page(&self, index: u64, _write: bool) -> Result<Frame> {
        if index >= self.size_bytes().div_ceil(PAGE) {
            return Err(Errno::EFAULT);
        }
        self.make(index)
    }

    fn page_at_hand(&self, index: u64, write: bool) -> Option<Frame> {
        let at_hand = self.pages.lock().get(&index).cloned();
        if at_hand.is_none() && write {
            self.page(index, true).ok()
        } else {
            at_hand
        }
    }

    fn size_bytes(&self) -> u64 {
        Shm::size_bytes(self)
    }

    fn tracks_stores(&self) -> bool {
        false
    }

    fn punch(&self, bytes: Range<u64>) -> Result<()> {
        self.punch_hole(bytes);
        Ok(())
    }

    fn mappings(&self) -> Option<&MappingList> {
        Some(&self.mappings)
    }
}

#[cfg(test)]
mod tests;
