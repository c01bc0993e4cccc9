//! sendfile, splice, tee, vmsplice, copy_file_range: bytes from file to file, through a kernel buffer.

use abi::raw::general as raw;
use abi::{Errno, Result};
use collections::Vec;
use fs::pipe::PipeEnd;
use fs::{FdRef, File, FileKind, OpenFlags, Seek};
use machine::UserAddr;
use memory::io::{IoReader, IoWriter};
use memory::user;

use super::buffers::{MAX_RW_COUNT, vector};
use super::read_write::{At, check_size_limit, note_broken_pipe};
use super::usable_file;
use crate::context::Context;
use crate::entry::Entry;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(40, "sendfile", sys_sendfile),
    Entry::new(275, "splice", sys_splice),
    Entry::new(276, "tee", sys_tee),
    Entry::new(278, "vmsplice", sys_vmsplice),
    Entry::new(326, "copy_file_range", sys_copy_file_range),
];

/// Bytes moved at a time.
const STEP: usize = 32 * 1024;

bitflags::bitflags! {
    /// `SPLICE_F_*`. `MOVE`, `MORE` and `GIFT` are hints.
    #[derive(Clone, Copy)]
    struct SpliceFlags: u32 {
        const MOVE = raw::SPLICE_F_MOVE;
        const NONBLOCK = raw::SPLICE_F_NONBLOCK;
        const MORE = raw::SPLICE_F_MORE;
        const GIFT = raw::SPLICE_F_GIFT;
    }
}

/// One side of a transfer: a file with a place, or a stream.
struct Side<'a> {
    file: FdRef<'a>,
    /// Where, and where in user memory the new value goes; `None`: at the file's position or a stream.
    at: Option<(u64, Option<UserAddr>)>,
    /// The position is the file's own, and moves.
    moves: bool,
}

impl<'a> Side<'a> {
    /// `offset_addr` is where the caller keeps the offset, if it does.
    fn new(file: FdRef<'a>, offset_addr: Option<UserAddr>) -> Result<Self> {
        if let Some(addr) = offset_addr {
            if !file.is_seekable() {
                return Err(Errno::EINVAL);
            }
            let offset: i64 = user::read(addr)?;
            let offset = u64::try_from(offset).map_err(|_| Errno::EINVAL)?;
            return Ok(Self {
                file,
                at: Some((offset, Some(addr))),
                moves: false,
            });
        }
        let at = file.is_seekable().then(|| (file.position(), None));
        Ok(Self {
            moves: at.is_some(),
            file,
            at,
        })
    }

    fn read(&self, to: &mut [u8]) -> Result<usize> {
        let mut to = IoWriter::kernel(to);
        match self.at {
            Some((offset, _)) => self.file.read_at(&mut to, &self.file.io_at(offset)),
            None => self.file.read(&mut to),
        }
    }

    fn write(&self, cx: &Context<'_>, from: &[u8]) -> Result<usize> {
        let mut from = IoReader::kernel(from);
        if let Some((offset, _)) = self.at {
            check_size_limit(cx, &self.file, &mut from, At::Offset(offset))?;
        }
        match self.at {
            Some((offset, _)) => self.file.write_at(&mut from, &mut self.file.io_at(offset)),
            None => self.file.write(&mut from),
        }
    }

    fn advance(&mut self, by: usize) {
        if let Some((offset, _)) = &mut self.at {
            *offset += by as u64;
        }
    }

    /// Stores how far the side got.
    fn finish(&self) -> Result<()> {
        let Some((offset, addr)) = self.at else {
            return Ok(());
        };
        let offset = i64::try_from(offset).map_err(|_| Errno::EOVERFLOW)?;
        if self.moves {
            self.file.seek(Seek::Set(offset))?;
        }
        match addr {
            Some(addr) => user::write(addr, &offset),
            None => Ok(()),
        }
    }

    fn pipe(&self) -> Option<&PipeEnd> {
        self.file.downcast()
    }
}

fn check_modes(from: &File, to: &File) -> Result<()> {
    if !from.flags().is_readable() || !to.flags().is_writable() {
        return Err(Errno::EBADF);
    }
    Ok(())
}

