//! mremap(2), and remap_file_pages(2).

use core::ops::Range;

use abi::{Errno, Result};
use machine::UserAddr;

use super::area::{Area, AreaFlags};
use super::request::{MapRequest, Placement};
use super::tree::Removed;
use super::{AddressSpace, Areas, PAGE, by_parts, page_range, round_up};
use crate::pressure;

const MAY_MOVE: u32 = 1;
const FIXED: u32 = 2;
const DONT_UNMAP: u32 = 4;

/// The arguments of mremap(2), checked.
struct Remap {
    old: Range<u64>,
    new_len: u64,
    flags: u32,
    new: UserAddr,
    /// Whether the caller may lock more than its limit.
    may_lock: bool,
}

impl Remap {
    fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    fn old_len(&self) -> u64 {
        self.old.end - self.old.start
    }
}

impl AddressSpace {
    /// mremap(2): `flags` are the `MREMAP_*` bits. `may_lock`: more than the limit (CAP_IPC_LOCK).
    ///
    /// # Errors
    /// As mremap(2): `EINVAL`, `EFAULT` where the old range is not one mapping, `ENOMEM`, `EAGAIN`.
    pub fn remap(
        &self,
        old: UserAddr,
        old_len: u64,
        new_len: u64,
        flags: u32,
        new: UserAddr,
        may_lock: bool,
    ) -> Result<UserAddr> {
        pressure::ensure_headroom()?;
        let remap = Remap {
            may_lock,
            ..check(old, old_len, new_len, flags, new)?
        };
        let mut removed = Removed::new();
        let mut areas = self.areas.write();
        let outcome = self.remap_locked(&mut areas, &remap, &mut removed);
        areas.peak = areas.peak.max(areas.tree.total());
        drop(areas);
        outcome
    }

    /// remap_file_pages(2): shows the pages of a shared mapping's source from `page` on in place of those that
    /// are in the range. As Linux has it since 4.0, by a mapping of their own.
    ///
    /// # Errors
    /// `EINVAL` for a range that is not in one shared mapping, or pages that cannot be; as mmap(2) else.
    pub fn show_other_pages(
        &self,
        addr: UserAddr,
        len: u64,
        page: u64,
        populate: bool,
        may_lock: bool,
    ) -> Result<()> {
        let (start, len) = (addr.page_base(), len / PAGE * PAGE);
        let end = start.0.checked_add(len).filter(|end| *end > start.0);
        let end = end.ok_or(Errno::EINVAL)?;
        let offset = page
            .checked_mul(PAGE)
            .filter(|offset| offset.saturating_add(len) <= i64::MAX.unsigned_abs())
            .ok_or(Errno::EINVAL)?;
        let area = {
            let areas = self.areas.read();
            let (_, area) = areas.tree.find(start.0).ok_or(Errno::EINVAL)?;
            if !area.is_shared() || area.end < end {
                return Err(Errno::EINVAL);
            }
            area.clone()
        };
        let request = MapRequest {
            addr: start,
            placement: Placement::Fixed,
            len,
            prot: area.prot,
            max_prot: area.max_prot,
            flags: area.flags,
            source: area.source.clone(),
            offset,
            origin: area.origin.clone(),
            attachment: area.attachment.clone(),
            populate,
            may_lock,
        };
        self.map(request).map(drop)
    }

    fn remap_locked(
        &self,
        areas: &mut Areas,
        remap: &Remap,
        removed: &mut Removed,
    ) -> Result<UserAddr> {
        let (start, area) = areas.tree.find(remap.old.start).ok_or(Errno::EFAULT)?;
        let area = area.clone();
        if remap.old_len() == 0 && !area.is_shared() {
            return Err(Errno::EINVAL);
        }
        let stays = !remap.has(FIXED | DONT_UNMAP) && remap.old_len() > 0;
        if stays && remap.new_len <= remap.old_len() {
            self.take_out(
                areas,
                remap.old.start + remap.new_len..remap.old.end,
                removed,
            )?;
            return Ok(UserAddr(remap.old.start));
        }
        // What is only cut off may be several mappings.
        if area.end < remap.old.start + remap.old_len().min(remap.new_len) {
            return Err(Errno::EFAULT);
        }
        let more = remap.new_len.saturating_sub(remap.old_len());
        if area.flags.contains(AreaFlags::LOCKED) && more > 0 {
            areas.check_locked(more, remap.may_lock)?;
        }
        if stays && areas.extend_in_place(remap, &area)? {
            return Ok(UserAddr(remap.old.start));
        }
        if !remap.has(MAY_MOVE) {
            return Err(Errno::ENOMEM);
        }
        self.relocate(areas, remap, start, &area, removed)
    }

