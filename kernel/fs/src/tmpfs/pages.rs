//! Contents of a tmpfs file: frames by page number, holes where nothing was written, and for files of the
//! initramfs archive the archive's own pages until they are written to.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use abi::{Errno, Result};
use machine::sync::SpinLock;
use machine::{Frame, PAGE_SIZE};
use memory::{MappingList, PageSource, pressure};

use super::Usage;
use super::file::Seals;

const PAGE: u64 = PAGE_SIZE as u64;
/// Frames given back at a time.
const BATCH: usize = 64;
/// Largest file, as Linux's `MAX_LFS_FILESIZE`.
const SIZE_MAX: u64 = i64::MAX as u64;

pub(super) struct Pages {
    usage: Arc<Usage>,
    len: AtomicU64,
    frames: SpinLock<BTreeMap<u64, Frame>>,
    /// Boot memory that shows through where there is no frame; cut off by truncation.
    boot: SpinLock<&'static [u8]>,
    seals: AtomicU32,
    mappings: MappingList,
    /// Held by writers, so that appends and truncations do not cross.
    pub(super) write_lock: sched::Mutex<()>,
}

impl Pages {
    pub(super) fn new(usage: &Arc<Usage>, boot: Option<(&'static [u8], u64)>) -> Arc<Self> {
        let (pages, len) = boot.unwrap_or((&[], 0));
        Arc::new(Self {
            usage: usage.clone(),
            len: AtomicU64::new(len),
            frames: SpinLock::new(BTreeMap::new()),
            boot: SpinLock::new(pages),
            seals: AtomicU32::new(Seals::SEAL.bits()),
            mappings: MappingList::new(),
            write_lock: sched::Mutex::new(()),
        })
    }

    /// Length in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// Pages that take memory.
    pub(super) fn count(&self) -> u64 {
        self.frames.lock().len() as u64
    }

    pub(super) fn seals(&self) -> Seals {
        Seals::from_bits_truncate(self.seals.load(Ordering::Acquire))
    }

    pub(super) fn set_seals(&self, seals: Seals) {
        self.seals.store(seals.bits(), Ordering::Release);
    }

    /// The frame of page `index`; `None` for a hole.
    pub(super) fn frame(&self, index: u64) -> Option<Frame> {
        if let Some(frame) = self.frames.lock().get(&index) {
            return Some(frame.clone());
        }
        self.boot_page(index).and_then(Frame::from_boot_memory)
    }

    fn boot_page(&self, index: u64) -> Option<&'static [u8]> {
        let boot: &'static [u8] = *self.boot.lock();
        let start = usize::try_from(index).ok()?.checked_mul(PAGE_SIZE)?;
        boot.get(start..start + PAGE_SIZE)
    }

    /// The frame of page `index`, to be written to: made if there is none, copied if it is boot memory.
    pub(super) fn frame_for_write(&self, index: u64) -> Result<Frame> {
        if let Some(frame) = self.frames.lock().get(&index) {
            return Ok(frame.clone());
        }
        self.usage.take_page()?;
        let boot = self.boot_page(index).and_then(Frame::from_boot_memory);
        let new = match &boot {
            Some(page) => pressure::duplicate(page),
            None => pressure::alloc_zeroed(),
        };
        let Ok(new) = new else {
            self.usage.give_pages(1);
            return Err(Errno::ENOMEM);
        };
        let mut frames = self.frames.lock();
        if let Some(other) = frames.get(&index) {
            // Someone was faster.
            let other = other.clone();
            drop(frames);
            self.usage.give_pages(1);
            return Ok(other);
        }
        frames.insert(index, new.clone());
        drop(frames);
        if boot.is_some() {
            // Mappings show the archive's page: they must fault and find the copy.
            self.mappings.unmap_pages(self, index..index + 1);
        }
        Ok(new)
    }

    /// The file reaches at least to `end`.
    pub(super) fn grow_to(&self, end: u64) {
        self.len.fetch_max(end, Ordering::AcqRel);
    }

    /// Truncates or extends.
    pub(super) fn set_len(&self, size: u64) -> Result<()> {
        if size > SIZE_MAX {
            return Err(Errno::EFBIG);
        }
        let _writing = self.write_lock.lock();
        let old = self.len();
        let seals = self.seals();
        if (size < old && seals.contains(Seals::SHRINK))
            || (size > old && seals.contains(Seals::GROW))
        {
            return Err(Errno::EPERM);
        }
        self.len.store(size, Ordering::Release);
        if size < old {
            self.discard(size, u64::MAX)?;
            // Private copies go with the end of the file, not with a hole in it.
            self.mappings.unmap_from(self, size.div_ceil(PAGE));
        }
        Ok(())
    }

