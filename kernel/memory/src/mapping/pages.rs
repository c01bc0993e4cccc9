//! The page list of a [`super::Mapping`]: pages by index with their state and tags. Pure data; the mapping
//! keeps it under a spin lock.
//!
//! A page is *busy* while its contents come from the backing or while it is about to go: whoever wants it
//! waits. The dirty tag has an index of its own, so that a write-back finds the pages that were stored to
//! without a look at the others.

use core::ops::Range;

use abi::Result;
use collections::{Map, Set, Vec};
use machine::Frame;
use machine::frame::Place;

use crate::numbers::{DIRTY, WRITEBACK};
use crate::pressure::Queues;

/// Uses from which on a page is used often.
const OFTEN: u8 = 2;

#[derive(Debug, Default)]
pub(super) struct Pages {
    pages: Map<u64, Page>,
    /// Pages stored to since they were last written back; those on their way are among them until they arrive.
    dirty: Set<u64>,
    /// The number that tells whose the pages are in their queues: those that can be read again.
    file: Option<u32>,
}

#[derive(Debug)]
struct Page {
    frame: Frame,
    /// Contents are not to be used: being read, or about to go.
    is_busy: bool,
    /// On its way to the backing.
    is_writeback: bool,
    /// Stored to since it set out.
    is_stored_again: bool,
    /// How often it was used since reclaim last looked, up to [`OFTEN`].
    uses: u8,
}

impl Page {
    const fn ready(frame: Frame) -> Self {
        Self {
            frame,
            is_busy: false,
            is_writeback: false,
            is_stored_again: false,
            uses: 0,
        }
    }

    /// What a look-up that meets it finds; it counts as a use.
    fn found(&mut self) -> Found {
        if self.is_busy {
            return Found::Busy;
        }
        self.uses = (self.uses + 1).min(OFTEN);
        Found::Ready(self.frame.clone())
    }
}

/// What reclaim makes of a page.
#[derive(Debug)]
pub(super) enum Reclaimed {
    /// It is out.
    Page(Frame),
    /// It is busy, for [`Pages::end_eviction`]: others have handles to it, who may map it.
    Mapped,
    /// It stays.
    Not,
}

/// What a look-up finds.
#[derive(Debug)]
pub(super) enum Found {
    Absent,
    Busy,
    Ready(Frame),
}

/// A dirty page that is to be written.
pub(super) type DirtyPage = (u64, Frame);

impl Pages {
    pub(super) fn len(&self) -> u64 {
        self.pages.len() as u64
    }

    pub(super) fn dirty(&self) -> usize {
        self.dirty.len()
    }

    /// Pages queue from now on; before the first one.
    pub(super) fn set_file(&mut self, file: u32) {
        self.file = Some(file);
    }

    /// The number that the pages carry.
    pub(super) fn file(&self) -> Option<u32> {
        self.file
    }

    /// Looks a page up.
    pub(super) fn find(&mut self, index: u64) -> Found {
        self.pages
            .get_mut(&index)
            .map_or(Found::Absent, Page::found)
    }

    /// Looks up all that there are in a range, in order, where `is_wanted`: one descent for all of them.
    pub(super) fn find_in(
        &mut self,
        range: Range<u64>,
        is_wanted: impl Fn(u64) -> bool,
        mut each: impl FnMut(u64, Found),
    ) {
        if self.pages.is_empty() {
            return;
        }
        for (index, page) in self.pages.range_mut(range) {
            if is_wanted(*index) {
                each(*index, page.found());
            }
        }
    }

    /// Looks a page up that is about to be stored to.
    ///
    /// # Errors
    /// `ENOMEM` when there is no room for its dirty tag.
    pub(super) fn find_for_store(&mut self, index: u64) -> Result<Found> {
        let found = self.find(index);
        if matches!(found, Found::Ready(_)) {
            if self.dirty.try_insert(index)? {
                DIRTY.add(1);
            }
            if let Some(page) = self.pages.get_mut(&index) {
                page.is_stored_again = true;
            }
        }
        Ok(found)
    }

