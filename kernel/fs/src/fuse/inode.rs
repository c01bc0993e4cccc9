//! A node of the server as an inode of the VFS.
//!
//! Locking: [`Attributes`] and `handles` are leaves. While the server is asked, no lock is held but the mapping's write lock,
//! by who changes the file's contents or size.

use alloc::sync::{Arc, Weak};
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::{Errno, Result};
use collections::{Vec, try_arc};
use machine::sync::SpinLock;
use memory::{Mapping, WriteGuard};
use zerocopy::IntoBytes;

use super::absences::Absences;
use super::attributes::{Answer, Attributes};
use super::handle::{Handle, Handles};
use super::message::{Reply, Request};
use super::session::Session;
use super::wire::{AttrOut, EntryOut, GetAttrIn, Op};
use super::{convert, directory, file};
use crate::file_ops::FileOps;
use crate::flags::OpenFlags;
use crate::inode::{Inode, InodeBody, NewInode, RenameMode, XattrMode};
use crate::metadata::{FileKind, Metadata, SetAttr};
use crate::ops::CAPABILITY;

/// The longest path a symbolic link can hold.
const LINK_MAX: usize = 4095;

/// A file that the server knows by a number.
#[derive(Debug)]
pub(super) struct FuseInode {
    pub(super) session: Arc<Session>,
    pub(super) node: u64,
    generation: u64,
    kind: FileKind,
    body: InodeBody,
    /// References that the server counts for us.
    pub(super) lookups: AtomicU64,
    pub(super) attributes: Attributes,
    /// Until when its name is believed, in monotonic nanoseconds.
    entry_until: AtomicU64,
    /// The pages of a regular file.
    mapping: spin::Once<Arc<Mapping>>,
    pub(super) handles: Handles,
    /// Names that the server says are not in this directory.
    pub(super) absences: Absences,
    /// A handle open for reading and writing that came with creation, for the open that follows.
    pub(super) fresh: SpinLock<Option<Arc<Handle>>>,
}

impl FuseInode {
    pub(super) fn new(
        session: Arc<Session>,
        entry: &EntryOut,
        meta: &Metadata,
    ) -> Result<Arc<FuseInode>> {
        let until = convert::valid_until(entry.attr_valid, entry.attr_valid_nsec);
        let entry_until = convert::valid_until(entry.entry_valid, entry.entry_valid_nsec);
        let inode = try_arc(FuseInode {
            session,
            node: entry.nodeid,
            generation: entry.generation,
            kind: meta.kind,
            body: InodeBody::new(),
            lookups: AtomicU64::new(1),
            attributes: Attributes::new(meta, until),
            entry_until: AtomicU64::new(entry_until),
            mapping: spin::Once::new(),
            handles: Handles::default(),
            absences: Absences::default(),
            fresh: SpinLock::new(None),
        })?;
        if meta.kind == FileKind::Regular {
            let backing: Weak<FuseInode> = Arc::downgrade(&inode);
            let mapping = Mapping::with_backing(backing, meta.size)?;
            inode.mapping.call_once(|| mapping);
        }
        Ok(inode)
    }

    /// Whether `entry` means this very file.
    pub(super) fn is_same(&self, entry: &EntryOut, kind: FileKind) -> bool {
        self.node == entry.nodeid && self.generation == entry.generation && self.kind == kind
    }

    /// The pages of a regular file.
    pub(super) fn mapping(&self) -> Result<&Arc<Mapping>> {
        self.mapping.get().ok_or(Errno::EINVAL)
    }

    /// Takes in what a later entry says of it.
    pub(super) fn learn(&self, entry: &EntryOut, meta: &Metadata, asked_at: u64) {
        let entry_until = convert::valid_until(entry.entry_valid, entry.entry_valid_nsec);
        self.entry_until.store(entry_until, Ordering::Relaxed);
        let answer = Answer {
            meta,
            until: convert::valid_until(entry.attr_valid, entry.attr_valid_nsec),
            asked_at,
            held: None,
        };
        self.attributes
            .learn(&answer, self.mapping.get().map(AsRef::as_ref));
    }

