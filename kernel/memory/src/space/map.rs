//! mmap(2) and munmap(2).

use core::ops::Range;
use core::sync::atomic::AtomicBool;

use abi::Errno;
use collections::Vec;
use machine::{PAGE_SIZE, UserAddr};

use super::area::{Area, AreaFlags, Prot};
use super::fault::{Access, FaultError};
use super::placement::LOWEST;
use super::request::{MapRequest, Placement};
use super::tree::Removed;
use super::{
    AddressSpace, Areas, PAGE, addresses, page_range, protect_pages, round_up, unmap_pages,
};
use crate::mapping::Mapping;
use crate::pressure;
use crate::rmap::WritableMapping;

type Result<T, E = Errno> = core::result::Result<T, E>;

/// Why not all pages of a range were made present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    /// One could not be.
    ByFault(FaultError),
    /// A signal is to be delivered first.
    BySignal,
}

impl AddressSpace {
    /// mmap(2): returns where the mapping starts.
    ///
    /// # Errors
    /// As mmap(2): `EINVAL`, `ENOMEM`, `EEXIST`, `EPERM` below the lowest address.
    pub fn map(&self, request: MapRequest) -> Result<UserAddr> {
        pressure::ensure_headroom()?;
        let len = round_up(request.len)
            .filter(|&len| len > 0)
            .ok_or(Errno::EINVAL)?;
        if len > UserAddr::LIMIT.0 {
            return Err(Errno::ENOMEM);
        }
        if !request.offset.is_multiple_of(PAGE) {
            return Err(Errno::EINVAL);
        }
        let MapRequest {
            populate,
            placement,
            addr: wish,
            may_lock,
            ..
        } = request;
        let mut area = self.area_of(request, len)?;
        let mut removed = Removed::new();
        let mut is_locked = false;
        let start = {
            let mut areas = self.areas.write();
            let start = areas.place(placement, wish, len)?;
            if area.flags.contains(AreaFlags::LOCKED) {
                areas.check_may_lock(may_lock)?;
            }
            if areas.locks_future {
                area.flags |= AreaFlags::LOCKED;
            }
            if area.flags.contains(AreaFlags::LOCKED) {
                areas.check_locked(len, may_lock)?;
                is_locked = true;
            }
            areas.check_limits(&area, len, placement, start)?;
            if placement == Placement::Fixed && areas.tree.overlaps(start..start + len) {
                self.take_out(&mut areas, start..start + len, &mut removed)?;
            }
            let area = Area {
                end: start + len,
                ..area
            };
            areas.tree.insert(start, area)?;
            areas.peak = areas.peak.max(areas.tree.total());
            start
        };
        drop(removed);
        if populate || is_locked {
            // The mapping is there all the same (mmap(2), MAP_POPULATE).
            let _ = self.populate(start..start + len);
        }
        Ok(UserAddr(start))
    }

    /// The area that a request describes; its end is not known yet.
    fn area_of(&self, request: MapRequest, len: u64) -> Result<Area> {
        let is_shared = request.flags.contains(AreaFlags::SHARED);
        let source = match request.source {
            None if is_shared => Some(Mapping::in_memory(None, len)? as _),
            source => source,
        };
        if let Some(mappings) = source.as_deref().and_then(|source| source.mappings()) {
            mappings.add(&self.me)?;
        }
        let rights = match &source {
            Some(source) => source.map_rights(is_shared, request.prot)?,
            None => Prot::all(),
        };
        let max_prot = request.max_prot & rights;
        let writable = match &source {
            Some(source) if is_shared && max_prot.contains(Prot::WRITE) => {
                WritableMapping::new(source)?
            }
            _ => None,
        };
        Ok(Area {
            end: 0,
            prot: request.prot,
            max_prot,
            writable,
            flags: request.flags,
            source,
            offset: request.offset,
            origin: request.origin,
            attachment: request.attachment,
            is_copied: AtomicBool::new(false),
        })
    }

    /// munmap(2).
    ///
    /// # Errors
    /// `EINVAL`, `ENOMEM`.
    pub fn unmap(&self, addr: UserAddr, len: u64) -> Result<()> {
        let range = page_range(addr, len, Errno::EINVAL)?;
        if range.is_empty() {
            return Err(Errno::EINVAL);
        }
        let mut removed = Removed::new();
        self.take_out(&mut self.areas.write(), range, &mut removed)
    }

