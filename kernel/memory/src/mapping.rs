//! [`Mapping`]: the page cache of one file, and the memory behind tmpfs files, memfds and shared anonymous
//! mappings. One per inode: every descriptor, every mapping and every futex of a file meets here.
//!
//! Pages of a *device* mapping come from a [`Backing`] and go back to it: [`read`] brings them in, many at a time
//! for sequential readers, [`write_back`] writes what was stored to. A page becomes dirty by the first store
//! through a shared mapping, which the page table asks for ([`PageSource::tracks_stores`]); a write-back
//! makes mappings ask again. Pages of a *memory* mapping are their own backing: made when touched, counted
//! by a [`Quota`], and never taken back.
//!
//! [`resize`] keeps the promise that bytes beyond the end of the file are zero when the file grows, and that
//! what was cut, punched or replaced leaves every mapping.
//!
//! Locking, outermost first: [`Mapping::lock_writes`] (sleeping; held by whoever changes the file: write(2), truncation,
//! fallocate, write-back), an address space's area lock, the page list (spinning, a leaf). A page is taken out of the list
//! before it is taken out of page tables, and faults look into the list under the area lock: so
//! no page table keeps a page that left the list.

mod anonymous;
mod pages;
mod read;
mod resize;
mod source;
mod write_back;

use alloc::sync::{Arc, Weak};
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use abi::{Errno, Result};
use machine::frame::Place;
use machine::sync::SpinLock;
use machine::{Frame, PAGE_SIZE};
use sched::WaitQueue;

use crate::errors::WriteErrors;
use crate::pressure::FILES;
use crate::rmap::MappingList;
use pages::{Pages, Reclaimed};
pub use read::Readahead;
pub use write_back::DIRTY_RATIO;

const PAGE: u64 = PAGE_SIZE as u64;
/// The largest file offset there is.
const MOST_BYTES: u64 = i64::MAX.unsigned_abs();

/// Where the pages of a file live when they are not in memory. Must not own the mapping.
pub trait Backing: Send + Sync {
    /// Reads whole pages from page `first` on, one into each frame; bytes beyond the end of the file are
    /// zeroes (frames come zeroed). May sleep.
    ///
    /// # Errors
    /// What the file system says.
    fn read_pages(&self, first: u64, frames: &[Frame]) -> Result<()>;

    /// Writes `len_bytes` bytes from page `first` on (the last page may be partial). May sleep. Called with
    /// [`Mapping::lock_writes`] held.
    ///
    /// # Errors
    /// What the file system says.
    fn write_pages(&self, first: u64, frames: &[Frame], len_bytes: u64) -> Result<()>;

    /// The most pages of one `read_pages` or `write_pages`.
    fn max_pages(&self) -> usize {
        32
    }

    /// Makes a range of bytes read as zeroes, in the store and in the mapping (`MADV_REMOVE`).
    ///
    /// # Errors
    /// `EOPNOTSUPP` by default.
    fn punch(&self, bytes: Range<u64>) -> Result<()> {
        let _ = bytes;
        Err(Errno::EOPNOTSUPP)
    }
}

/// Counts the pages of a memory mapping against a limit (a tmpfs's size).
pub trait Quota: Send + Sync {
    /// Takes one page.
    ///
    /// # Errors
    /// `ENOSPC`.
    fn take_page(&self) -> Result<()>;

    /// Gives pages back.
    fn give_pages(&self, count: u64);
}

enum Store {
    Device(Weak<dyn Backing>),
    Memory {
        quota: Option<Arc<dyn Quota>>,
        /// Boot memory that shows through where there is no page yet; cut off by truncation.
        boot: SpinLock<&'static [u8]>,
        has_boot: bool,
    },
}

/// The pages of one file that are in memory.
pub struct Mapping {
    me: Weak<Mapping>,
    store: Store,
    pages: SpinLock<Pages>,
    /// Changes under the lock of `pages`.
    size: AtomicU64,
    /// Held while the file is changed; see the module's documentation.
    writes: sched::Mutex<()>,
    /// Woken when pages are busy no more.
    settled: WaitQueue,
    /// Where faults go on.
    readahead: Readahead,
    mappings: MappingList,
    errors: WriteErrors,
    /// No new shared mapping may store (`F_SEAL_FUTURE_WRITE`).
    denies_new_stores: AtomicBool,
    /// Its pages queue.
    is_enrolled: AtomicBool,
}

/// Proof that nobody else changes the file.
pub type WriteGuard<'a> = sched::MutexGuard<'a, ()>;

impl Mapping {
    fn with_store(store: Store, size_bytes: u64) -> Result<Arc<Mapping>> {
        let mapping = collections::try_arc_cyclic(|me: &Weak<Mapping>| Mapping {
            me: me.clone(),
            store,
            pages: SpinLock::new(Pages::default()),
            size: AtomicU64::new(size_bytes),
            writes: sched::Mutex::new(()),
            settled: WaitQueue::new(),
            readahead: Readahead::new(),
            mappings: MappingList::new(),
            errors: WriteErrors::new(),
            denies_new_stores: AtomicBool::new(false),
            is_enrolled: AtomicBool::new(false),
        })?;
        Ok(mapping)
    }

