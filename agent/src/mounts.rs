//! What a container sees mounted: from the host's list to system calls, and back at the end.
//!
//! The image decides what lies at a destination, symbolic links included, so the calls are made
//! by a forked child that has the container's root as its own: no path can lead outside it.
//! Like [`child`](crate::child), that child finds everything prepared and only makes system calls.

use std::ffi::{CStr, CString};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};

use agent_protocol::{FailureKind, Mount};
use rustix::fs::{AtFlags, CWD, FileType, Mode};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::child::errno_of;
use crate::refusal::{Answer, Refusal};
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
struct Prepared {
    /// Every directory on the way to the destination, the destination last.
    directories: Vec<CString>,
    destination: CString,
    source: CString,
    kind: CString,
    flags: MountFlags,
    data: CString,
    optional: bool,
    /// Whether this is the file system at /dev that the device nodes go to.
    devices: bool,
}

/// What became of a container's mounts.
#[derive(Debug, Default)]
pub(crate) struct Mounted {
    /// The destinations that are mounted, in order.
    pub(crate) destinations: Vec<CString>,
    /// The destinations of optional mounts that the kernel does not offer.
    pub(crate) skipped: Vec<String>,
}

/// Tags of the records that the child sends.
const DONE: u8 = 0;
const SKIPPED: u8 = 1;
const FAILED: u8 = 2;
/// Bytes of a record: a tag, the mount's number and an errno.
const RECORD: usize = 7;

/// Mounts a container's list beneath `root`; on failure nothing of it stays.
pub(crate) fn mount_all(root: &CStr, mounts: &[Mount], forked: impl Fn()) -> Answer<Mounted> {
    let prepared = mounts.iter().map(prepare).collect::<Answer<Vec<_>>>()?;
    let reports = in_root(root, &forked, |report| mount_each(&prepared, report))?;
    let mut mounted = Mounted::default();
    for (tag, index, errno) in reports {
        let (Some(mount), Some(one)) = (mounts.get(index), prepared.get(index)) else {
            let what = format!("enter the root file system {}", root.to_string_lossy());
            return Err(Refusal::system(what, errno));
        };
        match tag {
            DONE => mounted.destinations.push(one.destination.clone()),
            SKIPPED => mounted.skipped.push(mount.destination.clone()),
            _ => {
                unmount_all(root, &mounted.destinations, forked)?;
                return Err(refused(mount, errno));
            }
        }
    }
    Ok(mounted)
}

/// Unmounts what [`mount_all`] mounted.
pub(crate) fn unmount_all(root: &CStr, destinations: &[CString], forked: impl Fn()) -> Answer<()> {
    if destinations.is_empty() {
        return Ok(());
    }
    let reports = in_root(root, forked, |report| {
        for (index, destination) in destinations.iter().enumerate().rev() {
            if let Err(errno) = rustix::mount::unmount(destination, UnmountFlags::DETACH) {
                send(report, FAILED, index, errno.raw_os_error());
            }
        }
    })?;
    match reports
        .first()
        .and_then(|(_, index, errno)| Some((destinations.get(*index)?, *errno)))
    {
        None => Ok(()),
        Some((destination, errno)) => Err(Refusal::system(
            format!("unmount {}", destination.to_string_lossy()),
            errno,
        )),
    }
}

fn refused(mount: &Mount, errno: Errno) -> Refusal {
    let what = format!("mount {} at {}", mount.type_, mount.destination);
    match errno {
        Errno::NODEV | Errno::NOSYS => {
            Refusal::with_errno(FailureKind::FAILURE_KIND_UNSUPPORTED, what, errno)
        }
        _ => Refusal::system(what, errno),
    }
}

