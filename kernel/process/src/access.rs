//! Who may look into a process: ptrace(2), "Ptrace access mode checking".

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use fs::Capabilities;
use memory::AddressSpace;

use crate::task::process::Process;
use crate::task::thread::Thread;

/// Which ids and capabilities of the caller count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Those for files (`PTRACE_MODE_FSCREDS`): what is reached through /proc.
    FileSystem,
    /// The real ones (`PTRACE_MODE_REALCREDS`): what a system call names.
    Real,
}

/// The memory of `target`, if `caller` may look into that; `None` when it has none any more.
///
/// The memory is taken first: exec makes a process what its new program is before it gives it the program's memory. The
/// other way round a check of the old program could be followed by the memory of a new one with more privileges.
///
/// # Errors
/// As [`check`].
pub fn memory_of(
    caller: &Thread,
    target: &Arc<Process>,
    by: By,
) -> Result<Option<Arc<AddressSpace>>> {
    let memory = target.memory();
    check(caller, target, by)?;
    Ok(memory)
}

/// Whether `caller` may look into `target`: its own process, one of the same user that can do no more than the
/// caller and hides nothing, or any with CAP_SYS_PTRACE.
///
/// # Errors
/// `EPERM`.
pub fn check(caller: &Thread, target: &Arc<Process>, by: By) -> Result<()> {
    if Arc::ptr_eq(caller.process(), target) {
        return Ok(());
    }
    let own = caller.credentials();
    let other = target.credentials().ok_or(Errno::EPERM)?;
    if own.ns_capable(&other.user_namespace, Capabilities::SYS_PTRACE) {
        return Ok(());
    }
    let (uid, gid, capabilities) = match by {
        By::FileSystem => (own.fsuid, own.fsgid, own.effective),
        By::Real => (own.uid, own.gid, own.permitted),
    };
    let is_same_user = [other.uid, other.euid, other.suid]
        .iter()
        .all(|id| *id == uid);
    let is_same_group = [other.gid, other.egid, other.sgid]
        .iter()
        .all(|id| *id == gid);
    let is_dumpable = target.dumpable.load(Ordering::Relaxed) == 1;
    let is_no_more =
        own.user_namespace == other.user_namespace && capabilities.contains(other.permitted);
    if is_same_user && is_same_group && is_dumpable && is_no_more {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}
