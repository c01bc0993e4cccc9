//! sysfs, as little of it as is true: which CPUs there are, and the directories that programs mount on or list.

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::{String, TryFromIterator as _, Vec, try_arc, try_format};
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
/// Between the numbers of a node below one CPU's directory and below the next one's.
const NUMBERS_A_CPU: u64 = 1 << 16;

/// One entry of the tree: its number, its name, what it is.
struct Node {
    ino: u64,
    name: &'static str,
    /// There is one for each CPU, its number behind the name.
    is_each_cpu: bool,
    body: Body,
}

enum Body {
    Directory(&'static [Node]),
    /// Text made when it is read; the argument is the CPU whose directory it is in.
    Text(fn(usize) -> Result<String>),
}

const fn directory(ino: u64, name: &'static str, entries: &'static [Node]) -> Node {
    Node {
        ino,
        name,
        is_each_cpu: false,
        body: Body::Directory(entries),
    }
}

const fn text(ino: u64, name: &'static str, make: fn(usize) -> Result<String>) -> Node {
    Node {
        ino,
        name,
        is_each_cpu: false,
        body: Body::Text(make),
    }
}

/// One package, in which each CPU is a core: what /proc/cpuinfo says, too.
const CPU: Node = Node {
    ino: 30,
    name: "cpu",
    is_each_cpu: true,
    body: Body::Directory(&[directory(
        31,
        "topology",
        &[
            text(32, "core_id", |cpu| Ok(try_format!("{cpu}\n")?)),
            text(33, "physical_package_id", zero),
            text(34, "die_id", zero),
            text(35, "thread_siblings_list", |cpu| {
                Ok(try_format!("{cpu}\n")?)
            }),
            text(36, "thread_siblings", |cpu| mask(&[cpu])),
            text(37, "core_cpus_list", |cpu| Ok(try_format!("{cpu}\n")?)),
            text(38, "core_cpus", |cpu| mask(&[cpu])),
            text(39, "core_siblings_list", cpu_list),
            text(40, "core_siblings", all_cpus),
            text(41, "package_cpus_list", cpu_list),
            text(42, "package_cpus", all_cpus),
        ],
    )]),
};

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
                &[
                    directory(
                        10,
                        "cpu",
                        &[
                            CPU,
                            text(11, "online", cpu_list),
                            text(12, "possible", cpu_list),
                            text(13, "present", cpu_list),
                            text(14, "kernel_max", kernel_max),
                        ],
                    ),
                    // All memory is equally far.
                    directory(
                        20,
                        "node",
                        &[
                            directory(
                                21,
                                "node0",
                                &[
                                    text(22, "cpulist", cpu_list),
                                    text(23, "cpumap", all_cpus),
                                    text(24, "distance", |_| Ok(try_format!("10\n")?)),
                                ],
                            ),
                            text(25, "has_cpu", zero),
                            text(26, "has_memory", zero),
                            text(27, "online", zero),
                            text(28, "possible", zero),
                        ],
                    ),
                ],
            )],
        ),
        directory(15, "firmware", &[]),
        directory(16, "fs", &[directory(17, "cgroup", &[])]),
        directory(18, "kernel", &[]),
        directory(19, "module", &[]),
    ],
);

fn zero(_: usize) -> Result<String> {
    Ok(try_format!("0\n")?)
}

fn cpu_list(_: usize) -> Result<String> {
    Ok(match machine::cpu::count() {
        1 => try_format!("0\n")?,
        count => try_format!("0-{}\n", count - 1)?,
    })
}

fn all_cpus(_: usize) -> Result<String> {
    let all = Vec::try_from_iterator(0..machine::cpu::count())?;
    mask(&all)
}

/// CPUs as a mask of hexadecimal words of 32, the highest first.
fn mask(cpus: &[usize]) -> Result<String> {
    let words = machine::cpu::count().div_ceil(32);
    let mut text = String::new();
    for word in (0..words).rev() {
        let of_word = cpus.iter().filter(|cpu| **cpu / 32 == word);
        let bits = of_word.fold(0_u32, |bits, cpu| bits | 1 << (cpu % 32));
        let end = if word == 0 { "\n" } else { "," };
        // The digits that its CPUs need in the first word, eight in the others.
        let count = machine::cpu::count() - word * 32;
        let width = count.min(32).div_ceil(4);
        text.try_push_str(&try_format!("{bits:0width$x}{end}")?)?;
    }
    Ok(text)
}

