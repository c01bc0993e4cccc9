//! Passing small values through an ioctl's `arg`.

use abi::{Errno, Result};
use machine::UserAddr;
use memory::io::{IoReader, IoWriter};

/// Stores `value`, cut at the largest `int`, at user address `arg`; the ioctl returns 0.
///
/// # Errors
/// `EFAULT`.
pub fn put_int(arg: u64, value: usize) -> Result<u64> {
    let value = i32::try_from(value).unwrap_or(i32::MAX);
    put_bytes(arg, &value.to_ne_bytes())
}

/// Stores `bytes` at user address `arg`; the ioctl returns 0.
///
/// # Errors
/// `EFAULT`.
pub fn put_bytes(arg: u64, bytes: &[u8]) -> Result<u64> {
    let count = IoWriter::user(UserAddr(arg), bytes.len()).write(bytes)?;
    if count == bytes.len() {
        Ok(0)
    } else {
        Err(Errno::EFAULT)
    }
}

/// Loads an `int` from user address `arg`.
///
/// # Errors
/// `EFAULT`.
pub fn get_int(arg: u64) -> Result<i32> {
    let mut bytes = [0; 4];
    get_bytes(arg, &mut bytes)?;
    Ok(i32::from_ne_bytes(bytes))
}

/// Loads bytes from user address `arg`.
///
/// # Errors
/// `EFAULT`.
pub fn get_bytes(arg: u64, bytes: &mut [u8]) -> Result<()> {
    let count = IoReader::user(UserAddr(arg), bytes.len()).read(bytes)?;
    if count == bytes.len() {
        Ok(())
    } else {
        Err(Errno::EFAULT)
    }
}
