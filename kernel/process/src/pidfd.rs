//! Descriptors that mean a process: pidfd_open(2), CLONE_PIDFD.

use alloc::sync::Arc;

use abi::Result;
use collections::try_arc;
use fs::{AnonymousInode, Events, File, FileOps, OpenFlags, PollTable};

use crate::own::Own;
use crate::rlimit::Resource;
use crate::task::numbers::PidNumber;
use crate::task::process::Process;
use crate::task::thread::Thread;
use crate::task::{thread, tree};

/// The process behind a pidfd. Readable once it has died.
#[derive(Debug)]
pub struct PidFd {
    process: Arc<Process>,
}

impl PidFd {
    /// Its process.
    #[must_use]
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }

    fn has_exited(&self) -> bool {
        let tree = tree::lock();
        self.process
            .known(&tree)
            .is_none_or(|node| node.zombie.is_some())
    }

    fn shown_pid(&self) -> PidNumber {
        // A process that was waited for has no id any more.
        if self.process.known(&tree::lock()).is_none() {
            return -1;
        }
        let pid = self.process.pid();
        thread::current().map_or(pid.global(), |caller| caller.process().shown(pid))
    }
}

impl FileOps for PidFd {
    fn poll(&self, table: Option<&mut PollTable>) -> Events {
        if let Some(table) = table {
            table.add(&self.process.exited);
        }
        if self.has_exited() {
            Events::READABLE
        } else {
            Events::empty()
        }
    }

    fn info(&self, to: &mut dyn core::fmt::Write) -> core::fmt::Result {
        let pid = self.shown_pid();
        writeln!(to, "Pid:\t{pid}\nNSpid:\t{pid}")
    }
}

/// Gives the caller a descriptor for `process`, closed by exec.
///
/// # Errors
/// `EMFILE`, `ENOMEM`.
pub fn install(caller: &Thread, own: &mut Own, process: &Arc<Process>) -> Result<i32> {
    install_with(caller, own, process, false)
}

/// As [`install`]; with `nonblocking`, waitid(2) on it does not block.
///
/// # Errors
/// `EMFILE`, `ENOMEM`.
pub fn install_with(
    caller: &Thread,
    own: &mut Own,
    process: &Arc<Process>,
    nonblocking: bool,
) -> Result<i32> {
    let ops = try_arc(PidFd {
        process: process.clone(),
    })?;
    let mut flags = OpenFlags::RDWR;
    flags.set(OpenFlags::NONBLOCK, nonblocking);
    let inode = AnonymousInode::file_like("[pidfd]")?;
    let file = File::anonymous(inode, ops, flags, own.credentials())?;
    let limit = caller.process().limits().soft(Resource::OpenFiles);
    own.files
        .insert(file, true, usize::try_from(limit).unwrap_or(usize::MAX))
}
