//! [`TmpInode`]: attributes and contents of one file of a tmpfs.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::AtomicBool;

use abi::{Errno, Result};
use collections::{TryCollect, try_arc};
use machine::sync::SpinLock;
use memory::io::IoReader;
use memory::{Quota, pressure};

use super::Usage;
use super::directory::Directory;
use super::file::Regular;
use super::xattrs::Xattrs;
use crate::acl::Acls;
use crate::inode::{Inode, InodeBody, NewInode, NewKind, RenameMode};
use crate::metadata::{FileKind, Metadata, Timestamp};

mod attributes;
mod operations;

/// The longest symbolic link that is part of its inode; a longer one takes a page.
const SHORT_LINK_MAX: usize = 127;

/// A file, directory, link or node in memory.
pub struct TmpInode {
    usage: Arc<Usage>,
    kind: FileKind,
    meta: SpinLock<Metadata>,
    vfs: InodeBody,
    contents: Contents,
    xattrs: Xattrs,
    /// Change with `meta` locked, as they are part of the mode.
    acls: Acls,
    /// An unnamed file that may still get a name (`O_TMPFILE` without `O_EXCL`).
    is_linkable: AtomicBool,
    /// While a tree is taken apart: the directory to go on with.
    above: Option<Arc<TmpInode>>,
}

enum Contents {
    Regular(Regular),
    Directory(SpinLock<Directory>),
    Symlink(Box<[u8]>),
    /// Device node, FIFO, socket.
    Node,
}

impl Contents {
    /// Gives back the page that a long symbolic link counts for; what a regular file has it gives itself.
    fn give_back(&self, usage: &Usage) {
        if let Contents::Symlink(target) = self
            && takes_page(target)
        {
            usage.give_pages(1);
        }
    }
}

impl TmpInode {
    pub(crate) fn new(usage: &Arc<Usage>, new: &NewInode<'_>) -> Result<Arc<Self>> {
        let contents = match new.kind {
            NewKind::Regular => Contents::Regular(Regular::new(usage, None)?),
            NewKind::Directory => Contents::Directory(SpinLock::default()),
            NewKind::Symlink(target) => Contents::Symlink(link_target(usage, target)?),
            NewKind::Device(..) | NewKind::Fifo | NewKind::Socket => Contents::Node,
        };
        Self::with_body(usage, new, contents)
    }

    /// A regular file whose first contents are `bytes` of boot memory, mapped in place. `pages` is `bytes` padded to
    /// whole pages.
    pub(crate) fn new_boot_file(
        usage: &Arc<Usage>,
        new: &NewInode<'_>,
        pages: &'static [u8],
        len: usize,
    ) -> Result<Arc<Self>> {
        let contents = Contents::Regular(Regular::new(usage, Some((pages, len as u64)))?);
        Self::with_body(usage, new, contents)
    }

    fn with_body(usage: &Arc<Usage>, new: &NewInode<'_>, contents: Contents) -> Result<Arc<Self>> {
        let made = pressure::ensure_headroom().and_then(|()| usage.take_inode());
        let ino = made.inspect_err(|_| contents.give_back(usage))?;
        let mut acls = Acls::new(new.acls.clone());
        usage.take_space(acls.space()).inspect_err(|_| {
            usage.give_inode();
            contents.give_back(usage);
        })?;
        let now = Timestamp::now();
        let kind = new.kind.file_kind();
        let mut meta = Metadata {
            uid: new.uid,
            gid: new.gid,
            atime: now,
            mtime: now,
            ctime: now,
            ..Metadata::new(ino, kind, new.mode)
        };
        match new.kind {
            NewKind::Directory => meta.nlink = 2,
            NewKind::Symlink(target) => meta.size = target.len() as u64,
            NewKind::Device(_, id) => meta.rdev = id,
            NewKind::Regular | NewKind::Fifo | NewKind::Socket => {}
        }
        let inode = Self {
            usage: usage.clone(),
            kind,
            meta: SpinLock::new(meta),
            vfs: InodeBody::new(),
            contents,
            xattrs: Xattrs::default(),
            acls,
            is_linkable: AtomicBool::new(false),
            above: None,
        };
        Ok(try_arc(inode)?)
    }

