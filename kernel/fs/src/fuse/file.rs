//! Open regular files: reads through the page cache with read-ahead, writes through to the server.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::{Errno, Result};
use machine::virtio::Segment;
use machine::{Frame, PAGE_SIZE};
use memory::io::{IoReader, IoWriter};
use memory::pressure::Shrink;
use memory::{MappingList, PageSource};
use zerocopy::IntoBytes;

use super::connection::Request;
use super::inode::FuseInode;
use super::pages;
use super::wire::{
    FAllocateIn, FSyncIn, FlushIn, Op, OpenIn, OpenOut, ReadIn, ReleaseIn, WriteIn, WriteOut, fopen,
};
use crate::file_ops::{Allocate, FileOps, Io, Seek, seek_in};
use crate::flags::OpenFlags;
use crate::inode::Inode;

const PAGE: u64 = PAGE_SIZE as u64;
/// Pages fetched for a fault or a read that is not sequential.
const AROUND: usize = 8;

/// Opens a regular file at the server.
pub(super) fn open(inode: Arc<FuseInode>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
    let sent = flags
        & (OpenFlags::WRONLY
            | OpenFlags::RDWR
            | OpenFlags::APPEND
            | OpenFlags::DSYNC
            | OpenFlags::SYNC_BIT);
    let out = match inode.take_fresh_handle(flags) {
        Some(handle) => OpenOut {
            fh: handle,
            open_flags: fopen::KEEP_CACHE,
            padding: 0,
        },
        None => {
            let arg = OpenIn {
                flags: sent.bits(),
                open_flags: 0,
            };
            inode
                .ask(Op::Open, &[arg.as_bytes()], size_of::<OpenOut>())?
                .parse()?
        }
    };
    let handle = Arc::new(Handle {
        number: out.fh,
        flags: sent.bits(),
        is_writable: flags.is_writable(),
        is_direct: out.open_flags & fopen::DIRECT_IO != 0,
        next: AtomicU64::new(0),
        inode,
    });
    if out.open_flags & fopen::KEEP_CACHE == 0 {
        // Opened anew, a file shows what was written elsewhere before: a changed time or size
        // drops the pages.
        handle.inode.refresh()?;
    }
    Ok(Arc::new(FuseFile { handle }))
}

/// A file that the server holds open.
struct Handle {
    inode: Arc<FuseInode>,
    number: u64,
    flags: u32,
    is_writable: bool,
    is_direct: bool,
    /// The page after the last one read; reading on from there is sequential.
    next: AtomicU64,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let arg = ReleaseIn {
            fh: self.number,
            flags: self.flags,
            ..ReleaseIn::default()
        };
        self.inode.send(Op::Release, &[arg.as_bytes()]);
    }
}

impl Handle {
    /// Reads up to `frames.len()` pages from page `first` on into `frames`; how many bytes.
    fn fetch(&self, first: u64, frames: &[Frame]) -> Result<usize> {
        let arg = ReadIn {
            fh: self.number,
            offset: first * PAGE,
            size: u32::try_from(frames.len() * PAGE_SIZE).map_err(|_| Errno::EINVAL)?,
            flags: self.flags,
            ..ReadIn::default()
        };
        let args = [arg.as_bytes()];
        let mut request = Request::new(Op::Read, self.inode.node, &args, 0);
        request.pages = frames.iter().cloned().map(Segment::page).collect();
        let got = self.inode.session.connection.call(request)?.in_pages;
        // Frames are new and zero; what an earlier, longer answer left behind cannot be there.
        Ok(got)
    }

