//! The cached pages of one file of a server.
//!
//! A page's frame stays the same while anybody can have it mapped for writing; otherwise pages go
//! when the server's file changed, or when there are too many of them.
//!
//! Locking: [`Pages::transfer`] (sleeping) is held while pages come from or go to the server, so
//! that neither overtakes the other; never while user memory is touched. `cached` is a leaf.

use alloc::collections::BTreeMap;
use alloc::sync::Weak;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use machine::sync::SpinLock;
use machine::{Frame, PAGE_SIZE};
use memory::PageSource;

const BOUNCE: usize = 512;

/// Pages of all files of all servers.
static TOTAL: AtomicUsize = AtomicUsize::new(0);

/// Whether so much memory holds pages that some should go.
pub(super) fn are_too_many() -> bool {
    TOTAL.load(Ordering::Relaxed) > machine::frame::total() / 2
}

#[derive(Debug)]
struct Cached {
    frame: Frame,
    /// Handed out for writing through a mapping: may differ from the server's at any time.
    is_shared: bool,
}

/// A file's pages by index.
#[derive(Debug)]
pub(super) struct Pages {
    cached: SpinLock<BTreeMap<u64, Cached>>,
    /// Held while pages move between here and the server.
    pub(super) transfer: sched::Mutex<()>,
    /// Who hands the pages out to mappings.
    sources: SpinLock<Vec<Weak<dyn PageSource>>>,
}

impl Pages {
    pub(super) fn new() -> Pages {
        Pages {
            cached: SpinLock::new(BTreeMap::new()),
            transfer: sched::Mutex::new(()),
            sources: SpinLock::new(Vec::new()),
        }
    }

    /// Page `index`, when it is here.
    pub(super) fn get(&self, index: u64) -> Option<Frame> {
        self.cached
            .lock()
            .get(&index)
            .map(|page| page.frame.clone())
    }

    /// Page `index` for a mapping that can write it, when it is here.
    pub(super) fn get_shared(&self, index: u64) -> Option<Frame> {
        let mut cached = self.cached.lock();
        let page = cached.get_mut(&index)?;
        page.is_shared = true;
        Some(page.frame.clone())
    }

