//! The page list of a [`super::PageCache`]: pure data.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

use machine::Frame;

#[derive(Debug, Default)]
pub(super) struct Pages {
    pages: BTreeMap<u64, Page>,
    dirty: usize,
}

#[derive(Debug)]
struct Page {
    frame: Frame,
    state: State,
    /// Used since the last shrink looked.
    is_referenced: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    BeingRead,
    Clean,
    Dirty,
}

/// Pages that were taken out.
#[derive(Debug)]
pub(super) struct Gone(
    #[expect(dead_code, reason = "held only to be dropped")] BTreeMap<u64, Page>,
);

/// What a look-up finds.
#[derive(Debug)]
pub(super) enum Found {
    Absent,
    BeingRead,
    Ready(Frame),
}

impl Pages {
    pub(super) fn dirty(&self) -> usize {
        self.dirty
    }

    /// Looks a page up; `write` makes it dirty.
    pub(super) fn find(&mut self, index: u64, write: bool) -> Found {
        let Some(page) = self.pages.get_mut(&index) else {
            return Found::Absent;
        };
        match page.state {
            State::BeingRead => return Found::BeingRead,
            State::Clean if write => {
                page.state = State::Dirty;
                self.dirty += 1;
            }
            State::Clean | State::Dirty => {}
        }
        page.is_referenced = true;
        Found::Ready(page.frame.clone())
    }

    /// Adds a page with known contents unless there is one.
    pub(super) fn insert_ready(&mut self, index: u64, frame: Frame) {
        let page = Page {
            frame,
            state: State::Clean,
            is_referenced: true,
        };
        self.pages.entry(index).or_insert(page);
    }

    /// Adds pages from `first` on that are about to be read, up to the first that is there already.
    pub(super) fn claim(&mut self, first: u64, frames: &[Frame]) -> usize {
        let next = self
            .pages
            .range(first..)
            .next()
            .map_or(u64::MAX, |(next, _)| *next);
        let room = usize::try_from(next - first).unwrap_or(usize::MAX);
        let count = frames.len().min(room);
        for (index, frame) in (first..).zip(&frames[..count]) {
            let frame = frame.clone();
            let page = Page {
                frame,
                state: State::BeingRead,
                is_referenced: false,
            };
            self.pages.insert(index, page);
        }
        count
    }

    /// Ends a [`Self::claim`]. Pages that were truncated away meanwhile stay away.
    pub(super) fn settle(&mut self, first: u64, frames: &[Frame], is_read: bool) {
        for (index, frame) in (first..).zip(frames) {
            let Some(page) = self.pages.get_mut(&index) else {
                continue;
            };
            if page.state != State::BeingRead || page.frame.phys() != frame.phys() {
                continue;
            }
            if is_read {
                page.state = State::Clean;
            } else {
                self.pages.remove(&index);
            }
        }
    }

    /// Takes every page from `first` on out. The caller drops what comes back without the lock.
    pub(super) fn remove_from(&mut self, first: u64) -> Gone {
        let gone = self.pages.split_off(&first);
        self.dirty -= gone
            .values()
            .filter(|page| page.state == State::Dirty)
            .count();
        Gone(gone)
    }

    /// Drops the clean pages of a range.
    pub(super) fn remove_clean(&mut self, range: Range<u64>) {
        let mut tail = self.pages.split_off(&range.start);
        let mut behind = tail.split_off(&range.end.max(range.start));
        tail.retain(|_, page| page.state != State::Clean);
        self.pages.append(&mut tail);
        self.pages.append(&mut behind);
    }

    /// Marks the first run of dirty pages in a range clean and hands their frames out; returns where the run
    /// starts.
    pub(super) fn take_dirty_run(
        &mut self,
        range: Range<u64>,
        most: usize,
        frames: &mut Vec<Frame>,
    ) -> Option<u64> {
        if self.dirty == 0 {
            return None;
        }
        let mut first = None;
        for (&index, page) in self.pages.range_mut(range) {
            let start = *match (first.as_mut(), page.state) {
                (None, State::Dirty) => first.insert(index),
                (None, _) => continue,
                (Some(start), State::Dirty) => start,
                (Some(_), _) => break,
            };
            if index != start + frames.len() as u64 || frames.len() == most {
                break;
            }
            page.state = State::Clean;
            self.dirty -= 1;
            frames.push(page.frame.clone());
        }
        first
    }

    /// Marks pages dirty again that could not be written.
    pub(super) fn mark_dirty(&mut self, range: Range<u64>) {
        for (_, page) in self.pages.range_mut(range) {
            if page.state == State::Clean {
                page.state = State::Dirty;
                self.dirty += 1;
            }
        }
    }

    /// Drops up to `wanted` clean pages that nobody maps, those not used lately first.
    pub(super) fn shrink(&mut self, wanted: usize) -> usize {
        let mut freed = 0;
        for _ in 0..2 {
            self.pages.retain(|_, page| {
                let may_go =
                    freed < wanted && page.state == State::Clean && page.frame.handles() == 1;
                if !may_go {
                    return true;
                }
                if page.is_referenced {
                    page.is_referenced = false;
                    return true;
                }
                freed += 1;
                false
            });
            if freed >= wanted {
                break;
            }
        }
        freed
    }
}
