//! An open regular file of a tmpfs, and memfd seals.

use alloc::sync::Arc;

use abi::raw::general as raw;
use abi::{Errno, Result};
use machine::PAGE_SIZE;
use memory::PageSource;
use memory::io::{IoReader, IoWriter};

use super::inode::TmpInode;
use super::pages::Pages;
use crate::file_ops::{Allocate, FileOps, Io, Seek, seek_in};

bitflags::bitflags! {
    /// `F_SEAL_*` of fcntl(2).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Seals: u32 {
        /// No more seals.
        const SEAL = raw::F_SEAL_SEAL;
        /// No shrinking.
        const SHRINK = raw::F_SEAL_SHRINK;
        /// No growing.
        const GROW = raw::F_SEAL_GROW;
        /// No writing.
        const WRITE = raw::F_SEAL_WRITE;
        /// No writing other than through mappings there are.
        const FUTURE_WRITE = raw::F_SEAL_FUTURE_WRITE;
    }
}

const PAGE: u64 = PAGE_SIZE as u64;

/// An open file.
#[derive(Debug)]
pub(crate) struct TmpFile {
    inode: Arc<TmpInode>,
}

impl TmpFile {
    pub(super) fn new(inode: Arc<TmpInode>) -> Self {
        Self { inode }
    }

    fn pages(&self) -> Result<&Arc<Pages>> {
        self.inode.pages()
    }

    /// `F_GET_SEALS`.
    pub(crate) fn seals(&self) -> Result<Seals> {
        Ok(self.pages()?.seals())
    }

    /// `F_ADD_SEALS`.
    pub(crate) fn add_seals(&self, more: Seals) -> Result<()> {
        let pages = self.pages()?;
        let _writing = pages.write_lock.lock();
        let now = pages.seals();
        if now.contains(Seals::SEAL) {
            return Err(Errno::EPERM);
        }
        pages.set_seals(now | more);
        Ok(())
    }

    /// Lets seals be added: a memfd made with `MFD_ALLOW_SEALING`.
    pub(crate) fn allow_seals(&self) -> Result<()> {
        self.pages()?.set_seals(Seals::empty());
        Ok(())
    }
}

/// Page number, offset in the page, and bytes of `left` that are in it.
fn piece(offset: u64, left: usize) -> (u64, usize, usize) {
    // Both fit: the remainder is below the page size.
    let within = usize::try_from(offset % PAGE).unwrap_or(0);
    (offset / PAGE, within, left.min(PAGE_SIZE - within))
}

impl FileOps for TmpFile {
    fn read(&self, to: &mut IoWriter<'_>, io: &Io) -> Result<usize> {
        let pages = self.pages()?;
        let left = pages.len().saturating_sub(io.offset);
        let wanted = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(to.remaining());
        let mut done = 0;
        while done < wanted {
            let (index, within, len) = piece(io.offset + done as u64, wanted - done);
            let result = match pages.frame(index) {
                Some(frame) => to.write_frame(&frame, within, len),
                None => to.zero(len),
            };
            match result {
                Ok(count) => done += count,
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }

    fn write(&self, from: &mut IoReader<'_>, io: &mut Io) -> Result<usize> {
        let wanted = from.remaining();
        if wanted == 0 {
            return Ok(0);
        }
        let pages = self.pages()?;
        let _writing = pages.write_lock.lock();
        if io.append {
            io.offset = pages.len();
        }
        let end = io
            .offset
            .checked_add(wanted as u64)
            .filter(|end| i64::try_from(*end).is_ok());
        let end = end.ok_or(Errno::EFBIG)?;
        let seals = pages.seals();
        if seals.intersects(Seals::WRITE | Seals::FUTURE_WRITE)
            || (end > pages.len() && seals.contains(Seals::GROW))
        {
            return Err(Errno::EPERM);
        }
        let mut done = 0;
        while done < wanted {
            let (index, within, len) = piece(io.offset + done as u64, wanted - done);
            let result = pages
                .frame_for_write(index)
                .and_then(|frame| from.read_frame(&frame, within, len));
            match result {
                Ok(count) => done += count,
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        pages.grow_to(io.offset + done as u64);
        self.inode.touch_modified();
        Ok(done)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn seek(&self, position: u64, to: Seek) -> Result<u64> {
        let pages = self.pages()?;
        let size = pages.len();
        let plain = seek_in(size, position, to)?;
        let start = match to {
            Seek::Data(offset) | Seek::Hole(offset) => offset.cast_unsigned(),
            Seek::Set(_) | Seek::Current(_) | Seek::End(_) => return Ok(plain),
        };
        let wants_data = matches!(to, Seek::Data(_));
        let found = pages
            .find(start / PAGE, wants_data)
            .saturating_mul(PAGE)
            .max(start);
        if found < size {
            Ok(found)
        } else if wants_data {
            Err(Errno::ENXIO)
        } else {
            Ok(size)
        }
    }

    fn is_pollable(&self) -> bool {
        false
    }

    fn page_source(&self) -> Result<Arc<dyn PageSource>> {
        Ok(self.pages()?.clone())
    }

    fn sync(&self, _: bool) -> Result<()> {
        Ok(())
    }

    fn allocate(&self, what: &Allocate) -> Result<()> {
        const KEEP: u32 = raw::FALLOC_FL_KEEP_SIZE;
        const PUNCH: u32 = raw::FALLOC_FL_PUNCH_HOLE;
        let pages = self.pages()?;
        let end = what
            .offset
            .checked_add(what.len)
            .filter(|end| i64::try_from(*end).is_ok());
        let end = end.ok_or(Errno::EFBIG)?;
        let _writing = pages.write_lock.lock();
        let seals = pages.seals();
        match what.mode {
            mode if mode == PUNCH | KEEP => {
                if seals.intersects(Seals::WRITE | Seals::FUTURE_WRITE) {
                    return Err(Errno::EPERM);
                }
                pages.discard(what.offset, end)?;
                self.inode.touch_modified();
            }
            mode if mode & !KEEP == 0 => {
                let grows = mode & KEEP == 0 && end > pages.len();
                if grows && seals.contains(Seals::GROW) {
                    return Err(Errno::EPERM);
                }
                pages.reserve(what.offset / PAGE..end.div_ceil(PAGE))?;
                if grows {
                    pages.grow_to(end);
                }
                self.inode.touch_modified();
            }
            _ => return Err(Errno::EOPNOTSUPP),
        }
        Ok(())
    }
}
