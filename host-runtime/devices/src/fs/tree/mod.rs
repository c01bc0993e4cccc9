//! The names of a shared directory, as FUSE requests ask for them: what is looked up, made, changed, listed and opened.
//!
//! Each inode that the guest knows is a descriptor opened with `O_PATH` ([`nodes`]), found one name at a time beneath
//! the one of its directory (openat2(2)), so that no request names anything above. A file is opened by way of that
//! descriptor in `/proc/self/fd`, and handed on: this reads and writes no data, which is for who has the descriptor
//! ([`super::open_files`]).
//!
//! `fuse-backend-rs` takes the requests apart. Its own file system of this kind is not used, since it keeps its
//! descriptors to itself, reaches extended attributes by paths, and opens a name with openat(2).

mod attributes;
mod listing;
mod make;
mod nodes;
mod open;
mod shares;
mod xattrs;

use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fuse_backend_rs::abi::fuse_abi::{CreateIn, FsOptions, OpenOptions, SetattrValid, stat64};
use fuse_backend_rs::api::filesystem::{
    Context, DirEntry, Entry, FileSystem, GetxattrReply, ListxattrReply,
};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use listing::Listings;
use nodes::{Node, Nodes};
use shares::Shares;

/// How long the guest may rely on names and attributes it has seen.
const CACHE_TIME: Duration = Duration::from_secs(1);
/// The number of the root, which is known without being looked up.
pub(crate) const ROOT: u64 = 1;
/// The number of no directory: names in it are those of the shares beside the root's.
const NOWHERE: u64 = 0;

/// A file that was just opened.
#[derive(Debug)]
pub struct Opened {
    /// The number that the guest was given for it.
    pub handle: u64,
    /// The inode's number.
    pub node: u64,
    /// The number of the share that it is in.
    pub share: u64,
    /// The file, a regular one.
    pub file: OwnedFd,
}

/// The tree below a directory.
#[derive(Debug)]
pub(super) struct Tree {
    /// The directory's name.
    root: String,
    /// `/proc/self/fd`.
    descriptors: OwnedFd,
    nodes: Mutex<Nodes>,
    listings: Mutex<Listings>,
    shares: Mutex<Shares>,
    next_handle: AtomicU64,
    /// What the last request opened.
    opened: Mutex<Option<Opened>>,
}

impl Tree {
    /// The tree below what `root` will be when [`open`](Self::open_root) is called.
    ///
    /// # Errors
    /// When there is no procfs.
    pub(super) fn new(root: &str) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptors = rustix::fs::open("/proc/self/fd", flags, Mode::empty())?;
        Ok(Self {
            root: root.to_owned(),
            descriptors,
            nodes: Mutex::default(),
            listings: Mutex::default(),
            shares: Mutex::default(),
            next_handle: AtomicU64::new(1),
            opened: Mutex::default(),
        })
    }

    /// Opens the root.
    ///
    /// # Errors
    /// When it cannot be opened, or is no directory.
    pub(super) fn open_root(&self) -> io::Result<()> {
        // What the guest makes has the mode that it says.
        rustix::process::umask(Mode::empty());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(self.root.as_str(), flags, Mode::empty())?;
        lock(&self.nodes).put_root(root)?;
        Ok(())
    }

    /// What the last request opened, if it did.
    pub(super) fn take_opened(&self) -> Option<Opened> {
        lock(&self.opened).take()
    }

    /// Hands an open file on, and gives its number.
    fn hand_over(&self, node: &Node, file: OwnedFd) -> u64 {
        let handle = self.next_handle();
        *lock(&self.opened) = Some(Opened {
            handle,
            node: node.number,
            share: node.share.number,
            file,
        });
        handle
    }

    fn next_handle(&self) -> u64 {
        self.next_handle.fetch_add(1, Ordering::Relaxed)
    }

    /// The entry of a name in a directory, which counts as one lookup.
    fn find(&self, parent: u64, name: &CStr) -> io::Result<Entry> {
        let name = plain(name)?;
        let directory = self.node(parent)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = rustix::fs::openat2(&directory.file, name, flags, Mode::empty(), beneath())?;
        self.enter(found, &directory.share)
    }
}

/// How names are resolved: without leaving the directory, and not through the links of procfs.
fn beneath() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS
}

