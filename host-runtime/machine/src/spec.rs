//! What a machine is made of, and the checks that need no KVM.

use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;
use serde::{Deserialize, Serialize};

use crate::{CgroupLeaf, MachineError};

/// The most virtual CPUs a microVM has.
pub const MAX_CPUS: u32 = 4;
/// The least guest memory the kernel and PID 1 run in, in bytes.
pub const MIN_MEMORY: u64 = 32 << 20;
/// The most guest memory: what the address map leaves room for, in bytes.
pub const MAX_MEMORY: u64 = 256 << 30;
/// The most directories that a machine shares with its guest.
const MAX_SHARES: usize = 1;
/// The most disks of a machine.
pub const MAX_DISKS: usize = 4;
/// The most network devices of a machine.
pub const MAX_NETS: usize = 4;
/// What a disk's size is a multiple of, in bytes.
const SECTOR: u64 = 512;

/// What a microVM is made of.
#[derive(Debug)]
pub struct MachineSpec {
    /// What its CPUs run first.
    pub boot: Boot,
    /// How many virtual CPUs, 1 to [`MAX_CPUS`].
    pub cpus: u32,
    /// Its memory.
    pub memory: Memory,
    /// What it sees of the host's files.
    pub shares: Vec<Share>,
    /// Its networks.
    pub nets: Vec<Net>,
    /// Its disks.
    pub disks: Vec<Disk>,
    /// Where its console log goes.
    pub log: LogTarget,
    /// What runs it.
    pub kind: MachineKind,
    /// The host's cgroup that its processes enter, if there is one.
    pub leaf: Option<CgroupLeaf>,
    /// Count the instructions that its CPUs execute, where they are emulated. It costs the emulation speed, and the CPUs
    /// run one after the other then; their clock advances by the instruction.
    pub counts_instructions: bool,
    /// The program of its process; `None` for the one of [`MachineSpec::kind`] beside the running program.
    pub vmm: Option<PathBuf>,
}

/// What runs a microVM; what runs in the guest cannot tell, but for the speed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MachineKind {
    /// Our VMM, by the host's KVM.
    #[default]
    Kvm,
    /// QEMU, by software emulation.
    Qemu,
}

impl MachineKind {
    /// The one of this name, as users write it; without one, what this host can run, and a line for the user if
    /// that is not what one would expect.
    ///
    /// # Errors
    /// [`MachineError::Kind`] for another name.
    pub fn choose(name: Option<&str>) -> Result<(Self, Option<String>), MachineError> {
        match name {
            Some("kvm") => Ok((Self::Kvm, None)),
            Some("qemu") => Ok((Self::Qemu, None)),
            Some(name) => Err(MachineError::Kind {
                name: name.to_owned(),
            }),
            None => Ok(Self::of_host()),
        }
    }

    /// KVM, unless there is none. One that is there and may not be used is an error that the user can mend, and
    /// is left to the start.
    fn of_host() -> (Self, Option<String>) {
        let missing = match File::options().read(true).write(true).open("/dev/kvm") {
            Ok(_) => return (Self::Kvm, None),
            Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::NOENT) => "is not there",
                Some(Errno::NXIO | Errno::NODEV) => "has nothing behind it",
                _ => return (Self::Kvm, None),
            },
        };
        let notice = format!(
            "/dev/kvm {missing}: the microVM runs by QEMU's software emulation, many times slower"
        );
        (Self::Qemu, Some(notice))
    }

    /// The line for the user when a machine that nobody chose did not run anything, and another does.
    #[must_use]
    pub fn notice_of_change() -> &'static str {
        "this host's KVM cannot run the guest kernel's code: the microVM runs by QEMU's software emulation, \
         many times slower"
    }

    /// The program of its process.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Kvm => "nacre-vmm",
            Self::Qemu => "nacre-qemu",
        }
    }
}

/// The guest's kernel and what it starts from.
#[derive(Debug, Clone)]
pub struct Boot {
    /// The kernel, `kernel.elf`.
    pub kernel: PathBuf,
    /// The archive with PID 1, `initramfs.img`.
    pub initramfs: PathBuf,
    /// Further words for the kernel command line, `KEY=VALUE` becoming PID 1's environment.
    pub cmdline: Vec<String>,
}

/// Guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// How much the guest has at its start, in bytes, at least [`MIN_MEMORY`]; rounded up to 2 MiB.
    pub size: u64,
    /// How much it may ever have, in bytes.
    pub most: u64,
    /// What it is made of on the host.
    pub backing: Backing,
}

impl Memory {
    /// Memory that stays as it is, the VMM's own.
    #[must_use]
    pub fn fixed(bytes: u64) -> Self {
        Self {
            size: bytes,
            most: bytes,
            backing: Backing::Anonymous,
        }
    }
}

/// What guest memory is made of on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backing {
    /// Private pages of the VMM, there once the guest touches them.
    Anonymous,
    /// A file without a name that device back ends in other processes map, too.
    Shared,
}

/// A directory of the host in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The virtio-fs tag that the guest mounts it by.
    pub tag: String,
    /// The directory.
    pub dir: PathBuf,
}

/// A directory of the host beside the one of a [`Share`], attached and detached while the guest runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubTree {
    /// The guest mounts it from the source `TAG/NAME`, of which this is the latter.
    pub name: String,
    /// The directory.
    pub dir: PathBuf,
    /// Whether the host lets the guest read only.
    pub read_only: bool,
}

/// A network device, and what its frames go through.
#[derive(Debug)]
pub struct Net {
    /// What the guest sees of it.
    pub config: NetConfig,
    /// A descriptor of the kind that [`NetConfig::link`] says.
    pub link: OwnedFd,
}

/// A network device as its machine makes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetConfig {
    /// What it is called in messages, like the host's interface.
    pub name: String,
    /// Its hardware address in the guest.
    pub mac: [u8; 6],
    /// The most bytes of a packet.
    pub mtu: u16,
    /// What its frames go through.
    pub link: LinkKind,
    /// The most bytes a second, each way.
    pub rate: Option<u64>,
}

/// What a network device's frames go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkKind {
    /// A tap with IFF_VNET_HDR and IFF_NO_PI, and a header of 12 bytes.
    Tap,
    /// A stream socket with a length of four bytes before each frame, as `passt` speaks it.
    Stream,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// A file with its blocks, a whole number of 512 bytes.
    pub file: PathBuf,
    /// The guest cannot write to it, and others may read it, too.
    pub is_read_only: bool,
}

/// Something that a machine can be given, or lose, while it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attachment {
    /// A directory.
    Share(SubTree),
    /// A network.
    Net(NetConfig),
    /// A disk.
    Disk(Disk),
}

impl Attachment {
    /// What it is, in a sentence.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Share(share) => format!("the directory {}", share.dir.display()),
            Self::Net(net) => format!("the network {}", net.name),
            Self::Disk(disk) => format!("the disk {}", disk.file.display()),
        }
    }
}

/// Where the guest's console log (kernel messages, panics) goes.
#[derive(Debug, Default)]
pub enum LogTarget {
    /// Nowhere; a panic's message is still in the exit reason.
    #[default]
    Discard,
    /// Appended to this file, which is made if it is not there.
    File(PathBuf),
    /// Written to this descriptor.
    Fd(OwnedFd),
}

impl MachineSpec {
    /// On KVM, one CPU, 256 MiB, nothing shared, no log.
    #[must_use]
    pub fn new(kernel: impl Into<PathBuf>, initramfs: impl Into<PathBuf>) -> Self {
        Self {
            boot: Boot {
                kernel: kernel.into(),
                initramfs: initramfs.into(),
                cmdline: Vec::new(),
            },
            cpus: 1,
            memory: Memory::fixed(256 << 20),
            shares: Vec::new(),
            nets: Vec::new(),
            disks: Vec::new(),
            log: LogTarget::Discard,
            kind: MachineKind::Kvm,
            leaf: None,
            counts_instructions: false,
            vmm: None,
        }
    }

