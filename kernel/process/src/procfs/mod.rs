//! /proc: processes and the system as files.
//!
//! The tree is data: tables of [`node::Item`]s say what there is and which function makes its text.
//! [`node`] turns an item with its [`scope::Scope`] (which process, thread or descriptor) into an
//! inode. Text is made when a file is opened, so that one reader sees one state.

mod descriptors;
mod limits;
mod maps;
mod mem;
mod mounts;
mod namespaces;
mod node;
mod open;
mod pid;
mod root;
mod scheduling;
mod scope;
mod smaps;
mod stat;
mod status;
mod sysctl;
mod system;
#[cfg(test)]
mod tests;
mod text;

use alloc::sync::Arc;

use abi::Result;
use collections::{String, try_arc};
use fs::{FileSystem, FileSystemType, FsFlags, Inode, MountRequest, StatFs, SuperBlock};
use machine::sync::SpinLock;

use crate::thread;

static COMMAND_LINE: SpinLock<String> = SpinLock::new(String::new());

/// Makes `proc` known to mount(2); `command_line` is the kernel's. Once, at start-up.
///
/// # Errors
/// `ENOMEM`.
pub fn init(command_line: &str) -> Result<()> {
    *COMMAND_LINE.lock() = String::try_from_str(command_line)?;
    fs::register(try_arc(ProcFsType)?)
}

/// The process that a descriptor of /proc/PID means, for calls that take one in place of a pidfd.
#[must_use]
pub fn process_of(file: &fs::File) -> Option<Arc<crate::Process>> {
    open::process_of(file)
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
        SuperBlock::new(try_arc(ProcFs {
            root: root::inode(namespace.unwrap_or_default())?,
        })?)
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
