//! mlock(2) and its relatives. Nothing is ever swapped out: locking makes pages present, shows in accounts,
//! counts against RLIMIT_MEMLOCK, and keeps `MADV_DONTNEED` away.

use abi::{Errno, Result};
use machine::UserAddr;

use super::area::AreaFlags;
use super::{AddressSpace, Areas, page_range};

const MCL_CURRENT: u32 = 1;
const MCL_FUTURE: u32 = 2;
const MCL_ONFAULT: u32 = 4;

impl AddressSpace {
    /// mlock(2). `may_lock`: more than the limit (CAP_IPC_LOCK).
    ///
    /// # Errors
    /// As mlock(2): `ENOMEM` beyond the limit or where something is not mapped, `EPERM` when nothing may be
    /// locked.
    pub fn lock(&self, addr: UserAddr, len: u64, may_lock: bool) -> Result<()> {
        let offset = addr.page_offset() as u64;
        let len = len.checked_add(offset).ok_or(Errno::EINVAL)?;
        let range = page_range(addr.page_base(), len, Errno::ENOMEM)?;
        {
            let mut areas = self.areas.lock();
            let is_locked = |flags: AreaFlags| flags.contains(AreaFlags::LOCKED);
            let already: u64 = areas
                .tree
                .overlapping(range.clone())
                .filter(|(_, area)| is_locked(area.flags))
                .map(|(start, area)| area.end.min(range.end) - start.max(range.start))
                .sum();
            let more = range.end - range.start - already;
            areas.check_locked(more, may_lock).map_err(no_room)?;
            if !areas.tree.covers(range.clone()) {
                return Err(Errno::ENOMEM);
            }
            areas
                .tree
                .update(range.clone(), |area| area.flags |= AreaFlags::LOCKED)?;
        }
        self.populate(range);
        Ok(())
    }

    /// munlock(2).
    ///
    /// # Errors
    /// `ENOMEM` where something is not mapped.
    pub fn unlock(&self, addr: UserAddr, len: u64) -> Result<()> {
        let offset = addr.page_offset() as u64;
        let len = len.checked_add(offset).ok_or(Errno::EINVAL)?;
        let range = page_range(addr.page_base(), len, Errno::ENOMEM)?;
        let mut areas = self.areas.lock();
        if !areas.tree.covers(range.clone()) {
            return Err(Errno::ENOMEM);
        }
        areas
            .tree
            .update(range, |area| area.flags -= AreaFlags::LOCKED)
    }

    /// mlockall(2): `flags` are the `MCL_*` bits. `may_lock`: more than the limit (CAP_IPC_LOCK).
    ///
    /// # Errors
    /// As mlockall(2): `EINVAL`, `ENOMEM` beyond the limit, `EPERM` when nothing may be locked.
    pub fn lock_all(&self, flags: u32, may_lock: bool) -> Result<()> {
        let known = MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT;
        if flags & !known != 0 || flags & (MCL_CURRENT | MCL_FUTURE) == 0 {
            return Err(Errno::EINVAL);
        }
        let mut areas = self.areas.lock();
        if flags & MCL_CURRENT != 0 {
            let more = areas.tree.total() - areas.locked();
            areas.check_locked(more, may_lock).map_err(no_room)?;
        } else {
            areas.check_locked(0, may_lock).map_err(no_room)?;
        }
        areas.locks_future = flags & MCL_FUTURE != 0;
        if flags & MCL_CURRENT == 0 {
            return Ok(());
        }
        areas.set_all_locked(true)?;
        let whole = areas.tree.bounds();
        drop(areas);
        if flags & MCL_ONFAULT == 0 {
            self.populate_all(whole);
        }
        Ok(())
    }

    /// munlockall(2).
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn unlock_all(&self) -> Result<()> {
        let mut areas = self.areas.lock();
        areas.locks_future = false;
        areas.set_all_locked(false)
    }
}

/// mlock(2) says `ENOMEM` where mmap(2) says `EAGAIN`.
fn no_room(errno: Errno) -> Errno {
    match errno {
        Errno::EAGAIN => Errno::ENOMEM,
        other => other,
    }
}

impl Areas {
    fn set_all_locked(&mut self, locked: bool) -> Result<()> {
        let whole = self.tree.bounds();
        self.tree
            .update(whole, |area| area.flags.set(AreaFlags::LOCKED, locked))
    }
}
