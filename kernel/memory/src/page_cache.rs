//! The page cache of one file: pages in memory, read ahead, dirty until written back.
//!
//! A page is made dirty by [`PageCache::write`] or by the first store through a shared mapping
//! ([`PageSource::tracks_stores`]); writing it back makes mappings ask again. Clean pages that nobody maps
//! go when frames run short.
//!
//! The page list is under a spin lock that is never held while the backing works. A page that is being read is
//! in the list as such, and whoever needs it waits.

mod pages;

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use abi::{Errno, Result};
use machine::sync::SpinLock;
use machine::{Frame, PAGE_SIZE};
use sched::WaitQueue;

use crate::by_pages::{self, offset_in_page};
use crate::io::{IoReader, IoWriter};
use crate::page_source::{MappingList, PageSource};
use crate::pressure::{self, Shrink};
use pages::{Found, Pages};

const PAGE: u64 = PAGE_SIZE as u64;
/// Pages read at once when there is no sign of a sequential reader.
const SCATTERED_PAGES: usize = 8;
/// Pages written back by one call of the backing.
const RUN_PAGES: usize = 32;
/// Dirty pages at which a writer has to write back first.
const MOST_DIRTY: usize = 2048;

/// Where the pages of a cached file live when they are not in memory.
pub trait Backing: Send + Sync {
    /// Reads whole pages from page `first` on, one into each frame; bytes beyond the end of the
    /// file are zeroes (frames come zeroed). May sleep.
    ///
    /// # Errors
    /// What the file system says.
    fn read_pages(&self, first: u64, frames: &[Frame]) -> Result<()>;

    /// Writes `len_bytes` bytes from page `first` on (the last page may be partial). May sleep.
    ///
    /// # Errors
    /// What the file system says.
    fn write_pages(&self, first: u64, frames: &[Frame], len_bytes: u64) -> Result<()>;

    /// How many pages to read at once when a read goes on where the last one ended.
    fn readahead_pages(&self) -> usize {
        32
    }
}

/// The pages of one file that are in memory.
pub struct PageCache {
    me: Weak<PageCache>,
    backing: Arc<dyn Backing>,
    pages: SpinLock<Pages>,
    /// Changes together with `pages`, under its lock.
    size: AtomicU64,
    /// Woken when pages have been read.
    read: WaitQueue,
    /// Where a sequential reader would go on.
    next_index: AtomicU64,
    mappings: MappingList,
    is_registered: AtomicBool,
}

impl core::fmt::Debug for PageCache {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PageCache({} bytes)", self.size_bytes())
    }
}

impl PageCache {
    /// An empty cache over `backing` (which must not own the cache) for a file of `size_bytes`.
    #[must_use]
    pub fn new(backing: Arc<dyn Backing>, size_bytes: u64) -> Arc<PageCache> {
        Arc::new_cyclic(|me| PageCache {
            me: me.clone(),
            backing,
            pages: SpinLock::new(Pages::default()),
            size: AtomicU64::new(size_bytes),
            read: WaitQueue::new(),
            next_index: AtomicU64::new(0),
            mappings: MappingList::new(),
            is_registered: AtomicBool::new(false),
        })
    }

    /// Bytes in the file.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Sets the size: the file was truncated or has grown. Pages beyond leave the cache and every
    /// mapping; the rest of the last page becomes zeroes.
    pub fn set_size(&self, size_bytes: u64) {
        let first_gone = size_bytes.div_ceil(PAGE);
        let gone = {
            let mut pages = self.pages.lock();
            if size_bytes >= self.size.swap(size_bytes, Ordering::AcqRel) {
                return;
            }
            let keep = offset_in_page(size_bytes);
            if let Found::Ready(last) = pages.find(size_bytes / PAGE, false) {
                last.fill(keep, PAGE_SIZE - keep, 0);
            }
            pages.remove_from(first_gone)
        };
        self.mappings.unmap_from(self, first_gone);
        drop(gone);
        self.read.wake_all();
    }

    /// Reads from `offset` on, up to the end of the file, as far as `to` takes it.
    ///
    /// # Errors
    /// `EFAULT` from `to`, or what the backing says, when not a byte was read.
    pub fn read(&self, offset: u64, to: &mut IoWriter<'_>) -> Result<usize> {
        by_pages::read(offset, to, &self.size, |index| {
            self.page(index, false).map(Some)
        })
    }

    /// Writes to the cache at `offset`, growing the file if need be; the pages are dirty until
    /// [`Self::write_back`].
    ///
    /// # Errors
    /// `EFAULT` from `from`, `ENOMEM`, `EFBIG`, or what the backing says, when not a byte was written.
    pub fn write(&self, offset: u64, from: &mut IoReader<'_>) -> Result<usize> {
        if self.pages.lock().dirty() > MOST_DIRTY {
            self.write_back(0..u64::MAX)?;
        }
        by_pages::write(offset, from, &self.size, |at, len, from| {
            self.write_page(at, len, from)
        })
    }

    /// Writes within one page.
    fn write_page(&self, at: u64, len: usize, from: &mut IoReader<'_>) -> Result<usize> {
        let (index, start) = (at / PAGE, offset_in_page(at));
        let is_absent = matches!(self.pages.lock().find(index, false), Found::Absent);
        if is_absent && index >= self.size_bytes().div_ceil(PAGE) {
            // Nothing to keep: the page is new.
            self.insert_new(index)?;
        }
        let frame = self.page(index, false)?;
        let moved = from.read_frame(&frame, start, len)?;
        self.pages.lock().find(index, true);
        Ok(moved)
    }