    /// Makes bytes `start..end` read as zeroes, and gives their memory back.
    pub(super) fn discard(&self, start: u64, end: u64) -> Result<()> {
        let first_whole = start.div_ceil(PAGE);
        let end_whole = if end == u64::MAX {
            u64::MAX
        } else {
            end / PAGE
        };
        if first_whole > end_whole {
            return self.zero_part(start / PAGE, start % PAGE, end % PAGE);
        }
        if !start.is_multiple_of(PAGE) {
            self.zero_part(start / PAGE, start % PAGE, PAGE)?;
        }
        if end != u64::MAX && !end.is_multiple_of(PAGE) {
            self.zero_part(end / PAGE, 0, end % PAGE)?;
        }
        self.cut_boot(first_whole, end_whole)?;
        self.mappings.unmap_pages(self, first_whole..end_whole);
        self.drop_frames(first_whole..end_whole);
        Ok(())
    }

    /// Gives the frames of whole pages back, a few at a time: memory may be short, so this takes none.
    fn drop_frames(&self, range: Range<u64>) {
        loop {
            let mut dropped: [Option<Frame>; BATCH] = [const { None }; BATCH];
            let mut count = 0;
            let mut frames = self.frames.lock();
            while count < BATCH {
                let Some(index) = frames.range(range.clone()).next().map(|(index, _)| *index)
                else {
                    break;
                };
                dropped[count] = frames.remove(&index);
                count += 1;
            }
            drop(frames);
            drop(dropped);
            self.usage.give_pages(count as u64);
            if count < BATCH {
                return;
            }
        }
    }

    /// Gives every page of `range` a frame (fallocate(2)); all of them or, as on Linux, none more than before.
    pub(super) fn reserve(&self, range: Range<u64>) -> Result<()> {
        self.usage.check_room(range.end - range.start)?;
        let mut first_new = None;
        for index in range.clone() {
            if self.frames.lock().contains_key(&index) {
                continue;
            }
            if let Err(errno) = self.frame_for_write(index) {
                if let Some(first) = first_new {
                    self.drop_untouched(first..index);
                }
                return Err(errno);
            }
            first_new.get_or_insert(index);
        }
        Ok(())
    }

    /// Takes back what [`Self::reserve`] gave: pages of a file whose end is before them.
    fn drop_untouched(&self, range: Range<u64>) {
        let first = range.start.max(self.len().div_ceil(PAGE));
        if first < range.end {
            self.drop_frames(first..range.end);
        }
    }

    /// Zeroes part of one page, if it has any contents.
    fn zero_part(&self, index: u64, from: u64, to: u64) -> Result<()> {
        if self.frame(index).is_none() {
            return Ok(());
        }
        let frame = self.frame_for_write(index)?;
        let offset = usize::try_from(from).map_err(|_| Errno::EINVAL)?;
        let len = usize::try_from(to - from).map_err(|_| Errno::EINVAL)?;
        frame.fill(offset, len, 0);
        Ok(())
    }

    /// Boot pages `first..end` show through no more; those behind `end` become frames.
    fn cut_boot(&self, first: u64, end: u64) -> Result<()> {
        let pages = self.boot.lock().len() as u64 / PAGE;
        if first >= pages {
            return Ok(());
        }
        for index in end.min(pages)..pages {
            self.frame_for_write(index)?;
        }
        let first = usize::try_from(first).map_err(|_| Errno::EINVAL)?;
        let mut boot = self.boot.lock();
        *boot = &boot[..first * PAGE_SIZE];
        Ok(())
    }

    /// The first page at or behind `index` that has contents (`true`) or is a hole (`false`).
    pub(super) fn find(&self, index: u64, contents: bool) -> u64 {
        let boot_pages = self.boot.lock().len() as u64 / PAGE;
        let frames = self.frames.lock();
        if contents {
            if index < boot_pages {
                return index;
            }
            return frames
                .range(index..)
                .next()
                .map_or(u64::MAX, |(found, _)| *found);
        }
        let start = index.max(boot_pages);
        let all = frames.range(start..).map(|(index, _)| *index);
        let in_a_row = all.zip(start..).take_while(|(index, at)| index == at);
        start + in_a_row.count() as u64
    }
}

impl PageSource for Pages {
    fn page(&self, index: u64, write: bool) -> Result<Frame> {
        if index >= self.len().div_ceil(PAGE) {
            return Err(Errno::EFAULT);
        }
        if write && self.seals().intersects(Seals::WRITE | Seals::FUTURE_WRITE) {
            return Err(Errno::EPERM);
        }
        match self.frame(index) {
            Some(frame) if !write => Ok(frame),
            // A hole that is looked at through a mapping gets its frame now: a later write to the file
            // must show in the mapping.
            _ => self.frame_for_write(index),
        }
    }

    fn page_at_hand(&self, index: u64, write: bool) -> Option<Frame> {
        if write || index >= self.len().div_ceil(PAGE) {
            return None;
        }
        self.frame(index)
    }

    fn size_bytes(&self) -> u64 {
        self.len()
    }

    fn punch(&self, bytes: Range<u64>) -> Result<()> {
        let _writing = self.write_lock.lock();
        self.discard(bytes.start, bytes.end)
    }

    fn mappings(&self) -> Option<&MappingList> {
        Some(&self.mappings)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.usage.give_pages(self.frames.get_mut().len() as u64);
    }
}
