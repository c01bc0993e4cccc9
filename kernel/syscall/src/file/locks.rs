//! flock(2), and the record locks of fcntl(2).

use alloc::sync::Arc;

use abi::raw::general as raw;
use abi::{Errno, Result};
use fs::File;
use fs::lock::{self, FileLock, LockFamily, LockKind, LockOwner};
use memory::user;
use process::task::pid_namespace::PidNamespace;
use process::task::relations;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::usable_file;
use crate::context::Context;
use crate::entry::Entry;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[Entry::new(73, "flock", sys_flock)];

/// `struct flock` of x86-64.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct UserLock {
    kind: i16,
    whence: i16,
    pad: u32,
    start: i64,
    len: i64,
    pid: i32,
    pad_end: u32,
}

const READ_LOCK: i16 = 0;
const WRITE_LOCK: i16 = 1;
const UNLOCK: i16 = 2;

fn sys_flock(cx: &mut Context<'_>) -> Result<u64> {
    let file = usable_file(cx, cx.int(0))?;
    let operation = cx.uint(1);
    let wait = operation & raw::LOCK_NB == 0;
    let kind = match operation & !raw::LOCK_NB {
        raw::LOCK_SH => Some(LockKind::Shared),
        raw::LOCK_EX => Some(LockKind::Exclusive),
        raw::LOCK_UN => None,
        _ => return Err(Errno::EINVAL),
    };
    let wanted = FileLock::whole(
        kind.unwrap_or(LockKind::Shared),
        LockOwner::Description(file.lock_id()),
        cx.process().pid().global().unsigned_abs(),
    );
    if kind.is_none() {
        return lock::release(&file, LockFamily::Flock, &wanted).map(|()| 0);
    }
    lock::acquire(&file, LockFamily::Flock, &wanted, wait).map(|()| 0)
}

/// `F_GETLK`, `F_OFD_GETLK`.
pub(crate) fn get(cx: &Context<'_>, file: &File, is_ofd: bool) -> Result<u64> {
    let mut asked: UserLock = user::read(cx.addr(2))?;
    if asked.kind != READ_LOCK && asked.kind != WRITE_LOCK {
        return Err(Errno::EINVAL);
    }
    let wanted = decode(cx, file, &asked, is_ofd)?;
    match lock::find_conflict(file, LockFamily::Record, &wanted)? {
        None => asked.kind = UNLOCK,
        Some(held) => {
            asked.kind = if held.kind == LockKind::Shared {
                READ_LOCK
            } else {
                WRITE_LOCK
            };
            asked.whence = 0;
            asked.start = i64::try_from(held.start).unwrap_or(i64::MAX);
            asked.len = if held.end == u64::MAX {
                0
            } else {
                i64::try_from(held.end - held.start).unwrap_or(0)
            };
            asked.pid = match held.owner {
                LockOwner::Table(_) => owner_number(cx, held.pid),
                LockOwner::Description(_) => -1,
            };
        }
    }
    user::write(cx.addr(2), &asked)?;
    Ok(0)
}

/// What the caller calls the process that the lock table knows by its number in the initial namespace.
fn owner_number(cx: &Context<'_>, global: u32) -> i32 {
    let number = i32::try_from(global).unwrap_or(0);
    let pid = relations::find_pid(&PidNamespace::INITIAL, number);
    pid.map_or(0, |pid| cx.shown(&pid))
}

/// `F_SETLK`, `F_SETLKW` and the OFD ones.
pub(crate) fn set(cx: &Context<'_>, file: &File, is_ofd: bool, wait: bool) -> Result<u64> {
    let asked: UserLock = user::read(cx.addr(2))?;
    let wanted = decode(cx, file, &asked, is_ofd)?;
    let flags = file.flags();
    match asked.kind {
        READ_LOCK if !flags.is_readable() => return Err(Errno::EBADF),
        WRITE_LOCK if !flags.is_writable() => return Err(Errno::EBADF),
        READ_LOCK | WRITE_LOCK => lock::acquire(file, LockFamily::Record, &wanted, wait)?,
        UNLOCK => lock::release(file, LockFamily::Record, &wanted)?,
        _ => return Err(Errno::EINVAL),
    }
    if asked.kind != UNLOCK && !is_ofd && !is_still_open(cx, file) {
        // Another thread closed the descriptor while the lock was taken: its close came too early to free it.
        lock::release(file, LockFamily::Record, &wanted)?;
        return Err(Errno::EBADF);
    }
    Ok(0)
}

fn is_still_open(cx: &Context<'_>, file: &File) -> bool {
    let now = cx.own.files.get(cx.int(0));
    now.is_ok_and(|now| core::ptr::eq(Arc::as_ptr(&now), file))
}

fn decode(cx: &Context<'_>, file: &File, asked: &UserLock, is_ofd: bool) -> Result<FileLock> {
    let pid = cx.process().pid().global().unsigned_abs();
    if is_ofd && asked.pid != 0 {
        return Err(Errno::EINVAL);
    }
    let base = match asked.whence {
        0 => 0,
        1 => i64::try_from(file.position()).map_err(|_| Errno::EOVERFLOW)?,
        2 => i64::try_from(file.metadata()?.size).map_err(|_| Errno::EOVERFLOW)?,
        _ => return Err(Errno::EINVAL),
    };
    let from = base.checked_add(asked.start).ok_or(Errno::EOVERFLOW)?;
    let to = from.checked_add(asked.len).ok_or(Errno::EOVERFLOW)?;
    let (start, end) = (from.min(to), from.max(to));
    let start = u64::try_from(start).map_err(|_| Errno::EINVAL)?;
    let end = if asked.len == 0 {
        u64::MAX
    } else {
        end.cast_unsigned()
    };
    Ok(FileLock {
        kind: if asked.kind == WRITE_LOCK {
            LockKind::Exclusive
        } else {
            LockKind::Shared
        },
        owner: if is_ofd {
            LockOwner::Description(file.lock_id())
        } else {
            LockOwner::Table(cx.own.files.lock_id())
        },
        start,
        end,
        pid,
    })
}
