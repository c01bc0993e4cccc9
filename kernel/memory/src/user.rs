//! Reading and writing user memory, with faults resolved on the way.

use abi::{Errno, Result};
use machine::UserAddr;

/// Copies user memory into `to`; progress counts: the number of bytes copied before an address
/// that nothing is mapped at.
///
/// # Errors
/// `EFAULT` when not even the first byte is there.
pub fn read_some(from: UserAddr, to: &mut [u8]) -> Result<usize> {
    match machine::user::read(from, to) {
        Ok(()) => Ok(to.len()),
        Err(fault) if fault.copied > 0 => Ok(fault.copied),
        Err(_) => Err(Errno::EFAULT),
    }
}

/// Copies `from` into user memory; progress counts.
///
/// # Errors
/// `EFAULT` when not even the first byte could be written.
pub fn write_some(to: UserAddr, from: &[u8]) -> Result<usize> {
    match machine::user::write(to, from) {
        Ok(()) => Ok(from.len()),
        Err(fault) if fault.copied > 0 => Ok(fault.copied),
        Err(_) => Err(Errno::EFAULT),
    }
}
