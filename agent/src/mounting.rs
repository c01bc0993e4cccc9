//! Making the mounts of a container, and unmaking them.
//!
//! The image decides what lies at a destination, symbolic links included, so the calls are made
//! by a forked child that has the container's root as its own: no path can lead outside it.
//! Like [`child`](crate::child), that child finds everything prepared and only makes system calls.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::path::DecInt;

use crate::refusal::{Answer, Refusal};
use crate::report::{self, Report};
use crate::sys;

/// The device nodes that every container has: name, major and minor number.
const DEVICES: [(&CStr, u32, u32); 6] = [
    (c"/dev/null", 1, 3),
    (c"/dev/zero", 1, 5),
    (c"/dev/full", 1, 7),
    (c"/dev/random", 1, 8),
    (c"/dev/urandom", 1, 9),
    (c"/dev/tty", 5, 0),
];

/// The nodes of disks, below the agent's root and the container's.
const DISKS: [&CStr; 4] = [c"dev/vda", c"dev/vdb", c"dev/vdc", c"dev/vdd"];

/// The symbolic links beside them.
const LINKS: [(&CStr, &CStr); 5] = [
    (c"/proc/self/fd", c"/dev/fd"),
    (c"/proc/self/fd/0", c"/dev/stdin"),
    (c"/proc/self/fd/1", c"/dev/stdout"),
    (c"/proc/self/fd/2", c"/dev/stderr"),
    (c"pts/ptmx", c"/dev/ptmx"),
];

/// One prepared mount.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Every directory on the way to the destination.
    pub(crate) directories: Vec<CString>,
    pub(crate) destination: CString,
    pub(crate) source: CString,
    pub(crate) kind: Kind,
    pub(crate) flags: MountFlags,
    pub(crate) data: CString,
    pub(crate) optional: bool,
    /// Left out: an optional file system that the kernel does not have.
    pub(crate) absent: bool,
    /// Made by the container's first process, in its own namespaces; beforehand there is only its place.
    pub(crate) late: bool,
}

/// What is mounted.
#[derive(Debug)]
pub(crate) enum Kind {
    /// A file system; `devices` when it is the one that the device nodes go to.
    FileSystem { kind: CString, devices: bool },
    /// A directory or file of the agent's view, at a path outside the container's root.
    Bind { directory: bool, recursive: bool },
    /// Nothing: the null device over a file, an empty file system over a directory.
    Mask,
    /// What is there, but not to be written.
    ReadOnly,
}

impl Prepared {
    /// Whether the container does without it, for this reason.
    fn may_miss(&self, errno: Errno) -> bool {
        match self.kind {
            // Nothing to protect; and beneath a file there is nothing either.
            Kind::Mask | Kind::ReadOnly => matches!(errno, Errno::NOENT | Errno::NOTDIR),
            Kind::FileSystem { .. } | Kind::Bind { .. } => self.optional && errno == Errno::NODEV,
        }
    }
}

/// What became of the mount of that number.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    Done(usize),
    /// Optional, and the kernel does not offer it.
    Skipped(usize),
    /// For that mount the directory of that number on its way was made: the number of them all is its destination.
    Made(usize, usize),
    /// The last outcome; a number that no mount has is about the root itself.
    Failed(usize, Errno),
}

/// Tags of the records that the child sends.
const DONE: u8 = 0;
const SKIPPED: u8 = 1;
const FAILED: u8 = 2;
const MADE: u8 = 3;
/// The number of what is not about one mount.
const ROOT: usize = u16::MAX as usize;

/// Mounts everything beneath `root`, which becomes read-only at the end if asked.
pub(crate) fn mount_each(
    root: &CStr,
    read_only: bool,
    mounts: &[Prepared],
    forked: impl Fn(),
) -> Answer<Vec<Outcome>> {
    in_child(forked, |report| {
        if let Err((index, errno)) = mount_in_child(root, read_only, mounts, report) {
            send(report, FAILED, index, errno.raw_os_error());
        }
    })
}

/// Unmounts the destinations, the last one first, and then removes the directories that were made for them.
pub(crate) fn unmount_each(
    root: &CStr,
    destinations: &[CString],
    made: &[CString],
    forked: impl Fn(),
) -> Answer<()> {
    if destinations.is_empty() {
        return remove_each(root, made, forked);
    }
    let outcomes = in_child(&forked, |report| {
        if let Err(errno) = enter(root) {
            send(report, FAILED, ROOT, errno.raw_os_error());
            return;
        }
        for (index, destination) in destinations.iter().enumerate().rev() {
            if let Err(errno) = rustix::mount::unmount(destination, UnmountFlags::DETACH) {
                send(report, FAILED, index, errno.raw_os_error());
            }
        }
    })?;
    remove_each(root, made, forked)?;
    let Some(Outcome::Failed(index, errno)) = outcomes.first() else {
        return Ok(());
    };
    let destination = destinations
        .get(*index)
        .map_or(root, |destination| destination);
    Err(Refusal::system(
        format!("unmount {}", destination.to_string_lossy()),
        *errno,
    ))
}

