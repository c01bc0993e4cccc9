//! Requests to a virtio block device, and the [`Backing`] of its pages.
//!
//! Any number of threads have requests in flight; the device's interrupt only wakes those that wait, and whoever
//! runs first leaves each completion where its owner looks. What the device says is checked: its limits once, a
//! request's status each time. A wait for it is not interruptible, as a wait for a disk is not on Linux.
//!
//! Locking: [`Call`] and `spare` are leaf spin locks.

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::{Vec, try_arc};
use machine::sync::SpinLock;
use machine::virtio::{Device, RequestQueue, Segment, SetupError};
use machine::{Frame, PAGE_SIZE};
use memory::Backing;
use sched::WaitQueue;

use crate::page_io::segments;
use crate::requests;

/// Bytes of a sector, the unit of the device's addresses.
pub(super) const SECTOR: u32 = 512;
const PAGE: u64 = PAGE_SIZE as u64;

/// Features (section 5.2.3).
const SEG_MAX: u64 = 1 << 2;
const READ_ONLY: u64 = 1 << 5;
const BLK_SIZE: u64 = 1 << 6;
const FLUSH: u64 = 1 << 9;
const DISCARD: u64 = 1 << 13;
const WRITE_ZEROES: u64 = 1 << 14;
const WANTED: u64 = SEG_MAX | READ_ONLY | BLK_SIZE | FLUSH | DISCARD | WRITE_ZEROES;

/// Entries of the queue, if the device has as many.
const ENTRIES: u16 = 128;
/// The most pages of one request.
const MOST_PAGES: usize = 64;
/// Frames kept for headers.
const SPARE_FRAMES: usize = 4;

/// Where things are in a request's own frame: header, the range of a request that has one, status.
const HEADER_LEN: usize = 16;
const RANGE_LEN: usize = 16;
const STATUS_AT: usize = 64;

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    In = 0,
    Out = 1,
    Flush = 4,
    Discard = 11,
    WriteZeroes = 13,
}

/// A way to make a range of sectors zero, or nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Erase {
    /// Its contents do not matter any more.
    Discard,
    /// It reads as zeroes.
    Zero,
}

/// What the device has said of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    sectors: u64,
    /// Bytes that are read and written as one.
    pub(super) block: u32,
    pub(super) is_read_only: bool,
    max_pages: usize,
    can_flush: bool,
    /// The most sectors of one request; 0 when the device does not know it.
    max_discard: u32,
    max_zeroes: u32,
}

impl Limits {
    /// From the device's configuration; `None` when it makes no sense.
    fn read(device: &Device, features: u64) -> Option<Limits> {
        let has = |feature: u64| features & feature != 0;
        let mut sectors = [0; 8];
        let word = |offset| device.config_u32(offset);
        if !device.read_config(0, &mut sectors) {
            return None;
        }
        let block = if has(BLK_SIZE) { word(20)? } else { SECTOR };
        let fits = block.is_power_of_two() && (u64::from(SECTOR)..=PAGE).contains(&block.into());
        let parts = if has(SEG_MAX) { word(12)? } else { 1 };
        let parts = usize::try_from(parts).unwrap_or(MOST_PAGES);
        let sectors = u64::from_le_bytes(sectors);
        fits.then_some(())?;
        let limits = Limits {
            // Whole blocks, as many as a file offset reaches.
            sectors: sectors.min(i64::MAX.unsigned_abs() / u64::from(SECTOR)),
            block,
            is_read_only: has(READ_ONLY),
            max_pages: parts.clamp(1, MOST_PAGES),
            can_flush: has(FLUSH),
            max_discard: if has(DISCARD) { word(36)? } else { 0 },
            max_zeroes: if has(WRITE_ZEROES) { word(48)? } else { 0 },
        };
        Some(limits)
    }

    /// The most pages of one request.
    pub(super) const fn max_pages(&self) -> usize {
        self.max_pages
    }

