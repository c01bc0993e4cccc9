//! Buffers in arguments: one piece of user memory, or the pieces of an `iovec` array.

use abi::{Errno, Result};
use collections::Vec;
use machine::UserAddr;
use memory::io::UserSlice;
use memory::user;

/// What one call moves at most (`MAX_RW_COUNT`).
pub(crate) const MAX_RW_COUNT: usize = 0x7fff_f000;
/// Pieces of one call at most (`UIO_MAXIOV`).
const IOV_MAX: usize = 1024;

/// A checked length: not above `SSIZE_MAX` nor out of user space.
pub(crate) fn slice(addr: UserAddr, len: usize) -> Result<UserSlice> {
    if i64::try_from(len).is_err() {
        return Err(Errno::EINVAL);
    }
    check_range(addr, len)?;
    Ok(UserSlice {
        addr,
        len: len.min(MAX_RW_COUNT),
    })
}

/// What Linux's `access_ok` refuses.
fn check_range(addr: UserAddr, len: usize) -> Result<()> {
    match addr.checked_add(len as u64) {
        Some(end) if end <= UserAddr::LIMIT => Ok(()),
        _ => Err(Errno::EFAULT),
    }
}

/// The pieces of an `iovec` array, cut so that they hold no more than [`MAX_RW_COUNT`] together.
pub(crate) fn vector(addr: UserAddr, count: usize) -> Result<Vec<UserSlice>> {
    if count > IOV_MAX {
        return Err(Errno::EINVAL);
    }
    let words: Vec<[u64; 2]> = user::read_array(addr, count)?;
    let mut pieces = Vec::try_with_capacity(count)?;
    let mut left = MAX_RW_COUNT;
    for [base, len] in words {
        let len = i64::try_from(len).map_err(|_| Errno::EINVAL)?;
        let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
        let base = UserAddr(base);
        check_range(base, len)?;
        let len = len.min(left);
        left -= len;
        pieces.try_push(UserSlice { addr: base, len })?;
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_outside_user_space_are_refused() {
        assert_eq!(
            slice(UserAddr(0xffff_8000_0000_0000), 1),
            Err(Errno::EFAULT)
        );
        assert_eq!(slice(UserAddr(0x7fff_ffff_efff), 2), Err(Errno::EFAULT));
        assert_eq!(slice(UserAddr(4096), usize::MAX), Err(Errno::EINVAL));
        let large = slice(UserAddr(4096), MAX_RW_COUNT + 4096).unwrap();
        assert_eq!(large.len, MAX_RW_COUNT);
    }
}
