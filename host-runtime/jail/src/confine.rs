//! What the processes of a microVM give up before the guest runs, so that a guest that took one over has little.
//!
//! The first begins with no new privileges, no inherited descriptors ([`begin`]), process ids of its own
//! ([`own_processes`]), in which it is the first and the others its children, so that none outlives it. Then
//!
//! - it, the VMM or QEMU's companion, ([`seclude`]) becomes a user that is nobody else on the host, in a user namespace of its own without any
//!   capability, with mount, network, IPC and host-name namespaces of its own and an empty root that is read-only;
//! - the gofer has the shared directory as its root ([`Namespaces`]), without devices and set-user-ID programs, and
//!   the capabilities of a file server ([`keep_capabilities`]). Started by root it stays in the host's user
//!   namespace: the owners of files are the host's, and in no other may device nodes be made;
//! - QEMU ([`seclude_program`]) is the companion's user without any capability, in namespaces of its own but for that of
//!   users, with a root of the folders that programs are in, read-only, and a procfs of those three processes.
//!
//! An ordinary user's processes are the root of a user namespace with that one user, where the host allows it. At
//! last each thread gets a filter of its system calls ([`crate::seccomp`]; QEMU has its own).

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use caps::{CapSet, Capability, CapsHashSet};
use host_machine::control::{self, Event, Message};
use nix::sched::CloneFlags;
use nix::unistd::{Gid, Uid};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getegid, geteuid, setrlimit};
use rustix::thread::CapabilitiesSecureBits;

use crate::error::JailError;
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

/// Where the user ids of VMMs begin. To this one is added the process's id, so no two that run share one. Nobody
/// else's ids are up there: it is behind what systemd gives to containers, and below what is negative somewhere.
const FIRST_USER: u32 = 0x7000_0000;

/// Everything but users and processes.
const OTHER_NAMESPACES: CloneFlags = CloneFlags::CLONE_NEWNS
    .union(CloneFlags::CLONE_NEWNET)
    .union(CloneFlags::CLONE_NEWIPC)
    .union(CloneFlags::CLONE_NEWUTS);

/// Gives up what no process of a microVM needs; to be called first.
///
/// # Errors
/// When the kernel refuses.
pub fn begin() -> Result<(), JailError> {
    sys::close_inherited().map_err(failed("close inherited descriptors"))?;
    rustix::thread::set_no_new_privs(true).map_err(failed("give up new privileges"))?;
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // A core is the guest's memory.
    setrlimit(Resource::Core, none).map_err(failed("give up core files"))
}

/// Goes on as the first of a namespace of processes, and an ordinary user's as root of a namespace of users.
///
/// What goes on is another process, still the owner's child, and the owner is told its id over standard input; the
/// result is how the present one is to end. Where the host does not allow it this process goes on: `None`, too.
///
/// # Errors
/// When the kernel refuses for another reason.
pub fn own_processes() -> Result<Option<ExitCode>, JailError> {
    if !geteuid().is_root() && !own_users()? {
        return Ok(None);
    }
    let (told, tell) = rustix::pipe::pipe().map_err(failed("make a pipe"))?;
    match sys::clone_into_own_processes() {
        Ok(None) => {
            drop(tell);
            // Without a word the owner does not know of this process, and would not reap it.
            match rustix::io::read(told, &mut [0; 1]) {
                Ok(1) => Ok(None),
                _ => Ok(Some(ExitCode::FAILURE)),
            }
        }
        Ok(Some(pid)) => {
            let event = Message::Event(Event::Moved { pid });
            let sent = control::send(io::stdin().as_fd(), &event, &[]);
            let sent = sent.and_then(|()| rustix::io::write(tell, &[1]));
            Ok(Some(sent.map_or(ExitCode::FAILURE, |_| ExitCode::SUCCESS)))
        }
        // Root of a container that may not: the container confines it.
        Err(Errno::PERM | Errno::NOSPC) => Ok(None),
        Err(errno) => Err(failed("have processes of its own")(errno)),
    }
}

/// Becomes root of a user namespace that knows this user only; `false` where the host does not allow it.
fn own_users() -> Result<bool, JailError> {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    enter(CloneFlags::CLONE_NEWUSER, || map_ids((0, user), (0, group)))
}

/// Enters namespaces and does what there is to do in them; `false` where the host does not allow it.
fn enter(
    namespaces: CloneFlags,
    then: impl FnOnce() -> Result<(), JailError>,
) -> Result<bool, JailError> {
    match nix::sched::unshare(namespaces) {
        Ok(()) => then().map(|()| true),
        Err(nix::Error::EPERM | nix::Error::ENOSPC | nix::Error::EUSERS) => Ok(false),
        Err(error) => Err(JailError {
            what: "enter namespaces of its own",
            source: error.into(),
        }),
    }
}