    pub(super) fn size_bytes(&self) -> u64 {
        let bytes = self.sectors * u64::from(SECTOR);
        bytes - bytes % u64::from(self.block)
    }
}

#[cfg(test)]
impl Limits {
    pub(super) fn for_tests(sectors: u64) -> Self {
        Self {
            sectors,
            block: SECTOR,
            is_read_only: false,
            max_pages: MOST_PAGES,
            can_flush: true,
            max_discard: 8,
            max_zeroes: 8,
        }
    }

    pub(super) fn set_erase(&mut self, max_discard: u32, max_zeroes: u32) {
        (self.max_discard, self.max_zeroes) = (max_discard, max_zeroes);
    }
}

/// The device's end of a request: its completion, once it has come.
#[derive(Debug, Default)]
pub(super) struct Call(SpinLock<bool>);

/// The requests of one disk.
pub(super) struct BlockQueue {
    requests: Arc<RequestQueue<Arc<Call>>>,
    /// Woken by the device, and by threads that collected what others wait for.
    activity: Arc<WaitQueue>,
    limits: Limits,
    spare: SpinLock<Vec<Frame>>,
}

impl BlockQueue {
    /// Lets a device run.
    pub(super) fn start(mut device: Device) -> core::result::Result<Self, SetupError> {
        let features = device.negotiate(WANTED)?;
        let limits = Limits::read(&device, features).ok_or(SetupError::FeaturesRefused)?;
        let activity = try_arc(WaitQueue::new())?;
        let woken = activity.clone();
        let events = try_arc(move || woken.wake_all())?;
        let requests = device.queue(0, ENTRIES, 0, events)?;
        device.start()?;
        Ok(Self::new(requests, activity, limits)?)
    }

