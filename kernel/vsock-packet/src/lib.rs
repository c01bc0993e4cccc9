//! Packets of the socket device (virtio 1.2, section 5.10.6), little-endian: the one format that the guest's
//! driver and the host's device speak.
//!
//! What is in a header is the other side's claim; nothing here believes it.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `VIRTIO_VSOCK_TYPE_STREAM`.
pub const STREAM: u16 = 1;
/// `VIRTIO_VSOCK_SHUTDOWN_RCV`: the sender receives no more.
pub const SHUTDOWN_RECEIVE: u32 = 1;
/// `VIRTIO_VSOCK_SHUTDOWN_SEND`: the sender sends no more.
pub const SHUTDOWN_SEND: u32 = 2;
/// Both directions.
pub const SHUTDOWN_BOTH: u32 = SHUTDOWN_RECEIVE | SHUTDOWN_SEND;

/// What a packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Asks for a connection.
    Request,
    /// Accepts one.
    Response,
    /// Refuses or breaks one.
    Reset,
    /// Ends one or both directions.
    Shutdown,
    /// Carries data.
    Data,
    /// Tells how much may be sent.
    CreditUpdate,
    /// Asks for that.
    CreditRequest,
}

impl Op {
    /// The operation of a number, if there is one.
    #[must_use]
    pub const fn from_raw(number: u16) -> Option<Op> {
        match number {
            1 => Some(Op::Request),
            2 => Some(Op::Response),
            3 => Some(Op::Reset),
            4 => Some(Op::Shutdown),
            5 => Some(Op::Data),
            6 => Some(Op::CreditUpdate),
            7 => Some(Op::CreditRequest),
            _ => None,
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn to_raw(self) -> u16 {
        match self {
            Op::Request => 1,
            Op::Response => 2,
            Op::Reset => 3,
            Op::Shutdown => 4,
            Op::Data => 5,
            Op::CreditUpdate => 6,
            Op::CreditRequest => 7,
        }
    }
}

/// `struct virtio_vsock_hdr`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Header {
    /// The sender's context.
    pub src_cid: U64,
    /// The receiver's context.
    pub dst_cid: U64,
    /// The sender's port.
    pub src_port: U32,
    /// The receiver's port.
    pub dst_port: U32,
    /// How many bytes of data follow.
    pub len: U32,
    /// The type of socket.
    pub kind: U16,
    /// The operation's number.
    pub op: U16,
    /// Flags of the operation.
    pub flags: U32,
    /// How many bytes the sender can hold.
    pub buf_alloc: U32,
    /// How many bytes the sender has passed on since the connection began, wrapping.
    pub fwd_cnt: U32,
}

/// Bytes of a header.
pub const HEADER_LEN: usize = size_of::<Header>();

/// An end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    /// Its context.
    pub cid: u64,
    /// Its port.
    pub port: u32,
}

/// A connection as packets name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The port of the side that names it so.
    pub local_port: u32,
    /// The other side.
    pub peer: End,
}

impl Header {
    /// A packet from port `key.local_port` of `cid` to `key.peer`.
    #[must_use]
    pub fn new(cid: u64, key: Key, op: Op) -> Header {
        Header {
            src_cid: cid.into(),
            dst_cid: key.peer.cid.into(),
            src_port: key.local_port.into(),
            dst_port: key.peer.port.into(),
            kind: STREAM.into(),
            op: op.to_raw().into(),
            ..Header::default()
        }
    }

    /// The connection that a received packet belongs to.
    #[must_use]
    pub fn key(&self) -> Key {
        let peer = End {
            cid: self.src_cid.get(),
            port: self.src_port.get(),
        };
        Key {
            local_port: self.dst_port.get(),
            peer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_44_bytes_and_operations_have_their_numbers() {
        assert_eq!(HEADER_LEN, 44);
        let peer = End { cid: 3, port: 1024 };
        let key = Key {
            local_port: 0x1234_5678,
            peer,
        };
        let bytes = Header::new(2, key, Op::Reset);
        let bytes = bytes.as_bytes();
        assert_eq!(
            bytes[..24],
            *b"\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x78\x56\x34\x12\0\x04\0\0"
        );
        assert_eq!(bytes[28..32], [1, 0, 3, 0]);
        for number in 1..=7 {
            assert_eq!(Op::from_raw(number).unwrap().to_raw(), number);
        }
        assert!(Op::from_raw(0).is_none() && Op::from_raw(8).is_none());
    }
}
