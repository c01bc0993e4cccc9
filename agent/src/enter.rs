//! How a new process comes into its container: namespaces of its own, those of the first process, or
//! just a root directory. All but [`Enter::fork`] runs in a forked child and only makes system calls.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

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
        /// A PID namespace of its own, too, and the mounts among which are those that show it.
        pids: Option<Arc<Vec<Prepared>>>,
        /// A UTS namespace of its own, too, and the names in it.
        names: Option<Arc<Names>>,
    },
    /// The mount namespace, and the PID namespace if it has one, of the container's first process.
    Join {
        /// A pidfd.
        first: OwnedFd,
        pids: bool,
        /// Its UTS namespace is its own, too.
        names: bool,
    },
    /// This directory as the root, in the agent's mount namespace.
    Chroot(CString),
}

impl Enter {
    /// Forks for `work`, which is bound by the rules of [`sys::fork`].
    pub(crate) fn fork(&self, purpose: Purpose, work: impl FnOnce()) -> std::io::Result<Pid> {
        match (self, purpose) {
            (Self::Own { pids: Some(_), .. }, Purpose::Run) => sys::fork_in_pid_namespace(work),
            _ => sys::fork(work),
        }
    }

    /// Joins the PID namespace of the container's first process. That takes effect for new processes, so
    /// the program is run by a sibling, whose pid the caller is given; the sibling itself gets none.
    pub(crate) fn join_pids(&self) -> Result<Option<Pid>, Errno> {
        let Self::Join {
            first, pids: true, ..
        } = self
        else {
            return Ok(None);
        };
        move_into_thread_name_spaces(first.as_fd(), ThreadNameSpaceType::PROCESS_ID)?;
        sys::fork_sibling()
    }

    /// Has the process see the container's files; whether it has a mount namespace of its own then.
    pub(crate) fn enter(&self, purpose: Purpose) -> Result<bool, Errno> {
        match self {
            Self::Own { root, pids, names } => {
                if let Some(names) = names {
                    sys::unshare_names()?;
                    names.set()?;
                }
                match sys::unshare_mounts() {
                    Ok(()) => {}
                    Err(_) if pids.is_none() => return chroot(root),
                    Err(errno) => return Err(errno),
                }
                let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
                rustix::mount::mount_change(c"/", private)?;
                if let (Some(mounts), Purpose::Run) = (pids, purpose) {
                    mounting::mount_late(root, mounts)?;
                }
                pivot(root).map(|()| true)
            }
            Self::Join { first, names, .. } => {
                let mut joined = ThreadNameSpaceType::MOUNT;
                if *names {
                    joined |= ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME;
                }
                move_into_thread_name_spaces(first.as_fd(), joined)?;
                rustix::process::chdir(c"/").map(|()| false)
            }
            Self::Chroot(root) => chroot(root),
        }
    }
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