    /// Its number.
    #[must_use]
    pub fn ino(&self) -> u64 {
        self.meta.lock().ino
    }

    /// The contents of a regular file.
    pub(super) fn regular(&self) -> Result<&Regular> {
        match &self.contents {
            Contents::Regular(regular) => Ok(regular),
            Contents::Directory(_) => Err(Errno::EISDIR),
            Contents::Symlink(_) | Contents::Node => Err(Errno::EINVAL),
        }
    }

    /// Gives a regular file these contents, from its start on.
    pub(crate) fn fill(&self, contents: &[u8]) -> Result<()> {
        let mut from = IoReader::kernel(contents);
        while from.remaining() > 0 {
            let done = contents.len() - from.remaining();
            self.regular()?.mapping.write(done as u64, &mut from)?;
        }
        Ok(())
    }

    pub(super) fn usage(&self) -> &Usage {
        &self.usage
    }

    pub(super) fn directory(&self) -> Result<&SpinLock<Directory>> {
        match &self.contents {
            Contents::Directory(directory) => Ok(directory),
            Contents::Regular(_) | Contents::Symlink(_) | Contents::Node => Err(Errno::ENOTDIR),
        }
    }

    /// Contents or entries changed.
    pub(super) fn touch_modified(&self) {
        let now = Timestamp::now();
        let mut meta = self.meta.lock();
        meta.mtime = now;
        meta.ctime = now;
    }

    pub(super) fn change_links(&self, by: i32) {
        let now = Timestamp::now();
        let mut meta = self.meta.lock();
        meta.nlink = meta.nlink.saturating_add_signed(by);
        meta.ctime = now;
    }

    /// Enters `child` as `name`; nothing of that name is there.
    pub(crate) fn insert(&self, name: &[u8], child: &Arc<TmpInode>) -> Result<()> {
        let ino = self.ino();
        self.directory()?.lock().insert(name, child.clone(), ino)?;
        if child.kind == FileKind::Directory {
            self.change_links(1);
        }
        self.touch_modified();
        Ok(())
    }

    /// Puts `child` in the place of the entry `name`, which is there; what that was.
    fn replace(&self, name: &[u8], child: &Arc<TmpInode>) -> Result<Arc<TmpInode>> {
        let ino = self.ino();
        let replaced = self.directory()?.lock().replace(name, child.clone(), ino);
        let replaced = replaced.ok_or(Errno::ENOENT)?;
        self.change_links(
            i32::from(child.kind == FileKind::Directory)
                - i32::from(replaced.kind == FileKind::Directory),
        );
        self.touch_modified();
        Ok(replaced)
    }

    /// A directory's `..` is number `ino` from now on.
    pub(super) fn set_parent(&self, ino: u64) {
        if let Contents::Directory(directory) = &self.contents {
            directory.lock().set_parent(ino);
        }
    }

    /// The child called `name`.
    pub(crate) fn child(&self, name: &[u8]) -> Result<Arc<TmpInode>> {
        self.directory()?
            .lock()
            .get(name)
            .cloned()
            .ok_or(Errno::ENOENT)
    }

    fn remove(&self, name: &[u8]) -> Result<Arc<TmpInode>> {
        let child = self.directory()?.lock().remove(name).ok_or(Errno::ENOENT)?;
        if child.kind == FileKind::Directory {
            self.change_links(-1);
        }
        self.touch_modified();
        Ok(child)
    }

