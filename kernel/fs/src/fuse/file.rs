//! Open regular files: reads through the page cache, writes through to the server.
//!
//! A description has up to two handles at the server: a *plain* one, which writes where it is told, and an *append*
//! one, opened with `O_APPEND`, so that the server appends behind whatever others have appended. Which one a
//! write takes depends on its flags then (fcntl(2) and `RWF_APPEND` change them), not on how the file was opened.
//! Write-back uses plain handles alone: a server's append handle would append the pages.

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::try_arc;
use machine::PAGE_SIZE;
use machine::sync::SpinLock;
use memory::io::{IoReader, IoWriter};
use memory::{PageSource, Readahead, Seen, WriteGuard};
use zerocopy::IntoBytes;

use super::handle::{Handle, HandleKey};
use super::inode::FuseInode;
use super::wire::{FSyncIn, FlushIn, LSeekIn, LSeekOut, Op};
use crate::file_ops::{Allocate, FileOps, Io, Seek, seek_in};
use crate::flags::OpenFlags;
use crate::inode::Inode;
use crate::lock::{LockFamily, RemoteLocks};
use crate::page_io::{self, page_offset};

const PAGE: u64 = PAGE_SIZE as u64;
const SEEK_DATA: u32 = 3;
const SEEK_HOLE: u32 = 4;

/// Opens a regular file at the server.
pub(super) fn open(inode: Arc<FuseInode>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
    let fresh = inode.take_fresh_handle(flags);
    let is_fresh = fresh.is_some();
    let handle = match fresh {
        Some(handle) => handle,
        None => Handle::open(&inode, flags)?,
    };
    if !is_fresh && handle.drops_cache {
        // Opened anew, a file shows what was written elsewhere before: a changed time or size drops the pages.
        inode.refresh(None)?;
    }
    let seen = inode.mapping()?.errors().sample();
    let file = FuseFile {
        is_direct: handle.is_direct,
        handles: SpinLock::default(),
        flags,
        readahead: Readahead::new(),
        seen,
        inode,
    };
    let kind = if flags.contains(OpenFlags::APPEND) && flags.is_writable() {
        Kind::Append
    } else {
        Kind::Plain
    };
    file.keep(kind, handle)?;
    let file: Arc<dyn FileOps> = try_arc(file)?;
    Ok(file)
}

/// What a handle does with a write's offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Append,
}

/// A handle with its place among the inode's.
struct Kept {
    handle: Arc<Handle>,
    key: HandleKey,
}

#[derive(Default)]
struct KeptHandles {
    plain: Option<Kept>,
    append: Option<Kept>,
}

impl KeptHandles {
    fn of(&mut self, kind: Kind) -> &mut Option<Kept> {
        match kind {
            Kind::Plain => &mut self.plain,
            Kind::Append => &mut self.append,
        }
    }
}

pub(super) struct FuseFile {
    pub(super) inode: Arc<FuseInode>,
    handles: SpinLock<KeptHandles>,
    /// As it was opened.
    flags: OpenFlags,
    is_direct: bool,
    readahead: Readahead,
    /// The write-back errors it has heard of.
    seen: Seen,
}

impl FuseFile {
    /// Keeps a handle for this description and for the inode's own use; the one that is kept already wins.
    fn keep(&self, kind: Kind, handle: Arc<Handle>) -> Result<Arc<Handle>> {
        let is_for_pages = kind == Kind::Plain && self.flags.is_writable();
        let key = self
            .inode
            .handles
            .add(&handle, self.flags.is_readable(), is_for_pages)?;
        let mut handles = self.handles.lock();
        let place = handles.of(kind);
        if let Some(kept) = place {
            let earlier = kept.handle.clone();
            drop(handles);
            self.inode.handles.remove(key);
            return Ok(earlier);
        }
        *place = Some(Kept {
            handle: handle.clone(),
            key,
        });
        Ok(handle)
    }

    /// The handle of one kind, opened if there is none yet.
    fn handle(&self, kind: Kind) -> Result<Arc<Handle>> {
        if let Some(kept) = self.handles.lock().of(kind) {
            return Ok(kept.handle.clone());
        }
        let append = OpenFlags::APPEND;
        let flags = match kind {
            Kind::Plain => self.flags - append,
            Kind::Append => self.flags | append,
        };
        let handle = Handle::open(&self.inode, flags)?;
        self.keep(kind, handle)
    }

    /// The handle that it was opened with: the one that locks of flock(2) belong to.
    pub(super) fn first_handle(&self) -> Result<Arc<Handle>> {
        self.handle(if self.flags.contains(OpenFlags::APPEND) {
            Kind::Append
        } else {
            Kind::Plain
        })
    }

    /// A handle that serves for what has no offset.
    fn any_handle(&self) -> Result<Arc<Handle>> {
        let handles = self.handles.lock();
        let kept = handles.plain.as_ref().or(handles.append.as_ref());
        kept.map(|kept| kept.handle.clone()).ok_or(Errno::EIO)
    }

    /// The size, as fresh as the server asks for.
    fn size(&self) -> Result<u64> {
        Ok(self.inode.metadata()?.size)
    }

    /// Where the server has data or a hole, from an offset on; `ENOSYS` where it cannot tell.
    fn seek_at_server(&self, offset: i64, whence: u32) -> Result<u64> {
        self.inode.session.check_known(Op::LSeek)?;
        let offset = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
        self.inode.write_back(0..u64::MAX)?;
        let arg = LSeekIn {
            fh: self.any_handle()?.number,
            offset,
            whence,
            padding: 0,
        };
        let reply = self
            .inode
            .ask_optional(Op::LSeek, &[arg.as_bytes()], size_of::<LSeekOut>())?;
        let LSeekOut { offset } = reply.parse()?;
        i64::try_from(offset).map_err(|_| Errno::EIO)?;
        Ok(offset)
    }

