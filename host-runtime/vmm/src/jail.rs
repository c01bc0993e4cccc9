//! What the VMM process gives up before the guest runs, so that a guest that took it over has little.
//!
//! In order: no new privileges and no inherited descriptors ([`begin`]); then, when started by root, its
//! own mount, network, IPC and host-name namespaces ([`Namespaces::enter`]) with the shared directory, or nothing,
//! as root ([`Namespaces::make_root`]) and only the capabilities that serving files needs ([`drop_capabilities`]);
//! at last a system-call filter ([`super::seccomp`]). An unprivileged user's VMM skips what it has no right to.

use std::path::Path;

use caps::{CapSet, Capability, CapsHashSet};
use nix::sched::CloneFlags;
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use super::error::VmmError;
use crate::sys;

/// What acting for the users of a file tree takes.
const FILE_SERVER: [Capability; 9] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_MKNOD,
    Capability::CAP_SETFCAP,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
];

/// Gives up what no VMM needs; to be called first.
///
/// # Errors
/// When the kernel refuses.
pub fn begin() -> Result<(), VmmError> {
    sys::close_inherited().map_err(failed("close inherited descriptors"))?;
    rustix::thread::set_no_new_privs(true).map_err(failed("give up new privileges"))
}

/// The namespaces of this process.
#[derive(Debug)]
pub struct Namespaces {
    /// Whether it has mounts of its own.
    own: bool,
}

impl Namespaces {
    /// Enters namespaces of this process alone, if it may.
    ///
    /// Mounts that the host makes later still appear in it.
    ///
    /// # Errors
    /// When the kernel refuses although this is root.
    pub fn enter() -> Result<Self, VmmError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self { own: false });
        }
        let namespaces = CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS;
        match nix::sched::unshare(namespaces) {
            Ok(()) => {}
            // Root of a container that may not: the container confines it.
            Err(nix::Error::EPERM) => return Ok(Self { own: false }),
            Err(error) => {
                let source = std::io::Error::from_raw_os_error(error as i32);
                return Err(VmmError::Io {
                    what: "enter namespaces of its own",
                    source,
                });
            }
        }
        let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", slave).map_err(failed("leave the host's mounts alone"))?;
        Ok(Self { own: true })
    }

    /// Has `open` open `/proc/self/fd`, and see to it that what it has opened shows nothing else of procfs.
    ///
    /// A descriptor of a directory leads upwards, too, and procfs has the whole host's settings: who holds
    /// one and may open files by name opens `../../sys/kernel/core_pattern`. `open` sees a mount of that one
    /// directory instead, which is then detached: what is detached has nothing above it.
    ///
    /// # Errors
    /// When the kernel refuses, and as `open`.
    pub fn with_descriptors<T>(
        &self,
        open: impl FnOnce() -> Result<T, VmmError>,
    ) -> Result<T, VmmError> {
        if !self.own {
            return open();
        }
        let descriptors = Path::new("/proc/self/fd");
        rustix::mount::mount_bind(descriptors, descriptors)
            .map_err(failed("make its descriptors a mount"))?;
        let opened = open();
        rustix::mount::unmount(descriptors, UnmountFlags::DETACH)
            .map_err(failed("detach its descriptors from procfs"))?;
        opened
    }

    /// Makes the current directory (or, if there is `nothing` to share, an empty one) the root.
    ///
    /// # Errors
    /// When the kernel refuses although this is root.
    pub fn make_root(&self, nothing: bool) -> Result<(), VmmError> {
        if !self.own {
            return Ok(());
        }
        if nothing {
            let empty = Path::new("/proc");
            let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
            rustix::mount::mount("none", empty, "tmpfs", flags, Some(c"size=4k,mode=0"))
                .map_err(failed("make an empty root"))?;
            return pivot(empty);
        }
        let source = |source| VmmError::Io {
            what: "find the shared directory",
            source,
        };
        let shared = std::env::current_dir().map_err(source)?;
        if shared == Path::new("/") {
            // It is the root already, and nothing that may be detached lies outside.
            return Ok(());
        }
        rustix::mount::mount_bind_recursive(&shared, &shared)
            .map_err(failed("make the shared directory a mount"))?;
        pivot(&shared)
    }
}

/// Makes a mount the root and the current directory, and detaches all else.
fn pivot(root: &Path) -> Result<(), VmmError> {
    rustix::process::chdir(root).map_err(failed("enter its root"))?;
    rustix::process::pivot_root(".", ".").map_err(failed("change its root"))?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(failed("leave the host's root"))?;
    rustix::process::chdir("/").map_err(failed("enter its root"))
}

/// Keeps the capabilities of a file server, or none.
///
/// # Errors
/// When the kernel refuses.
pub fn drop_capabilities(serves_files: bool) -> Result<(), VmmError> {
    let refused = |error: caps::errors::CapsError| VmmError::Io {
        what: "give up capabilities",
        source: std::io::Error::other(error.to_string()),
    };
    let wanted: CapsHashSet = if serves_files {
        FILE_SERVER.into_iter().collect()
    } else {
        CapsHashSet::new()
    };
    let held = caps::read(None, CapSet::Permitted).map_err(refused)?;
    let kept: CapsHashSet = wanted.intersection(&held).copied().collect();
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new()).map_err(refused)?;
    caps::set(None, CapSet::Effective, &kept).map_err(refused)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(refused)
}

fn failed(what: &'static str) -> impl Fn(Errno) -> VmmError {
    move |errno| VmmError::Io {
        what,
        source: errno.into(),
    }
}