    /// Moves or swaps between two directories, entries only; the caller has checked kinds.
    fn rename_entries(
        &self,
        name: &[u8],
        to: &TmpInode,
        to_name: &[u8],
        mode: RenameMode,
    ) -> Result<()> {
        let source = self.child(name)?;
        let target = to.child(to_name).ok();
        if mode == RenameMode::NoReplace && target.is_some() {
            return Err(Errno::EEXIST);
        }
        if mode != RenameMode::Exchange
            && let Some(target) = &target
        {
            target.check_empty()?;
        }
        // What takes memory comes first: a rename that fails has changed nothing.
        match (target, mode) {
            (None, RenameMode::Exchange) => return Err(Errno::ENOENT),
            (None, _) => {
                to.insert(to_name, &source)?;
                self.remove(name)?;
            }
            (Some(_), RenameMode::Exchange) => {
                let replaced = to.replace(to_name, &source)?;
                self.replace(name, &replaced)?;
            }
            (Some(_), _) => {
                let replaced = to.replace(to_name, &source)?;
                self.remove(name)?;
                replaced.drop_name();
            }
        }
        source.meta.lock().ctime = Timestamp::now();
        Ok(())
    }

    fn check_empty(&self) -> Result<()> {
        match &self.contents {
            Contents::Directory(directory) if !directory.lock().is_empty() => Err(Errno::ENOTEMPTY),
            _ => Ok(()),
        }
    }

    pub(super) fn has_names(&self) -> bool {
        self.meta.lock().nlink > 0
    }

    /// One name less; a directory also loses its own `.`.
    fn drop_name(&self) {
        if self.kind != FileKind::Directory && self.meta.lock().nlink > 1 {
            self.usage.give_inode();
        }
        self.change_links(if self.kind == FileKind::Directory {
            -2
        } else {
            -1
        });
    }

    fn own(inode: &Arc<dyn Inode>) -> Result<&TmpInode> {
        let any: &dyn Any = inode.as_ref();
        any.downcast_ref().ok_or(Errno::EXDEV)
    }
}

impl Drop for TmpInode {
    fn drop(&mut self) {
        self.usage.give_inode();
        self.xattrs.clear(&self.usage);
        self.usage.give_space(self.acls.space());
        self.contents.give_back(&self.usage);
        // A tree that goes as a whole must not become a recursion as deep as the tree.
        while let Some(child) = self.pop_child() {
            take_apart(child);
            sched::cond_resched();
        }
    }
}

/// Whether a symbolic link's target counts as a page of contents.
const fn takes_page(target: &[u8]) -> bool {
    target.len() > SHORT_LINK_MAX
}

/// Takes a symbolic link's target in.
fn link_target(usage: &Usage, target: &[u8]) -> Result<Box<[u8]>> {
    pressure::ensure_headroom()?;
    if takes_page(target) {
        usage.take_page()?;
    }
    let copy: collections::Result<_> = target.iter().copied().try_collect();
    Ok(copy.inspect_err(|_| {
        if takes_page(target) {
            usage.give_pages(1);
        }
    })?)
}

impl TmpInode {
    fn pop_child(&mut self) -> Option<Arc<TmpInode>> {
        match &mut self.contents {
            Contents::Directory(directory) => directory.get_mut().pop(),
            Contents::Regular(_) | Contents::Symlink(_) | Contents::Node => None,
        }
    }
}

/// Drops what nobody else has of a tree, leaves first, without recursion and without memory: each directory on
/// the way down remembers the one above it.
fn take_apart(top: Arc<TmpInode>) {
    let mut at = top;
    loop {
        let Some(here) = Arc::get_mut(&mut at) else {
            // Somebody has it open; it keeps what is below. Only the top can be so.
            return;
        };
        match here.pop_child() {
            Some(mut child) => {
                if let Some(below) = Arc::get_mut(&mut child)
                    && below.kind == FileKind::Directory
                {
                    below.above = Some(at);
                    at = child;
                }
            }
            None => match here.above.take() {
                Some(above) => at = above,
                None => return,
            },
        }
        sched::cond_resched();
    }
}

impl core::fmt::Debug for TmpInode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("TmpInode")
            .field("meta", &*self.meta.lock())
            .finish_non_exhaustive()
    }
}
