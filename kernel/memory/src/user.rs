//! User memory of the calling thread: fallible copies that resolve faults on the way.
//!
//! Addresses are claims. Copies may sleep (a page is read in), so no spin lock may be held, which builds with checks
//! look for at each copy; long ones give the CPU away on the way if it is wanted.

use abi::{Errno, Result};
use collections::Vec;
use machine::user::Fault;
use machine::{Frame, PAGE_SIZE, UserAddr};
use zerocopy::{FromBytes, IntoBytes};

/// Copies user memory into `to`.
///
/// # Errors
/// `EFAULT`.
pub fn read_bytes(from: UserAddr, to: &mut [u8]) -> Result<()> {
    match copy_in(from, to) {
        copied if copied == to.len() => Ok(()),
        _ => Err(Errno::EFAULT),
    }
}

/// Copies `from` into user memory.
///
/// # Errors
/// `EFAULT`; a part may have been written.
pub fn write_bytes(to: UserAddr, from: &[u8]) -> Result<()> {
    match copy_out(to, from) {
        copied if copied == from.len() => Ok(()),
        _ => Err(Errno::EFAULT),
    }
}

/// Copies user memory into `to`; progress counts: the bytes before the first page that cannot be read.
///
/// # Errors
/// `EFAULT` when that is none.
pub fn read_some(from: UserAddr, to: &mut [u8]) -> Result<usize> {
    some(copy_in(from, to), to.len())
}

/// Copies `from` into user memory; progress counts.
///
/// # Errors
/// `EFAULT` when not even the first byte could be written.
pub fn write_some(to: UserAddr, from: &[u8]) -> Result<usize> {
    some(copy_out(to, from), from.len())
}

fn some(copied: usize, wanted: usize) -> Result<usize> {
    if copied == 0 && wanted > 0 {
        Err(Errno::EFAULT)
    } else {
        Ok(copied)
    }
}

/// Copies as much as there is, up to the first page that cannot be read; returns how much.
pub(crate) fn copy_in(from: UserAddr, to: &mut [u8]) -> usize {
    let len = to.len();
    copy_with_faults(from, len, false, |at, done, part| {
        machine::user::read(at, &mut to[done..done + part])
    })
}

/// Copies as much as fits, up to the first page that cannot be written; returns how much.
pub(crate) fn copy_out(to: UserAddr, from: &[u8]) -> usize {
    copy_with_faults(to, from.len(), true, |at, done, part| {
        machine::user::write(at, &from[done..done + part])
    })
}

/// Copies a part of a frame to user memory; returns how much.
pub(crate) fn copy_frame_out(to: UserAddr, frame: &Frame, offset: usize, len: usize) -> usize {
    copy_with_faults(to, len, true, |at, done, part| {
        machine::user::write_frame(at, frame, offset + done, part)
    })
}

/// Copies user memory into a part of a frame; returns how much.
pub(crate) fn copy_frame_in(from: UserAddr, frame: &Frame, offset: usize, len: usize) -> usize {
    copy_with_faults(from, len, false, |at, done, part| {
        machine::user::read_frame(at, frame, offset + done, part)
    })
}

/// Fills user memory with zeroes; returns how much.
pub(crate) fn zero_out(to: UserAddr, len: usize) -> usize {
    copy_with_faults(to, len, true, |at, _, part| machine::user::zero(at, part))
}

/// Fills user memory with zeroes.
///
/// # Errors
/// `EFAULT`.
pub fn zero(to: UserAddr, len: usize) -> Result<()> {
    if zero_out(to, len) == len {
        Ok(())
    } else {
        Err(Errno::EFAULT)
    }
}

/// Reads a value.
///
/// # Errors
/// `EFAULT`.
pub fn read<T: FromBytes + IntoBytes>(from: UserAddr) -> Result<T> {
    let mut value = T::new_zeroed();
    read_bytes(from, value.as_mut_bytes())?;
    Ok(value)
}

/// Writes a value.
///
/// # Errors
/// `EFAULT`.
pub fn write<T: IntoBytes + zerocopy::Immutable>(to: UserAddr, value: &T) -> Result<()> {
    write_bytes(to, value.as_bytes())
}

