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
use zerocopy::{FromBytes, IntoBytes};

use super::absences::Absences;
use super::attributes::{Answer, Attributes};
use super::connection::{Owner, Reply, Request};
use super::handle::{Handle, Handles};
use super::session::Session;
use super::wire::{
    AttrOut, CreateIn, EntryOut, GetAttrIn, GetXattrIn, GetXattrOut, LinkIn, MkDirIn, MkNodIn, Op,
    OpenOut, Rename2In, RenameIn, SetXattrIn,
};
use super::{convert, directory, file};
use crate::file_ops::FileOps;
use crate::flags::OpenFlags;
use crate::inode::{Inode, InodeBody, NewInode, NewKind, RenameMode, XattrMode};
use crate::metadata::{FileKind, Metadata, SetAttr};

/// The longest path a symbolic link can hold.
const LINK_MAX: usize = 4095;
/// The largest extended attribute, and list of their names (xattr(7)).
const XATTR_MAX: usize = 64 * 1024;
const O_RDWR: u32 = 2;
const O_CREAT: u32 = 0o100;
const O_EXCL: u32 = 0o200;
const RENAME_NOREPLACE: u32 = 1;
const RENAME_EXCHANGE: u32 = 2;

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
    attributes: Attributes,
    /// Until when its name is believed, in monotonic nanoseconds.
    entry_until: AtomicU64,
    /// The pages of a regular file.
    mapping: spin::Once<Arc<Mapping>>,
    pub(super) handles: Handles,
    /// Names that the server says are not in this directory.
    absences: Absences,
    /// A handle open for reading and writing that came with creation, for the open that follows.
    fresh: SpinLock<Option<Arc<Handle>>>,
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
            is_own: false,
            held: None,
        };
        self.attributes
            .learn(&answer, self.mapping.get().map(AsRef::as_ref));
    }

    /// Data was changed here.
    pub(super) fn changed_data(&self) {
        self.attributes.changed(self.session.count_change(), true);
    }

    /// Attributes were changed here and must be asked for again.
    pub(super) fn changed_attributes(&self) {
        self.attributes.changed(self.session.count_change(), false);
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
        self.changed_attributes();
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
        self.take_attributes(&reply, false, held)
    }

    fn take_attributes(
        &self,
        reply: &Reply,
        is_own: bool,
        held: Option<&WriteGuard<'_>>,
    ) -> Result<Metadata> {
        let out: AttrOut = reply.parse()?;
        let meta = convert::metadata(&out.attr)?;
        if meta.kind != self.kind {
            return Err(Errno::ESTALE);
        }
        let answer = Answer {
            meta: &meta,
            until: convert::valid_until(out.attr_valid, out.attr_valid_nsec),
            asked_at: reply.asked_at,
            is_own,
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

    /// Makes and opens a regular file in one request; the handle is kept for the open that follows.
    fn create_open(&self, new: &NewInode<'_>, mode: u32, name: &[u8]) -> Result<Arc<FuseInode>> {
        let flags = O_RDWR | O_CREAT | O_EXCL;
        let arg = CreateIn {
            flags,
            mode,
            umask: 0,
            open_flags: 0,
        };
        let args = [arg.as_bytes(), name, b"\0"];
        let room = size_of::<EntryOut>() + size_of::<OpenOut>();
        let mut request = Request::new(Op::Create, self.node, &args, room);
        request.owner = Owner {
            uid: new.uid,
            gid: new.gid,
        };
        let reply = self.call(request)?;
        let made = self.take_entry(&reply)?;
        let rest = reply.body.get(size_of::<EntryOut>()..).unwrap_or_default();
        let (out, _) = OpenOut::read_from_prefix(rest).map_err(|_| Errno::EIO)?;
        let handle = Handle::of(&made, out, O_RDWR)?;
        let replaced = made.fresh.lock().replace(handle);
        drop(replaced);
        Ok(made)
    }

    /// Makes a request on behalf of `new`'s owner that answers with an entry.
    fn make(&self, op: Op, new: &NewInode<'_>, args: &[&[u8]]) -> Result<Reply> {
        let mut request = Request::new(op, self.node, args, size_of::<EntryOut>());
        request.owner = Owner {
            uid: new.uid,
            gid: new.gid,
        };
        self.call(request)
    }

    /// The inode of the entry that a reply starts with.
    fn take_entry(&self, reply: &Reply) -> Result<Arc<FuseInode>> {
        let entry: EntryOut = reply.parse()?;
        if entry.nodeid == 0 {
            return Err(Errno::ENOENT);
        }
        if entry.nodeid == super::wire::ROOT_ID {
            return Err(Errno::EIO);
        }
        self.session.node(&entry, reply.asked_at)
    }

    fn lookup_node(&self, name: &[u8]) -> Result<Arc<FuseInode>> {
        let reply = self.ask(Op::Lookup, &[name, b"\0"], size_of::<EntryOut>())?;
        let entry: EntryOut = reply.parse()?;
        if entry.nodeid == 0 {
            let until = convert::valid_until(entry.entry_valid, entry.entry_valid_nsec);
            self.absences.note(name, until);
        }
        self.take_entry(&reply)
    }

    fn xattr_call(&self, op: Op, name: &[&[u8]]) -> Result<Vec<u8>> {
        // Once for the length, once for the value; a value that grew in between is ERANGE.
        let sized = |size: u32, room: usize| {
            let arg = GetXattrIn { size, padding: 0 };
            let mut args = Vec::try_from([arg.as_bytes()])?;
            args.try_extend_from_slice(name)?;
            self.ask(op, &args, room).map_err(|errno| match errno {
                Errno::ENOSYS => Errno::EOPNOTSUPP,
                other => other,
            })
        };
        let out: GetXattrOut = sized(0, size_of::<GetXattrOut>())?.parse()?;
        let len = out.size as usize;
        if len == 0 {
            return Ok(Vec::new());
        }
        if len > XATTR_MAX {
            return Err(Errno::E2BIG);
        }
        Ok(sized(out.size, len)?.body)
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

/// `inode` as a node of the same file system.
fn fuse_inode(inode: &Arc<dyn Inode>) -> Result<&FuseInode> {
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
        self.attributes.changed(reply.asked_at, sized.is_some());
        if is_current {
            self.take_attributes(&reply, true, guard.as_ref())?;
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
        let mode = new.mode | new.kind.file_kind().mode_bits();
        let name = [name, b"\0"];
        let node = |rdev| {
            let arg = MkNodIn {
                mode,
                rdev,
                umask: 0,
                padding: 0,
            };
            self.make(Op::MkNod, new, &[arg.as_bytes(), name[0], name[1]])
        };
        self.changed_attributes();
        let reply = match new.kind {
            NewKind::Regular => match self.create_open(new, mode, name[0]) {
                Err(Errno::ENOSYS) => node(0)?,
                made => return Ok(made?),
            },
            NewKind::Fifo | NewKind::Socket => node(0)?,
            NewKind::Device(_, device) => node(convert::rdev(device))?,
            NewKind::Directory => {
                let arg = MkDirIn { mode, umask: 0 };
                self.make(Op::MkDir, new, &[arg.as_bytes(), name[0], name[1]])?
            }
            NewKind::Symlink(target) => {
                self.make(Op::Symlink, new, &[name[0], name[1], target, b"\0"])?
            }
        };
        Ok(self.take_entry(&reply)?)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        let target = fuse_inode(target)?;
        let arg = LinkIn {
            oldnodeid: target.node,
        };
        let reply = self.ask(
            Op::Link,
            &[arg.as_bytes(), name, b"\0"],
            size_of::<EntryOut>(),
        )?;
        self.changed_attributes();
        target.changed_attributes();
        // The entry counts as a lookup, also when it is not what was linked.
        self.take_entry(&reply).map(|_| ())
    }

    fn unlink(&self, name: &[u8], child: &Arc<dyn Inode>) -> Result<()> {
        self.ask(Op::Unlink, &[name, b"\0"], 0)?;
        self.changed_attributes();
        fuse_inode(child).map(FuseInode::changed_attributes)
    }

    fn rmdir(&self, name: &[u8], child: &Arc<dyn Inode>) -> Result<()> {
        self.ask(Op::RmDir, &[name, b"\0"], 0)?;
        self.changed_attributes();
        fuse_inode(child).map(FuseInode::changed_attributes)
    }

    fn rename(
        &self,
        name: &[u8],
        to: &Arc<dyn Inode>,
        to_name: &[u8],
        mode: RenameMode,
    ) -> Result<()> {
        let to = fuse_inode(to)?;
        let names = [name, b"\0", to_name, b"\0"];
        let flags = match mode {
            RenameMode::Replace => 0,
            RenameMode::NoReplace => RENAME_NOREPLACE,
            RenameMode::Exchange => RENAME_EXCHANGE,
        };
        if flags == 0 {
            let arg = RenameIn { newdir: to.node };
            self.ask(
                Op::Rename,
                &[arg.as_bytes(), names[0], names[1], names[2], names[3]],
                0,
            )?;
        } else {
            let arg = Rename2In {
                newdir: to.node,
                flags,
                padding: 0,
            };
            self.ask(
                Op::Rename2,
                &[arg.as_bytes(), names[0], names[1], names[2], names[3]],
                0,
            )
            .map_err(|errno| {
                if errno == Errno::ENOSYS {
                    Errno::EINVAL
                } else {
                    errno
                }
            })?;
        }
        self.changed_attributes();
        to.changed_attributes();
        Ok(())
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

    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        self.xattr_call(Op::GetXattr, &[name, b"\0"])
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        let flags = match mode {
            XattrMode::Either => 0,
            XattrMode::Create => 1,
            XattrMode::Replace => 2,
            XattrMode::Never => 3,
        };
        let size = u32::try_from(value.len()).map_err(|_| Errno::E2BIG)?;
        let arg = SetXattrIn { size, flags };
        self.changed_attributes();
        self.ask(Op::SetXattr, &[arg.as_bytes(), name, b"\0", value], 0)
            .map(|_| ())
            .map_err(|errno| {
                if errno == Errno::ENOSYS {
                    Errno::EOPNOTSUPP
                } else {
                    errno
                }
            })
    }

    fn list_xattrs(&self) -> Result<Vec<u8>> {
        self.xattr_call(Op::ListXattr, &[])
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        self.ask(Op::RemoveXattr, &[name, b"\0"], 0)
            .map(|_| ())
            .map_err(|errno| {
                if errno == Errno::ENOSYS {
                    Errno::EOPNOTSUPP
                } else {
                    errno
                }
            })
    }
}
