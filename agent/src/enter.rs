//! How a new process comes into its container: namespaces of its own, those of the first process, or
//! just a root directory. All but [`Enter::fork`] runs in a forked child and only makes system calls.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use rustix::process::Pid;
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::child::Purpose;
use crate::mounting::{self, Prepared};
use crate::pod::Names;
use crate::sys;

/// How the process gets its view of the file system and of other processes.
#[derive(Debug)]
pub(crate) enum Enter {
    /// A mount namespace of its own with this directory as its root, or, on a kernel without
    /// mount namespaces, just this directory as its root.
    Own {
        root: CString,
        /// A PID namespace of its own, too.
        pids: bool,
        /// Where that is not the pod's: the mounts among which are those that show it.
        mounts: Option<Arc<Vec<Prepared>>>,
        /// A UTS namespace of its own, too, and the names in it.
        names: Option<Arc<Names>>,
        /// An IPC namespace of its own, too.
        ipc: bool,
        /// What to write to which files of /proc/sys, once it is in those.
        sysctls: Vec<(CString, CString)>,
        /// The first processes (pidfds) of other containers, and which namespaces it shares with them.
        shared: Vec<(OwnedFd, ThreadNameSpaceType)>,
    },
    /// The mount namespace of the container's first process, and those others that are not the pod's.
    Join {
        /// A pidfd.
        first: OwnedFd,
        others: ThreadNameSpaceType,
    },
    /// This directory as the root, in the agent's mount namespace.
    Chroot(CString),
}

impl Enter {
    /// Forks for `work`, which is bound by the rules of [`sys::fork`].
    pub(crate) fn fork(&self, purpose: Purpose, work: impl FnOnce()) -> std::io::Result<Pid> {
        match (self, purpose) {
            (Self::Own { pids: true, .. }, Purpose::Run) => sys::fork_in_pid_namespace(work),
            _ => sys::fork(work),
        }
    }

    /// Joins the PID namespace of another process. That takes effect for new processes, so
    /// the program is run by a sibling, whose pid the caller is given; the sibling itself gets none.
    pub(crate) fn join_pids(&self, purpose: Purpose) -> Result<Option<Pid>, Errno> {
        let pids = ThreadNameSpaceType::PROCESS_ID;
        let other = match self {
            Self::Join { first, others } if others.contains(pids) => first,
            Self::Own { shared, .. } if purpose == Purpose::Run => {
                let other = shared.iter().find(|(_, kinds)| kinds.contains(pids));
                let Some((other, _)) = other else {
                    return Ok(None);
                };
                other
            }
            _ => return Ok(None),
        };
        move_into_thread_name_spaces(other.as_fd(), pids)?;
        sys::fork_sibling()
    }

    /// Has the process enter the namespaces that the container's first process enters before it has its files.
    pub(crate) fn enter_namespaces(&self) -> Result<(), Errno> {
        let Self::Own {
            names, ipc, shared, ..
        } = self
        else {
            return Ok(());
        };
        for (other, kinds) in shared {
            join(other, *kinds - ThreadNameSpaceType::PROCESS_ID)?;
        }
        if *ipc {
            sys::unshare_ipc()?;
        }
        if let Some(names) = names {
            sys::unshare_names()?;
            names.set()?;
        }
        Ok(())
    }

    /// Sets what the container wants in these namespaces. By the agent's /proc: the container need not have one.
    pub(crate) fn set_sysctls(&self) -> Result<(), Errno> {
        let Self::Own { sysctls, .. } = self else {
            return Ok(());
        };
        for (path, value) in sysctls {
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let file = rustix::fs::open(path, flags, Mode::empty())?;
            rustix::io::write(file, value.as_bytes())?;
        }
        Ok(())
    }

    /// Has the process see the container's files; whether it has a mount namespace of its own then.
    pub(crate) fn enter(&self, purpose: Purpose) -> Result<bool, Errno> {
        match self {
            Self::Own { root, mounts, .. } => {
                match sys::unshare_mounts() {
                    Ok(()) => {}
                    Err(_) if mounts.is_none() => return chroot(root),
                    Err(errno) => return Err(errno),
                }
                let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
                rustix::mount::mount_change(c"/", private)?;
                if let (Some(mounts), Purpose::Run) = (mounts, purpose) {
                    mounting::mount_late(root, mounts)?;
                }
                pivot(root).map(|()| true)
            }
            Self::Join { first, others } => {
                let others = *others - ThreadNameSpaceType::PROCESS_ID;
                join(first, others | ThreadNameSpaceType::MOUNT)?;
                rustix::process::chdir(c"/").map(|()| false)
            }
            Self::Chroot(root) => chroot(root),
        }
    }
}

fn join(other: &OwnedFd, kinds: ThreadNameSpaceType) -> Result<(), Errno> {
    if kinds.is_empty() {
        return Ok(());
    }
    move_into_thread_name_spaces(other.as_fd(), kinds)
}

fn chroot(root: &CString) -> Result<bool, Errno> {
    rustix::process::chroot(root)?;
    rustix::process::chdir(c"/").map(|()| false)
}

/// Makes `root` the root of this mount namespace, which no longer holds anything above it then.
fn pivot(root: &CString) -> Result<(), Errno> {
    // A root has to be a mount point; the bind takes what is mounted beneath along.
    rustix::mount::mount_bind_recursive(root, root)?;
    rustix::process::chdir(root)?;
    rustix::process::pivot_root(c".", c".")?;
    // The old root now lies over the new one at the working directory.
    rustix::mount::unmount(c".", UnmountFlags::DETACH)?;
    rustix::process::chdir(c"/")
}
