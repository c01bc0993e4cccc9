//! A [`Node`] of /proc as an inode: what file systems ask of it. [`open`](super::open) has its open files.

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::{Vec, try_arc};
use fs::{FileKind, FileOps, Inode, InodeBody, Link, Metadata, OpenFlags, SetAttr, Timestamp};

use super::item::Content;
use super::node::{Node, make, parse_number};
use super::open::{OpenFile, OpenFolder};

impl Inode for Node {
    /// Nobody makes files here. As on Linux the failed lookup is the answer.
    fn create(&self, _name: &[u8], _new: &fs::NewInode<'_>) -> Result<Arc<dyn Inode>> {
        Err(Errno::ENOENT)
    }

    fn body(&self) -> &InodeBody {
        &self.body
    }

    fn kind(&self) -> FileKind {
        self.item.kind()
    }

    fn metadata(&self) -> Result<Metadata> {
        let kind = self.item.kind();
        let (uid, gid) = self
            .scope
            .owner(kind == FileKind::Directory && self.item.mode == 0o555);
        let of_descriptor = match self.item.content {
            Content::Descriptor(_, _, mode) => mode(&self.scope),
            _ => None,
        };
        let mode = of_descriptor.unwrap_or(self.item.mode);
        let now = Timestamp::now();
        Ok(Metadata {
            uid,
            gid,
            nlink: self.link_count(),
            block_size: 1024,
            atime: now,
            mtime: now,
            ctime: now,
            ..Metadata::new(self.ino(), kind, mode)
        })
    }

    fn set_attr(&self, change: &SetAttr) -> Result<()> {
        // Truncation on opening is how shells write to sysctls.
        let only_size = SetAttr {
            size: change.size,
            mtime: change.mtime,
            ctime: change.ctime,
            ..SetAttr::default()
        };
        if *change == only_size {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        if !self.scope.is_alive() {
            return Err(Errno::ESRCH);
        }
        let (item, scope) = self.find(name).ok_or(Errno::ENOENT)?;
        if item.is_process_folder(&scope)
            && let Some(number) = parse_number(name)
        {
            scope.note_name(number)?;
        }
        Ok(Node::new(item, scope)?)
    }

    fn is_current(&self, _: &[u8], child: Option<&Arc<dyn Inode>>) -> bool {
        let Some(child) = child else {
            return false;
        };
        let any: &dyn core::any::Any = child.as_ref();
        any.downcast_ref::<Node>()
            .is_some_and(|node| node.scope.is_alive())
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        match self.item.content {
            Content::Text(shown) | Content::Link(shown, _) | Content::Descriptor(shown, ..) => {
                make(shown, &self.scope)?.into_bytes()
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn follow(&self) -> Result<Link> {
        match self.item.content {
            Content::Text(text) => make(text, &self.scope)?.into_bytes().map(Link::Target),
            Content::Link(_, leads) | Content::Descriptor(_, leads, _) => leads(&self.scope),
            _ => Err(Errno::EINVAL),
        }
    }

    fn open(self: Arc<Self>, _: OpenFlags) -> Result<Arc<dyn FileOps>> {
        match self.item.content {
            Content::Folder(_) | Content::Dynamic(..) => Ok(try_arc(OpenFolder(self))?),
            Content::File(_) | Content::Writable(..) => Ok(OpenFile::new(self, None)?),
            Content::Mounts(_) => {
                let namespace = self.scope.mount_context()?.namespace();
                Ok(OpenFile::new(self, Some(namespace))?)
            }
            Content::Special(open) => open(&self.scope),
            Content::Text(_) | Content::Link(..) | Content::Descriptor(..) => Err(Errno::ELOOP),
        }
    }
}