    /// Adds a page with known contents unless there is one, busy or not; returns whether it did.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn insert(&mut self, index: u64, frame: &Frame) -> Result<bool> {
        if self.pages.contains_key(&index) {
            return Ok(false);
        }
        self.pages.try_insert(index, Page::ready(frame.clone()))?;
        self.enqueue(frame, index);
        Ok(true)
    }

    /// Adds busy pages from `first` on that are about to be read, up to the first that is there already.
    pub(super) fn claim(&mut self, first: u64, frames: &[Frame]) -> Result<usize> {
        let next = self
            .pages
            .first_from(&first)
            .map_or(u64::MAX, |(next, _)| *next);
        let room = usize::try_from(next - first).unwrap_or(usize::MAX);
        let count = frames.len().min(room);
        for (done, (index, frame)) in (first..).zip(&frames[..count]).enumerate() {
            let page = Page {
                is_busy: true,
                ..Page::ready(frame.clone())
            };
            match self.pages.try_insert(index, page) {
                Ok(_) => self.enqueue(frame, index),
                // Those that are in are enough to go on.
                Err(_) if done > 0 => return Ok(done),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(count)
    }

    /// Ends a [`Self::claim`]. Pages that were taken out meanwhile stay away: what was read is out of date.
    pub(super) fn settle(&mut self, first: u64, frames: &[Frame], is_read: bool) {
        for (index, frame) in (first..).zip(frames) {
            let Some(page) = self.pages.get_mut(&index) else {
                continue;
            };
            if !page.is_busy || page.frame.phys() != frame.phys() {
                continue;
            }
            if is_read {
                page.is_busy = false;
            } else {
                self.remove(index);
            }
        }
    }

    /// Takes a page out, whatever its state.
    pub(super) fn remove(&mut self, index: u64) -> Option<Frame> {
        let page = self.pages.remove(&index)?;
        self.forget(index, &page);
        Some(page.frame)
    }

    fn enqueue(&self, frame: &Frame, index: u64) {
        if let Some(file) = self.file {
            Queues::of(frame).add(frame, file, index);
        }
    }

    /// Takes a page that is about to go out of queue and counters.
    fn forget(&mut self, index: u64, page: &Page) {
        if self.file.is_some() {
            Queues::of(&page.frame).remove(&page.frame);
        }
        self.set_clean(index);
        if page.is_writeback {
            WRITEBACK.sub(1);
        }
    }

    fn set_clean(&mut self, index: u64) {
        if self.dirty.remove(&index) {
            DIRTY.sub(1);
        }
    }

    /// Drops all pages, which are few; the mapping goes.
    pub(super) fn clear(&mut self) {
        let pages = core::mem::take(&mut self.pages);
        for (index, page) in &pages {
            self.forget(*index, page);
        }
    }

    /// Takes the first page of a range out; with `clean_only` the first that is not dirty.
    pub(super) fn remove_first(
        &mut self,
        range: Range<u64>,
        clean_only: bool,
    ) -> Option<(u64, Frame)> {
        let mut all = self.pages.range(range).map(|(index, _)| *index);
        let index = all.find(|index| !clean_only || !self.dirty.contains(index))?;
        self.remove(index).map(|frame| (index, frame))
    }

    /// Starts the write-back of up to `into`'s free capacity of dirty pages of a range.
    pub(super) fn start_write_back(&mut self, range: Range<u64>, into: &mut Vec<DirtyPage>) {
        for index in self.dirty.range(range) {
            if into.len() == into.capacity() {
                return;
            }
            if let Some(page) = self.pages.get_mut(index) {
                WRITEBACK.add(usize::from(!page.is_writeback));
                page.is_writeback = true;
                page.is_stored_again = false;
                let _ = into.push_within_capacity((*index, page.frame.clone()));
            }
        }
    }

    /// Ends the write-back of a page; it stays dirty when that failed or it was stored to meanwhile.
    pub(super) fn written(&mut self, index: u64, is_written: bool) {
        if let Some(page) = self.pages.get_mut(&index)
            && page.is_writeback
        {
            page.is_writeback = false;
            WRITEBACK.sub(1);
            if is_written && !page.is_stored_again {
                self.set_clean(index);
            }
        }
    }

    /// Whether a page of the range is dirty.
    pub(super) fn has_dirty(&self, range: Range<u64>) -> bool {
        let next = self.dirty.first_from(&range.start);
        next.is_some_and(|index| *index < range.end)
    }

    /// Takes a page back that is clean and was not used often; one that was becomes active. `place` may be out of date.
    pub(super) fn take_back(&mut self, place: Place) -> Reclaimed {
        let Some(page) = self.pages.get_mut(&place.index) else {
            return Reclaimed::Not;
        };
        let is_other = page.frame.phys() != place.phys;
        if is_other || page.is_busy || page.is_writeback || self.dirty.contains(&place.index) {
            return Reclaimed::Not;
        }
        if core::mem::take(&mut page.uses) >= OFTEN {
            if let Some(file) = self.file {
                Queues::of(&page.frame).activate(&page.frame, file, place.index);
            }
            return Reclaimed::Not;
        }
        if page.frame.handles() > 1 {
            page.is_busy = true;
            return Reclaimed::Mapped;
        }
        self.remove(place.index)
            .map_or(Reclaimed::Not, Reclaimed::Page)
    }

    /// Ends an eviction: the page goes if nobody uses it, and has just been used otherwise.
    pub(super) fn end_eviction(&mut self, index: u64, is_unused: bool) -> Option<Frame> {
        let page = self.pages.get_mut(&index)?;
        if is_unused && page.frame.handles() == 1 {
            return self.remove(index);
        }
        page.is_busy = false;
        page.uses = 1;
        None
    }

    /// Makes a clean page busy that is to be taken away from those who map it.
    pub(super) fn start_eviction(&mut self, index: u64) -> bool {
        let is_dirty = self.dirty.contains(&index);
        match self.pages.get_mut(&index) {
            Some(page) if !is_dirty && !page.is_busy => {
                page.is_busy = true;
                true
            }
            _ => false,
        }
    }

    /// The first page at or behind `index` that is here (`true`) or is not (`false`).
    pub(super) fn find_from(&self, index: u64, contents: bool) -> u64 {
        let mut all = self.pages.range(index..).map(|(index, _)| *index);
        if contents {
            return all.next().unwrap_or(u64::MAX);
        }
        let in_a_row = all.zip(index..).take_while(|(index, at)| index == at);
        index + in_a_row.count() as u64
    }
}