    /// Reads past the cache, for servers that ask for it and for `O_DIRECT`.
    fn read_direct(&self, to: &mut IoWriter<'_>, offset: u64) -> Result<usize> {
        let end = offset.saturating_add(to.remaining() as u64);
        self.inode.write_back(offset..end)?;
        let handle = self.any_handle()?;
        page_io::give_all(to, |to, done| {
            self.read_direct_once(&handle, to, offset + done)
        })
    }

    /// One request's worth; how many bytes, and whether there are no more to have.
    fn read_direct_once(
        &self,
        handle: &Handle,
        to: &mut IoWriter<'_>,
        offset: u64,
    ) -> Result<(usize, bool)> {
        let start = page_offset(offset);
        let pages = (start + to.remaining())
            .div_ceil(PAGE_SIZE)
            .min(self.inode.session.max_pages);
        let frames = page_io::allocate(pages)?;
        let (got, _) = self.inode.fetch(handle, offset / PAGE, &frames)?;
        let len = got.saturating_sub(start).min(to.remaining());
        let done = page_io::give(&frames, start, len, to)?;
        Ok((done, got < pages * PAGE_SIZE || done < len))
    }

    /// Takes one request's worth from the caller and writes it through.
    fn write_once(
        &self,
        handle: &Handle,
        from: &mut IoReader<'_>,
        offset: u64,
        guard: &WriteGuard<'_>,
    ) -> Result<usize> {
        let (frames, len) = page_io::take(from, offset, self.inode.session.max_pages)?;
        let mut stored = 0;
        while stored < len {
            let at = offset + stored as u64;
            let skip = (page_offset(offset) + stored) / PAGE_SIZE;
            let count = match self.inode.store(handle, at, &frames[skip..], len - stored) {
                Ok(count) => count,
                Err(_) if stored > 0 => break,
                Err(errno) => return Err(errno),
            };
            self.inode
                .mapping()?
                .wrote_through(at, &frames[skip..], count, guard);
            stored += count;
        }
        Ok(stored)
    }
}

impl FuseFile {
    /// Makes a request about the file that the server may not know.
    fn ask_if_known(&self, op: Op, args: &[&[u8]]) -> Result<()> {
        match self.inode.ask_optional(op, args, 0) {
            Ok(_) | Err(Errno::ENOSYS) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

impl FileOps for FuseFile {
    fn read(&self, to: &mut IoWriter<'_>, io: &Io) -> Result<usize> {
        if to.remaining() == 0 {
            return Ok(0);
        }
        if self.is_direct || io.direct {
            return self.read_direct(to, io.offset);
        }
        // Asks again once what is known is too old; what has changed then leaves the cache.
        self.size()?;
        self.inode.mapping()?.read(io.offset, to, &self.readahead)
    }

    fn write(&self, from: &mut IoReader<'_>, io: &mut Io) -> Result<usize> {
        let handle = self.handle(if io.append { Kind::Append } else { Kind::Plain })?;
        let guard = self.inode.mapping()?.lock_writes();
        if io.append {
            io.offset = self.inode.refresh(Some(&guard))?.size;
        }
        page_io::take_all(from, |from, done| {
            self.write_once(&handle, from, io.offset + done, &guard)
        })
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn allows_direct(&self) -> bool {
        true
    }

    fn seek(&self, position: u64, to: Seek) -> Result<u64> {
        let at_server = match to {
            Seek::Data(offset) => self.seek_at_server(offset, SEEK_DATA),
            Seek::Hole(offset) => self.seek_at_server(offset, SEEK_HOLE),
            Seek::Set(_) | Seek::Current(_) | Seek::End(_) => Err(Errno::ENOSYS),
        };
        if at_server != Err(Errno::ENOSYS) {
            return at_server;
        }
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
        if self.flags.is_writable() {
            // For the write-back of what the mapping stores.
            self.handle(Kind::Plain)?;
        }
        Ok(self.inode.mapping()?.clone())
    }

    fn sync(&self, data_only: bool) -> Result<()> {
        let written = self.inode.write_back(0..u64::MAX);
        let arg = FSyncIn {
            fh: self.any_handle()?.number,
            flags: data_only.into(),
            padding: 0,
        };
        let synced = self.ask_if_known(Op::FSync, &[arg.as_bytes()]);
        self.inode.mapping()?.errors().check(&self.seen)?;
        written.and(synced)
    }

    fn remote_locks(&self, family: LockFamily) -> Option<&dyn RemoteLocks> {
        self.inode.session.gives_locks(family).then_some(self)
    }

    fn allocate(&self, what: &Allocate) -> Result<()> {
        let handle = self.handle(Kind::Plain)?;
        self.inode.allocate(&handle, what)
    }

    fn flush(&self) -> Result<()> {
        if !self.flags.is_writable() {
            return Ok(());
        }
        let written = self.inode.write_back(0..u64::MAX);
        let arg = FlushIn {
            fh: self.any_handle()?.number,
            ..FlushIn::default()
        };
        let flushed = self.ask_if_known(Op::Flush, &[arg.as_bytes()]);
        self.inode.mapping()?.errors().check(&self.seen)?;
        written.and(flushed)
    }
}

impl Drop for FuseFile {
    fn drop(&mut self) {
        // The last mapping of the file may have left pages that differ from the server's. Errors wait in the
        // mapping for other descriptions.
        if self.flags.is_writable() {
            let _ = self.inode.write_back(0..u64::MAX);
        }
        let kept = core::mem::take(self.handles.get_mut());
        for kept in [kept.plain, kept.append].into_iter().flatten() {
            self.inode.handles.remove(kept.key);
        }
    }
}
