//! chmod, chown, utimensat and their older forms; umask.

use abi::raw::general as raw;
use abi::{Errno, Result};
use fs::{ChownTo, TimeChange, Timestamp};
use machine::UserAddr;
use memory::user;

use super::{
    AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, Names, Target, file_arg, target, usable_file,
};
use crate::context::Context;
use crate::entry::Entry;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(90, "chmod", sys_chmod),
    Entry::new(91, "fchmod", sys_fchmod),
    Entry::new(92, "chown", sys_chown),
    Entry::new(93, "fchown", sys_fchown),
    Entry::new(94, "lchown", sys_lchown),
    Entry::new(95, "umask", sys_umask),
    Entry::new(132, "utime", sys_utime),
    Entry::new(235, "utimes", sys_utimes),
    Entry::new(260, "fchownat", sys_fchownat),
    Entry::new(261, "futimesat", sys_futimesat),
    Entry::new(268, "fchmodat", sys_fchmodat),
    Entry::new(280, "utimensat", sys_utimensat),
    Entry::new(452, "fchmodat2", sys_fchmodat2),
];

fn sys_umask(cx: &mut Context<'_>) -> Result<u64> {
    Ok(u64::from(cx.fs().set_umask(cx.uint(0))))
}

fn sys_chmod(cx: &mut Context<'_>) -> Result<u64> {
    chmod(cx, AT_FDCWD, cx.addr(0), cx.uint(1), 0)
}

fn sys_fchmodat(cx: &mut Context<'_>) -> Result<u64> {
    chmod(cx, cx.int(0), cx.addr(1), cx.uint(2), 0)
}

fn sys_fchmodat2(cx: &mut Context<'_>) -> Result<u64> {
    let flags = cx.uint(3);
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    chmod(cx, cx.int(0), cx.addr(1), cx.uint(2), flags)
}

fn chmod(cx: &Context<'_>, dirfd: i32, path: UserAddr, mode: u32, flags: u32) -> Result<u64> {
    let names = Names::of(cx);
    match target(cx, &names, dirfd, path, flags)? {
        Target::Place(place) => names.caller().chmod(&place, mode)?,
        Target::Open(file) => names.caller().chmod_file(&file, mode)?,
    }
    Ok(0)
}

fn sys_fchmod(cx: &mut Context<'_>) -> Result<u64> {
    let file = usable_file(cx, cx.int(0))?;
    Names::of(cx).caller().chmod_file(&file, cx.uint(1))?;
    Ok(0)
}

fn sys_chown(cx: &mut Context<'_>) -> Result<u64> {
    chown(cx, AT_FDCWD, cx.addr(0), owner(cx, 1)?, 0)
}

fn sys_lchown(cx: &mut Context<'_>) -> Result<u64> {
    chown(cx, AT_FDCWD, cx.addr(0), owner(cx, 1)?, AT_SYMLINK_NOFOLLOW)
}

fn sys_fchownat(cx: &mut Context<'_>) -> Result<u64> {
    let flags = cx.uint(4);
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    chown(cx, cx.int(0), cx.addr(1), owner(cx, 2)?, flags)
}

fn sys_fchown(cx: &mut Context<'_>) -> Result<u64> {
    let file = usable_file(cx, cx.int(0))?;
    Names::of(cx).caller().chown_file(&file, owner(cx, 1)?)?;
    Ok(0)
}

fn chown(cx: &Context<'_>, dirfd: i32, path: UserAddr, to: ChownTo, flags: u32) -> Result<u64> {
    let names = Names::of(cx);
    match target(cx, &names, dirfd, path, flags)? {
        Target::Place(place) => names.caller().chown(&place, to)?,
        Target::Open(file) => names.caller().chown_file(&file, to)?,
    }
    Ok(0)
}