/// Runs `work` in a child whose root is `root` and collects what it reports; `forked` is told of
/// the child, which the reaper will meet.
fn in_root(
    root: &CStr,
    forked: impl Fn(),
    work: impl FnOnce(BorrowedFd<'_>),
) -> Answer<Vec<(u8, usize, Errno)>> {
    let helper = |errno| Refusal::system("start the process that mounts", errno);
    let (reader, writer) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(helper)?;
    sys::fork(|| {
        let entered = rustix::process::chroot(root).and_then(|()| rustix::process::chdir(c"/"));
        match entered {
            Ok(()) => work(writer.as_fd()),
            Err(errno) => send(
                writer.as_fd(),
                FAILED,
                usize::from(u16::MAX),
                errno.raw_os_error(),
            ),
        }
    })
    .map_err(|error| helper(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    forked();
    drop(writer);
    let mut bytes = Vec::new();
    std::fs::File::from(reader)
        .read_to_end(&mut bytes)
        .map_err(|error| helper(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    let record = |record: &[u8]| {
        let index = u16::from_le_bytes([record[1], record[2]]);
        let errno = i32::from_le_bytes([record[3], record[4], record[5], record[6]]);
        (record[0], usize::from(index), errno_of(errno))
    };
    Ok(bytes.chunks_exact(RECORD).map(record).collect())
}

fn send(report: BorrowedFd<'_>, tag: u8, index: usize, errno: i32) {
    let index = u16::try_from(index).unwrap_or(u16::MAX).to_le_bytes();
    let errno = errno.to_le_bytes();
    let record: [u8; RECORD] = [
        tag, index[0], index[1], errno[0], errno[1], errno[2], errno[3],
    ];
    // Nobody is left to tell if the pipe is gone.
    let _ = rustix::io::write(report, &record);
}

fn mount_each(mounts: &[Prepared], report: BorrowedFd<'_>) {
    rustix::process::umask(Mode::empty());
    for (index, mount) in mounts.iter().enumerate() {
        match mount_one(mount) {
            Ok(()) => send(report, DONE, index, 0),
            Err(Errno::NODEV) if mount.optional => {
                send(report, SKIPPED, index, Errno::NODEV.raw_os_error());
            }
            Err(errno) => {
                send(report, FAILED, index, errno.raw_os_error());
                return;
            }
        }
    }
}

fn mount_one(mount: &Prepared) -> Result<(), Errno> {
    for directory in &mount.directories {
        match rustix::fs::mkdir(directory, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            // A read-only image that has the directory, on kernels that check in this order.
            Err(Errno::ROFS)
                if rustix::fs::access(directory, rustix::fs::Access::EXISTS).is_ok() => {}
            Err(errno) => return Err(errno),
        }
    }
    mount_at(mount, &mount.kind, &mount.data)?;
    if mount.devices && make_devices() == Err(Errno::NOSYS) {
        // A kernel without mknod has its devices in a file system of its own.
        rustix::mount::unmount(&mount.destination, UnmountFlags::DETACH)?;
        mount_at(mount, c"devtmpfs", c"")?;
    }
    Ok(())
}

fn mount_at(mount: &Prepared, kind: &CStr, data: &CStr) -> Result<(), Errno> {
    let data = (!data.is_empty()).then_some(data);
    rustix::mount::mount(&mount.source, &mount.destination, kind, mount.flags, data)
}

fn make_devices() -> Result<(), Errno> {
    for (path, major, minor) in DEVICES {
        let device = rustix::fs::makedev(major, minor);
        let mode = Mode::from_raw_mode(0o666);
        match rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, mode, device) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(Errno::PERM | Errno::OPNOTSUPP) => return Err(Errno::NOSYS),
            Err(errno) => return Err(errno),
        }
    }
    for (target, path) in LINKS {
        // Convenience only: an image may bring its own.
        let _ = rustix::fs::symlinkat(target, CWD, path);
    }
    let _ = rustix::fs::statat(CWD, c"/dev/null", AtFlags::empty());
    Ok(())
}

fn prepare(mount: &Mount) -> Answer<Prepared> {
    let destination = checked_destination(&mount.destination)?;
    match mount.type_.as_str() {
        "proc" | "tmpfs" | "devpts" | "devtmpfs" | "sysfs" | "mqueue" => {}
        other => {
            return Err(Refusal::unsupported(format!(
                "a mount of type \"{other}\" at {destination} is not supported"
            )));
        }
    }
    let (flags, data) = options(mount)?;
    let directories = destination
        .match_indices('/')
        .skip(1)
        .map(|(end, _)| &destination[..end])
        .chain(std::iter::once(destination.as_str()))
        .map(c_string)
        .collect::<Answer<Vec<_>>>()?;
    let source = if mount.source.is_empty() {
        &mount.type_
    } else {
        &mount.source
    };
    Ok(Prepared {
        directories,
        source: c_string(source)?,
        kind: c_string(&mount.type_)?,
        flags,
        data: c_string(&data)?,
        optional: mount.optional,
        devices: destination == "/dev" && mount.type_ == "tmpfs",
        destination: c_string(&destination)?,
    })
}

/// An absolute path of plain names, without a slash at its end.
fn checked_destination(path: &str) -> Answer<String> {
    let names: Vec<_> = path
        .split('/')
        .filter(|name| !name.is_empty() && *name != ".")
        .collect();
    if !path.starts_with('/') || names.is_empty() || names.contains(&"..") {
        return Err(Refusal::invalid(format!(
            "the mount destination \"{path}\" is not an absolute path below the root"
        )));
    }
    Ok(format!("/{}", names.join("/")))
}

fn options(mount: &Mount) -> Answer<(MountFlags, String)> {
    let mut flags = MountFlags::empty();
    let mut data: Vec<&str> = Vec::new();
    for option in &mount.options {
        match option.as_str() {
            "rw" | "suid" | "dev" | "exec" | "defaults" => {}
            "ro" => flags |= MountFlags::RDONLY,
            "nosuid" => flags |= MountFlags::NOSUID,
            "nodev" => flags |= MountFlags::NODEV,
            "noexec" => flags |= MountFlags::NOEXEC,
            "relatime" => flags |= MountFlags::RELATIME,
            "noatime" => flags |= MountFlags::NOATIME,
            "nodiratime" => flags |= MountFlags::NODIRATIME,
            "strictatime" => flags |= MountFlags::STRICTATIME,
            "sync" => flags |= MountFlags::SYNCHRONOUS,
            "dirsync" => flags |= MountFlags::DIRSYNC,
            "bind" | "rbind" | "remount" | "shared" | "slave" | "private" | "rshared"
            | "rslave" | "rprivate" => {
                return Err(Refusal::unsupported(format!(
                    "the mount option \"{option}\" at {} is not supported",
                    mount.destination
                )));
            }
            other => data.push(other),
        }
    }
    Ok((flags, data.join(",")))
}

/// A string for the kernel; a NUL byte in it is the host's mistake.
pub(crate) fn c_string(text: impl AsRef<str>) -> Answer<CString> {
    let text = text.as_ref();
    CString::new(text).map_err(|_| Refusal::invalid(format!("{text:?} holds a NUL byte")))
}
