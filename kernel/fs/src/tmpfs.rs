//! tmpfs: files in memory, until the file system goes. Also what memfd_create(2), devtmpfs and the root made of the
//! initramfs archive are made of.
//!
//! Directories hold their entries strongly; the VFS's dentries are only its cache. Locking: an inode's
//! attributes, entries, pages and extended attributes are under leaf spin locks of their own.

use alloc::sync::Arc;
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::{Errno, Result};
use collections::{String, try_arc, try_format};
use machine::PAGE_SIZE;
use memory::Quota;

use crate::file_system::{FileSystem, FileSystemType, FsFlags, MountRequest, SuperBlock};
use crate::inode::{Inode, NewInode, NewKind};
use crate::metadata::StatFs;
use crate::user_namespace::{Kgid, Kuid, UserNamespace};

mod directory;
mod file;
mod inode;
mod xattrs;

pub use file::Seals;
pub(crate) use file::TmpFile;
pub use inode::TmpInode;

/// `TMPFS_MAGIC` of statfs(2).
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// What an inode counts for in bytes (Linux's `BOGO_INODE_SIZE`).
const INODE_SPACE: u64 = 1024;

/// What an instance may use and what it uses.
#[derive(Debug)]
pub(crate) struct Usage {
    pages_max: AtomicU64,
    pages: AtomicU64,
    inodes_max: AtomicU64,
    /// Bytes that inodes, further names and extended attributes count for.
    space: AtomicU64,
    next_ino: AtomicU64,
}

impl Usage {
    fn take(counter: &AtomicU64, max: &AtomicU64) -> Result<()> {
        let max = max.load(Ordering::Relaxed);
        if counter.fetch_add(1, Ordering::Relaxed) >= max {
            counter.fetch_sub(1, Ordering::Relaxed);
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }

    /// Whether `pages` could be had at all.
    pub(super) fn check_room(&self, pages: u64) -> Result<()> {
        if pages > self.pages_max.load(Ordering::Relaxed) {
            Err(Errno::ENOSPC)
        } else if pages > machine::frame::total() as u64 {
            Err(Errno::ENOMEM)
        } else {
            Ok(())
        }
    }

    pub(super) fn take_inode(&self) -> Result<u64> {
        self.take_space(INODE_SPACE)?;
        Ok(self.next_ino.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn give_inode(&self) {
        self.give_space(INODE_SPACE);
    }

    fn space_max(&self) -> u64 {
        let inodes = self.inodes_max.load(Ordering::Relaxed);
        inodes.saturating_mul(INODE_SPACE)
    }

    /// Takes space that counts against the number of inodes.
    pub(super) fn take_space(&self, bytes: u64) -> Result<()> {
        let max = self.space_max();
        self.space
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= max)
            })
            .map(drop)
            .map_err(|_| Errno::ENOSPC)
    }

