//! The jail's only unsafe code: system calls that no crate has.
//!
//! Each function is safe to call; the comment above each unsafe block says who keeps its promise.

use std::io::Error;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

/// Linux's if_tun.h.
pub(crate) const TUNSETOFFLOAD: libc::c_ulong = 0x4004_54d0;

/// Closes every descriptor but standard input, output and error that this program was started with.
///
/// # Errors
/// `EBUSY` when the program has opened something itself, which it may be using; what the kernel said.
pub(crate) fn close_inherited() -> Result<(), Errno> {
    check_nothing_opened()?;
    // SAFETY: as was just seen, no descriptor from 3 on is closed by execve(2), so this program has inherited them
    // all: what Rust code opens and owns is. The call takes three integers and touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(last_error())
    }
}

/// Refuses when there is a descriptor from 3 on that cannot have come through execve(2).
fn check_nothing_opened() -> Result<(), Errno> {
    let failed = |error: Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let listing = std::fs::read_dir("/proc/self/fd").map_err(failed)?;
    let numbers = listing.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    // The listing has a descriptor of its own, which is closed when they are all known.
    let numbers: Vec<i32> = numbers.filter(|number| *number >= 3).collect();
    for number in numbers {
        // SAFETY: fcntl(2) with F_GETFD takes two integers and changes nothing, whoever owns the descriptor.
        let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
        if flags >= 0 && flags & libc::FD_CLOEXEC != 0 {
            return Err(Errno::BUSY);
        }
    }
    Ok(())
}

/// Makes a copy of this process, which has one thread, that is the first of a new namespace of processes and a child
/// of this process's parent. Gives the copy's id here, and `None` in the copy.
///
/// # Errors
/// What the kernel said.
pub(crate) fn clone_into_own_processes() -> Result<Option<i32>, Errno> {
    let flags = libc::CLONE_NEWPID | libc::CLONE_PARENT | libc::SIGCHLD;
    let none: libc::c_long = 0;
    // SAFETY: without CLONE_VM this is fork(2): the copy has its own memory and goes on from here on the same
    // stack. The caller has one thread, so no lock is held by one that the copy lacks.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, none) };
    match pid {
        0 => Ok(None),
        pid if pid > 0 => Ok(Some(i32::try_from(pid).map_err(|_| Errno::OVERFLOW)?)),
        _ => Err(last_error()),
    }
}

/// Adds attributes (`MOUNT_ATTR_NODEV` and so on) to the mount at `path` and those below it.
///
/// # Errors
/// What the kernel said.
pub(crate) fn restrict_mounts(path: &std::ffi::CStr, attributes: u64) -> Result<(), Errno> {
    let attributes = libc::mount_attr {
        attr_set: attributes,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the kernel reads a string that ends, and as many bytes of `attributes` as it is told, and keeps
    // neither.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(last_error())
    }
}

/// Tells a tap what it may leave to its reader (`TUN_F_CSUM` and so on).
///
/// # Errors
/// What the kernel said, `ENOTTY` for what is no tap.
pub(crate) fn set_offloads(tap: BorrowedFd<'_>, flags: u32) -> Result<(), Error> {
    // SAFETY: the descriptor is open while it is borrowed. TUNSETOFFLOAD takes its argument as a number, and any
    // other driver that knew a request of this number would find one that is no address of this process's.
    let result = unsafe { libc::ioctl(tap.as_raw_fd(), TUNSETOFFLOAD, libc::c_ulong::from(flags)) };
    match result {
        0 => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody's files are closed under them: this program's own tests have some open.
    #[test]
    fn a_program_that_has_opened_something_keeps_it() {
        let file = std::fs::File::open("/proc/self/stat").expect("procfs");
        assert_eq!(close_inherited(), Err(Errno::BUSY));
        file.metadata().expect("it is open still");
    }
}
