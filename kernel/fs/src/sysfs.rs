//! sysfs, as little of it as is true: which CPUs there are, and the directories that programs mount on or list.

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::{String, try_arc, try_format};
use machine::sync::SpinLock;
use memory::io::IoWriter;

use crate::file_ops::{DirSink, FileOps, Io, Seek, seek_in};
use crate::file_system::{FileSystem, FileSystemType, FsFlags, MountRequest, SuperBlock};
use crate::flags::OpenFlags;
use crate::inode::{Inode, InodeBody};
use crate::metadata::{FileKind, Metadata, StatFs};

/// `SYSFS_MAGIC` of statfs(2).
const SYSFS_MAGIC: u64 = 0x6265_6572;
/// What sysfs says the size of every file is.
const FILE_SIZE: u64 = 4096;

/// One entry of the tree: its number, its name, what it is.
struct Node {
    ino: u64,
    name: &'static str,
    body: Body,
}

enum Body {
    Directory(&'static [Node]),
    /// Text made when it is read.
    Text(fn() -> Result<String>),
}

const fn directory(ino: u64, name: &'static str, entries: &'static [Node]) -> Node {
    Node {
        ino,
        name,
        body: Body::Directory(entries),
    }
}

const fn text(ino: u64, name: &'static str, make: fn() -> Result<String>) -> Node {
    Node {
        ino,
        name,
        body: Body::Text(make),
    }
}

static ROOT: Node = directory(
    1,
    "",
    &[
        directory(2, "block", &[]),
        directory(3, "bus", &[]),
        directory(4, "class", &[]),
        directory(
            5,
            "dev",
            &[directory(6, "block", &[]), directory(7, "char", &[])],
        ),
        directory(
            8,
            "devices",
            &[directory(
                9,
                "system",
                &[directory(
                    10,
                    "cpu",
                    &[
                        text(11, "online", cpu_list),
                        text(12, "possible", cpu_list),
                        text(13, "present", cpu_list),
                        text(14, "kernel_max", kernel_max),
                    ],
                )],
            )],
        ),
        directory(15, "firmware", &[]),
        directory(16, "fs", &[directory(17, "cgroup", &[])]),
        directory(18, "kernel", &[]),
        directory(19, "module", &[]),
    ],
);

fn cpu_list() -> Result<String> {
    Ok(match machine::cpu::count() {
        1 => try_format!("0\n")?,
        count => try_format!("0-{}\n", count - 1)?,
    })
}

fn kernel_max() -> Result<String> {
    Ok(try_format!("{}\n", machine::cpu::MAX_CPUS - 1)?)
}

/// The type behind `mount -t sysfs`; there is one instance.
#[derive(Debug)]
pub struct SysFsType;

static INSTANCE: SpinLock<Option<Arc<SuperBlock>>> = SpinLock::new(None);

impl FileSystemType for SysFsType {
    fn name(&self) -> &'static str {
        "sysfs"
    }

    fn mount(&self, request: &MountRequest<'_>) -> Result<Arc<SuperBlock>> {
        if request.options().next().is_some() {
            return Err(Errno::EINVAL);
        }
        let new = SuperBlock::new(try_arc(SysFs)?)?;
        Ok(INSTANCE.lock().get_or_insert(new).clone())
    }
}

#[derive(Debug)]
struct SysFs;

impl FileSystem for SysFs {
    fn name(&self) -> &'static str {
        "sysfs"
    }

    fn root(&self) -> Result<Arc<dyn Inode>> {
        Ok(try_arc(SysInode::new(&ROOT, ROOT.ino))?)
    }

    fn flags(&self) -> FsFlags {
        FsFlags::NODEV
    }

    fn statfs(&self) -> Result<StatFs> {
        Ok(StatFs {
            magic: SYSFS_MAGIC,
            block_size: 4096,
            name_max: 255,
            ..StatFs::default()
        })
    }
}

/// A node, and the number of the directory it is in.
struct SysInode(&'static Node, u64, InodeBody);

impl SysInode {
    const fn new(node: &'static Node, parent: u64) -> Self {
        Self(node, parent, InodeBody::new())
    }

    fn entries(&self) -> Result<&'static [Node]> {
        match self.0.body {
            Body::Directory(entries) => Ok(entries),
            Body::Text(_) => Err(Errno::ENOTDIR),
        }
    }
}

fn kind(node: &Node) -> FileKind {
    match node.body {
        Body::Directory(_) => FileKind::Directory,
        Body::Text(_) => FileKind::Regular,
    }
}

impl Inode for SysInode {
    fn body(&self) -> &InodeBody {
        &self.2
    }

    fn kind(&self) -> FileKind {
        kind(self.0)
    }

    fn metadata(&self) -> Result<Metadata> {
        Ok(match self.0.body {
            Body::Directory(entries) => {
                let inner = entries
                    .iter()
                    .filter(|node| kind(node) == FileKind::Directory)
                    .count();
                let nlink = u32::try_from(2 + inner).unwrap_or(u32::MAX);
                Metadata {
                    nlink,
                    ..Metadata::new(self.0.ino, FileKind::Directory, 0o755)
                }
            }
            Body::Text(_) => Metadata {
                size: FILE_SIZE,
                ..Metadata::new(self.0.ino, FileKind::Regular, 0o444)
            },
        })
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let found = self
            .entries()?
            .iter()
            .find(|node| node.name.as_bytes() == name);
        let node = found.ok_or(Errno::ENOENT)?;
        Ok(try_arc(SysInode::new(node, self.0.ino))?)
    }

    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        match self.0.body {
            Body::Directory(_) => Ok(self),
            Body::Text(_) if flags.is_writable() => Err(Errno::EACCES),
            Body::Text(make) => Ok(try_arc(SysText(make()?))?),
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
        let special = [(".", self.0.ino), ("..", self.1)];
        let special = special
            .iter()
            .map(|(name, ino)| (*name, *ino, FileKind::Directory));
        let entries = self
            .entries()?
            .iter()
            .map(|node| (node.name, node.ino, kind(node)));
        let mut position = from;
        let skipped = usize::try_from(from).unwrap_or(usize::MAX);
        for (name, ino, kind) in special.chain(entries).skip(skipped) {
            if !sink.add(name.as_bytes(), ino, kind, position + 1) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(node: &Node, all: &mut Vec<u64>) {
        all.push(node.ino);
        if let Body::Directory(entries) = node.body {
            for entry in entries {
                numbers(entry, all);
            }
        }
    }

    #[test]
    fn every_node_has_a_number_of_its_own() {
        let mut all = Vec::new();
        numbers(&ROOT, &mut all);
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn the_cpus_are_listed() {
        let root: Arc<dyn Inode> = SysFs.root().unwrap();
        let mut at = root;
        for name in ["devices", "system", "cpu", "online"] {
            at = at.lookup(name.as_bytes()).unwrap();
        }
        let file = at.open(OpenFlags::empty()).unwrap();
        let mut bytes = [0; 16];
        let count = file
            .read(&mut IoWriter::kernel(&mut bytes), &Io::default())
            .unwrap();
        assert!(bytes[..count].starts_with(b"0") && bytes[..count].ends_with(b"\n"));
    }
}