/// Says which user and which group of the outer namespace (second) has which id in the present one (first).
fn map_ids(user: (u32, u32), group: (u32, u32)) -> Result<(), JailError> {
    let write = |file: &str, text: String| {
        fs::write(Path::new("/proc/self").join(file), text).map_err(|source| JailError {
            what: "map its user",
            source,
        })
    };
    write("uid_map", format!("{} {} 1", user.0, user.1))?;
    write("setgroups", "deny".to_owned())?;
    write("gid_map", format!("{} {} 1", group.0, group.1))
}

/// Leaves this process, which has one thread still, nothing of the host but its descriptors.
///
/// # Errors
/// When the kernel refuses although it allows namespaces.
pub fn seclude() -> Result<(), JailError> {
    let users = CloneFlags::CLONE_NEWUSER | OTHER_NAMESPACES;
    if nix::unistd::setgroups(&[]).is_ok() {
        // Root of the host, which stays the saved user until it is clear that nothing more needs it.
        let user = own_user();
        become_user(user, false)?;
        let own = enter(users, || map_ids((user, user), (user, user)))?;
        if !own {
            nix::unistd::seteuid(Uid::from_raw(0)).map_err(refused("be root once more"))?;
            enter(OTHER_NAMESPACES, || Ok(()))?
                .then(empty_root)
                .transpose()?;
            keep_capabilities(false)?;
            return become_user(user, true);
        }
        become_user(user, true)?;
        empty_root()?;
    } else if geteuid().is_root() && enter(users, || map_ids((0, 0), (0, 0)))? {
        empty_root()?;
    }
    keep_capabilities(false)?;
    let none = DumpableBehavior::NotDumpable;
    rustix::process::set_dumpable_behavior(none).map_err(failed("hide its memory"))
}

/// The user that [`seclude`] makes of root of the host: nobody else's.
#[must_use]
pub fn own_user() -> u32 {
    FIRST_USER.wrapping_add(host_pid())
}

/// The folders that programs, their libraries and data are in, and links to such.
const PROGRAMS: [&str; 9] = [
    "usr", "lib", "lib64", "lib32", "bin", "sbin", "nix", "gnu", "opt",
];
/// Where their root is made; in mounts of their own nobody misses it.
const PROGRAM_ROOT: &str = "/sys";

/// Leaves a program that is to be executed next, which has `user` as its user where this is root of the host, its
/// descriptors, and of the host's files what programs need.
///
/// # Errors
/// When the kernel refuses although it allows namespaces.
pub fn seclude_program(user: u32) -> Result<(), JailError> {
    if enter(OTHER_NAMESPACES, || Ok(()))? {
        program_root()?;
    }
    let bounding = caps::read(None, CapSet::Effective).unwrap_or_default();
    if bounding.contains(&Capability::CAP_SETPCAP) {
        // Root gains nothing by executing a file.
        let none = CapabilitiesSecureBits::NO_ROOT | CapabilitiesSecureBits::NO_ROOT_LOCKED;
        rustix::thread::set_capabilities_secure_bits(none)
            .map_err(failed("give up root's ways"))?;
        caps::clear(None, CapSet::Bounding).map_err(refused_caps)?;
    }
    if nix::unistd::setgroups(&[]).is_ok() {
        become_user(user, true)?;
    }
    keep_capabilities(false)
}

/// Makes a root of the folders of programs, and a procfs of this namespace of processes.
fn program_root() -> Result<(), JailError> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(failed("leave the host's mounts alone"))?;
    let root = Path::new(PROGRAM_ROOT);
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("none", root, "tmpfs", flags, Some(c"size=64k,mode=755"))
        .map_err(failed("make a root for programs"))?;
    for name in PROGRAMS {
        show(&Path::new("/").join(name), &root.join(name)).map_err(|source| JailError {
            what: "show the folders of programs",
            source,
        })?;
    }
    let proc = root.join("proc");
    let procfs = fs::create_dir(&proc).and_then(|()| {
        let own = rustix::mount::mount("proc", &proc, "proc", flags | MountFlags::NOEXEC, None);
        // Where parts of procfs are covered no new one may be mounted.
        Ok(own.or_else(|_| rustix::mount::mount_bind_recursive("/proc", &proc))?)
    });
    procfs.map_err(|source| JailError {
        what: "give programs a procfs",
        source,
    })?;
    let limits = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOSUID;
    sys::restrict_mounts(c"/sys", limits).map_err(failed("forbid devices"))?;
    pivot(root)
}

