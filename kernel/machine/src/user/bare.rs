//! User memory on the bare machine: through the page table that is loaded.

use core::sync::atomic::Ordering;

use super::Fault;
use crate::addr::{PAGE_SIZE, UserAddr};
use crate::frame::Frame;
use crate::x86::{copy, percpu};

/// How much of a range lies below the end of user space. Nothing while this CPU has no user memory: the table
/// that is still loaded may be another's, and what the TLB knows of it freed since (see `PageTable::deactivate`).
fn within(start: UserAddr, len: usize) -> usize {
    if percpu::here().is_lazy.load(Ordering::Relaxed) {
        return 0;
    }
    let room = UserAddr::LIMIT.0.saturating_sub(start.0);
    usize::try_from(room).map_or(len, |room| len.min(room))
}

fn outcome(wanted: usize, copied: usize) -> Result<(), Fault> {
    if copied == wanted {
        Ok(())
    } else {
        Err(Fault { copied })
    }
}

/// Copies user memory into `to`. Addresses at or above [`UserAddr::LIMIT`] fault.
///
/// # Errors
/// [`Fault`] when a page is not mapped.
pub fn read(from: UserAddr, to: &mut [u8]) -> Result<(), Fault> {
    let len = within(from, to.len());
    // SAFETY: `to` is the caller's alone and at least `len` bytes long; `within` bounds the user's side.
    let left = unsafe { copy::from_user(to.as_mut_ptr(), from.0, len) };
    outcome(to.len(), len - left)
}

/// Copies `from` into user memory.
///
/// # Errors
/// [`Fault`] when a page is not mapped or not writable.
pub fn write(to: UserAddr, from: &[u8]) -> Result<(), Fault> {
    let len = within(to, from.len());
    // SAFETY: `from` is at least `len` bytes long; `within` bounds the user's side.
    let left = unsafe { copy::to_user(to.0, from.as_ptr(), len) };
    outcome(from.len(), len - left)
}

/// Copies `len` bytes at `offset` of a frame into user memory. Panics when the range leaves the
/// frame.
///
/// # Errors
/// [`Fault`] when a page is not mapped or not writable.
pub fn write_frame(to: UserAddr, from: &Frame, offset: usize, len: usize) -> Result<(), Fault> {
    let bytes = bytes_of(from, offset, len);
    let inside = within(to, len);
    // SAFETY: the range is inside the frame, which is mapped in the direct map.
    let left = unsafe { copy::to_user(to.0, bytes, inside) };
    outcome(len, inside - left)
}

/// Copies `len` bytes of user memory to `offset` of a frame. Panics when the range leaves the frame, and for
/// boot memory.
///
/// # Errors
/// [`Fault`] when a page is not mapped.
pub fn read_frame(from: UserAddr, to: &Frame, offset: usize, len: usize) -> Result<(), Fault> {
    to.check_writable();
    let bytes = bytes_of(to, offset, len);
    let inside = within(from, len);
    // SAFETY: the range is inside the frame, whose bytes have no Rust type; others' changes at the same
    // time are as good as ours.
    let left = unsafe { copy::from_user(bytes, from.0, inside) };
    outcome(len, inside - left)
}

fn bytes_of(frame: &Frame, offset: usize, len: usize) -> *mut u8 {
    let fits = offset.checked_add(len).is_some_and(|end| end <= PAGE_SIZE);
    assert!(fits, "range {offset}+{len} leaves the frame");
    frame.as_ptr().as_ptr().wrapping_add(offset)
}

/// Fills user memory with zeroes.
///
/// # Errors
/// [`Fault`] when a page is not mapped or not writable.
pub fn zero(to: UserAddr, len: usize) -> Result<(), Fault> {
    let inside = within(to, len);
    // SAFETY: `within` bounds the range.
    let left = unsafe { copy::zero(to.0, inside) };
    outcome(len, inside - left)
}

/// Atomically reads a 4-aligned word (a misaligned address faults).
///
/// # Errors
/// [`Fault`] when the page is not mapped.
pub fn load_u32(from: UserAddr) -> Result<u32, Fault> {
    check_word(from)?;
    // SAFETY: `check_word` bounds the word.
    unsafe { copy::load_u32(from.0) }.ok_or(Fault { copied: 0 })
}

/// Atomically replaces a 4-aligned word if it is `current`. `Ok(Ok(previous))` when replaced,
/// `Ok(Err(actual))` when not.
///
/// # Errors
/// [`Fault`] when the page is not mapped or not writable.
pub fn compare_exchange_u32(
    at: UserAddr,
    current: u32,
    new: u32,
) -> Result<Result<u32, u32>, Fault> {
    check_word(at)?;
    // SAFETY: `check_word` bounds the word.
    let was = unsafe { copy::compare_exchange_u32(at.0, current, new) };
    let was = was.ok_or(Fault { copied: 0 })?;
    Ok(if was == current { Ok(was) } else { Err(was) })
}

fn check_word(at: UserAddr) -> Result<(), Fault> {
    if at.0.is_multiple_of(4) && within(at, 4) == 4 {
        Ok(())
    } else {
        Err(Fault { copied: 0 })
    }
}