    /// Page `index` of the file, fetched with up to `ahead` pages in all when it is not here.
    /// `None` past the end.
    fn page(&self, index: u64, ahead: usize) -> Result<Option<Frame>> {
        let pages = &self.inode.pages;
        if let Some(frame) = pages.get(index) {
            return Ok(Some(frame));
        }
        if pages::are_too_many() {
            self.inode.session.shrink(usize::MAX);
        }
        let _transfer = pages.transfer.lock();
        if let Some(frame) = pages.get(index) {
            return Ok(Some(frame));
        }
        let end = self.inode.known_size().div_ceil(PAGE);
        let wanted = usize::try_from(end.saturating_sub(index)).unwrap_or(usize::MAX);
        // At the end as it is known, one page shows whether the file has grown.
        let wanted = wanted.clamp(1, ahead.clamp(1, self.inode.session.max_pages));
        let missing = (1..wanted)
            .take_while(|next| pages.get(index + *next as u64).is_none())
            .count();
        let frames = allocate(1 + missing)?;
        let got = self.fetch(index, &frames)?;
        if got < frames.len() * PAGE_SIZE {
            // Shorter than was known, or just the end.
            self.inode.ends_at(index * PAGE + got as u64);
        }
        let mut first = None;
        for (frame, at) in frames.into_iter().zip(0..got.div_ceil(PAGE_SIZE) as u64) {
            first.get_or_insert_with(|| frame.clone());
            pages.insert(index + at, frame);
        }
        Ok(first)
    }

    /// Writes `len` bytes at `offset`, which stand in `frames` as they do in the file's pages.
    fn store(&self, offset: u64, frames: &[Frame], len: usize) -> Result<usize> {
        let start = page_offset(offset);
        let arg = WriteIn {
            fh: self.number,
            offset,
            size: u32::try_from(len).map_err(|_| Errno::EINVAL)?,
            flags: self.flags,
            ..WriteIn::default()
        };
        let args = [arg.as_bytes()];
        let mut request = Request::new(Op::Write, self.inode.node, &args, size_of::<WriteOut>());
        let parts = parts(start, len);
        request.data = frames
            .iter()
            .zip(parts)
            .filter_map(|(frame, (at, count))| Segment::new(frame.clone(), at, count))
            .collect();
        let out: WriteOut = self.inode.session.connection.call(request)?.parse()?;
        let count = out.size as usize;
        if count == 0 || count > len {
            Err(Errno::EIO)
        } else {
            Ok(count)
        }
    }

    /// Writes through: to the server, then to the pages that are here.
    fn write_through(&self, offset: u64, frames: &[Frame], len: usize) -> Result<usize> {
        let pages = &self.inode.pages;
        let _transfer = pages.transfer.lock();
        let count = self.store(offset, frames, len)?;
        let size = self.inode.known_size();
        let first = offset / PAGE;
        for (frame, (index, (at, part))) in frames
            .iter()
            .zip((first..).zip(parts(page_offset(offset), count)))
        {
            // All of the page, or all there is of it: the rest of a new frame is zero.
            let reaches_end = index * PAGE + (at + part) as u64 >= size;
            let is_all = at == 0 && (part == PAGE_SIZE || reaches_end);
            pages.update(index, frame, at, part, is_all);
        }
        self.inode.wrote(offset + count as u64);
        Ok(count)
    }

    /// Writes back what mappings may have changed between two pages.
    fn write_back(&self, first: u64, last: u64) -> Result<()> {
        let _transfer = self.inode.pages.transfer.lock();
        for (index, frame) in self.inode.pages.take_dirty(first, last) {
            let offset = index * PAGE;
            let inside = self.inode.known_size().saturating_sub(offset).min(PAGE);
            let len = usize::try_from(inside).unwrap_or(PAGE_SIZE);
            if len > 0 {
                self.store(offset, &[frame], len)?;
                self.inode.wrote(offset + len as u64);
            }
        }
        Ok(())
    }
}

/// New frames of zeroes.
fn allocate(count: usize) -> Result<Vec<Frame>> {
    (0..count)
        .map(|_| memory::pressure::alloc_zeroed())
        .collect()
}

fn page_offset(offset: u64) -> usize {
    usize::try_from(offset % PAGE).unwrap_or(0)
}

