//! mlock(2) and its relatives. Nothing is ever swapped out: locking makes pages present, shows in accounts,
//! counts against RLIMIT_MEMLOCK, and keeps `MADV_DONTNEED` away.

use core::ops::Range;

use abi::{Errno, Result};
use machine::UserAddr;

use super::area::AreaFlags;
use super::fault::FaultError;
use super::map::Stopped;
use super::{AddressSpace, Areas, wrapping_range};

const MCL_CURRENT: u32 = 1;
const MCL_FUTURE: u32 = 2;
const MCL_ONFAULT: u32 = 4;

impl AddressSpace {
    /// mlock(2) and mlock2(2). `may_lock`: more than the limit (CAP_IPC_LOCK). `on_fault`: pages are not made
    /// present now.
    ///
    /// # Errors
    /// As mlock(2): `ENOMEM` beyond the limit, where something is not mapped or cannot be made present, `EPERM`
    /// when nothing may be locked, `EAGAIN` without memory.
    pub fn lock(&self, addr: UserAddr, len: u64, may_lock: bool, on_fault: bool) -> Result<()> {
        let range = touched_pages(addr, len)?;
        {
            let mut areas = self.areas.write();
            areas.check_may_lock(may_lock)?;
            let is_locked = |flags: AreaFlags| flags.contains(AreaFlags::LOCKED);
            let already: u64 = areas
                .tree
                .overlapping(range.clone())
                .filter(|(_, area)| is_locked(area.flags))
                .map(|(start, area)| area.end.min(range.end) - start.max(range.start))
                .sum();
            let more = range.end - range.start - already;
            areas.check_locked(more, may_lock).map_err(no_room)?;
            areas.set_locked(range.clone(), true)?;
        }
        if on_fault {
            return Ok(());
        }
        self.populate(range).map_err(|stopped| match stopped {
            Stopped::BySignal => Errno::ERESTARTNOINTR,
            Stopped::ByFault(FaultError::OutOfMemory) => Errno::EAGAIN,
            Stopped::ByFault(FaultError::MapErr | FaultError::AccErr | FaultError::Bus) => {
                Errno::ENOMEM
            }
        })
    }

    /// munlock(2).
    ///
    /// # Errors
    /// `ENOMEM` where something is not mapped.
    pub fn unlock(&self, addr: UserAddr, len: u64) -> Result<()> {
        let range = touched_pages(addr, len)?;
        self.areas.write().set_locked(range, false)
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
        let mut areas = self.areas.write();
        areas.check_may_lock(may_lock)?;
        if flags & MCL_CURRENT != 0 {
            let more = areas.tree.total() - areas.locked();
            areas.check_locked(more, may_lock).map_err(no_room)?;
        }
        areas.locks_future = flags & MCL_FUTURE != 0;
        if flags & MCL_CURRENT == 0 {
            return Ok(());
        }
        let whole = areas.tree.bounds();
        areas.set_flag(whole.clone(), true)?;
        drop(areas);
        if flags & MCL_ONFAULT == 0 {
            self.populate_each(whole);
        }
        Ok(())
    }

    /// munlockall(2).
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn unlock_all(&self) -> Result<()> {
        let mut areas = self.areas.write();
        areas.locks_future = false;
        let whole = areas.tree.bounds();
        areas.set_flag(whole, false)
    }

    /// Makes present what can be, of all areas in a range: mlockall(2) says nothing of the rest.
    fn populate_each(&self, range: Range<u64>) {
        let mut from = range.start;
        while from < range.end {
            let next = {
                let areas = self.areas.read();
                let mut touching = areas.tree.overlapping(from..range.end);
                touching
                    .next()
                    .map(|(start, area)| start.max(from)..area.end)
            };
            let Some(part) = next else { return };
            from = part.end;
            if self.populate(part) == Err(Stopped::BySignal) {
                return;
            }
        }
    }
}

/// The pages that `len` bytes from `addr` on touch.
fn touched_pages(addr: UserAddr, len: u64) -> Result<Range<u64>> {
    let len = len.wrapping_add(addr.page_offset() as u64);
    wrapping_range(addr.page_base(), len)
}

/// mlock(2) says `ENOMEM` where mmap(2) says `EAGAIN`.
fn no_room(errno: Errno) -> Errno {
    match errno {
        Errno::EAGAIN => Errno::ENOMEM,
        other => other,
    }
}

impl Areas {
    /// Marks a range; what is in front of a gap is marked even so.
    fn set_locked(&mut self, range: Range<u64>, locked: bool) -> Result<()> {
        let (end, outcome) = self.agreeing(range.clone(), |_| true);
        self.set_flag(range.start..end, locked)?;
        outcome
    }

    fn set_flag(&mut self, range: Range<u64>, locked: bool) -> Result<()> {
        self.tree
            .update(range, |area| area.flags.set(AreaFlags::LOCKED, locked))
    }
}
