//! read, write and their kin; lseek.

use abi::raw::general as raw;
use abi::{Errno, Result};
use collections::Vec;
use fs::{FdRef, File, FileKind, Io, OpenFlags, Seek};
use memory::io::{IoReader, IoWriter, UserSlice};
use process::rlimit::{INFINITY, Resource};
use process::signal::{SigInfo, Signal, send};

use super::buffers::{slice, vector};
use super::file_arg;
use crate::context::Context;
use crate::entry::Entry;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(0, "read", sys_read),
    Entry::new(1, "write", sys_write),
    Entry::new(8, "lseek", sys_lseek),
    Entry::new(17, "pread64", sys_pread64),
    Entry::new(18, "pwrite64", sys_pwrite64),
    Entry::new(19, "readv", sys_readv),
    Entry::new(20, "writev", sys_writev),
    Entry::new(295, "preadv", sys_preadv),
    Entry::new(296, "pwritev", sys_pwritev),
    Entry::new(327, "preadv2", sys_preadv2),
    Entry::new(328, "pwritev2", sys_pwritev2),
];

bitflags::bitflags! {
    /// `RWF_*` of preadv2(2). `HIPRI`, `DSYNC` and `SYNC` ask for nothing that is not so anyway.
    struct RwFlags: u32 {
        const HIPRI = raw::RWF_HIPRI;
        const DSYNC = raw::RWF_DSYNC;
        const SYNC = raw::RWF_SYNC;
        const NOWAIT = raw::RWF_NOWAIT;
        const APPEND = raw::RWF_APPEND;
    }
}

fn sys_read(cx: &mut Context<'_>) -> Result<u64> {
    let file = file_arg(cx, 0)?;
    let to = slice(cx.addr(1), cx.size(2))?;
    file.read(&mut IoWriter::user(to.addr, to.len)).map(count)
}

fn sys_write(cx: &mut Context<'_>) -> Result<u64> {
    let file = file_arg(cx, 0)?;
    let from = slice(cx.addr(1), cx.size(2))?;
    write(cx, &file, &mut IoReader::user(from.addr, from.len))
}

fn sys_readv(cx: &mut Context<'_>) -> Result<u64> {
    let file = file_arg(cx, 0)?;
    let pieces = vector(cx.addr(1), cx.size(2))?;
    file.read(&mut IoWriter::vector(&pieces)).map(count)
}

fn sys_writev(cx: &mut Context<'_>) -> Result<u64> {
    let file = file_arg(cx, 0)?;
    let pieces = vector(cx.addr(1), cx.size(2))?;
    write(cx, &file, &mut IoReader::vector(&pieces))
}

fn sys_pread64(cx: &mut Context<'_>) -> Result<u64> {
    let offset = offset(cx.long(3))?;
    let file = file_arg(cx, 0)?;
    let to = slice(cx.addr(1), cx.size(2))?;
    file.read_at(&mut IoWriter::user(to.addr, to.len), &file.io_at(offset))
        .map(count)
}

fn sys_pwrite64(cx: &mut Context<'_>) -> Result<u64> {
    let offset = offset(cx.long(3))?;
    let file = file_arg(cx, 0)?;
    let from = slice(cx.addr(1), cx.size(2))?;
    let io = file.io_at(offset);
    write_at(cx, &file, &mut IoReader::user(from.addr, from.len), io)
}

fn sys_preadv(cx: &mut Context<'_>) -> Result<u64> {
    let offset = offset(cx.long(3))?;
    let (file, pieces) = file_and_vector(cx)?;
    file.read_at(&mut IoWriter::vector(&pieces), &file.io_at(offset))
        .map(count)
}

fn sys_pwritev(cx: &mut Context<'_>) -> Result<u64> {
    let offset = offset(cx.long(3))?;
    let (file, pieces) = file_and_vector(cx)?;
    let io = file.io_at(offset);
    write_at(cx, &file, &mut IoReader::vector(&pieces), io)
}

fn sys_preadv2(cx: &mut Context<'_>) -> Result<u64> {
    let flags = RwFlags::from_bits(cx.uint(5)).ok_or(Errno::EOPNOTSUPP)?;
    let (file, pieces) = file_and_vector(cx)?;
    if flags.contains(RwFlags::APPEND) {
        return Err(Errno::EOPNOTSUPP);
    }
    let mut to = IoWriter::vector(&pieces);
    if flags.contains(RwFlags::NOWAIT) {
        // Waiting can be forbidden where the file itself can be told: not where pages are read in.
        if file.is_seekable() || cx.long(3) != -1 {
            return Err(Errno::EOPNOTSUPP);
        }
        let io = Io {
            nonblocking: true,
            ..file.io_at(0)
        };
        return read_stream(&file, &mut to, &io);
    }
    if cx.long(3) == -1 {
        return file.read(&mut to).map(count);
    }
    file.read_at(&mut to, &file.io_at(offset(cx.long(3))?))
        .map(count)
}