/// A name that stands for something in a directory: not the directory itself, nor the one above, nor a path.
fn plain(name: &CStr) -> io::Result<&CStr> {
    match name.to_bytes() {
        b"" | b"." | b".." => Err(Errno::INVAL.into()),
        bytes if bytes.contains(&b'/') => Err(Errno::INVAL.into()),
        _ => Ok(name),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FileSystem for Tree {
    type Inode = u64;
    type Handle = u64;

    fn init(&self, _: FsOptions) -> io::Result<FsOptions> {
        Ok(FsOptions::BIG_WRITES
            | FsOptions::MAX_PAGES
            | FsOptions::PARALLEL_DIROPS
            | FsOptions::DO_READDIRPLUS
            | FsOptions::READDIRPLUS_AUTO
            | FsOptions::FLOCK_LOCKS)
    }

    fn destroy(&self) {
        lock(&self.listings).clear();
        lock(&self.nodes).forget_all();
    }

    fn lookup(&self, _: &Context, parent: u64, name: &CStr) -> io::Result<Entry> {
        match parent {
            NOWHERE => self.find_share(name),
            parent => self.find(parent, name),
        }
    }

    fn forget(&self, _: &Context, inode: u64, count: u64) {
        lock(&self.nodes).forget(inode, count);
    }

    fn batch_forget(&self, _: &Context, requests: Vec<(u64, u64)>) {
        let mut nodes = lock(&self.nodes);
        for (inode, count) in requests {
            nodes.forget(inode, count);
        }
    }

    fn getattr(&self, _: &Context, inode: u64, _: Option<u64>) -> io::Result<(stat64, Duration)> {
        Ok((self.attributes(&*self.node(inode)?)?, CACHE_TIME))
    }

    fn setattr(
        &self,
        _: &Context,
        inode: u64,
        attr: stat64,
        _: Option<u64>,
        valid: SetattrValid,
    ) -> io::Result<(stat64, Duration)> {
        let node = self.changeable(inode)?;
        self.change(&node, &attr, valid)?;
        Ok((self.attributes(&node)?, CACHE_TIME))
    }

    fn readlink(&self, _: &Context, inode: u64) -> io::Result<Vec<u8>> {
        let target = rustix::fs::readlinkat(&self.node(inode)?.file, c"", Vec::new())?;
        Ok(target.into_bytes())
    }

    fn symlink(
        &self,
        context: &Context,
        target: &CStr,
        parent: u64,
        name: &CStr,
    ) -> io::Result<Entry> {
        self.make_symlink(context, target, parent, name)
    }

    fn mknod(
        &self,
        context: &Context,
        inode: u64,
        name: &CStr,
        mode: u32,
        rdev: u32,
        umask: u32,
    ) -> io::Result<Entry> {
        self.make_node(context, (inode, name), mode, umask, rdev)
    }

    fn mkdir(
        &self,
        context: &Context,
        parent: u64,
        name: &CStr,
        mode: u32,
        umask: u32,
    ) -> io::Result<Entry> {
        self.make_directory(context, (parent, name), mode & !umask)
    }

    fn unlink(&self, _: &Context, parent: u64, name: &CStr) -> io::Result<()> {
        self.remove(parent, name, AtFlags::empty())
    }

    fn rmdir(&self, _: &Context, parent: u64, name: &CStr) -> io::Result<()> {
        self.remove(parent, name, AtFlags::REMOVEDIR)
    }

    fn rename(
        &self,
        _: &Context,
        old_dir: u64,
        old_name: &CStr,
        new_dir: u64,
        new_name: &CStr,
        flags: u32,
    ) -> io::Result<()> {
        self.rename_entry((old_dir, old_name), (new_dir, new_name), flags)
    }

    fn link(&self, _: &Context, inode: u64, parent: u64, name: &CStr) -> io::Result<Entry> {
        self.link_entry(inode, parent, name)
    }

    fn open(
        &self,
        _: &Context,
        inode: u64,
        flags: u32,
        _: u32,
    ) -> io::Result<(Option<u64>, OpenOptions, Option<u32>)> {
        let node = self.node(inode)?;
        let file = self.open_file(&node, flags)?;
        let handle = self.hand_over(&node, file);
        Ok((Some(handle), OpenOptions::empty(), None))
    }

    fn create(
        &self,
        context: &Context,
        parent: u64,
        name: &CStr,
        args: CreateIn,
    ) -> io::Result<(Entry, Option<u64>, OpenOptions, Option<u32>)> {
        let (entry, file) = self.create_file(context, (parent, name), &args)?;
        let handle = self.hand_over(&*self.node(entry.inode)?, file);
        Ok((entry, Some(handle), OpenOptions::empty(), None))
    }

    fn setxattr(
        &self,
        _: &Context,
        inode: u64,
        name: &CStr,
        value: &[u8],
        flags: u32,
    ) -> io::Result<()> {
        self.set_xattr(inode, name, value, flags)
    }

    fn getxattr(
        &self,
        _: &Context,
        inode: u64,
        name: &CStr,
        size: u32,
    ) -> io::Result<GetxattrReply> {
        self.xattr(inode, name, size)
    }

    fn listxattr(&self, _: &Context, inode: u64, size: u32) -> io::Result<ListxattrReply> {
        self.list_xattrs(inode, size)
    }

    fn removexattr(&self, _: &Context, inode: u64, name: &CStr) -> io::Result<()> {
        self.remove_xattr(inode, name)
    }

    fn opendir(&self, _: &Context, inode: u64, _: u32) -> io::Result<(Option<u64>, OpenOptions)> {
        Ok((Some(self.open_listing(inode)?), OpenOptions::empty()))
    }

    fn readdir(
        &self,
        _: &Context,
        _: u64,
        handle: u64,
        size: u32,
        offset: u64,
        add: &mut dyn FnMut(DirEntry<'_>) -> io::Result<usize>,
    ) -> io::Result<()> {
        self.list(handle, size, offset, |entry, _| add(entry))
    }

    fn readdirplus(
        &self,
        _: &Context,
        _: u64,
        handle: u64,
        size: u32,
        offset: u64,
        add: &mut dyn FnMut(DirEntry<'_>, Entry) -> io::Result<usize>,
    ) -> io::Result<()> {
        self.list_found(handle, size, offset, add)
    }

    fn fsyncdir(&self, _: &Context, _: u64, data_only: bool, handle: u64) -> io::Result<()> {
        self.sync_listing(handle, data_only)
    }

    fn releasedir(&self, _: &Context, _: u64, _: u32, handle: u64) -> io::Result<()> {
        self.close_listing(handle)
    }
}