    /// Takes areas and pages of a range out.
    pub(super) fn take_out(
        &self,
        areas: &mut Areas,
        range: Range<u64>,
        removed: &mut Removed,
    ) -> Result<()> {
        // The table is walked only where there are areas.
        let touched = {
            let Some(((start, area), is_only)) = areas.tree.first_in(&range) else {
                return Ok(());
            };
            let end = if is_only {
                area.end
            } else {
                let touching = areas.tree.overlapping(range.clone());
                touching.last().map_or(area.end, |(_, last)| last.end)
            };
            start.max(range.start)..end.min(range.end)
        };
        self.note_peak(areas);
        areas.tree.remove(range, removed)?;
        unmap_pages(&mut areas.pages, touched);
        Ok(())
    }

    /// Makes every page of a range present; gaps are passed over.
    ///
    /// # Errors
    /// Why a page could not be made present. Those before it are.
    pub(super) fn populate(&self, range: Range<u64>) -> Result<(), Stopped> {
        let mut from = range.start;
        while from < range.end {
            let next = {
                let areas = self.areas.read();
                let mut touching = areas.tree.overlapping(from..range.end);
                touching.next().map(|(start, area)| {
                    // A private page is made the process's own at once.
                    let write = area.prot.contains(Prot::WRITE) && !area.is_shared();
                    (start.max(from)..area.end.min(range.end), write)
                })
            };
            let Some((part, write)) = next else {
                return Ok(());
            };
            from = part.end;
            self.touch_pages(part, write)?;
        }
        Ok(())
    }

    /// Touches each page of a range, until a signal is to be delivered.
    ///
    /// # Errors
    /// Why a page could not be touched. Those before it were.
    pub(super) fn touch_pages(&self, range: Range<u64>, write: bool) -> Result<(), Stopped> {
        /// Pages between two looks for a signal.
        const LOOK: u64 = 64;
        let me = sched::thread::current();
        let first = range.start;
        let access = Access {
            write,
            exec: false,
            force: false,
            is_absent: false,
        };
        for page in range.step_by(PAGE_SIZE) {
            if ((page - first) / PAGE).is_multiple_of(LOOK) && me.is_interrupted() && page > first {
                return Err(Stopped::BySignal);
            }
            self.touch(UserAddr(page), access)
                .map_err(Stopped::ByFault)?;
            sched::cond_resched();
        }
        Ok(())
    }

    /// Takes pages of `source` out of every mapping of it; `with_copies`: private copies too.
    pub(crate) fn forget_pages(
        &self,
        source: &dyn crate::PageSource,
        pages: Range<u64>,
        with_copies: bool,
    ) {
        // Faults are kept off: none may map a page that the source has let go of meanwhile.
        let areas = &mut *self.areas.write();
        for (start, area) in areas.tree.showing(source, &pages) {
            if let Some(range) = shown(start, area, source, pages.clone())
                && (with_copies || !area.is_copied())
            {
                unmap_pages(&mut areas.pages, range);
            }
            sched::cond_resched();
        }
    }

    /// Takes a page of `source` out of every mapping of it, unless it was used lately or is locked, or somebody is
    /// at work here: whether it did. Private copies stay.
    pub(crate) fn try_evict(&self, source: &dyn crate::PageSource, page: u64) -> bool {
        // As above: faults are kept off.
        let Some(mut areas) = self.areas.try_write() else {
            return false;
        };
        let areas = &mut *areas;
        let pages = page..page + 1;
        let mut seen = 0;
        for (start, area) in areas.tree.showing(source, &pages) {
            let Some(range) = shown(start, area, source, pages.clone()) else {
                continue;
            };
            seen += 1;
            if seen > MOST_SEEN || area.flags.contains(AreaFlags::LOCKED) {
                return false;
            }
            if area.is_copied() && areas.pages.mapped(addresses(range.clone())) > 0 {
                // It may be a copy of its own, or the page: too little to gain to find out.
                return false;
            }
            if areas.pages.take_accessed(addresses(range.clone())) {
                return false;
            }
            areas.pages.unmap(addresses(range));
        }
        true
    }

    /// Makes shared mappings of pages of `source` ask again before the next store.
    pub(crate) fn expect_stores(&self, source: &dyn crate::PageSource, pages: Range<u64>) {
        let areas = &mut *self.areas.write();
        for (start, area) in areas.tree.showing(source, &pages) {
            if area.is_shared()
                && let Some(range) = shown(start, area, source, pages.clone())
            {
                protect_pages(&mut areas.pages, range, area.perms_before_store());
            }
        }
    }
}