    /// Checks the numbers, and that nothing is asked for that no machine has yet; files are checked when they are
    /// opened.
    pub(crate) fn check(&self) -> Result<(), MachineError> {
        if self.cpus == 0 || self.cpus > MAX_CPUS {
            return Err(MachineError::Cpus { cpus: self.cpus });
        }
        let bytes = self.memory.size;
        if !(MIN_MEMORY..=MAX_MEMORY).contains(&bytes) {
            return Err(MachineError::Memory { bytes });
        }
        let words = &self.boot.cmdline;
        if let Some(word) = words.iter().find(|word| !is_word(word)) {
            return Err(MachineError::CommandLineWord { word: word.clone() });
        }
        let unsupported = |what: String| Err(MachineError::Unsupported { what });
        if self.memory.most != bytes {
            return unsupported("memory that grows".to_owned());
        }
        if self.memory.backing != Backing::Anonymous {
            return unsupported("shared guest memory".to_owned());
        }
        if let Some(share) = self.shares.get(MAX_SHARES) {
            return unsupported(format!("a second share ({})", share.tag));
        }
        if let Some(disk) = self.disks.get(MAX_DISKS) {
            let file = disk.file.display();
            return unsupported(format!("more than {MAX_DISKS} disks ({file})"));
        }
        match self.nets.get(MAX_NETS) {
            Some(net) => unsupported(format!(
                "more than {MAX_NETS} networks ({})",
                net.config.name
            )),
            None => Ok(()),
        }
    }
}

/// Whether the kernel would read this as one word, or as one quoted word.
fn is_word(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| (0x20..0x7f).contains(&b))
}

/// Opens a file that must be a regular, non-empty file.
pub(crate) fn open_image(what: &'static str, path: &Path) -> Result<OwnedFd, MachineError> {
    let open = |source| MachineError::Open {
        what,
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(open)?;
    let metadata = file.metadata().map_err(open)?;
    let path = path.to_owned();
    if !metadata.is_file() {
        return Err(MachineError::NotAFile { what, path });
    }
    if metadata.len() == 0 {
        return Err(MachineError::EmptyFile { what, path });
    }
    Ok(file.into())
}

/// Opens a shared directory as a place, without reading it.
pub(crate) fn open_dir(path: &Path) -> Result<OwnedFd, MachineError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::NOTDIR => MachineError::NotADirectory {
            path: path.to_owned(),
        },
        errno => MachineError::Open {
            what: "shared directory",
            path: path.to_owned(),
            source: errno.into(),
        },
    })
}

/// Opens a disk's file as the guest may use it, and keeps other pods from it: one that is written to has no other user.
/// The lock is the open file's, so it lasts as long as any process of the machine does.
pub(crate) fn open_disk(disk: &Disk) -> Result<OwnedFd, MachineError> {
    let path = || disk.file.clone();
    let failed = |source| MachineError::Open {
        what: "disk",
        path: path(),
        source,
    };
    let mut options = OpenOptions::new();
    options.read(true).write(!disk.is_read_only);
    // What is no file is not waited for.
    options.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let file = options.open(&disk.file).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        let (what, path) = ("disk", path());
        return Err(MachineError::NotAFile { what, path });
    }
    let bytes = metadata.len();
    if bytes == 0 || !bytes.is_multiple_of(SECTOR) {
        let path = path();
        return Err(MachineError::DiskSize { path, bytes });
    }
    let lock = match disk.is_read_only {
        true => FlockOperation::NonBlockingLockShared,
        false => FlockOperation::NonBlockingLockExclusive,
    };
    match rustix::fs::flock(&file, lock) {
        Ok(()) => Ok(file.into()),
        Err(Errno::WOULDBLOCK) => Err(MachineError::DiskInUse { path: path() }),
        Err(errno) => Err(failed(errno.into())),
    }
}

/// Opens a directory as a mount of its own that is nowhere, with what is mounted below it: nothing is above that, also
/// for whoever gets hold of the descriptor. Who may not mount has the directory itself.
pub(crate) fn open_sub_tree(path: &Path) -> Result<OwnedFd, MachineError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    // For its errors, and what it may be.
    let directory = open_dir(path)?;
    match rustix::mount::open_tree(&directory, c"", flags | OpenTreeFlags::AT_EMPTY_PATH) {
        Ok(tree) => Ok(tree),
        Err(_) => Ok(directory),
    }
}

