//! Leaf entries of user page tables: each owns one handle to the frame it maps.

use super::Perms;
use crate::addr::PhysAddr;
use crate::frame::Frame;
use crate::x86::paging::{self, BOOT_MEMORY, NO_EXEC, PRESENT, USER, WRITE};

/// The entry that owns `frame`.
pub(super) fn entry_for(frame: Frame, perms: Perms) -> u64 {
    let raw = frame.into_raw();
    let boot = if raw & 1 != 0 { BOOT_MEMORY } else { 0 };
    (raw & !1) | boot | flags(perms)
}

/// The bits of a user page with these permissions.
pub(super) fn flags(perms: Perms) -> u64 {
    let write = if perms.contains(Perms::WRITE) {
        WRITE
    } else {
        0
    };
    let no_exec = if perms.contains(Perms::EXEC) {
        0
    } else {
        NO_EXEC
    };
    PRESENT | USER | write | no_exec
}

/// The permissions that an entry gives.
pub(super) fn perms_of(entry: u64) -> Perms {
    let mut perms = Perms::empty();
    perms.set(Perms::WRITE, entry & WRITE != 0);
    perms.set(Perms::EXEC, entry & NO_EXEC == 0);
    perms
}

/// The handle that an entry owns.
///
/// # Safety
/// The entry was made by [`entry_for`] and has been, or will be, replaced: one handle an entry.
pub(super) unsafe fn frame_of(entry: u64) -> Frame {
    let boot = u64::from(entry & BOOT_MEMORY != 0);
    // SAFETY: `entry_for` took the handle apart this way.
    unsafe { Frame::from_phys(PhysAddr(entry & paging::ADDRESS | boot)) }
}

/// Another handle to the frame of an entry that stays.
pub(super) fn another_handle(entry: u64) -> Frame {
    // SAFETY: the handle is not dropped: the entry keeps it.
    let owned = core::mem::ManuallyDrop::new(unsafe { frame_of(entry) });
    Frame::clone(&owned)
}
