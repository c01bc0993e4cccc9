//! `struct msghdr`: what sendmsg(2) and recvmsg(2) are told, and where recvmsg(2) answers in it.

use abi::{Errno, Result};
use collections::Vec;
use machine::UserAddr;
use memory::io::UserSlice;
use memory::user;
use net::Address;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{ADDRESS_MAX, TRANSFER_MAX, check_slice, read_address};

/// Most pieces of a message (`UIO_MAXIOV`).
const PIECES_MAX: usize = 1024;

/// `struct msghdr`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct MessageHeader {
    pub(super) name: u64,
    pub(super) name_len: i32,
    padding: u32,
    pieces: u64,
    pieces_len: u64,
    pub(super) control: u64,
    pub(super) control_len: u64,
    flags: u32,
    padding2: u32,
}

/// Where fields of `struct msghdr` are that recvmsg(2) writes.
pub(super) const NAME_LEN_AT: u64 = 8;
pub(super) const CONTROL_LEN_AT: u64 = 40;
pub(super) const FLAGS_AT: u64 = 48;

/// `struct iovec`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Piece {
    base: u64,
    len: u64,
}

impl MessageHeader {
    /// Reads the header, whose name may not have a negative length.
    pub(super) fn read(at: UserAddr) -> Result<MessageHeader> {
        let header: MessageHeader = user::read(at)?;
        if header.name != 0 && header.name_len < 0 {
            return Err(Errno::EINVAL);
        }
        Ok(header)
    }

    pub(super) fn slices(&self) -> Result<Vec<UserSlice>> {
        let count = usize::try_from(self.pieces_len).unwrap_or(usize::MAX);
        if count > PIECES_MAX {
            return Err(Errno::EMSGSIZE);
        }
        let mut left = TRANSFER_MAX;
        let pieces = user::read_array::<Piece>(UserAddr(self.pieces), count)?;
        let mut slices = Vec::try_with_capacity(count)?;
        for piece in &pieces {
            let len = isize::try_from(piece.len).map_err(|_| Errno::EINVAL)?;
            let len = len.unsigned_abs().min(left);
            left -= len;
            slices.try_push(check_slice(UserAddr(piece.base), len)?)?;
        }
        Ok(slices)
    }

    /// The address to send to; a longer one than there can be is cut.
    pub(super) fn address(&self) -> Result<Option<Address>> {
        let len = usize::try_from(self.name_len).unwrap_or(0).min(ADDRESS_MAX);
        if self.name == 0 || len == 0 {
            return Ok(None);
        }
        read_address(UserAddr(self.name), len).map(Some)
    }
}