/// A page that a process maps more often than this is left to it: it would be a long way to take it out everywhere.
const MOST_SEEN: usize = 1024;

/// The addresses at which an area shows some of `pages` of `source`.
fn shown(
    start: u64,
    area: &Area,
    source: &dyn crate::PageSource,
    pages: Range<u64>,
) -> Option<Range<u64>> {
    let own = area.source.as_deref()?;
    if !core::ptr::addr_eq(own, source) {
        return None;
    }
    let first = area.offset / PAGE;
    let last = first + (area.end - start) / PAGE;
    let (from, to) = (pages.start.max(first), pages.end.min(last));
    (from < to).then(|| start + (from - first) * PAGE..start + (to - first) * PAGE)
}

impl Areas {
    /// Chooses where a mapping goes.
    pub(super) fn place(&mut self, placement: Placement, wish: UserAddr, len: u64) -> Result<u64> {
        match placement {
            Placement::Anywhere => return self.place_anywhere(wish, len),
            Placement::Low => return self.place_low(wish, len),
            Placement::Fixed | Placement::FixedNoReplace => {}
        }
        let range = page_range(wish, len, Errno::ENOMEM)?;
        if range.start < LOWEST {
            return Err(Errno::EPERM);
        }
        if placement == Placement::FixedNoReplace && self.tree.overlaps(range.clone()) {
            return Err(Errno::EEXIST);
        }
        Ok(range.start)
    }

    fn place_anywhere(&mut self, wish: UserAddr, len: u64) -> Result<u64> {
        if wish.0 != 0 {
            let start = wish.page_base().0.max(LOWEST);
            let end = start.saturating_add(len);
            if end <= UserAddr::LIMIT.0 && !self.tree.overlaps(start..end) {
                return Ok(start);
            }
        }
        let top = self.bases.map_top();
        match self.tree.gap(len, LOWEST, top) {
            Some(start) => Ok(start),
            None => self
                .tree
                .gap(len, LOWEST, UserAddr::LIMIT.0)
                .ok_or(Errno::ENOMEM),
        }
    }

    /// Where compilers expect code that a 32-bit distance or address reaches.
    fn place_low(&mut self, wish: UserAddr, len: u64) -> Result<u64> {
        const BOTTOM: u64 = 1 << 30;
        const TOP: u64 = 1 << 31;
        let start = wish.page_base().0;
        let end = start.saturating_add(len);
        if start >= BOTTOM && end <= TOP && !self.tree.overlaps(start..end) {
            return Ok(start);
        }
        self.tree.gap(len, BOTTOM, TOP).ok_or(Errno::ENOMEM)
    }

    /// Whether the caller may ask for locked memory at all: `EPERM`. `may_lock`: whatever the limit.
    pub(super) fn check_may_lock(&self, may_lock: bool) -> Result<()> {
        if may_lock || self.limits.locked > 0 {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }

    /// Whether `len` more bytes may be locked: `EAGAIN`. `may_lock`: whatever the limit.
    pub(super) fn check_locked(&self, len: u64, may_lock: bool) -> Result<()> {
        if may_lock || self.locked().saturating_add(len) <= self.limits.locked {
            Ok(())
        } else {
            Err(Errno::EAGAIN)
        }
    }

    /// Whether another area of `len` bytes is within the limits.
    pub(super) fn check_limits(
        &self,
        area: &Area,
        len: u64,
        placement: Placement,
        start: u64,
    ) -> Result<()> {
        let replaced = if placement == Placement::Fixed {
            let range = start..start + len;
            self.tree
                .overlapping(range.clone())
                .map(|(start, area)| area.end.min(range.end) - start.max(range.start))
                .sum()
        } else {
            0
        };
        if self.tree.total() - replaced + len > self.limits.address_space {
            return Err(Errno::ENOMEM);
        }
        if area.is_data() && self.tree.totals().data.saturating_add(len) > self.limits.data {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }

    /// Bytes in locked areas.
    pub(super) fn locked(&self) -> u64 {
        self.tree.totals().locked
    }

    /// The sub-ranges of `range` that are in areas, with what `select` makes of each.
    pub(super) fn parts<R>(
        &self,
        range: Range<u64>,
        mut select: impl FnMut(u64, &Area) -> R,
    ) -> Result<Vec<(Range<u64>, R)>> {
        let mut parts = Vec::new();
        for (start, area) in self.tree.overlapping(range.clone()) {
            let part = start.max(range.start)..area.end.min(range.end);
            parts.try_push((part, select(start, area)))?;
        }
        Ok(parts)
    }
}
