//! Names in a directory of the server's: looked up, made, linked, moved and removed.
//!
//! What an answer says of an inode is taken in by [`Session::node`](super::session::Session::node), which also counts
//! the reference that the server has given with it.

use alloc::sync::Arc;

use abi::{Errno, Result};
use memory::pressure::settled;
use zerocopy::{FromBytes, IntoBytes};

use super::convert;
use super::handle::Handle;
use super::inode::{FuseInode, fuse_inode, without};
use super::message::{Owner, Reply, Request};
use super::wire::{
    CreateIn, EntryOut, LinkIn, MkDirIn, MkNodIn, Op, OpenOut, ROOT_ID, Rename2In, RenameIn,
};
use crate::inode::{Inode, NewInode, NewKind, RenameMode};

const O_RDWR: u32 = 2;
const O_CREAT: u32 = 0o100;
const O_EXCL: u32 = 0o200;
const O_TMPFILE: u32 = 0o20_200_000;
const RENAME_NOREPLACE: u32 = 1;
const RENAME_EXCHANGE: u32 = 2;

impl FuseInode {
    /// The inode of `name` here; that it is not here is noted, if the server lets it be believed.
    pub(super) fn lookup_node(&self, name: &[u8]) -> Result<Arc<FuseInode>> {
        let reply = self.ask(Op::Lookup, &[name, b"\0"], size_of::<EntryOut>())?;
        let entry: EntryOut = reply.parse()?;
        if entry.nodeid == 0 {
            let until = convert::valid_until(entry.entry_valid, entry.entry_valid_nsec);
            self.absences.note(name, until);
        }
        self.take_entry(&reply)
    }

    /// Makes `name`.
    pub(super) fn make_entry(&self, name: &[u8], new: &NewInode<'_>) -> Result<Arc<FuseInode>> {
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
        self.changed();
        let reply = match new.kind {
            NewKind::Regular => match self.create_open(new, mode, name[0]) {
                Err(Errno::ENOSYS) => node(0)?,
                made => return made,
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
        settled(self.take_entry(&reply))
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
        let reply = self.call_optional(request)?;
        // From here on the file is there.
        settled(self.take_open_entry(&reply))
    }

    /// Makes and opens a regular file without a name (`O_TMPFILE`).
    pub(super) fn make_unnamed(
        &self,
        new: &NewInode<'_>,
        linkable: bool,
    ) -> Result<Arc<FuseInode>> {
        let exclusive = if linkable { 0 } else { O_EXCL };
        let arg = CreateIn {
            flags: O_RDWR | O_TMPFILE | exclusive,
            mode: new.mode | new.kind.file_kind().mode_bits(),
            umask: 0,
            open_flags: 0,
        };
        // Linux sends a name, too, which means nothing.
        let args = [arg.as_bytes(), b"\0"];
        let room = size_of::<EntryOut>() + size_of::<OpenOut>();
        let mut request = Request::new(Op::TmpFile, self.node, &args, room);
        request.owner = Owner {
            uid: new.uid,
            gid: new.gid,
        };
        let reply = self
            .call_optional(request)
            .map_err(|errno| without(errno, Errno::EOPNOTSUPP))?;
        self.take_open_entry(&reply)
    }

    /// The inode of an entry that was made and is open; the handle is kept for the open that follows.
    fn take_open_entry(&self, reply: &Reply) -> Result<Arc<FuseInode>> {
        // The server has given a reference and a handle; the inode gives back the first, the handle the second.
        let made = self.take_entry(reply)?;
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
        // The root is nobody's entry: a directory that contains it would be a loop.
        if entry.nodeid == ROOT_ID || entry.nodeid == self.session.root_node {
            return Err(Errno::EIO);
        }
        self.session.node(&entry, reply.asked_at)
    }

    /// Gives `target` the further name `name` here.
    pub(super) fn link_entry(&self, name: &[u8], target: &FuseInode) -> Result<()> {
        let arg = LinkIn {
            oldnodeid: target.node,
        };
        let reply = self.ask(
            Op::Link,
            &[arg.as_bytes(), name, b"\0"],
            size_of::<EntryOut>(),
        )?;
        self.changed();
        target.changed();
        // The entry counts as a lookup, also when it is not what was linked.
        settled(self.take_entry(&reply)).map(|_| ())
    }

    /// Takes `name` away by UNLINK or RMDIR.
    pub(super) fn remove_entry(&self, op: Op, name: &[u8], child: &Arc<dyn Inode>) -> Result<()> {
        self.ask(op, &[name, b"\0"], 0)?;
        self.changed();
        fuse_inode(child).map(FuseInode::changed)
    }

    /// Moves `name` to `to_name` in `to`.
    pub(super) fn rename_entry(
        &self,
        name: &[u8],
        to: &FuseInode,
        to_name: &[u8],
        mode: RenameMode,
    ) -> Result<()> {
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
            self.ask_optional(
                Op::Rename2,
                &[arg.as_bytes(), names[0], names[1], names[2], names[3]],
                0,
            )
            .map_err(|errno| without(errno, Errno::EINVAL))?;
        }
        self.changed();
        to.changed();
        Ok(())
    }
}