    pub(super) fn new(
        requests: Arc<RequestQueue<Arc<Call>>>,
        activity: Arc<WaitQueue>,
        mut limits: Limits,
    ) -> core::result::Result<Self, collections::AllocError> {
        // Beside the pages a request has a header and a status.
        let room = requests.size().saturating_sub(2).max(1);
        limits.max_pages = limits.max_pages.min(room);
        Ok(Self {
            requests,
            activity,
            limits,
            spare: SpinLock::new(Vec::try_with_capacity(SPARE_FRAMES)?),
        })
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Reads `len` bytes, whole sectors, from byte `at` of the disk into `frames`, laid out as its pages.
    pub(super) fn read(&self, at: u64, frames: &[Frame], len: usize) -> Result<()> {
        let data = segments(frames, offset_in_page(at), len)?;
        self.ask(Kind::In, at, None, data)
    }

    /// Writes `len` bytes, whole sectors, likewise.
    pub(super) fn write(&self, at: u64, frames: &[Frame], len: usize) -> Result<()> {
        let data = segments(frames, offset_in_page(at), len)?;
        self.ask(Kind::Out, at, None, data)
    }

    /// Has what was written reach the medium. A device that cannot be asked does so by itself.
    pub(super) fn flush(&self) -> Result<()> {
        match self.limits.can_flush {
            true => self.ask(Kind::Flush, 0, None, Vec::new()),
            false => Ok(()),
        }
    }

    /// Erases a range of whole sectors.
    ///
    /// # Errors
    /// `EOPNOTSUPP` when the device knows no such request.
    pub(super) fn erase(&self, how: Erase, at: u64, len: u64) -> Result<()> {
        let (kind, most) = match how {
            Erase::Discard => (Kind::Discard, self.limits.max_discard),
            Erase::Zero => (Kind::WriteZeroes, self.limits.max_zeroes),
        };
        if most == 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut sector = at / u64::from(SECTOR);
        let end = sector + len / u64::from(SECTOR);
        while sector < end {
            let count = u32::try_from(end - sector).unwrap_or(u32::MAX).min(most);
            self.ask(kind, 0, Some((sector, count)), Vec::new())?;
            sector += u64::from(count);
            sched::cond_resched();
        }
        Ok(())
    }

    /// Makes a request about byte `at` of the disk and waits for it.
    fn ask(
        &self,
        kind: Kind,
        at: u64,
        range: Option<(u64, u32)>,
        data: Vec<Segment>,
    ) -> Result<()> {
        let kept = self.spare.lock().pop();
        let frame = match kept {
            Some(frame) => frame,
            None => memory::pressure::alloc_zeroed()?,
        };
        let outcome = self.ask_in(&frame, kind, at, range, data);
        // A device that is broken may write to it for ever: then it stays the queue's alone.
        if !self.requests.is_broken() {
            let unfit = self.spare.lock().push_within_capacity(frame);
            drop(unfit);
        }
        outcome
    }

    /// Does so with header, range and status in `frame`.
    fn ask_in(
        &self,
        frame: &Frame,
        kind: Kind,
        at: u64,
        range: Option<(u64, u32)>,
        data: Vec<Segment>,
    ) -> Result<()> {
        frame.write(0, &(kind as u64).to_le_bytes());
        frame.write(8, &(at / u64::from(SECTOR)).to_le_bytes());
        let mut header_len = HEADER_LEN;
        if let Some((sector, count)) = range {
            frame.write(HEADER_LEN, &sector.to_le_bytes());
            // No flags.
            frame.write(HEADER_LEN + 8, &u64::from(count).to_le_bytes());
            header_len += RANGE_LEN;
        }
        frame.write(STATUS_AT, &[u8::MAX]);
        let mut readable = Vec::try_with_capacity(1 + data.len())?;
        let mut writable = Vec::try_with_capacity(1 + data.len())?;
        readable.try_extend(Segment::new(frame.clone(), 0, header_len))?;
        let with_data = match kind {
            Kind::In => &mut writable,
            Kind::Out | Kind::Flush | Kind::Discard | Kind::WriteZeroes => &mut readable,
        };
        with_data.try_extend(data)?;
        writable.try_extend(Segment::new(frame.clone(), STATUS_AT, 1))?;
        let call = try_arc(Call::default())?;
        let (queue, activity) = (&self.requests, &self.activity);
        let collect = || self.take_completed();
        requests::submit(queue, activity, collect, (readable, writable), &call)?;
        requests::wait(activity, collect, || {
            if *call.0.lock() {
                return Some(Ok(()));
            }
            self.requests.is_broken().then_some(Err(Errno::EIO))
        })?;
        let mut status = [0];
        frame.read(STATUS_AT, &mut status);
        match status {
            [0] => Ok(()),
            [2] => Err(Errno::EOPNOTSUPP),
            _ => Err(Errno::EIO),
        }
    }

    /// Tells every request that the device is done with; whether there was one.
    fn take_completed(&self) -> bool {
        let mut any = false;
        while let Some(done) = self.requests.completed() {
            *done.context.0.lock() = true;
            any = true;
        }
        any
    }
}

fn offset_in_page(at: u64) -> usize {
    usize::try_from(at % PAGE).unwrap_or(0)
}

impl Backing for BlockQueue {
    fn read_pages(&self, first: u64, frames: &[Frame]) -> Result<()> {
        let at = first * PAGE;
        let left = self.limits.size_bytes().saturating_sub(at);
        let len = (frames.len() * PAGE_SIZE).min(usize::try_from(left).unwrap_or(usize::MAX));
        match len {
            0 => Ok(()),
            len => self.read(at, frames, len),
        }
    }

    fn write_pages(&self, first: u64, frames: &[Frame], len_bytes: u64) -> Result<()> {
        let len = usize::try_from(len_bytes).map_err(|_| Errno::EINVAL)?;
        self.write(first * PAGE, frames, len)
    }

    fn max_pages(&self) -> usize {
        self.limits.max_pages
    }
}
