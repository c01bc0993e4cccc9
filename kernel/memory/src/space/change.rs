//! mprotect(2), msync(2), mincore(2), mlock(2): changes and questions about a range that is mapped.

use core::ops::Range;

use abi::{Errno, Result};
use collections::Vec;
use machine::UserAddr;
#[cfg(test)]
use machine::page_table::Perms;

use super::area::{Area, AreaFlags, Prot};
use super::{AddressSpace, Areas, PAGE, addresses, page_range, protect_pages, wrapping_range};
use crate::pressure;

const MS_ASYNC: u32 = 1;
const MS_INVALIDATE: u32 = 2;
const MS_SYNC: u32 = 4;

impl AddressSpace {
    /// mprotect(2). `grows_down`: from the start of the stack that holds `addr` on.
    ///
    /// # Errors
    /// As mprotect(2): `EINVAL`, `ENOMEM` where something in the range is not mapped, `EACCES`. What is in front
    /// of that has changed.
    pub fn protect(&self, addr: UserAddr, len: u64, prot: Prot, grows_down: bool) -> Result<()> {
        let mut range = page_range(addr, len, Errno::ENOMEM)?;
        if range.is_empty() {
            return Ok(());
        }
        pressure::ensure_headroom()?;
        let mut areas = self.areas.write();
        if grows_down {
            let (start, area) = areas.tree.find(range.start).ok_or(Errno::ENOMEM)?;
            if !area.flags.contains(AreaFlags::GROWS_DOWN) {
                return Err(Errno::EINVAL);
            }
            range.start = start;
        }
        let (end, outcome) = areas.agreeing(range.clone(), |area| area.max_prot.contains(prot));
        if end > range.start {
            let range = range.start..end;
            areas.tree.update(range.clone(), |area| area.prot = prot)?;
            areas.apply_prot(&range);
        }
        outcome
    }

    /// msync(2): `flags` are the `MS_*` bits.
    ///
    /// # Errors
    /// As msync(2): `EINVAL`, `ENOMEM` where something in the range is not mapped.
    pub fn sync(&self, addr: UserAddr, len: u64, flags: u32) -> Result<()> {
        let is_contradiction = flags & MS_ASYNC != 0 && flags & MS_SYNC != 0;
        if flags & !(MS_ASYNC | MS_INVALIDATE | MS_SYNC) != 0 || is_contradiction {
            return Err(Errno::EINVAL);
        }
        let range = match wrapping_range(addr, len) {
            Ok(range) => range,
            Err(_) if addr.is_page_aligned() => return Err(Errno::ENOMEM),
            Err(errno) => return Err(errno),
        };
        let (is_covered, parts) = {
            let areas = self.areas.read();
            let parts = areas.parts(range.clone(), |start, area| {
                let source = area.source.clone().filter(|_| area.is_shared());
                let first = area.page_index(start, start.max(range.start));
                let is_locked = area.flags.contains(AreaFlags::LOCKED);
                (source.map(|source| (source, first)), is_locked)
            })?;
            (areas.tree.covers(range.clone()), parts)
        };
        for (part, (source, is_locked)) in parts {
            if is_locked && flags & MS_INVALIDATE != 0 {
                return Err(Errno::EBUSY);
            }
            if let Some((source, first)) = source
                && flags & MS_SYNC != 0
            {
                source.sync(first, first + (part.end - part.start) / PAGE - 1)?;
            }
            sched::cond_resched();
        }
        if is_covered {
            Ok(())
        } else {
            Err(Errno::ENOMEM)
        }
    }

    /// mincore(2): one byte a page, 1 when it is in memory.
    ///
    /// # Errors
    /// `EINVAL`, `ENOMEM` where something in the range is not mapped.
    pub fn residency(&self, addr: UserAddr, len: u64) -> Result<Vec<u8>> {
        let range = page_range(addr, len, Errno::ENOMEM)?;
        let areas = self.areas.read();
        if !areas.tree.covers(range.clone()) {
            return Err(Errno::ENOMEM);
        }
        let mut residency = Vec::try_with_capacity(super::page_count(&range))?;
        let mut page = range.start;
        while page < range.end {
            let is_mapped = areas.pages.mapped(addresses(page..page + PAGE)) > 0;
            let is_resident = is_mapped
                || areas.tree.find(page).is_some_and(|(start, area)| {
                    let index = area.page_index(start, page);
                    let source = area.source.as_deref();
                    source.is_some_and(|source| source.page_at_hand(index, false).is_some())
                });
            residency.try_push(u8::from(is_resident))?;
            page += PAGE;
            sched::cond_resched();
        }
        Ok(residency)
    }

    /// Whether `addr` may be read or written by user code, without touching it.
    #[must_use]
    pub fn allows(&self, addr: UserAddr, write: bool) -> bool {
        let wanted = if write { Prot::WRITE } else { Prot::all() };
        let areas = self.areas.read();
        areas
            .tree
            .find(addr.0)
            .is_some_and(|(_, area)| area.prot.intersects(wanted))
    }

    /// Perms of a page, for tests.
    #[cfg(test)]
    pub(super) fn perms_at(&self, addr: u64) -> Option<Perms> {
        let areas = self.areas.read();
        areas.pages.query(UserAddr(addr)).map(|page| page.perms)
    }
}

impl Areas {
    /// Brings the page table in line with the areas of a range.
    fn apply_prot(&mut self, range: &Range<u64>) {
        for (start, area) in self.tree.overlapping(range.clone()) {
            let part = start.max(range.start)..area.end.min(range.end);
            // Private pages get their store permission back by a fault that looks who owns them.
            protect_pages(&mut self.pages, part, area.perms_before_store());
        }
    }

    /// How far a range is mapped without a gap by areas that agree, and what stands in the way then.
    pub(super) fn agreeing(
        &self,
        range: Range<u64>,
        agrees: impl Fn(&Area) -> bool,
    ) -> (u64, Result<()>) {
        let mut end = range.start;
        for (start, area) in self.tree.overlapping(range.clone()) {
            if start > end {
                break;
            }
            if !agrees(area) {
                return (end, Err(Errno::EACCES));
            }
            end = area.end.min(range.end);
        }
        if end < range.end {
            (end, Err(Errno::ENOMEM))
        } else {
            (end, Ok(()))
        }
    }
}
