//! Reading: read(2) through the cache, and bringing pages in from the backing with read-ahead.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use abi::Result;
use collections::Vec;
use machine::frame::Kind;
use machine::{Frame, PAGE_SIZE};

use super::pages::Found;
use super::{Mapping, PAGE, offset_in_page};
use crate::io::IoWriter;
use crate::pressure;

/// Pages read at once when there is no sign of a sequential reader.
const SCATTERED: usize = 8;
/// Pages around a fault that are read with it, aligned. A program's code is called to and fro: what lies before the page
/// is as likely to be wanted as what lies behind it, and a round trip costs more than the pages.
const AROUND: usize = 16;

/// How one reader moves through a file: each open description has its own, faults share the mapping's.
#[derive(Debug, Default)]
pub struct Readahead {
    /// The page after the last one that was brought in or used.
    next: AtomicU64,
    /// Pages to bring in at once.
    window: AtomicUsize,
    /// The page after the last ones that were read: who maps what is at hand around a fault misses this one next, if
    /// it goes on.
    end: AtomicU64,
}

impl Readahead {
    /// A reader that has read nothing: it is expected to start at the beginning.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            next: AtomicU64::new(0),
            window: AtomicUsize::new(SCATTERED),
            end: AtomicU64::new(0),
        }
    }

    /// Whether a fault at `index` goes on where the reader was.
    fn goes_on(&self, index: u64) -> bool {
        index != 0
            && [&self.next, &self.end]
                .iter()
                .any(|known| known.load(Ordering::Relaxed) == index)
    }

    /// Pages to bring in from `index` on when it is missed: the window doubles as long as the reader goes on where
    /// it was, and starts again where it jumps.
    fn missed(&self, index: u64, most: usize) -> usize {
        let goes_on = self.next.load(Ordering::Relaxed) == index || self.goes_on(index);
        let window = if goes_on {
            let window = self.window.load(Ordering::Relaxed);
            self.window
                .store(window.saturating_mul(2).min(most), Ordering::Relaxed);
            window
        } else {
            self.window.store(SCATTERED, Ordering::Relaxed);
            SCATTERED
        };
        window.clamp(1, most.max(1))
    }

    fn used(&self, index: u64) {
        self.next.store(index + 1, Ordering::Relaxed);
    }
}