    /// An empty cache over `backing` for a file of `size_bytes`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn with_backing(backing: Weak<dyn Backing>, size_bytes: u64) -> Result<Arc<Mapping>> {
        Self::with_store(Store::Device(backing), size_bytes)
    }

    /// `size_bytes` of zeroes that live in memory alone.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn in_memory(quota: Option<Arc<dyn Quota>>, size_bytes: u64) -> Result<Arc<Mapping>> {
        Self::over_boot(quota, &[], size_bytes)
    }

    /// As [`Self::in_memory`], with `boot` (whole pages of boot memory) for its first contents: shown in place,
    /// copied when first written to.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn over_boot(
        quota: Option<Arc<dyn Quota>>,
        boot: &'static [u8],
        size_bytes: u64,
    ) -> Result<Arc<Mapping>> {
        let store = Store::Memory {
            quota,
            has_boot: !boot.is_empty(),
            boot: SpinLock::new(boot),
        };
        Self::with_store(store, size_bytes)
    }

    /// Bytes in the file.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Pages in the file, the last one perhaps partial.
    fn end_index(&self) -> u64 {
        self.size_bytes().div_ceil(PAGE)
    }

    /// Pages that are in memory.
    #[must_use]
    pub fn pages_cached(&self) -> u64 {
        self.pages.lock().len()
    }

    /// Keeps others from changing the file: for write(2), truncation, fallocate. Not to be held while user memory
    /// of a device mapping is touched.
    pub fn lock_writes(&self) -> WriteGuard<'_> {
        self.writes.lock()
    }

    /// As [`Self::lock_writes`] if that needs no waiting.
    pub fn try_lock_writes(&self) -> Option<WriteGuard<'_>> {
        self.writes.try_lock()
    }

    /// The errors of its write-back.
    #[must_use]
    pub fn errors(&self) -> &WriteErrors {
        &self.errors
    }

    fn backing(&self) -> Result<Arc<dyn Backing>> {
        match &self.store {
            // Gone when the inode is: nobody can ask any more but a mapping that is being torn down.
            Store::Device(backing) => backing.upgrade().ok_or(Errno::EIO),
            Store::Memory { .. } => Err(Errno::EOPNOTSUPP),
        }
    }

    const fn is_device(&self) -> bool {
        matches!(self.store, Store::Device(_))
    }

    /// Refuses stores through shared mappings for good (`F_SEAL_WRITE`).
    ///
    /// # Errors
    /// `EBUSY` while there is a shared mapping that may store.
    pub fn deny_stores(&self) -> Result<()> {
        self.mappings.deny_writable()
    }

    /// Lets no further shared mapping store (`F_SEAL_FUTURE_WRITE`).
    pub fn deny_new_stores(&self) {
        self.denies_new_stores.store(true, Ordering::Release);
    }

    /// Takes part in reclaim from the first page on.
    fn enrol(&self) -> Result<()> {
        if self.is_enrolled.load(Ordering::Acquire) {
            return Ok(());
        }
        let number = FILES.enrol(self.me.clone())?;
        let mut pages = self.pages.lock();
        if pages.file().is_none() {
            pages.set_file(number);
            self.is_enrolled.store(true, Ordering::Release);
            return Ok(());
        }
        drop(pages);
        FILES.dismiss(number);
        Ok(())
    }

    /// Takes a clean page out of memory, whoever maps it. May sleep.
    pub fn evict(&self, index: u64) -> bool {
        if !self.is_device() || !self.pages.lock().start_eviction(index) {
            return false;
        }
        self.mappings.unmap_pages(self, index..index + 1);
        let gone = self.pages.lock().remove(index);
        self.settled.wake_all();
        gone.is_some()
    }
}

impl Mapping {
    /// Takes a page back that reclaim has chosen, from programs too if none has used it since this was last tried.
    /// Whether it is free now. Takes locks only if nobody has them: whoever holds one may be who runs short.
    pub(crate) fn take_back(&self, place: Place) -> bool {
        let Some(mut pages) = self.pages.try_lock() else {
            return false;
        };
        match pages.take_back(place) {
            Reclaimed::Page(frame) => {
                drop(pages);
                drop(frame);
                true
            }
            Reclaimed::Not => false,
            Reclaimed::Mapped => {
                drop(pages);
                let is_unused = self.mappings.try_evict(self, place.index);
                let gone = self
                    .pages
                    .lock()
                    .end_eviction(place.index, is_unused)
                    .is_some();
                self.settled.wake_all();
                gone
            }
        }
    }

    /// Writes back what is dirty, unless somebody changes the file just now. Whether there was any.
    pub(crate) fn relieve(&self) -> bool {
        let Some(guard) = self.try_lock_writes() else {
            return false;
        };
        // Whoever asks for the file's errors hears of it.
        self.is_dirty() && self.write_back_locked(0..u64::MAX, &guard).is_ok()
    }
}

impl Drop for Mapping {
    /// In steps, if there are many pages: there may be millions.
    fn drop(&mut self) {
        const FEW: u64 = 256;
        let pages = self.pages.get_mut();
        let count = pages.len();
        if count <= FEW {
            pages.clear();
            if let Store::Memory {
                quota: Some(quota), ..
            } = &self.store
            {
                quota.give_pages(count);
            }
        } else {
            self.drop_pages(0..u64::MAX, false);
        }
        if let Some(file) = self.pages.get_mut().file() {
            FILES.dismiss(file);
        }
    }
}

impl core::fmt::Debug for Mapping {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Mapping({} bytes)", self.size_bytes())
    }
}

fn offset_in_page(offset: u64) -> usize {
    usize::try_from(offset % PAGE).unwrap_or(0)
}

#[cfg(test)]
mod tests;