    /// Data or attributes were changed here: attributes must be asked for again.
    pub(super) fn changed(&self) {
        self.attributes.changed(self.session.count_change());
    }

    /// A read asked for at `asked_at` found the file to end at `end`, if it was thought to be longer.
    pub(super) fn ends_at(&self, end: u64, asked_at: u64) {
        let Ok(mapping) = self.mapping() else { return };
        if mapping.size_bytes() <= end {
            return;
        }
        // Called for a page fault in a write to this very file, too, so this must not wait for its end.
        if let Some(_guard) = mapping.try_lock_writes()
            && self.attributes.is_current(asked_at)
        {
            mapping.set_size(end);
        }
        self.changed();
    }

    /// The handle that came with creation, when it serves for `flags`.
    pub(super) fn take_fresh_handle(&self, flags: OpenFlags) -> Option<Arc<Handle>> {
        let special = OpenFlags::APPEND | OpenFlags::DSYNC | OpenFlags::SYNC_BIT;
        if flags.intersects(special) {
            None
        } else {
            self.fresh.lock().take()
        }
    }

    /// Asks the server for the attributes. `held`: the caller keeps others from writing to the file.
    pub(super) fn refresh(&self, held: Option<&WriteGuard<'_>>) -> Result<Metadata> {
        let args = GetAttrIn::default();
        let reply = self.ask(Op::GetAttr, &[args.as_bytes()], size_of::<AttrOut>())?;
        self.take_attributes(&reply, held)
    }

    fn take_attributes(&self, reply: &Reply, held: Option<&WriteGuard<'_>>) -> Result<Metadata> {
        let out: AttrOut = reply.parse()?;
        let meta = convert::metadata(&out.attr)?;
        if meta.kind != self.kind {
            return Err(Errno::ESTALE);
        }
        let answer = Answer {
            meta: &meta,
            until: convert::valid_until(out.attr_valid, out.attr_valid_nsec),
            asked_at: reply.asked_at,
            held,
        };
        self.attributes
            .learn(&answer, self.mapping.get().map(AsRef::as_ref));
        Ok(self.with_own_size(meta))
    }

    /// Attributes with the size that the file has here: an answer can be older than a write.
    fn with_own_size(&self, mut meta: Metadata) -> Metadata {
        if let Ok(mapping) = self.mapping() {
            meta.size = mapping.size_bytes();
        }
        meta
    }

    /// Makes a request about this node.
    pub(super) fn ask(&self, op: Op, args: &[&[u8]], room: usize) -> Result<Reply> {
        self.call(Request::new(op, self.node, args, room))
    }

    /// As [`Self::ask`], for what a server need not know (`ENOSYS`). One that has said so is not asked again.
    pub(super) fn ask_optional(&self, op: Op, args: &[&[u8]], room: usize) -> Result<Reply> {
        self.call_optional(Request::new(op, self.node, args, room))
    }

    /// As [`Self::call`], for what a server need not know.
    pub(super) fn call_optional(&self, request: Request<'_>) -> Result<Reply> {
        let op = request.op;
        self.session.check_known(op)?;
        self.call(request)
            .inspect_err(|errno| self.session.note_answer(op, *errno))
    }

    /// Makes a request about this node that is laid out already.
    pub(super) fn call(&self, request: Request<'_>) -> Result<Reply> {
        let asked_at = self.session.changes();
        let mut reply = self.session.connection.call(request)?;
        reply.asked_at = asked_at;
        Ok(reply)
    }

    /// Makes a request about this node whose answer does not matter.
    pub(super) fn send(&self, op: Op, args: &[&[u8]]) {
        self.session.connection.send(op, self.node, args);
    }
}

impl Drop for FuseInode {
    fn drop(&mut self) {
        // Released before the node it belongs to is forgotten.
        drop(self.fresh.get_mut().take());
        self.session.remove(self);
        self.session.forget(self.node, *self.lookups.get_mut());
    }
}

/// What a call answers of which the server said `errno`: `absent` where it does not know the request.
pub(super) fn without(errno: Errno, absent: Errno) -> Errno {
    if errno == Errno::ENOSYS {
        absent
    } else {
        errno
    }
}