    fn relocate(
        &self,
        areas: &mut Areas,
        remap: &Remap,
        start: u64,
        area: &Area,
        removed: &mut Removed,
    ) -> Result<UserAddr> {
        let placement = if remap.has(FIXED) {
            Placement::Fixed
        } else {
            Placement::Anywhere
        };
        let wish = if remap.has(FIXED) {
            remap.new
        } else {
            UserAddr(0)
        };
        let target = areas.place(placement, wish, remap.new_len)?;
        let target_range = target..target + remap.new_len;
        // What is moved does not count twice.
        let moves = if remap.has(DONT_UNMAP) {
            0
        } else {
            remap.old_len()
        };
        let more = remap.new_len.saturating_sub(moves);
        areas.check_limits(area, more, placement, target)?;
        if remap.has(FIXED) {
            self.take_out(areas, target_range.clone(), removed)?;
        }
        let moved_len = remap.old_len().min(remap.new_len);
        let moved = remap.old.start..remap.old.start + moved_len;
        let mut copy = area.clone();
        copy.offset = area.offset.wrapping_add(remap.old.start - start);
        copy.end = target_range.end;
        areas.tree.insert(target, copy)?;
        if moved_len > 0 && !area.is_shared() && areas.move_pages(moved, target).is_err() {
            areas.tree.remove(target_range, removed)?;
            return Err(Errno::ENOMEM);
        }
        if remap.old_len() > 0 && !remap.has(DONT_UNMAP) {
            self.take_out(areas, remap.old.clone(), removed)?;
        }
        Ok(UserAddr(target))
    }
}

impl Areas {
    /// Moves the pages of a range to start at `target`, where nothing is.
    ///
    /// # Errors
    /// `ENOMEM`; all pages are where they were then.
    fn move_pages(&mut self, from: Range<u64>, target: u64) -> Result<()> {
        let shift = target.wrapping_sub(from.start);
        let moved = by_parts(from.clone(), |part| self.pages.relocate(part, shift));
        if moved.is_ok() {
            return Ok(());
        }
        // The tables they come from are still there, so that going back needs no memory.
        let back = target..from.end.wrapping_add(shift);
        by_parts(back, |part| self.pages.relocate(part, shift.wrapping_neg()))
            .map_err(|_| Errno::ENOMEM)?;
        Err(Errno::ENOMEM)
    }
}

fn check(old: UserAddr, old_len: u64, new_len: u64, flags: u32, new: UserAddr) -> Result<Remap> {
    if flags & !(MAY_MOVE | FIXED | DONT_UNMAP) != 0
        || (flags & (FIXED | DONT_UNMAP) != 0 && flags & MAY_MOVE == 0)
    {
        return Err(Errno::EINVAL);
    }
    let old = page_range(old, old_len, Errno::EINVAL)?;
    let new_len = round_up(new_len)
        .filter(|&len| len > 0)
        .ok_or(Errno::EINVAL)?;
    if new_len > UserAddr::LIMIT.0 && flags & FIXED == 0 {
        return Err(Errno::ENOMEM);
    }
    if flags & DONT_UNMAP != 0 && new_len != old.end - old.start {
        return Err(Errno::EINVAL);
    }
    if flags & FIXED != 0 {
        let target = page_range(new, new_len, Errno::EINVAL)?;
        if target.start < old.end && old.start < target.end {
            return Err(Errno::EINVAL);
        }
    }
    Ok(Remap {
        old,
        new_len,
        flags,
        new,
        may_lock: false,
    })
}

impl Areas {
    /// Grows a mapping where it is; `false` when there is no room.
    fn extend_in_place(&mut self, remap: &Remap, area: &Area) -> Result<bool> {
        let new_end = remap.old.start.saturating_add(remap.new_len);
        if area.end != remap.old.end
            || new_end > UserAddr::LIMIT.0
            || self.tree.overlaps(area.end..new_end)
        {
            return Ok(false);
        }
        self.check_limits(area, new_end - area.end, Placement::Anywhere, area.end)?;
        let start = self
            .tree
            .find(remap.old.start)
            .map_or(remap.old.start, |(start, _)| start);
        let mut more = area.clone();
        more.offset = area.offset.wrapping_add(area.end - start);
        more.end = new_end;
        self.tree.insert(area.end, more)?;
        Ok(true)
    }
}
