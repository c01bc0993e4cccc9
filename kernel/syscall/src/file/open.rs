//! open, creat, openat, openat2, close, close_range.

use abi::raw::general as raw;
use abi::{Errno, Result};
use collections::Vec;
use fs::{File, LookupFlags, OpenFlags, OpenHow};
use machine::UserAddr;
use memory::user;

use super::{AT_FDCWD, Names, descriptor_limit, install, read_path};
use crate::context::Context;
use crate::entry::Entry;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(2, "open", sys_open),
    Entry::new(3, "close", sys_close),
    Entry::new(85, "creat", sys_creat),
    Entry::new(257, "openat", sys_openat),
    Entry::new(436, "close_range", sys_close_range),
    Entry::new(437, "openat2", sys_openat2),
];

/// Give the caller a table of its own first.
const CLOSE_RANGE_UNSHARE: u32 = 2;
/// Mark instead of closing.
const CLOSE_RANGE_CLOEXEC: u32 = 4;

fn sys_open(cx: &mut Context<'_>) -> Result<u64> {
    open(cx, AT_FDCWD, cx.addr(0), &how(cx.uint(1), cx.uint(2)))
}

fn sys_creat(cx: &mut Context<'_>) -> Result<u64> {
    let flags = raw::O_CREAT | raw::O_WRONLY | raw::O_TRUNC;
    open(cx, AT_FDCWD, cx.addr(0), &how(flags, cx.uint(1)))
}

fn sys_openat(cx: &mut Context<'_>) -> Result<u64> {
    open(cx, cx.int(0), cx.addr(1), &how(cx.uint(2), cx.uint(3)))
}

/// What open(2) makes of its flag word and mode: what has no meaning is ignored.
fn how(flags: u32, mode: u32) -> OpenHow {
    // A 64-bit program's files are all large.
    let flags = OpenFlags::from_open(flags) | OpenFlags::LARGEFILE;
    let creates = flags.contains(OpenFlags::CREAT) || flags.is_tmpfile();
    OpenHow {
        flags,
        mode: if creates { mode & 0o7777 } else { 0 },
        resolve: LookupFlags::empty(),
    }
}

fn sys_openat2(cx: &mut Context<'_>) -> Result<u64> {
    let how = read_how(cx.addr(2), cx.size(3))?;
    open(cx, cx.int(0), cx.addr(1), &how)
}

/// `struct open_how`: three words; what a later version may have behind them must be 0.
fn read_how(addr: UserAddr, size: usize) -> Result<OpenHow> {
    const SIZE: usize = 24;
    if size < SIZE {
        return Err(Errno::EINVAL);
    }
    if size > 4096 {
        return Err(Errno::E2BIG);
    }
    let words: [u64; 3] = user::read(addr)?;
    let rest: Vec<u8> = user::read_array(UserAddr(addr.0 + SIZE as u64), size - SIZE)?;
    if rest.iter().any(|byte| *byte != 0) {
        return Err(Errno::E2BIG);
    }
    let [flags, mode, resolve] = words;
    let asked = OpenFlags::from_openat2(flags)?;
    let flags = asked | OpenFlags::LARGEFILE;
    let creates = flags.contains(OpenFlags::CREAT) || flags.is_tmpfile();
    if (!creates && mode != 0) || mode & !0o7777 != 0 {
        return Err(Errno::EINVAL);
    }
    let path_flags =
        OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW | OpenFlags::CLOEXEC;
    if flags.contains(OpenFlags::PATH) && !path_flags.contains(asked) {
        return Err(Errno::EINVAL);
    }
    Ok(OpenHow {
        flags,
        mode: u32::try_from(mode).map_err(|_| Errno::EINVAL)?,
        resolve: resolve_flags(resolve, flags)?,
    })
}

fn resolve_flags(bits: u64, flags: OpenFlags) -> Result<LookupFlags> {
    let known = [
        (raw::RESOLVE_NO_XDEV, LookupFlags::NO_XDEV),
        (raw::RESOLVE_NO_MAGICLINKS, LookupFlags::NO_MAGICLINKS),
        (raw::RESOLVE_NO_SYMLINKS, LookupFlags::NO_SYMLINKS),
        (raw::RESOLVE_BENEATH, LookupFlags::BENEATH),
        (raw::RESOLVE_IN_ROOT, LookupFlags::IN_ROOT),
        (raw::RESOLVE_CACHED, LookupFlags::CACHED),
    ];
    let mut resolve = LookupFlags::empty();
    let mut left = bits;
    for (bit, flag) in known {
        if left & u64::from(bit) != 0 {
            resolve |= flag;
            left &= !u64::from(bit);
        }
    }
    let both = LookupFlags::BENEATH | LookupFlags::IN_ROOT;
    if left != 0 || resolve.contains(both) {
        return Err(Errno::EINVAL);
    }
    let changes = flags.intersects(OpenFlags::CREAT | OpenFlags::TRUNC | OpenFlags::TMPFILE_BIT);
    if resolve.contains(LookupFlags::CACHED) && changes {
        return Err(Errno::EAGAIN);
    }
    Ok(resolve)
}

fn open(cx: &mut Context<'_>, dirfd: i32, path: UserAddr, how: &OpenHow) -> Result<u64> {
    let path = read_path(path)?;
    if how.flags.intersects(OpenFlags::CREAT | OpenFlags::TRUNC) {
        // No file is made or emptied that cannot be opened then.
        let limit = descriptor_limit(cx);
        cx.own.files.make_room(limit)?;
    }
    let names = Names::of(cx);
    let scoped = how
        .resolve
        .intersects(LookupFlags::BENEATH | LookupFlags::IN_ROOT);
    // A scope is the directory's, whatever the path looks like.
    let base = names.base(cx, dirfd, if scoped { b"." } else { &path })?;
    let file = names.caller().open(&base, &path, how)?;
    install(cx, file, how.flags.contains(OpenFlags::CLOEXEC))
}

fn sys_close(cx: &mut Context<'_>) -> Result<u64> {
    let fd = cx.int(0);
    let file = cx.own.files.remove(fd)?;
    close(cx, &file)?;
    Ok(0)
}

/// What goes with taking a descriptor of `file` away.
pub(crate) fn close(cx: &Context<'_>, file: &File) -> Result<()> {
    match cx.own.files.finish_close(file) {
        // The descriptor is gone: trying again would be wrong.
        Err(Errno::ERESTARTSYS | Errno::ERESTARTNOINTR) => Err(Errno::EINTR),
        result => result,
    }
}

fn sys_close_range(cx: &mut Context<'_>) -> Result<u64> {
    let (first, last, flags) = (cx.uint(0), cx.uint(1), cx.uint(2));
    if first > last || flags & !(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & CLOSE_RANGE_UNSHARE != 0 {
        let own = cx.own.files.duplicate()?;
        cx.own.set_files(cx.thread, own);
    }
    let files = &mut cx.own.files;
    if flags & CLOSE_RANGE_CLOEXEC != 0 {
        files.set_range_close_on_exec(first, last);
        return Ok(0);
    }
    files.close_range(first, last);
    Ok(0)
}