    fn insert_new(&self, index: u64) -> Result<()> {
        self.register()?;
        let frame = pressure::alloc_zeroed()?;
        self.pages.lock().insert_ready(index, frame);
        Ok(())
    }

    /// The file was written behind the cache (write-through): copies the bytes into the pages that are
    /// cached. Does not grow the file.
    pub fn update(&self, offset: u64, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let start = offset_in_page(at);
            let part = (bytes.len() - done).min(PAGE_SIZE - start);
            let found = self.pages.lock().find(at / PAGE, false);
            if let Found::Ready(frame) = found {
                frame.write(start, &bytes[done..done + part]);
            }
            done += part;
        }
    }

    /// Writes the dirty pages of a range of bytes back.
    ///
    /// # Errors
    /// What the backing says; pages not written stay dirty.
    pub fn write_back(&self, bytes: Range<u64>) -> Result<()> {
        let mut index = bytes.start / PAGE;
        let end = bytes.end.div_ceil(PAGE);
        while index < end {
            let mut frames: Vec<Frame> = Vec::new();
            frames
                .try_reserve_exact(RUN_PAGES)
                .map_err(|_| Errno::ENOMEM)?;
            let taken = self
                .pages
                .lock()
                .take_dirty_run(index..end, RUN_PAGES, &mut frames);
            let Some(first) = taken else {
                return Ok(());
            };
            let count = frames.len() as u64;
            // Stores from here on make the page dirty again; those before are in the frame.
            self.mappings.expect_stores(self, first..first + count);
            let size = self.size_bytes();
            let len = (count * PAGE).min(size.saturating_sub(first * PAGE));
            if len > 0
                && let Err(errno) = self.backing.write_pages(first, &frames, len)
            {
                self.pages.lock().mark_dirty(first..first + count);
                return Err(errno);
            }
            index = first + count;
        }
        Ok(())
    }

    /// Whether any page is dirty.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.pages.lock().dirty() > 0
    }

    /// Drops the clean pages of a range of bytes from the cache and every mapping: the file has changed
    /// on the other side.
    pub fn invalidate(&self, bytes: Range<u64>) {
        let range = bytes.start / PAGE..bytes.end.div_ceil(PAGE);
        self.pages.lock().remove_clean(range.clone());
        self.mappings.unmap_pages(self, range);
    }

    /// Reads page `index` and what follows it into the cache.
    fn read_in(&self, index: u64) -> Result<()> {
        let end = self.size_bytes().div_ceil(PAGE);
        if index >= end {
            return Err(Errno::EIO);
        }
        self.register()?;
        let is_sequential = self.next_index.load(Ordering::Relaxed) == index;
        let most = if is_sequential {
            self.backing.readahead_pages()
        } else {
            SCATTERED_PAGES
        };
        let most = most
            .max(1)
            .min(usize::try_from(end - index).unwrap_or(usize::MAX));
        let mut frames = Vec::new();
        frames.try_reserve_exact(most).map_err(|_| Errno::ENOMEM)?;
        for _ in 0..most {
            match pressure::alloc_zeroed() {
                Ok(frame) => frames.push(frame),
                Err(_) if !frames.is_empty() => break,
                Err(errno) => return Err(errno),
            }
        }
        let claimed = self.pages.lock().claim(index, &frames);
        frames.truncate(claimed);
        if frames.is_empty() {
            // Somebody else is at it or done.
            return Ok(());
        }
        self.next_index
            .store(index + claimed as u64, Ordering::Relaxed);
        let outcome = self.backing.read_pages(index, &frames);
        self.pages.lock().settle(index, &frames, outcome.is_ok());
        self.read.wake_all();
        outcome
    }

    /// Takes part in shrinking and sync(2) from the first page on.
    fn register(&self) -> Result<()> {
        if self.is_registered.load(Ordering::Relaxed)
            || self.is_registered.swap(true, Ordering::AcqRel)
        {
            return Ok(());
        }
        let me: Weak<dyn Shrink> = self.me.clone();
        pressure::register(me).inspect_err(|_| self.is_registered.store(false, Ordering::Release))
    }
}

impl PageSource for PageCache {
    fn page(&self, index: u64, write: bool) -> Result<Frame> {
        loop {
            let found = self.pages.lock().find(index, write);
            match found {
                Found::Ready(frame) => return Ok(frame),
                Found::Absent => self.read_in(index)?,
                Found::BeingRead => self.read.wait_until(|| {
                    let found = self.pages.lock().find(index, false);
                    (!matches!(found, Found::BeingRead)).then_some(())
                }),
            }
        }
    }

    fn page_at_hand(&self, index: u64, write: bool) -> Option<Frame> {
        match self.pages.lock().find(index, write) {
            Found::Ready(frame) => Some(frame),
            Found::Absent | Found::BeingRead => None,
        }
    }

    fn size_bytes(&self) -> u64 {
        PageCache::size_bytes(self)
    }

    fn sync(&self, first_page: u64, last_page: u64) -> Result<()> {
        let end = last_page.saturating_add(1).saturating_mul(PAGE);
        self.write_back(first_page.saturating_mul(PAGE)..end)
    }

    fn mappings(&self) -> Option<&MappingList> {
        Some(&self.mappings)
    }
}

impl Shrink for PageCache {
    fn shrink(&self, wanted: usize) -> usize {
        self.pages
            .try_lock()
            .map_or(0, |mut pages| pages.shrink(wanted))
    }

    fn write_back_all(&self) -> Result<()> {
        self.write_back(0..u64::MAX)
    }
}

impl Drop for PageCache {
    fn drop(&mut self) {
        // Nobody is left to report an error to; close(2) and fsync(2) have written what they could.
        let _ = self.write_back(0..u64::MAX);
    }
}

#[cfg(test)]
mod tests;
