//! truncate, fallocate, fsync, sync and hints about access.

use abi::raw::general as raw;
use abi::{Errno, Result};
use fs::{Allocate, FileKind};
use process::rlimit::Resource;
use process::signal::Signal;

use super::read_write::raise;
use super::{AT_FDCWD, Names, file_arg, lookup_flags, usable_file};
use crate::context::Context;
use crate::entry::Entry;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(74, "fsync", sys_fsync),
    Entry::new(75, "fdatasync", sys_fdatasync),
    Entry::new(76, "truncate", sys_truncate),
    Entry::new(77, "ftruncate", sys_ftruncate),
    Entry::new(162, "sync", sys_sync),
    Entry::new(187, "readahead", sys_readahead),
    Entry::new(221, "fadvise64", sys_fadvise64),
    Entry::new(277, "sync_file_range", sys_sync_file_range),
    Entry::new(285, "fallocate", sys_fallocate),
    Entry::new(306, "syncfs", sys_syncfs),
];

fn sys_truncate(cx: &mut Context<'_>) -> Result<u64> {
    let size = u64::try_from(cx.long(1)).map_err(|_| Errno::EINVAL)?;
    let names = Names::of(cx);
    let place = names.lookup(cx, AT_FDCWD, cx.addr(0), lookup_flags(true))?;
    if place.inode()?.kind() == FileKind::Regular {
        check_growth(cx, place.metadata()?.size, size)?;
    }
    names.caller().truncate(&place, size).map(|()| 0)
}

fn sys_ftruncate(cx: &mut Context<'_>) -> Result<u64> {
    let size = u64::try_from(cx.long(1)).map_err(|_| Errno::EINVAL)?;
    let file = file_arg(cx, 0)?;
    if file.kind() == FileKind::Regular && file.flags().is_writable() {
        check_growth(cx, file.metadata()?.size, size)?;
    }
    Names::of(cx)
        .caller()
        .truncate_file(&file, size)
        .map(|()| 0)
}

/// A file that grows stays within `RLIMIT_FSIZE`, or its owner hears SIGXFSZ.
fn check_growth(cx: &Context<'_>, from: u64, to: u64) -> Result<()> {
    if to > from && to > cx.process().limits().soft(Resource::FileSize) {
        raise(cx, Signal::XFSZ);
        return Err(Errno::EFBIG);
    }
    Ok(())
}

fn sys_fallocate(cx: &mut Context<'_>) -> Result<u64> {
    let file = usable_file(cx, cx.int(0))?;
    let offset = u64::try_from(cx.long(2)).map_err(|_| Errno::EINVAL)?;
    let len = u64::try_from(cx.long(3)).map_err(|_| Errno::EINVAL)?;
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    let mode = cx.uint(1);
    let punches = mode & raw::FALLOC_FL_PUNCH_HOLE != 0;
    if punches && mode & raw::FALLOC_FL_KEEP_SIZE == 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    if !file.flags().is_writable() {
        return Err(Errno::EBADF);
    }
    // What is regular in kind alone (an eventfd, say) has no space to allocate.
    match file.kind() {
        FileKind::Regular if file.is_file_like() => return Err(Errno::ENODEV),
        FileKind::Regular => {}
        FileKind::Fifo => return Err(Errno::ESPIPE),
        FileKind::Directory => return Err(Errno::EISDIR),
        _ => return Err(Errno::ENODEV),
    }
    if i64::try_from(offset.saturating_add(len)).is_err() {
        return Err(Errno::EFBIG);
    }
    // A hole is never behind the end, so it makes no file larger.
    if !punches {
        check_growth(cx, file.metadata()?.size, offset + len)?;
    }
    file.ops()
        .allocate(&Allocate { mode, offset, len })
        .map(|()| 0)
}

fn sys_fsync(cx: &mut Context<'_>) -> Result<u64> {
    usable_file(cx, cx.int(0))?.ops().sync(false).map(|()| 0)
}

fn sys_fdatasync(cx: &mut Context<'_>) -> Result<u64> {
    usable_file(cx, cx.int(0))?.ops().sync(true).map(|()| 0)
}

fn sys_sync(cx: &mut Context<'_>) -> Result<u64> {
    for mount in cx.fs().namespace().mounts()? {
        // sync(2) has no way to report an error.
        let _ = mount.super_block().fs().sync();
    }
    fs::block::sync_all()?;
    Ok(0)
}

fn sys_syncfs(cx: &mut Context<'_>) -> Result<u64> {
    let file = usable_file(cx, cx.int(0))?;
    match file.path() {
        Some(path) => path.mount.super_block().fs().sync().map(|()| 0),
        None => Ok(0),
    }
}

fn sys_sync_file_range(cx: &mut Context<'_>) -> Result<u64> {
    let known = raw::SYNC_FILE_RANGE_WAIT_BEFORE
        | raw::SYNC_FILE_RANGE_WRITE
        | raw::SYNC_FILE_RANGE_WAIT_AFTER;
    let file = usable_file(cx, cx.int(0))?;
    let ends = cx.long(1).checked_add(cx.long(2)).is_some();
    if cx.uint(3) & !known != 0 || cx.long(1) < 0 || cx.long(2) < 0 || !ends {
        return Err(Errno::EINVAL);
    }
    match file.kind() {
        FileKind::Regular if file.is_file_like() => return Err(Errno::ESPIPE),
        FileKind::Regular | FileKind::Directory => {}
        _ => return Err(Errno::ESPIPE),
    }
    // More than was asked for: a range that is written back with the rest is written back all the same.
    match file.ops().sync(true) {
        // It has nothing to write.
        Ok(()) | Err(Errno::EINVAL) => Ok(0),
        Err(errno) => Err(errno),
    }
}

fn sys_fadvise64(cx: &mut Context<'_>) -> Result<u64> {
    let file = usable_file(cx, cx.int(0))?;
    if file.kind() == FileKind::Fifo {
        return Err(Errno::ESPIPE);
    }
    if cx.long(2) < 0 || cx.uint(3) > raw::POSIX_FADV_NOREUSE {
        return Err(Errno::EINVAL);
    }
    // Advice, and taken as such: nothing depends on it.
    Ok(0)
}

fn sys_readahead(cx: &mut Context<'_>) -> Result<u64> {
    let file = usable_file(cx, cx.int(0))?;
    if !file.flags().is_readable() {
        return Err(Errno::EBADF);
    }
    if file.kind() != FileKind::Regular || file.is_file_like() {
        return Err(Errno::EINVAL);
    }
    Ok(0)
}