    pub(super) fn give_space(&self, bytes: u64) {
        self.space.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Tries again when there was no space: what was removed a moment ago may not be freed yet, because names are let go
/// of by RCU. No spin lock may be held.
pub(crate) fn with_space<R>(mut attempt: impl FnMut() -> Result<R>) -> Result<R> {
    match attempt() {
        Err(Errno::ENOSPC) => {
            sched::rcu::barrier();
            attempt()
        }
        result => result,
    }
}

impl Quota for Usage {
    fn take_page(&self) -> Result<()> {
        Self::take(&self.pages, &self.pages_max)
    }

    fn give_pages(&self, count: u64) {
        self.pages.fetch_sub(count, Ordering::Relaxed);
    }
}

/// What `mount -o` can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TmpFsOptions {
    /// Pages of contents at most.
    pub pages_max: u64,
    /// Inodes at most.
    pub inodes_max: u64,
    /// Permission bits of the root directory.
    pub mode: u32,
    /// Owner of the root directory.
    pub uid: Kuid,
    /// Group of the root directory.
    pub gid: Kgid,
}

impl Default for TmpFsOptions {
    /// Half of the machine's memory, as on Linux.
    fn default() -> Self {
        let half = machine::frame::total() as u64 / 2;
        Self {
            pages_max: half,
            inodes_max: half,
            mode: 0o1777,
            uid: Kuid::ROOT,
            gid: Kgid::ROOT,
        }
    }
}

impl TmpFsOptions {
    /// Reads tmpfs(5) options, starting from `self`.
    ///
    /// # Errors
    /// `EINVAL` for an option or a value that is not known.
    pub fn parse(mut self, request: &MountRequest<'_>) -> Result<Self> {
        for (name, value) in request.options() {
            match name {
                b"size" => self.pages_max = parse_size(value)?,
                b"nr_blocks" => self.pages_max = parse_count(value)?,
                b"nr_inodes" => self.inodes_max = parse_count(value)?,
                b"mode" => self.mode = parse_number(value, 8)? & 0o7777,
                b"uid" => self.uid = parse_user(value)?,
                b"gid" => self.gid = parse_group(value)?,
                // Placement and huge pages: hints, and there is one node.
                b"huge" | b"mpol" | b"inode32" | b"inode64" | b"noswap" => {}
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(self)
    }
}

/// Options name who they name to who mounts: with the initial user namespace's numbers.
fn parse_user(value: &[u8]) -> Result<Kuid> {
    let user = UserNamespace::INITIAL.kuid(parse_number(value, 10)?);
    user.ok_or(Errno::EINVAL)
}

fn parse_group(value: &[u8]) -> Result<Kgid> {
    let group = UserNamespace::INITIAL.kgid(parse_number(value, 10)?);
    group.ok_or(Errno::EINVAL)
}

fn parse_number(value: &[u8], radix: u32) -> Result<u32> {
    let text = core::str::from_utf8(value).map_err(|_| Errno::EINVAL)?;
    u32::from_str_radix(text, radix).map_err(|_| Errno::EINVAL)
}

/// A number with an optional k, m or g; 0 means no limit.
fn parse_count(value: &[u8]) -> Result<u64> {
    let (digits, shift) = match value.split_last() {
        Some((b'k' | b'K', digits)) => (digits, 10),
        Some((b'm' | b'M', digits)) => (digits, 20),
        Some((b'g' | b'G', digits)) => (digits, 30),
        _ => (value, 0),
    };
    let text = core::str::from_utf8(digits).map_err(|_| Errno::EINVAL)?;
    let number: u64 = text.parse().map_err(|_| Errno::EINVAL)?;
    let scaled = number.checked_mul(1 << shift).ok_or(Errno::EINVAL)?;
    Ok(if scaled == 0 { u64::MAX } else { scaled })
}

/// A size in bytes or, with `%`, a share of memory; in pages, rounded up.
fn parse_size(value: &[u8]) -> Result<u64> {
    if let Some((b'%', digits)) = value.split_last() {
        let share = u64::from(parse_number(digits, 10)?);
        return Ok((machine::frame::total() as u64).saturating_mul(share) / 100);
    }
    let bytes = parse_count(value)?;
    Ok(if bytes == u64::MAX {
        bytes
    } else {
        bytes.div_ceil(PAGE_SIZE as u64)
    })
}

/// One instance.
#[derive(Debug)]
pub struct TmpFs {
    name: &'static str,
    usage: Arc<Usage>,
    root: Arc<TmpInode>,
}

impl TmpFs {
    /// An empty instance, shown as type `name`.
    ///
    /// # Errors
    /// `ENOSPC` when the options do not even allow a root directory.
    pub fn new(name: &'static str, options: &TmpFsOptions) -> Result<Arc<Self>> {
        let usage = try_arc(Usage {
            pages_max: AtomicU64::new(options.pages_max),
            pages: AtomicU64::new(0),
            inodes_max: AtomicU64::new(options.inodes_max),
            space: AtomicU64::new(0),
            next_ino: AtomicU64::new(1),
        })?;
        let (uid, gid, mode) = (options.uid, options.gid, options.mode);
        let root = TmpInode::new(
            &usage,
            &NewInode {
                kind: NewKind::Directory,
                mode,
                uid,
                gid,
                acls: crate::acl::NewAcls::default(),
            },
        )?;
        Ok(try_arc(Self { name, usage, root })?)
    }

    /// Its root directory.
    #[must_use]
    pub fn root_inode(&self) -> &Arc<TmpInode> {
        &self.root
    }

    pub(crate) fn usage(&self) -> &Arc<Usage> {
        &self.usage
    }
}

impl FileSystem for TmpFs {
    fn name(&self) -> &'static str {
        self.name
    }

    fn root(&self) -> Result<Arc<dyn Inode>> {
        Ok(self.root.clone())
    }

    fn flags(&self) -> FsFlags {
        FsFlags::NODEV
    }

    fn statfs(&self) -> Result<StatFs> {
        // What was removed counts no more.
        sched::rcu::barrier();
        let limited = |max: u64| if max == u64::MAX { 0 } else { max };
        let usage = &self.usage;
        let blocks = limited(usage.pages_max.load(Ordering::Relaxed));
        let free = blocks.saturating_sub(usage.pages.load(Ordering::Relaxed));
        let files = limited(usage.inodes_max.load(Ordering::Relaxed));
        Ok(StatFs {
            magic: TMPFS_MAGIC,
            block_size: PAGE_SIZE as u64,
            blocks,
            blocks_free: free,
            blocks_available: free,
            files,
            files_free: if files == 0 {
                0
            } else {
                usage
                    .space_max()
                    .saturating_sub(usage.space.load(Ordering::Relaxed))
                    / INODE_SPACE
            },
            name_max: crate::path::NAME_MAX as u64,
        })
    }

    fn options(&self) -> Result<String> {
        let pages = self.usage.pages_max.load(Ordering::Relaxed);
        let mut options = String::new();
        if pages != u64::MAX {
            options = try_format!(",size={}k", pages.saturating_mul(PAGE_SIZE as u64 / 1024))?;
        }
        let mode = self.root.metadata().map_or(0, |meta| meta.mode);
        if mode != 0o1777 {
            write!(options, ",mode={mode:o}").map_err(|_| Errno::ENOMEM)?;
        }
        Ok(options)
    }

    fn remount(&self, data: &[u8]) -> Result<()> {
        let usage = &self.usage;
        let now = TmpFsOptions {
            pages_max: usage.pages_max.load(Ordering::Relaxed),
            inodes_max: usage.inodes_max.load(Ordering::Relaxed),
            ..TmpFsOptions::default()
        };
        let new = now.parse(&MountRequest { source: b"", data })?;
        let fits = new.pages_max >= usage.pages.load(Ordering::Relaxed)
            && new.inodes_max.saturating_mul(INODE_SPACE) >= usage.space.load(Ordering::Relaxed);
        if !fits {
            return Err(Errno::EINVAL);
        }
        usage.pages_max.store(new.pages_max, Ordering::Relaxed);
        usage.inodes_max.store(new.inodes_max, Ordering::Relaxed);
        Ok(())
    }
}

/// The type behind `mount -t tmpfs`.
#[derive(Debug)]
pub struct TmpFsType;

impl FileSystemType for TmpFsType {
    fn name(&self) -> &'static str {
        "tmpfs"
    }

    fn mount(&self, request: &MountRequest<'_>) -> Result<Arc<SuperBlock>> {
        let options = TmpFsOptions::default().parse(request)?;
        SuperBlock::new(TmpFs::new("tmpfs", &options)?)
    }
}