fn kernel_max(_: usize) -> Result<String> {
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
        Ok(try_arc(SysInode::new(&ROOT, 0, ROOT.ino))?)
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

/// A node below some CPU's directory (or none: 0), and the number of the directory it is in.
struct SysInode {
    node: &'static Node,
    cpu: usize,
    parent: u64,
    body: InodeBody,
}

impl SysInode {
    const fn new(node: &'static Node, cpu: usize, parent: u64) -> Self {
        Self {
            node,
            cpu,
            parent,
            body: InodeBody::new(),
        }
    }

    fn ino(&self) -> u64 {
        number(self.node, self.cpu)
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

fn number(node: &Node, cpu: usize) -> u64 {
    node.ino + cpu as u64 * NUMBERS_A_CPU
}

fn kind(node: &Node) -> FileKind {
    match node.body {
        Body::Directory(_) => FileKind::Directory,
        Body::Text(_) => FileKind::Regular,
    }
}

fn name(node: &Node, cpu: usize) -> Result<String> {
    Ok(if node.is_each_cpu {
        try_format!("{}{cpu}", node.name)?
    } else {
        try_format!("{}", node.name)?
    })
}

impl Inode for SysInode {
    fn body(&self) -> &InodeBody {
        &self.body
    }

    fn kind(&self) -> FileKind {
        kind(self.node)
    }

    fn metadata(&self) -> Result<Metadata> {
        Ok(match self.node.body {
            Body::Directory(_) => {
                let entries = self.entries()?;
                let inner = entries.filter(|(node, _)| kind(node) == FileKind::Directory);
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
            if name(node, cpu)?.as_bytes() == wanted {
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
            let name = name(node, cpu)?;
            if !sink.add(name.as_bytes(), number(node, cpu), kind(node), position + 1) {
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

    fn numbers(node: &Node, all: &mut std::vec::Vec<u64>) {
        all.push(node.ino);
        if let Body::Directory(entries) = node.body {
            for entry in entries {
                numbers(entry, all);
            }
        }
    }

    #[test]
    fn every_node_has_a_number_of_its_own() {
        let mut all = std::vec::Vec::new();
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

    struct Names(std::vec::Vec<std::string::String>);

    impl DirSink for Names {
        fn add(&mut self, name: &[u8], _: u64, _: FileKind, _: u64) -> bool {
            self.0
                .push(std::string::String::from_utf8_lossy(name).into_owned());
            true
        }
    }

    #[test]
    fn each_cpu_has_a_directory() {
        let mut at: Arc<dyn Inode> = SysFs.root().unwrap();
        for name in ["devices", "system", "cpu"] {
            at = at.lookup(name.as_bytes()).unwrap();
        }
        let mut names = Names(std::vec::Vec::new());
        let open = at.clone().open(OpenFlags::DIRECTORY).unwrap();
        let end = open.read_dir(0, &mut names).unwrap();
        assert_eq!(open.read_dir(end, &mut names), Ok(end));
        let cpus = machine::cpu::count();
        assert_eq!(names.0.len(), 2 + cpus + 4, "{:?}", names.0);
        for cpu in 0..cpus {
            assert!(names.0.contains(&std::format!("cpu{cpu}")));
        }
        assert!(at.lookup(std::format!("cpu{cpus}").as_bytes()).is_err());
        let file = at.lookup(b"cpu0").unwrap().lookup(b"topology").unwrap();
        let file = file.lookup(b"thread_siblings").unwrap();
        let mut bytes = [0; 64];
        let count = file
            .open(OpenFlags::empty())
            .unwrap()
            .read(&mut IoWriter::kernel(&mut bytes), &Io::default())
            .unwrap();
        let text = std::string::String::from_utf8_lossy(&bytes[..count]).replace(',', "");
        assert_eq!(u128::from_str_radix(text.trim(), 16), Ok(1));
    }
}
