//! What one sees of a devpts: the directory, `ptmx`, and the terminals' nodes.
//!
//! Locking: a node's attributes, and the instance's lists, are leaves.

use alloc::sync::{Arc, Weak};

use abi::{Errno, Result};
use collections::{TryCollect, Vec, try_arc, try_format};
use machine::sync::SpinLock;
use memory::io::IoWriter;

use super::{DevPts, FIRST_INO, PTMX_INO};
use crate::file_ops::{DirSink, FileOps, Io, Seek, seek_in};
use crate::flags::OpenFlags;
use crate::inode::{Inode, InodeBody};
use crate::metadata::{DeviceId, FileKind, Metadata, SetAttr, Timestamp};

const ROOT_INO: u64 = 1;

/// A device node's attributes.
pub(super) fn device_node(ino: u64, mode: u32, rdev: DeviceId) -> Metadata {
    let now = Timestamp::now();
    Metadata {
        rdev,
        atime: now,
        mtime: now,
        ctime: now,
        ..Metadata::new(ino, FileKind::CharDevice, mode)
    }
}

/// A device node.
#[derive(Debug)]
pub(super) struct Node {
    meta: SpinLock<Metadata>,
    body: InodeBody,
}

impl Node {
    pub(super) fn new(meta: &Metadata) -> Result<Arc<Node>> {
        Ok(try_arc(Node {
            meta: SpinLock::new(*meta),
            body: InodeBody::new(),
        })?)
    }
}

impl Inode for Node {
    fn body(&self) -> &InodeBody {
        &self.body
    }

    fn kind(&self) -> FileKind {
        FileKind::CharDevice
    }

    fn metadata(&self) -> Result<Metadata> {
        Ok(*self.meta.lock())
    }

    fn set_attr(&self, change: &SetAttr) -> Result<()> {
        apply(&mut self.meta.lock(), change)
    }
}

fn apply(meta: &mut Metadata, change: &SetAttr) -> Result<()> {
    if change.size.is_some() {
        return Err(Errno::EINVAL);
    }
    meta.apply(change);
    Ok(())
}

/// `ptmx` of an instance.
struct Ptmx {
    instance: Weak<DevPts>,
    body: InodeBody,
}

impl Inode for Ptmx {
    fn body(&self) -> &InodeBody {
        &self.body
    }

    fn kind(&self) -> FileKind {
        FileKind::CharDevice
    }

    fn metadata(&self) -> Result<Metadata> {
        self.instance
            .upgrade()
            .map(|instance| *instance.ptmx.lock())
            .ok_or(Errno::ENODEV)
    }

    fn set_attr(&self, change: &SetAttr) -> Result<()> {
        let instance = self.instance.upgrade().ok_or(Errno::ENODEV)?;
        apply(&mut instance.ptmx.lock(), change)
    }
}

/// The directory.
pub(super) struct Root {
    instance: Weak<DevPts>,
    body: InodeBody,
}

impl Root {
    pub(super) fn of(instance: Weak<DevPts>) -> Result<Arc<dyn Inode>> {
        Ok(try_arc(Root {
            instance,
            body: InodeBody::new(),
        })?)
    }

    fn instance(&self) -> Result<Arc<DevPts>> {
        self.instance.upgrade().ok_or(Errno::ENODEV)
    }
}

/// The index that a name is written for, without leading zeroes.
fn index_of(name: &[u8]) -> Option<u32> {
    let is_written = match name {
        [b'0'] => true,
        [first, ..] => (b'1'..=b'9').contains(first),
        [] => false,
    };
    let text = core::str::from_utf8(name).ok().filter(|_| is_written)?;
    text.parse().ok()
}

impl Inode for Root {
    fn body(&self) -> &InodeBody {
        &self.body
    }

    fn kind(&self) -> FileKind {
        FileKind::Directory
    }

    fn metadata(&self) -> Result<Metadata> {
        Ok(Metadata {
            nlink: 2,
            ..Metadata::new(ROOT_INO, FileKind::Directory, 0o755)
        })
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let instance = self.instance()?;
        if name == b"ptmx" {
            return Ok(try_arc(Ptmx {
                instance: self.instance.clone(),
                body: InodeBody::new(),
            })?);
        }
        let index = index_of(name).ok_or(Errno::ENOENT)?;
        let found = instance
            .ptys
            .lock()
            .get(&index)
            .map(|entry| entry.node.clone());
        Ok(found.ok_or(Errno::ENOENT)?)
    }

    fn is_current(&self, name: &[u8], child: Option<&Arc<dyn Inode>>) -> bool {
        if name == b"ptmx" {
            return true;
        }
        let (Ok(now), Some(child)) = (self.lookup(name), child) else {
            return false;
        };
        core::ptr::addr_eq(Arc::as_ptr(&now), Arc::as_ptr(child))
    }

    fn open(self: Arc<Self>, _: OpenFlags) -> Result<Arc<dyn FileOps>> {
        Ok(try_arc(OpenRoot {
            instance: self.instance()?,
        })?)
    }
}

struct OpenRoot {
    instance: Arc<DevPts>,
}

impl FileOps for OpenRoot {
    fn is_seekable(&self) -> bool {
        true
    }

    fn seek(&self, position: u64, to: Seek) -> Result<u64> {
        seek_in(u64::MAX >> 1, position, to)
    }

    fn read(&self, _: &mut IoWriter<'_>, _: &Io) -> Result<usize> {
        Err(Errno::EISDIR)
    }

    fn is_pollable(&self) -> bool {
        false
    }

    fn read_dir(&self, from: u64, sink: &mut dyn DirSink) -> Result<u64> {
        let fixed: [(&[u8], u64, FileKind); 3] = [
            (b".", ROOT_INO, FileKind::Directory),
            (b"..", ROOT_INO, FileKind::Directory),
            (b"ptmx", PTMX_INO, FileKind::CharDevice),
        ];
        let mut at = from;
        for (name, ino, kind) in fixed.into_iter().skip(usize::try_from(from).unwrap_or(3)) {
            if !sink.add(name, ino, kind, at + 1) {
                return Ok(at);
            }
            at += 1;
        }
        // Position 3 + index is that of a terminal.
        let first = u32::try_from(at - 3).unwrap_or(u32::MAX);
        let indices: Vec<u32> = self
            .instance
            .ptys
            .lock()
            .range(first..)
            .map(|(index, _)| *index)
            .try_collect()?;
        for index in indices {
            let (name, number) = (try_format!("{index}")?, u64::from(index));
            if !sink.add(
                name.as_bytes(),
                FIRST_INO + number,
                FileKind::CharDevice,
                number + 4,
            ) {
                return Ok(at);
            }
            at = number + 4;
        }
        Ok(at)
    }
}