/// Shows a folder, or a link to one, at another place; nothing where there is none.
fn show(from: &Path, to: &Path) -> io::Result<()> {
    let Ok(metadata) = fs::symlink_metadata(from) else {
        return Ok(());
    };
    if metadata.is_symlink() {
        return std::os::unix::fs::symlink(fs::read_link(from)?, to);
    }
    fs::create_dir(to)?;
    Ok(rustix::mount::mount_bind_recursive(from, to)?)
}

/// The id of this process in the host's procfs.
fn host_pid() -> u32 {
    let link = fs::read_link("/proc/self").unwrap_or_default();
    let pid = link.to_str().and_then(|pid| pid.parse().ok());
    pid.unwrap_or_else(std::process::id)
}

/// Acts as a user and the group of that number, `for_good` or with a way back.
fn become_user(user: u32, for_good: bool) -> Result<(), JailError> {
    let saved = if for_good { user } else { 0 };
    let group = |id| Gid::from_raw(id);
    nix::unistd::setresgid(group(user), group(user), group(saved))
        .map_err(refused("leave root's group"))?;
    nix::unistd::setresuid(
        Uid::from_raw(user),
        Uid::from_raw(user),
        Uid::from_raw(saved),
    )
    .map_err(refused("become a user without rights"))?;
    // A change of users makes /proc/self/uid_map root's.
    let own = DumpableBehavior::Dumpable;
    rustix::process::set_dumpable_behavior(own).map_err(failed("keep its files in procfs"))
}

/// Makes an empty directory the root.
fn empty_root() -> Result<(), JailError> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(failed("leave the host's mounts alone"))?;
    let empty = Path::new("/proc");
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("none", empty, "tmpfs", flags, Some(c"size=4k,mode=0"))
        .map_err(failed("make an empty root"))?;
    pivot(empty)
}

/// The namespaces of the gofer.
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
    pub fn enter() -> Result<Self, JailError> {
        let own = geteuid().is_root()
            && enter(OTHER_NAMESPACES, || {
                let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
                rustix::mount::mount_change("/", slave)
                    .map_err(failed("leave the host's mounts alone"))
            })?;
        Ok(Self { own })
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
        open: impl FnOnce() -> Result<T, JailError>,
    ) -> Result<T, JailError> {
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

    /// Makes the current directory the root.
    ///
    /// # Errors
    /// When the kernel refuses although it allows namespaces.
    pub fn make_root(&self) -> Result<(), JailError> {
        if !self.own {
            return Ok(());
        }
        let source = |source| JailError {
            what: "find the shared directory",
            source,
        };
        let shared = std::env::current_dir().map_err(source)?;
        if shared != Path::new("/") {
            rustix::mount::mount_bind_recursive(&shared, &shared)
                .map_err(failed("make the shared directory a mount"))?;
            pivot(&shared)?;
        }
        // Else it is the root already, and nothing that may be detached lies outside.
        let none = libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
        sys::restrict_mounts(c"/", none).map_err(failed("forbid devices"))
    }
}

/// Makes a mount the root and the current directory, and detaches all else.
fn pivot(root: &Path) -> Result<(), JailError> {
    rustix::process::chdir(root).map_err(failed("enter its root"))?;
    rustix::process::pivot_root(".", ".").map_err(failed("change its root"))?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(failed("leave the host's root"))?;
    rustix::process::chdir("/").map_err(failed("enter its root"))
}

/// Keeps the capabilities of a file server, or none, in every set.
///
/// # Errors
/// When the kernel refuses.
pub fn keep_capabilities(serves_files: bool) -> Result<(), JailError> {
    let wanted: CapsHashSet = if serves_files {
        FILE_SERVER.into_iter().collect()
    } else {
        CapsHashSet::new()
    };
    let held = caps::read(None, CapSet::Permitted).map_err(refused_caps)?;
    if held.contains(&Capability::CAP_SETPCAP) {
        caps::clear(None, CapSet::Bounding).map_err(refused_caps)?;
    }
    let kept: CapsHashSet = wanted.intersection(&held).copied().collect();
    caps::clear(None, CapSet::Ambient).map_err(refused_caps)?;
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new()).map_err(refused_caps)?;
    caps::set(None, CapSet::Effective, &kept).map_err(refused_caps)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(refused_caps)
}

fn failed(what: &'static str) -> impl Fn(Errno) -> JailError {
    move |errno| JailError {
        what,
        source: errno.into(),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err hands it over")]
fn refused_caps(error: caps::errors::CapsError) -> JailError {
    JailError {
        what: "give up capabilities",
        source: io::Error::other(error.to_string()),
    }
}

fn refused(what: &'static str) -> impl Fn(nix::Error) -> JailError {
    move |error| JailError {
        what,
        source: error.into(),
    }
}
