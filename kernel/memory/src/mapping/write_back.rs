//! Writing back what was stored through mappings, and keeping the cache in step with writes that go to the
//! backing at once.

use core::ops::Range;

use abi::{Errno, Result};
use collections::Vec;
use machine::{Frame, PAGE_SIZE, frame};

use super::pages::{DirtyPage, Found};
use super::{Backing, Mapping, PAGE, WriteGuard, offset_in_page};
use crate::numbers::DIRTY;

/// Pages whose dirty tags are taken at a time: mappings are made to ask again once for all of them.
const BATCH: usize = 256;
/// Bytes copied between frames at a time.
const BOUNCE: usize = 512;
/// Dirty pages of one file at which who makes one more has to write back first.
pub(super) const MOST_DIRTY: usize = 4096;
/// Percent of all memory that may be dirty before who makes one more page dirty has to write its file back
/// (/proc/sys/vm/dirty_ratio).
pub const DIRTY_RATIO: usize = 20;
const MOST_DIRTY_PART: usize = 100 / DIRTY_RATIO;

impl Mapping {
    /// Writes the dirty pages that touch a range of bytes back, in requests as large as the backing takes. Costs
    /// nothing when there are none. Goes on behind pages that cannot be written: those stay dirty, and every
    /// open description hears of the error once ([`Mapping::errors`]).
    ///
    /// # Errors
    /// The first error of this write-back.
    pub fn write_back(&self, bytes: Range<u64>) -> Result<()> {
        let guard = self.lock_writes();
        self.write_back_locked(bytes, &guard)
    }

    /// As [`Self::write_back`], for who keeps others from changing the file already.
    ///
    /// # Errors
    /// The first error of this write-back.
    pub fn write_back_locked(&self, bytes: Range<u64>, _: &WriteGuard<'_>) -> Result<()> {
        let mut range = bytes.start / PAGE..bytes.end.div_ceil(PAGE);
        if range.is_empty() || !self.pages.lock().has_dirty(range.clone()) {
            return Ok(());
        }
        let backing = self.backing()?;
        let mut batch: Vec<DirtyPage> = Vec::try_with_capacity(BATCH)?;
        let mut outcome = Ok(());
        loop {
            batch.clear();
            self.pages
                .lock()
                .start_write_back(range.clone(), &mut batch);
            let (Some(first), Some(last)) = (batch.first(), batch.last()) else {
                return outcome;
            };
            range.start = last.0 + 1;
            // Stores from here on make a page dirty again; those before are in the frame.
            self.mappings.expect_stores(self, first.0..last.0 + 1);
            let written = self.write_batch(backing.as_ref(), &batch);
            outcome = outcome.and(written);
            sched::cond_resched();
        }
    }

    /// Writes pages that are in order, each run of neighbours in as few requests as the backing allows.
    fn write_batch(&self, backing: &dyn Backing, batch: &[DirtyPage]) -> Result<()> {
        let most = backing.max_pages().max(1);
        let mut outcome = Ok(());
        let mut frames: Vec<Frame> = Vec::new();
        let mut rest = batch;
        while let Some((first, _)) = rest.first() {
            let run = rest
                .iter()
                .zip(*first..)
                .take_while(|((index, _), expected)| index == expected)
                .count()
                .min(most);
            let (now, behind) = rest.split_at(run);
            rest = behind;
            frames.clear();
            let written = frames
                .try_extend(now.iter().map(|(_, frame)| frame.clone()))
                .map_err(Errno::from)
                .and_then(|()| self.write_run(backing, *first, &frames));
            let mut pages = self.pages.lock();
            for (index, _) in now {
                pages.written(*index, written.is_ok());
            }
            drop(pages);
            if let Err(errno) = written {
                self.errors.record(errno);
                outcome = outcome.and(written);
            }
        }
        outcome
    }

    fn write_run(&self, backing: &dyn Backing, first: u64, frames: &[Frame]) -> Result<()> {
        // What lies beyond the end of the file is not part of it.
        let len = (frames.len() as u64 * PAGE).min(self.size_bytes().saturating_sub(first * PAGE));
        if len == 0 {
            return Ok(());
        }
        backing.write_pages(first, frames, len)
    }

    /// Whether anything was stored to that the backing does not have.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.pages.lock().dirty() > 0
    }

    /// Keeps dirty pages within bounds, those of one file and all of them. Errors wait for who asks for them.
    pub(super) fn throttle(&self) {
        let most = if DIRTY.get() > frame::total() / MOST_DIRTY_PART {
            0
        } else {
            MOST_DIRTY
        };
        if self.pages.lock().dirty() > most {
            let _ = self.write_back(0..u64::MAX);
        }
    }

    /// `len` bytes at `offset` were written to the backing behind the cache: brings the cached pages up to date and lets
    /// the file grow. `frames` hold the bytes laid out as in the file's pages, zeroes around them; a page that they
    /// fill, as far as the file reaches, is taken in as it is.
    pub fn wrote_through(&self, offset: u64, frames: &[Frame], len: usize, _: &WriteGuard<'_>) {
        self.close_gap(offset);
        let end = offset + len as u64;
        let size = self.size_bytes().max(end);
        let mut at = offset;
        for frame in frames {
            if at >= end {
                break;
            }
            let start = offset_in_page(at);
            let part = (PAGE_SIZE - start).min(usize::try_from(end - at).unwrap_or(PAGE_SIZE));
            let is_all = start == 0 && (part == PAGE_SIZE || at + part as u64 >= size);
            self.update_page(at / PAGE, frame, start, part, is_all);
            at += part as u64;
        }
        self.reach(end);
    }

    fn update_page(&self, index: u64, from: &Frame, start: usize, len: usize, is_all: bool) {
        loop {
            let found = self.pages.lock().find(index);
            match found {
                Found::Ready(frame) => return copy(from, &frame, start, len),
                // What is being read may be from before the write.
                Found::Busy => self.wait_settled(index),
                Found::Absent if !is_all || self.enrol().is_err() => return,
                Found::Absent => match self.pages.lock().insert(index, from) {
                    Ok(false) => {}
                    Ok(true) | Err(_) => return,
                },
            }
        }
    }
}

/// Copies the same range from one frame to another.
fn copy(from: &Frame, to: &Frame, start: usize, len: usize) {
    let mut bounce = [0; BOUNCE];
    for at in (start..start + len).step_by(BOUNCE) {
        let step = BOUNCE.min(start + len - at);
        from.read(at, &mut bounce[..step]);
        to.write(at, &bounce[..step]);
    }
}