/// Removes directories, the last one first, as far as they are there and empty. Not by the child that unmounts: it may
/// have entered the root by a mount that it then takes away.
fn remove_each(root: &CStr, made: &[CString], forked: impl Fn()) -> Answer<()> {
    if made.is_empty() {
        return Ok(());
    }
    let remove = |_: Report<'_>| {
        if enter(root).is_ok() {
            for directory in made.iter().rev() {
                // Gone with what it lay in, or the container's own by now.
                let _ = rustix::fs::rmdir(directory);
            }
        }
    };
    in_child(forked, remove).map(drop)
}

/// Runs `work` in a child and collects what it reports.
fn in_child(forked: impl Fn(), work: impl FnOnce(Report<'_>)) -> Answer<Vec<Outcome>> {
    let fork = |report: Report<'_>| sys::fork(|| work(report));
    let (_, records) = report::of_child(fork, |_| forked())
        .map_err(|errno| Refusal::system("start the process that mounts", errno))?;
    let outcomes = records.into_iter().map(|record| match record.tag {
        DONE => Outcome::Done(record.index.into()),
        SKIPPED => Outcome::Skipped(record.index.into()),
        MADE => Outcome::Made(
            record.index.into(),
            usize::try_from(record.value).unwrap_or(0),
        ),
        _ => Outcome::Failed(record.index.into(), record.errno()),
    });
    Ok(outcomes.collect())
}

fn send(report: Report<'_>, tag: u8, index: usize, errno: i32) {
    report.send(tag, u16::try_from(index).unwrap_or(u16::MAX), errno);
}

fn enter(root: &CStr) -> Result<(), Errno> {
    rustix::process::chroot(root)?;
    rustix::process::chdir(c"/")
}

/// Both sides of the child's `chroot`: a bind's source is outside, its destination inside.
struct Sides<'a> {
    root: &'a CStr,
    outside: OwnedFd,
}

fn mount_in_child(
    root: &CStr,
    read_only: bool,
    mounts: &[Prepared],
    report: Report<'_>,
) -> Result<(), (usize, Errno)> {
    let of_root = |errno| (ROOT, errno);
    rustix::process::umask(Mode::empty());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let outside = rustix::fs::open(c"/", flags, Mode::empty()).map_err(of_root)?;
    if read_only {
        // A mount of its own, so that the flag is the container's alone.
        rustix::mount::mount_bind_recursive(root, root).map_err(of_root)?;
    }
    enter(root).map_err(of_root)?;
    let sides = Sides { root, outside };
    for (index, mount) in mounts.iter().enumerate() {
        if mount.absent {
            send(report, SKIPPED, index, 0);
            continue;
        }
        if mount.late {
            // The root may be read-only by the time of the mount.
            if matches!(mount.kind, Kind::FileSystem { .. }) {
                make_place(mount, &made(report, index)).map_err(|errno| (index, errno))?;
            }
            continue;
        }
        match mount_one(mount, &sides, &made(report, index)) {
            Ok(()) => send(report, DONE, index, 0),
            Err(errno) if mount.may_miss(errno) => send(report, SKIPPED, index, 0),
            Err(errno) => return Err((index, errno)),
        }
    }
    if read_only {
        let flags = MountFlags::BIND | MountFlags::RDONLY;
        rustix::mount::mount_remount(c"/", flags, c"").map_err(of_root)?;
    }
    Ok(())
}

/// Tells of the directories that a mount's place took.
fn made(report: Report<'_>, index: usize) -> impl Fn(usize) {
    move |number| {
        send(
            report,
            MADE,
            index,
            i32::try_from(number).unwrap_or(i32::MAX),
        );
    }
}

/// Makes the late mounts in a mount namespace that is the caller's own.
pub(crate) fn mount_late(root: &CStr, mounts: &[Prepared]) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let outside = rustix::fs::open(c"/", flags, Mode::empty())?;
    enter(root)?;
    let sides = Sides { root, outside };
    for mount in mounts.iter().filter(|mount| mount.late && !mount.absent) {
        // Their places are there already.
        match mount_one(mount, &sides, &|_| {}) {
            Err(errno) if !mount.may_miss(errno) => return Err(errno),
            _ => {}
        }
    }
    rustix::process::fchdir(&sides.outside)?;
    rustix::process::chroot(c".")
}

/// Makes what a mount covers where that is a directory, and the directories on the way; `made` is told their numbers.
fn make_place(mount: &Prepared, made: &dyn Fn(usize)) -> Result<(), Errno> {
    for (number, directory) in mount.directories.iter().enumerate() {
        make_directory(directory, || made(number))?;
    }
    match mount.kind {
        Kind::FileSystem { .. }
        | Kind::Bind {
            directory: true, ..
        } => make_directory(&mount.destination, || made(mount.directories.len())),
        // A file is made by whoever binds it; what is masked or protected is there or is not.
        Kind::Bind {
            directory: false, ..
        }
        | Kind::Mask
        | Kind::ReadOnly => Ok(()),
    }
}