/// The ids in arguments `index` and the next; -1 leaves one as it is.
fn owner(cx: &Context<'_>, index: usize) -> Result<ChownTo> {
    Ok(ChownTo {
        uid: cx.optional_user(index)?,
        gid: cx.optional_group(index + 1)?,
    })
}

fn sys_utimensat(cx: &mut Context<'_>) -> Result<u64> {
    let flags = cx.uint(3);
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let times = match cx.optional_addr(2) {
        None => [TimeChange::Now; 2],
        Some(addr) => {
            let [atime, mtime]: [[i64; 2]; 2] = user::read(addr)?;
            [time_spec(atime)?, time_spec(mtime)?]
        }
    };
    if times == [TimeChange::Keep; 2] {
        return Ok(0);
    }
    // A null path means the file behind the descriptor (futimens(3)).
    if cx.addr(1).0 == 0 && cx.int(0) != AT_FDCWD {
        if flags & AT_SYMLINK_NOFOLLOW != 0 {
            return Err(Errno::EINVAL);
        }
        let file = file_arg(cx, 0)?;
        Names::of(cx)
            .caller()
            .set_file_times(&file, times[0], times[1])?;
        return Ok(0);
    }
    set_times(cx, cx.int(0), cx.addr(1), times, flags)
}

/// One `struct timespec` of utimensat(2).
fn time_spec([seconds, nanoseconds]: [i64; 2]) -> Result<TimeChange> {
    const NOW: i64 = raw::UTIME_NOW as i64;
    const OMIT: i64 = raw::UTIME_OMIT as i64;
    match nanoseconds {
        NOW => Ok(TimeChange::Now),
        OMIT => Ok(TimeChange::Keep),
        0..1_000_000_000 => {
            let nanoseconds = u32::try_from(nanoseconds).map_err(|_| Errno::EINVAL)?;
            Ok(TimeChange::To(Timestamp::new(seconds, nanoseconds)))
        }
        _ => Err(Errno::EINVAL),
    }
}

fn sys_utimes(cx: &mut Context<'_>) -> Result<u64> {
    let times = time_values(cx.optional_addr(1))?;
    set_times(cx, AT_FDCWD, cx.addr(0), times, 0)
}

fn sys_futimesat(cx: &mut Context<'_>) -> Result<u64> {
    let times = time_values(cx.optional_addr(2))?;
    set_times(cx, cx.int(0), cx.addr(1), times, 0)
}

/// Two `struct timeval`.
fn time_values(addr: Option<UserAddr>) -> Result<[TimeChange; 2]> {
    let Some(addr) = addr else {
        return Ok([TimeChange::Now; 2]);
    };
    let values: [[i64; 2]; 2] = user::read(addr)?;
    let one = |[seconds, microseconds]: [i64; 2]| match u32::try_from(microseconds) {
        Ok(microseconds) if microseconds < 1_000_000 => {
            Ok(TimeChange::To(Timestamp::new(seconds, microseconds * 1000)))
        }
        _ => Err(Errno::EINVAL),
    };
    Ok([one(values[0])?, one(values[1])?])
}

fn sys_utime(cx: &mut Context<'_>) -> Result<u64> {
    let times = match cx.optional_addr(1) {
        None => [TimeChange::Now; 2],
        Some(addr) => {
            let seconds: [i64; 2] = user::read(addr)?;
            seconds.map(|seconds| TimeChange::To(Timestamp::new(seconds, 0)))
        }
    };
    set_times(cx, AT_FDCWD, cx.addr(0), times, 0)
}

fn set_times(
    cx: &Context<'_>,
    dirfd: i32,
    path: UserAddr,
    times: [TimeChange; 2],
    flags: u32,
) -> Result<u64> {
    let names = Names::of(cx);
    let [atime, mtime] = times;
    match target(cx, &names, dirfd, path, flags)? {
        Target::Place(place) => names.caller().set_times(&place, atime, mtime)?,
        Target::Open(file) => names.caller().set_file_times(&file, atime, mtime)?,
    }
    Ok(0)
}