/// Moves up to `len` bytes in steps; stops early at the end of the source or when either side has had enough.
fn copy(cx: &Context<'_>, from: &mut Side<'_>, to: &mut Side<'_>, len: usize) -> Result<usize> {
    let mut buffer = Vec::try_from_elem(0_u8, len.min(STEP))?;
    let mut done = 0;
    // Who is to exit is not kept by what is left of a long copy.
    while done < len && !(done > 0 && cx.thread.is_dying()) {
        let step = STEP.min(len - done);
        match copy_step(cx, from, to, &mut buffer[..step], done > 0) {
            Ok(0) => break,
            Ok(count) => {
                done += count;
                // A pipe or socket gives what it has once, as a read of it would.
                if count < step || from.at.is_none() {
                    break;
                }
            }
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    from.finish()?;
    to.finish()?;
    Ok(done)
}

fn copy_step(
    cx: &Context<'_>,
    from: &mut Side<'_>,
    to: &mut Side<'_>,
    buffer: &mut [u8],
    is_begun: bool,
) -> Result<usize> {
    // A full pipe ends the call: it may be the caller who empties it.
    let room = match to.pipe() {
        Some(pipe) => pipe
            .wait_for_room(is_begun || to.file.is_nonblocking())?
            .min(buffer.len()),
        None => buffer.len(),
    };
    let buffer = &mut buffer[..room];
    let read = from.read(buffer)?;
    if read == 0 {
        return Ok(0);
    }
    let result = to.write(cx, &buffer[..read]);
    if let Some(pipe) = from.pipe() {
        // What has gone nowhere is for the next reader.
        pipe.put_back(&buffer[*result.as_ref().unwrap_or(&0)..read])?;
    }
    let written = result?;
    from.advance(written);
    to.advance(written);
    sched::cond_resched();
    Ok(written)
}

fn sys_sendfile(cx: &mut Context<'_>) -> Result<u64> {
    let (to, from) = (usable_file(cx, cx.int(0))?, usable_file(cx, cx.int(1))?);
    check_modes(&from, &to)?;
    let offset_addr = cx.optional_addr(2);
    if !from.is_seekable() && offset_addr.is_some() {
        return Err(Errno::ESPIPE);
    }
    // Into a pipe it is a splice(2).
    let into_pipe = to.downcast::<PipeEnd>().is_some();
    let is_stream = into_pipe && from.kind() == FileKind::Socket;
    if (!from.is_seekable() && !is_stream)
        || from.kind() == FileKind::Directory
        || to.flags().contains(OpenFlags::APPEND)
    {
        return Err(Errno::EINVAL);
    }
    if i64::try_from(cx.size(3)).is_err() {
        return Err(Errno::EINVAL);
    }
    let mut from = Side::new(from, offset_addr)?;
    let mut to = Side::new(to, None)?;
    let result = copy(cx, &mut from, &mut to, cx.size(3).min(MAX_RW_COUNT));
    note_broken_pipe(cx, result).map(|count| count as u64)
}

fn sys_splice(cx: &mut Context<'_>) -> Result<u64> {
    if cx.size(4) == 0 {
        return Ok(0);
    }
    let flags: SpliceFlags = cx.flags(5)?;
    let (from, to) = (usable_file(cx, cx.int(0))?, usable_file(cx, cx.int(2))?);
    let from_pipe = from.downcast::<PipeEnd>();
    let to_pipe = to.downcast::<PipeEnd>();
    let (from_at, to_at) = (cx.optional_addr(1), cx.optional_addr(3));
    if (from_pipe.is_some() && from_at.is_some()) || (to_pipe.is_some() && to_at.is_some()) {
        return Err(Errno::ESPIPE);
    }
    check_modes(&from, &to)?;
    let is_piped = from_pipe.is_some() || to_pipe.is_some();
    let is_same = matches!((from_pipe, to_pipe), (Some(a), Some(b)) if a.is_same_pipe(b));
    let appends = to.flags().contains(OpenFlags::APPEND);
    // An eventfd and its kin have no bytes that could be passed on as they are.
    let is_number = |file: &File| file.kind() == FileKind::Regular && file.is_file_like();
    if !is_piped || is_same || appends || is_number(&from) || is_number(&to) {
        return Err(Errno::EINVAL);
    }
    if flags.contains(SpliceFlags::NONBLOCK) {
        check_at_hand(from_pipe, to_pipe)?;
    }
    let mut from = Side::new(from, from_at)?;
    let mut to = Side::new(to, to_at)?;
    let result = copy(cx, &mut from, &mut to, cx.size(4).min(MAX_RW_COUNT));
    note_broken_pipe(cx, result).map(|count| count as u64)
}

/// `SPLICE_F_NONBLOCK`: the pipes must have what it takes.
fn check_at_hand(from: Option<&PipeEnd>, to: Option<&PipeEnd>) -> Result<()> {
    if let Some(pipe) = from {
        pipe.peek(&mut [0], true)?;
    }
    if let Some(pipe) = to {
        pipe.wait_for_room(true)?;
    }
    Ok(())
}

fn sys_tee(cx: &mut Context<'_>) -> Result<u64> {
    let flags: SpliceFlags = cx.flags(3)?;
    if cx.size(2) == 0 {
        return Ok(0);
    }
    let (from, to) = (usable_file(cx, cx.int(0))?, usable_file(cx, cx.int(1))?);
    check_modes(&from, &to)?;
    let source: &PipeEnd = from.downcast().ok_or(Errno::EINVAL)?;
    let sink: &PipeEnd = to.downcast().ok_or(Errno::EINVAL)?;
    if source.is_same_pipe(sink) {
        return Err(Errno::EINVAL);
    }
    let nonblocking = flags.contains(SpliceFlags::NONBLOCK);
    let room = note_broken_pipe(cx, sink.wait_for_room(nonblocking || to.is_nonblocking()))?;
    let len = cx.size(2).min(STEP).min(room);
    let mut buffer = Vec::try_from_elem(0_u8, len)?;
    let count = source.peek(&mut buffer, nonblocking || from.is_nonblocking())?;
    let result = to.write(&mut IoReader::kernel(&buffer[..count]));
    note_broken_pipe(cx, result).map(|count| count as u64)
}

fn sys_vmsplice(cx: &mut Context<'_>) -> Result<u64> {
    let flags: SpliceFlags = cx.flags(3)?;
    let file = usable_file(cx, cx.int(0))?;
    let pieces = vector(cx.addr(1), cx.size(2))?;
    if pieces.iter().all(|piece| piece.len == 0) {
        return Ok(0);
    }
    let pipe: &PipeEnd = file.downcast().ok_or(Errno::EBADF)?;
    let nonblocking = flags.contains(SpliceFlags::NONBLOCK);
    if file.flags().is_writable() {
        if nonblocking {
            note_broken_pipe(cx, pipe.wait_for_room(true))?;
        }
        let result = file.write(&mut IoReader::vector(&pieces));
        return note_broken_pipe(cx, result).map(|count| count as u64);
    }
    if nonblocking {
        pipe.peek(&mut [0], true)?;
    }
    file.read(&mut IoWriter::vector(&pieces))
        .map(|count| count as u64)
}

fn sys_copy_file_range(cx: &mut Context<'_>) -> Result<u64> {
    let (from, to) = (usable_file(cx, cx.int(0))?, usable_file(cx, cx.int(2))?);
    let len = cx.size(4).min(MAX_RW_COUNT);
    if cx.uint(5) != 0 {
        return Err(Errno::EINVAL);
    }
    if [&from, &to]
        .iter()
        .any(|file| file.kind() == FileKind::Directory)
    {
        return Err(Errno::EISDIR);
    }
    let is_regular = |file: &File| file.kind() == FileKind::Regular && file.is_seekable();
    if !is_regular(&from) || !is_regular(&to) {
        return Err(Errno::EINVAL);
    }
    check_modes(&from, &to)?;
    if to.flags().contains(OpenFlags::APPEND) {
        return Err(Errno::EBADF);
    }
    if from.device() != to.device() {
        return Err(Errno::EXDEV);
    }
    let (is_same, size) = (from.key()? == to.key()?, from.metadata()?.size);
    // Counted as numbers without a sign, so that a negative offset is past all ends first.
    for addr in [cx.optional_addr(1), cx.optional_addr(3)]
        .into_iter()
        .flatten()
    {
        let offset: u64 = user::read(addr)?;
        offset.checked_add(cx.arg(4)).ok_or(Errno::EOVERFLOW)?;
    }
    let mut from = Side::new(from, cx.optional_addr(1))?;
    let mut to = Side::new(to, cx.optional_addr(3))?;
    // There is no more than the file has.
    let left = from.at.map_or(0, |(at, _)| size.saturating_sub(at));
    let len = len.min(usize::try_from(left).unwrap_or(usize::MAX));
    if is_same && overlap(&from, &to, len) {
        return Err(Errno::EINVAL);
    }
    copy(cx, &mut from, &mut to, len).map(|count| count as u64)
}

fn overlap(from: &Side<'_>, to: &Side<'_>, len: usize) -> bool {
    match (from.at, to.at) {
        (Some((from, _)), Some((to, _))) => from.abs_diff(to) < len as u64,
        _ => false,
    }
}
