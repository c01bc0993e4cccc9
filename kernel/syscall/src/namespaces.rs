//! Leaving and entering namespaces: unshare(2), setns(2).
//!
//! There are namespaces of mounts and of process ids. The others are refused, not pretended.

use abi::{Errno, Result};
use fs::Capabilities;
use process::clone::CloneFlags;
use process::pidfd::PidFd;
use process::{Process, tree};

use crate::context::Context;
use crate::process::clone_flags;
use crate::table::Entry;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(272, "unshare", sys_unshare),
    Entry::new(308, "setns", sys_setns),
];

fn sys_unshare(cx: &mut Context<'_>) -> Result<u64> {
    use CloneFlags as F;
    let flags = clone_flags(cx.arg(0))?;
    let alone = F::VM | F::SIGHAND | F::THREAD;
    let known = F::FS | F::FILES | F::NEWNS | F::NEWPID | F::SYSVSEM | alone;
    if !known.contains(flags) {
        return Err(Errno::EINVAL);
    }
    if flags.intersects(alone) && cx.process().thread_count() > 1 {
        return Err(Errno::EINVAL);
    }
    if flags.intersects(F::NEWNS | F::NEWPID) {
        require(cx, Capabilities::SYS_ADMIN)?;
    }
    if flags.contains(F::NEWPID) {
        unshare_pids(cx)?;
    }
    if flags.intersects(F::FS | F::NEWNS) {
        let own = cx.thread.fs().duplicate();
        if flags.contains(F::NEWNS) {
            own.unshare_namespace()?;
        }
        cx.thread.set_fs(own);
    }
    if flags.contains(F::FILES) {
        let own = cx.thread.files().duplicate();
        cx.thread.set_files(own);
    }
    Ok(0)
}

/// The caller stays where it is: its next child is the init of the new namespace.
fn unshare_pids(cx: &Context<'_>) -> Result<()> {
    let own = cx.process().pid_namespace();
    if cx.thread.children_namespace() != *own {
        return Err(Errno::EINVAL);
    }
    cx.thread.set_children_namespace(own.below()?);
    Ok(())
}

/// setns(fd, types): into the namespaces of the process behind a pidfd.
fn sys_setns(cx: &mut Context<'_>) -> Result<u64> {
    use CloneFlags as F;
    let file = cx.thread.files().get(cx.int(0))?;
    // Namespaces have no files of their own here, so no other descriptor can name one.
    let target = file.downcast::<PidFd>().ok_or(Errno::EINVAL)?.process();
    let types = CloneFlags::from_bits(u64::from(cx.uint(1))).ok_or(Errno::EINVAL)?;
    if types.is_empty() || !(F::NEWNS | F::NEWPID).contains(types) {
        return Err(Errno::EINVAL);
    }
    require(cx, Capabilities::SYS_ADMIN)?;
    if !is_alive(target) {
        return Err(Errno::ESRCH);
    }
    if types.contains(F::NEWPID)
        && !target
            .pid_namespace()
            .is_within(cx.process().pid_namespace())
    {
        return Err(Errno::EINVAL);
    }
    if types.contains(F::NEWNS) {
        enter_mounts(cx, target)?;
    }
    if types.contains(F::NEWPID) {
        cx.thread
            .set_children_namespace(target.pid_namespace().clone());
    }
    Ok(0)
}

fn is_alive(process: &Process) -> bool {
    let tree = tree::lock();
    tree.node(process.pid())
        .is_some_and(|node| node.zombie.is_none())
}

/// The caller's root and working directory become the root of the other's mounts.
fn enter_mounts(cx: &Context<'_>, target: &Process) -> Result<()> {
    require(cx, Capabilities::SYS_CHROOT)?;
    if cx.process().thread_count() > 1 {
        return Err(Errno::EINVAL);
    }
    let thread = target.main_thread().ok_or(Errno::ESRCH)?;
    let theirs = thread.fs_if_alive().ok_or(Errno::ESRCH)?;
    let own = cx.thread.fs().in_namespace(&theirs.namespace())?;
    cx.thread.set_fs(own);
    Ok(())
}

fn require(cx: &Context<'_>, capability: Capabilities) -> Result<()> {
    if cx.thread.credentials().has(capability) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}
