//! Contents of a regular tmpfs file, open files, and memfd seals.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::raw::general as raw;
use abi::{Errno, Result};
use machine::PAGE_SIZE;
use memory::io::{IoReader, IoWriter};
use memory::{Mapping, PageSource, Readahead};

use super::inode::TmpInode;
use super::{Usage, with_space};
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
/// Largest file, as Linux's `MAX_LFS_FILESIZE`.
const SIZE_MAX: u64 = i64::MAX as u64;

/// The contents of a regular file.
#[derive(Debug)]
pub(super) struct Regular {
    pub(super) mapping: Arc<Mapping>,
    /// Changes with the mapping's write lock held.
    seals: AtomicU32,
}

impl Regular {
    /// Contents counted by `usage`; `boot` shows at first: whole pages of boot memory, and how many bytes of them.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn new(usage: &Arc<Usage>, boot: Option<(&'static [u8], u64)>) -> Result<Self> {
        let (pages, len) = boot.unwrap_or((&[], 0));
        Ok(Self {
            mapping: Mapping::over_boot(Some(usage.clone()), pages, len)?,
            seals: AtomicU32::new(Seals::SEAL.bits()),
        })
    }

    fn seals(&self) -> Seals {
        Seals::from_bits_truncate(self.seals.load(Ordering::Acquire))
    }

    /// Whether the contents may become `end` bytes long and change below that.
    ///
    /// # Errors
    /// `EPERM` when a seal forbids it.
    fn check_write(&self, end: u64) -> Result<()> {
        let seals = self.seals();
        let grows = end > self.mapping.size_bytes();
        if seals.intersects(Seals::WRITE | Seals::FUTURE_WRITE)
            || (grows && seals.contains(Seals::GROW))
        {
            return Err(Errno::EPERM);
        }
        Ok(())
    }

    /// Truncates or extends.
    pub(super) fn set_len(&self, size: u64) -> Result<()> {
        if size > SIZE_MAX {
            return Err(Errno::EFBIG);
        }
        let _writing = self.mapping.lock_writes();
        let old = self.mapping.size_bytes();
        let seals = self.seals();
        if (size < old && seals.contains(Seals::SHRINK))
            || (size > old && seals.contains(Seals::GROW))
        {
            return Err(Errno::EPERM);
        }
        self.mapping.truncate(size)
    }

    /// Adds seals. A seal against writing waits for nobody: it is refused while a mapping could still store.
    fn add_seals(&self, more: Seals) -> Result<()> {
        let _writing = self.mapping.lock_writes();
        let now = self.seals();
        if now.contains(Seals::SEAL) {
            return Err(Errno::EPERM);
        }
        if more.contains(Seals::WRITE) && !now.contains(Seals::WRITE) {
            self.mapping.deny_stores()?;
        }
        if more.contains(Seals::FUTURE_WRITE) {
            self.mapping.deny_new_stores();
        }
        self.seals.store((now | more).bits(), Ordering::Release);
        Ok(())
    }
}

/// An open file.
#[derive(Debug)]
pub(crate) struct TmpFile {
    inode: Arc<TmpInode>,
    readahead: Readahead,
}

impl TmpFile {
    pub(super) fn new(inode: Arc<TmpInode>) -> Self {
        Self {
            inode,
            readahead: Readahead::new(),
        }
    }

    fn contents(&self) -> Result<&Regular> {
        self.inode.regular()
    }

    /// `F_GET_SEALS`.
    pub(crate) fn seals(&self) -> Result<Seals> {
        Ok(self.contents()?.seals())
    }

    /// `F_ADD_SEALS`.
    pub(crate) fn add_seals(&self, more: Seals) -> Result<()> {
        self.contents()?.add_seals(more)
    }

    /// Lets seals be added: a memfd made with `MFD_ALLOW_SEALING`.
    pub(crate) fn allow_seals(&self) -> Result<()> {
        self.contents()?.seals.store(0, Ordering::Release);
        Ok(())
    }
}

impl FileOps for TmpFile {
    fn read(&self, to: &mut IoWriter<'_>, io: &Io) -> Result<usize> {
        self.contents()?
            .mapping
            .read(io.offset, to, &self.readahead)
    }

    fn write(&self, from: &mut IoReader<'_>, io: &mut Io) -> Result<usize> {
        let wanted = from.remaining();
        if wanted == 0 {
            return Ok(0);
        }
        let contents = self.contents()?;
        let _writing = contents.mapping.lock_writes();
        if io.append {
            io.offset = contents.mapping.size_bytes();
        }
        let end = end_of(io.offset, wanted as u64)?;
        contents.check_write(end)?;
        let done = with_space(|| contents.mapping.write(io.offset, from))?;
        self.inode.touch_modified();
        Ok(done)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn allows_direct(&self) -> bool {
        true
    }

    fn seek(&self, position: u64, to: Seek) -> Result<u64> {
        let mapping = &self.contents()?.mapping;
        let size = mapping.size_bytes();
        let plain = seek_in(size, position, to)?;
        let start = match to {
            Seek::Data(offset) | Seek::Hole(offset) => offset.cast_unsigned(),
            Seek::Set(_) | Seek::Current(_) | Seek::End(_) => return Ok(plain),
        };
        let wants_data = matches!(to, Seek::Data(_));
        let found = mapping.find_from(start, wants_data);
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
        Ok(self.contents()?.mapping.clone())
    }

    fn sync(&self, _: bool) -> Result<()> {
        Ok(())
    }

    fn allocate(&self, what: &Allocate) -> Result<()> {
        const KEEP: u32 = raw::FALLOC_FL_KEEP_SIZE;
        const PUNCH: u32 = raw::FALLOC_FL_PUNCH_HOLE;
        let contents = self.contents()?;
        let mapping = &contents.mapping;
        let end = end_of(what.offset, what.len)?;
        let _writing = mapping.lock_writes();
        let seals = contents.seals();
        match what.mode {
            mode if mode == PUNCH | KEEP => {
                if seals.intersects(Seals::WRITE | Seals::FUTURE_WRITE) {
                    return Err(Errno::EPERM);
                }
                mapping.punch_hole(what.offset..end)?;
            }
            mode if mode & !KEEP == 0 => {
                let grows = mode & KEEP == 0 && end > mapping.size_bytes();
                if grows && seals.contains(Seals::GROW) {
                    return Err(Errno::EPERM);
                }
                let pages = what.offset / PAGE..end.div_ceil(PAGE);
                with_space(|| {
                    self.inode.usage().check_room(pages.end - pages.start)?;
                    mapping.reserve(pages.clone())
                })?;
                if grows {
                    mapping.grow_to(end);
                }
            }
            _ => return Err(Errno::EOPNOTSUPP),
        }
        self.inode.touch_modified();
        Ok(())
    }
}

/// Behind the last of `len` bytes from `offset` on.
///
/// # Errors
/// `EFBIG` when no file is as long.
fn end_of(offset: u64, len: u64) -> Result<u64> {
    offset
        .checked_add(len)
        .filter(|end| *end <= SIZE_MAX)
        .ok_or(Errno::EFBIG)
}
