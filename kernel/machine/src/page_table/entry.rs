//! Handles in leaf entries of user page tables: each entry owns one to the frame it maps.

use super::bits::{ADDRESS, BOOT_MEMORY, Encoder, page_of};
use super::mapper::count_file;
use crate::addr::PhysAddr;
use crate::frame::{Frame, LargeFrame};

/// The entry that owns `frame`.
#[inline]
pub(super) fn entry_for(frame: Frame, encoder: Encoder) -> u64 {
    let raw = frame.into_raw();
    let boot = if raw & 1 != 0 { BOOT_MEMORY } else { 0 };
    encoder.encode(raw & ADDRESS | boot)
}

/// The entry that takes the place of `entry`, for the same page, which may be a large one.
#[inline]
pub(super) fn with_perms(entry: u64, encoder: Encoder) -> u64 {
    encoder.encode(page_of(entry))
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

/// The share that the entry of a large page owns.
///
/// # Safety
/// As for [`frame_of`], of an entry that [`LargeFrame::into_phys`] and [`with_perms`] made.
pub(super) unsafe fn large_frame_of(entry: u64) -> LargeFrame {
    // SAFETY: the caller's promise.
    unsafe { LargeFrame::from_phys(PhysAddr(page_of(entry) & ADDRESS)) }
}

/// Looks at the share that the entry of a large page owns.
pub(super) fn large_handle<R>(entry: u64, look: impl FnOnce(&LargeFrame) -> R) -> R {
    // SAFETY: the share is not dropped: the entry keeps it.
    let owned = core::mem::ManuallyDrop::new(unsafe { large_frame_of(entry) });
    look(&owned)
}

/// Counts a handle for a copy of an entry, which is made of it without [`super::Perms::WRITE`]. 1 if that is to
/// a page of a file.
pub(super) fn add_owner(entry: u64) -> usize {
    let frame = another_handle(entry);
    let is_file = count_file(entry, &frame);
    frame.into_raw();
    is_file
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