/// Reads `len` values.
///
/// # Errors
/// `EFAULT`, `ENOMEM` when there is no memory for as many.
pub fn read_array<T: FromBytes + IntoBytes>(from: UserAddr, len: usize) -> Result<Vec<T>> {
    let mut values = Vec::new();
    values.try_reserve_exact(len)?;
    values.try_resize_with(len, T::new_zeroed)?;
    read_bytes(from, values.as_mut_slice().as_mut_bytes())?;
    Ok(values)
}

/// Reads a NUL-terminated string of less than `max` bytes, without the NUL.
///
/// # Errors
/// `EFAULT`; `ENAMETOOLONG` when there is no NUL in `max` bytes.
pub fn read_c_string(from: UserAddr, max: usize) -> Result<Vec<u8>> {
    const STEP: usize = 64;
    let mut string = Vec::new();
    let mut step = [0; STEP];
    let mut at = from;
    while string.len() < max {
        // Never past a page before it is known that the string goes on there.
        let len = STEP - (at.page_offset() % STEP);
        let copied = copy_in(at, &mut step[..len]);
        let found = step[..copied].iter().position(|&byte| byte == 0);
        let part = &step[..found.unwrap_or(copied)];
        string.try_extend_from_slice(part)?;
        if found.is_some() {
            return if string.len() < max {
                Ok(string)
            } else {
                Err(Errno::ENAMETOOLONG)
            };
        }
        if copied < len {
            return Err(Errno::EFAULT);
        }
        at = at.checked_add(len as u64).ok_or(Errno::EFAULT)?;
    }
    Err(Errno::ENAMETOOLONG)
}

/// Atomically reads an aligned word.
///
/// # Errors
/// `EFAULT`.
pub fn load_u32(from: UserAddr) -> Result<u32> {
    atomically(from, false, || machine::user::load_u32(from))
}

/// Atomically replaces an aligned word if it is `current`: `Ok(Ok(previous))`, else `Ok(Err(actual))`.
///
/// # Errors
/// `EFAULT`.
pub fn compare_exchange_u32(
    at: UserAddr,
    current: u32,
    new: u32,
) -> Result<core::result::Result<u32, u32>> {
    atomically(at, true, || {
        machine::user::compare_exchange_u32(at, current, new)
    })
}

fn atomically<R>(
    at: UserAddr,
    write: bool,
    mut attempt: impl FnMut() -> core::result::Result<R, Fault>,
) -> Result<R> {
    machine::sync::assert_none_held();
    if !at.0.is_multiple_of(4) {
        return Err(Errno::EFAULT);
    }
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(_) => resolve(at, write)?,
        }
    }
}

/// How much is copied between two places where the CPU can be given away.
const PART: usize = 256 * 1024;

/// Calls `copy(address, bytes done, bytes to do)` until all of `len` is copied or a fault cannot be resolved.
fn copy_with_faults(
    at: UserAddr,
    len: usize,
    write: bool,
    mut copy: impl FnMut(UserAddr, usize, usize) -> core::result::Result<(), Fault>,
) -> usize {
    // Whether or not the page is there this time.
    machine::sync::assert_none_held();
    let mut done = 0;
    while done < len {
        let Some(here) = at.checked_add(done as u64) else {
            return done;
        };
        let part = (len - done).min(PART);
        match copy(here, done, part) {
            Ok(()) => done += part,
            Err(fault) => {
                done += fault.copied;
                let faulted = at.checked_add(done as u64);
                if faulted.is_none_or(|faulted| resolve(faulted, write).is_err()) {
                    return done;
                }
            }
        }
        // Callers loop over pages; what is shorter is one step of a bounded call.
        if part >= PAGE_SIZE {
            sched::cond_resched();
        }
    }
    done
}

#[cold]
fn resolve(addr: UserAddr, write: bool) -> Result<()> {
    if addr >= UserAddr::LIMIT {
        return Err(Errno::EFAULT);
    }
    let space = crate::current().ok_or(Errno::EFAULT)?;
    space.resolve(addr, write).map_err(|_| Errno::EFAULT)
}
