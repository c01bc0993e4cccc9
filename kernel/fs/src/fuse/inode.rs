//! A node of the server as an inode of the VFS.
//!
//! Locking: `attributes` is a leaf. No lock is held while the server is asked.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::{Errno, Result};
use machine::sync::SpinLock;
use zerocopy::{FromBytes, IntoBytes};

use super::connection::{Owner, Reply, Request};
use super::pages::Pages;
use super::session::Session;
use super::wire::{
    AttrOut, CreateIn, EntryOut, GetAttrIn, GetXattrIn, GetXattrOut, LinkIn, MkDirIn, MkNodIn, Op,
    OpenOut, ReleaseIn, Rename2In, RenameIn, SetXattrIn,
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
    attributes: SpinLock<Attributes>,
    /// Until when its name is believed, in monotonic nanoseconds.
    entry_until: AtomicU64,
    pub(super) pages: Pages,
    /// A handle open for reading and writing that came with creation, for the open that follows.
    fresh: SpinLock<Option<u64>>,
}

#[derive(Debug)]
struct Attributes {
    meta: Metadata,
    until: u64,
    /// Data was changed from here since `meta` was told: other times are no sign of others' changes.
    changed_here: bool,
    /// Counts changes made here, so that an answer asked for before one is not believed after it.
    changes: u64,
}

impl FuseInode {
    pub(super) fn new(session: Arc<Session>, entry: &EntryOut, meta: &Metadata) -> FuseInode {
        let until = convert::valid_until(entry.attr_valid, entry.attr_valid_nsec);
        let entry_until = convert::valid_until(entry.entry_valid, entry.entry_valid_nsec);
        FuseInode {
            session,
            node: entry.nodeid,
            generation: entry.generation,
            kind: meta.kind,
            body: InodeBody::new(),
            lookups: AtomicU64::new(1),
            attributes: SpinLock::new(Attributes {
                meta: *meta,
                until,
                changed_here: false,
                changes: 0,
            }),
            entry_until: AtomicU64::new(entry_until),
            pages: Pages::new(),
            fresh: SpinLock::new(None),
        }
    }

    /// Whether `entry` means this very file.
    pub(super) fn is_same(&self, entry: &EntryOut, kind: FileKind) -> bool {
        self.node == entry.nodeid && self.generation == entry.generation && self.kind == kind
    }

    /// Takes in what a later entry says of it.
    pub(super) fn learn(&self, entry: &EntryOut, meta: &Metadata) {
        let entry_until = convert::valid_until(entry.entry_valid, entry.entry_valid_nsec);
        self.entry_until.store(entry_until, Ordering::Relaxed);
        let until = convert::valid_until(entry.attr_valid, entry.attr_valid_nsec);
        self.set_attributes(meta, until, None);
    }

    /// Believes `meta`; not when asked for before the change numbered `asked_at`. Pages go when the
    /// file was changed behind our back.
    fn set_attributes(&self, meta: &Metadata, until: u64, asked_at: Option<u64>) {
        let mut known = self.attributes.lock();
        if asked_at.is_some_and(|asked_at| asked_at != known.changes) {
            return;
        }
        let other_time = known.meta.mtime != meta.mtime && !known.changed_here;
        let is_outdated = other_time || known.meta.size != meta.size;
        known.meta = *meta;
        known.until = until;
        known.changed_here = false;
        drop(known);
        if is_outdated && self.kind == FileKind::Regular {
            self.pages.outdated();
        }
    }

    /// Size as last heard, in bytes.
    pub(super) fn known_size(&self) -> u64 {
        self.attributes.lock().meta.size
    }

    /// Bytes were written through up to `end`: the size is at least that, other attributes are stale.
    pub(super) fn wrote(&self, end: u64) {
        let mut known = self.attributes.lock();
        known.meta.size = known.meta.size.max(end);
        known.until = 0;
        known.changed_here = true;
        known.changes += 1;
    }

    /// A read found the file to end at `end`, if it was thought to be longer.
    pub(super) fn ends_at(&self, end: u64) {
        let mut known = self.attributes.lock();
        if known.meta.size > end {
            known.meta.size = end;
            known.until = 0;
        }
    }

    /// The handle that came with creation, when it serves for `flags`.
    pub(super) fn take_fresh_handle(&self, flags: OpenFlags) -> Option<u64> {
        let special = OpenFlags::APPEND | OpenFlags::DSYNC | OpenFlags::SYNC_BIT;
        if flags.intersects(special) {
            None
        } else {
            self.fresh.lock().take()
        }
    }

    fn release_fresh(&self) {
        let fresh = self.fresh.lock().take();
        if let Some(handle) = fresh {
            let arg = ReleaseIn {
                fh: handle,
                flags: O_RDWR,
                ..ReleaseIn::default()
            };
            self.send(Op::Release, &[arg.as_bytes()]);
        }
    }

    /// Attributes must be asked for again.
    pub(super) fn forget_attributes(&self) {
        let mut known = self.attributes.lock();
        known.until = 0;
        known.changes += 1;
    }