fn sys_pwritev2(cx: &mut Context<'_>) -> Result<u64> {
    let flags = RwFlags::from_bits(cx.uint(5)).ok_or(Errno::EOPNOTSUPP)?;
    let (file, pieces) = file_and_vector(cx)?;
    let mut from = IoReader::vector(&pieces);
    if cx.long(3) == -1 && !flags.contains(RwFlags::APPEND) {
        if flags.contains(RwFlags::NOWAIT) {
            return Err(Errno::EOPNOTSUPP);
        }
        return write(cx, &file, &mut from);
    }
    let at = if cx.long(3) == -1 {
        0
    } else {
        offset(cx.long(3))?
    };
    let mut io = file.io_at(at);
    io.append |= flags.contains(RwFlags::APPEND);
    write_at(cx, &file, &mut from, io)
}

fn read_stream(file: &File, to: &mut IoWriter<'_>, io: &Io) -> Result<u64> {
    if !file.flags().is_readable() {
        return Err(Errno::EBADF);
    }
    file.ops().read(to, io).map(count)
}

fn sys_lseek(cx: &mut Context<'_>) -> Result<u64> {
    let file = file_arg(cx, 0)?;
    let offset = cx.long(1);
    let to = match cx.uint(2) {
        raw::SEEK_SET => Seek::Set(offset),
        raw::SEEK_CUR => Seek::Current(offset),
        raw::SEEK_END => Seek::End(offset),
        raw::SEEK_DATA => Seek::Data(offset),
        raw::SEEK_HOLE => Seek::Hole(offset),
        _ => return Err(Errno::EINVAL),
    };
    file.seek(to)
}

fn file_and_vector<'a>(cx: &'a Context<'_>) -> Result<(FdRef<'a>, Vec<UserSlice>)> {
    let file = file_arg(cx, 0)?;
    let pieces = vector(cx.addr(1), cx.size(2))?;
    Ok((file, pieces))
}

fn offset(value: i64) -> Result<u64> {
    u64::try_from(value).map_err(|_| Errno::EINVAL)
}

/// A byte count as a result.
pub(crate) fn count(bytes: usize) -> u64 {
    bytes as u64
}

/// write(2) at the position, with the signals that come with its errors.
pub(crate) fn write(cx: &Context<'_>, file: &File, from: &mut IoReader<'_>) -> Result<u64> {
    if file.is_seekable() {
        let appends = file.flags().contains(OpenFlags::APPEND);
        let at = if appends { At::End } else { At::Position };
        check_size_limit(cx, file, from, at)?;
    }
    note_broken_pipe(cx, file.write(from)).map(count)
}

fn write_at(cx: &Context<'_>, file: &File, from: &mut IoReader<'_>, mut io: Io) -> Result<u64> {
    let at = if io.append {
        At::End
    } else {
        At::Offset(io.offset)
    };
    check_size_limit(cx, file, from, at)?;
    file.write_at(from, &mut io).map(count)
}

/// `EPIPE` comes with SIGPIPE.
pub(crate) fn note_broken_pipe<T>(cx: &Context<'_>, result: Result<T>) -> Result<T> {
    if matches!(result, Err(Errno::EPIPE)) {
        raise(cx, Signal::PIPE);
    }
    result
}

/// Sends a signal that a failed call comes with to the caller: as if by itself.
pub(crate) fn raise(cx: &Context<'_>, signal: Signal) {
    let pid = cx.process().pid().number();
    let uid = cx.shown_uid(cx.credentials().uid);
    // It fails only for a thread that is gone.
    let _ = send::to_thread(cx.thread, &SigInfo::user(signal, pid, uid));
}

/// Where a write begins.
#[derive(Debug, Clone, Copy)]
pub(super) enum At {
    /// At the file's position.
    Position,
    /// Here.
    Offset(u64),
    /// At the end of the file: with `O_APPEND` or `RWF_APPEND`.
    End,
}

/// `RLIMIT_FSIZE`: a write ends at the limit; one that starts there fails with SIGXFSZ.
pub(super) fn check_size_limit(
    cx: &Context<'_>,
    file: &File,
    from: &mut IoReader<'_>,
    at: At,
) -> Result<()> {
    // Asked first: the limits are behind a lock.
    if file.kind() != FileKind::Regular || from.remaining() == 0 {
        return Ok(());
    }
    let limit = cx.process().limits().soft(Resource::FileSize);
    if limit == INFINITY {
        return Ok(());
    }
    let start = match at {
        At::End => file.metadata()?.size,
        At::Offset(at) => at,
        At::Position => file.position(),
    };
    if start >= limit {
        raise(cx, Signal::XFSZ);
        return Err(Errno::EFBIG);
    }
    from.limit(usize::try_from(limit - start).unwrap_or(usize::MAX));
    Ok(())
}