fn mount_one(mount: &Prepared, sides: &Sides<'_>, made: &dyn Fn(usize)) -> Result<(), Errno> {
    make_place(mount, made)?;
    match &mount.kind {
        Kind::FileSystem { kind, devices } => {
            mount_at(mount, kind, &mount.data)?;
            if *devices && make_devices(sides) == Err(Errno::NOSYS) {
                // A kernel without mknod has its devices in a file system of its own.
                rustix::mount::unmount(&mount.destination, UnmountFlags::DETACH)?;
                mount_at(mount, c"devtmpfs", c"")?;
            }
            Ok(())
        }
        Kind::Bind {
            directory: true,
            recursive,
        } => bind(mount, *recursive, sides),
        Kind::Bind {
            directory: false,
            recursive,
        } => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
            if rustix::fs::access(&mount.destination, Access::EXISTS).is_err() {
                rustix::fs::open(&mount.destination, flags, Mode::from_raw_mode(0o644))?;
            }
            bind(mount, *recursive, sides)
        }
        Kind::Mask => mask(&mount.destination, sides),
        Kind::ReadOnly => protect(&mount.destination),
    }
}

/// The null device is the agent's: the image decides what lies at the container's `/dev/null`.
fn mask(path: &CStr, sides: &Sides<'_>) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let covered = rustix::fs::open(path, flags, Mode::empty())?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&covered)?.st_mode);
    if kind == FileType::Directory {
        return rustix::mount::mount(c"tmpfs", path, c"tmpfs", MountFlags::RDONLY, None);
    }
    from_outside(&covered, sides, |at| {
        rustix::mount::mount_bind(c"/dev/null", at)
    })
}

/// Keeps what the mount forbids already.
fn protect(path: &CStr) -> Result<(), Errno> {
    rustix::mount::mount_bind_recursive(path, path)?;
    let flags = rustix::fs::statvfs(path)?.f_flag;
    let kept = [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ];
    let kept = kept
        .iter()
        .filter(|(has, _)| flags.contains(*has))
        .fold(MountFlags::empty(), |all, (_, flag)| all | *flag);
    let read_only = kept | MountFlags::BIND | MountFlags::RDONLY;
    rustix::mount::mount_remount(path, read_only, c"")
}

fn make_directory(path: &CStr, made: impl FnOnce()) -> Result<(), Errno> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        Ok(()) => {
            made();
            Ok(())
        }
        Err(Errno::EXIST) => Ok(()),
        // Some file systems say that they are read-only before they say that it is there.
        Err(Errno::ROFS) if rustix::fs::access(path, Access::EXISTS).is_ok() => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn mount_at(mount: &Prepared, kind: &CStr, data: &CStr) -> Result<(), Errno> {
    let data = (!data.is_empty()).then_some(data);
    rustix::mount::mount(&mount.source, &mount.destination, kind, mount.flags, data)
}

/// Finds the destination inside and mounts the source, which is outside, on it.
fn bind(mount: &Prepared, recursive: bool, sides: &Sides<'_>) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let destination = rustix::fs::open(&mount.destination, flags, Mode::empty())?;
    from_outside(&destination, sides, |at| {
        if recursive {
            rustix::mount::mount_bind_recursive(&mount.source, at)
        } else {
            rustix::mount::mount_bind(&mount.source, at)
        }
    })?;
    if mount.flags.is_empty() {
        return Ok(());
    }
    rustix::mount::mount_remount(&mount.destination, mount.flags | MountFlags::BIND, c"")
}

/// Steps outside to do `work` on what was found inside, and steps back.
fn from_outside(
    found: &OwnedFd,
    sides: &Sides<'_>,
    work: impl FnOnce(&CStr) -> Result<(), Errno>,
) -> Result<(), Errno> {
    rustix::process::fchdir(&sides.outside)?;
    rustix::process::chroot(c".")?;
    // The descriptor's link leads to what was found inside, wherever the root is now.
    rustix::process::chdir(c"/proc/self/fd")?;
    work(DecInt::from_fd(found).as_c_str())?;
    enter(sides.root)
}

fn make_devices(sides: &Sides<'_>) -> Result<(), Errno> {
    for (path, major, minor) in DEVICES {
        let device = rustix::fs::makedev(major, minor);
        let mode = Mode::from_raw_mode(0o666);
        match rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, mode, device) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(Errno::PERM | Errno::OPNOTSUPP) => return Err(Errno::NOSYS),
            Err(errno) => return Err(errno),
        }
    }
    make_disks(sides)?;
    for (target, path) in LINKS {
        // Convenience only: an image may bring its own.
        let _ = rustix::fs::symlinkat(target, CWD, path);
    }
    Ok(())
}

/// The disks of the machine, which its owner gave it for the programs in it; only root can open them.
fn make_disks(sides: &Sides<'_>) -> Result<(), Errno> {
    for path in DISKS {
        let found = match rustix::fs::statat(&sides.outside, path, AtFlags::empty()) {
            Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::BlockDevice => found,
            // They are named one after the other.
            Ok(_) | Err(_) => break,
        };
        let mode = Mode::from_raw_mode(found.st_mode & 0o777);
        match rustix::fs::mknodat(CWD, path, FileType::BlockDevice, mode, found.st_rdev) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
