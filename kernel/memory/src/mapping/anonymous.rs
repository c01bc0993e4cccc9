//! Memory mappings: pages that are their own backing, made when first touched.

use core::ops::Range;

use abi::{Errno, Result};
use machine::frame::Kind;
use machine::{Frame, PAGE_SIZE};

use super::pages::Found;
use super::{MOST_BYTES, Mapping, PAGE, Store, offset_in_page};
use crate::io::IoReader;
use crate::pressure;

/// A page of boot memory.
fn page_of(boot: &'static [u8], index: u64) -> Option<&'static [u8]> {
    let start = usize::try_from(index).ok()?.checked_mul(PAGE_SIZE)?;
    boot.get(start..start.checked_add(PAGE_SIZE)?)
}

impl Mapping {
    /// The frame of page `index` if there is one, boot memory included; `None` for a hole.
    pub(super) fn at_hand(&self, index: u64) -> Option<Frame> {
        match self.pages.lock().find(index) {
            Found::Ready(frame) => return Some(frame),
            Found::Busy => return None,
            Found::Absent => {}
        }
        self.boot_page(index).and_then(Frame::from_boot_memory)
    }

    /// The frames of pages from `first` on, where there is none yet, boot memory included. Each lock is taken once.
    pub(super) fn pages_at_hand(&self, first: u64, frames: &mut [Option<Frame>]) {
        let most = self.end_index().saturating_sub(first);
        let wanted = frames.iter().take(64).enumerate();
        let wanted = wanted.filter(|(n, frame)| frame.is_none() && (*n as u64) < most);
        let wanted = wanted.fold(0_u64, |bits, (n, _)| bits | 1 << n);
        if wanted == 0 {
            return;
        }
        let mut absent = wanted;
        let mut pages = self.pages.lock();
        pages.find_in(
            first..first + most.min(frames.len() as u64).min(64),
            |index| wanted & 1 << (index - first) != 0,
            |index, found| {
                absent &= !(1 << (index - first));
                let place = usize::try_from(index - first).ok();
                let place = place.and_then(|place| frames.get_mut(place));
                if let (Some(frame), Found::Ready(found)) = (place, found) {
                    *frame = Some(found);
                }
            },
        );
        drop(pages);
        if absent == 0 {
            return;
        }
        let boot = self.boot_memory();
        if boot.is_empty() {
            return;
        }
        for (n, frame) in frames.iter_mut().enumerate().take(64) {
            if absent & 1 << n != 0 {
                let page = page_of(boot, first + n as u64);
                *frame = page.and_then(Frame::from_boot_memory);
            }
        }
    }

    fn boot_page(&self, index: u64) -> Option<&'static [u8]> {
        page_of(self.boot_memory(), index)
    }

    /// The part of the archive that the file began as; empty when it is none.
    fn boot_memory(&self) -> &'static [u8] {
        match &self.store {
            Store::Memory { boot, .. } => *boot.lock(),
            Store::Device(_) => &[],
        }
    }

    /// The frame of page `index`, to be written to: made if there is none, copied if it is boot memory.
    ///
    /// # Errors
    /// `ENOSPC`, `ENOMEM`.
    pub(super) fn make(&self, index: u64) -> Result<Frame> {
        let Store::Memory { quota, .. } = &self.store else {
            return Err(Errno::EOPNOTSUPP);
        };
        if let Found::Ready(frame) = self.pages.lock().find(index) {
            return Ok(frame);
        }
        if let Some(quota) = quota {
            quota.take_page()?;
        }
        let give_back = || {
            if let Some(quota) = quota {
                quota.give_pages(1);
            }
        };
        let boot = self.boot_page(index).and_then(Frame::from_boot_memory);
        let new = match &boot {
            Some(page) => pressure::duplicate(page),
            None => pressure::alloc_zeroed(),
        };
        let inserted = new.and_then(|new| {
            new.set_kind(Kind::Shmem);
            let mut pages = self.pages.lock();
            let is_new = pages.insert(index, &new)?;
            match pages.find(index) {
                Found::Ready(frame) => Ok((is_new, frame)),
                Found::Busy | Found::Absent => Err(Errno::ENOMEM),
            }
        });
        match inserted {
            Ok((true, frame)) => {
                if boot.is_some() {
                    // Mappings show the boot page: they must fault and find the copy.
                    self.mappings.unmap_pages(self, index..index + 1);
                }
                Ok(frame)
            }
            Ok((false, frame)) => {
                give_back();
                Ok(frame)
            }
            Err(errno) => {
                give_back();
                Err(errno)
            }
        }
    }

    /// Writes at `offset`, growing the file as far as bytes were written.
    ///
    /// # Errors
    /// `EFAULT` from `from`, `ENOSPC`, `ENOMEM` or `EFBIG` when not a byte was written.
    pub fn write(&self, offset: u64, from: &mut IoReader<'_>) -> Result<usize> {
        let mut done = 0;
        while from.remaining() > 0 {
            let at = offset.saturating_add(done as u64);
            let part = from.remaining().min(PAGE_SIZE - offset_in_page(at));
            let moved = if at.saturating_add(part as u64) > MOST_BYTES {
                Err(Errno::EFBIG)
            } else {
                self.write_part(at, part, from)
            };
            match moved {
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

    fn write_part(&self, at: u64, len: usize, from: &mut IoReader<'_>) -> Result<usize> {
        let (index, start) = (at / PAGE, offset_in_page(at));
        self.close_gap(at);
        let frame = self.make(index)?;
        let moved = from.read_frame(&frame, start, len)?;
        self.reach(at + moved as u64);
        Ok(moved)
    }

    /// Gives every page of a range a frame (fallocate(2)), whatever the size; all of them or, as on Linux, none more
    /// than before.
    ///
    /// # Errors
    /// `ENOSPC`, `ENOMEM`.
    pub fn reserve(&self, range: Range<u64>) -> Result<()> {
        let mut first_new = None;
        for index in range.clone() {
            if matches!(self.pages.lock().find(index), Found::Ready(_)) {
                continue;
            }
            if let Err(errno) = self.make(index) {
                if let Some(first) = first_new {
                    // Only beyond the end is a page untouched for sure.
                    let first = self.end_index().max(first);
                    if first < index {
                        self.drop_pages(first..index, false);
                    }
                }
                return Err(errno);
            }
            first_new.get_or_insert(index);
            sched::cond_resched();
        }
        Ok(())
    }

    /// Sets the size, with the boot memory behind it cut off.
    ///
    /// # Errors
    /// `ENOSPC`, `ENOMEM` when the last page must be copied and cannot be.
    pub fn truncate(&self, size_bytes: u64) -> Result<()> {
        if size_bytes < self.size_bytes() {
            if offset_in_page(size_bytes) > 0 && self.boot_page(size_bytes / PAGE).is_some() {
                self.make(size_bytes / PAGE)?;
            }
            self.cut_boot(size_bytes.div_ceil(PAGE), u64::MAX)?;
        }
        self.set_size(size_bytes);
        Ok(())
    }

    /// Turns a range of bytes into a hole.
    ///
    /// # Errors
    /// `ENOSPC`, `ENOMEM` when boot memory must be copied and cannot be.
    pub fn punch_hole(&self, bytes: Range<u64>) -> Result<()> {
        for edge in [bytes.start, bytes.end] {
            if offset_in_page(edge) > 0 && self.boot_page(edge / PAGE).is_some() {
                self.make(edge / PAGE)?;
            }
        }
        self.cut_boot(bytes.start.div_ceil(PAGE), bytes.end / PAGE)?;
        self.forget_range(bytes);
        Ok(())
    }

    /// Boot pages `first..end` show through no more; those behind `end` become frames.
    fn cut_boot(&self, first: u64, end: u64) -> Result<()> {
        let Store::Memory { boot, .. } = &self.store else {
            return Ok(());
        };
        let pages = boot.lock().len() as u64 / PAGE;
        if first >= pages || first >= end {
            return Ok(());
        }
        for index in end.min(pages)..pages {
            self.make(index)?;
        }
        let first = usize::try_from(first).map_err(|_| Errno::EINVAL)?;
        let mut boot = boot.lock();
        *boot = &boot[..first * PAGE_SIZE];
        Ok(())
    }

    /// The first byte at or behind `offset` that is in a page with contents (`true`) or in a hole (`false`); beyond the
    /// end there is neither.
    #[must_use]
    pub fn find_from(&self, offset: u64, contents: bool) -> u64 {
        let boot_pages = match &self.store {
            Store::Memory { boot, .. } => boot.lock().len() as u64 / PAGE,
            Store::Device(_) => 0,
        };
        let index = offset / PAGE;
        let found = if contents && index < boot_pages {
            index
        } else {
            let from = if contents {
                index
            } else {
                index.max(boot_pages)
            };
            self.pages.lock().find_from(from, contents)
        };
        found.saturating_mul(PAGE).max(offset)
    }
}
