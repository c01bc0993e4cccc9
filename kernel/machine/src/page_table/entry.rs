//! Handles in leaf entries of user page tables: each entry owns one to the frame it maps.

use super::Perms;
use super::bits::{ADDRESS, BOOT_MEMORY, encode, page_of};
use crate::addr::PhysAddr;
use crate::frame::{Frame, LargeFrame};

/// The entry that owns `frame`.
pub(super) fn entry_for(frame: Frame, perms: Perms) -> u64 {
    let raw = frame.into_raw();
    let boot = if raw & 1 != 0 { BOOT_MEMORY } else { 0 };
    encode(raw & ADDRESS | boot, perms)
}

/// The entry that takes the place of `entry`, for the same page, which may be a large one.
pub(super) fn with_perms(entry: u64, perms: Perms) -> u64 {
    encode(page_of(entry), perms)
}

/// The handle that an entry owns.
///
/// # Safety
/// The entry was made by [`entry_for`] or [`with_perms`] and has been, or will be, replaced: one handle an
/// entry.
pub(super) unsafe fn frame_of(entry: u64) -> Frame {
    let page = page_of(entry);
    let boot = u64::from(page & BOOT_MEMORY != 0);
    // SAFETY: `entry_for` took the handle apart this way.
    unsafe { Frame::from_phys(PhysAddr(page & ADDRESS | boot)) }
}

/// The handles that the entry of a large page owns.
///
/// # Safety
/// As for [`frame_of`], of an entry that [`LargeFrame::into_phys`] and [`with_perms`] made.
pub(super) unsafe fn large_frame_of(entry: u64) -> LargeFrame {
    // SAFETY: the caller's promise.
    unsafe { LargeFrame::from_phys(PhysAddr(page_of(entry) & ADDRESS)) }
}

/// Another handle to the frame of an entry that stays.
pub(super) fn another_handle(entry: u64) -> Frame {
    // SAFETY: the handle is not dropped: the entry keeps it.
    let owned = core::mem::ManuallyDrop::new(unsafe { frame_of(entry) });
    Frame::clone(&owned)
}

/// Whether an entry maps this frame.
pub(super) fn maps(entry: u64, frame: &Frame) -> bool {
    page_of(entry) & ADDRESS == frame.phys().0
}