/// Opens the console log's target. A FIFO is neither waited for nor waited on: without a reader, or with one that
/// has enough, what is written to it is lost, and the guest goes on.
pub(crate) fn open_log(log: &LogTarget) -> Result<OwnedFd, MachineError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| MachineError::Open {
            what: "console log",
            path,
            source,
        }
    };
    let open = |path: &Path| {
        let is_fifo = path.metadata().is_ok_and(|file| file.file_type().is_fifo());
        let mut options = OpenOptions::new();
        match is_fifo {
            true => options
                .read(true)
                .write(true)
                .custom_flags(OFlags::NONBLOCK.bits().cast_signed()),
            false => options.append(true).create(true),
        };
        options.open(path).map(OwnedFd::from).map_err(failed(path))
    };
    match log {
        LogTarget::Discard => open(Path::new("/dev/null")),
        LogTarget::File(path) => open(path),
        LogTarget::Fd(fd) => fd
            .try_clone()
            .map_err(failed(Path::new("(inherited descriptor)"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_machine_has_is_refused_by_name() {
        let refused = |change: fn(&mut MachineSpec)| {
            let mut spec = MachineSpec::new("k", "i");
            spec.check().expect("the default is right");
            change(&mut spec);
            spec.check().expect_err("unsupported").to_string()
        };
        let share = |tag: &str| Share {
            tag: tag.to_owned(),
            dir: PathBuf::from("/"),
        };
        assert!(refused(|spec| spec.memory.most *= 2).contains("memory that grows"));
        assert!(refused(|spec| spec.memory.backing = Backing::Shared).contains("shared guest"));
        let disks = |spec: &mut MachineSpec| {
            let disk = |number| Disk {
                file: PathBuf::from(format!("/{number}.img")),
                is_read_only: true,
            };
            spec.disks = (0..5).map(disk).collect();
        };
        assert!(refused(disks).contains("more than 4 disks (/4.img)"));
        let nets = |spec: &mut MachineSpec| {
            let net = |number| Net {
                config: NetConfig {
                    name: format!("eth{number}"),
                    mac: [2, 0, 0, 0, 0, number],
                    mtu: 1500,
                    link: LinkKind::Stream,
                    rate: None,
                },
                link: open_dir(Path::new("/")).expect("a descriptor"),
            };
            spec.nets = (0..5).map(net).collect();
        };
        assert!(refused(nets).contains("more than 4 networks (eth4)"));
        let mut spec = MachineSpec::new("k", "i");
        spec.shares = vec![share("a"), share("b")];
        let said = spec.check().expect_err("two shares").to_string();
        assert!(said.contains("a second share (b)"), "{said}");
    }

    #[test]
    fn a_disk_that_is_written_to_has_one_user() {
        let file = std::env::temp_dir().join(format!("nacre-disk-{}", std::process::id()));
        let open = |is_read_only| {
            let file = file.clone();
            open_disk(&Disk { file, is_read_only })
        };
        let refused = |is_read_only| open(is_read_only).expect_err("refused").to_string();
        assert!(refused(false).contains("cannot open the disk"));
        std::fs::write(&file, [0; 700]).expect("room");
        assert!(refused(true).contains("has 700 bytes"));
        std::fs::write(&file, [0; 1024]).expect("room");
        let writer = open(false).expect("nobody else");
        assert!(refused(false).contains("another pod has it"));
        assert!(refused(true).contains("another pod has it"));
        drop(writer);
        let readers = (open(true).expect("free"), open(true).expect("shared"));
        assert!(refused(false).contains("another pod has it"));
        let written = rustix::io::write(&readers.0, &[1]);
        assert_eq!(written, Err(Errno::BADF));
        std::fs::remove_file(&file).expect("still there");
    }

    /// The run used to wait for a reader, and to ignore SIGTERM meanwhile.
    #[test]
    fn a_fifo_without_a_reader_is_not_waited_for() {
        let path = std::env::temp_dir().join(format!("nacre-log-{}", std::process::id()));
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).expect("a FIFO");
        let opened = open_log(&LogTarget::File(path.clone()));
        std::fs::remove_file(&path).expect("still there");
        let fifo = File::from(opened.expect("it does not wait"));
        let written = (0..1000).map(|_| std::io::Write::write(&mut &fifo, &[0; 4096]));
        let full = written.filter_map(Result::err).next().expect("it is full");
        assert_eq!(full.kind(), std::io::ErrorKind::WouldBlock);
    }
}