    /// Takes in page `index` unless it is here already.
    pub(super) fn insert(&self, index: u64, frame: Frame) {
        let mut cached = self.cached.lock();
        if let alloc::collections::btree_map::Entry::Vacant(place) = cached.entry(index) {
            place.insert(Cached {
                frame,
                is_shared: false,
            });
            TOTAL.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Brings the page up to date with `len` bytes of `from` that were written to the server at
    /// `offset` of both. A page that is not here is taken in when `from` is all of it.
    pub(super) fn update(&self, index: u64, from: &Frame, offset: usize, len: usize, is_all: bool) {
        match self.get(index) {
            Some(frame) => copy(from, &frame, offset, len),
            None if is_all => self.insert(index, from.clone()),
            None => {}
        }
    }

    /// The file was made `size` bytes long.
    pub(super) fn truncated(&self, size: u64) {
        let first = size.div_ceil(PAGE_SIZE as u64);
        let gone = self.cached.lock().split_off(&first);
        TOTAL.fetch_sub(gone.len(), Ordering::Relaxed);
        drop(gone);
        self.unmap_from(first);
        let tail = usize::try_from(size % PAGE_SIZE as u64).unwrap_or(0);
        if tail > 0
            && let Some(last) = self.get(first - 1)
        {
            last.fill(tail, PAGE_SIZE - tail, 0);
        }
    }

    /// The server's file changed: what is here no longer counts. Pages under writable mappings stay.
    pub(super) fn outdated(&self) {
        let _gone = drop_pages(&mut self.cached.lock(), |page| page.is_shared);
    }

    /// Gives pages back that nobody has mapped; how many.
    pub(super) fn shrink(&self) -> usize {
        let Some(mut cached) = self.cached.try_lock() else {
            return 0;
        };
        drop_pages(&mut cached, |page| {
            page.is_shared || page.frame.handles() > 1
        })
    }

    /// Notes that `source` hands these pages out to mappings.
    pub(super) fn add_source(&self, source: Weak<dyn PageSource>) {
        let mut sources = self.sources.lock();
        sources.retain(|known| known.strong_count() > 0);
        sources.push(source);
    }

    /// Takes the pages from `first` on out of every mapping.
    fn unmap_from(&self, first: u64) {
        let sources: Vec<_> = self
            .sources
            .lock()
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        for source in sources {
            if let Some(mappings) = source.mappings() {
                mappings.unmap_from(source.as_ref(), first);
            }
        }
    }

    /// Pages from `first` to `last` that mappings may have written. One that is mapped no more
    /// is not listed again.
    pub(super) fn take_dirty(&self, first: u64, last: u64) -> Vec<(u64, Frame)> {
        let mut cached = self.cached.lock();
        let mut dirty = Vec::new();
        for (index, page) in cached
            .range_mut(first..=last)
            .filter(|(_, page)| page.is_shared)
        {
            page.is_shared = page.frame.handles() > 1;
            dirty.push((*index, page.frame.clone()));
        }
        dirty
    }
}

/// Lets go of the pages that `keep` does not want; how many.
fn drop_pages(cached: &mut BTreeMap<u64, Cached>, keep: impl Fn(&Cached) -> bool) -> usize {
    let before = cached.len();
    cached.retain(|_, page| keep(page));
    let gone = before - cached.len();
    TOTAL.fetch_sub(gone, Ordering::Relaxed);
    gone
}

impl Drop for Pages {
    fn drop(&mut self) {
        TOTAL.fetch_sub(self.cached.get_mut().len(), Ordering::Relaxed);
    }
}

/// Copies the same range from one frame to another.
fn copy(from: &Frame, to: &Frame, offset: usize, len: usize) {
    let mut bounce = [0; BOUNCE];
    for start in (offset..offset + len).step_by(BOUNCE) {
        let step = BOUNCE.min(offset + len - start);
        from.read(start, &mut bounce[..step]);
        to.write(start, &bounce[..step]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(byte: u8) -> Frame {
        let frame = Frame::alloc_zeroed().unwrap();
        frame.fill(0, PAGE_SIZE, byte);
        frame
    }

    fn first_byte(pages: &Pages, index: u64) -> Option<u8> {
        let mut byte = [0];
        pages.get(index)?.read(0, &mut byte);
        Some(byte[0])
    }

    #[test]
    fn a_page_keeps_its_frame_and_changes_with_writes() {
        let pages = Pages::new();
        pages.insert(3, filled(1));
        pages.insert(3, filled(2));
        assert_eq!(first_byte(&pages, 3), Some(1));
        pages.update(3, &filled(7), 0, 600, false);
        assert_eq!(first_byte(&pages, 3), Some(7));
        pages.update(4, &filled(8), 0, 600, false);
        assert_eq!(first_byte(&pages, 4), None);
        pages.update(4, &filled(8), 0, PAGE_SIZE, true);
        assert_eq!(first_byte(&pages, 4), Some(8));
    }

    #[test]
    fn truncation_zeroes_the_tail() {
        let pages = Pages::new();
        (0..3).for_each(|index| pages.insert(index, filled(9)));
        pages.truncated(4096 + 1);
        let mut bytes = [0; 2];
        pages.get(1).unwrap().read(0, &mut bytes);
        assert_eq!((bytes, pages.get(2).is_none()), ([9, 0], true));
    }

    #[test]
    fn shared_pages_survive_changes_of_the_server() {
        let pages = Pages::new();
        pages.insert(0, filled(1));
        pages.insert(1, filled(1));
        let mapped = pages.get_shared(1).unwrap();
        pages.outdated();
        assert!(pages.get(0).is_none());
        assert_eq!(pages.take_dirty(0, 9).len(), 1);
        drop(mapped);
        assert_eq!(pages.take_dirty(0, 9).len(), 1);
        assert_eq!(pages.take_dirty(0, 9).len(), 0);
    }
}
