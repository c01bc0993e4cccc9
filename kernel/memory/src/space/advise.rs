//! madvise(2). Advice that is not followed is refused, except where ignoring it is following it.

use core::ops::Range;

use abi::{Errno, Result};
use machine::UserAddr;

use super::area::{Area, AreaFlags, Prot};
use super::fault::FaultError;
use super::map::Stopped;
use super::{AddressSpace, PAGE, unmap_pages, wrapping_range};

const NORMAL: u32 = 0;
const RANDOM: u32 = 1;
const SEQUENTIAL: u32 = 2;
const WILL_NEED: u32 = 3;
const DONT_NEED: u32 = 4;
const FREE: u32 = 8;
const REMOVE: u32 = 9;
const DONT_FORK: u32 = 10;
const DO_FORK: u32 = 11;
const LARGE: u32 = 14;
const NO_LARGE: u32 = 15;
const DONT_DUMP: u32 = 16;
const DO_DUMP: u32 = 17;
const WIPE_ON_FORK: u32 = 18;
const KEEP_ON_FORK: u32 = 19;
const COLD: u32 = 20;
const PAGE_OUT: u32 = 21;
const POPULATE_READ: u32 = 22;
const POPULATE_WRITE: u32 = 23;
const DONT_NEED_LOCKED: u32 = 24;

impl AddressSpace {
    /// madvise(2): `advice` is the `MADV_*` number.
    ///
    /// # Errors
    /// As madvise(2): `EINVAL` for advice that is not supported or does not fit the mapping, `ENOMEM` where
    /// something in the range is not mapped (the rest has been done).
    pub fn advise(&self, addr: UserAddr, len: u64, advice: u32) -> Result<()> {
        let range = wrapping_range(addr, len)?;
        if range.is_empty() && len > 0 {
            return Err(Errno::EINVAL);
        }
        match advice {
            // Nothing is swapped or reordered here, so these hold by themselves.
            NORMAL | RANDOM | SEQUENTIAL => self.check_covered(range),
            COLD | PAGE_OUT => self.check_unlocked(range),
            WILL_NEED => self.read_ahead(range),
            DONT_NEED | DONT_NEED_LOCKED | FREE => self.discard(range, advice),
            REMOVE => self.punch(range),
            LARGE | NO_LARGE => {
                let (set, cleared) = if advice == LARGE {
                    (AreaFlags::LARGE, AreaFlags::NO_LARGE)
                } else {
                    (AreaFlags::NO_LARGE, AreaFlags::LARGE)
                };
                // Both, also where a part of the range is not mapped.
                let outcome = self.set_flag(range.clone(), cleared, false);
                self.set_flag(range, set, true).and(outcome)
            }
            DONT_FORK => self.set_flag(range, AreaFlags::DONT_FORK, true),
            DO_FORK => self.set_flag(range, AreaFlags::DONT_FORK, false),
            DONT_DUMP => self.set_flag(range, AreaFlags::DONT_DUMP, true),
            DO_DUMP => self.set_flag(range, AreaFlags::DONT_DUMP, false),
            WIPE_ON_FORK => self.set_flag(range, AreaFlags::WIPE_ON_FORK, true),
            KEEP_ON_FORK => self.set_flag(range, AreaFlags::WIPE_ON_FORK, false),
            POPULATE_READ | POPULATE_WRITE => self.touch_all(range, advice == POPULATE_WRITE),
            _ => Err(Errno::EINVAL),
        }
    }

    fn check_covered(&self, range: Range<u64>) -> Result<()> {
        if self.areas.read().tree.covers(range) {
            Ok(())
        } else {
            Err(Errno::ENOMEM)
        }
    }

    /// Locked memory does not cool down.
    fn check_unlocked(&self, range: Range<u64>) -> Result<()> {
        let is_locked = |(_, area): (u64, &Area)| area.flags.contains(AreaFlags::LOCKED);
        let areas = self.areas.read();
        if areas.tree.overlapping(range.clone()).any(is_locked) {
            return Err(Errno::EINVAL);
        }
        drop(areas);
        self.check_covered(range)
    }

    /// Reads the pages of files in the range in, without mapping them.
    fn read_ahead(&self, range: Range<u64>) -> Result<()> {
        let parts = self.areas.read().parts(range.clone(), |start, area| {
            area.source
                .clone()
                .map(|source| (source, area.page_index(start, start.max(range.start))))
        })?;
        for (part, source) in parts {
            let Some((source, first)) = source else {
                continue;
            };
            let end =
                (first + (part.end - part.start) / PAGE).min(source.size_bytes().div_ceil(PAGE));
            for index in first..end {
                // Only advice: what cannot be read now shows when it is touched.
                if source.page(index, false).is_err() {
                    break;
                }
                sched::cond_resched();
            }
        }
        self.check_covered(range)
    }

    /// Drops pages: anonymous memory is zeroes again, files are read again.
    fn discard(&self, range: Range<u64>, advice: u32) -> Result<()> {
        let mut areas = self.areas.write();
        self.note_peak(&mut areas);
        let is_refused = |area: &Area| {
            (advice == FREE && area.source.is_some())
                || (advice != DONT_NEED_LOCKED && area.flags.contains(AreaFlags::LOCKED))
        };
        for (part, refused) in areas.parts(range.clone(), |_, area| is_refused(area))? {
            if refused {
                return Err(Errno::EINVAL);
            }
            unmap_pages(&mut areas.pages, part);
        }
        drop(areas);
        self.check_covered(range)
    }

    /// `MADV_REMOVE`: frees the pages of a shared mapping at their source.
    fn punch(&self, range: Range<u64>) -> Result<()> {
        let parts = self.areas.read().parts(range.clone(), |start, area| {
            let is_locked = area.flags.contains(AreaFlags::LOCKED);
            let source = area.source.clone().filter(|_| !is_locked);
            let may = area.is_shared() && area.max_prot.contains(Prot::WRITE);
            let offset = area.offset + (start.max(range.start) - start);
            let source = source.ok_or(Errno::EINVAL)?;
            if may {
                Ok((source, offset))
            } else {
                Err(Errno::EACCES)
            }
        })?;
        for (part, source) in parts {
            let (source, offset) = source?;
            source.punch(offset..offset + (part.end - part.start))?;
        }
        self.check_covered(range)
    }

    fn set_flag(&self, range: Range<u64>, flag: AreaFlags, on: bool) -> Result<()> {
        let mut areas = self.areas.write();
        if flag == AreaFlags::WIPE_ON_FORK
            && on
            && areas
                .tree
                .overlapping(range.clone())
                .any(|(_, area)| area.source.is_some())
        {
            return Err(Errno::EINVAL);
        }
        areas
            .tree
            .update(range.clone(), |area| area.flags.set(flag, on))?;
        drop(areas);
        self.check_covered(range)
    }

    fn touch_all(&self, range: Range<u64>, write: bool) -> Result<()> {
        self.touch_pages(range, write)
            .map_err(|stopped| match stopped {
                Stopped::BySignal => Errno::ERESTARTNOINTR,
                Stopped::ByFault(FaultError::MapErr | FaultError::OutOfMemory) => Errno::ENOMEM,
                Stopped::ByFault(FaultError::AccErr) => Errno::EINVAL,
                Stopped::ByFault(FaultError::Bus) => Errno::EFAULT,
            })
    }
}