impl Mapping {
    /// Reads from `offset` on, up to the end of the file, as far as `to` takes it.
    ///
    /// # Errors
    /// `EFAULT` from `to`, or what the backing says, when not a byte was read.
    pub fn read(&self, offset: u64, to: &mut IoWriter<'_>, ahead: &Readahead) -> Result<usize> {
        let mut done = 0;
        while to.remaining() > 0 {
            let at = offset.saturating_add(done as u64);
            let left = self.size_bytes().saturating_sub(at);
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            let start = offset_in_page(at);
            let part = to.remaining().min(PAGE_SIZE - start).min(left);
            if part == 0 {
                break;
            }
            let wanted = (start + to.remaining().min(left)).div_ceil(PAGE_SIZE);
            match self.read_part(at / PAGE, wanted, (start, part), to, ahead) {
                Ok(moved) => {
                    done += moved;
                    sched::cond_resched();
                    if moved < part {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }

    /// Reads `part` (offset and length) of page `index`.
    fn read_part(
        &self,
        index: u64,
        wanted: usize,
        part: (usize, usize),
        to: &mut IoWriter<'_>,
        ahead: &Readahead,
    ) -> Result<usize> {
        let frame = if self.is_device() {
            match self.bring_in(index, wanted, ahead)? {
                Some(frame) => Some(frame),
                // The file ends before it by now.
                None => return Ok(0),
            }
        } else {
            self.at_hand(index)
        };
        match frame {
            Some(frame) => to.write_frame(&frame, part.0, part.1),
            None => to.zero(part.1),
        }
    }

    /// Page `index` of a device mapping, read with at least `wanted` pages when it is not here; `None` past
    /// the end of the file.
    pub(super) fn bring_in(
        &self,
        index: u64,
        wanted: usize,
        ahead: &Readahead,
    ) -> Result<Option<Frame>> {
        loop {
            let found = self.pages.lock().find(index);
            match found {
                Found::Ready(frame) => {
                    ahead.used(index);
                    return Ok(Some(frame));
                }
                Found::Busy => self.wait_settled(index),
                Found::Absent if index >= self.end_index() => return Ok(None),
                Found::Absent => self.read_in(index, wanted, ahead)?,
            }
        }
    }

    /// Waits until page `index` is not busy.
    pub(super) fn wait_settled(&self, index: u64) {
        self.settled.wait_until(|| {
            let found = self.pages.lock().find(index);
            (!matches!(found, Found::Busy)).then_some(())
        });
    }

    /// Page `index` of a device mapping for a fault, read with what lies around it when it is not here; `None` past
    /// the end of the file.
    pub(super) fn fault_in(&self, index: u64) -> Result<Option<Frame>> {
        let ahead = &self.readahead;
        let base = index - index % AROUND as u64;
        if ahead.goes_on(index) || base == index {
            return self.bring_in(index, AROUND, ahead);
        }
        // From the first of those before it that are not here either. Somebody may bring some in meanwhile; then
        // what is read ends there, and the page itself is still missing below.
        let mut first = base;
        self.pages
            .lock()
            .find_in(base..index + 1, |_| true, |here, _| first = here + 1);
        if first <= index && index < self.end_index() {
            let before = usize::try_from(first - base).unwrap_or(0);
            self.read_pages(first, AROUND - before)?;
        }
        self.bring_in(index, 1, ahead)
    }

    /// Reads page `index` and what follows it.
    fn read_in(&self, index: u64, wanted: usize, ahead: &Readahead) -> Result<()> {
        let most = self.backing()?.max_pages().max(1);
        let count = ahead.missed(index, most).max(wanted.min(most));
        self.read_pages(index, count)
    }

    /// Reads up to `count` pages from `index` on, as far as they are not here and the file goes.
    fn read_pages(&self, index: u64, count: usize) -> Result<()> {
        let backing = self.backing()?;
        self.enrol()?;
        let left = self.end_index().saturating_sub(index).max(1);
        let count = count
            .min(backing.max_pages().max(1))
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut frames = new_frames(count)?;
        let claimed = self.pages.lock().claim(index, &frames)?;
        frames.truncate(claimed);
        if frames.is_empty() {
            // Somebody else is at it, or done.
            return Ok(());
        }
        let end = index + frames.len() as u64;
        self.readahead.end.store(end, Ordering::Relaxed);
        let outcome = backing.read_pages(index, &frames);
        self.pages.lock().settle(index, &frames, outcome.is_ok());
        self.settled.wake_all();
        outcome
    }

    /// Brings pages in that will be wanted soon, without handing them out (`MADV_WILLNEED`, readahead(2)). Stops at
    /// the first that cannot be read: it shows when it is touched.
    pub fn prefetch(&self, first: u64, end: u64) {
        if !self.is_device() {
            return;
        }
        let end = end.min(self.end_index());
        for index in first..end {
            let wanted = usize::try_from(end - index).unwrap_or(usize::MAX);
            if !matches!(self.bring_in(index, wanted, &self.readahead), Ok(Some(_))) {
                return;
            }
        }
    }
}

/// New frames of zeroes, as many of `count` as there are, at least one.
fn new_frames(count: usize) -> Result<Vec<Frame>> {
    let mut frames = Vec::try_with_capacity(count)?;
    while frames.len() < count {
        match pressure::alloc_zeroed() {
            Ok(frame) => {
                frame.set_kind(Kind::File);
                frames.try_push(frame)?;
            }
            Err(_) if !frames.is_empty() => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(frames)
}
