//! Replacing a process's program: execve(2), execveat(2).

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::Vec;
use fs::{Caller, FileKind, LookupFlags};
use machine::UserAddr;
use process::exec::{self, Request, strings::Strings};

use crate::context::Context;
use crate::entry::Entry;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(59, "execve", sys_execve),
    Entry::new(322, "execveat", sys_execveat),
];

fn sys_execve(cx: &mut Context<'_>) -> Result<u64> {
    let name = memory::user::read_c_string(cx.addr(0), fs::PATH_MAX)?;
    let file = exec::open(cx.thread, &name)?;
    run(cx, file, name, (cx.addr(1), cx.addr(2)), false)
}

fn run(
    cx: &mut Context<'_>,
    file: Arc<fs::File>,
    name: Vec<u8>,
    (args, env): (UserAddr, UserAddr),
    name_is_closed: bool,
) -> Result<u64> {
    let limit = exec::strings_limit(cx.thread);
    let request = Request {
        file,
        name,
        args: Strings::from_user(args, limit)?,
        env: Strings::from_user(env, limit)?,
        name_is_closed,
    };
    exec::exec(cx.thread, cx.own, cx.user, &request)?;
    // The program starts with every register zero.
    Ok(0)
}

const AT_FDCWD: i32 = -100;
const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
const AT_EMPTY_PATH: u32 = 0x1000;

fn sys_execveat(cx: &mut Context<'_>) -> Result<u64> {
    let (fd, flags) = (cx.int(0), cx.uint(4));
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let path = memory::user::read_c_string(cx.addr(1), fs::PATH_MAX)?;
    let (fs, credentials) = (cx.fs(), cx.credentials());
    let (base, is_closed) = if fd == AT_FDCWD || path.first() == Some(&b'/') {
        (fs.cwd(), false)
    } else {
        let files = &cx.own.files;
        let base = files.get(fd)?.path().cloned().ok_or(Errno::EACCES)?;
        (base, files.is_close_on_exec(fd)?)
    };
    let mut lookup = LookupFlags::empty();
    lookup.set(LookupFlags::FOLLOW, flags & AT_SYMLINK_NOFOLLOW == 0);
    lookup.set(LookupFlags::EMPTY_PATH, flags & AT_EMPTY_PATH != 0);
    let caller = Caller { fs, credentials };
    let found = caller.lookup(&base, &path, lookup)?;
    if found.inode()?.kind() == FileKind::Symlink {
        return Err(Errno::ELOOP);
    }
    let file = exec::open_found(cx.thread, found)?;
    let is_relative = fd != AT_FDCWD && path.first() != Some(&b'/');
    let name = if is_relative {
        name_in(fd, &path)?
    } else {
        path
    };
    run(
        cx,
        file,
        name,
        (cx.addr(2), cx.addr(3)),
        is_closed && is_relative,
    )
}

/// The path by which a program finds itself that was named by a descriptor.
fn name_in(fd: i32, path: &[u8]) -> Result<Vec<u8>> {
    let folder = collections::try_format!("/dev/fd/{fd}")?;
    let mut name = Vec::try_from_slice(folder.as_bytes())?;
    if !path.is_empty() {
        name.try_push(b'/')?;
        name.try_extend_from_slice(path)?;
    }
    Ok(name)
}
