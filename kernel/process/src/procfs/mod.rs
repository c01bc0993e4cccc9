//! /proc: processes and the system as files.
//!
//! The tree is data: tables of [`item::Item`]s say what there is and which function makes its text. With its
//! [`scope::Scope`] (which process, thread or descriptor) an item is a [`node::Node`], which is an [`inode`]. Text
//! is made when a file is opened, so that one reader sees one state.

mod descriptors;
mod inode;
mod item;
mod limits;
mod maps;
mod mem;
mod mounts;
mod namespaces;
mod network;
mod node;
mod open;
mod pid;
mod root;
mod scheduling;
mod scope;
mod seccomp;
mod smaps;
mod stat;
mod status;
mod sysctl;
mod system;
mod sysvipc;
#[cfg(test)]
mod tests;
pub(crate) mod text;

use alloc::sync::{Arc, Weak};

use abi::Result;
use collections::{String, Vec, try_arc, try_format};
use fs::{FileSystem, FileSystemType, FsFlags, Inode, MountRequest, StatFs, SuperBlock};
use machine::sync::SpinLock;

use crate::task::proc_names::{self, FolderName};
use crate::task::thread;

static COMMAND_LINE: SpinLock<String> = SpinLock::new(String::new());

/// Makes `proc` known to mount(2); `command_line` is the kernel's. Once, at start-up.
///
/// # Errors
/// `ENOMEM`.
pub fn init(command_line: &str) -> Result<()> {
    *COMMAND_LINE.lock() = String::try_from_str(command_line)?;
    proc_names::set_forget(forget);
    fs::register(try_arc(ProcFsType)?)
}

/// The process that a descriptor of /proc/PID means, for calls that take one in place of a pidfd.
///
/// # Errors
/// `EBADF` for another descriptor, `ESRCH` when the process was waited for.
pub fn process_of(file: &fs::File) -> Result<Arc<crate::task::process::Process>> {
    open::process_of(file)
}

/// A /proc that is mounted somewhere, and the PID namespace that it shows ([`PidNamespace::ino`]).
///
/// [`PidNamespace::ino`]: crate::task::pid_namespace::PidNamespace::ino
struct Mounted {
    namespace: Option<u32>,
    super_block: Weak<SuperBlock>,
}

static MOUNTED: SpinLock<Vec<Mounted>> = SpinLock::new(Vec::new());

/// Forgets what is known below these names, whose process was waited for. Without memory some of it is found to be out of
/// date later.
fn forget(names: &[FolderName]) {
    for (namespace, number) in names {
        let Ok(name) = try_format!("{number}") else {
            return;
        };
        let mut next = 0;
        while let Some((at, super_block)) = mounted_from(next, *namespace) {
            super_block.forget(name.as_bytes());
            next = at + 1;
        }
    }
}

/// The first /proc of a namespace in the list from `first` on.
fn mounted_from(first: usize, namespace: Option<u32>) -> Option<(usize, Arc<SuperBlock>)> {
    let all = MOUNTED.lock();
    let mut rest = all.iter().enumerate().skip(first);
    rest.find_map(|(at, it)| {
        let found = (it.namespace == namespace).then(|| it.super_block.upgrade());
        found.flatten().map(|found| (at, found))
    })
}

struct ProcFsType;

impl FileSystemType for ProcFsType {
    fn name(&self) -> &'static str {
        "proc"
    }

    fn mount(&self, _: &MountRequest<'_>) -> Result<Arc<SuperBlock>> {
        let caller = thread::current();
        // As on Linux: that of the processes the mounter makes.
        let namespace = caller.map(|caller| caller.children_namespace());
        let namespace = namespace.unwrap_or_default();
        let mounted = SuperBlock::new(try_arc(ProcFs {
            root: root::inode(namespace.clone())?,
        })?)?;
        let mut all = MOUNTED.lock();
        all.retain(|other| other.super_block.strong_count() > 0);
        all.try_push(Mounted {
            namespace: namespace.ino(),
            super_block: Arc::downgrade(&mounted),
        })?;
        Ok(mounted)
    }
}

/// One mounted /proc: it shows the processes that its mounter's PID namespace sees, by their numbers there.
struct ProcFs {
    root: Arc<dyn Inode>,
}

impl FileSystem for ProcFs {
    fn name(&self) -> &'static str {
        "proc"
    }

    fn root(&self) -> Result<Arc<dyn Inode>> {
        Ok(self.root.clone())
    }

    fn flags(&self) -> FsFlags {
        FsFlags::REVALIDATE | FsFlags::NO_NEGATIVE | FsFlags::NODEV
    }

    fn statfs(&self) -> Result<StatFs> {
        const PROC_SUPER_MAGIC: u64 = 0x9fa0;
        Ok(StatFs {
            magic: PROC_SUPER_MAGIC,
            block_size: 4096,
            name_max: 255,
            ..StatFs::default()
        })
    }
}
