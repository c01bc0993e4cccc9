//! An open block device.

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::try_arc;
use machine::{Frame, PAGE_SIZE};
use memory::io::{IoReader, IoWriter};
use memory::{PageSource, Readahead, Seen};

use super::{Disk, ioctl};
use crate::cred::{Capabilities, Credentials};
use crate::file_ops::{FileOps, Io, Seek, seek_in};
use crate::flags::OpenFlags;
use crate::page_io::{self, page_offset};

/// Opens a disk. One that cannot be written to can be opened for writing all the same, as on Linux.
pub(super) fn open(
    disk: Arc<Disk>,
    flags: OpenFlags,
    credentials: &Credentials,
) -> Result<Arc<dyn FileOps>> {
    let file = BlockFile {
        seen: disk.mapping.errors().sample(),
        is_writer: flags.is_writable(),
        is_admin: credentials.capable(Capabilities::SYS_ADMIN),
        readahead: Readahead::new(),
        disk,
    };
    let file: Arc<dyn FileOps> = try_arc(file)?;
    Ok(file)
}

pub(super) struct BlockFile {
    pub(super) disk: Arc<Disk>,
    pub(super) is_writer: bool,
    /// Who opened it may drop its cache (`CAP_SYS_ADMIN`).
    pub(super) is_admin: bool,
    readahead: Readahead,
    /// The write-back errors it has heard of.
    seen: Seen,
}

impl BlockFile {
    fn block(&self) -> u64 {
        self.disk.limits().block.into()
    }

    /// What goes past the cache begins and ends with a block.
    fn check_direct(&self, io: &Io, len: usize) -> Result<()> {
        let block = self.block();
        let is_aligned = io.offset.is_multiple_of(block) && (len as u64).is_multiple_of(block);
        match io.direct && !is_aligned {
            true => Err(Errno::EINVAL),
            false => Ok(()),
        }
    }

    /// Bytes from `offset` to the end.
    fn left(&self, offset: u64) -> usize {
        let left = self.disk.size_bytes().saturating_sub(offset);
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    fn most_bytes(&self, offset: u64) -> usize {
        self.disk.limits().max_pages() * PAGE_SIZE - page_offset(offset)
    }

    /// Reads past the cache.
    fn read_direct(&self, to: &mut IoWriter<'_>, offset: u64) -> Result<usize> {
        let end = offset + to.remaining() as u64;
        self.disk.mapping.write_back(offset..end)?;
        page_io::give_all(to, |to, done| {
            let at = offset + done;
            let len = to.remaining().min(self.most_bytes(at));
            let count = self.read_direct_once(to, at, len)?;
            Ok((count, count < len))
        })
    }

    fn read_direct_once(&self, to: &mut IoWriter<'_>, at: u64, len: usize) -> Result<usize> {
        let start = page_offset(at);
        let frames = page_io::allocate((start + len).div_ceil(PAGE_SIZE))?;
        self.disk.queue.read(at, &frames, len)?;
        page_io::give(&frames, start, len, to)
    }

    /// Writes one request's worth of what the caller has. The lock for writes is held.
    fn write_once(
        &self,
        from: &mut IoReader<'_>,
        at: u64,
        guard: &memory::WriteGuard<'_>,
    ) -> Result<usize> {
        let (frames, len) = page_io::take(from, at, self.disk.limits().max_pages())?;
        let block = self.block();
        let end = at + len as u64;
        let (first, last) = (at - at % block, end.next_multiple_of(block));
        // Of blocks that are written in part the rest is what the disk has.
        self.complete(&frames, first, first..at)?;
        self.complete(&frames, first, end..last)?;
        let whole = usize::try_from(last - first).map_err(|_| Errno::EINVAL)?;
        self.disk.queue.write(first, &frames, whole)?;
        self.disk.mapping.wrote_through(at, &frames, len, guard);
        Ok(len)
    }

    /// Fills a range of bytes, within a block, from the cache; `frames` are laid out as the pages from `first` on.
    fn complete(&self, frames: &[Frame], first: u64, range: core::ops::Range<u64>) -> Result<()> {
        const PIECE: usize = 512;
        let mut at = range.start;
        while at < range.end {
            let mut piece = [0; PIECE];
            let len = usize::try_from(range.end - at).unwrap_or(PIECE).min(PIECE);
            let len = len.min(PAGE_SIZE - page_offset(at));
            let mut to = IoWriter::kernel(&mut piece[..len]);
            if self.disk.mapping.read(at, &mut to, &self.readahead)? < len {
                return Err(Errno::EIO);
            }
            let page = usize::try_from(at / PAGE_SIZE as u64 - first / PAGE_SIZE as u64);
            let frame = page.ok().and_then(|page| frames.get(page));
            frame
                .ok_or(Errno::EIO)?
                .write(page_offset(at), &piece[..len]);
            at += len as u64;
        }
        Ok(())
    }
}

impl FileOps for BlockFile {
    fn read(&self, to: &mut IoWriter<'_>, io: &Io) -> Result<usize> {
        self.check_direct(io, to.remaining())?;
        to.limit(self.left(io.offset));
        match io.direct {
            true => self.read_direct(to, io.offset),
            false => self.disk.mapping.read(io.offset, to, &self.readahead),
        }
    }

    fn write(&self, from: &mut IoReader<'_>, io: &mut Io) -> Result<usize> {
        if self.disk.limits().is_read_only {
            return Err(Errno::EPERM);
        }
        if io.append {
            io.offset = self.disk.size_bytes();
        }
        if from.remaining() == 0 {
            return Ok(0);
        }
        if self.left(io.offset) == 0 {
            return Err(Errno::ENOSPC);
        }
        self.check_direct(io, from.remaining())?;
        from.limit(self.left(io.offset));
        let guard = self.disk.mapping.lock_writes();
        page_io::take_all(from, |from, done| {
            self.write_once(from, io.offset + done, &guard)
        })
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn allows_direct(&self) -> bool {
        true
    }

    /// Not beyond the end, which does not move.
    fn seek(&self, position: u64, to: Seek) -> Result<u64> {
        let size = self.disk.size_bytes();
        let at = seek_in(size, position, to)?;
        match at > size {
            true => Err(Errno::EINVAL),
            false => Ok(at),
        }
    }

    fn is_pollable(&self) -> bool {
        false
    }

    fn page_source(&self) -> Result<Arc<dyn PageSource>> {
        Ok(self.disk.mapping.clone())
    }

    fn sync(&self, _: bool) -> Result<()> {
        let synced = self.disk.sync();
        self.disk.mapping.errors().check(&self.seen)?;
        synced
    }

    fn ioctl(&self, command: u32, arg: u64) -> Result<u64> {
        ioctl::ioctl(self, command, arg)
    }
}

impl Drop for BlockFile {
    fn drop(&mut self) {
        // What the last mapping has left. Errors wait in the mapping for other descriptions.
        if self.is_writer {
            let _ = self.disk.mapping.write_back(0..u64::MAX);
        }
    }
}
