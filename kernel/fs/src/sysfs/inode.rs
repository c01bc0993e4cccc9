//! Nodes of the tree as inodes, and their open files.

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::{String, try_arc};
use memory::io::IoWriter;

use super::tree::{Body, Node};
use crate::file_ops::{DirSink, FileOps, Io, Seek, seek_in};
use crate::flags::OpenFlags;
use crate::inode::{Inode, InodeBody};
use crate::metadata::{FileKind, Metadata};

/// What sysfs says the size of every file is.
const FILE_SIZE: u64 = 4096;

/// A node below some CPU's directory (or none: 0), and the number of the directory it is in.
pub(super) struct SysInode {
    node: &'static Node,
    cpu: usize,
    parent: u64,
    body: InodeBody,
}

impl SysInode {
    pub(super) const fn new(node: &'static Node, cpu: usize, parent: u64) -> Self {
        Self {
            node,
            cpu,
            parent,
            body: InodeBody::new(),
        }
    }

    fn ino(&self) -> u64 {
        self.node.number(self.cpu)
    }

    /// What is in the directory: nodes, and the CPU that each is of.
    fn entries(&self) -> Result<impl Iterator<Item = (&'static Node, usize)>> {
        let Body::Directory(entries) = self.node.body else {
            return Err(Errno::ENOTDIR);
        };
        let own = self.cpu;
        Ok(entries.iter().flat_map(move |node| {
            let cpus = if node.is_each_cpu {
                0..machine::cpu::count()
            } else {
                own..own + 1
            };
            cpus.map(move |cpu| (node, cpu))
        }))
    }
}

impl Inode for SysInode {
    fn body(&self) -> &InodeBody {
        &self.body
    }

    fn kind(&self) -> FileKind {
        self.node.kind()
    }

    fn metadata(&self) -> Result<Metadata> {
        Ok(match self.node.body {
            Body::Directory(_) => {
                let entries = self.entries()?;
                let inner = entries.filter(|(node, _)| node.kind() == FileKind::Directory);
                let nlink = u32::try_from(2 + inner.count()).unwrap_or(u32::MAX);
                Metadata {
                    nlink,
                    ..Metadata::new(self.ino(), FileKind::Directory, 0o755)
                }
            }
            Body::Text(_) => Metadata {
                size: FILE_SIZE,
                ..Metadata::new(self.ino(), FileKind::Regular, 0o444)
            },
        })
    }

    fn lookup(&self, wanted: &[u8]) -> Result<Arc<dyn Inode>> {
        for (node, cpu) in self.entries()? {
            if node.name(cpu)?.as_bytes() == wanted {
                return Ok(try_arc(SysInode::new(node, cpu, self.ino()))?);
            }
        }
        Err(Errno::ENOENT)
    }

    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        match self.node.body {
            Body::Directory(_) => Ok(self),
            Body::Text(_) if flags.is_writable() => Err(Errno::EACCES),
            Body::Text(make) => Ok(try_arc(SysText(make(self.cpu)?))?),
        }
    }
}

impl FileOps for SysInode {
    fn read(&self, _: &mut IoWriter<'_>, _: &Io) -> Result<usize> {
        Err(Errno::EISDIR)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn seek(&self, position: u64, to: Seek) -> Result<u64> {
        seek_in(0, position, to)
    }

    fn is_pollable(&self) -> bool {
        false
    }

    fn read_dir(&self, from: u64, sink: &mut dyn DirSink) -> Result<u64> {
        let mut position = from;
        for (dots, ino) in [(".", self.ino()), ("..", self.parent)]
            .into_iter()
            .skip(usize::try_from(from).unwrap_or(usize::MAX))
        {
            if !sink.add(dots.as_bytes(), ino, FileKind::Directory, position + 1) {
                return Ok(position);
            }
            position += 1;
        }
        let skipped = usize::try_from(position - 2).unwrap_or(usize::MAX);
        for (node, cpu) in self.entries()?.skip(skipped) {
            let name = node.name(cpu)?;
            if !sink.add(name.as_bytes(), node.number(cpu), node.kind(), position + 1) {
                break;
            }
            position += 1;
        }
        Ok(position)
    }

    fn sync(&self, _: bool) -> Result<()> {
        Ok(())
    }
}

/// An open file: its text as it was when it was opened.
#[derive(Debug)]
struct SysText(String);

impl FileOps for SysText {
    fn read(&self, to: &mut IoWriter<'_>, io: &Io) -> Result<usize> {
        let start = usize::try_from(io.offset)
            .unwrap_or(usize::MAX)
            .min(self.0.len());
        to.write(&self.0.as_bytes()[start..])
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn seek(&self, position: u64, to: Seek) -> Result<u64> {
        seek_in(FILE_SIZE, position, to)
    }

    fn sync(&self, _: bool) -> Result<()> {
        Ok(())
    }
}
