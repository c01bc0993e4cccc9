//! The reverse map: which address spaces map a page source, so that its pages can be taken away, written
//! back, or sealed.
//!
//! Locking: the list is a leaf spin lock, never held while an address space is looked at. What walks the
//! list takes area locks one after another, so it is called with none held.

use alloc::sync::{Arc, Weak};
use core::ops::Range;
use core::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use abi::{Errno, Result};
use collections::Map;
use machine::sync::SpinLock;

use crate::page_source::PageSource;
use crate::space::AddressSpace;

/// Spaces in a list before those that are gone are looked for.
const PRUNE_FROM: usize = 16;

/// The spaces by address, so that one is found without a look at the others.
#[derive(Debug)]
struct Spaces {
    by_address: Map<usize, Weak<AddressSpace>>,
    /// How many there may be before the next pruning.
    prune_at: usize,
}

/// The address spaces that map a source, and how many of its mappings may store to it.
#[derive(Debug)]
pub struct MappingList {
    spaces: SpinLock<Spaces>,
    /// Shared mappings that may store (positive), or -1: there may be none (Linux's `i_mmap_writable`).
    writable: AtomicI32,
    /// The source's number, 0 as long as nobody has asked for it.
    serial: AtomicU64,
}

impl MappingList {
    /// Nobody yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            spaces: SpinLock::new(Spaces {
                by_address: Map::new(),
                prune_at: PRUNE_FROM,
            }),
            writable: AtomicI32::new(0),
            serial: AtomicU64::new(0),
        }
    }

    /// A number that no other source or address space ever has.
    #[must_use]
    pub fn serial(&self) -> u64 {
        let known = self.serial.load(Ordering::Relaxed);
        if known != 0 {
            return known;
        }
        let new = crate::serial::new();
        let set = self
            .serial
            .compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed);
        set.map_or_else(|faster| faster, |_| new)
    }

    /// Notes that `space` maps the source. Once is enough however many mappings it has.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn add(&self, space: &Weak<AddressSpace>) -> Result<()> {
        // A weak handle keeps the address from being given to another space.
        let key = space.as_ptr().addr();
        let mut spaces = self.spaces.lock();
        if spaces.by_address.contains_key(&key) {
            return Ok(());
        }
        if spaces.by_address.len() >= spaces.prune_at {
            spaces
                .by_address
                .retain(|_, space| space.strong_count() > 0);
            spaces.prune_at = (spaces.by_address.len() * 2).max(PRUNE_FROM);
        }
        spaces.by_address.try_insert(key, space.clone())?;
        Ok(())
    }

    /// Forgets `space`, which goes. One that has unmapped the source before is found by pruning.
    pub(crate) fn remove(&self, space: &Weak<AddressSpace>) {
        let gone = self.spaces.lock().by_address.remove(&space.as_ptr().addr());
        drop(gone);
    }

    /// Spaces in the list, those that are gone among them.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.spaces.lock().by_address.len()
    }

    /// Takes the pages from `first` on out of every mapping of `source`, private copies included
    /// (ftruncate(2)).
    pub fn unmap_from(&self, source: &dyn PageSource, first: u64) {
        self.each(|space| space.forget_pages(source, first..u64::MAX, true));
    }

    /// Takes a range of pages out of every mapping of `source`, private copies excepted.
    pub fn unmap_pages(&self, source: &dyn PageSource, pages: Range<u64>) {
        self.each(|space| space.forget_pages(source, pages.clone(), false));
    }

    /// Makes every shared mapping ask `source` again before the next store to one of these pages.
    pub fn expect_stores(&self, source: &dyn PageSource, pages: Range<u64>) {
        self.each(|space| space.expect_stores(source, pages.clone()));
    }

    /// Takes a page out of every mapping of `source` if no program has used it since this was last tried. `false`
    /// also when an address space is busy. Neither sleeps nor allocates.
    pub(crate) fn try_evict(&self, source: &dyn PageSource, page: u64) -> bool {
        let mut next = 0;
        loop {
            let space = {
                let Some(spaces) = self.spaces.try_lock() else {
                    return false;
                };
                let Some((key, space)) = spaces.by_address.first_from(&next) else {
                    return true;
                };
                next = *key + 1;
                space.upgrade()
            };
            if space.is_some_and(|space| !space.try_evict(source, page)) {
                return false;
            }
            sched::cond_resched();
        }
    }

    fn each(&self, act: impl Fn(&AddressSpace)) {
        let mut next = 0;
        // One at a time: what is upgraded here may be the last reference, dropped without the lock.
        loop {
            let space = {
                let spaces = self.spaces.lock();
                let Some((key, space)) = spaces.by_address.first_from(&next) else {
                    return;
                };
                next = *key + 1;
                space.upgrade()
            };
            if let Some(space) = space {
                act(&space);
            }
            sched::cond_resched();
        }
    }

    /// Refuses shared mappings that may store from now on.
    ///
    /// # Errors
    /// `EBUSY` while there is one.
    pub fn deny_writable(&self) -> Result<()> {
        self.writable
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |count| {
                (count <= 0).then_some(-1)
            })
            .map(drop)
            .map_err(|_| Errno::EBUSY)
    }

    /// Whether [`Self::deny_writable`] was called.
    #[must_use]
    pub fn denies_writable(&self) -> bool {
        self.writable.load(Ordering::Acquire) < 0
    }
}

impl Default for MappingList {
    fn default() -> Self {
        Self::new()
    }
}

/// A shared mapping that may store, counted at its source for as long as it lives.
pub(crate) struct WritableMapping(Arc<dyn PageSource>);

impl WritableMapping {
    /// Counts one.
    ///
    /// # Errors
    /// `EPERM` when the source is sealed.
    pub(crate) fn new(source: &Arc<dyn PageSource>) -> Result<Option<Self>> {
        let Some(mappings) = source.mappings() else {
            return Ok(None);
        };
        mappings
            .writable
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |count| {
                (count >= 0).then(|| count.saturating_add(1))
            })
            .map_err(|_| Errno::EPERM)?;
        Ok(Some(Self(source.clone())))
    }
}

impl Clone for WritableMapping {
    fn clone(&self) -> Self {
        if let Some(mappings) = self.0.mappings() {
            // One is counted already, so the source is not sealed.
            mappings.writable.fetch_add(1, Ordering::AcqRel);
        }
        Self(self.0.clone())
    }
}

impl Drop for WritableMapping {
    fn drop(&mut self) {
        if let Some(mappings) = self.0.mappings() {
            mappings.writable.fetch_sub(1, Ordering::AcqRel);
        }
    }
}
