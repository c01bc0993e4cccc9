//! Moving pages between a file's mapping and the server: READ, WRITE and FALLOCATE, and the mapping's [`Backing`].

use core::ops::Range;

use abi::raw::general as raw;
use abi::{Errno, Result};
use machine::{Frame, PAGE_SIZE};
use memory::Backing;
use zerocopy::IntoBytes;

use super::handle::Handle;
use super::inode::{FuseInode, without};
use super::message::Request;
use super::wire::{FAllocateIn, Op, ReadIn, WriteIn, WriteOut};
use crate::file_ops::Allocate;
use crate::page_io::{page_offset, segments};

const PAGE: u64 = PAGE_SIZE as u64;

impl FuseInode {
    /// Reads pages from page `first` on into `frames`, which are zeroes; how many bytes, and what the session had
    /// counted to before.
    pub(super) fn fetch(
        &self,
        handle: &Handle,
        first: u64,
        frames: &[Frame],
    ) -> Result<(usize, u64)> {
        let arg = ReadIn {
            fh: handle.number,
            offset: first * PAGE,
            size: u32::try_from(frames.len() * PAGE_SIZE).map_err(|_| Errno::EINVAL)?,
            flags: handle.flags,
            ..ReadIn::default()
        };
        let args = [arg.as_bytes()];
        let mut request = Request::new(Op::Read, self.node, &args, 0);
        request.pages = segments(frames, 0, frames.len() * PAGE_SIZE)?;
        let reply = self.call(request)?;
        Ok((reply.in_pages, reply.asked_at))
    }

    /// Writes `len` bytes at `offset`, which stand in `frames` as they do in the file's pages; how many were taken.
    pub(super) fn store(
        &self,
        handle: &Handle,
        offset: u64,
        frames: &[Frame],
        len: usize,
    ) -> Result<usize> {
        let arg = WriteIn {
            fh: handle.number,
            offset,
            size: u32::try_from(len).map_err(|_| Errno::EINVAL)?,
            flags: handle.flags,
            ..WriteIn::default()
        };
        let args = [arg.as_bytes()];
        let mut request = Request::new(Op::Write, self.node, &args, size_of::<WriteOut>());
        request.data = segments(frames, page_offset(offset), len)?;
        let out: WriteOut = self.call(request)?.parse()?;
        self.changed();
        // The count is the server's claim; with 0 a loop over this would not end.
        let count = out.size as usize;
        if count == 0 || count > len {
            Err(Errno::EIO)
        } else {
            Ok(count)
        }
    }

    /// Writes what was stored through mappings back.
    pub(super) fn write_back(&self, bytes: Range<u64>) -> Result<()> {
        self.mapping()?.write_back(bytes)
    }

    /// fallocate(2) at the server, and what it means for the pages.
    pub(super) fn allocate(&self, handle: &Handle, what: &Allocate) -> Result<()> {
        const MOVES: u32 = raw::FALLOC_FL_COLLAPSE_RANGE | raw::FALLOC_FL_INSERT_RANGE;
        const ZEROES: u32 = raw::FALLOC_FL_PUNCH_HOLE | raw::FALLOC_FL_ZERO_RANGE;
        let mapping = self.mapping()?;
        let end = what.offset.checked_add(what.len).ok_or(Errno::EFBIG)?;
        // Nobody writes meanwhile, or the pages below would be dropped with what was written since the server's change.
        let guard = mapping.lock_writes();
        // The server moves the bytes that it has; what only the cache has must be there first.
        if what.mode & MOVES != 0 {
            mapping.write_back_locked(what.offset..u64::MAX, &guard)?;
        }
        let arg = FAllocateIn {
            fh: handle.number,
            offset: what.offset,
            length: what.len,
            mode: what.mode,
            padding: 0,
        };
        self.ask_optional(Op::FAllocate, &[arg.as_bytes()], 0)
            .map_err(|errno| without(errno, Errno::EOPNOTSUPP))?;
        self.changed();
        // Only now: had the server refused, the pages would still be the file's.
        if what.mode & ZEROES != 0 {
            mapping.punched(what.offset..end);
        } else if what.mode & MOVES != 0 {
            mapping.invalidate(what.offset..u64::MAX);
        }
        self.refresh(Some(&guard)).map(drop)
    }
}

impl Backing for FuseInode {
    fn read_pages(&self, first: u64, frames: &[Frame]) -> Result<()> {
        let handle = self.handles.reader()?;
        let (got, asked_at) = self.fetch(&handle, first, frames)?;
        if got < frames.len() * PAGE_SIZE {
            // Shorter than was known, or just the end.
            self.ends_at(first * PAGE + got as u64, asked_at);
        }
        Ok(())
    }

    fn write_pages(&self, first: u64, frames: &[Frame], len_bytes: u64) -> Result<()> {
        let handle = self.handles.writer()?;
        let len = usize::try_from(len_bytes).map_err(|_| Errno::EINVAL)?;
        let mut done = 0;
        while done < len {
            let offset = first * PAGE + done as u64;
            let skip = done / PAGE_SIZE;
            done += self.store(&handle, offset, &frames[skip..], len - done)?;
        }
        Ok(())
    }

    fn max_pages(&self) -> usize {
        self.session.max_pages
    }

    fn punch(&self, bytes: Range<u64>) -> Result<()> {
        let handle = self.handles.writer()?;
        let what = Allocate {
            mode: raw::FALLOC_FL_PUNCH_HOLE | raw::FALLOC_FL_KEEP_SIZE,
            offset: bytes.start,
            len: bytes.end - bytes.start,
        };
        self.allocate(&handle, &what)
    }
}