/// The parts of pages that `len` bytes from `start` of the first page on take: offset and length each.
fn parts(start: usize, len: usize) -> impl Iterator<Item = (usize, usize)> {
    let end = start + len;
    (0..end.div_ceil(PAGE_SIZE)).map(move |page| {
        let at = if page == 0 { start } else { 0 };
        (at, (end - page * PAGE_SIZE).min(PAGE_SIZE) - at)
    })
}

struct FuseFile {
    handle: Arc<Handle>,
}

impl FuseFile {
    fn inode(&self) -> &FuseInode {
        &self.handle.inode
    }

    /// The size, as fresh as the server asks for.
    fn size(&self) -> Result<u64> {
        self.inode().metadata()?;
        Ok(self.inode().known_size())
    }

    /// Reads past the cache, for servers that ask for it and for `O_DIRECT`.
    fn read_direct(&self, to: &mut IoWriter<'_>, offset: u64) -> Result<usize> {
        if self.handle.is_writable {
            self.handle.write_back(0, u64::MAX)?;
        }
        let start = page_offset(offset);
        let pages = (start + to.remaining())
            .div_ceil(PAGE_SIZE)
            .min(self.inode().session.max_pages);
        let frames = allocate(pages)?;
        let got = self
            .handle
            .fetch(offset / PAGE, &frames)?
            .saturating_sub(start);
        let mut done = 0;
        for (frame, (at, len)) in frames.iter().zip(parts(start, got)) {
            match to.write_frame(frame, at, len) {
                Ok(count) => done += count,
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Takes bytes of the caller into new frames, laid out as from `offset` on; how many.
    fn take(&self, from: &mut IoReader<'_>, offset: u64) -> Result<(Vec<Frame>, usize)> {
        let start = page_offset(offset);
        let room = self.inode().session.max_pages * PAGE_SIZE - start;
        let len = from.remaining().min(room);
        let frames = allocate((start + len).div_ceil(PAGE_SIZE))?;
        let mut taken = 0;
        for (frame, (at, part)) in frames.iter().zip(parts(start, len)) {
            match from.read_frame(frame, at, part) {
                Ok(count) => {
                    taken += count;
                    if count < part {
                        break;
                    }
                }
                Err(errno) if taken == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok((frames, taken))
    }
}

impl FileOps for FuseFile {
    fn read(&self, to: &mut IoWriter<'_>, io: &Io) -> Result<usize> {
        if to.remaining() == 0 {
            return Ok(0);
        }
        if self.handle.is_direct || io.direct {
            return self.read_direct(to, io.offset);
        }
        let mut offset = io.offset;
        let mut done = 0;
        let mut size = self.size()?;
        while to.remaining() > 0 && offset < size {
            let index = offset / PAGE;
            let left = (page_offset(offset) + to.remaining()).div_ceil(PAGE_SIZE);
            let is_sequential = self.handle.next.load(Ordering::Relaxed) == index;
            let ahead = if is_sequential {
                self.inode().session.max_pages
            } else {
                left.max(AROUND)
            };
            let frame = match self.handle.page(index, ahead) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            };
            size = self.inode().known_size();
            let at = page_offset(offset);
            let inside = size.saturating_sub(offset).min(PAGE);
            let len = (PAGE_SIZE - at).min(usize::try_from(inside).unwrap_or(PAGE_SIZE));
            let wanted = len.min(to.remaining());
            match to.write_frame(&frame, at, wanted) {
                Ok(count) => {
                    done += count;
                    offset += count as u64;
                    if count < wanted {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
            self.handle
                .next
                .store(offset.div_ceil(PAGE), Ordering::Relaxed);
        }
        Ok(done)
    }

    fn write(&self, from: &mut IoReader<'_>, io: &mut Io) -> Result<usize> {
        if io.append {
            io.offset = self.inode().refresh()?.size;
        }
        let mut done = 0;
        while from.remaining() > 0 {
            let offset = io.offset + done as u64;
            let step = self.take(from, offset).and_then(|(frames, len)| {
                let mut stored = 0;
                while stored < len {
                    let at = offset + stored as u64;
                    let skip = (page_offset(offset) + stored) / PAGE_SIZE;
                    stored += self
                        .handle
                        .write_through(at, &frames[skip..], len - stored)?;
                }
                Ok(stored)
            });
            match step {
                Ok(count) => done += count,
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn seek(&self, position: u64, to: Seek) -> Result<u64> {
        let size = match to {
            Seek::Set(_) | Seek::Current(_) => 0,
            Seek::End(_) | Seek::Data(_) | Seek::Hole(_) => self.size()?,
        };
        seek_in(size, position, to)
    }

    fn is_pollable(&self) -> bool {
        false
    }

    fn page_source(&self) -> Result<Arc<dyn PageSource>> {
        let mapped = Arc::new(Mapped {
            handle: self.handle.clone(),
            mappings: MappingList::new(),
        });
        let source: Arc<dyn PageSource> = mapped;
        self.inode().pages.add_source(Arc::downgrade(&source));
        Ok(source)
    }

    fn sync(&self, data_only: bool) -> Result<()> {
        self.handle.write_back(0, u64::MAX)?;
        let arg = FSyncIn {
            fh: self.handle.number,
            flags: data_only.into(),
            padding: 0,
        };
        match self.inode().ask(Op::FSync, &[arg.as_bytes()], 0) {
            Ok(_) | Err(Errno::ENOSYS) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn allocate(&self, what: &Allocate) -> Result<()> {
        let arg = FAllocateIn {
            fh: self.handle.number,
            offset: what.offset,
            length: what.len,
            mode: what.mode,
            padding: 0,
        };
        let transfer = self.inode().pages.transfer.lock();
        let result = self.inode().ask(Op::FAllocate, &[arg.as_bytes()], 0);
        self.inode().pages.outdated();
        drop(transfer);
        result.map_err(|errno| {
            if errno == Errno::ENOSYS {
                Errno::EOPNOTSUPP
            } else {
                errno
            }
        })?;
        self.inode().refresh().map(|_| ())
    }

    fn flush(&self) -> Result<()> {
        if !self.handle.is_writable {
            return Ok(());
        }
        self.handle.write_back(0, u64::MAX)?;
        let arg = FlushIn {
            fh: self.handle.number,
            ..FlushIn::default()
        };
        match self.inode().ask(Op::Flush, &[arg.as_bytes()], 0) {
            Ok(_) | Err(Errno::ENOSYS) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

/// The pages of an open file as mappings use them.
struct Mapped {
    handle: Arc<Handle>,
    mappings: MappingList,
}

impl PageSource for Mapped {
    fn page(&self, index: u64, write: bool) -> Result<Frame> {
        let pages = &self.handle.inode.pages;
        loop {
            let frame = self.handle.page(index, AROUND * 2)?.ok_or(Errno::EFAULT)?;
            if !write {
                return Ok(frame);
            }
            // Gone again in between when the file was truncated or changed.
            if let Some(frame) = pages.get_shared(index) {
                return Ok(frame);
            }
        }
    }

    fn page_at_hand(&self, index: u64, write: bool) -> Option<Frame> {
        let pages = &self.handle.inode.pages;
        if write {
            pages.get_shared(index)
        } else {
            pages.get(index)
        }
    }

    fn size_bytes(&self) -> u64 {
        self.handle.inode.known_size()
    }

    fn mappings(&self) -> Option<&MappingList> {
        Some(&self.mappings)
    }

    fn sync(&self, first_page: u64, last_page: u64) -> Result<()> {
        self.handle.write_back(first_page, last_page)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // The last mapping of the file may have left pages that differ from the server's.
        if self.handle.is_writable {
            let _ = self.handle.write_back(0, u64::MAX);
        }
    }
}
