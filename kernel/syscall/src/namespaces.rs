//! Leaving and entering namespaces: unshare(2), setns(2).
//!
//! Which can be made is said in [`process::namespace`].

use alloc::sync::Arc;

use abi::{Errno, Result};
use fs::{Capabilities, MountNamespace, UserNamespace};
use process::Process;
use process::clone::flags::CloneFlags;
use process::namespace::{self, Kind, Namespace, NsFile};
use process::pidfd::PidFd;
use process::task::tree;

use crate::context::Context;
use crate::entry::Entry;
use crate::process::clone_flags;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(272, "unshare", sys_unshare),
    Entry::new(308, "setns", sys_setns),
];

/// The flags that make namespaces.
const NEW: CloneFlags = CloneFlags::NEWNS
    .union(CloneFlags::NEWCGROUP)
    .union(CloneFlags::NEWIPC)
    .union(CloneFlags::NEWNET)
    .union(CloneFlags::NEWPID)
    .union(CloneFlags::NEWTIME)
    .union(CloneFlags::NEWUSER)
    .union(CloneFlags::NEWUTS);

fn sys_unshare(cx: &mut Context<'_>) -> Result<u64> {
    use CloneFlags as F;
    let flags = clone_flags(cx.arg(0))?;
    let alone = F::VM | F::SIGHAND | F::THREAD;
    let known = F::FS | F::FILES | NEW | F::SYSVSEM | alone;
    if !known.contains(flags) {
        return Err(Errno::EINVAL);
    }
    if flags.intersects(alone) && cx.process().thread_count() > 1 {
        return Err(Errno::EINVAL);
    }
    let namespaces = namespace::unshare(cx.thread, flags)?;
    if flags.intersects(F::FS | F::NEWNS) {
        let own = cx.fs().duplicate()?;
        if flags.contains(F::NEWNS) {
            own.unshare_namespace(&cx.credentials().user_namespace)?;
        }
        cx.own.set_fs(cx.thread, own)?;
    }
    if flags.contains(F::FILES) {
        let own = cx.own.files.duplicate()?;
        cx.own.set_files(cx.thread, own);
    }
    if flags.intersects(F::SYSVSEM | F::NEWIPC) {
        cx.thread.set_undo_list(None);
    }
    cx.thread.set_namespaces(namespaces);
    Ok(0)
}

/// setns(fd, types): into a namespace by its file, or into those of the process behind a pidfd.
fn sys_setns(cx: &mut Context<'_>) -> Result<u64> {
    let file = cx.own.files.get_counted(cx.int(0))?;
    let types = cx.uint(1);
    if let Some(file) = file.downcast::<NsFile>() {
        let namespace = file.namespace();
        if types != 0 && types != namespace.kind().flag() {
            return Err(Errno::EINVAL);
        }
        return enter(cx, namespace);
    }
    let target = file.downcast::<PidFd>().ok_or(Errno::EINVAL)?.process();
    let wanted = || KINDS.into_iter().filter(|kind| types & kind.flag() != 0);
    let known = wanted().fold(0, |known, kind| known | kind.flag());
    if types == 0 || types != known {
        return Err(Errno::EINVAL);
    }
    if !is_alive(target) {
        return Err(Errno::ESRCH);
    }
    let thread = target.main_thread().ok_or(Errno::ESRCH)?;
    for kind in wanted() {
        enter(cx, &Namespace::of(&thread, kind)?)?;
    }
    Ok(0)
}

/// In the order in which they are entered.
const KINDS: [Kind; 8] = [
    Kind::User,
    Kind::Pid,
    Kind::Uts,
    Kind::Ipc,
    Kind::Net,
    Kind::Cgroup,
    Kind::Time,
    Kind::Mount,
];

fn enter(cx: &mut Context<'_>, namespace: &Namespace) -> Result<u64> {
    // Nobody may enter the user namespace that it is in.
    if namespace.kind() == Kind::User {
        return Err(Errno::EINVAL);
    }
    require(cx, namespace.owner().as_ref(), Capabilities::SYS_ADMIN)?;
    require(cx, None, Capabilities::SYS_ADMIN)?;
    let mut own = cx.thread.namespaces();
    match namespace {
        Namespace::Mount(mounts) => return enter_mounts(cx, mounts),
        Namespace::Pid(pids) => {
            if !pids.is_within(cx.process().pid_namespace()) {
                return Err(Errno::EINVAL);
            }
            own.pid_for_children = pids.clone();
        }
        Namespace::Uts(names) => own.uts = names.clone(),
        Namespace::Ipc(ipc) => {
            own.ipc = ipc.clone();
            // What it has done there is undone, as at its end.
            cx.thread.set_undo_list(None);
        }
        Namespace::Net(network) => own.net = network.clone(),
        Namespace::Cgroup(groups) => own.cgroup = Some(groups.clone()),
        Namespace::Initial(Kind::Cgroup) => own.cgroup = None,
        // The one that there is, which the caller is in.
        Namespace::Initial(_) | Namespace::User(_) => return Ok(0),
    }
    cx.thread.set_namespaces(own);
    Ok(0)
}

fn is_alive(process: &Process) -> bool {
    let tree = tree::lock();
    process
        .known(&tree)
        .is_some_and(|node| node.zombie.is_none())
}

/// The caller's root and working directory become the root of these mounts.
fn enter_mounts(cx: &mut Context<'_>, mounts: &Arc<MountNamespace>) -> Result<u64> {
    require(cx, None, Capabilities::SYS_CHROOT)?;
    if cx.process().thread_count() > 1 {
        return Err(Errno::EINVAL);
    }
    let own = cx.fs().in_namespace(mounts)?;
    cx.own.set_fs(cx.thread, own)?;
    Ok(0)
}

/// Asks for a capability in `owner`, `None` for the caller's own user namespace.
fn require(
    cx: &Context<'_>,
    owner: Option<&UserNamespace>,
    capability: Capabilities,
) -> Result<()> {
    let own = cx.credentials();
    if own.ns_capable(owner.unwrap_or(&own.user_namespace), capability) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}
