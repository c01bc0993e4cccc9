//! The QEMU machine's only unsafe code: what the crates it builds on leave to their caller.
//!
//! Each function is safe to call; the comment above each unsafe block says who keeps its promise.

use std::os::fd::{AsRawFd, BorrowedFd};

use vmm_sys_util::eventfd::EventFd;

/// An event descriptor as the standard library borrows descriptors.
#[must_use]
pub fn borrow_event(event: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open for as long as `event` lives, which the result's lifetime is bound to.
    unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) }
}
