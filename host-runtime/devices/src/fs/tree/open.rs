//! Files that are opened: by way of their descriptors in `/proc/self/fd`, with what the guest may ask for.

use std::io;
use std::os::fd::OwnedFd;

use fuse_backend_rs::abi::fuse_abi::CreateIn;
use fuse_backend_rs::api::filesystem::{Context, Entry};
use rustix::fs::{FileType, Mode, OFlags, StatVfs};
use rustix::io::Errno;

use super::make::Acting;
use super::nodes::Node;
use super::{Tree, beneath};

/// What a guest may ask of an open file on the host. `O_DIRECT` is about its own cache: the host's would have it
/// align its buffers.
const ASKED: OFlags = OFlags::RDWR
    .union(OFlags::WRONLY)
    .union(OFlags::APPEND)
    .union(OFlags::TRUNC)
    .union(OFlags::DSYNC)
    .union(OFlags::SYNC);

/// Those of them that change a file, or allow it.
const CHANGING: OFlags = OFlags::RDWR.union(OFlags::WRONLY).union(OFlags::TRUNC);

/// The flags that a file is opened with for a guest that asked for these.
pub(super) fn opening(flags: u32) -> OFlags {
    OFlags::from_bits_retain(flags) & ASKED | OFlags::CLOEXEC
}

impl Tree {
    /// Opens a regular file for the guest.
    ///
    /// # Errors
    /// `EISDIR`, and `ENXIO` for what must not be opened here: a FIFO would make the server wait, a device is the host's.
    pub(super) fn open_file(&self, node: &Node, flags: u32) -> io::Result<OwnedFd> {
        match node.kind {
            FileType::RegularFile
                if node.share.read_only && opening(flags).intersects(CHANGING) =>
            {
                Err(Errno::ROFS.into())
            }
            FileType::RegularFile => self.reopen(node, opening(flags)),
            FileType::Directory => Err(Errno::ISDIR.into()),
            FileType::Symlink => Err(Errno::LOOP.into()),
            _ => Err(Errno::NXIO.into()),
        }
    }

    /// Opens a regular file or a directory anew.
    pub(super) fn reopen(&self, node: &Node, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.descriptors, node.name(), flags, Mode::empty());
        Ok(opened?)
    }
}

impl Tree {
    /// Makes a regular file without a name in a directory, open; its entry, which counts as one lookup, and handle.
    pub(crate) fn make_unnamed(
        &self,
        context: &Context,
        directory: u64,
        args: &CreateIn,
    ) -> io::Result<(Entry, u64)> {
        let directory = self.changeable(directory)?;
        let exclusive = OFlags::from_bits_retain(args.flags) & OFlags::EXCL;
        let flags = opening(args.flags) | OFlags::TMPFILE | exclusive;
        let mode = Mode::from_raw_mode(args.mode & !args.umask & 0o7777);
        let acting = Acting::for_owner(context)?;
        let file = rustix::fs::openat2(&directory.file, ".", flags, mode, beneath());
        drop(acting);
        let file = file?;
        let entry = self.enter_open(&file, &directory.share)?;
        let handle = self.hand_over(&*self.node(entry.inode)?, file);
        Ok((entry, handle))
    }

    pub(crate) fn statfs(&self, inode: u64) -> io::Result<StatVfs> {
        Ok(rustix::fs::fstatvfs(&self.node(inode)?.file)?)
    }

    /// Has the host write out the file system of an inode.
    pub(crate) fn sync(&self, inode: u64) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        Ok(rustix::fs::syncfs(
            self.reopen(&*self.node(inode)?, flags)?,
        )?)
    }
}