/// `inode` as a node of the same file system.
pub(super) fn fuse_inode(inode: &Arc<dyn Inode>) -> Result<&FuseInode> {
    let any: &dyn Any = inode.as_ref();
    any.downcast_ref().ok_or(Errno::EXDEV)
}

impl Inode for FuseInode {
    fn body(&self) -> &InodeBody {
        &self.body
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn kind(&self) -> FileKind {
        self.kind
    }

    fn metadata(&self) -> Result<Metadata> {
        match self.attributes.fresh() {
            Some(meta) => Ok(self.with_own_size(meta)),
            None => self.refresh(None),
        }
    }

    fn set_attr(&self, change: &SetAttr) -> Result<()> {
        let request = convert::set_attr(change);
        if request.valid == 0 {
            return Ok(());
        }
        let sized = change.size.zip(self.mapping.get());
        let guard = sized.map(|(_, mapping)| mapping.lock_writes());
        let mut reply = self.ask(Op::SetAttr, &[request.as_bytes()], size_of::<AttrOut>())?;
        if let Some((size, mapping)) = sized {
            mapping.set_size(size);
        }
        // What was asked for before tells of the time before; this answer counts unless something else was
        // changed meanwhile.
        let is_current = self.attributes.is_current(reply.asked_at);
        reply.asked_at = self.session.count_change();
        self.attributes.changed(reply.asked_at);
        if is_current {
            self.take_attributes(&reply, guard.as_ref())?;
        }
        Ok(())
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        Ok(self.lookup_node(name)?)
    }

    fn is_current(&self, name: &[u8], child: Option<&Arc<dyn Inode>>) -> bool {
        let child = match child.map(fuse_inode) {
            None => return self.absences.holds(name),
            Some(Err(_)) => return false,
            Some(Ok(child)) => child,
        };
        if sched::clock::monotonic_ns() < child.entry_until.load(Ordering::Relaxed) {
            return true;
        }
        // Looking it up refreshes the very inode when the name still means it.
        self.lookup_node(name)
            .is_ok_and(|found| core::ptr::eq(Arc::as_ptr(&found), child))
    }

    fn create(&self, name: &[u8], new: &NewInode<'_>) -> Result<Arc<dyn Inode>> {
        Ok(self.make_entry(name, new)?)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        self.link_entry(name, fuse_inode(target)?)
    }

    fn unlink(&self, name: &[u8], child: &Arc<dyn Inode>) -> Result<()> {
        self.remove_entry(Op::Unlink, name, child)
    }

    fn rmdir(&self, name: &[u8], child: &Arc<dyn Inode>) -> Result<()> {
        self.remove_entry(Op::RmDir, name, child)
    }

    fn rename(
        &self,
        name: &[u8],
        to: &Arc<dyn Inode>,
        to_name: &[u8],
        mode: RenameMode,
    ) -> Result<()> {
        self.rename_entry(name, fuse_inode(to)?, to_name, mode)
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        if self.kind != FileKind::Symlink {
            return Err(Errno::EINVAL);
        }
        let target = self.ask(Op::ReadLink, &[], LINK_MAX)?.body;
        if target.is_empty() || target.contains(&0) {
            return Err(Errno::EIO);
        }
        Ok(target)
    }

    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        match self.kind {
            FileKind::Directory => directory::open(self),
            FileKind::Regular => file::open(self, flags),
            FileKind::Symlink
            | FileKind::CharDevice
            | FileKind::BlockDevice
            | FileKind::Fifo
            | FileKind::Socket => Err(Errno::ENXIO),
        }
    }

    fn create_unnamed(&self, new: &NewInode<'_>, linkable: bool) -> Result<Arc<dyn Inode>> {
        Ok(self.make_unnamed(new, linkable)?)
    }

    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        if name == CAPABILITY {
            return self.read_capabilities();
        }
        self.read_xattr(Op::GetXattr, &[name, b"\0"])
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        self.store_xattr(name, value, mode)
    }

    fn list_xattrs(&self) -> Result<Vec<u8>> {
        self.read_xattr(Op::ListXattr, &[])
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        self.drop_xattr(name)
    }
}
