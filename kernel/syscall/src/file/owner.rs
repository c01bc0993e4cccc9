//! Who is told by a signal of what becomes ready: `F_SETOWN`, `F_SETOWN_EX`, `F_SETSIG` of fcntl(2).

use abi::raw::general as raw;
use abi::{Errno, Result};
use fs::File;
use fs::job_control::{PidRef, job_control};
use fs::sigio::IoOwner;
use memory::user;
use process::task::{relations, tree};

use crate::context::Context;

/// Signal numbers end here.
const SIGNAL_MAX: u64 = 64;

/// One of the commands about a file's owner and signal.
pub(super) fn fcntl(cx: &Context<'_>, file: &File, command: u32) -> Result<u64> {
    match command {
        raw::F_GETOWN => Ok(i64::from(shown(&owner(file)).1).cast_unsigned()),
        raw::F_GETOWN_EX => {
            let (kind, id) = shown(&owner(file));
            user::write(cx.addr(2), &[kind, id.abs()])?;
            Ok(0)
        }
        raw::F_SETOWN => {
            let id = cx.int(2);
            let kind = if id < 0 {
                raw::F_OWNER_PGRP
            } else {
                raw::F_OWNER_PID
            };
            set_owner(cx, file, kind, id.checked_abs().ok_or(Errno::EINVAL)?)
        }
        raw::F_SETOWN_EX => {
            let [kind, id]: [i32; 2] = user::read(cx.addr(2))?;
            set_owner(cx, file, kind.cast_unsigned(), id)
        }
        raw::F_GETSIG => Ok(file.io_settings().map_or(0, |io| u64::from(io.signal))),
        _ => {
            let signal = u8::try_from(cx.arg(2).min(SIGNAL_MAX + 1)).unwrap_or(u8::MAX);
            if u64::from(signal) > SIGNAL_MAX {
                return Err(Errno::EINVAL);
            }
            file.change_io_settings(cx.credentials(), |io| io.signal = signal)?;
            Ok(0)
        }
    }
}

fn owner(file: &File) -> IoOwner {
    file.io_settings().map_or(IoOwner::Nobody, |io| io.owner)
}

/// `F_OWNER_*` and the caller's number for the owner, negative for a group, 0 for one that is gone.
fn shown(owner: &IoOwner) -> (i32, i32) {
    let number = |pid: &PidRef| job_control().shown(pid);
    let (kind, id) = match owner {
        IoOwner::Nobody => (raw::F_OWNER_PID, 0),
        IoOwner::Thread(id) => (raw::F_OWNER_TID, number(id)),
        IoOwner::Process(id) => (raw::F_OWNER_PID, number(id)),
        IoOwner::Group(id) => (raw::F_OWNER_PGRP, -number(id)),
    };
    (kind.cast_signed(), id)
}

fn set_owner(cx: &Context<'_>, file: &File, kind: u32, id: i32) -> Result<u64> {
    let known = |id: i32| cx.find_pid(id).ok_or(Errno::ESRCH);
    let owner = match kind {
        raw::F_OWNER_TID | raw::F_OWNER_PID | raw::F_OWNER_PGRP if id < 0 => {
            return Err(Errno::ESRCH);
        }
        raw::F_OWNER_TID | raw::F_OWNER_PID | raw::F_OWNER_PGRP if id == 0 => IoOwner::Nobody,
        raw::F_OWNER_TID => {
            let pid = known(id)?;
            pid.thread(&tree::lock()).ok_or(Errno::ESRCH)?;
            IoOwner::Thread(PidRef::new(pid))
        }
        raw::F_OWNER_PID => {
            let pid = known(id)?;
            pid.process(&tree::lock()).ok_or(Errno::ESRCH)?;
            IoOwner::Process(PidRef::new(pid))
        }
        raw::F_OWNER_PGRP => {
            let pid = known(id)?;
            relations::session_of_group(&tree::lock(), &pid).ok_or(Errno::ESRCH)?;
            IoOwner::Group(PidRef::new(pid))
        }
        _ => return Err(Errno::EINVAL),
    };
    let credentials = cx.credentials();
    file.change_io_settings(credentials, |io| {
        io.owner = owner;
        io.credentials = credentials.clone();
    })?;
    Ok(0)
}
