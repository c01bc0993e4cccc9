//! The QEMU machine's only unsafe code: what the crates it builds on leave to their caller.
//!
//! Each function is safe to call; the comment above each unsafe block says who keeps its promise.

use std::io::{self, Error};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::Errno;
use rustix::process::Signal;
use rustix::thread::CapabilitiesSecureBits;
use vmm_sys_util::eventfd::EventFd;

/// Makes a program that is started by the calling thread end with that, without any capabilities.
pub fn bind_to_parent(command: &mut Command) {
    let parent = rustix::process::getpid();
    let before_exec = move || -> io::Result<()> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may have ended before it could tell by that signal.
        if rustix::process::getppid() != Some(parent) {
            return Err(Errno::SRCH.into());
        }
        // Root gains nothing by executing a file; another user has nothing to lose.
        if rustix::process::geteuid().is_root() {
            rustix::thread::set_capabilities_secure_bits(
                CapabilitiesSecureBits::NO_ROOT | CapabilitiesSecureBits::NO_ROOT_LOCKED,
            )?;
        }
        Ok(())
    };
    // SAFETY: the closure makes five system calls and allocates nothing, so it may run between fork and exec
    // whatever the other threads of this process were doing.
    unsafe { command.pre_exec(before_exec) };
}

/// An event descriptor as the standard library borrows descriptors.
#[must_use]
pub fn borrow_event(event: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open for as long as `event` lives, which the result's lifetime is bound to.
    unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) }
}

/// Closes every descriptor but standard input, output and error.
///
/// # Errors
/// What the kernel said.
pub fn close_inherited() -> Result<(), Errno> {
    // SAFETY: this is called before the process opens anything, so nothing in it owns a descriptor from 3 on; the
    // call takes three integers and touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(Errno::from_io_error(&Error::last_os_error()).unwrap_or(Errno::IO))
    }
}