    /// Asks the server for the attributes.
    pub(super) fn refresh(&self) -> Result<Metadata> {
        let asked_at = self.attributes.lock().changes;
        let args = GetAttrIn::default();
        let reply = self.ask(Op::GetAttr, &[args.as_bytes()], size_of::<AttrOut>())?;
        self.take_attributes(&reply, Some(asked_at))
    }

    fn take_attributes(&self, reply: &Reply, asked_at: Option<u64>) -> Result<Metadata> {
        let out: AttrOut = reply.parse()?;
        let meta = convert::metadata(&out.attr)?;
        if meta.kind != self.kind {
            return Err(Errno::ESTALE);
        }
        let until = convert::valid_until(out.attr_valid, out.attr_valid_nsec);
        self.set_attributes(&meta, until, asked_at);
        Ok(meta)
    }

    /// Makes a request about this node.
    pub(super) fn ask(&self, op: Op, args: &[&[u8]], room: usize) -> Result<Reply> {
        self.session
            .connection
            .call(Request::new(op, self.node, args, room))
    }

    /// Makes a request about this node whose answer does not matter.
    pub(super) fn send(&self, op: Op, args: &[&[u8]]) {
        self.session
            .connection
            .send(Request::new(op, self.node, args, 0));
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
        let reply = self.session.connection.call(request)?;
        let made = self.take_entry(&reply.parse()?)?;
        let rest = reply.body.get(size_of::<EntryOut>()..).unwrap_or_default();
        let (out, _) = OpenOut::read_from_prefix(rest).map_err(|_| Errno::EIO)?;
        *made.fresh.lock() = Some(out.fh);
        Ok(made)
    }

    /// Makes a request on behalf of `new`'s owner that answers with an entry.
    fn make(&self, op: Op, new: &NewInode<'_>, args: &[&[u8]]) -> Result<EntryOut> {
        let mut request = Request::new(op, self.node, args, size_of::<EntryOut>());
        request.owner = Owner {
            uid: new.uid,
            gid: new.gid,
        };
        self.session.connection.call(request)?.parse()
    }

    fn take_entry(&self, entry: &EntryOut) -> Result<Arc<FuseInode>> {
        if entry.nodeid == 0 {
            return Err(Errno::ENOENT);
        }
        if entry.nodeid == super::wire::ROOT_ID {
            return Err(Errno::EIO);
        }
        self.session.node(entry)
    }

    fn lookup_node(&self, name: &[u8]) -> Result<Arc<FuseInode>> {
        let reply = self.ask(Op::Lookup, &[name, b"\0"], size_of::<EntryOut>())?;
        self.take_entry(&reply.parse()?)
    }

    fn xattr_call(&self, op: Op, name: &[&[u8]]) -> Result<Vec<u8>> {
        // Once for the length, once for the value; a value that grew in between is ERANGE.
        let sized = |size: u32, room: usize| {
            let arg = GetXattrIn { size, padding: 0 };
            let mut args: Vec<&[u8]> = alloc::vec![arg.as_bytes()];
            args.extend(name);
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
        self.release_fresh();
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

    fn kind(&self) -> FileKind {
        self.kind
    }

    fn metadata(&self) -> Result<Metadata> {
        {
            let known = self.attributes.lock();
            if sched::clock::monotonic_ns() < known.until {
                return Ok(known.meta);
            }
        }
        self.refresh()
    }

    fn set_attr(&self, change: &SetAttr) -> Result<()> {
        let request = convert::set_attr(change);
        if request.valid == 0 {
            return Ok(());
        }
        self.forget_attributes();
        let reply = self.ask(Op::SetAttr, &[request.as_bytes()], size_of::<AttrOut>())?;
        if let Some(size) = change.size {
            self.pages.truncated(size);
        }
        self.take_attributes(&reply, None).map(|_| ())
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        Ok(self.lookup_node(name)?)
    }

    fn is_current(&self, name: &[u8], child: Option<&Arc<dyn Inode>>) -> bool {
        let Some(Ok(child)) = child.map(fuse_inode) else {
            return false;
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
        self.forget_attributes();
        let entry = match new.kind {
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
        Ok(self.take_entry(&entry)?)
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
        self.forget_attributes();
        target.forget_attributes();
        // The entry counts as a lookup, also when it is not what was linked.
        self.take_entry(&reply.parse()?).map(|_| ())
    }

    fn unlink(&self, name: &[u8], child: &Arc<dyn Inode>) -> Result<()> {
        self.ask(Op::Unlink, &[name, b"\0"], 0)?;
        self.forget_attributes();
        fuse_inode(child).map(FuseInode::forget_attributes)
    }

    fn rmdir(&self, name: &[u8], child: &Arc<dyn Inode>) -> Result<()> {
        self.ask(Op::RmDir, &[name, b"\0"], 0)?;
        self.forget_attributes();
        fuse_inode(child).map(FuseInode::forget_attributes)
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
        self.forget_attributes();
        to.forget_attributes();
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
        };
        let size = u32::try_from(value.len()).map_err(|_| Errno::E2BIG)?;
        let arg = SetXattrIn { size, flags };
        self.forget_attributes();
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
