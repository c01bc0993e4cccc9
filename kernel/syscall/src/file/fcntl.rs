//! fcntl: descriptor and status flags, duplication, pipe sizes, seals; locks are in `locks`.

use alloc::sync::Arc;

use abi::raw::general as raw;
use abi::{Errno, Result};
use fs::pipe::PipeEnd;
use fs::{File, OpenFlags, memfd};

use super::{descriptor_limit, file_arg, locks, owner};
use crate::context::Context;
use crate::entry::Entry;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[Entry::new(72, "fcntl", sys_fcntl)];

fn sys_fcntl(cx: &mut Context<'_>) -> Result<u64> {
    let file = file_arg(cx, 0)?;
    let command = cx.uint(1);
    match command {
        raw::F_DUPFD | raw::F_DUPFD_CLOEXEC => {
            let file = file.clone();
            duplicate(cx, file, command == raw::F_DUPFD_CLOEXEC)
        }
        raw::F_GETFD => {
            let closes = cx.own.files.is_close_on_exec(cx.int(0))?;
            Ok(u64::from(closes))
        }
        raw::F_SETFD => {
            let closes = cx.arg(2) & u64::from(raw::FD_CLOEXEC) != 0;
            let fd = cx.int(0);
            cx.own.files.set_close_on_exec(fd, closes).map(|()| 0)
        }
        raw::F_GETFL => Ok(u64::from(file.flags().bits())),
        _ if file.is_path_only() => Err(Errno::EBADF),
        _ => of_open_file(cx, &file, command),
    }
}

fn of_open_file(cx: &Context<'_>, file: &Arc<File>, command: u32) -> Result<u64> {
    match command {
        raw::F_SETFL => set_flags(cx, file),
        raw::F_GETLK | raw::F_OFD_GETLK => locks::get(cx, file, command == raw::F_OFD_GETLK),
        raw::F_SETLK | raw::F_OFD_SETLK => locks::set(cx, file, command == raw::F_OFD_SETLK, false),
        raw::F_SETLKW | raw::F_OFD_SETLKW => {
            locks::set(cx, file, command == raw::F_OFD_SETLKW, true)
        }
        raw::F_GETOWN
        | raw::F_SETOWN
        | raw::F_GETOWN_EX
        | raw::F_SETOWN_EX
        | raw::F_GETSIG
        | raw::F_SETSIG => owner::fcntl(cx, file, command),
        raw::F_GETPIPE_SZ => Ok(pipe(file)?.capacity() as u64),
        raw::F_SETPIPE_SZ => {
            let capacity = pipe(file)?.set_capacity(cx.size(2), cx.credentials())?;
            Ok(capacity as u64)
        }
        raw::F_GET_SEALS => memfd::seals(file).map(|seals| u64::from(seals.bits())),
        raw::F_ADD_SEALS => memfd::add_seals(file, cx.uint(2)).map(|()| 0),
        raw::F_GETLEASE => Ok(u64::from(raw::F_UNLCK)),
        // Leases, dnotify, write hints: not there.
        _ => Err(Errno::EINVAL),
    }
}

fn duplicate(cx: &mut Context<'_>, file: Arc<File>, close_on_exec: bool) -> Result<u64> {
    let from = usize::try_from(cx.int(2)).map_err(|_| Errno::EINVAL)?;
    let limit = descriptor_limit(cx);
    if from >= limit {
        return Err(Errno::EINVAL);
    }
    let fd = cx.own.files.insert_from(from, file, close_on_exec, limit)?;
    Ok(u64::from(fd.unsigned_abs()))
}

fn set_flags(cx: &Context<'_>, file: &Arc<File>) -> Result<u64> {
    let new = OpenFlags::from_bits_truncate(cx.uint(2));
    let old = file.flags();
    if new.contains(OpenFlags::NOATIME) && !old.contains(OpenFlags::NOATIME) {
        let credentials = cx.credentials();
        if !fs::permission::is_owner_or_capable(&file.metadata()?, credentials) {
            return Err(Errno::EPERM);
        }
    }
    file.set_flags(new)?;
    if (new ^ old).contains(OpenFlags::ASYNC) {
        file.set_async(cx.int(0), new.contains(OpenFlags::ASYNC))?;
    }
    Ok(0)
}

fn pipe(file: &File) -> Result<&PipeEnd> {
    file.downcast().ok_or(Errno::EBADF)
}
