//! Copies in and out of memory that others may change at the same time: done by string
//! instructions, so that the compiler assumes nothing of the bytes.

use core::arch::asm;
use core::ptr::NonNull;

use crate::addr::PAGE_SIZE;

/// Copies `len` bytes: words of eight bytes, then the rest.
///
/// # Safety
/// Both ranges are mapped, `to` for writes; there is no reference to the bytes at `to` but the caller's own.
unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: the caller's ranges, exactly; the direction flag is clear in the kernel.
    unsafe {
        asm!(
            "rep movsq",
            "mov ecx, {tail:e}",
            "rep movsb",
            tail = in(reg) len % 8,
            inout("rcx") len / 8 => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags),
        );
    }
}

/// Fills with the byte that `pattern` repeats eight times.
///
/// # Safety
/// As for [`copy`].
unsafe fn set(to: *mut u8, len: usize, pattern: u64) {
    // SAFETY: the caller's range, exactly.
    unsafe {
        asm!(
            "rep stosq",
            "mov ecx, {tail:e}",
            "rep stosb",
            tail = in(reg) len % 8,
            inout("rcx") len / 8 => _,
            inout("rdi") to => _,
            in("rax") pattern,
            options(nostack, preserves_flags),
        );
    }
}

fn byte_of(frame: NonNull<u8>, offset: usize) -> *mut u8 {
    frame.as_ptr().wrapping_add(offset)
}

/// Zeroes a whole frame.
pub(super) fn clear_page(frame: NonNull<u8>) {
    // SAFETY: a frame is a page long and mapped in the direct map.
    unsafe { set(frame.as_ptr(), PAGE_SIZE, 0) };
}

/// Copies a whole frame.
pub(super) fn copy_page(from: NonNull<u8>, to: NonNull<u8>) {
    // SAFETY: frames are a page long and mapped in the direct map.
    unsafe { copy(to.as_ptr(), from.as_ptr(), PAGE_SIZE) };
}

/// Copies out of a frame; the caller checked that the range is inside.
pub(super) fn copy_out(frame: NonNull<u8>, offset: usize, to: &mut [u8]) {
    // SAFETY: the range is inside the frame, and `to` is the caller's alone.
    unsafe { copy(to.as_mut_ptr(), byte_of(frame, offset), to.len()) };
}

/// Copies into a frame; the caller checked that the range is inside.
pub(super) fn copy_in(frame: NonNull<u8>, offset: usize, from: &[u8]) {
    // SAFETY: the range is inside the frame, whose bytes have no Rust type.
    unsafe { copy(byte_of(frame, offset), from.as_ptr(), from.len()) };
}

/// Fills part of a frame; the caller checked that the range is inside.
pub(super) fn fill(frame: NonNull<u8>, offset: usize, len: usize, byte: u8) {
    let pattern = u64::from(byte) * 0x0101_0101_0101_0101;
    // SAFETY: the range is inside the frame, whose bytes have no Rust type.
    unsafe { set(byte_of(frame, offset), len, pattern) };
}

/// Reads an aligned word in one access.
pub(super) fn load_u32(frame: NonNull<u8>, offset: usize) -> u32 {
    let value: u32;
    // SAFETY: the caller checked that the word is inside the frame; an aligned load is one access.
    unsafe {
        asm!("mov {value:e}, [{at}]", value = out(reg) value, at = in(reg) byte_of(frame, offset),
            options(nostack, preserves_flags, readonly));
    }
    value
}
